//! The files of a repository's local directory: their names, and how each is read and written.
//! What leads from one to the next is the repository's affair.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;

use camino::Utf8Path;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::error::RepositoryError;
use super::spec::RepositorySpec;
use crate::backup::id::{Digest, RepositoryId};
use crate::backup::names::CommitName;
use crate::backup::record::SnapshotRecord;
use crate::backup::{FORMAT_VERSION, local_file};

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Head {
    epoch: u32,
    sequence: u32,
    commit: Digest,
}

/// What the host knows of a repository, without opening it; `None` where there is none.
///
/// # Errors
/// The file cannot be read or is damaged.
pub fn read_local_spec(directory: &Utf8Path) -> Result<Option<RepositorySpec>, RepositoryError> {
    if directory.join(SPEC).exists() {
        read_spec(directory).map(Some)
    } else {
        Ok(None)
    }
}

/// The newest commit of a repository that this host knows was stored, without opening it; `None` where
/// there is none.
///
/// # Errors
/// The files cannot be read or are damaged.
pub fn known_head(
    directory: &Utf8Path,
) -> Result<Option<(RepositoryId, CommitName)>, RepositoryError> {
    let (Some(spec), Some(head)) = (read_local_spec(directory)?, read_head(directory)?) else {
        return Ok(None);
    };
    let path = directory.join(GIVEN_UP);
    let given_up = local_file::read(&path).map_err(local("read", &path))?;
    if given_up.is_none_or(|name| name != head.to_string().as_bytes()) {
        return Ok(Some((spec.id, head)));
    }
    let newest = local_snapshots(directory)?.into_iter().next();
    Ok(newest.map(|record| (spec.id, record.name())))
}

/// The snapshots that this host made, newest first, from local records: no network, no lock.
///
/// # Errors
/// The records cannot be read.
pub fn local_snapshots(directory: &Utf8Path) -> Result<Vec<SnapshotRecord>, RepositoryError> {
    let snapshots = directory.join(SNAPSHOTS);
    let entries = match snapshots.read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(local("read", &snapshots)(error)),
    };
    let mut records = Vec::new();
    for entry in entries {
        let entry = entry.map_err(local("read", &snapshots))?;
        if entry.path().extension() == Some("json") {
            records.push(read_json::<SnapshotRecord>(entry.path())?);
        }
    }
    records.sort_by_key(|record| std::cmp::Reverse((record.epoch, record.sequence)));
    Ok(records)
}

/// The bytes of a commit that this host stored, as it remembers them: nothing tells here that they are the right ones.
pub(in crate::backup) fn known_commit(directory: &Utf8Path, name: &CommitName) -> Option<Vec<u8>> {
    let path = directory.join(SNAPSHOTS).join(name.to_string());
    local_file::read(&path).ok().flatten()
}

/// Removes the records of snapshots that are not in the store any more, and gives how many.
///
/// The newest stays: what is newer than the listing must not be forgotten.
///
/// # Errors
/// A record cannot be read or removed.
pub fn forget_snapshots(
    directory: &Utf8Path,
    is_gone: impl Fn(&SnapshotRecord) -> bool,
) -> Result<usize, RepositoryError> {
    let mut forgotten = 0;
    for record in local_snapshots(directory)?.iter().skip(1) {
        if !is_gone(record) {
            continue;
        }
        let name = record.name();
        let snapshots = directory.join(SNAPSHOTS);
        for file in [name.to_string(), format!("{name}.json")] {
            let path = snapshots.join(file);
            local_file::remove(&path).map_err(local("written", &path))?;
        }
        forgotten += 1;
    }
    Ok(forgotten)
}

pub(super) const SPEC: &str = "repository.json";
pub(in crate::backup) const KEYS: &str = "keys.age";
pub(super) const PUBLISHED: &str = "published";
pub(super) const HEAD: &str = "head.json";
/// The last commit that was given up, of which nobody can tell whether it is stored.
pub(super) const GIVEN_UP: &str = "given-up";
pub(super) const INDEX: &str = "index";
const LOCK: &str = "lock";
pub(super) const SNAPSHOTS: &str = "snapshots";
/// Names the commit that is to be the head; there only between "all is prepared" and "all is done".
pub(super) const INTENT: &str = "intent";
pub(super) const NEXT_INDEX: &str = "next-index";
pub(super) const NEXT_RECORD: &str = "next-record";
pub(super) const NEXT_COMMIT: &str = "next-commit";

pub(in crate::backup) fn local(
    action: &'static str,
    path: &Utf8Path,
) -> impl FnOnce(io::Error) -> RepositoryError {
    let path = path.to_owned();
    move |source| RepositoryError::Local {
        action,
        path,
        source,
    }
}

pub(super) fn lock(directory: &Utf8Path) -> Result<File, RepositoryError> {
    make_directory(directory)?;
    let path = directory.join(LOCK);
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(local("locked", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(RepositoryError::Locked(directory.to_owned())),
        Err(error) => Err(local("locked", &path)(error.into())),
    }
}

pub(super) fn make_directory(path: &Utf8Path) -> Result<(), RepositoryError> {
    local_file::make_directory(path).map_err(local("made", path))
}

/// Makes sure that the directory of a new repository outlives a loss of power: a process that made it may have
/// been killed before it did.
pub(super) fn keep_directory(path: &Utf8Path) -> Result<(), RepositoryError> {
    local_file::sync_parent(path).map_err(local("made", path))
}

pub(in crate::backup) fn write(path: &Utf8Path, bytes: &[u8]) -> Result<(), RepositoryError> {
    local_file::write(path, bytes).map_err(local("written", path))
}

pub(super) fn to_json(value: &impl Serialize, path: &Utf8Path) -> Result<Vec<u8>, RepositoryError> {
    let damaged = |source| RepositoryError::Damaged {
        path: path.to_owned(),
        source: Some(source),
    };
    let mut bytes = serde_json::to_vec(value).map_err(damaged)?;
    bytes.push(b'\n');
    Ok(bytes)
}

pub(in crate::backup) fn write_json(
    path: &Utf8Path,
    value: &impl Serialize,
) -> Result<(), RepositoryError> {
    write(path, &to_json(value, path)?)
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Utf8Path) -> Result<T, RepositoryError> {
    let bytes = fs::read(path).map_err(local("read", path))?;
    serde_json::from_slice(&bytes).map_err(|source| RepositoryError::Damaged {
        path: path.to_owned(),
        source: Some(source),
    })
}

pub(super) fn read_spec(directory: &Utf8Path) -> Result<RepositorySpec, RepositoryError> {
    let path = directory.join(SPEC);
    let spec: RepositorySpec = read_json(&path)?;
    if spec.version != FORMAT_VERSION {
        return Err(RepositoryError::Damaged { path, source: None });
    }
    Ok(spec)
}

pub(in crate::backup) fn read_head(
    directory: &Utf8Path,
) -> Result<Option<CommitName>, RepositoryError> {
    let path = directory.join(HEAD);
    if !path.exists() {
        return Ok(None);
    }
    let head: Head = read_json(&path)?;
    Ok(Some(CommitName {
        epoch: head.epoch,
        sequence: head.sequence,
        digest: head.commit,
    }))
}

pub(super) fn write_head(directory: &Utf8Path, name: &CommitName) -> Result<(), RepositoryError> {
    let head = Head {
        epoch: name.epoch,
        sequence: name.sequence,
        commit: name.digest,
    };
    write_json(&directory.join(HEAD), &head)
}
