//! What goes with a failure: the last lines that a unit wrote.
//! Best effort: a failure is not hidden behind a journal that cannot be read.

use crate::host::journal::{self, Query};
use crate::layout::UnitNames;
use crate::tenant::TenantId;

/// Log lines that go with a failure.
const LINES: usize = 20;

/// The agent's last lines, from the tenant's own journal, and what systemd said of its unit.
pub async fn of_agent(tenant: &TenantId) -> Vec<String> {
    let names = UnitNames(tenant);
    let query = Query {
        namespace: Some(names.journal_namespace()),
        ..Query::last(names.service(), LINES)
    };
    lines(&query).await
}

/// The last lines of a unit that writes to the host's journal.
pub async fn of_unit(unit: &str) -> Vec<String> {
    lines(&Query::last(unit, LINES)).await
}

/// The last thing that a unit of the host itself said: the reason, where systemd's own last
/// line is only that it failed.
pub async fn last_word(unit: &str) -> Option<String> {
    let entries = journal::read(&Query::last(unit, LINES)).await.ok()?;
    let mut said = entries.into_iter().filter(|entry| !entry.by_manager);
    said.next_back().map(|entry| entry.message)
}

async fn lines(query: &Query) -> Vec<String> {
    match journal::read(query).await {
        Ok(entries) => entries.into_iter().map(|entry| entry.message).collect(),
        Err(error) => vec![error.to_string()],
    }
}
