//! Transitions of tenants between states: each is an edge of the state machine, stored together
//! with its line in the audit log, or not at all. No other code writes a tenant's state.

use jiff::Timestamp;
use rusqlite::Connection;

use super::tenants::{TenantRow, find, timestamp};
use super::{Database, StateError};
use crate::tenant::{Edge, FailureCause, TenantId, TenantState};

/// Where a tenant is to be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// To where this edge leads, and by it.
    By(Edge),
    /// To this state, by the fewest edges that can have happened unseen.
    At(TenantState),
}

impl Goal {
    /// The edges from `state` to the goal; none when it is reached already.
    fn way_from(self, state: TenantState) -> Option<Vec<Edge>> {
        match self {
            Self::By(edge) if state == edge.ends().1 => Some(Vec::new()),
            Self::By(edge) => state.way_by(edge),
            Self::At(goal) => state.way_to(goal),
        }
    }

    fn state(self) -> TenantState {
        match self {
            Self::By(edge) => edge.ends().1,
            Self::At(state) => state,
        }
    }
}

/// Who moves a tenant, when and why.
#[derive(Debug, Clone)]
pub struct Why {
    /// Who: as in the audit log.
    pub actor: String,
    /// When.
    pub at: Timestamp,
    /// Why, in words, where that needs saying.
    pub reason: Option<String>,
    /// The cause of a failure.
    pub cause: Option<FailureCause>,
}

/// One transition, as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// The edge's word.
    pub edge: String,
    /// The state that it left, and the one it led to.
    pub from: String,
    /// See `from`.
    pub to: String,
    /// The cause of a failure.
    pub cause: Option<String>,
    /// Why, in words.
    pub reason: Option<String>,
}

impl Database {
    /// Moves a tenant; nothing is written when it is there already, for the same reason.
    ///
    /// # Errors
    /// [`StateError::Forbidden`] when no way leads there.
    pub async fn move_tenant(&self, id: TenantId, goal: Goal, why: Why) -> Result<(), StateError> {
        self.call(move |connection| {
            let failed = || StateError::statement("record a tenant's state");
            let transaction = connection.transaction().map_err(failed())?;
            let row = find(&transaction, &id)?.ok_or(StateError::NoTenant(id))?;
            move_row(&transaction, &row, goal, &why)?;
            transaction.commit().map_err(failed())
        })
        .await
    }

    /// A tenant's newest transitions, the newest first.
    pub async fn transitions(
        &self,
        id: TenantId,
        limit: u32,
    ) -> Result<Vec<Transition>, StateError> {
        self.call(move |connection| {
            let failed = || StateError::statement("read a tenant's transitions");
            let mut statement = connection
                .prepare_cached(
                    "SELECT at, actor, edge, action, cause, detail FROM audit
                     WHERE tenant = ?1 AND edge IS NOT NULL ORDER BY sequence DESC LIMIT ?2",
                )
                .map_err(failed())?;
            let rows = statement.query_map((id.as_str(), limit), |row| {
                let action: String = row.get(3)?;
                let (from, to) = action.split_once(ARROW).unwrap_or(("", action.as_str()));
                Ok(Transition {
                    at: timestamp(row, 0)?,
                    actor: row.get(1)?,
                    edge: row.get(2)?,
                    from: from.to_owned(),
                    to: to.to_owned(),
                    cause: row.get(4)?,
                    reason: row.get(5)?,
                })
            });
            rows.and_then(Iterator::collect).map_err(failed())
        })
        .await
    }
}

/// Between the two states, in the audit log's words.
const ARROW: &str = " -> ";

