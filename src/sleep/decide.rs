//! When an agent is put to sleep, and how deep: pure decisions over what was seen.
//! No clock: times are lengths that the caller measured by one that never jumps.

use std::time::Duration;

use crate::tenant::{SleepTimes, TenantId};

/// An agent that computes more than this (thousandths of one processor) is at work, whoever is connected.
const BUSY_CPU: u32 = 50;

/// Frozen for so long, its memory is paged out: one that is woken again at once need not be read back.
const PAGE_OUT_AFTER: Duration = Duration::from_mins(1);

/// From this share of ten seconds in which something on the host waited for memory (hundredths of a percent), agents
/// that are frozen are stopped.
const PRESSURE: u32 = 1000;

/// How an agent stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agent {
    /// Its container does not run.
    Down,
    /// It runs.
    Runs,
    /// It was put to sleep so long ago; whether its memory was paged out.
    Frozen {
        /// Since when, at least.
        length: Duration,
        /// Its memory was given back already.
        paged_out: bool,
    },
    /// Somebody else keeps it still or is about to: a backup, a person.
    Others,
}

/// What its door last said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// There is none.
    Absent,
    /// Somebody has, or had not long ago, something for the agent; or its idle probe does not agree.
    Active,
    /// Nobody had for as long as the spec says.
    Idle,
}

/// One tenant, as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its agent.
    pub agent: Agent,
    /// Its door.
    pub door: Door,
    /// Nothing wakes a held tenant, and nothing needs to put it to sleep.
    pub held: bool,
    /// Since it was last woken, by whomever.
    pub woken: Duration,
    /// What it computed lately, in thousandths of a processor; none when it was not measured yet.
    pub cpu: Option<u32>,
    /// Since something last left its namespace; none when nothing is known.
    pub egress: Option<Duration>,
    /// Whether there is swap that memory could go to.
    pub has_swap: bool,
}

/// What to do with a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Leave,
    /// Start its door, which alone can tell when it is idle.
    OpenDoor,
    /// Close its connections and freeze it.
    Freeze,
    /// Page its memory out.
    PageOut,
    /// Stop it.
    Stop,
}

/// Decides about one tenant whose wake mode lets it sleep.
pub fn decide(seen: &Seen, times: &SleepTimes) -> Step {
    let after = Duration::from(times.after);
    let stop_after = Duration::from(times.stop_after);
    match seen.agent {
        _ if seen.held => Step::Leave,
        Agent::Down | Agent::Others => Step::Leave,
        Agent::Frozen { length, .. } if length >= stop_after => Step::Stop,
        Agent::Frozen { length, paged_out } => {
            if !paged_out && seen.has_swap && length >= PAGE_OUT_AFTER {
                Step::PageOut
            } else {
                Step::Leave
            }
        }
        Agent::Runs => match seen.door {
            Door::Absent => Step::OpenDoor,
            Door::Active => Step::Leave,
            Door::Idle => {
                let is_quiet = |ago: Duration| ago >= after;
                let rests = seen.woken >= after
                    && seen.cpu.is_some_and(|cpu| cpu < BUSY_CPU)
                    && seen.egress.is_none_or(is_quiet);
                if rests { Step::Freeze } else { Step::Leave }
            }
        },
    }
}

