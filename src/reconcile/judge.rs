//! Where a tenant stands, judged from what is wanted and what its agent's service does.
//! Pure; recording the judgement is the supervisor's business.

use super::view::UnitView;
use crate::host::systemd::ActiveState;
use crate::state::Wanted;
use crate::tenant::TenantState;

/// A state and why.
pub type Judgement = (TenantState, Option<String>);

/// Judges a tenant on which no operation is at work.
///
/// `None` leaves what is recorded: the service is between two states, or tells nothing new.
pub fn judge(
    recorded: TenantState,
    wanted: Wanted,
    held_because: Option<&str>,
    service: &UnitView,
    frozen: bool,
    sleeps: bool,
    dependency_failed: bool,
) -> Option<Judgement> {
    if recorded == TenantState::Terminated {
        return None;
    }
    let because = || held_because.map(str::to_owned);
    let judgement = match (&service.active, wanted) {
        (ActiveState::Inactive | ActiveState::Failed, Wanted::Running)
            if service.is_about_to_restart() =>
        {
            (TenantState::Restarting, Some(ending(service)))
        }
        (ActiveState::Inactive | ActiveState::Failed, Wanted::Suspended) => {
            (TenantState::Suspended, because())
        }
        (ActiveState::Inactive | ActiveState::Failed, Wanted::Stopped) => {
            (TenantState::Stopped, because())
        }
        (ActiveState::Active | ActiveState::Reloading, _) if frozen => (TenantState::Frozen, None),
        (ActiveState::Active | ActiveState::Reloading, _) => (TenantState::Running, None),
        (ActiveState::Activating, _) if service.restarts > 0 || service.sub == "auto-restart" => {
            (TenantState::Restarting, Some(ending(service)))
        }
        (ActiveState::Activating, _) => (TenantState::Starting, None),
        (ActiveState::Failed, _) => (TenantState::Failed, Some(ending(service))),
        // It was never started: systemd does not start what needs something that failed.
        (ActiveState::Inactive, Wanted::Running) if dependency_failed => (
            TenantState::Failed,
            Some("what it needs failed: its restore or its network namespace".to_owned()),
        ),
        // It is down until somebody comes.
        (ActiveState::Inactive, Wanted::Running) if sleeps => (TenantState::Asleep, None),
        // Nobody holds it, and yet it is down: an agent that ended by itself.
        (ActiveState::Inactive, Wanted::Running) if recorded == TenantState::Running => (
            TenantState::Stopped,
            Some("the agent ended by itself".to_owned()),
        ),
        (ActiveState::Inactive | ActiveState::Deactivating | ActiveState::Other(_), _) => {
            return None;
        }
    };
    Some(judgement)
}

