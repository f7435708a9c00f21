//! What the API shows of tenants and the node, made from rows and the supervisor's picture.
//! Nothing here changes anything.

use std::collections::BTreeMap;
use std::fs;

use camino::Utf8Path;
use jiff::Timestamp;

use super::attempts;
use super::blocking;
use super::engine::Engine;
use super::error::{OperationError, chain};
use super::policy::breaker;
use super::usage::{promised, storage};
use super::{sleep, supervisor};
use crate::api::{
    Document, Evidence, HistoryLine, NodeStatus, RenderedFile, SnapshotSummary, TenantDetail,
    TenantSummary, TenantUnits, TransitionLine, TrialSummary, Usage,
};
use crate::host::clock;
use crate::layout::UnitNames;
use crate::protect;
use crate::quadlet::{UnitFile, UnitSet};
use crate::state::{OperationId, Overview, StoredRevision, TenantRow};
use crate::tenant::{TenantId, TenantState};

/// Transitions that are shown with a tenant.
const TRANSITIONS: u32 = 10;

impl Engine {
    /// The tenants; with `all`, those that are terminated as well.
    pub async fn list(&self, all: bool) -> Result<Vec<TenantSummary>, OperationError> {
        supervisor::look_at_sleepers(self).await?;
        let overviews = self.database.overviews().await?.into_iter();
        let shown = overviews.filter(|tenant| all || tenant.row.state != TenantState::Terminated);
        Ok(shown.map(|tenant| self.summary(tenant)).collect())
    }

    /// A tenant's last transitions, the newest first.
    pub async fn transitions(
        &self,
        tenant: &TenantId,
        limit: u32,
    ) -> Result<Vec<TransitionLine>, OperationError> {
        let transitions = self.database.transitions(tenant.clone(), limit).await?;
        let lines = transitions.into_iter().map(|transition| TransitionLine {
            at: transition.at,
            actor: transition.actor,
            edge: transition.edge,
            from: transition.from,
            to: transition.to,
            cause: transition.cause,
            reason: transition.reason,
        });
        Ok(lines.collect())
    }

    /// Everything about one tenant.
    pub async fn show(&self, tenant: &TenantId) -> Result<TenantDetail, OperationError> {
        let overview = self.database.overview(tenant.clone()).await?;
        let row = overview.row.clone();
        let stored = self.stored(&row).await?;
        let names = UnitNames(tenant);
        let units = [
            names.service(),
            names.instance("ingress", "socket"),
            names.instance("ingress", "service"),
            names.instance("egress", "socket"),
            names.instance("egress", "service"),
            names.instance("endpoints", "socket"),
            names.instance("endpoints", "service"),
            names.instance("awake", "service"),
            names.instance("net", "service"),
        ];
        let names: Vec<&str> = units.iter().map(String::as_str).collect();
        let statuses = self.systemd.units(&names).await?;
        let units: BTreeMap<_, _> = statuses
            .into_iter()
            .map(|unit| {
                (
                    unit.name,
                    format!("{} ({})", unit.active.as_str(), unit.sub),
                )
            })
            .collect();
        let history = self.database.audit_log(Some(tenant.clone()), 20).await?;
        let history = history.into_iter().map(|entry| HistoryLine {
            at: entry.at,
            actor: entry.actor,
            action: entry.action,
            detail: entry.detail,
        });
        // Before the next await: the lock is not one to hold across it.
        let container_ending = self.views().ending(tenant).map(str::to_owned);
        Ok(TenantDetail {
            summary: self.summary(overview),
            good_revision: row.good_revision,
            source: row.source.clone(),
            image_id: stored.map(|stored| stored.revision.image.to_string()),
            ingress_socket: self.layout.ingress_socket(tenant).into_string(),
            state_directory: self.layout.state_dir(tenant).into_string(),
            first_uid: row.id_range.start(),
            units,
            usage: self.usage(tenant).await,
            container_ending,
            operations: self
                .database
                .recent_operations(Some(tenant.clone()), 5)
                .await?,
            history: history.collect(),
            transitions: self.transitions(tenant, TRANSITIONS).await?,
        })
    }

    /// What is kept of a failed operation, if anything.
    pub async fn evidence(&self, id: OperationId) -> Result<Option<Evidence>, OperationError> {
        let operation = self.database.operation(id).await?;
        let operation = operation.ok_or(OperationError::NoOperation(id))?;
        attempts::find(self, &operation).await
    }

