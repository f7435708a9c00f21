//! Which steps bring a tenant from what is observed to what is wanted.
//! Pure: no file, no process, no clock; the order of the steps is the reasoning.

use std::fmt;

use camino::Utf8PathBuf;
use serde::Serialize;

use crate::tenant::WakeMode;

/// What is wanted of one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Desired {
    /// Its units are installed and its agent runs this revision.
    Running {
        /// The revision's number.
        revision: u64,
        /// When its agent runs: one that sleeps may be down.
        wake: WakeMode,
    },
    /// Its units are installed, and nothing may wake it.
    Held,
    /// None of its units is there.
    Absent,
}

/// What was found of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one independent look at the host"
)]
pub struct Observed {
    /// Files of the wanted unit set that are missing or differ.
    pub differing: Vec<Utf8PathBuf>,
    /// Files in the tenant's places that no wanted unit set has.
    pub surplus: Vec<Utf8PathBuf>,
    /// systemd has not loaded what is on disk.
    pub needs_reload: bool,
    /// The held file is there.
    pub held: bool,
    /// The agent's service runs, starts or waits for its next start.
    pub agent: Agent,
    /// The revision of the container that runs, by its label.
    pub running_revision: Option<u64>,
    /// How the container that runs differs from what the wanted revision makes of it.
    pub difference: Difference,
    /// The tenant's journal runs by older settings than those that are installed.
    pub journal_outdated: bool,
    /// The file system keeps another storage limit than the wanted one.
    pub storage_outdated: bool,
    /// The endpoints' door runs by older settings than those that are installed, or without any.
    pub endpoints_outdated: bool,
    /// The ingress socket listens.
    pub socket_listening: bool,
    /// The timer that wakes it at regular times is at work.
    pub timer_active: bool,
    /// The egress sockets are open, and the tenant is to have none.
    pub egress_unwanted: bool,
    /// Something else of the tenant's is loaded and active: door, awake, net, restore.
    pub helpers_active: bool,
}

/// How a container that runs differs from what the wanted revision makes of it. Its label may name another
/// revision, and its limits those of a third: they are changed while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Difference {
    /// In more than limits, if its revision is another: only a start brings the wanted one in.
    #[default]
    Agent,
    /// In limits only: not all of the wanted ones are in force.
    Limits,
    /// In limits only, and it holds more memory than it would have.
    TooLarge,
    /// In nothing that matters: the wanted limits are in force.
    InForce,
}

/// How the agent's service stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Agent {
    /// Not there, not running.
    #[default]
    Inactive,
    /// Running.
    Active,
    /// On its way up, or between two automatic restarts.
    Starting,
    /// Given up by systemd.
    Failed,
}

/// One step. Each can be repeated, and is recorded before it is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Writes the held file: nothing wakes the tenant from here on.
    Hold,
    /// Removes the held file.
    Release,
    /// Stops the agent, thawing it first if it is frozen.
    StopAgent,
    /// Stops the tenant's sockets, doors and helpers, and its network namespace.
    StopHelpers,
    /// Makes the installed files those of the unit set and has systemd load them.
    Install {
        /// Files to write.
        write: Vec<Utf8PathBuf>,
        /// Files to remove.
        remove: Vec<Utf8PathBuf>,
    },
    /// Has systemd load what is on disk, after an install that was cut short.
    Reload,
    /// Has the tenant's journal take its new settings; what it holds stays.
    RestartJournal,
    /// Has the file system keep the storage limit.
    LimitStorage,
    /// Ends the endpoints' door; the next request starts one with the settings that are installed.
    RenewEndpoints,
    /// Opens the ingress socket.
    Listen,
    /// Has the agent woken at regular times.
    StartTimer,
    /// Ends that.
    StopTimer,
    /// Closes the egress sockets of a tenant that may not leave any more.
    CloseEgress,
    /// Gives the container that runs its new limits.
    AdjustLimits,
    /// Starts the agent and waits until its start probe passes.
    StartAgent,
    /// Stops and starts the agent, because another revision runs.
    RestartAgent,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hold => "hold",
            Self::Release => "release",
            Self::StopAgent => "stop the agent",
            Self::StopHelpers => "stop doors and namespace",
            Self::Install { .. } => "install units",
            Self::Reload => "reload systemd",
            Self::RestartJournal => "restart the journal for its new limits",
            Self::LimitStorage => "set the storage limit",
            Self::RenewEndpoints => "renew the door of the endpoints",
            Self::Listen => "open the ingress socket",
            Self::StartTimer => "start the timer that wakes the agent",
            Self::StopTimer => "stop the timer that wakes the agent",
            Self::CloseEgress => "close the egress sockets",
            Self::AdjustLimits => "change the limits of the running agent",
            Self::StartAgent => "start the agent",
            Self::RestartAgent => "restart the agent",
        })
    }
}

