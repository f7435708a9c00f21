//! The two backups of a stopping host, within one budget of time: while the agents still run,
//! and of what their end still wrote. Hourly is the guarantee, this is the bonus.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use jiff::{SignedDuration, Timestamp};

use super::ProtectError;
use super::last_good::{last_backup, last_good};
use super::node::{back_up_node, has_something};
use super::tenant::{Haste, NODE, back_up_tenant, shown_name, tenants};
use crate::backup::{self, Progress, SnapshotRecord};
use crate::host::freezer::Owner;
use crate::host::{clock, files};
use crate::layout::Layout;
use crate::node::NodeSettings;

/// Share of the budget that the first backup may use; the rest is for the agents' end and
/// the final backup.
const PRESTOP_SHARE: f64 = 0.5;

/// Who is told how far the backup of a tenant, or of the node, is.
pub type Shown<'a> = &'a (dyn Fn(&str) -> Arc<dyn Progress> + Sync);

/// Who was backed up, and who was not for lack of time or for an error.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Committed or unchanged.
    pub done: Vec<String>,
    /// Not done, and why.
    pub missed: Vec<(String, String)>,
}

/// Backs up all tenants while their agents run, and notes when the budget ends.
///
/// `shown` gives who is told how far the backup of a name is.
pub async fn prestop_backup(
    layout: &Layout,
    settings: &NodeSettings,
    shown: Shown<'_>,
) -> Result<ShutdownReport, ProtectError> {
    let budget = Duration::from_secs(settings.shutdown_budget_seconds.into());
    let end = clock::now() + SignedDuration::try_from(budget).unwrap_or_default();
    files::write(&deadline_file(layout), end.to_string().as_bytes(), 0o600)?;
    let time = budget.mul_f64(PRESTOP_SHARE);
    Ok(back_up_all(layout, settings, Some(Owner::Prestop), time, shown).await)
}

/// Backs up what the agents wrote while they ended, and the node, in what is left of the budget.
pub async fn final_backup(
    layout: &Layout,
    settings: &NodeSettings,
    shown: Shown<'_>,
) -> Result<ShutdownReport, ProtectError> {
    let budget = Duration::from_secs(settings.shutdown_budget_seconds.into());
    let path = deadline_file(layout);
    let deadline: Option<Timestamp> = files::read(&path, 64)
        .ok()
        .and_then(|text| String::from_utf8_lossy(&text).parse().ok());
    files::remove(&path)?;
    // Without the first backup's note, the whole budget is ours.
    let time = deadline.map_or(budget, |end| left(end, clock::now()));
    let begin = clock::monotonic();
    let mut report = back_up_all(layout, settings, None, time, shown).await;
    let rest = time.saturating_sub(begin.elapsed());
    let missed = if !has_something(layout) {
        None
    } else if rest.is_zero() {
        Some(false)
    } else {
        let progress = shown(&shown_name(NODE));
        let backup = back_up_node(layout, settings, Haste::Shutdown, progress);
        match tokio::time::timeout(rest, backup).await {
            Ok(Ok(_)) => {
                report.done.push(shown_name(NODE));
                None
            }
            Ok(Err(error)) => {
                report.missed.push((shown_name(NODE), chain(&error)));
                None
            }
            Err(_) => Some(true),
        }
    };
    if let Some(has_begun) = missed {
        let why = out_of_time(has_begun, last_good(layout, NODE));
        report.missed.push((shown_name(NODE), why));
    }
    Ok(report)
}

fn left(end: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(now)).unwrap_or_default()
}

fn deadline_file(layout: &Layout) -> Utf8PathBuf {
    layout.run_dir().join("shutdown-deadline")
}

/// Newest snapshots that an estimate is made from.
const RECENT: usize = 5;

/// Of a tenant that has only its first snapshot, this share is expected to have changed.
const FIRST_SHARE: u64 = 16;

/// What a tenant's next snapshot will probably send, in bytes, from its records, newest first: the
/// median of the last few. The first snapshot sent everything and tells little, and what was sent again
/// only to keep packs few is not sent when time is short. Without any, everything is to be sent.
fn expected(records: &[SnapshotRecord]) -> u64 {
    let sent = |record: &SnapshotRecord| record.added.saturating_sub(record.capture.rewritten);
    let later = records.iter().filter(|record| record.sequence > 1);
    let mut recent: Vec<u64> = later.take(RECENT).map(sent).collect();
    recent.sort_unstable();
    match (recent.get(recent.len() / 2), records.first()) {
        (Some(median), _) => *median,
        (None, Some(first)) => sent(first) / FIRST_SHARE,
        (None, None) => u64::MAX,
    }
}