    /// A tenant's rendered files beside what is installed.
    pub async fn units(&self, tenant: &TenantId) -> Result<TenantUnits, OperationError> {
        let row = self.database.tenant(tenant.clone()).await?;
        let stored = self.stored(&row).await?;
        let stored = stored.ok_or_else(|| OperationError::NoRevision(tenant.clone()))?;
        let revision = stored.revision.number.0;
        let files = blocking(move || beside_installed(&stored.unit_set)).await;
        Ok(TenantUnits { revision, files })
    }

    /// The spec of a tenant's current revision.
    pub async fn spec(&self, tenant: &TenantId) -> Result<Document, OperationError> {
        let row = self.database.tenant(tenant.clone()).await?;
        let stored = self.stored(&row).await?;
        let stored = stored.ok_or_else(|| OperationError::NoRevision(tenant.clone()))?;
        Ok(Document {
            name: format!("{tenant}.toml"),
            text: stored.revision.spec_text,
        })
    }

    /// Snapshots that this node has made, oldest first, of one tenant or of all and the node.
    pub async fn snapshots(
        &self,
        tenant: Option<&TenantId>,
    ) -> Result<Vec<SnapshotSummary>, OperationError> {
        if let Some(tenant) = tenant {
            self.database.tenant(tenant.clone()).await?;
        }
        let (layout, only) = (self.layout.clone(), tenant.cloned());
        let settings = self.settings();
        blocking(move || protect::local_snapshots(&layout, &settings, only.as_ref()))
            .await
            .map_err(|error| OperationError::Backup(error.to_string()))
    }

    /// How many tenants stand in each state.
    pub async fn states(&self) -> Result<BTreeMap<String, usize>, OperationError> {
        let mut tenants = BTreeMap::<String, usize>::new();
        for row in self.database.tenants().await? {
            *tenants.entry(row.state.to_string()).or_default() += 1;
        }
        Ok(tenants)
    }

    /// How the node is.
    pub async fn status(&self) -> Result<NodeStatus, OperationError> {
        let tenants = self.states().await?;
        let settings = self.settings();
        let mut warnings = Vec::new();
        let layout = self.layout.clone();
        if blocking(move || crate::node::operator_keys_on_host(&layout)).await {
            warnings.push(crate::node::OPERATOR_KEYS_WARNING.to_owned());
        }
        let missing = self.facts.missing_controllers();
        if !missing.is_empty() {
            let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
            warnings.push(format!(
                "limits are not enforced: this host has no {} controller for cgroups",
                missing.join(", ")
            ));
        }
        if !self.facts.project_quotas {
            warnings.push(format!(
                "storage limits are not kept: {}",
                crate::node::NO_QUOTAS
            ));
        }
        let commitments = self.commitments().await?;
        let exceeded = commitments.iter().filter(|found| found.is_exceeded());
        warnings.extend(exceeded.map(ToString::to_string));
        let promised = commitments.iter().map(promised).collect();
        warnings.extend(self.front_report().await?.warnings());
        warnings.extend(self.backup_warnings().await?);
        Ok(NodeStatus {
            name: settings.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            tenants,
            store: settings.store.url.clone(),
            promised,
            warnings,
            operations: self.running_operations(),
        })
    }

    /// Backups that are late or that the last look found not to be whole, and states from before a restore that still take room.
    async fn backup_warnings(&self) -> Result<Vec<String>, OperationError> {
        let mut warnings = Vec::new();
        let late_after = self.settings().backup.late_after();
        let is_late = |at: &Timestamp| clock::now().duration_since(*at) > late_after;
        for row in self.database.tenants().await? {
            let (layout, id) = (self.layout.clone(), row.id.clone());
            let (checks, kept, releases, last_backup) = blocking(move || {
                let checks = protect::read_checks(&layout, id.as_str());
                let releases = protect::releases(&layout, &id);
                let last_backup = protect::last_backup(&layout, &id);
                (checks, protect::kept(&layout, &id), releases, last_backup)
            })
            .await;
            let id = row.id;
            let late = last_backup.filter(is_late);
            warnings.extend(late.map(|at| {
                format!("{id}: its last good backup is of {at}; `journalctl -u 'tenantd-backup@*'` tells why")
            }));
            warnings.extend(checks.failures().map(|why| format!("{id}: {why}")));
            let set_aside = releases.iter().filter(|release| release.set_aside);
            warnings.extend(set_aside.map(|release| {
                format!(
                    "{id}: what its revision {} has written still takes {} MiB since the rollback of {}; `tenantd restore {id} \
                     --accept` removes it, `tenantd rollback {id} --to {}` returns to it",
                    release.revision,
                    release.bytes.div_ceil(1 << 20),
                    release.since,
                    release.revision
                )
            }));
            warnings.extend(kept.map(|kept| {
                format!(
                    "{id}: its state from before the restore of {} still takes {} MiB; `tenantd restore {id} --accept` \
                     removes it, `--undo` puts it back",
                    kept.since,
                    kept.bytes.div_ceil(1 << 20)
                )
            }));
        }
        warnings.extend(self.erasure_warnings().await?);
        Ok(warnings)
    }

