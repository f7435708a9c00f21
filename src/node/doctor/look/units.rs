//! A look at what is installed: tenantd's own files, what nobody knows, what was left behind, and who may enter.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;

use camino::{Utf8Path, Utf8PathBuf};

use super::{Look, at_files};
use crate::host::files;
use crate::host::netns;
use crate::layout::{Layout, UnitNames};
use crate::node::{HostFile, host_files};
use crate::tenant::TenantId;

/// The largest file of tenantd's own, in bytes.
const LIMIT: u64 = 1024 * 1024;

/// What a Butane config brings beside the binary's files.
const FIREWALL: &str = "tenantd-firewall.service";

/// The beginning of a tenant's names.
const PREFIX: &str = "tenant-";

/// What was seen of what is installed.
#[derive(Debug, Clone)]
pub struct UnitsLook {
    /// Files that belong to this binary and differ or are missing.
    pub own_files: Look<Vec<String>>,
    /// Tenants whose units are not as recorded.
    pub drifted: Look<Vec<String>>,
    /// Units in tenantd's places that are nobody's.
    pub unknown: Look<Vec<String>>,
    /// Network namespaces of tenants that are no more.
    pub leaked: Look<Vec<TenantId>>,
    /// What should be root's alone and is not.
    pub open_places: Look<Vec<String>>,
}

/// Looks; `tenants` are those that are recorded, `drifted` what the daemon knows.
pub async fn look(
    layout: &Layout,
    tenants: &[TenantId],
    drifted: Look<Vec<String>>,
    credentials: Option<Utf8PathBuf>,
) -> UnitsLook {
    let of = layout.clone();
    let own_files = at_files("/etc", move || differing_files(of.root(), &host_files())).await;
    let (of, recorded) = (layout.clone(), tenants.to_vec());
    let unknown = at_files("/etc", move || unknown(&of, &recorded)).await;
    let (of, recorded) = (layout.clone(), tenants.to_vec());
    let leaked = at_files("/run/netns", move || leaked(&of, &recorded)).await;
    let of = layout.clone();
    let open_places = at_files("/var/lib/tenantd", move || {
        let is_open = |path: &Utf8PathBuf| is_open(path).then(|| path.to_string());
        let places = private_places(&of, credentials.as_deref());
        places.iter().filter_map(is_open).collect()
    });
    UnitsLook {
        own_files,
        drifted,
        unknown: unknown.and_then(|found| found),
        leaked: leaked.and_then(|found| found),
        open_places: open_places.await,
    }
}

/// The files that are not as they are wanted.
pub fn differing_files(root: &Utf8Path, wanted: &[HostFile]) -> Vec<String> {
    let differs = |file: &&HostFile| {
        let path = root.join(file.path.trim_start_matches('/'));
        !files::read(&path, LIMIT).is_ok_and(|found| found == *file.contents)
    };
    let differing = wanted.iter().filter(differs);
    differing.map(|file| file.path.clone()).collect()
}

/// What is for root alone.
pub fn private_places(layout: &Layout, credentials: Option<&Utf8Path>) -> Vec<Utf8PathBuf> {
    let mut places = vec![
        layout.bootstrap_dir(),
        layout.data_dir(),
        layout.database(),
        layout.keys_dir(),
        layout.secrets_dir(),
        layout.tenants_dir(),
    ];
    places.extend(credentials.map(Utf8Path::to_owned));
    places
}

/// Whether others than its owner have any right to it. A link is not followed: it has no rights of its own.
fn is_open(path: &Utf8Path) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|found| !found.is_symlink() && found.permissions().mode() & 0o077 != 0)
}

/// The namespaces of tenants that are neither recorded nor have a directory, which is made before the namespace.
fn leaked(layout: &Layout, recorded: &[TenantId]) -> Look<Vec<TenantId>> {
    let found = names(&layout.netns_dir())?;
    let found = found.iter().filter_map(|name| {
        let tenant: TenantId = name.strip_prefix(PREFIX)?.parse().ok()?;
        netns::is_namespace(&layout.netns(&tenant)).then_some(tenant)
    });
    Ok(found
        .filter(|tenant| !recorded.contains(tenant) && is_nobodys(layout, tenant))
        .collect())
}

