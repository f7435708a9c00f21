//! What is said of an agent that does not answer: a small file per tenant below `/run`, which is there only
//! while it does not. One process writes them, the daemon reads.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::host::files::{self, FileError};
use crate::layout::Layout;
use crate::tenant::TenantId;

/// Longest report.
const LIMIT: u64 = 16 * 1024;

/// Most failures that are told; further ones take the place of the oldest.
const MOST: usize = 100;

/// Live probes that failed in a row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// When, the oldest first.
    pub failures: Vec<Timestamp>,
    /// What was wrong with the last.
    pub last: String,
}

/// Adds a failure to the report of `tenant`.
pub(super) fn note_failure(
    layout: &Layout,
    tenant: &TenantId,
    at: Timestamp,
    why: &str,
) -> Result<(), FileError> {
    let mut report = read(layout, tenant).unwrap_or_default();
    report.failures.push(at);
    let excess = report.failures.len().saturating_sub(MOST);
    report.failures.drain(..excess);
    why.clone_into(&mut report.last);
    // Times and a text always have a JSON form.
    let text = serde_json::to_vec(&report).unwrap_or_default();
    files::write(&layout.health_file(tenant), &text, 0o600)
}

/// The report of `tenant`, if it does not answer.
fn read(layout: &Layout, tenant: &TenantId) -> Option<Report> {
    let bytes = files::read(&layout.health_file(tenant), LIMIT).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The reports of all tenants that do not answer.
pub fn reports(layout: &Layout) -> BTreeMap<TenantId, Report> {
    let entries = layout.health_dir().read_dir_utf8();
    let entries = entries.into_iter().flatten().flatten();
    let reports = entries.filter_map(|entry| {
        let tenant: TenantId = entry.file_name().parse().ok()?;
        let report = read(layout, &tenant)?;
        Some((tenant, report))
    });
    reports.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::dirs;

    #[test]
    fn failures_add_up_and_their_number_is_bounded() {
        let guard = tempfile::tempdir().unwrap();
        let layout = Layout::rooted(camino::Utf8Path::from_path(guard.path()).unwrap());
        dirs::make(&layout.health_dir(), 0o700).unwrap();
        let tenant: TenantId = "acme".parse().unwrap();
        let begin: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        for second in 0..150 {
            let at = begin + jiff::SignedDuration::from_secs(second);
            note_failure(&layout, &tenant, at, &format!("failure {second}")).unwrap();
        }
        let report = &reports(&layout)[&tenant];
        assert_eq!(
            (report.failures.len(), report.last.as_str()),
            (MOST, "failure 149")
        );
        assert_eq!(
            report.failures[0],
            begin + jiff::SignedDuration::from_secs(50)
        );
    }
}