/// Why a backup did not come about in time, and what there is instead.
fn out_of_time(has_begun: bool, last_good: Option<Timestamp>) -> String {
    let why = if has_begun {
        "the time was over before it was committed"
    } else {
        "no time was left to begin"
    };
    match last_good {
        Some(time) => {
            let time = time.strftime("%Y-%m-%d %H:%M:%S UTC");
            format!("{why}; its last good backup is of {time}")
        }
        None => format!("{why}; it has no backup"),
    }
}

/// Those who are expected to send least come first: with the time there is, most get done.
async fn back_up_all(
    layout: &Layout,
    settings: &NodeSettings,
    owner: Option<Owner>,
    time: Duration,
    shown: Shown<'_>,
) -> ShutdownReport {
    let mut tenants = tenants(layout);
    tenants.sort_by_cached_key(|tenant| {
        let records = backup::local_snapshots(&layout.repository_dir(tenant.as_str()));
        expected(&records.unwrap_or_default())
    });
    let begin = clock::monotonic();
    let mut report = ShutdownReport::default();
    for tenant in tenants {
        let rest = time.saturating_sub(begin.elapsed());
        let missed = if rest.is_zero() {
            Some(out_of_time(false, last_backup(layout, &tenant)))
        } else {
            let progress = shown(tenant.as_str());
            let backup =
                back_up_tenant(layout, settings, &tenant, owner, Haste::Shutdown, progress);
            match tokio::time::timeout(rest, backup).await {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(chain(&error)),
                Err(_) => Some(out_of_time(true, last_backup(layout, &tenant))),
            }
        };
        match missed {
            None => report.done.push(tenant.to_string()),
            Some(why) => report.missed.push((tenant.to_string(), why)),
        }
    }
    report
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::backup::{CaptureReport, Digest};

    /// Records of what was sent, newest first; the last of them is snapshot 1.
    fn records(sent: &[u64], rewritten: u64) -> Vec<SnapshotRecord> {
        let record = |(at, added): (usize, &u64)| SnapshotRecord {
            epoch: 1,
            sequence: u32::try_from(sent.len() - at).unwrap(),
            commit: Digest::of(b""),
            time: Timestamp::UNIX_EPOCH,
            files: 1,
            bytes: 1,
            stored: 1,
            added: *added,
            capture: CaptureReport {
                rewritten,
                ..CaptureReport::default()
            },
        };
        sent.iter().enumerate().map(record).collect()
    }

    #[rstest]
    #[case::never_backed_up(&[], 0, u64::MAX)]
    #[case::only_the_first(&[1600], 0, 100)]
    #[case::the_first_tells_nothing(&[7, 1_000_000], 0, 7)]
    #[case::one_burst_is_no_habit(&[900_000, 3, 5, 4, 6, 1_000_000], 0, 5)]
    #[case::old_habits_are_over(&[1, 1, 1, 1, 1, 900, 900, 900, 900, 900, 900, 9], 0, 1)]
    #[case::consolidation_is_not_done_again(&[110, 120, 130, 9], 100, 20)]
    fn what_a_tenant_will_send_is_what_it_usually_does(
        #[case] sent: &[u64],
        #[case] rewritten: u64,
        #[case] wanted: u64,
    ) {
        assert_eq!(expected(&records(sent, rewritten)), wanted);
    }

    #[test]
    fn a_report_says_what_there_is_instead() {
        let time = Some("2026-11-21T10:00:00Z".parse().unwrap());
        let told = [(false, time), (true, time), (true, None)];
        let told = told.map(|(has_begun, time)| out_of_time(has_begun, time));
        insta::assert_snapshot!(told.join("\n"), @r"
        no time was left to begin; its last good backup is of 2026-11-21 10:00:00 UTC
        the time was over before it was committed; its last good backup is of 2026-11-21 10:00:00 UTC
        the time was over before it was committed; it has no backup
        ");
    }

    #[test]
    fn a_budget_that_is_over_leaves_nothing() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let end = at("2026-11-21T10:00:25Z");
        assert_eq!(
            left(end, at("2026-11-21T10:00:05Z")),
            Duration::from_secs(20)
        );
        assert_eq!(left(end, at("2026-11-21T10:01:00Z")), Duration::ZERO);
    }
}