/// Who of the frozen tenants is stopped because the host is short of memory: one at a time, the one that has slept
/// longest, so that the next look sees what it brought.
pub fn relieve<'a>(
    frozen: impl IntoIterator<Item = (&'a TenantId, Duration)>,
    pressure: Option<u32>,
) -> Option<&'a TenantId> {
    if pressure.is_none_or(|pressure| pressure < PRESSURE) {
        return None;
    }
    let longest = frozen.into_iter().max_by_key(|(_, length)| *length);
    longest.map(|(tenant, _)| tenant)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const fn minutes(count: u64) -> Duration {
        Duration::from_secs(count * 60)
    }

    fn idle() -> Seen {
        Seen {
            agent: Agent::Runs,
            door: Door::Idle,
            held: false,
            woken: minutes(10),
            cpu: Some(3),
            egress: None,
            has_swap: true,
        }
    }

    fn frozen(length: Duration, paged_out: bool) -> Seen {
        Seen {
            agent: Agent::Frozen { length, paged_out },
            ..idle()
        }
    }

    #[test]
    fn an_agent_that_has_nothing_to_do_is_frozen() {
        assert_eq!(decide(&idle(), &SleepTimes::default()), Step::Freeze);
    }

    #[rstest]
    #[case::somebody_is_connected(Seen { door: Door::Active, ..idle() }, Step::Leave)]
    #[case::nobody_can_tell(Seen { door: Door::Absent, ..idle() }, Step::OpenDoor)]
    #[case::woken_by_a_timer(Seen { woken: minutes(9), ..idle() }, Step::Leave)]
    #[case::it_computes(Seen { cpu: Some(700), ..idle() }, Step::Leave)]
    #[case::not_measured_yet(Seen { cpu: None, ..idle() }, Step::Leave)]
    #[case::it_asks_others(Seen { egress: Some(minutes(2)), ..idle() }, Step::Leave)]
    #[case::it_asked_long_ago(Seen { egress: Some(minutes(11)), ..idle() }, Step::Freeze)]
    #[case::a_backup_is_at_it(Seen { agent: Agent::Others, ..idle() }, Step::Leave)]
    #[case::held(Seen { held: true, ..idle() }, Step::Leave)]
    #[case::down(Seen { agent: Agent::Down, ..idle() }, Step::Leave)]
    fn an_agent_with_something_to_do_is_left_alone(#[case] seen: Seen, #[case] step: Step) {
        assert_eq!(decide(&seen, &SleepTimes::default()), step);
    }

    #[rstest]
    #[case::just_now(frozen(minutes(0), false), Step::Leave)]
    #[case::for_a_minute(frozen(minutes(1), false), Step::PageOut)]
    #[case::paged_out(frozen(minutes(1), true), Step::Leave)]
    #[case::without_swap(Seen { has_swap: false, ..frozen(minutes(60), false) }, Step::Leave)]
    #[case::for_long(frozen(minutes(12 * 60), true), Step::Stop)]
    fn sleep_gets_deeper(#[case] seen: Seen, #[case] step: Step) {
        assert_eq!(decide(&seen, &SleepTimes::default()), step);
    }

    #[test]
    fn short_of_memory_the_longest_asleep_is_stopped_and_nobody_else() {
        let [one, other]: [TenantId; 2] = ["one", "other"].map(|id| id.parse().unwrap());
        let frozen = [(&one, minutes(2)), (&other, minutes(5))];
        assert_eq!(relieve(frozen, Some(2000)), Some(&other));
        assert_eq!(relieve(frozen, Some(10)), None);
        assert_eq!(relieve(frozen, None), None);
        assert_eq!(relieve([], Some(2000)), None);
    }

    fn any_seen() -> impl Strategy<Value = Seen> {
        let length = || (0..100_000_u64).prop_map(Duration::from_secs);
        let agent = prop_oneof![
            Just(Agent::Down),
            Just(Agent::Runs),
            Just(Agent::Others),
            (length(), any::<bool>())
                .prop_map(|(length, paged_out)| Agent::Frozen { length, paged_out }),
        ];
        let door = prop_oneof![Just(Door::Absent), Just(Door::Active), Just(Door::Idle)];
        let cpu = proptest::option::of(0..4000_u32);
        let egress = proptest::option::of(length());
        (
            agent,
            door,
            any::<bool>(),
            length(),
            cpu,
            egress,
            any::<bool>(),
        )
            .prop_map(|(agent, door, held, woken, cpu, egress, has_swap)| Seen {
                agent,
                door,
                held,
                woken,
                cpu,
                egress,
                has_swap,
            })
    }

    proptest! {
        #[test]
        fn whoever_is_in_use_or_held_or_anothers_is_never_touched(seen in any_seen()) {
            let step = decide(&seen, &SleepTimes::default());
            let is_awake = seen.agent == Agent::Runs;
            if seen.held || seen.agent == Agent::Others || is_awake && seen.door == Door::Active {
                prop_assert_eq!(step, Step::Leave);
            }
            // Nobody is stopped who was not frozen first.
            if step == Step::Stop {
                let is_frozen = matches!(seen.agent, Agent::Frozen { .. });
                prop_assert!(is_frozen);
            }
        }
    }
}
