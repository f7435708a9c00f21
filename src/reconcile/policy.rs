//! What follows from failures: when an agent that systemd gave up is started again, when nothing is
//! tried any more, which images are not tried again, and when a silent agent is restarted.
//! Pure: rows and times in, decisions out.

use jiff::{SignedDuration, Timestamp};

use crate::node::FailureSettings;
use crate::state::{Retry, Rollback, Wanted};
use crate::tenant::{FailureCause, TenantId, TenantState};

/// Parts of a pause by which tenants differ, so that those that failed together are not started together.
const JITTER_PARTS: u64 = 5;

/// First pause in seconds where not the agent failed but what tenantd or the host does for it: a host that boots
/// and was too slow for a moment should not keep a tenant waiting as a crash loop does.
const SOON: u64 = 20;

/// What tenantd does by itself about a tenant that stands as it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing: it is well, held, ending, or only an operator can help.
    Nothing,
    /// Remember when it is to be tried.
    Plan(Timestamp),
    /// Start it now.
    Try,
    /// It has run for long: what is remembered of failures is forgotten.
    Settled,
}

/// A tenant as the policy sees it.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// The tenant.
    pub tenant: &'a TenantId,
    /// Where it stands.
    pub state: TenantState,
    /// What is wanted of it.
    pub wanted: Wanted,
    /// Why it failed.
    pub cause: Option<FailureCause>,
    /// Since when it stands there.
    pub since: Timestamp,
    /// Whether it has units.
    pub is_installed: bool,
    /// What was tried.
    pub retry: Retry,
    /// Whether its breaker is open.
    pub is_broken: bool,
}

/// Decides what to do about one tenant on which no operation is at work.
pub fn recovery(standing: &Standing<'_>, settings: &FailureSettings, now: Timestamp) -> Recovery {
    let Standing { state, retry, .. } = *standing;
    if state == TenantState::Running && retry != Retry::default() {
        let settled = plus(standing.since, longest(settings));
        return if now >= settled {
            Recovery::Settled
        } else {
            Recovery::Nothing
        };
    }
    let may_pass = standing.cause.is_none_or(FailureCause::may_pass);
    let is_wanted = standing.wanted == Wanted::Running && standing.is_installed;
    if state != TenantState::Failed || !is_wanted || !may_pass || standing.is_broken {
        return Recovery::Nothing;
    }
    match retry.next_try {
        Some(at) if at <= now => Recovery::Try,
        Some(_) => Recovery::Nothing,
        None => {
            let pause = pause(retry.attempts, standing.cause, settings, standing.tenant);
            Recovery::Plan(plus(now, pause))
        }
    }
}

/// The pause before the next try: it doubles up to the longest, and differs a little from tenant to tenant. It begins
/// short where the cause is not the agent's.
pub fn pause(
    attempts: u32,
    cause: Option<FailureCause>,
    settings: &FailureSettings,
    tenant: &TenantId,
) -> SignedDuration {
    let usual = u64::from(settings.retry_after.seconds());
    let first = match cause {
        Some(FailureCause::Dependency | FailureCause::Host) => usual.min(SOON),
        _ => usual,
    };
    let longest = u64::from(settings.retry_at_most.seconds()).max(first);
    let doubled = first.saturating_mul(1 << attempts.min(16)).min(longest);
    let hash = blake3::hash(format!("{tenant}/{attempts}").as_bytes());
    let share = u64::from(hash.as_bytes()[0]);
    let jitter = doubled * share / (JITTER_PARTS * 256);
    SignedDuration::from_secs(i64::try_from(doubled - jitter).unwrap_or(i64::MAX))
}

fn longest(settings: &FailureSettings) -> SignedDuration {
    SignedDuration::from_secs(settings.retry_at_most.seconds().into())
}

fn plus(at: Timestamp, duration: SignedDuration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// An open breaker: nothing new is tried by itself until an operator says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// How many rollbacks opened it.
    pub rollbacks: usize,
    /// When the first of them was.
    pub since: Timestamp,
}

/// Whether so many rollbacks in so short a time have opened the breaker. It stays open until an operator
/// closes it, however long ago they were.
pub fn breaker(rollbacks: &[Rollback], settings: &FailureSettings) -> Option<Breaker> {
    let limit = usize::try_from(settings.rollbacks)
        .unwrap_or(usize::MAX)
        .max(1);
    let mut counted: Vec<_> = rollbacks
        .iter()
        .filter(|rollback| rollback.counts)
        .map(|rollback| rollback.at)
        .collect();
    counted.sort();
    let window = SignedDuration::from_secs(settings.rollback_window.seconds().into());
    let run = counted
        .windows(limit)
        .find(|run| run[limit - 1].duration_since(run[0]) <= window)?;
    Some(Breaker {
        rollbacks: limit,
        since: run[0],
    })
}