/// How a service ended, in the operator's words. The results are those of
/// `org.freedesktop.systemd1(5)`, `Result`.
pub fn ending(service: &UnitView) -> String {
    let UnitView {
        result,
        status,
        restarts,
        ..
    } = service;
    let what = match result.as_str() {
        // The agent ended well, by SIGTERM, because what asked its start probe gave up.
        "exit-code" if matches!(status, 0 | 143) => "the agent was not ready in time".to_owned(),
        "exit-code" => format!("the agent ended with exit code {status}"),
        "signal" => format!("the agent was ended by signal {status}"),
        "core-dump" => format!("the agent crashed with signal {status} and dumped core"),
        "oom-kill" => "the agent was killed for lack of memory".to_owned(),
        "timeout" => "the agent did not start, or not stop, in time".to_owned(),
        "start-limit-hit" => "the agent crashed too often in a row".to_owned(),
        "watchdog" => "the agent's watchdog ran out".to_owned(),
        "resources" => "the host lacked something to start the agent".to_owned(),
        "success" => "the agent ended by itself".to_owned(),
        other => format!("the agent's service failed: {other}"),
    };
    match restarts {
        0 => what,
        1 => format!("{what}; restarted once"),
        times => format!("{what}; restarted {times} times"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn view(active: ActiveState, sub: &str) -> UnitView {
        UnitView {
            active,
            sub: sub.to_owned(),
            ..UnitView::default()
        }
    }

    #[rstest]
    #[case(
        Wanted::Running,
        view(ActiveState::Active, "running"),
        false,
        Some(TenantState::Running)
    )]
    #[case(
        Wanted::Running,
        view(ActiveState::Active, "running"),
        true,
        Some(TenantState::Frozen)
    )]
    #[case(
        Wanted::Running,
        view(ActiveState::Activating, "start-post"),
        false,
        Some(TenantState::Starting)
    )]
    #[case(
        Wanted::Running,
        view(ActiveState::Activating, "auto-restart"),
        false,
        Some(TenantState::Restarting)
    )]
    #[case(
        Wanted::Running,
        view(ActiveState::Failed, "failed-before-auto-restart"),
        false,
        Some(TenantState::Restarting)
    )]
    #[case(
        Wanted::Running,
        view(ActiveState::Inactive, "dead-before-auto-restart"),
        false,
        Some(TenantState::Restarting)
    )]
    #[case(
        Wanted::Running,
        view(ActiveState::Failed, "failed"),
        false,
        Some(TenantState::Failed)
    )]
    #[case(
        Wanted::Running,
        view(ActiveState::Inactive, "dead"),
        false,
        Some(TenantState::Stopped)
    )]
    #[case(Wanted::Running, view(ActiveState::Deactivating, "stop"), false, None)]
    #[case(
        Wanted::Stopped,
        view(ActiveState::Inactive, "dead"),
        false,
        Some(TenantState::Stopped)
    )]
    #[case(
        Wanted::Suspended,
        view(ActiveState::Failed, "failed"),
        false,
        Some(TenantState::Suspended)
    )]
    #[case(Wanted::Removed, view(ActiveState::Inactive, "dead"), false, None)]
    fn stands(
        #[case] wanted: Wanted,
        #[case] service: UnitView,
        #[case] frozen: bool,
        #[case] expected: Option<TenantState>,
    ) {
        let judged = judge(
            TenantState::Running,
            wanted,
            None,
            &service,
            frozen,
            false,
            false,
        );
        assert_eq!(judged.map(|(state, _)| state), expected);
    }

    #[test]
    fn an_agent_whose_restore_failed_has_failed_and_a_terminated_tenant_is_left_alone() {
        let down = view(ActiveState::Inactive, "dead");
        for (recorded, expected) in [
            (TenantState::Running, Some(TenantState::Failed)),
            (TenantState::Stopped, Some(TenantState::Failed)),
            (TenantState::Terminated, None),
        ] {
            let judged = judge(recorded, Wanted::Running, None, &down, false, true, true);
            assert_eq!(judged.map(|(state, _)| state), expected);
        }
    }

    #[test]
    fn an_agent_that_sleeps_and_is_down_is_asleep_but_not_one_that_is_held() {
        let down = view(ActiveState::Inactive, "dead");
        for (wanted, expected) in [
            (Wanted::Running, TenantState::Asleep),
            (Wanted::Stopped, TenantState::Stopped),
            (Wanted::Suspended, TenantState::Suspended),
        ] {
            for recorded in [
                TenantState::Running,
                TenantState::Frozen,
                TenantState::Stopped,
            ] {
                let judged = judge(recorded, wanted, None, &down, false, true, false);
                assert_eq!(judged.map(|(state, _)| state), Some(expected));
            }
        }
    }

    #[test]
    fn an_agent_that_was_ended_for_not_being_ready_is_not_said_to_have_ended() {
        for status in [0, 143] {
            let service = UnitView {
                result: "exit-code".to_owned(),
                status,
                ..UnitView::default()
            };
            assert_eq!(ending(&service), "the agent was not ready in time");
        }
    }

    #[test]
    fn an_ending_says_how_and_how_often() {
        let service = UnitView {
            result: "exit-code".to_owned(),
            status: 3,
            restarts: 5,
            ..UnitView::default()
        };
        insta::assert_snapshot!(
            ending(&service),
            @"the agent ended with exit code 3; restarted 5 times"
        );
    }
}
