//! What tenantd asks of itself follows from what it has seen. Between that and the operation's turn an operator may have
//! come: then there is nothing to do any more. Pure.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::state::{Ending, OperationKind, TenantRow, Wanted};
use crate::tenant::TenantState;

/// The mark of a request that tenantd has made by itself.
const MARK: &str = "automatic";

/// A request that nobody but tenantd has made.
pub fn by_itself(request: impl Serialize) -> Value {
    let mut request = json!(request);
    request[MARK] = true.into();
    request
}

/// Whether nobody but tenantd has made a request.
pub(super) fn is_by_itself(request: &Value) -> bool {
    request[MARK].as_bool() == Some(true)
}

/// Whether that for which tenantd asked `kind` of itself still holds.
pub(super) fn holds(
    kind: OperationKind,
    request: &Value,
    row: &TenantRow,
    ending: Option<&Ending>,
    now: Timestamp,
) -> bool {
    let is_wanted = row.wanted == Wanted::Running;
    match kind {
        OperationKind::Remove => {
            let erase_at = ending.and_then(|ending| ending.erase_at);
            row.state == TenantState::Terminated && erase_at.is_some_and(|at| at <= now)
        }
        OperationKind::Start => row.state == TenantState::Failed && is_wanted,
        OperationKind::Restart => row.state == TenantState::Running && is_wanted,
        OperationKind::Rollback => row.current_revision == request["from"].as_u64(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::quadlet::IdRange;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn row(state: TenantState, wanted: Wanted) -> TenantRow {
        TenantRow {
            id: "acme".parse().unwrap(),
            state,
            reason: None,
            cause: None,
            wanted,
            held_because: None,
            source: None,
            current_revision: Some(3),
            good_revision: Some(2),
            id_range: IdRange::nth(0).unwrap(),
            created_at: NOW,
            changed_at: NOW,
        }
    }

    #[rstest]
    #[case::a_start(OperationKind::Start, TenantState::Failed, Wanted::Running, true)]
    #[case::it_was_stopped(OperationKind::Start, TenantState::Failed, Wanted::Stopped, false)]
    #[case::it_runs(OperationKind::Start, TenantState::Running, Wanted::Running, false)]
    #[case::a_restart(OperationKind::Restart, TenantState::Running, Wanted::Running, true)]
    #[case::it_was_suspended(
        OperationKind::Restart,
        TenantState::Running,
        Wanted::Suspended,
        false
    )]
    #[case::an_erasure(OperationKind::Remove, TenantState::Terminated, Wanted::Removed, true)]
    #[case::it_was_reclaimed(OperationKind::Remove, TenantState::Running, Wanted::Running, false)]
    fn what_an_operator_has_done_meanwhile_stays(
        #[case] kind: OperationKind,
        #[case] state: TenantState,
        #[case] wanted: Wanted,
        #[case] expected: bool,
    ) {
        let ending = Ending {
            wanted: Wanted::Running,
            held_because: None,
            erase_at: Some(NOW),
            erasing: false,
        };
        let row = row(state, wanted);
        assert_eq!(
            holds(kind, &Value::Null, &row, Some(&ending), NOW),
            expected
        );
    }

    #[test]
    fn a_tenant_that_was_rolled_back_by_hand_or_removed_again_is_left_alone() {
        let row = row(TenantState::Running, Wanted::Running);
        let holds = |from: u64| {
            let request = by_itself(json!({ "from": from }));
            assert!(is_by_itself(&request));
            super::holds(OperationKind::Rollback, &request, &row, None, NOW)
        };
        assert!(holds(3) && !holds(4));
        let later = Ending {
            wanted: Wanted::Running,
            held_because: None,
            erase_at: Some(Timestamp::MAX),
            erasing: false,
        };
        let gone = TenantRow {
            state: TenantState::Terminated,
            ..row.clone()
        };
        let erase = OperationKind::Remove;
        assert!(!super::holds(erase, &Value::Null, &gone, Some(&later), NOW));
    }
}