/// The revision in which `image` has failed this tenant before, if it has.
pub fn failed_before(rollbacks: &[Rollback], image: &str) -> Option<u64> {
    let mut blamed = rollbacks
        .iter()
        .filter(|rollback| rollback.image.as_deref() == Some(image));
    blamed.next_back().map(|rollback| rollback.revision)
}

/// The image to blame for a revision that was rolled back: it is, where the agent failed and the image is
/// what was new. A full disk or a broken host says nothing about an image.
pub fn blamed<'a>(cause: Option<FailureCause>, failed: &'a str, good: &str) -> Option<&'a str> {
    let is_agents = cause.is_some_and(FailureCause::is_the_agents);
    (is_agents && failed != good).then_some(failed)
}

/// Whether an agent is to be restarted because it does not answer: so many live probes in a row have failed,
/// all since it was started.
pub fn is_unhealthy(
    failures: &[Timestamp],
    active_since: Option<Timestamp>,
    settings: &FailureSettings,
) -> bool {
    let Some(active_since) = active_since else {
        return false;
    };
    let since = failures.iter().filter(|at| **at > active_since).count();
    since
        >= usize::try_from(settings.unhealthy_after)
            .unwrap_or(usize::MAX)
            .max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::tenant::Period;

    fn at(minute: i64) -> Timestamp {
        let begin: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        plus(begin, SignedDuration::from_mins(minute))
    }

    fn rollback(revision: u64, minute: i64, image: Option<&str>) -> Rollback {
        Rollback {
            revision,
            at: at(minute),
            image: image.map(str::to_owned),
            cause: None,
            counts: true,
        }
    }

    fn settings() -> FailureSettings {
        FailureSettings::default()
    }

    fn acme() -> TenantId {
        "acme".parse().unwrap()
    }

    fn failed(tenant: &TenantId) -> Standing<'_> {
        Standing {
            tenant,
            state: TenantState::Failed,
            wanted: Wanted::Running,
            cause: Some(FailureCause::CrashLoop),
            since: at(0),
            is_installed: true,
            retry: Retry::default(),
            is_broken: false,
        }
    }

    #[test]
    fn what_failed_is_planned_then_tried_and_not_before() {
        let tenant = acme();
        let standing = failed(&tenant);
        let Recovery::Plan(next) = recovery(&standing, &settings(), at(0)) else {
            panic!("nothing is planned");
        };
        assert!(next > at(0) && next <= at(1), "{next}");
        let retry = Retry {
            attempts: 0,
            next_try: Some(next),
        };
        let planned = Standing { retry, ..standing };
        assert_eq!(recovery(&planned, &settings(), at(0)), Recovery::Nothing);
        assert_eq!(recovery(&planned, &settings(), next), Recovery::Try);
    }

    #[rstest]
    #[case::held(|standing: &mut Standing<'_>| standing.wanted = Wanted::Stopped)]
    #[case::suspended(|standing: &mut Standing<'_>| standing.wanted = Wanted::Suspended)]
    #[case::ending(|standing: &mut Standing<'_>| standing.wanted = Wanted::Removed)]
    #[case::without_units(|standing: &mut Standing<'_>| standing.is_installed = false)]
    #[case::broken(|standing: &mut Standing<'_>| standing.is_broken = true)]
    #[case::cannot_migrate(|standing: &mut Standing<'_>| standing.cause = Some(FailureCause::FatalExitCode))]
    #[case::systemd_is_at_it(|standing: &mut Standing<'_>| standing.state = TenantState::Restarting)]
    fn nothing_is_tried(#[case] change: fn(&mut Standing<'_>)) {
        let tenant = acme();
        let mut standing = failed(&tenant);
        standing.retry.next_try = Some(at(0));
        change(&mut standing);
        assert_eq!(recovery(&standing, &settings(), at(1)), Recovery::Nothing);
    }

    #[test]
    fn an_agent_that_has_run_for_long_begins_anew() {
        let tenant = acme();
        let retry = Retry {
            attempts: 3,
            next_try: None,
        };
        let running = Standing {
            state: TenantState::Running,
            retry,
            ..failed(&tenant)
        };
        assert_eq!(recovery(&running, &settings(), at(59)), Recovery::Nothing);
        assert_eq!(recovery(&running, &settings(), at(60)), Recovery::Settled);
    }

    #[rstest]
    #[case::three_in_a_day(&[0, 100, 200], true)]
    #[case::two(&[0, 100], false)]
    #[case::three_in_a_week(&[0, 3000, 6000], false)]
    #[case::the_last_three_of_four(&[0, 5000, 5001, 5002], true)]
    fn three_rollbacks_in_a_day_open_the_breaker(#[case] minutes: &[i64], #[case] open: bool) {
        let rollbacks: Vec<_> = (1..)
            .zip(minutes)
            .map(|(revision, minute)| rollback(revision, *minute, None))
            .collect();
        assert_eq!(breaker(&rollbacks, &settings()).is_some(), open);
        let forgiven: Vec<_> = rollbacks
            .into_iter()
            .map(|rollback| Rollback {
                counts: false,
                ..rollback
            })
            .collect();
        assert_eq!(breaker(&forgiven, &settings()), None);
    }

    #[test]
    fn an_image_is_blamed_where_it_is_what_was_new_and_the_agent_failed() {
        let loops = Some(FailureCause::CrashLoop);
        assert_eq!(blamed(loops, "b", "a"), Some("b"));
        assert_eq!(blamed(loops, "a", "a"), None, "the spec is to blame");
        assert_eq!(blamed(Some(FailureCause::StorageFull), "b", "a"), None);
        assert_eq!(blamed(None, "b", "a"), None);
        let rollbacks = [rollback(2, 0, Some("b")), rollback(3, 1, None)];
        assert_eq!(failed_before(&rollbacks, "b"), Some(2));
        assert_eq!(failed_before(&rollbacks, "a"), None);
    }

    #[rstest]
    #[case::three_since_its_start(&[1, 2, 3], Some(0), true)]
    #[case::one_was_before_it(&[1, 2, 3], Some(1), false)]
    #[case::it_is_not_up(&[1, 2, 3], None, false)]
    #[case::not_enough(&[1, 2], Some(0), false)]
    fn a_silent_agent_is_restarted_after_three_failures_since_its_start(
        #[case] minutes: &[i64],
        #[case] since: Option<i64>,
        #[case] expected: bool,
    ) {
        let failures: Vec<_> = minutes.iter().map(|minute| at(*minute)).collect();
        assert_eq!(
            is_unhealthy(&failures, since.map(at), &settings()),
            expected
        );
    }

    #[rstest]
    #[case::the_agent_failed(FailureCause::CrashLoop, 0, 48..=60)]
    #[case::it_failed_again(FailureCause::CrashLoop, 1, 96..=120)]
    #[case::what_it_needs_failed(FailureCause::Dependency, 0, 16..=20)]
    #[case::the_host_failed(FailureCause::Host, 0, 16..=20)]
    #[case::what_it_needs_failed_again(FailureCause::Dependency, 2, 64..=80)]
    #[case::what_it_needs_fails_for_ever(FailureCause::Dependency, 20, 2880..=3600)]
    fn what_is_not_the_agents_fault_is_tried_again_soon(
        #[case] cause: FailureCause,
        #[case] attempts: u32,
        #[case] seconds: std::ops::RangeInclusive<i64>,
    ) {
        let pause = pause(attempts, Some(cause), &settings(), &acme());
        assert!(seconds.contains(&pause.as_secs()), "{pause}");
        // Whoever wants it sooner gets it sooner.
        let hasty = FailureSettings {
            retry_after: Period::from_seconds(2),
            ..settings()
        };
        let pause = super::pause(0, Some(cause), &hasty, &acme());
        assert!(pause <= SignedDuration::from_secs(2), "{pause}");
    }

    proptest! {
        #[test]
        fn pauses_stay_within_their_bounds(
            attempts in 0_u32..1000,
            cause in proptest::sample::select(FailureCause::ALL.to_vec()),
            id in "[a-z]{1,8}",
        ) {
            let pause = pause(attempts, Some(cause), &settings(), &id.parse().unwrap());
            prop_assert!(pause >= SignedDuration::from_secs(16), "{pause}");
            prop_assert!(pause <= SignedDuration::from_hours(1), "{pause}");
        }
    }
}
