//! The data of releases: cloned before an update, brought back by a rollback.
//! What is cloned and exchanged on the disk is `protect::releases`; here the agent is kept still meanwhile.

use std::time::Duration;

use camino::Utf8PathBuf;
use serde_json::{Value, json};

use crate::failpoint;
use crate::host::systemd::ActiveState;
use crate::host::{clock, dirs, files, space};
use crate::layout::UnitNames;
use crate::node::CloneMode;
use crate::protect::{self, ProtectError, Release};
use crate::reconcile::blocking;
use crate::reconcile::converge::{converge, stop_for_sure, wait_healthy};
use crate::reconcile::error::OperationError;
use crate::reconcile::room;
use crate::reconcile::run::Run;
use crate::state::{TenantRow, Wanted};

/// The most that is copied unasked, where blocks cannot be shared: the agent is down meanwhile.
const COPY_UNASKED: u64 = 1 << 30;

/// Clones the state as revision `present` leaves it, and tells what came of it, for the operation's result. The agent
/// is stopped for it, and is down afterwards.
///
/// # Errors
/// There must be a clone and there is none; or the agent cannot be stopped.
pub(super) async fn take(
    run: &Run,
    row: &TenantRow,
    present: u64,
) -> Result<Value, OperationError> {
    let (engine, tenant) = (&run.engine, row.id.clone());
    let settings = engine.settings().update;
    let free = {
        let directory = engine.layout.data_dir();
        blocking(move || space::of(&directory)).await?.free
    };
    let Some(limit) = copy_limit(settings.clone, free) else {
        forget(run, present).await?;
        return Ok(json!({ "skipped": "node.toml says clone = \"never\"" }));
    };
    let still = Still::hold(run, row).await?;
    run.step(&format!("clone the state as revision {present} leaves it"))
        .await?;
    let begin = clock::monotonic();
    let layout = engine.layout.clone();
    let taken = blocking(move || protect::take_release(&layout, &tenant, present, limit)).await;
    let took = begin.elapsed();
    still.let_go(run).await?;
    match taken {
        Ok((release, cloned)) => {
            drop_surplus(run, row.good_revision, settings.keep).await?;
            Ok(json!({
                "revision": present,
                "entries": cloned.entries,
                "bytes": release.bytes,
                "copied-bytes": cloned.copied,
                "milliseconds": milliseconds(took),
            }))
        }
        Err(error) => {
            // An older clone of this revision is no longer what it has left.
            forget(run, present).await?;
            if settings.clone == CloneMode::Always {
                return Err(OperationError::NotCloned {
                    tenant: row.id.clone(),
                    error: Box::new(error),
                });
            }
            let why = crate::reconcile::error::chain(&error);
            tracing::warn!("{why}; a rollback would keep the data");
            Ok(json!({ "skipped": why }))
        }
    }
}

fn milliseconds(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// How much may be copied for a clone; none when there is to be none.
fn copy_limit(mode: CloneMode, free: u64) -> Option<u64> {
    let spare = free.saturating_sub(room::RESERVE);
    match mode {
        CloneMode::Never => None,
        CloneMode::Always => Some(spare),
        // No more than half of what is free: the new revision needs room too.
        CloneMode::Auto => Some((spare / 2).min(COPY_UNASKED)),
    }
}

/// The clone of a revision that runs on, or again, is not what it has left.
pub(super) async fn forget(run: &Run, revision: u64) -> Result<(), OperationError> {
    let (layout, tenant) = (run.engine.layout.clone(), run.tenant()?.clone());
    let dropped = blocking(move || protect::drop_clones(&layout, &tenant, &[revision])).await;
    dropped.map_err(|error| not_exchanged(run, error))
}

async fn drop_surplus(run: &Run, good: Option<u64>, keep: usize) -> Result<(), OperationError> {
    let (layout, tenant) = (run.engine.layout.clone(), run.tenant()?.clone());
    let dropped = blocking(move || {
        let found = protect::releases(&layout, &tenant);
        let clones = found.iter().filter(|release| !release.set_aside);
        let clones: Vec<_> = clones.map(|release| release.revision).collect();
        protect::drop_clones(&layout, &tenant, &protect::surplus(&clones, good, keep))
    });
    dropped.await.map_err(|error| not_exchanged(run, error))
}

/// Whether there is a clone of the state as revision `to` has left it. What a rollback has once set aside is none: it is
/// of another time, and only an operator brings it back.
pub(super) async fn has_clone(run: &Run, to: u64) -> Result<bool, OperationError> {
    let (layout, tenant) = (run.engine.layout.clone(), run.tenant()?.clone());
    let found = blocking(move || protect::releases(&layout, &tenant)).await;
    Ok(found.iter().any(|release| release.is_clone_of(to)))
}

/// What becomes of the data when a tenant goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    /// They stay as they are.
    Kept,
    /// They are again as the release has left them, by the clone of then.
    Cloned,
    /// Likewise, also if a rollback has set them aside: an operator asked.
    OfTheRelease,
}

