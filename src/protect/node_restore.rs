//! Rebuilds a node on an empty machine from its own repository: settings, specs, state
//! database and catalogue. The tenants' state follows when their restore units start.

use std::fs;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};

use super::ProtectError;
use super::catalogued::note_catalogued;
use super::exchange::aside;
use super::front;
use super::node::{DATABASE, FRONT, FRONT_WILDCARD, SECRETS};
use super::node_search::{Found, find};
use super::opened::{RestoreReport, local_spec};
use super::order::{RestoreOrder, write_order};
use super::tenant::NODE;
use crate::backup::{self, Identity, Progress, SignedHeartbeat};
use crate::failpoint;
use crate::host::files::{self, FileError};
use crate::host::{clock, dirs};
use crate::layout::Layout;
use crate::node::capacity::{Amounts, exceeded};
use crate::node::{NodeSettings, OnOvercommit, what_the_host_has};
use crate::secrets;
use crate::state::{limits_in, put_off_erasures};
use crate::tenant::TenantId;

/// Longest note of a rebuild that is under way.
const NOTE_LIMIT: u64 = 256;

/// Which node is rebuilt, and with what.
#[derive(Debug, Clone, Copy)]
pub struct NodeWanted<'a> {
    /// The identity to read it with.
    pub identity: &'a SecretString,
    /// The name of the node; without it the one of this machine's name, or the only one there is.
    pub from: Option<&'a str>,
    /// Take the newest snapshot that there is, though it is older than it should be.
    pub allow_old: bool,
}

