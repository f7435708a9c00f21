//! `tenantd unit bootstrap`: a fresh host's first boot, as `bootstrap.toml` says.
//!
//! Whatever cuts it short, it is run again, and each step looks at what is there. Nothing is switched on before it is
//! sure that the store has nothing of this node, or the node is back; the secrets stay until they are not needed.

use anyhow::Context as _;
use secrecy::SecretString;

use crate::cli::console::Console;
use crate::cli::error::CliError;
use crate::cli::{init, install, output, restore};
use crate::daemon;
use crate::failpoint;
use crate::host::files::{self, FileError};
use crate::host::systemd::Systemd;
use crate::host::{clock, dirs};
use crate::layout::Layout;
use crate::node::{self, AfterRestore, Bootstrap, GivenRootKey, InitRequest, KeyFiles};
use crate::protect::{self, NodeWanted, ProtectError, RestoreOrder};
use crate::tenant::TenantId;

/// Longest file of those that it reads.
const LIMIT: u64 = 64 * 1024;

/// Has the host become what it is to be.
pub(super) async fn run(layout: &Layout) -> anyhow::Result<()> {
    let path = layout.bootstrap_toml();
    let bytes = files::read(&path, LIMIT)?;
    let bootstrap: Bootstrap = toml::from_str(&String::from_utf8_lossy(&bytes))
        .with_context(|| format!("{path} cannot be understood"))?;
    if !layout.node_toml().exists() {
        set_up(layout, &bootstrap).await?;
        failpoint::hit("bootstrap.set-up");
    }
    let identity = secret(layout, Bootstrap::IDENTITY)?;
    let systemd = Systemd::connect().await?;
    let waiting = match (&identity, bootstrap.restore) {
        (Some(identity), true) => bring_node_back(layout, &bootstrap, &systemd, identity).await?,
        // Cut short after the secrets were taken away: they are needed no more.
        (None, true) if is_back(layout) => Vec::new(),
        (None, true) => anyhow::bail!(
            "there is no identity in {}, and without one nothing can be brought back; put it there, or take \
             `restore = true` out of {path}, and nothing is",
            layout.bootstrap_dir()
        ),
        (_, false) => Vec::new(),
    };
    failpoint::hit("bootstrap.node-back");
    install::enable(true).await?;
    failpoint::hit("bootstrap.enabled");
    let total = waiting.len();
    let failures = restore::bring_back(Console::of_process(), &systemd, waiting).await;
    output::all_well(failures, total)?;
    failpoint::hit("bootstrap.tenants-back");
    tidy_up(layout, &bootstrap, identity.as_ref())?;
    tracing::info!("this host is node {}", bootstrap.name);
    Ok(())
}

/// Settings and keys, as `init` makes them. It certifies the node where the root key was lent.
async fn set_up(layout: &Layout, bootstrap: &Bootstrap) -> anyhow::Result<()> {
    let root_key = match &bootstrap.root_key {
        Some(key) => GivenRootKey::Public(key.clone()),
        None => GivenRootKey::Private(secret(layout, Bootstrap::ROOT_KEY)?.with_context(|| {
            format!(
                "neither bootstrap.toml nor {} has a root key",
                layout.bootstrap_dir()
            )
        })?),
    };
    init::host_is_fit(layout).await?;
    let request = InitRequest {
        name: bootstrap.name.clone(),
        root_key: Some(root_key),
        recipients: bootstrap.recipients.clone(),
        store: bootstrap.store.clone(),
        allow_missing_controllers: bootstrap.allow_missing_controllers,
    };
    let report = node::init(layout, &request, clock::now())?;
    if let Some(statement) = report.unsigned {
        tracing::warn!(
            "the node makes no backups before its key is certified: sign {statement} with the root key, and give the \
             result to `tenantd init --certificate`"
        );
    }
    Ok(())
}

/// Brings the node back, or what an earlier attempt has left; the tenants that wait for their state.
async fn bring_node_back(
    layout: &Layout,
    bootstrap: &Bootstrap,
    systemd: &Systemd,
    identity: &SecretString,
) -> Result<Vec<TenantId>, CliError> {
    let settings = daemon::read_settings(layout)?;
    if layout.database().exists() && !layout.node_restore_file().exists() {
        return ask_again(layout, identity);
    }
    let wanted = NodeWanted {
        identity,
        // Whoever boots unattended does not mean somebody else's node.
        from: Some(&bootstrap.name),
        allow_old: settings.restore.allow_old,
    };
    let console = Console::of_process();
    match restore::node_back(console, layout, &settings, systemd, wanted).await {
        Err(CliError::Protect(error)) if is_new(&error) => {
            tracing::info!(
                "the store has nothing of node {}: it is new",
                bootstrap.name
            );
            Ok(Vec::new())
        }
        other => other,
    }
}

/// Whether the node and all its tenants have what they had.
fn is_back(layout: &Layout) -> bool {
    let is_due = |tenant: &TenantId| protect::is_restore_due(layout, tenant).unwrap_or(true);
    layout.database().exists()
        && !layout.node_restore_file().exists()
        && !protect::tenants(layout).iter().any(is_due)
}

/// Whether it is sure that the store has nothing of this node.
fn is_new(error: &ProtectError) -> bool {
    match error {
        ProtectError::EmptyStore => true,
        ProtectError::NotThisNode { is_sure, .. } => *is_sure,
        _ => false,
    }
}

/// The node's own part is back; orders were on tmpfs, and a reboot took them away.
fn ask_again(layout: &Layout, identity: &SecretString) -> Result<Vec<TenantId>, CliError> {
    let mut waiting = Vec::new();
    for tenant in protect::tenants(layout) {
        if !protect::is_restore_due(layout, &tenant).unwrap_or(true) {
            continue;
        }
        let order = RestoreOrder {
            identity: Some(identity.clone()),
            until_done: true,
            ..RestoreOrder::default()
        };
        protect::write_order(layout, &tenant, &order)?;
        waiting.push(tenant);
    }
    Ok(waiting)
}

/// Takes the secrets away, and what would have it done again last.
fn tidy_up(
    layout: &Layout,
    bootstrap: &Bootstrap,
    identity: Option<&SecretString>,
) -> Result<(), FileError> {
    if let (AfterRestore::Keep, Some(identity)) = (bootstrap.identity, identity) {
        KeyFiles::new(layout).keep_identity(identity)?;
    }
    dirs::remove_tree(&layout.bootstrap_dir())?;
    failpoint::hit("bootstrap.secrets-gone");
    files::remove(&layout.bootstrap_toml())?;
    Ok(())
}

fn secret(layout: &Layout, name: &str) -> Result<Option<SecretString>, FileError> {
    match files::read(&layout.bootstrap_dir().join(name), LIMIT) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned().into())),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}
