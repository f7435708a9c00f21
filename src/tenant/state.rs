//! The life of a tenant: its states, and the edges that lead from one to the next.
//! `docs/states.dot` draws the same table; a test compares them.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a tenant is in its life.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum TenantState {
    /// Known by its spec only.
    Requested,
    /// Its ids, directories and image are being made ready.
    Provisioning,
    /// Its units are being written.
    Configuring,
    /// The agent was started and has not answered yet.
    Starting,
    /// The agent answers.
    Running,
    /// A new revision is taking the place of the current one.
    Updating,
    /// The agent does not run and did not mean to end.
    Failed,
    /// The agent is being started again after a failure.
    Restarting,
    /// The agent is in memory and gets no processor.
    Frozen,
    /// The agent is down until somebody comes: it was idle for long, or the host was short of memory.
    Asleep,
    /// The agent is down until it is wanted.
    Stopped,
    /// The agent is down until the operator, or whoever bills, says otherwise.
    Suspended,
    /// State is being brought back from a snapshot.
    Restoring,
    /// Gone; the state is kept for the plan's retention.
    Terminated,
}

/// Declares the edges once: the enum, its words, the table and one method for each.
macro_rules! edges {
    ($($(#[$doc:meta])* $edge:ident $method:ident: $($from:ident)|+ => $to:ident;)+) => {
        /// What happens to a tenant.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Edge {
            $($(#[$doc])* $edge,)+
        }

        impl Edge {
            /// Every edge.
            pub const ALL: &'static [Self] = &[$(Self::$edge),+];

            /// The edge's word, as in the diagram and the audit log.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$edge => stringify!($method),)+
                }
            }

            /// The states that the edge leaves, and the one it leads to.
            pub const fn ends(self) -> (&'static [TenantState], TenantState) {
                match self {
                    $(Self::$edge => (&[$(TenantState::$from),+], TenantState::$to),)+
                }
            }
        }

        impl TenantState {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// The edge does not leave this state.
                pub fn $method(self) -> Result<Self, IllegalTransition> {
                    self.follow(Edge::$edge)
                }
            )+
        }
    };
}

edges! {
    /// Ids, directories and image are made ready.
    Provision provision: Requested | Asleep | Stopped | Suspended | Failed => Provisioning;
    /// Units are written.
    Configure configure: Provisioning => Configuring;
    /// The agent is started.
    Start start: Configuring | Failed | Asleep | Stopped | Suspended | Restoring => Starting;
    /// The start probe answered.
    Ready ready: Starting | Updating | Restarting => Running;
    /// A new revision is brought in.
    Update update: Starting | Running | Failed | Restarting | Frozen | Asleep | Stopped | Suspended => Updating;
    /// What was tried, or the agent, failed.
    Fail fail: Provisioning | Configuring | Starting | Running | Updating | Restarting | Frozen | Asleep | Stopped | Restoring => Failed;
    /// The agent is started again.
    Restart restart: Starting | Running | Failed | Frozen => Restarting;
    /// The agent loses its processor.
    Freeze freeze: Running => Frozen;
    /// The agent has its processor again.
    Thaw thaw: Frozen => Running;
    /// The agent, which is idle, is ended until somebody comes.
    Sleep sleep: Starting | Running | Frozen | Restarting => Asleep;
    /// The agent is ended until it is wanted.
    Stop stop: Configuring | Starting | Running | Updating | Failed | Restarting | Frozen | Asleep | Restoring => Stopped;
    /// The agent is ended until the operator says otherwise.
    Suspend suspend: Configuring | Starting | Running | Updating | Failed | Restarting | Frozen | Asleep | Stopped | Restoring => Suspended;
    /// State comes back from a snapshot.
    Restore restore: Configuring | Starting | Running | Failed | Restarting | Frozen | Asleep | Stopped | Suspended => Restoring;
    /// The tenant ends; its state waits to be reclaimed or erased.
    Terminate terminate: Requested | Provisioning | Configuring | Starting | Running | Updating | Failed | Restarting | Frozen | Asleep | Stopped | Suspended | Restoring => Terminated;
    /// A tenant that ended comes back as it was.
    Reclaim reclaim: Terminated => Configuring;
}

impl Edge {
    /// Whether it can be seen to have happened while nobody recorded it: the agent's own ups and
    /// downs, and the end of what was cut short. The others only happen because somebody does them.
    pub const fn is_seen(self) -> bool {
        matches!(
            self,
            Self::Configure
                | Self::Start
                | Self::Ready
                | Self::Fail
                | Self::Restart
                | Self::Freeze
                | Self::Thaw
                | Self::Sleep
                | Self::Stop
                | Self::Suspend
        )
    }
}

