//! The verbs of `tenantd-secrets@`: what systemd has decrypted becomes the agent's files, and is taken away again.

use anyhow::Context;
use camino::Utf8PathBuf;
use secrecy::SecretBox;

use super::runtime;
use crate::host::credentials::SecretValue;
use crate::host::files;
use crate::host::secret_mount::{self, Owner};
use crate::layout::Layout;
use crate::tenant::{MAX_SECRET, TenantId};

/// The program that gives agents their secrets as variables; `build.rs` makes it of `entry/`.
const ENTRY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tenantd-entry"));

/// Mounts the tenant's secrets.
pub(super) fn up(layout: &Layout, tenant: &TenantId) -> anyhow::Result<()> {
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
