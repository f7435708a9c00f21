//! What can go wrong with the state database.

use camino::{Utf8Path, Utf8PathBuf};
use rusqlite::ErrorCode;

use crate::quadlet::IdRangeError;
use crate::tenant::{TenantId, TenantState};

/// Failures of the state database.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file could not be opened or prepared.
    #[error(
        "cannot open the state database {path}; if it is damaged, move it away and run \
         `tenantd restore --node`"
    )]
    Open {
        /// The database file.
        path: Utf8PathBuf,
        /// What `SQLite` said.
        #[source]
        source: rusqlite::Error,
    },
    /// The disk has no room.
    #[error(
        "cannot {doing}: the disk of the state database, in /var/lib/tenantd, is full; make room \
         there and do the same again"
    )]
    Full {
        /// What was being done, as a verb phrase.
        doing: &'static str,
    },
    /// The file was written by a newer tenantd.
    #[error(
        "the state database {path} has schema {found}, this tenantd knows {known}: update tenantd"
    )]
    TooNew {
        /// The database file.
        path: Utf8PathBuf,
        /// Schema version of the file.
        found: u32,
        /// Newest schema version known here.
        known: u32,
    },
    /// A statement failed.
    #[error("cannot {doing} in the state database")]
    Statement {
        /// What was being done, as a verb phrase.
        doing: &'static str,
        /// What `SQLite` said.
        #[source]
        source: rusqlite::Error,
    },
    /// A stored document does not parse.
    #[error("the state database holds {what} that this tenantd cannot read")]
    Document {
        /// Which document.
        what: String,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// No such tenant.
    #[error("there is no tenant {0}; `tenantd list` shows those there are")]
    NoTenant(TenantId),
    /// A transition that the state machine does not have.
    #[error("tenant {tenant} is {from} and cannot become {to}")]
    Forbidden {
        /// The tenant.
        tenant: TenantId,
        /// Where it is.
        from: TenantState,
        /// Where it was to be moved.
        to: TenantState,
    },
    /// Every id range is given out, or a stored one is none.
    #[error("a tenant cannot be given its user ids")]
    IdRange(#[source] IdRangeError),
    /// The database thread has ended.
    #[error("the state database is closed")]
    Closed,
}

impl StateError {
    /// Names the statement that failed.
    pub(super) fn statement(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| {
            if is_full(&source) {
                Self::Full { doing }
            } else {
                Self::Statement { doing, source }
            }
        }
    }

    /// Names the file that could not be opened.
    pub(super) fn open(path: &Utf8Path) -> impl Fn(rusqlite::Error) -> Self {
        move |source| {
            if is_full(&source) {
                Self::Full {
                    doing: "open the state database",
                }
            } else {
                Self::Open {
                    path: path.to_owned(),
                    source,
                }
            }
        }
    }

    /// Names the document that does not parse.
    pub(super) fn document(what: impl Into<String>) -> impl FnOnce(serde_json::Error) -> Self {
        let what = what.into();
        move |source| Self::Document { what, source }
    }
}

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}