/// A node that was rebuilt.
#[derive(Debug)]
pub struct Rebuilt {
    /// What was restored of the node itself.
    pub report: RestoreReport,
    /// Its tenants, whose states follow.
    pub tenants: Vec<TenantId>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// How long a tenant whose retention is over stays on a rebuilt node: the node's snapshot may be older than its return.
const ERASED_AFTER: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Rebuilds this node. The machine must have been set up (`tenantd init` with the operator's
/// root key, recipients and store) and have no tenants but those of a rebuild that was cut short,
/// which this one ends; the daemon must not run.
///
/// The identity is handed to the tenants' restore units on tmpfs and is not kept: only when
/// they have run, those of held tenants too, may the machine be rebooted.
pub async fn restore_node(
    layout: &Layout,
    settings: &NodeSettings,
    wanted: NodeWanted<'_>,
    progress: Arc<dyn Progress>,
) -> Result<Rebuilt, ProtectError> {
    let begun = begun(layout)?;
    if begun.is_none() && !super::tenants(layout).is_empty() {
        return Err(ProtectError::NotEmpty);
    }
    let found = find(layout, settings, wanted, begun.as_deref()).await?;
    let prefix = found.prefix.to_string();
    let is_begun = begun.is_some();
    if let Some(begun) = begun.filter(|begun| *begun != prefix) {
        let found = prefix;
        return Err(ProtectError::OtherRebuild { begun, found });
    }
    let restored = layout.data_dir().join("restoring-node");
    dirs::remove_tree(&restored)?;
    let report = found
        .opened
        .restore("the node", &restored, None, progress)
        .await?;
    let mut warnings = Vec::new();
    let database = restored.join(DATABASE);
    if database.exists() {
        // One that was cut short has been judged already.
        warnings.extend(judge_size(layout, settings, &database, is_begun)?);
        let now = clock::now();
        let until = now.checked_add(ERASED_AFTER).unwrap_or(Timestamp::MAX);
        for tenant in put_off_erasures(&database, until, now)? {
            warnings.push(format!(
                "tenant {tenant} is terminated and will be erased after {}; `tenantd reclaim {tenant}` keeps it",
                until.strftime("%Y-%m-%d")
            ));
        }
    }
    // First, and removed last: what is found between the two is a part of a node.
    files::write(&layout.node_restore_file(), prefix.as_bytes(), 0o600)?;
    failpoint::hit("node.restoring");
    let reader = Identity::from_text(wanted.identity).map_err(ProtectError::Recipient)?;
    secrets::restore(layout, &restored.join(SECRETS), &reader).await?;
    let tenants = tenants_in(&restored)?;
    for tenant in &tenants {
        let identity = Some(wanted.identity.expose_secret().to_owned().into());
        write_order(
            layout,
            tenant,
            &RestoreOrder {
                snapshot: None,
                identity,
                allow_old: wanted.allow_old,
                until_done: true,
            },
        )?;
    }
    put_in_place(layout, &restored, &tenants, found.beat.as_ref())?;
    failpoint::hit("node.placed");
    adopt(layout, settings, &found).await?;
    failpoint::hit("node.adopted");
    dirs::remove_tree(&restored)?;
    files::remove(&layout.node_restore_file())?;
    Ok(Rebuilt {
        report,
        tenants,
        warnings,
    })
}

/// What the plans of the restored tenants promise beyond this host, to be warned of.
///
/// # Errors
/// Something is, and `node.toml` refuses that.
fn judge_size(
    layout: &Layout,
    settings: &NodeSettings,
    database: &Utf8Path,
    is_begun: bool,
) -> Result<Vec<String>, ProtectError> {
    let limits = limits_in(database)?;
    let promised = limits.values().map(Amounts::promised);
    let promised = promised.fold(Amounts::default(), Amounts::plus);
    let has = what_the_host_has(layout);
    let found = exceeded(&settings.capacity, has, Amounts::default(), promised);
    let figures: Vec<_> = found.iter().map(ToString::to_string).collect();
    let is_refused = settings.capacity.on_overcommit == OnOvercommit::Refuse;
    if is_refused && !is_begun && !figures.is_empty() {
        return Err(ProtectError::Overcommitted(figures.join("; ")));
    }
    Ok(figures)
}

/// The prefix of the repository from which a rebuild was begun that has not ended.
fn begun(layout: &Layout) -> Result<Option<String>, ProtectError> {
    match files::read(&layout.node_restore_file(), NOTE_LIMIT) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Goes on with the node's repository, in the place of one that this machine may have begun.
async fn adopt(
    layout: &Layout,
    settings: &NodeSettings,
    found: &Found,
) -> Result<(), ProtectError> {
    let (remote, _) = found.opened.source();
    if local_spec(layout, NODE)?.is_some_and(|spec| spec.id != remote.id()) {
        let directory = layout.repository_dir(NODE);
        backup::remove_repository(&directory).map_err(|source| ProtectError::Repository {
            name: NODE.to_owned(),
            source,
        })?;
    }
    found.opened.adopt(layout, settings, NODE).await
}

/// The tenants that a restored node had.
fn tenants_in(restored: &Utf8Path) -> Result<Vec<TenantId>, ProtectError> {
    let names = names(&restored.join("tenants"))?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

/// Copies the restored files to their places. The database comes last: it says that the
/// rest is there. `node.toml` stays that of this machine.
fn put_in_place(
    layout: &Layout,
    restored: &Utf8Path,
    tenants: &[TenantId],
    beat: Option<&SignedHeartbeat>,
) -> Result<(), ProtectError> {
    for (name, directory) in [
        ("tenants.d", layout.specs_dir()),
        ("templates.d", layout.templates_dir()),
        ("plans.d", layout.plans_dir()),
        ("prices.d", layout.prices_dir()),
    ] {
        copy_all(&restored.join(name), &directory, 0o644)?;
    }
    copy_all(&restored.join("erasures"), &layout.erasures_dir(), 0o600)?;
    front::put_in_place(layout, &restored.join(FRONT))?;
    front::put_wildcard_in_place(layout, &restored.join(FRONT_WILDCARD))?;
    for name in names(&restored.join("repositories"))? {
        catalogue(
            layout,
            &restored.join("repositories").join(&name),
            &name,
            beat,
        )?;
    }
    for tenant in tenants {
        dirs::make(&layout.tenants_dir(), 0o700)?;
        copy_all(
            &restored.join("tenants").join(tenant.as_str()),
            &layout.tenant_dir(tenant),
            0o600,
        )?;
    }
    let database = layout.database();
    if database.exists() {
        // A daemon has run here before, without tenants: what it knows is set aside.
        for suffix in ["-wal", "-shm"] {
            files::remove(&Utf8PathBuf::from(format!("{database}{suffix}")))?;
        }
        let failed = |source| FileError::Io {
            verb: "rename",
            path: database.clone(),
            source,
        };
        fs::rename(&database, aside(&database)).map_err(failed)?;
    }
    copy(&restored.join(DATABASE), &database, 0o600)
}

/// Makes a tenant's repository known, with what the last heartbeat says of it.
fn catalogue(
    layout: &Layout,
    from: &Utf8Path,
    name: &str,
    beat: Option<&SignedHeartbeat>,
) -> Result<(), ProtectError> {
    let directory = layout.repository_dir(name);
    dirs::make(&directory, 0o700)?;
    // Before the repository is known: nobody may take it for one of which this host knows all.
    note_catalogued(&directory, None)?;
    files::write(&directory.join("published"), b"", 0o600)?;
    copy_all(from, &directory, 0o600)?;
    let id = local_spec(layout, name)?.map(|spec| spec.id);
    let head = id
        .zip(beat)
        .and_then(|(id, beat)| beat.heartbeat.head_of(id));
    note_catalogued(&directory, head.map(|head| head.name()))
}

fn names(directory: &Utf8Path) -> Result<Vec<String>, ProtectError> {
    let entries = match directory.read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            let path = directory.to_owned();
            return Err(FileError::Io {
                verb: "read",
                path,
                source,
            }
            .into());
        }
    };
    Ok(entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_owned()))
        .collect())
}

fn copy_all(from: &Utf8Path, to: &Utf8Path, mode: u32) -> Result<(), ProtectError> {
    for name in names(from)? {
        dirs::make(to, 0o700)?;
        copy(&from.join(&name), &to.join(&name), mode)?;
    }
    Ok(())
}

fn copy(from: &Utf8Path, to: &Utf8Path, mode: u32) -> Result<(), ProtectError> {
    // The database is the largest of them; a gigabyte of it would be decades of records.
    let bytes = files::read(from, 1 << 30)?;
    Ok(files::write(to, &bytes, mode)?)
}
