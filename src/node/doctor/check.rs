//! What a check is and what it says. Values only; which checks there are is in `checks`.

use serde::Serialize;

use super::Evidence;
use super::fix::Fix;
use crate::api::{CheckResult, Verdict};

/// The worst that a check can find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// It works, but should be mended.
    Warning,
    /// Tenants will not run well, or not be safe.
    Error,
}

impl Severity {
    /// As tables show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One check: a judgement of what was seen of the host.
#[derive(Debug, Serialize)]
pub struct Check {
    /// Its stable name.
    #[serde(rename = "check")]
    pub name: &'static str,
    /// The worst that it can find.
    pub severity: Severity,
    /// What goes wrong where a host is not so.
    pub reason: &'static str,
    /// Whether `--fix` can mend what it finds.
    pub fixable: bool,
    /// The judgement.
    #[serde(skip)]
    pub judge: fn(&Evidence) -> Finding,
}

impl Check {
    /// A check that can fail.
    pub(super) const fn error(
        name: &'static str,
        reason: &'static str,
        judge: fn(&Evidence) -> Finding,
    ) -> Self {
        Self {
            name,
            severity: Severity::Error,
            reason,
            fixable: false,
            judge,
        }
    }

    /// A check that warns at most.
    pub(super) const fn warning(
        name: &'static str,
        reason: &'static str,
        judge: fn(&Evidence) -> Finding,
    ) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(name, reason, judge)
        }
    }

    /// The same, where `--fix` can mend it.
    pub(super) const fn fixable(self) -> Self {
        Self {
            fixable: true,
            ..self
        }
    }

    /// Judges what was seen.
    pub(super) fn result(&self, evidence: &Evidence) -> CheckResult {
        (self.judge)(evidence).result(self.name, Some(self.reason))
    }
}

/// What a check says: how it went, what was found, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it went.
    pub verdict: Verdict,
    /// What was found.
    pub text: String,
    /// What to do about it.
    pub remedy: Option<&'static str>,
    /// What `--fix` would do about it.
    pub fixes: Vec<Fix>,
}

impl Finding {
    fn of(verdict: Verdict, text: impl Into<String>, remedy: Option<&'static str>) -> Self {
        Self {
            verdict,
            text: text.into(),
            remedy,
            fixes: Vec::new(),
        }
    }

    /// With what `--fix` would do.
    pub(super) fn mended_by(self, fixes: impl IntoIterator<Item = Fix>) -> Self {
        Self {
            fixes: fixes.into_iter().collect(),
            ..self
        }
    }

    /// As it is told.
    pub(super) fn result(self, name: &str, reason: Option<&str>) -> CheckResult {
        CheckResult {
            check: name.to_owned(),
            reason: reason
                .filter(|_| self.verdict != Verdict::Ok)
                .map(str::to_owned),
            verdict: self.verdict,
            finding: self.text,
            remedy: self.remedy.map(str::to_owned),
            fixes: self.fixes,
        }
    }
}

/// As it should be.
pub(super) fn ok(finding: impl Into<String>) -> Finding {
    Finding::of(Verdict::Ok, finding, None)
}

/// It works, but should be mended.
pub(super) fn warning(finding: impl Into<String>, remedy: &'static str) -> Finding {
    Finding::of(Verdict::Warning, finding, Some(remedy))
}

/// Tenants will not run well, or not be safe.
pub(super) fn failed(finding: impl Into<String>, remedy: &'static str) -> Finding {
    Finding::of(Verdict::Failed, finding, Some(remedy))
}

/// It could not be looked at: that is no sign that all is well.
pub(super) fn unknown(why: &str, remedy: &'static str) -> Finding {
    Finding::of(Verdict::Unknown, format!("not known: {why}"), Some(remedy))
}
