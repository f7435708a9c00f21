//! A look at the host beneath: kernel, ids, firewall, clock, labels, what has failed.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use super::os::{self, Os};
use super::{Look, at_files, said};
use crate::host::files;
use crate::host::systemd::{ActiveState, Systemd};
use crate::layout::Layout;
use crate::tenant::TenantId;

/// The largest file that is read, in bytes.
const LIMIT: u64 = 1024 * 1024;

/// Longest label of a file, in bytes.
const LABEL: usize = 4096;

/// What was seen of the host.
#[derive(Debug, Clone)]
pub struct HostLook {
    /// The kernel's release.
    pub kernel: Look<String>,
    /// Tenants' slices that lack controllers which the host has, and which.
    pub undelegated: Look<BTreeMap<String, Vec<String>>>,
    /// What `/etc/subuid` and `/etc/subgid` say; nothing where they are absent.
    pub subordinate_ids: [(Utf8PathBuf, Look<String>); 2],
    /// What firewalld lets in.
    pub firewall: Look<Firewall>,
    /// Whether a time server keeps the clock.
    pub clock_is_set: Look<bool>,
    /// What the operating system is made of.
    pub os: Look<Os>,
    /// Units that have failed.
    pub failed_units: Look<Vec<String>>,
    /// The SELinux labels of tenants' states, secrets, sockets and namespaces.
    pub labels: Look<BTreeMap<String, String>>,
}

/// What firewalld does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firewall {
    /// It does not run.
    Absent,
    /// It lets these services in.
    Lets(BTreeSet<String>),
}

/// Looks.
pub async fn look(
    layout: &Layout,
    systemd: Option<&Systemd>,
    tenants: &[TenantId],
    controllers: &BTreeSet<String>,
) -> HostLook {
    let root = layout.root();
    let release = root.join("proc/sys/kernel/osrelease");
    let kernel = at_files("/proc", move || text(&release)).await;
    let slices = root.join("sys/fs/cgroup/tenant.slice");
    let has = controllers.clone();
    let undelegated = at_files("the cgroup file system", move || undelegated(&slices, &has)).await;
    let paths = ["etc/subuid", "etc/subgid"].map(|path| root.join(path));
    let asked = paths.clone();
    let texts = at_files("/etc", move || asked.map(|path| text_or_nothing(&path))).await;
    let texts = texts.unwrap_or_else(|why| [Err(why.clone()), Err(why)]);
    let [users, groups] = paths;
    let [of_users, of_groups] = texts;
    let labelled = labelled(layout, tenants);
    HostLook {
        kernel: kernel.and_then(|text| text.map(|text| text.trim().to_owned())),
        undelegated: undelegated.and_then(|found| found),
        subordinate_ids: [(users, of_users), (groups, of_groups)],
        firewall: firewall(systemd).await,
        clock_is_set: clock_is_set().await,
        os: os::look(root).await,
        failed_units: failed_units(systemd).await,
        labels: at_files("files' labels", move || labels(labelled)).await,
    }
}

fn text(path: &Utf8Path) -> Look<String> {
    let bytes = files::read(path, LIMIT).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn text_or_nothing(path: &Utf8Path) -> Look<String> {
    match files::read(path, LIMIT) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.is_absent() => Ok(String::new()),
        Err(error) => Err(error.to_string()),
    }
}

/// The tenants' slices without what the host has; a host without tenants has none.
fn undelegated(slices: &Utf8Path, has: &BTreeSet<String>) -> Look<BTreeMap<String, Vec<String>>> {
    // A plan limits these in any case.
    let wanted: Vec<_> = ["cpu", "memory", "pids"]
        .into_iter()
        .filter(|controller| has.contains(*controller))
        .collect();
    let mut found = BTreeMap::new();
    let entries = match slices.read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(format!("cannot read {slices}: {error}")),
    };
    for entry in entries {
        let entry = entry.map_err(|error| format!("cannot read {slices}: {error}"))?;
        let name = entry.file_name();
        if !(name.starts_with("tenant-") && name.ends_with(".slice")) {
            continue;
        }
        // A slice that ends meanwhile lacks nothing.
        let Ok(there) = files::read(&entry.path().join("cgroup.controllers"), LIMIT) else {
            continue;
        };
        let there = String::from_utf8_lossy(&there).into_owned();
        let lacks = |wanted: &&&str| !there.split_whitespace().any(|word| word == **wanted);
        let lacking: Vec<_> = wanted
            .iter()
            .filter(lacks)
            .map(ToString::to_string)
            .collect();
        if !lacking.is_empty() {
            found.insert(name.to_owned(), lacking);
        }
    }
    Ok(found)
}

