//! Backs up one tenant: its repository, a point in time under a short freeze, a snapshot.

use std::sync::Arc;

use camino::Utf8Path;
use jiff::Timestamp;

use super::ProtectError;
use super::catalogued::is_catalogued;
use super::exchange::has_state;
use super::forks;
use super::freeze::FreezePause;
use super::heartbeat::known_head;
use super::last_good::note_good;
use super::quiesce;
use super::report::{BackupReport, Outcome, write_report};
use super::restore_apart;
use super::store::{Patience, check_home, note_home, open_store};
use crate::api::SnapshotSummary;
use crate::backup::retention::kept_locally;
use crate::backup::{
    self, Clock, Labels, NobodyWrites, Pause, Progress, Recipient, Repository, SnapshotOutcome,
    SnapshotRecord, SnapshotRequest, SystemClock,
};
use crate::host::clock;
use crate::host::freezer::Owner;
use crate::layout::Layout;
use crate::node::{KeyFiles, NodeSettings};
use crate::tenant::TenantId;

/// The name under which the node's own repository is kept locally; no tenant id has a dot.
pub(super) const NODE: &str = ".node";

/// How hard to compress: zstd's level 3 when there is time, 1 when the host is about to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Haste {
    /// The hourly backup, or one by hand.
    None,
    /// The backup before the host stops.
    Shutdown,
}

impl Haste {
    fn level(self) -> i32 {
        match self {
            Self::None => 3,
            Self::Shutdown => 1,
        }
    }

    /// A minute at 5 Mbit/s, when there is time.
    fn consolidation(self) -> u64 {
        match self {
            Self::None => 32 << 20,
            Self::Shutdown => 0,
        }
    }
}

/// All tenants that have a directory on this host, by id.
pub fn tenants(layout: &Layout) -> Vec<TenantId> {
    let Ok(entries) = layout.tenants_dir().read_dir_utf8() else {
        return Vec::new();
    };
    let mut tenants: Vec<TenantId> = entries
        .filter_map(|entry| entry.ok()?.file_name().parse().ok())
        .filter(|tenant| layout.runtime_file(tenant).exists())
        .collect();
    tenants.sort();
    tenants
}

/// Makes a tenant's repository, on this host at least: where the store is out of reach, the
/// first backup stores what belongs there, and nobody waits for it here.
pub async fn create_repository(
    layout: &Layout,
    settings: &NodeSettings,
    tenant: &TenantId,
) -> Result<(), ProtectError> {
    let name = tenant.as_str();
    match repository(layout, settings, name, Patience::None).await {
        Ok(_) => Ok(()),
        Err(error @ ProtectError::Repository { .. })
            if backup::read_local_spec(&layout.repository_dir(name)).is_ok_and(|s| s.is_some()) =>
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the repository is made here; the store gets it with the first backup"
            );
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Opens or makes the repository of `name`, a tenant's id or [`NODE`].
pub(super) async fn repository(
    layout: &Layout,
    settings: &NodeSettings,
    name: &str,
    patience: Patience,
) -> Result<Repository, ProtectError> {
    let store = open_store(&settings.store, patience)?;
    let recipients: Vec<Recipient> = settings
        .keys
        .recipients
        .iter()
        .map(|recipient| recipient.parse())
        .collect::<Result<_, _>>()
        .map_err(ProtectError::Recipient)?;
    let directory = layout.repository_dir(name);
    let repository = Repository::create(&directory, store, &recipients, clock::now())
        .await
        .map_err(|source| ProtectError::Repository {
            name: name.to_owned(),
            source,
        })?;
    note_home(&directory, &settings.store)?;
    Ok(repository)
}

/// Backs up one tenant and leaves its report. `owner` is who the freeze is recorded for;
/// none when the agent does not run any more.
pub async fn back_up_tenant(
    layout: &Layout,
    settings: &NodeSettings,
    tenant: &TenantId,
    owner: Option<Owner>,
    haste: Haste,
    progress: Arc<dyn Progress>,
) -> Result<BackupReport, ProtectError> {
    let directory = layout.repository_dir(tenant.as_str());
    if is_catalogued(&directory) {
        // Whatever is here would outrank all that the store holds.
        return Err(ProtectError::NotRestored(tenant.clone()));
    }
    if !has_state(&layout.state_dir(tenant)) && known_head(&directory, tenant.as_str())?.is_some() {
        // An empty snapshot would be the newest, and a restore would take it.
        return Err(ProtectError::EmptyState(tenant.clone()));
    }
    if haste == Haste::None {
        restore_apart::clear_abandoned(layout, tenant)?;
    }
    let freeze = owner.map(|owner| {
        // At shutdown the agent is about to end by itself, and there is no time to ask.
        let calls = (haste == Haste::None)
            .then(|| quiesce::calls(layout, tenant))
            .flatten();
        Arc::new(FreezePause::new(layout, tenant, owner, calls))
    });
    let pause: Arc<dyn Pause> = match &freeze {
        Some(freeze) => Arc::clone(freeze) as _,
        None => Arc::new(NobodyWrites),
    };
    let source = Source {
        name: tenant.as_str(),
        root: &layout.state_dir(tenant),
        clones: &layout.clone_dir(tenant),
        labels: [("kind", "tenant"), ("tenant", tenant.as_str())],
    };
    let mut report = snapshot(layout, settings, source, pause, haste, progress).await?;
    report.quiesced = freeze.and_then(|freeze| freeze.quiesced());
    write_report(layout, Some(tenant), &report)?;
    Ok(report)
}

/// What goes into which repository.
pub(super) struct Source<'a> {
    pub(super) name: &'a str,
    pub(super) root: &'a Utf8Path,
    pub(super) clones: &'a Utf8Path,
    pub(super) labels: [(&'static str, &'a str); 2],
}