/// Whether nothing of a tenant is on the host.
pub fn is_nobodys(layout: &Layout, tenant: &TenantId) -> bool {
    let is_absent = |path: Utf8PathBuf| {
        fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    is_absent(layout.tenant_dir(tenant)) && is_absent(layout.quadlet_dir(tenant))
}

/// What is in tenantd's places and is nobody's.
fn unknown(layout: &Layout, recorded: &[TenantId]) -> Look<Vec<String>> {
    let unit_dir = layout.unit_dir();
    let mut seen: Vec<Utf8PathBuf> = Vec::new();
    for name in names(&unit_dir)? {
        let path = unit_dir.join(&name);
        if name.ends_with(".wants") || name.ends_with(".requires") {
            seen.extend(names(&path)?.into_iter().map(|link| path.join(link)));
        } else {
            seen.push(path);
        }
    }
    let quadlets = names(&layout.quadlet_root())?;
    // Read after the files: a tenant's directory is made before its units.
    let mut known: BTreeSet<TenantId> = recorded.iter().cloned().collect();
    let with_state = names(&layout.tenants_dir())?;
    known.extend(
        with_state
            .iter()
            .filter_map(|name| name.parse::<TenantId>().ok()),
    );
    let known = Known::new(&known);
    let is_unknown = |path: &Utf8PathBuf| path.file_name().is_some_and(|name| !known.has(name));
    let mut found: Vec<_> = seen.into_iter().filter(is_unknown).collect();
    let quadlets = quadlets
        .into_iter()
        .filter(|name| !known.ids.contains(name));
    found.extend(quadlets.map(|name| layout.quadlet_root().join(name)));
    found.sort();
    Ok(found.into_iter().map(Utf8PathBuf::into_string).collect())
}

/// The names that units of tenantd and its tenants can have.
struct Known {
    /// Of the files that belong to the binary.
    own: BTreeSet<String>,
    /// Of tenants, as they are.
    ids: BTreeSet<String>,
    /// Of tenants, as instances are called.
    instances: BTreeSet<String>,
    /// Of tenants' slices.
    slices: BTreeSet<String>,
}

impl Known {
    fn new(tenants: &BTreeSet<TenantId>) -> Self {
        let own = host_files().into_iter().filter_map(|file| {
            let name = Utf8Path::new(&file.path).file_name()?;
            Some(name.to_owned())
        });
        Self {
            own: own.collect(),
            ids: tenants.iter().map(ToString::to_string).collect(),
            instances: tenants.iter().map(TenantId::escaped).collect(),
            slices: tenants.iter().map(|id| UnitNames(id).slice()).collect(),
        }
    }

    /// Whether a name in the directory of units is somebody else's business, or known.
    fn has(&self, name: &str) -> bool {
        // Drop-ins belong to their unit.
        let unit = name.strip_suffix(".d").unwrap_or(name);
        if let Some(rest) = unit.strip_prefix("tenantd-") {
            if let Some((template, instance)) = rest.split_once('@') {
                let (instance, kind) = instance.rsplit_once('.').unwrap_or((instance, ""));
                let is_ours = self.own.contains(&format!("tenantd-{template}@.{kind}"));
                return is_ours && (instance.is_empty() || self.instances.contains(instance));
            }
            return self.own.contains(unit) || unit == FIREWALL;
        }
        // The operator's own targets and the like may be called so too; only slices are rendered.
        !unit.starts_with(PREFIX) || !unit.ends_with(".slice") || self.slices.contains(unit)
    }
}

/// The names in a directory; none where there is none. Leftovers of writes are nobody's units.
fn names(directory: &Utf8Path) -> Look<Vec<String>> {
    let failed = |error: io::Error| format!("cannot read {directory}: {error}");
    let entries = match directory.read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name().to_owned();
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn tenants() -> BTreeSet<TenantId> {
        ["acme", "foo-bar"].map(|id| id.parse().unwrap()).into()
    }

    #[rstest]
    #[case::own("tenantd-backup.timer", true)]
    #[case::own_template("tenantd-ingress@.socket", true)]
    #[case::drop_in_of_own("tenantd-backup.timer.d", true)]
    #[case::drop_in_of_a_template("tenantd-backup@.service.d", true)]
    #[case::instance("tenantd-ingress@foo\\x2dbar.socket", true)]
    #[case::drop_in_of_an_instance("tenantd-secrets@acme.service.d", true)]
    #[case::slice("tenant-foo\\x2dbar.slice", true)]
    #[case::somebody_elses("sshd.service", true)]
    #[case::an_operators_service("tenant-report.service", true)]
    #[case::of_a_butane_config("tenantd-firewall.service", true)]
    #[case::no_unit_of_ours("tenantd-miner.service", false)]
    #[case::no_template_of_ours("tenantd-miner@acme.service", false)]
    #[case::no_tenant("tenantd-ingress@gone.socket", false)]
    #[case::not_escaped("tenantd-ingress@foo-bar.socket", false)]
    #[case::slice_of_nobody("tenant-gone.slice", false)]
    #[case::drop_in_of_nobodys_slice("tenant-gone.slice.d", false)]
    fn a_name_is_known_or_not(#[case] name: &str, #[case] known: bool) {
        assert_eq!(Known::new(&tenants()).has(name), known);
    }

    #[test]
    fn what_belongs_to_no_tenant_is_found_and_what_belongs_to_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::rooted(Utf8Path::from_path(dir.path()).unwrap());
        assert_eq!(unknown(&layout, &[]), Ok(Vec::new()));
        let make = |path: Utf8PathBuf| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        let (quadlets, units) = (layout.quadlet_root(), layout.unit_dir());
        make(quadlets.join("acme/tenant-acme.container"));
        make(quadlets.join("gone/tenant-gone.container"));
        make(units.join("sockets.target.wants/tenantd-ingress@acme.socket"));
        make(units.join("sockets.target.wants/tenantd-ingress@gone.socket"));
        make(units.join("tenant-gone.slice"));
        // Only its directory is there: it is being made, or terminated.
        make(layout.runtime_file(&"young".parse().unwrap()));
        make(quadlets.join("young/tenant-young.container"));
        let expected = [
            quadlets.join("gone"),
            units.join("sockets.target.wants/tenantd-ingress@gone.socket"),
            units.join("tenant-gone.slice"),
        ];
        let found = unknown(&layout, &["acme".parse().unwrap()]);
        assert_eq!(found, Ok(expected.map(Utf8PathBuf::into_string).into()));
    }

    #[test]
    fn a_file_of_the_binary_that_was_changed_or_removed_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        let files = host_files();
        assert_eq!(differing_files(root, &files).len(), files.len());
        for file in &files {
            let path = root.join(file.path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &file.contents).unwrap();
        }
        assert!(differing_files(root, &files).is_empty());
        let one = &files[0].path;
        fs::write(root.join(one.trim_start_matches('/')), "edited").unwrap();
        assert_eq!(differing_files(root, &files), std::slice::from_ref(one));
    }

    #[test]
    fn what_others_may_enter_is_found_and_closed_again() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::rooted(Utf8Path::from_path(dir.path()).unwrap());
        let keys = layout.keys_dir();
        fs::create_dir_all(&keys).unwrap();
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(is_open(&keys));
        files::make_private(&keys).unwrap();
        assert!(!is_open(&keys));
        assert!(
            !is_open(&layout.secrets_dir()),
            "what is absent is not open"
        );
        let link = layout.data_dir().join("link");
        std::os::unix::fs::symlink(&keys, &link).unwrap();
        assert!(files::make_private(&link).is_err(), "a link was followed");
    }
}
