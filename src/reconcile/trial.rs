//! What becomes of a revision on trial. Pure; who acts on it is `trials`.

use jiff::{SignedDuration, Timestamp};

use crate::state::{TenantRow, Trial, Wanted};
use crate::tenant::TenantState;

/// Crashes after which a revision that systemd brings back again and again is no good.
const MOST_CRASHES: u32 = 3;

/// The end of a trial that has failed, where going back has failed as well: when that is tried again is `recover`'s
/// affair, which knows of pauses.
pub const GOING_BACK_FAILED: Timestamp = Timestamp::MAX;

/// What to do about a trial now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing before this time, unless something happens.
    Wait(Timestamp),
    /// It crashed and is back, or on its way: the time of health begins anew.
    Anew {
        /// Crashes since the trial's begin.
        crashes: u32,
        /// The new end.
        ends_at: Timestamp,
    },
    /// Its time is over: it is good if it answers.
    Ask,
    /// It has failed.
    Failed(String),
    /// It is nobody's concern any more: another revision is installed, or the tenant is held. The next start
    /// of a held tenant begins a new trial.
    Over,
}

/// Judges a trial on whose tenant no operation is at work. `restarts` is systemd's count.
pub fn verdict(
    trial: &Trial,
    row: &TenantRow,
    restarts: u32,
    healthy_for: SignedDuration,
    now: Timestamp,
) -> Verdict {
    if row.current_revision != Some(trial.revision) || row.wanted != Wanted::Running {
        return Verdict::Over;
    }
    if let Some(failure) = &trial.failure {
        return match row.state {
            TenantState::Failed if trial.ends_at == GOING_BACK_FAILED => {
                Verdict::Wait(GOING_BACK_FAILED)
            }
            _ => Verdict::Failed(failure.clone()),
        };
    }
    let reason = || row.reason.clone();
    let crashes = restarts.saturating_sub(trial.restarts_before);
    match row.state {
        TenantState::Failed => {
            Verdict::Failed(reason().unwrap_or_else(|| "the agent failed".to_owned()))
        }
        _ if crashes > MOST_CRASHES => Verdict::Failed(format!(
            "the agent crashed {crashes} times{}",
            reason().map_or_else(String::new, |reason| format!(", lastly: {reason}"))
        )),
        _ if crashes > trial.crashes => Verdict::Anew {
            crashes,
            ends_at: later(now, healthy_for),
        },
        // One that sleeps is woken by being asked.
        TenantState::Running | TenantState::Frozen | TenantState::Asleep => {
            if now >= trial.ends_at {
                Verdict::Ask
            } else {
                Verdict::Wait(trial.ends_at)
            }
        }
        // On its way to another state; that is told, and else looked for.
        _ => Verdict::Wait(later(now, SignedDuration::from_secs(5)).max(trial.ends_at)),
    }
}

/// A time so much later, or the last there is.
pub fn later(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::quadlet::IdRange;
    use crate::state::OperationId;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn row(state: TenantState) -> TenantRow {
        TenantRow {
            id: "acme".parse().unwrap(),
            state,
            reason: Some("exit code 1".to_owned()),
            cause: None,
            wanted: Wanted::Running,
            held_because: None,
            source: None,
            current_revision: Some(4),
            good_revision: Some(3),
            id_range: IdRange::nth(0).unwrap(),
            created_at: at(0),
            changed_at: at(0),
        }
    }

    fn trial() -> Trial {
        Trial {
            tenant: "acme".parse().unwrap(),
            revision: 4,
            operation: OperationId::nil(),
            ends_at: at(60),
            restarts_before: 2,
            crashes: 1,
            failure: None,
            cause: None,
        }
    }

    #[rstest]
    #[case::its_time_goes_on(TenantState::Running, 3, 59, Verdict::Wait(at(60)))]
    #[case::its_time_is_over(TenantState::Running, 3, 60, Verdict::Ask)]
    #[case::another_crash(
        TenantState::Running, 4, 60, Verdict::Anew { crashes: 2, ends_at: at(120) }
    )]
    #[case::on_its_way_back(
        TenantState::Restarting, 4, 30, Verdict::Anew { crashes: 2, ends_at: at(90) }
    )]
    #[case::between_two_states(TenantState::Starting, 3, 70, Verdict::Wait(at(75)))]
    #[case::given_up(TenantState::Failed, 3, 30, Verdict::Failed("exit code 1".to_owned()))]
    #[case::one_crash_too_many(
        TenantState::Running, 6, 30,
        Verdict::Failed("the agent crashed 4 times, lastly: exit code 1".to_owned())
    )]
    // Systemd counts from nothing again after a start by hand.
    #[case::counted_anew(TenantState::Running, 0, 60, Verdict::Ask)]
    fn judged(
        #[case] state: TenantState,
        #[case] restarts: u32,
        #[case] now: i64,
        #[case] expected: Verdict,
    ) {
        let minute = SignedDuration::from_secs(60);
        assert_eq!(
            verdict(&trial(), &row(state), restarts, minute, at(now)),
            expected
        );
    }

    #[test]
    fn a_trial_ends_with_its_revision_and_pauses_with_its_tenant() {
        let judged = |row: &TenantRow| verdict(&trial(), row, 3, SignedDuration::ZERO, at(60));
        let other = TenantRow {
            current_revision: Some(5),
            ..row(TenantState::Running)
        };
        assert_eq!(judged(&other), Verdict::Over);
        let held = TenantRow {
            wanted: Wanted::Suspended,
            ..row(TenantState::Failed)
        };
        assert_eq!(judged(&held), Verdict::Over);
    }

    #[test]
    fn a_failure_that_was_recorded_stays_one() {
        let failed = Trial {
            failure: Some("no".to_owned()),
            ..trial()
        };
        let judged = verdict(
            &failed,
            &row(TenantState::Running),
            3,
            SignedDuration::ZERO,
            at(0),
        );
        assert_eq!(judged, Verdict::Failed("no".to_owned()));
        let stuck = row(TenantState::Failed);
        let judged = |trial: &Trial| verdict(trial, &stuck, 3, SignedDuration::ZERO, at(0));
        assert_eq!(judged(&failed), Verdict::Failed("no".to_owned()));
        let failed_again = Trial {
            ends_at: GOING_BACK_FAILED,
            ..failed
        };
        // Else at once, again and again.
        assert_eq!(judged(&failed_again), Verdict::Wait(GOING_BACK_FAILED));
    }
}