impl TenantState {
    /// The state's word, as in the API and the diagram.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Provisioning => "provisioning",
            Self::Configuring => "configuring",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Updating => "updating",
            Self::Failed => "failed",
            Self::Restarting => "restarting",
            Self::Frozen => "frozen",
            Self::Asleep => "asleep",
            Self::Stopped => "stopped",
            Self::Suspended => "suspended",
            Self::Restoring => "restoring",
            Self::Terminated => "terminated",
        }
    }

    /// The state that `edge` leads to.
    ///
    /// # Errors
    /// The edge does not leave this state.
    pub fn follow(self, edge: Edge) -> Result<Self, IllegalTransition> {
        let (from, to) = edge.ends();
        if from.contains(&self) {
            Ok(to)
        } else {
            Err(IllegalTransition { state: self, edge })
        }
    }

    /// The fewest edges that lead to `goal` and can have happened while nobody looked; none when
    /// it is there already. `None` when there is no such way.
    pub fn way_to(self, goal: Self) -> Option<Vec<Edge>> {
        let mut ways = VecDeque::from([(self, Vec::new())]);
        let mut seen = BTreeSet::from([self]);
        while let Some((state, way)) = ways.pop_front() {
            if state == goal {
                return Some(way);
            }
            for &edge in Edge::ALL.iter().filter(|edge| edge.is_seen()) {
                if let Ok(next) = state.follow(edge)
                    && seen.insert(next)
                {
                    let mut further = way.clone();
                    further.push(edge);
                    ways.push_back((next, further));
                }
            }
        }
        None
    }

    /// As [`Self::way_to`], to where `last` leads and by it: an operation that was cut short, or
    /// that finds an agent which moved on by itself, still takes no step that is not drawn.
    pub fn way_by(self, last: Edge) -> Option<Vec<Edge>> {
        let (sources, _) = last.ends();
        let ways = sources.iter().filter_map(|source| self.way_to(*source));
        let mut way = ways.min_by_key(Vec::len)?;
        way.push(last);
        Some(way)
    }
}

impl fmt::Display for TenantState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that cannot happen to a tenant in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tenant that is {state} cannot {edge}")]
pub struct IllegalTransition {
    /// The state it is in.
    pub state: TenantState,
    /// What was asked.
    pub edge: Edge,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `requested -> provisioning [label="provision"]`, one a line.
    fn drawn() -> BTreeSet<(String, String, String)> {
        include_str!("../../docs/states.dot")
            .lines()
            .filter_map(|line| {
                let (ends, rest) = line.trim().split_once(" [label=\"")?;
                let (from, to) = ends.split_once(" -> ")?;
                let (label, _) = rest.split_once('"')?;
                Some((from.to_owned(), label.to_owned(), to.to_owned()))
            })
            .collect()
    }

    #[test]
    fn the_diagram_and_the_code_have_the_same_edges() {
        let mut coded = BTreeSet::new();
        for edge in Edge::ALL {
            let (from, to) = edge.ends();
            for state in from {
                coded.insert((state.to_string(), edge.to_string(), to.to_string()));
            }
        }
        assert_eq!(coded, drawn());
    }

    #[test]
    fn a_first_start_goes_through_every_state_in_order() {
        let state = TenantState::Requested
            .provision()
            .and_then(TenantState::configure)
            .and_then(TenantState::start)
            .and_then(TenantState::ready);
        assert_eq!(state, Ok(TenantState::Running));
    }

    #[test]
    fn what_cannot_happen_is_refused() {
        let error = TenantState::Terminated.start().unwrap_err();
        insta::assert_snapshot!(error, @"a tenant that is terminated cannot start");
        assert!(TenantState::Suspended.ready().is_err());
    }

    const SETTLED: [TenantState; 8] = [
        TenantState::Starting,
        TenantState::Running,
        TenantState::Failed,
        TenantState::Restarting,
        TenantState::Frozen,
        TenantState::Asleep,
        TenantState::Stopped,
        TenantState::Suspended,
    ];

    #[test]
    fn wherever_a_tenant_is_found_there_is_a_drawn_way() {
        for edge in Edge::ALL {
            let (_, from) = edge.ends();
            for to in SETTLED {
                let way = from.way_to(to);
                assert_eq!(
                    way.is_some(),
                    from != TenantState::Terminated,
                    "{from} to {to}"
                );
                let mut end = way.unwrap_or_default().into_iter();
                let end = end.try_fold(from, |state, edge| state.follow(edge).ok());
                assert!(
                    end == Some(to) || from == TenantState::Terminated,
                    "{from} to {to}"
                );
            }
        }
    }

    #[test]
    fn nobody_is_found_to_be_terminated_or_restoring() {
        for goal in [
            TenantState::Terminated,
            TenantState::Restoring,
            TenantState::Updating,
        ] {
            assert_eq!(TenantState::Running.way_to(goal), None);
        }
    }

    #[test]
    fn an_agent_that_came_back_unseen_is_recorded_by_the_edges_that_led_there() {
        let way = TenantState::Stopped.way_to(TenantState::Running);
        assert_eq!(way, Some(vec![Edge::Start, Edge::Ready]));
        let way = TenantState::Provisioning.way_by(Edge::Start);
        assert_eq!(way, Some(vec![Edge::Configure, Edge::Start]));
        assert_eq!(TenantState::Terminated.way_by(Edge::Start), None);
    }
}
