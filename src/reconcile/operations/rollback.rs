//! Rollback: a tenant returns to an earlier release, which is its revision and the data that this has left. What was
//! written since is set aside. It needs neither the network nor an identity.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::gate;
use super::premise::by_itself;
use super::release::{self, Data};
use crate::host::clock;
use crate::protect::{self, ProtectError, Release};
use crate::reconcile::attempts;
use crate::reconcile::blocking;
use crate::reconcile::diagnose::cause_of;
use crate::reconcile::engine::Engine;
use crate::reconcile::error::OperationError;
use crate::reconcile::run::Run;
use crate::reconcile::trials;
use crate::state::{AuditEntry, TenantRow, Trial, Wanted};
use crate::tenant::{Edge, FailureCause, TenantId, TenantState};

/// What a rollback records of its request: enough to be run again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RollbackJob {
    /// The revision that was installed.
    pub from: u64,
    /// The revision to return to.
    pub to: u64,
    /// Leave the data as it is.
    #[serde(default)]
    pub keep_data: bool,
    /// Why, in the actor's words; kept in the audit log.
    #[serde(default)]
    pub message: String,
    /// Why tenantd does it by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_failed: Option<String>,
    /// The cause of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<FailureCause>,
}

/// Settles what a rollback means now; `to` is what was asked for, if anything.
///
/// # Errors
/// There is nothing to go back to, or the data of that release is not there.
pub async fn settle(
    engine: &Engine,
    tenant: &TenantId,
    to: Option<u64>,
    keep_data: bool,
    message: String,
) -> Result<RollbackJob, OperationError> {
    let row = engine.database.tenant(tenant.clone()).await?;
    let from = row
        .current_revision
        .ok_or_else(|| OperationError::NoRevision(tenant.clone()))?;
    let (layout, asked) = (engine.layout.clone(), tenant.clone());
    let releases = blocking(move || protect::releases(&layout, &asked)).await;
    let nothing = || OperationError::NothingToReturnTo(tenant.clone());
    let to = target(&row, from, to, &releases).ok_or_else(nothing)?;
    if engine
        .database
        .revision(tenant.clone(), to)
        .await?
        .is_none()
    {
        let (tenant, number) = (tenant.clone(), to);
        return Err(OperationError::UnknownRevision { tenant, number });
    }
    if !keep_data && !releases.iter().any(|release| release.revision == to) {
        let error = ProtectError::NoRelease {
            tenant: tenant.clone(),
            revision: to,
        };
        return Err(OperationError::NotExchanged {
            tenant: tenant.clone(),
            error: Box::new(error),
        });
    }
    Ok(RollbackJob {
        from,
        to,
        keep_data,
        message,
        trial_failed: None,
        cause: None,
    })
}

/// Which revision to return to: the one asked for, else the last known good one, else the one that was left last.
fn target(row: &TenantRow, from: u64, asked: Option<u64>, releases: &[Release]) -> Option<u64> {
    let left_last = || {
        let left = releases.iter().filter(|release| !release.set_aside);
        left.map(|release| release.revision)
            .find(|&one| one != from)
    };
    asked
        .or(row.good_revision.filter(|&good| good != from))
        .or_else(left_last)
        .filter(|&to| to != from)
}

/// The release to which a tenant goes back by itself from revision `failed`, if there is one.
pub async fn release_before(engine: &Engine, row: &TenantRow, failed: u64) -> Option<u64> {
    let (layout, asked) = (engine.layout.clone(), row.id.clone());
    let releases = blocking(move || protect::releases(&layout, &asked)).await;
    target(row, failed, None, &releases)
}

/// The request of the rollback that a failed trial leads to.
pub async fn of_trial(
    engine: &Engine,
    trial: &Trial,
    to: u64,
    why: String,
    cause: Option<FailureCause>,
) -> Value {
    let (layout, asked) = (engine.layout.clone(), trial.tenant.clone());
    let releases = blocking(move || protect::releases(&layout, &asked)).await;
    let job = RollbackJob {
        from: trial.revision,
        to,
        // Better the old revision with the new data than none that runs.
        keep_data: !releases.iter().any(|release| release.is_clone_of(to)),
        message: String::new(),
        trial_failed: Some(why),
        cause,
    };
    by_itself(job)
}