    /// Tenants that are gone and whose backups can still be read.
    async fn erasure_warnings(&self) -> Result<Vec<String>, OperationError> {
        let layout = self.layout.clone();
        let pending = blocking(move || protect::pending_erasures(&layout))
            .await
            .map_err(|error| OperationError::Backup(chain(&error)))?;
        let warnings = pending.into_iter().map(|erasure| {
            let tenant = erasure.tenant;
            format!(
                "{tenant}: erasure pending since {}: the store still has what its backups are read with; \
                 `tenantd keys erase {tenant} --credentials FILE` with a key that may delete ends that",
                erasure.asked_at
            )
        });
        Ok(warnings.collect())
    }

    pub(super) async fn stored(
        &self,
        row: &TenantRow,
    ) -> Result<Option<StoredRevision>, OperationError> {
        let Some(number) = row.current_revision else {
            return Ok(None);
        };
        Ok(self.database.revision(row.id.clone(), number).await?)
    }

    fn summary(&self, tenant: Overview) -> TenantSummary {
        let Overview {
            row,
            applied,
            retry,
            ending,
            rollbacks,
            trial,
        } = tenant;
        let next_try = retry.next_try.filter(|_| row.state == TenantState::Failed);
        let erase_at = ending
            .and_then(|ending| ending.erase_at)
            .filter(|_| row.state == TenantState::Terminated);
        let open = breaker(&rollbacks, &self.settings().failure);
        let spec = applied.as_ref().map(|revision| &revision.resolved);
        let missing = self.facts.missing_controllers();
        TenantSummary {
            id: row.id.to_string(),
            state: row.state.to_string(),
            reason: row.reason.clone(),
            cause: row.cause,
            next_try,
            breaker_open_since: open.map(|open| open.since),
            erase_at,
            wanted: row.wanted,
            template: spec.map(|spec| spec.template.clone()),
            plan: spec.map(|spec| spec.plan.clone()),
            image: spec.map(|spec| spec.image.to_string()),
            revision: row.current_revision,
            since: row.changed_at,
            last_backup: protect::last_backup(&self.layout, &row.id),
            kept: protect::kept(&self.layout, &row.id),
            sleep: sleep::summary(&self.layout, &row),
            releases: protect::releases(&self.layout, &row.id),
            trial: trial.map(|trial| TrialSummary {
                revision: trial.revision,
                ends_at: trial.ends_at,
                crashes: trial.crashes,
            }),
            checks: protect::read_checks(&self.layout, row.id.as_str()),
            storage: spec.map(|spec| storage(&self.layout, &self.facts, &row.id, &spec.limits)),
            unenforced: missing.iter().map(ToString::to_string).collect(),
        }
    }

    /// What the container uses; a container that does not run uses nothing.
    async fn usage(&self, tenant: &TenantId) -> Option<Usage> {
        let stats = self
            .podman
            .stats(&UnitNames(tenant).container())
            .await
            .ok()??;
        Some(Usage {
            memory_bytes: stats.memory,
            cpu_nanoseconds: stats.cpu_nanoseconds,
            pids: stats.tasks,
        })
    }
}

fn beside_installed(set: &UnitSet) -> Vec<RenderedFile> {
    set.iter()
        .map(|(path, file)| RenderedFile {
            path: path.to_string(),
            rendered: match file {
                UnitFile::Text(text) => text.clone(),
                UnitFile::Link(target) => format!("link to {target}\n"),
            },
            installed: installed_text(path),
        })
        .collect()
}

fn installed_text(path: &Utf8Path) -> Option<String> {
    if let Ok(target) = path.read_link_utf8() {
        return Some(format!("link to {target}\n"));
    }
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
