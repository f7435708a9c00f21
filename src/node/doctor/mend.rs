//! Does what `doctor --fix` may do, on this host and as root. What is asked for comes from the daemon's answer or this
//! process's own look, and is confined here again: only tenantd's own units, places and namespaces are touched.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::process::Command;

use super::fix::Fix;
use super::look::units;
use crate::host::dirs;
use crate::host::files::{self, FileError};
use crate::host::netns::{self, NetnsError};
use crate::host::process::{self, ProcessError};
use crate::layout::{Layout, UnitNames};
use crate::node::{enabled_units, host_files, subordinate_ids};
use crate::tenant::TenantId;

/// How long systemd may take.
const LIMIT: Duration = Duration::from_mins(2);
/// What it may say, in bytes.
const SAID: usize = 16 * 1024;
/// The largest `/etc/subuid`, in bytes.
const LARGEST: u64 = 1024 * 1024;

/// Why something was not mended.
#[derive(Debug, thiserror::Error)]
pub enum MendError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A namespace could not be removed.
    #[error(transparent)]
    Namespace(#[from] NetnsError),
    /// systemd's tool did not run to its end.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// systemd refused.
    #[error("`systemctl {arguments}` failed: {said}")]
    Systemctl {
        /// With what it was called.
        arguments: String,
        /// What it said.
        said: String,
    },
    /// It is not tenantd's, so it is left alone.
    #[error("{0} is not tenantd's to change; this may be another version's daemon, so restart it")]
    Foreign(String),
    /// The namespace is somebody's after all.
    #[error("the network namespace tenant-{0} is in use; run `tenantd doctor` again")]
    InUse(TenantId),
    /// The daemon does that.
    #[error("the daemon puts units right; run `tenantd reload`")]
    Daemons,
}

/// Does one thing. It can be repeated: what is right already stays as it is. `credentials` is the file with the store's
/// keys, if there is one.
pub async fn mend(
    layout: &Layout,
    credentials: Option<&Utf8Path>,
    fix: &Fix,
) -> Result<(), MendError> {
    match fix {
        Fix::MakePrivate { path } => make_private(layout, credentials, path),
        Fix::PlaceFiles => {
            place_files(layout.root())?;
            systemctl(&["daemon-reload"]).await
        }
        Fix::EnableUnit { unit } if enabled_units().contains(unit) => {
            systemctl(&["enable", "--now", "--quiet", unit]).await
        }
        Fix::EnableUnit { unit } => Err(MendError::Foreign(unit.clone())),
        Fix::ReserveIds => reserve_ids(layout.root()),
        Fix::RemoveNamespace { tenant } => remove_namespace(layout, tenant).await,
        Fix::Reload => Err(MendError::Daemons),
    }
}

fn make_private(
    layout: &Layout,
    credentials: Option<&Utf8Path>,
    path: &str,
) -> Result<(), MendError> {
    let path = Utf8PathBuf::from(path);
    if !units::private_places(layout, credentials).contains(&path) {
        return Err(MendError::Foreign(path.into_string()));
    }
    Ok(files::make_private(&path)?)
}

fn place_files(root: &Utf8Path) -> Result<(), MendError> {
    let wanted = host_files();
    let differing = units::differing_files(root, &wanted);
    for file in wanted.iter().filter(|file| differing.contains(&file.path)) {
        let path = root.join(file.path.trim_start_matches('/'));
        if let Some(parent) = path.parent() {
            dirs::make(parent, 0o755)?;
        }
        files::write(&path, &file.contents, 0o644)?;
    }
    Ok(())
}

fn reserve_ids(root: &Utf8Path) -> Result<(), MendError> {
    for path in ["etc/subuid", "etc/subgid"].map(|path| root.join(path)) {
        let text = match files::read(&path, LARGEST) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.is_absent() => String::new(),
            Err(error) => return Err(error.into()),
        };
        if let Some(text) = subordinate_ids::reserved(&text) {
            files::write(&path, text.as_bytes(), 0o644)?;
        }
    }
    Ok(())
}

async fn remove_namespace(layout: &Layout, tenant: &TenantId) -> Result<(), MendError> {
    // Between look and act a tenant of that name may have been made.
    let is_nobodys = units::is_nobodys(layout, tenant);
    let unit = UnitNames(tenant).instance("net", "service");
    if !is_nobodys || is_active(&unit).await? {
        return Err(MendError::InUse(tenant.clone()));
    }
    Ok(netns::down(&layout.netns(tenant))?)
}

async fn is_active(unit: &str) -> Result<bool, MendError> {
    let mut command = Command::new("systemctl");
    command.args(["is-active", "--quiet", unit]);
    Ok(process::run(command, LIMIT, SAID).await?.status.success())
}

async fn systemctl(arguments: &[&str]) -> Result<(), MendError> {
    let mut command = Command::new("systemctl");
    command.args(arguments);
    let output = process::run(command, LIMIT, SAID).await?;
    if output.status.success() {
        return Ok(());
    }
    Err(MendError::Systemctl {
        arguments: arguments.join(" "),
        said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn host() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::rooted(Utf8Path::from_path(dir.path()).unwrap());
        fs::create_dir(layout.root().join("etc")).unwrap();
        (dir, layout)
    }

    #[tokio::test]
    async fn what_is_not_tenantds_is_left_alone() {
        let (_dir, layout) = host();
        let hosts = layout.root().join("etc/hosts");
        fs::write(&hosts, "").unwrap();
        let path = hosts.to_string();
        for fix in [
            Fix::MakePrivate { path },
            Fix::EnableUnit {
                unit: "sshd.service".to_owned(),
            },
        ] {
            let refused = mend(&layout, None, &fix).await.unwrap_err();
            assert!(matches!(refused, MendError::Foreign(_)), "{refused}");
        }
        // A tenant was made since the look.
        let tenant: TenantId = "acme".parse().unwrap();
        fs::create_dir_all(layout.tenant_dir(&tenant)).unwrap();
        let fix = Fix::RemoveNamespace { tenant };
        let refused = mend(&layout, None, &fix).await.unwrap_err();
        assert!(matches!(refused, MendError::InUse(_)), "{refused}");
    }

    #[tokio::test]
    async fn ids_are_reserved_once_and_other_lines_stay() {
        let (_dir, layout) = host();
        let path = layout.root().join("etc/subuid");
        fs::write(&path, "core:100000:65536\n").unwrap();
        for _ in 0..2 {
            mend(&layout, None, &Fix::ReserveIds).await.unwrap();
        }
        let expected = format!("core:100000:65536\n{}", subordinate_ids::LINE);
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        let gids = fs::read_to_string(layout.root().join("etc/subgid")).unwrap();
        assert_eq!(gids, subordinate_ids::LINE);
    }

    #[test]
    fn the_binarys_own_files_are_written_anew_and_others_stay() {
        let (_dir, layout) = host();
        place_files(layout.root()).unwrap();
        let unit = layout.unit_dir().join("tenantd.service");
        let own = layout.unit_dir().join("tenantd.service.d/mine.conf");
        fs::create_dir_all(own.parent().unwrap()).unwrap();
        fs::write(&own, "mine").unwrap();
        fs::write(&unit, "edited").unwrap();
        place_files(layout.root()).unwrap();
        assert!(units::differing_files(layout.root(), &host_files()).is_empty());
        assert_eq!(fs::read_to_string(own).unwrap(), "mine");
    }
}