/// Returns to the release. Run again after a crash, it goes on where it was.
pub(super) async fn run(run: &Run) -> Result<Value, OperationError> {
    let engine = &run.engine;
    let job: RollbackJob = serde_json::from_value(run.operation.request.clone())
        .map_err(|_| OperationError::Interrupted)?;
    let row = run.row().await?;
    let tenant = row.id.clone();
    let current = row.current_revision;
    // The second only where this very operation has brought it so far.
    if current != Some(job.from) && !(run.is_taken_up() && current == Some(job.to)) {
        return Err(OperationError::RevisionChanged {
            tenant,
            expected: job.from,
            found: current,
        });
    }
    if let Some(why) = &job.trial_failed {
        let failed = OperationError::Earlier(why.clone());
        attempts::keep(run, Some(job.from), &failed).await;
        gate::note_rollback(run, job.from, job.cause).await?;
    }
    run.follow(Edge::Update, job.trial_failed.clone()).await?;
    let data = match (&job.trial_failed, job.keep_data) {
        (_, true) => Data::Kept,
        (Some(_), false) => Data::Cloned,
        (None, false) => Data::OfTheRelease,
    };
    let database = &engine.database;
    let aside = match release::go_back(run, (job.from, job.to), data).await {
        Ok(aside) => aside,
        Err(error) => {
            match job.trial_failed {
                None => database.end_trial(tenant.clone()).await?,
                Some(_) => trials::going_back_failed(run).await?,
            }
            let cause = cause_of(run, &error).await;
            run.fail(&error, cause).await?;
            return Err(error);
        }
    };
    let (actor, now) = (run.operation.actor.clone(), clock::now());
    match (row.wanted, &job.trial_failed) {
        // It ran before, and whoever asked for it has said that it is good.
        (Wanted::Running, None) => {
            database
                .promote(tenant.clone(), job.to, actor.clone(), now)
                .await?;
            database.end_trial(tenant.clone()).await?;
        }
        (Wanted::Running, Some(_)) => trials::arrived(run, job.to).await?,
        _ => database.end_trial(tenant.clone()).await?,
    }
    let action = format!("rolled back: revision {} -> {}", job.from, job.to);
    let why = job
        .trial_failed
        .clone()
        .or(Some(job.message))
        .filter(|why| !why.is_empty());
    let line = AuditEntry::of_tenant(tenant.clone(), actor, now, action, why);
    database.audit(line).await?;
    let state = match row.wanted {
        Wanted::Running => TenantState::Running,
        Wanted::Suspended => TenantState::Suspended,
        Wanted::Stopped | Wanted::Removed => TenantState::Stopped,
    };
    let reason = job.trial_failed.or(row.held_because);
    run.reach(state, reason).await?;
    Ok(json!({
        "tenant": tenant,
        "revision": job.to,
        "from": job.from,
        "set-aside": aside,
    }))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rstest::rstest;

    use super::*;
    use crate::quadlet::IdRange;

    fn release(revision: u64, set_aside: bool) -> Release {
        Release {
            revision,
            since: Timestamp::UNIX_EPOCH,
            bytes: 1,
            set_aside,
            path: String::new(),
        }
    }

    #[rstest]
    #[case::asked_for(Some(3), Some(2), Some(2))]
    #[case::the_last_known_good(Some(3), None, Some(3))]
    #[case::what_runs_is_good(Some(4), None, Some(2))]
    #[case::none_is_known_to_be_good(None, None, Some(2))]
    #[case::what_runs_already(Some(3), Some(4), None)]
    fn returns_to(#[case] good: Option<u64>, #[case] asked: Option<u64>, #[case] to: Option<u64>) {
        let row = TenantRow {
            id: "acme".parse().unwrap(),
            state: TenantState::Running,
            reason: None,
            cause: None,
            wanted: Wanted::Running,
            held_because: None,
            source: None,
            current_revision: Some(4),
            good_revision: good,
            id_range: IdRange::nth(0).unwrap(),
            created_at: Timestamp::UNIX_EPOCH,
            changed_at: Timestamp::UNIX_EPOCH,
        };
        let releases = [release(5, true), release(4, false), release(2, false)];
        assert_eq!(target(&row, 4, asked, &releases), to);
    }
}
