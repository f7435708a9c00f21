//! Repositories that this host knows from the node's catalogue only, because it was rebuilt: the store may hold
//! snapshots that the host knows nothing of, so nothing is backed up until a restore has gone on from them.

use camino::Utf8Path;

use super::ProtectError;
use crate::backup::CommitName;
use crate::host::files;

/// A file in a repository's local directory that says so. It holds the name of the newest commit
/// by the word of the heartbeat before, or nothing.
pub(super) const FROM_CATALOGUE: &str = "from-catalogue";

/// Longest such file; a commit's name has 87 bytes.
const LIMIT: u64 = 256;

/// Whether the repository is known from the catalogue only.
pub(super) fn is_catalogued(directory: &Utf8Path) -> bool {
    directory.join(FROM_CATALOGUE).exists()
}

/// Notes that the repository is known from the catalogue only, and the newest commit that is known of.
pub(super) fn note_catalogued(
    directory: &Utf8Path,
    head: Option<CommitName>,
) -> Result<(), ProtectError> {
    let text = head.map(|head| head.to_string()).unwrap_or_default();
    Ok(files::write(
        &directory.join(FROM_CATALOGUE),
        text.as_bytes(),
        0o600,
    )?)
}

/// The newest commit that the last heartbeat before named of such a repository.
pub(super) fn catalogued_head(directory: &Utf8Path) -> Result<Option<CommitName>, ProtectError> {
    match files::read(&directory.join(FROM_CATALOGUE), LIMIT) {
        Ok(text) => Ok(std::str::from_utf8(&text).ok().and_then(CommitName::parse)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// From now on the host goes on with the repository. Repeatable.
pub(super) fn settle(directory: &Utf8Path) -> Result<(), ProtectError> {
    files::remove(&directory.join(FROM_CATALOGUE))?;
    Ok(())
}
