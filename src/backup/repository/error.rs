//! What can go wrong with the writer's side of a repository.

use std::io;

use camino::Utf8PathBuf;

use crate::backup::commit::CommitError;
use crate::backup::seal::SealError;
use crate::object_store::StoreError;

/// Why a repository could not be made, opened or advanced.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// A local file.
    #[error("{path} cannot be {action}")]
    Local {
        /// `read`, `written`, `made`, `removed` or `locked`.
        action: &'static str,
        /// Which.
        path: Utf8PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// There is none.
    #[error("{0} holds no repository; the first backup makes one")]
    Missing(Utf8PathBuf),
    /// A file of the repository is not what was written.
    #[error(
        "{path} is damaged; restore the node's own repository, or move the directory away: \
         the next backup then begins a new repository"
    )]
    Damaged {
        /// Which.
        path: Utf8PathBuf,
        /// What the parser says.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// Somebody else is writing.
    #[error("{0} is in use: another backup of the same tenant is running; wait for it to end")]
    Locked(Utf8PathBuf),
    /// Another repository is there already.
    #[error("{0} holds a repository already; move it away to adopt another")]
    Exists(Utf8PathBuf),
    /// No keys could be made or wrapped.
    #[error("the keys of a new repository could not be made")]
    Keys(#[source] SealError),
    /// The object store refused.
    #[error("the repository could not be written to the object store")]
    Store(#[source] StoreError),
    /// It took too long, or the host's clock jumped.
    #[error(
        "the snapshot took longer than a day, so what it stored first may have been collected; \
         it does not count, and the next one stores everything anew"
    )]
    TooLate,
    /// The next commit could not be made.
    #[error("the commit could not be signed")]
    Commit(#[source] CommitError),
}