/// Decides what to do next about one tenant; nothing when all is as wanted.
///
/// Held comes before stop, so that no door starts the agent again in between; remove
/// comes before install; start comes last. The slice's limits come with the install: systemd
/// takes them in with its reload. So an agent that would be killed by them is stopped before.
pub fn decide(desired: &Desired, observed: &Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    let stands = observed.agent != Agent::Inactive;
    match desired {
        Desired::Absent => {
            if stands
                || observed.helpers_active
                || observed.socket_listening
                || observed.timer_active
            {
                if !observed.held {
                    steps.push(Step::Hold);
                }
                if stands {
                    steps.push(Step::StopAgent);
                }
                steps.push(Step::StopHelpers);
            }
            push_install(&mut steps, observed);
        }
        Desired::Held => {
            if !observed.held {
                steps.push(Step::Hold);
            }
            if stands {
                steps.push(Step::StopAgent);
            }
            push_install(&mut steps, observed);
            push_limits(&mut steps, observed);
            if !observed.socket_listening {
                steps.push(Step::Listen);
            }
        }
        Desired::Running { revision, wake } => {
            let running = observed.running_revision;
            let has_container =
                matches!(observed.agent, Agent::Active | Agent::Starting) && running.is_some();
            let is_too_large = has_container && observed.difference == Difference::TooLarge;
            if is_too_large {
                steps.push(Step::StopAgent);
            }
            // Before its settings go.
            if observed.timer_active && *wake != WakeMode::Scheduled {
                steps.push(Step::StopTimer);
            }
            push_install(&mut steps, observed);
            push_limits(&mut steps, observed);
            if observed.held {
                steps.push(Step::Release);
            }
            if !observed.socket_listening {
                steps.push(Step::Listen);
            }
            if !observed.timer_active && *wake == WakeMode::Scheduled {
                steps.push(Step::StartTimer);
            }
            match observed.agent {
                Agent::Inactive if wake.sleeps() => {}
                Agent::Inactive => steps.push(Step::StartAgent),
                Agent::Active | Agent::Starting if is_too_large => steps.push(Step::StartAgent),
                Agent::Active | Agent::Starting if has_container => match observed.difference {
                    Difference::Agent if running != Some(*revision) => {
                        steps.push(Step::RestartAgent);
                    }
                    Difference::Limits => steps.push(Step::AdjustLimits),
                    Difference::Agent | Difference::TooLarge | Difference::InForce => {}
                },
                // systemd has given up, or is at it: starting again is an operator's or a
                // policy's decision, not drift.
                Agent::Active | Agent::Starting | Agent::Failed => {}
            }
        }
    }
    steps
}

fn push_install(steps: &mut Vec<Step>, observed: &Observed) {
    if !observed.differing.is_empty() || !observed.surplus.is_empty() {
        steps.push(Step::Install {
            write: observed.differing.clone(),
            remove: observed.surplus.clone(),
        });
    } else if observed.needs_reload {
        steps.push(Step::Reload);
    }
}

