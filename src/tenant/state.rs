//! The life of a tenant: its states, and the edges that lead from one to the next.
//! `docs/states.dot` draws the same table; a test compares them.

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
    /// The agent is down until it is wanted.
    Stopped,
    /// The agent is down until the operator says otherwise.
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
    Provision provision: Requested => Provisioning;
    /// Units are written.
    Configure configure: Provisioning => Configuring;
    /// The agent is started.
    Start start: Configuring | Stopped | Suspended | Restoring => Starting;
    /// The start probe answered.
    Ready ready: Starting | Updating | Restarting => Running;
    /// A new revision is brought in.
    Update update: Running | Failed => Updating;
    /// What was tried, or the agent, failed.
    Fail fail: Provisioning | Configuring | Starting | Running | Updating | Restarting | Restoring => Failed;
    /// The agent is started again.
    Restart restart: Running | Failed => Restarting;
    /// The agent loses its processor.
    Freeze freeze: Running => Frozen;
    /// The agent has its processor again.
    Thaw thaw: Frozen => Running;
    /// The agent is ended until it is wanted.
    Stop stop: Starting | Running | Failed | Restarting | Frozen => Stopped;
    /// The agent is ended until the operator says otherwise.
    Suspend suspend: Starting | Running | Failed | Restarting | Frozen | Stopped => Suspended;
    /// State comes back from a snapshot.
    Restore restore: Configuring | Running | Failed | Frozen | Stopped | Suspended => Restoring;
    /// The tenant ends.
    Terminate terminate: Requested | Provisioning | Configuring | Starting | Running | Updating | Failed | Restarting | Frozen | Stopped | Suspended | Restoring => Terminated;
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
    use std::collections::BTreeSet;

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
}