/// Makes a snapshot of `source` in its repository.
pub(super) async fn snapshot(
    layout: &Layout,
    settings: &NodeSettings,
    source: Source<'_>,
    pause: Arc<dyn Pause>,
    haste: Haste,
    progress: Arc<dyn Progress>,
) -> Result<BackupReport, ProtectError> {
    if layout.node_restore_file().exists() {
        return Err(ProtectError::HalfRestored);
    }
    let signer = KeyFiles::new(layout).signer()?;
    check_home(
        source.name,
        &layout.repository_dir(source.name),
        &settings.store,
    )?;
    let mut repository = repository(layout, settings, source.name, Patience::Usual).await?;
    let mut labels: Labels = source
        .labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    labels.insert("host".to_owned(), settings.name.clone());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let began = clock.now();
    let request = SnapshotRequest {
        root: source.root.to_owned(),
        clones: source.clones.to_owned(),
        labels,
        pause,
        clock,
        signer,
        level: haste.level(),
        consolidation: haste.consolidation(),
        progress,
    };
    let outcome = repository
        .snapshot(request)
        .await
        .map_err(|error| ProtectError::Snapshot {
            name: source.name.to_owned(),
            source: error,
        })?;
    drop(repository);
    let (outcome, record, capture) = match outcome {
        SnapshotOutcome::Committed(record) => {
            let capture = record.capture.clone();
            (Outcome::Committed, record, capture)
        }
        SnapshotOutcome::Unchanged(capture) => {
            let newest = newest(layout, source.name)
                .ok_or_else(|| ProtectError::NoRepository(source.name.to_owned()))?;
            (Outcome::Unchanged, newest, capture)
        }
    };
    note_good(layout, source.name, began)?;
    let skipped = &capture.skipped;
    Ok(BackupReport {
        outcome,
        snapshot: record.sequence.into(),
        taken_at: record.time,
        files: record.files,
        bytes: record.bytes,
        sent_bytes: if outcome == Outcome::Committed {
            record.added
        } else {
            0
        },
        pause_us: capture.pause_us,
        skipped: skipped.sockets + skipped.fifos + skipped.devices,
        quiesced: None,
    })
}

/// The newest snapshot that this host knows of.
pub(super) fn newest(layout: &Layout, name: &str) -> Option<SnapshotRecord> {
    backup::local_snapshots(&layout.repository_dir(name))
        .ok()?
        .into_iter()
        .next()
}

/// What a tenant's state held when its newest snapshot was taken, and when that was: the sizes of its files.
pub fn newest_size(layout: &Layout, tenant: &TenantId) -> Option<(Timestamp, u64)> {
    newest(layout, tenant.as_str()).map(|record| (record.time, record.bytes))
}

/// The snapshots that this host knows of, oldest first, of one tenant or of all and the node.
pub fn local_snapshots(
    layout: &Layout,
    settings: &NodeSettings,
    only: Option<&TenantId>,
) -> Result<Vec<SnapshotSummary>, ProtectError> {
    let names = match only {
        Some(tenant) => vec![tenant.to_string()],
        None => repositories(layout),
    };
    let mut snapshots = Vec::new();
    for name in names {
        let records = backup::local_snapshots(&layout.repository_dir(&name)).map_err(|source| {
            ProtectError::Repository {
                name: name.clone(),
                source,
            }
        })?;
        snapshots.extend(
            forks::remembered(&layout.repository_dir(&name))?
                .into_iter()
                .rev()
                .map(|fork| SnapshotSummary {
                    tenant: shown_name(&name),
                    snapshot: fork.snapshot,
                    taken_at: fork.taken_at,
                    files: 0,
                    bytes: 0,
                    sent_bytes: 0,
                    pause_us: 0,
                    kept_by: Vec::new(),
                    fork: Some(format!("{}, epoch {}", fork.node, fork.epoch)),
                }),
        );
        let policy = settings.retention.policy();
        let kept = kept_locally(&policy, clock::now(), &records);
        let judged = records.into_iter().zip(kept).rev();
        snapshots.extend(judged.map(|(record, kept_by)| SnapshotSummary {
            tenant: shown_name(&name),
            kept_by: kept_by.iter().map(ToString::to_string).collect(),
            snapshot: record.sequence.into(),
            taken_at: record.time,
            files: record.files,
            bytes: record.bytes,
            sent_bytes: record.added,
            pause_us: record.capture.pause_us,
            fork: None,
        }));
    }
    Ok(snapshots)
}

/// A repository's name for people.
pub(super) fn shown_name(name: &str) -> String {
    if name == NODE {
        "(node)".to_owned()
    } else {
        name.to_owned()
    }
}

/// The names of all repositories that this host keeps, the node's last.
pub(super) fn repositories(layout: &Layout) -> Vec<String> {
    let Some(parent) = layout.repository_dir(NODE).parent().map(ToOwned::to_owned) else {
        return Vec::new();
    };
    let Ok(entries) = parent.read_dir_utf8() else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_owned()))
        .filter(|name| name == NODE || name.parse::<TenantId>().is_ok())
        .collect();
    names.sort_by_key(|name| (name == NODE, name.clone()));
    names
}
