//! What can be done to a tenant where it stands: the table of all verbs and states.
//! Pure; both the API, before it accepts an operation, and the operation, when its turn has come, ask it.

use crate::state::{OperationKind, Wanted};
use crate::tenant::TenantState;

/// Why a verb is refused; what to do instead is said by the error that it becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The tenant is suspended: only `resume` ends that.
    Suspended,
    /// The tenant is stopped: only `start` ends that.
    Held,
    /// The tenant is terminated: it can be reclaimed or purged.
    Terminated,
    /// The tenant is not terminated: there is nothing to reclaim.
    NotTerminated,
    /// The tenant has no units yet.
    NoRevision,
    /// The tenant's erasure has begun: it can only be ended.
    Erasing,
}

/// Whether `verb` is refused for a tenant in `state`; `purge` is that of `remove`, and `erasing` says that such a one has
/// begun.
pub fn refusal(
    verb: OperationKind,
    purge: bool,
    erasing: bool,
    state: TenantState,
    wanted: Wanted,
) -> Option<Refusal> {
    use OperationKind::{
        Apply, Backup, Reclaim, Reconcile, Remove, Restart, Restore, Resume, Rollback, Start, Stop,
        Suspend,
    };
    if erasing {
        let ends_it = verb == Remove && purge || verb == Reconcile;
        return (!ends_it).then_some(Refusal::Erasing);
    }
    let is_new = matches!(state, TenantState::Requested | TenantState::Provisioning);
    if state == TenantState::Terminated {
        return match verb {
            Reclaim | Reconcile => None,
            Remove if purge => None,
            _ => Some(Refusal::Terminated),
        };
    }
    match (verb, wanted) {
        (Reclaim, _) => Some(Refusal::NotTerminated),
        (Start | Stop | Restart, Wanted::Suspended) => Some(Refusal::Suspended),
        (Restart | Resume, Wanted::Stopped | Wanted::Removed) => Some(Refusal::Held),
        (Start | Stop | Restart | Suspend | Resume | Backup | Restore | Rollback, _) if is_new => {
            Some(Refusal::NoRevision)
        }
        // What was on its way out and did not get there is started, or removed, again.
        (
            Apply | Start | Stop | Restart | Suspend | Resume | Remove | Backup | Restore
            | Rollback | Reconcile,
            _,
        ) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use crate::tenant::{Edge, TenantState as S};

    /// The edge that a verb which is not refused begins with, where it moves the tenant.
    const fn edge(verb: OperationKind) -> Option<Edge> {
        match verb {
            OperationKind::Apply | OperationKind::Rollback => Some(Edge::Update),
            OperationKind::Start | OperationKind::Resume => Some(Edge::Start),
            OperationKind::Stop => Some(Edge::Stop),
            OperationKind::Restart => Some(Edge::Restart),
            OperationKind::Suspend => Some(Edge::Suspend),
            OperationKind::Remove => Some(Edge::Terminate),
            OperationKind::Reclaim => Some(Edge::Reclaim),
            OperationKind::Restore => Some(Edge::Restore),
            OperationKind::Backup | OperationKind::Reconcile => None,
        }
    }

    const VERBS: [OperationKind; 11] = [
        OperationKind::Apply,
        OperationKind::Start,
        OperationKind::Stop,
        OperationKind::Restart,
        OperationKind::Suspend,
        OperationKind::Resume,
        OperationKind::Remove,
        OperationKind::Reclaim,
        OperationKind::Backup,
        OperationKind::Restore,
        OperationKind::Rollback,
    ];

    const STATES: [S; 14] = [
        S::Requested,
        S::Provisioning,
        S::Configuring,
        S::Starting,
        S::Running,
        S::Updating,
        S::Failed,
        S::Restarting,
        S::Frozen,
        S::Asleep,
        S::Stopped,
        S::Suspended,
        S::Restoring,
        S::Terminated,
    ];

    const WANTED: [Wanted; 4] = [
        Wanted::Running,
        Wanted::Stopped,
        Wanted::Suspended,
        Wanted::Removed,
    ];

    /// What is wanted of a tenant that stands there and nobody is at work on.
    fn wanted(state: S) -> Wanted {
        match state {
            S::Stopped => Wanted::Stopped,
            S::Suspended => Wanted::Suspended,
            S::Terminated => Wanted::Removed,
            _ => Wanted::Running,
        }
    }

    #[test]
    fn every_verb_in_every_state() {
        let mut table = String::new();
        for verb in VERBS {
            for state in STATES {
                let told = match refusal(verb, false, false, state, wanted(state)) {
                    None => "yes".to_owned(),
                    Some(refusal) => format!("{refusal:?}"),
                };
                let _ = writeln!(table, "{:8} {state:12} {told}", verb.as_str());
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn what_is_not_refused_has_a_way_that_is_drawn() {
        for (verb, state) in VERBS
            .iter()
            .flat_map(|verb| STATES.map(|state| (*verb, state)))
        {
            for wanted in WANTED {
                let Some(edge) = edge(verb) else { continue };
                // The first apply begins with another edge.
                let is_first = verb == OperationKind::Apply
                    && matches!(state, S::Requested | S::Provisioning | S::Configuring);
                if refusal(verb, false, false, state, wanted).is_none() && !is_first {
                    let is_there = state == edge.ends().1;
                    assert!(
                        is_there || state.way_by(edge).is_some(),
                        "{verb:?} in {state}"
                    );
                }
            }
        }
    }

    #[test]
    fn whatever_is_terminated_can_be_reclaimed_or_purged_and_nothing_else() {
        for verb in VERBS {
            for purge in [false, true] {
                let is_refused =
                    refusal(verb, purge, false, S::Terminated, Wanted::Removed).is_some();
                let may = verb == OperationKind::Reclaim || verb == OperationKind::Remove && purge;
                assert_eq!(is_refused, !may, "{verb:?}, purge: {purge}");
            }
        }
    }

    #[test]
    fn half_a_tenant_can_only_be_purged() {
        for (verb, state) in VERBS
            .iter()
            .flat_map(|verb| STATES.map(|state| (*verb, state)))
        {
            for purge in [false, true] {
                let refused = refusal(verb, purge, true, state, wanted(state));
                let may = verb == OperationKind::Remove && purge;
                assert_eq!(refused.is_none(), may, "{verb:?} in {state}");
            }
        }
    }
}
