//! What goes with a failure: the last lines that a unit wrote.
//! Best effort: a failure is not hidden behind a journal that cannot be read.

use jiff::Timestamp;

use crate::api::JournalLine;
use crate::host::journal::{self, Entry, Query};
use crate::layout::UnitNames;
use crate::quadlet::IdRange;
use crate::tenant::TenantId;

/// Log lines that go with a failure.
const LINES: usize = 20;

/// Entries among which the agent's lines are looked for: each start of a container brings some
/// twenty of Podman's, and systemd may have started it as often as it may.
const WINDOW: usize = 500;

/// The agent's last lines since `since`, from the tenant's own journal; where it wrote none,
/// what Podman and systemd said of it.
///
/// `ids` are the tenant's: what is written by one of them, the agent wrote.
pub async fn of_agent(tenant: &TenantId, ids: IdRange, since: Timestamp) -> Vec<String> {
    let names = UnitNames(tenant);
    let query = Query {
        namespace: Some(names.journal_namespace()),
        since: Some(since),
        ..Query::last(names.service(), WINDOW)
    };
    match journal::read(&query).await {
        Ok(entries) => telling(&entries, ids),
        Err(error) => vec![error.to_string()],
    }
}

/// Lines of a whole story, and the most of each.
const STORY: (usize, usize) = (200, 1000);

/// What the tenant's own journal tells since `since`: the agent's lines, Podman's and systemd's.
pub async fn whole_story(tenant: &TenantId, ids: IdRange, since: Timestamp) -> Vec<JournalLine> {
    let names = UnitNames(tenant);
    let query = Query {
        namespace: Some(names.journal_namespace()),
        since: Some(since),
        ..Query::last(names.service(), STORY.0)
    };
    let entries = journal::read(&query).await.unwrap_or_default();
    let line = |entry: Entry| JournalLine {
        at: entry.at,
        by_agent: entry.uid.is_some_and(|uid| ids.contains(uid)),
        message: entry.message.chars().take(STORY.1).collect(),
    };
    entries.into_iter().map(line).collect()
}

/// The last lines of a unit that writes to the host's journal.
pub async fn of_unit(unit: &str) -> Vec<String> {
    match journal::read(&Query::last(unit, LINES)).await {
        Ok(entries) => entries.into_iter().map(|entry| entry.message).collect(),
        Err(error) => vec![error.to_string()],
    }
}

/// The last thing that a unit of the host itself said: the reason, where systemd's own last
/// line is only that it failed.
pub async fn last_word(unit: &str) -> Option<String> {
    let entries = journal::read(&Query::last(unit, LINES)).await.ok()?;
    let mut said = entries.into_iter().filter(|entry| !entry.by_manager);
    said.next_back().map(|entry| entry.message)
}

/// The last [`LINES`] lines of those that tell most: the agent's own, else all.
fn telling(entries: &[Entry], ids: IdRange) -> Vec<String> {
    let is_agents = |entry: &&Entry| entry.uid.is_some_and(|uid| ids.contains(uid));
    let own: Vec<&Entry> = entries.iter().filter(is_agents).collect();
    let chosen = if own.is_empty() {
        entries.iter().collect()
    } else {
        own
    };
    let first = chosen.len().saturating_sub(LINES);
    chosen[first..]
        .iter()
        .map(|entry| entry.message.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const ROOT: u32 = 0;
    /// The container's user 1000 of the first tenant.
    const AGENT: u32 = IdRange::FIRST + 1000;
    /// The same user of the second tenant.
    const OTHER: u32 = AGENT + IdRange::LEN;

    fn entries(written: &[(u32, &str)]) -> Vec<Entry> {
        let entry = |(uid, message): &(u32, &str)| Entry {
            cursor: String::new(),
            at: Timestamp::UNIX_EPOCH,
            message: (*message).to_owned(),
            priority: None,
            unit: None,
            by_manager: false,
            uid: Some(*uid),
            fields: std::collections::BTreeMap::new(),
        };
        written.iter().map(entry).collect()
    }

    #[rstest]
    #[case::nothing(&[], &[])]
    #[case::noise_is_left_out(
        &[
            (ROOT, "container create 8c1f (image=fd4a, name=tenant-acme)"),
            (ROOT, "conmon 8c1f <ninfo>: runtime arguments"),
            (AGENT, "listening"),
            (ROOT, "container died 8c1f"),
            (AGENT, "cannot open the database"),
            (ROOT, "tenant-acme.service: Main process exited"),
        ],
        &["listening", "cannot open the database"]
    )]
    #[case::an_agent_that_never_ran(
        &[(ROOT, "Error: crun: executable file `agent` not found"), (ROOT, "Failed to start")],
        &["Error: crun: executable file `agent` not found", "Failed to start"]
    )]
    #[case::the_containers_root_is_the_agent_too(
        &[(ROOT, "container start"), (IdRange::FIRST, "hello")],
        &["hello"]
    )]
    #[case::another_tenant_is_not(&[(OTHER, "x"), (ROOT, "y")], &["x", "y"])]
    fn the_agents_own_lines_come_first(#[case] written: &[(u32, &str)], #[case] expected: &[&str]) {
        let ids = IdRange::nth(0).unwrap();
        assert_eq!(telling(&entries(written), ids), expected);
    }

    #[test]
    fn the_last_lines_are_shown() {
        let numbers: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let written: Vec<_> = numbers.iter().map(|text| (AGENT, text.as_str())).collect();
        let shown = telling(&entries(&written), IdRange::nth(0).unwrap());
        assert_eq!(shown, numbers[80..]);
    }
}
