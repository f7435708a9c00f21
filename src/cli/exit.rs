//! The exit codes of `tenantd`, one place for their numbers and meaning.
//! Which error leads to which code is said beside the error enums.

use std::process::ExitCode;

/// How a run of `tenantd` ended. `exec` passes on the code of what it ran instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It failed for a reason that none of the others names.
    Failed = 1,
    /// The command line was wrong.
    Usage = 2,
    /// A document, an image or units were refused; nothing was changed.
    Invalid = 3,
    /// There is no such tenant, template, plan or operation.
    NotFound = 4,
    /// It cannot be done as things stand.
    Conflict = 5,
    /// tenantd does not answer, or may not be asked.
    Unreachable = 6,
    /// The agent did not start, or does not answer.
    NotHealthy = 7,
}

/// Every code with its meaning, for the manual pages and `--help`.
pub const MEANINGS: [(u8, &str); 8] = [
    (0, "Done."),
    (1, "Failed."),
    (2, "Wrong usage."),
    (3, "Refused as invalid; nothing was changed."),
    (4, "No such tenant, template, plan or snapshot."),
    (5, "Conflict: it cannot be done as things stand."),
    (6, "tenantd does not answer, or may not be asked."),
    (7, "The agent did not start, or is not healthy."),
];

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// The one code of several failures: theirs if they agree, else [`Exit::Failed`].
    pub fn of_all(exits: impl IntoIterator<Item = Self>) -> Self {
        let mut exits = exits.into_iter();
        match exits.next() {
            Some(first) if exits.all(|exit| exit == first) => first,
            _ => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&[Exit::NotFound], Exit::NotFound)]
    #[case(&[Exit::NotFound, Exit::NotFound], Exit::NotFound)]
    #[case(&[Exit::NotFound, Exit::Conflict], Exit::Failed)]
    #[case(&[], Exit::Failed)]
    fn several_failures_have_one_code(#[case] exits: &[Exit], #[case] expected: Exit) {
        assert_eq!(Exit::of_all(exits.iter().copied()), expected);
    }
}