/// Moves the tenant of `row` inside the caller's transaction.
pub(super) fn move_row(
    connection: &Connection,
    row: &TenantRow,
    goal: Goal,
    why: &Why,
) -> Result<(), StateError> {
    let failed = || StateError::statement("record a tenant's state");
    let way = goal
        .way_from(row.state)
        .ok_or_else(|| StateError::Forbidden {
            tenant: row.id.clone(),
            from: row.state,
            to: goal.state(),
        })?;
    if way.is_empty() && row.reason == why.reason && row.cause == why.cause {
        return Ok(());
    }
    let mut from = row.state;
    for (index, &edge) in way.iter().enumerate() {
        let to = edge.ends().1;
        // What is known is about the last; those before it happened on the way there.
        let is_last = index + 1 == way.len();
        let action = format!("{from}{ARROW}{to}");
        let reason = why.reason.as_ref().filter(|_| is_last);
        let cause = why.cause.filter(|_| is_last).map(FailureCause::as_str);
        log(
            connection,
            row,
            why,
            &action,
            Some(edge.as_str()),
            cause,
            reason,
        )
        .map_err(failed())?;
        from = to;
    }
    if way.is_empty() {
        let action = format!("still {from}");
        let cause = why.cause.map(FailureCause::as_str);
        log(
            connection,
            row,
            why,
            &action,
            None,
            cause,
            why.reason.as_ref(),
        )
        .map_err(failed())?;
    }
    let changed_at = if way.is_empty() {
        row.changed_at
    } else {
        why.at
    };
    connection
        .execute(
            "UPDATE tenants SET state = ?2, reason = ?3, cause = ?4, changed_at = ?5 WHERE id = ?1",
            (
                row.id.as_str(),
                from.as_str(),
                &why.reason,
                why.cause.map(FailureCause::as_str),
                changed_at.to_string(),
            ),
        )
        .map_err(failed())?;
    Ok(())
}

fn log(
    connection: &Connection,
    row: &TenantRow,
    why: &Why,
    action: &str,
    edge: Option<&str>,
    cause: Option<&str>,
    reason: Option<&String>,
) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "INSERT INTO audit (at, actor, tenant, action, detail, edge, cause)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((
            why.at.to_string(),
            &why.actor,
            row.id.as_str(),
            action,
            reason,
            edge,
            cause,
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(reason: &str, cause: Option<FailureCause>) -> Why {
        Why {
            actor: "root".to_owned(),
            at: "2026-11-21T10:00:00Z".parse().unwrap(),
            reason: Some(reason.to_owned()),
            cause,
        }
    }

    async fn acme(database: &Database) -> TenantId {
        let id: TenantId = "acme".parse().unwrap();
        let at = "2026-11-21T09:00:00Z".parse().unwrap();
        let created = database.create_tenant(id.clone(), None, "root".to_owned(), at);
        created.await.unwrap();
        id
    }

    #[tokio::test]
    async fn each_edge_of_a_way_is_a_transition_and_the_cause_is_the_last_ones() {
        let database = Database::in_memory();
        let id = acme(&database).await;
        let edge = Goal::By(Edge::Provision);
        let moved = database.move_tenant(id.clone(), edge, why("applied", None));
        moved.await.unwrap();
        let failed = why("it ended with 3", Some(FailureCause::ExitCode));
        for _ in 0..2 {
            let goal = Goal::At(TenantState::Failed);
            database
                .move_tenant(id.clone(), goal, failed.clone())
                .await
                .unwrap();
        }
        let row = database.tenant(id.clone()).await.unwrap();
        assert_eq!((row.state, row.cause), (TenantState::Failed, failed.cause));
        let told = database.transitions(id, 10).await.unwrap();
        let told: Vec<_> = told
            .iter()
            .map(|one| {
                (
                    one.edge.as_str(),
                    one.from.as_str(),
                    one.to.as_str(),
                    one.cause.as_deref(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("fail", "provisioning", "failed", Some("exit-code")),
                ("provision", "requested", "provisioning", None),
            ]
        );
    }

    #[tokio::test]
    async fn what_is_not_drawn_is_refused_and_changes_nothing() {
        let database = Database::in_memory();
        let id = acme(&database).await;
        let moved = database.move_tenant(id.clone(), Goal::By(Edge::Reclaim), why("no", None));
        let error = moved.await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "tenant acme is requested and cannot become configuring"
        );
        let row = database.tenant(id.clone()).await.unwrap();
        assert_eq!(row.state, TenantState::Requested);
        assert_eq!(database.transitions(id, 10).await.unwrap(), []);
    }
}