/// What stands outside of the agent, which need not notice.
fn push_limits(steps: &mut Vec<Step>, observed: &Observed) {
    if observed.journal_outdated {
        steps.push(Step::RestartJournal);
    }
    if observed.storage_outdated {
        steps.push(Step::LimitStorage);
    }
    if observed.egress_unwanted {
        steps.push(Step::CloseEgress);
    }
    if observed.endpoints_outdated {
        steps.push(Step::RenewEndpoints);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn settled() -> Observed {
        Observed {
            agent: Agent::Active,
            running_revision: Some(3),
            socket_listening: true,
            helpers_active: true,
            ..Observed::default()
        }
    }

    #[test]
    fn a_settled_tenant_needs_nothing() {
        assert_eq!(decide(&running(3), &settled()), []);
    }

    #[test]
    fn a_new_revision_is_installed_then_restarted() {
        let observed = Observed {
            differing: vec!["/a".into()],
            ..settled()
        };
        assert_eq!(
            decide(&running(4), &observed),
            [
                Step::Install {
                    write: vec!["/a".into()],
                    remove: vec![]
                },
                Step::RestartAgent
            ]
        );
    }

    #[rstest]
    #[case(Difference::Agent, vec![install(), Step::RestartAgent])]
    #[case(Difference::Limits, vec![install(), Step::AdjustLimits])]
    #[case(Difference::InForce, vec![install()])]
    #[case(Difference::TooLarge, vec![Step::StopAgent, install(), Step::StartAgent])]
    fn an_agent_runs_on_where_only_limits_change(
        #[case] difference: Difference,
        #[case] steps: Vec<Step>,
    ) {
        let observed = Observed {
            differing: vec!["/a".into()],
            difference,
            ..settled()
        };
        assert_eq!(decide(&running(4), &observed), steps);
    }

    #[rstest]
    #[case(Difference::Limits, vec![Step::AdjustLimits])]
    #[case(Difference::TooLarge, vec![Step::StopAgent, Step::StartAgent])]
    #[case(Difference::InForce, vec![])]
    fn limits_of_a_revision_that_failed_are_taken_back(
        #[case] difference: Difference,
        #[case] steps: Vec<Step>,
    ) {
        let observed = Observed {
            difference,
            ..settled()
        };
        assert_eq!(decide(&running(3), &observed), steps);
    }

    #[test]
    fn limits_outside_of_the_agent_are_put_right_without_it() {
        let observed = Observed {
            journal_outdated: true,
            storage_outdated: true,
            ..settled()
        };
        assert_eq!(
            decide(&running(3), &observed),
            [Step::RestartJournal, Step::LimitStorage]
        );
    }

    fn install() -> Step {
        Step::Install {
            write: vec!["/a".into()],
            remove: vec![],
        }
    }

    #[test]
    fn a_file_edited_by_hand_is_put_right_without_touching_the_agent() {
        let observed = Observed {
            differing: vec!["/a".into()],
            ..settled()
        };
        assert_eq!(
            decide(&running(3), &observed),
            [Step::Install {
                write: vec!["/a".into()],
                remove: vec![]
            },]
        );
    }

    #[rstest]
    #[case(Agent::Active, vec![Step::Hold, Step::StopAgent])]
    #[case(Agent::Starting, vec![Step::Hold, Step::StopAgent])]
    #[case(Agent::Failed, vec![Step::Hold, Step::StopAgent])]
    #[case(Agent::Inactive, vec![Step::Hold])]
    fn a_tenant_is_held_before_it_is_stopped(#[case] agent: Agent, #[case] steps: Vec<Step>) {
        assert_eq!(
            decide(&Desired::Held, &Observed { agent, ..settled() }),
            steps
        );
    }

    #[test]
    fn an_agent_that_systemd_gave_up_is_not_started_by_drift_repair() {
        let observed = Observed {
            agent: Agent::Failed,
            ..settled()
        };
        assert_eq!(decide(&running(3), &observed), []);
    }

    /// What each step does to the world, as far as `decide` can see it.
    fn take(step: &Step, desired: &Desired, observed: &mut Observed) {
        match step {
            Step::Hold => observed.held = true,
            Step::Release => observed.held = false,
            Step::StopAgent => {
                observed.agent = Agent::Inactive;
                observed.running_revision = None;
            }
            Step::StopHelpers => {
                observed.helpers_active = false;
                observed.socket_listening = false;
                observed.timer_active = false;
            }
            Step::Install { .. } => {
                observed.differing.clear();
                observed.surplus.clear();
                observed.needs_reload = false;
            }
            Step::Reload => observed.needs_reload = false,
            Step::RestartJournal => observed.journal_outdated = false,
            Step::LimitStorage => observed.storage_outdated = false,
            Step::CloseEgress => observed.egress_unwanted = false,
            Step::RenewEndpoints => observed.endpoints_outdated = false,
            Step::AdjustLimits => {
                assert!(observed.running_revision.is_some());
                observed.difference = Difference::InForce;
            }
            Step::Listen => observed.socket_listening = true,
            Step::StartTimer => observed.timer_active = true,
            Step::StopTimer => observed.timer_active = false,
            Step::StartAgent | Step::RestartAgent => {
                let Desired::Running { revision, .. } = desired else {
                    panic!("starts a held one")
                };
                assert!(!observed.held, "starts while held");
                observed.agent = Agent::Active;
                observed.running_revision = Some(*revision);
                observed.difference = Difference::InForce;
                observed.helpers_active = true;
            }
        }
    }

    prop_compose! {
        fn any_observed()(
            differing in any::<bool>(),
            surplus in any::<bool>(),
            needs_reload in any::<bool>(),
            held in any::<bool>(),
            agent in prop_oneof![
                Just(Agent::Inactive), Just(Agent::Active), Just(Agent::Starting), Just(Agent::Failed)
            ],
            running_revision in proptest::option::of(1_u64..4),
            difference in prop_oneof![
                Just(Difference::Agent), Just(Difference::Limits), Just(Difference::TooLarge),
                Just(Difference::InForce)
            ],
            journal_outdated in any::<bool>(),
            storage_outdated in any::<bool>(),
            endpoints_outdated in any::<bool>(),
            socket_listening in any::<bool>(),
            egress_unwanted in any::<bool>(),
            helpers_active in any::<bool>(),
            timer_active in any::<bool>(),
        ) -> Observed {
            let file = |there: bool| there.then(|| "/file".into()).into_iter().collect();
            Observed {
                differing: file(differing),
                surplus: file(surplus),
                needs_reload,
                held,
                agent,
                running_revision,
                difference,
                journal_outdated,
                storage_outdated,
                endpoints_outdated,
                socket_listening,
                egress_unwanted,
                helpers_active,
                timer_active,
            }
        }
    }

    const fn running(revision: u64) -> Desired {
        Desired::Running {
            revision,
            wake: WakeMode::AlwaysOn,
        }
    }

    fn any_wake() -> impl Strategy<Value = WakeMode> {
        prop_oneof![
            Just(WakeMode::AlwaysOn),
            Just(WakeMode::OnDemand),
            Just(WakeMode::Scheduled)
        ]
    }

    #[test]
    fn an_agent_that_sleeps_is_not_started_by_drift_repair_and_one_that_polls_has_its_timer() {
        let asleep = Observed {
            agent: Agent::Inactive,
            running_revision: None,
            ..settled()
        };
        let desired = |wake| Desired::Running { revision: 3, wake };
        assert_eq!(decide(&desired(WakeMode::OnDemand), &asleep), []);
        assert_eq!(
            decide(&desired(WakeMode::Scheduled), &asleep),
            [Step::StartTimer]
        );
        let timed = Observed {
            timer_active: true,
            ..asleep
        };
        assert_eq!(decide(&desired(WakeMode::Scheduled), &timed), []);
        assert_eq!(
            decide(&desired(WakeMode::AlwaysOn), &timed),
            [Step::StopTimer, Step::StartAgent]
        );
    }

    proptest! {
        #[test]
        fn steps_taken_once_leave_nothing_to_do(
            mut observed in any_observed(),
            desired in prop_oneof![
                (1_u64..4, any_wake())
                    .prop_map(|(revision, wake)| Desired::Running { revision, wake }),
                Just(Desired::Held),
                Just(Desired::Absent),
            ],
        ) {
            for step in decide(&desired, &observed) {
                take(&step, &desired, &mut observed);
            }
            prop_assert_eq!(decide(&desired, &observed), []);
        }

        #[test]
        fn a_crash_after_any_step_converges(
            mut observed in any_observed(),
            crashes in proptest::collection::vec(0_usize..6, 0..6),
        ) {
            let desired = running(2);
            for crash in crashes {
                for step in decide(&desired, &observed).iter().take(crash) {
                    take(step, &desired, &mut observed);
                }
            }
            for step in decide(&desired, &observed) {
                take(&step, &desired, &mut observed);
            }
            prop_assert_eq!(decide(&desired, &observed), []);
        }
    }
}