/// Goes back from a revision to an earlier one: data where wanted, then units and agent, which must answer where it is
/// to run. Gives what was set aside. Run again, it goes on where it was.
pub(super) async fn go_back(
    run: &Run,
    (from, to): (u64, u64),
    data: Data,
) -> Result<Option<Release>, OperationError> {
    let (engine, row) = (&run.engine, run.row().await?);
    let aside = if data == Data::Kept {
        forget(run, to).await?;
        None
    } else {
        // It stays held until the units of the other revision are there: converging releases it.
        drop(Still::hold(run, &row).await?);
        run.step(&format!("bring back the data that revision {to} has left"))
            .await?;
        let (layout, tenant) = (engine.layout.clone(), row.id.clone());
        let operation = run.operation.id.to_string();
        let aside_too = data == Data::OfTheRelease;
        let back = blocking(move || {
            protect::bring_back(&layout, &tenant, &operation, (from, to), aside_too)
        });
        Some(back.await.map_err(|error| not_exchanged(run, error))?)
    };
    engine
        .database
        .set_current_revision(row.id.clone(), Some(to), false)
        .await?;
    failpoint::hit("rollback.current");
    run.step(&format!("go back to revision {to}")).await?;
    converge(run).await?;
    if row.wanted == Wanted::Running {
        wait_healthy(run).await?;
    }
    Ok(aside)
}

fn not_exchanged(run: &Run, error: ProtectError) -> OperationError {
    match run.tenant() {
        Ok(tenant) => OperationError::NotExchanged {
            tenant: tenant.clone(),
            error: Box::new(error),
        },
        Err(error) => error,
    }
}

/// An agent that is down, and that nobody who knocks can wake.
struct Still {
    /// Made by us: not of a tenant that is held anyway.
    held: Option<Utf8PathBuf>,
    door_was_up: bool,
}

impl Still {
    async fn hold(run: &Run, row: &TenantRow) -> Result<Self, OperationError> {
        let door_was_up = is_up(run, &door(row)).await?;
        let path = run.engine.layout.held_file(&row.id);
        let held = (!row.wanted.is_held()).then_some(path);
        if let Some(path) = held.clone() {
            blocking(move || {
                if let Some(parent) = path.parent() {
                    dirs::make(parent, 0o700)?;
                }
                files::write(&path, b"updating", 0o600)
            })
            .await?;
        }
        failpoint::hit("release.held");
        run.step("stop the agent").await?;
        // Not the unit that keeps it awake: a door that stays would not ask for it again.
        let (systemd, unit) = (&run.engine.systemd, UnitNames(&row.id).service());
        stop_for_sure(run, &unit).await?;
        // What follows is no further attempt of an agent that systemd has given up, or is about to.
        systemd.reset_failed(&unit).await?;
        Ok(Self { held, door_was_up })
    }

    async fn let_go(self, run: &Run) -> Result<(), OperationError> {
        let Some(path) = self.held else {
            return Ok(());
        };
        blocking(move || files::remove(&path)).await?;
        // A door that came up meanwhile takes its tenant for held.
        let door = door(&run.row().await?);
        if !self.door_was_up && is_up(run, &door).await? {
            run.engine.systemd.stop(&door).await?;
        }
        Ok(())
    }
}

fn door(row: &TenantRow) -> String {
    UnitNames(&row.id).instance("ingress", "service")
}

async fn is_up(run: &Run, unit: &str) -> Result<bool, OperationError> {
    let found = run.engine.systemd.units(&[unit]).await?;
    Ok(found
        .iter()
        .any(|unit| unit.active != ActiveState::Inactive))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(CloneMode::Never, u64::MAX, None)]
    #[case(CloneMode::Always, room::RESERVE + 7, Some(7))]
    #[case(CloneMode::Auto, room::RESERVE + 8, Some(4))]
    #[case(CloneMode::Auto, 100 << 30, Some(COPY_UNASKED))]
    #[case(CloneMode::Auto, 0, Some(0))]
    fn what_is_copied_leaves_room(
        #[case] mode: CloneMode,
        #[case] free: u64,
        #[case] expected: Option<u64>,
    ) {
        assert_eq!(copy_limit(mode, free), expected);
    }
}
