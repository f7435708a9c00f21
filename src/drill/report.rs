//! What one drill found, as values and in words.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use super::databases::Databases;
use crate::protect::{CheckOutcome, Checked};
use crate::tenant::TenantId;

/// What one drill found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Drilled {
    /// The tenant.
    pub tenant: TenantId,
    /// How its backup is.
    pub outcome: CheckOutcome,
    /// The newest snapshot, when it was found.
    pub snapshot: Option<u64>,
    /// The moment the data is of.
    pub taken_at: Option<Timestamp>,
    /// Files restored.
    pub files: u64,
    /// Their sizes added up.
    pub bytes: u64,
    /// What was found of its databases.
    pub databases: Databases,
    /// How long its agent took until it answered the start probe, in milliseconds.
    pub ready_after_ms: Option<u64>,
    /// What is wrong, or why it could not be looked at.
    pub problems: Vec<String>,
}

impl Drilled {
    /// A drill that has found nothing wrong so far.
    pub(super) fn of(tenant: &TenantId, snapshot: u64) -> Self {
        Self {
            tenant: tenant.clone(),
            outcome: CheckOutcome::Good,
            snapshot: Some(snapshot),
            taken_at: None,
            files: 0,
            bytes: 0,
            databases: Databases::default(),
            ready_after_ms: None,
            problems: Vec::new(),
        }
    }

    /// A backup that has no newest snapshot which can be read.
    pub(super) fn faulty(tenant: &TenantId, problem: String) -> Self {
        let mut faulty = Self {
            snapshot: None,
            ..Self::of(tenant, 0)
        };
        faulty.fail(problem);
        faulty
    }

    /// A drill that could not be made, which says nothing of the backup.
    pub(super) fn skipped(tenant: &TenantId, why: String) -> Self {
        Self {
            outcome: CheckOutcome::Skipped,
            ..Self::faulty(tenant, why)
        }
    }

    pub(super) fn fail(&mut self, problem: String) {
        self.outcome = CheckOutcome::Faulty;
        self.problems.push(problem);
    }

    /// Whether a database is broken; an agent is not started on that.
    pub(super) fn fail_for_databases(&mut self) -> bool {
        for fault in std::mem::take(&mut self.databases.faults) {
            self.fail(format!("{}: {}", fault.file, fault.problem));
            self.databases.faults.push(fault);
        }
        !self.databases.faults.is_empty()
    }

    /// What is remembered of it.
    pub(super) fn noted(&self, at: Timestamp) -> Checked {
        Checked {
            at,
            snapshot: self.snapshot.unwrap_or_default(),
            outcome: self.outcome,
            detail: self.detail(),
        }
    }

    /// What was looked at, or what is wrong, in a line.
    pub fn detail(&self) -> String {
        match self.problems.as_slice() {
            [] => {}
            [only] => return only.clone(),
            [first, rest @ ..] => return format!("{first}; and {} more", rest.len()),
        }
        let mut text = format!("{} files restored", self.files);
        match self.databases.sound {
            0 => {}
            1 => text.push_str(", 1 database sound"),
            count => {
                let _ = write!(text, ", {count} databases sound");
            }
        }
        if !self.databases.unchecked.is_empty() {
            let _ = write!(text, ", {} not checked", self.databases.unchecked.len());
        }
        if let Some(ms) = self.ready_after_ms {
            let _ = write!(
                text,
                ", agent ready after {}.{} s",
                ms / 1000,
                ms % 1000 / 100
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::databases::Finding;
    use super::*;

    #[test]
    fn a_drill_is_told_in_a_line() {
        let mut drilled = Drilled::of(&"acme".parse().unwrap(), 12);
        drilled.files = 340;
        drilled.databases.sound = 2;
        drilled.ready_after_ms = Some(1280);
        assert_eq!(
            drilled.detail(),
            "340 files restored, 2 databases sound, agent ready after 1.2 s"
        );
        assert!(!drilled.fail_for_databases());
        let broken = |file: &str| Finding {
            file: file.to_owned(),
            problem: "malformed".to_owned(),
        };
        drilled.databases.faults = vec![broken("data/a.db"), broken("data/b.db")];
        assert!(drilled.fail_for_databases());
        assert_eq!(drilled.databases.faults.len(), 2);
        let noted = drilled.noted(Timestamp::UNIX_EPOCH);
        assert_eq!(noted.outcome, CheckOutcome::Faulty);
        assert_eq!(noted.snapshot, 12);
        assert_eq!(noted.detail, "data/a.db: malformed; and 1 more");
    }
}