async fn firewall(systemd: Option<&Systemd>) -> Look<Firewall> {
    let systemd = systemd.ok_or("systemd does not answer")?;
    let units = systemd
        .units(&["firewalld.service"])
        .await
        .map_err(|error| error.to_string())?;
    if !units.iter().any(|unit| unit.active == ActiveState::Active) {
        return Ok(Firewall::Absent);
    }
    let services = said("firewall-cmd", &["--list-services"]).await?;
    let services = services.split_whitespace().map(str::to_owned);
    Ok(Firewall::Lets(services.collect()))
}

async fn clock_is_set() -> Look<bool> {
    let arguments = ["show", "--property=NTPSynchronized", "--value"];
    match said("timedatectl", &arguments).await?.trim() {
        "yes" => Ok(true),
        "no" => Ok(false),
        other => Err(format!("timedatectl says {other:?}")),
    }
}

async fn failed_units(systemd: Option<&Systemd>) -> Look<Vec<String>> {
    let systemd = systemd.ok_or("systemd does not answer")?;
    let units = systemd
        .list_units(&["*"])
        .await
        .map_err(|error| error.to_string())?;
    let failed = units
        .into_iter()
        .filter(|unit| unit.active == ActiveState::Failed);
    let mut failed: Vec<_> = failed.map(|unit| unit.name).collect();
    failed.sort();
    Ok(failed)
}

/// What of the tenants has a label that somebody depends on.
fn labelled(layout: &Layout, tenants: &[TenantId]) -> Vec<Utf8PathBuf> {
    let of = |id: &TenantId| {
        [
            layout.state_dir(id),
            layout.secret_mount(id),
            layout.ingress_socket(id),
            layout.netns(id),
        ]
    };
    tenants.iter().flat_map(of).collect()
}

/// The labels of what is there.
fn labels(paths: Vec<Utf8PathBuf>) -> BTreeMap<String, String> {
    let label = |path: &Utf8Path| {
        let mut value = vec![0; LABEL];
        let found = rustix::fs::lgetxattr(path.as_std_path(), "security.selinux", &mut value);
        let length = found.unwrap_or_default();
        let text = String::from_utf8_lossy(value.get(..length).unwrap_or_default());
        text.trim_end_matches('\0').to_owned()
    };
    let there = paths
        .into_iter()
        .filter(|path| std::fs::symlink_metadata(path).is_ok());
    there.map(|path| (path.to_string(), label(&path))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_that_lacks_a_controller_of_the_host_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let slices = Utf8Path::from_path(dir.path())
            .unwrap()
            .join("tenant.slice");
        let has = ["cpu", "memory", "rdma"].map(str::to_owned).into();
        assert_eq!(undelegated(&slices, &has), Ok(BTreeMap::new()));
        for (name, controllers) in [
            ("tenant-good.slice", "cpu memory pids\n"),
            ("tenant-bad.slice", "pids\n"),
            ("other.slice", ""),
        ] {
            std::fs::create_dir_all(slices.join(name)).unwrap();
            std::fs::write(slices.join(name).join("cgroup.controllers"), controllers).unwrap();
        }
        let lacking = vec!["cpu".to_owned(), "memory".to_owned()];
        assert_eq!(
            undelegated(&slices, &has),
            Ok([("tenant-bad.slice".to_owned(), lacking)].into())
        );
    }

    #[test]
    fn a_file_without_a_label_is_seen_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap().to_owned();
        let found = labels(vec![path.clone(), path.join("absent")]);
        assert_eq!(found.into_keys().collect::<Vec<_>>(), [path.to_string()]);
    }
}
