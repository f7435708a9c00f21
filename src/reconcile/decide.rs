//! Which steps bring a tenant from what is observed to what is wanted.
//! Pure: no file, no process, no clock; the order of the steps is the reasoning.

use std::fmt;

use camino::Utf8PathBuf;
use serde::Serialize;

/// What is wanted of one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Desired {
    /// Its units are installed and its agent runs this revision.
    Running {
        /// The revision's number.
        revision: u64,
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
    /// The ingress socket listens.
    pub socket_listening: bool,
    /// Something else of the tenant's is loaded and active: door, awake, net, restore.
    pub helpers_active: bool,
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
    /// Opens the ingress socket.
    Listen,
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
            Self::Listen => "open the ingress socket",
            Self::StartAgent => "start the agent",
            Self::RestartAgent => "restart the agent",
        })
    }
}

/// Decides what to do next about one tenant; nothing when all is as wanted.
///
/// Held comes before stop, so that no door starts the agent again in between; remove
/// comes before install; start comes last.
pub fn decide(desired: &Desired, observed: &Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    let stands = observed.agent != Agent::Inactive;
    match desired {
        Desired::Absent => {
            if stands || observed.helpers_active || observed.socket_listening {
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
            if !observed.socket_listening {
                steps.push(Step::Listen);
            }
        }
        Desired::Running { revision } => {
            push_install(&mut steps, observed);
            if observed.held {
                steps.push(Step::Release);
            }
            if !observed.socket_listening {
                steps.push(Step::Listen);
            }
            match observed.agent {
                Agent::Inactive => steps.push(Step::StartAgent),
                Agent::Active | Agent::Starting
                    if observed
                        .running_revision
                        .is_some_and(|running| running != *revision) =>
                {
                    steps.push(Step::RestartAgent);
                }
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
        assert_eq!(decide(&Desired::Running { revision: 3 }, &settled()), []);
    }

    #[test]
    fn a_new_revision_is_installed_then_restarted() {
        let observed = Observed {
            differing: vec!["/a".into()],
            ..settled()
        };
        assert_eq!(
            decide(&Desired::Running { revision: 4 }, &observed),
            [
                Step::Install {
                    write: vec!["/a".into()],
                    remove: vec![]
                },
                Step::RestartAgent
            ]
        );
    }

    #[test]
    fn a_file_edited_by_hand_is_put_right_without_touching_the_agent() {
        let observed = Observed {
            differing: vec!["/a".into()],
            ..settled()
        };
        assert_eq!(
            decide(&Desired::Running { revision: 3 }, &observed),
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
        assert_eq!(decide(&Desired::Running { revision: 3 }, &observed), []);
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
            }
            Step::Install { .. } => {
                observed.differing.clear();
                observed.surplus.clear();
                observed.needs_reload = false;
            }
            Step::Reload => observed.needs_reload = false,
            Step::Listen => observed.socket_listening = true,
            Step::StartAgent | Step::RestartAgent => {
                let Desired::Running { revision } = desired else {
                    panic!("starts a held one")
                };
                assert!(!observed.held, "starts while held");
                observed.agent = Agent::Active;
                observed.running_revision = Some(*revision);
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
            socket_listening in any::<bool>(),
            helpers_active in any::<bool>(),
        ) -> Observed {
            let file = |there: bool| there.then(|| "/file".into()).into_iter().collect();
            Observed {
                differing: file(differing),
                surplus: file(surplus),
                needs_reload,
                held,
                agent,
                running_revision,
                socket_listening,
                helpers_active,
            }
        }
    }

    proptest! {
        #[test]
        fn steps_taken_once_leave_nothing_to_do(
            mut observed in any_observed(),
            desired in prop_oneof![
                (1_u64..4).prop_map(|revision| Desired::Running { revision }),
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
            let desired = Desired::Running { revision: 2 };
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
