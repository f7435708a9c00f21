//! The verbs of `tenantd-secrets@`: what systemd has decrypted becomes the agent's files, and is taken away again.

use anyhow::Context;
use camino::Utf8PathBuf;
use secrecy::SecretBox;

use super::runtime;
use crate::host::credentials::SecretValue;
use crate::host::secret_mount::{self, Owner};
use crate::host::{cgroup, files};
use crate::layout::Layout;
use crate::tenant::{MAX_SECRET, TenantId};

/// The program that gives agents their secrets as variables; `build.rs` makes it of `entry/`.
const ENTRY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tenantd-entry"));

/// Mounts the tenant's secrets. Where they are mounted and the agent runs or starts with them, nothing is done:
/// whatever asks for a start of the container has systemd start this, too.
pub(super) fn up(layout: &Layout, tenant: &TenantId) -> anyhow::Result<()> {
    if is_in_use(layout, tenant) {
        tracing::info!("the agent has its secrets already");
        return Ok(());
    }
    let delivery = runtime(layout, tenant)?.secrets.context(
        "runtime.json names no secrets, but the unit has some; `tenantd reload` puts that right",
    )?;
    let credentials = std::env::var("CREDENTIALS_DIRECTORY")
        .map(Utf8PathBuf::from)
        .context("no $CREDENTIALS_DIRECTORY: secrets are delivered by tenantd-secrets@.service")?;
    let mut values = Vec::new();
    for secret in &delivery.files {
        let path = credentials.join(secret.name.as_str());
        let value = files::read(&path, MAX_SECRET as u64)?;
        let value: SecretValue = SecretBox::new(Box::new(value));
        values.push((secret.file.as_str(), value));
    }
    install_entry(layout)?;
    let owner = Owner {
        uid: delivery.uid,
        gid: delivery.gid,
    };
    let files = values.iter().map(|(file, value)| (*file, value));
    secret_mount::deliver(&layout.secret_mount(tenant), owner, files)?;
    Ok(())
}

/// Whether the agent's service has processes, and they have secrets. They have the right ones: another version comes
/// by way of a stop, which takes the mount away.
fn is_in_use(layout: &Layout, tenant: &TenantId) -> bool {
    let is_filled = |path: Utf8PathBuf| {
        let entries = path.read_dir_utf8();
        entries.is_ok_and(|mut entries| entries.next().is_some())
    };
    cgroup::is_busy(layout, tenant) && is_filled(layout.secret_mount(tenant))
}

/// Takes the tenant's secrets away.
pub(super) fn down(layout: &Layout, tenant: &TenantId) -> anyhow::Result<()> {
    Ok(secret_mount::take_down(&layout.secret_mount(tenant))?)
}

/// Writes the entry program, if there is none or another version's. Containers that run keep theirs.
fn install_entry(layout: &Layout) -> anyhow::Result<()> {
    let path = layout.entry_program();
    let limit = ENTRY.len() as u64;
    if !files::read(&path, limit).is_ok_and(|present| present == ENTRY) {
        files::write(&path, ENTRY, 0o755)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_start_that_is_asked_for_again_takes_no_secrets_from_an_agent() {
        let guard = tempfile::tempdir().unwrap();
        let layout = Layout::rooted(guard.path().to_str().unwrap());
        let tenant: TenantId = "foo-bar".parse().unwrap();
        let group = cgroup::service(&layout, &tenant);
        let secret = layout.secret_mount(&tenant).join("TOKEN");
        fs::create_dir_all(&group).unwrap();
        fs::create_dir_all(layout.secret_mount(&tenant)).unwrap();
        fs::write(&secret, "value").unwrap();

        fs::write(group.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        up(&layout, &tenant).unwrap();
        assert_eq!(fs::read_to_string(&secret).unwrap(), "value");

        // What is left of an agent that has gone is no delivery, and neither is an empty mount.
        fs::write(group.join("cgroup.events"), "populated 0\nfrozen 0\n").unwrap();
        assert!(!is_in_use(&layout, &tenant));
        fs::write(group.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        fs::remove_file(&secret).unwrap();
        assert!(!is_in_use(&layout, &tenant));
    }
}
