//! What is in a snapshot, told without restoring anything.
//! It reads the tree and no pack; nothing on this host changes.

use jiff::Timestamp;
use serde::Serialize;

use super::ProtectError;
use super::opened::{Opened, Wanted, local_spec, open};
use crate::backup::selection;
use crate::backup::{Entry, EntryKind, FileTime, Metadata, escape_path};
use crate::layout::Layout;
use crate::node::NodeSettings;
use crate::tenant::TenantId;

/// What a snapshot has at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Listing {
    /// The snapshot's number.
    pub snapshot: u64,
    /// The moment the data is of.
    pub taken_at: Timestamp,
    /// Why it is not as new as it should be, where it was taken for the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
    /// What is there, in the order of names.
    pub files: Vec<ListedFile>,
}

/// One name in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ListedFile {
    /// Its path below the state directory; bytes that are no plain text as `%XX`.
    pub path: String,
    /// `directory`, `file`, or `symlink`.
    pub kind: &'static str,
    /// Permission bits (07777).
    pub mode: u32,
    /// Owner, as the container sees it.
    pub uid: u32,
    /// Group, as the container sees it.
    pub gid: u32,
    /// Size in bytes, of files.
    pub size: Option<u64>,
    /// Last change of the content.
    pub modified: Timestamp,
    /// What a symbolic link points to, or the first name of a file with several.
    pub target: Option<String>,
}

/// Lists what `path` names in a snapshot of `tenant`; a directory's whole content when
/// `recursive`.
pub async fn list_files(
    layout: &Layout,
    settings: &NodeSettings,
    tenant: &TenantId,
    wanted: Wanted<'_>,
    path: &str,
    recursive: bool,
) -> Result<Listing, ProtectError> {
    let opened = open_snapshot(layout, settings, tenant, wanted).await?;
    let entries = opened.entries(tenant.as_str()).await?;
    let path = resolve(&opened, tenant, &entries, path)?;
    let found: Vec<&Entry> = if recursive {
        selection::find(&entries, &path)
            .into_iter()
            .flatten()
            .collect()
    } else {
        selection::children(&entries, &path).unwrap_or_default()
    };
    let commit = opened.commit();
    Ok(Listing {
        snapshot: commit.name.sequence.into(),
        taken_at: commit.commit.time,
        doubt: opened.doubt(),
        files: found
            .into_iter()
            .filter_map(|entry| listed(entry, selection::file_of(&entries, entry)))
            .collect(),
    })
}

/// Opens a snapshot of a tenant that this host knows.
pub(super) async fn open_snapshot(
    layout: &Layout,
    settings: &NodeSettings,
    tenant: &TenantId,
    wanted: Wanted<'_>,
) -> Result<Opened, ProtectError> {
    let missing = || ProtectError::NoRepository(tenant.to_string());
    let spec = local_spec(layout, tenant.as_str())?.ok_or_else(missing)?;
    open(layout, settings, tenant.as_str(), &spec, wanted)
        .await?
        .ok_or_else(|| ProtectError::NothingStored(tenant.to_string()))
}

/// The path that a person means by `text`.
pub(super) fn resolve(
    opened: &Opened,
    tenant: &TenantId,
    entries: &[Entry],
    text: &str,
) -> Result<Vec<u8>, ProtectError> {
    selection::meanings(text)
        .into_iter()
        .find(|path| selection::find(entries, path).is_some())
        .ok_or_else(|| ProtectError::NoPath {
            name: tenant.to_string(),
            snapshot: opened.commit().name.sequence.into(),
            path: text.to_owned(),
        })
}

/// One line of a listing; `file` is what the entry is a name of.
fn listed(entry: &Entry, file: &Entry) -> Option<ListedFile> {
    let (kind, metadata, size, target): (_, &Metadata, _, _) = match &file.kind {
        EntryKind::Directory(metadata) => ("directory", metadata, None, None),
        EntryKind::File { metadata, size, .. } => {
            let first = (file.path != entry.path).then_some(&file.path);
            ("file", metadata, Some(*size), first)
        }
        EntryKind::Symlink { metadata, target } => ("symlink", metadata, None, Some(target)),
        // Its target is a file: the tree's reader has checked it.
        EntryKind::Hardlink { .. } => return None,
    };
    Some(ListedFile {
        path: escape_path(&entry.path),
        kind,
        mode: metadata.mode,
        uid: metadata.uid,
        gid: metadata.gid,
        size,
        modified: moment(metadata.mtime),
        target: target.map(|target| escape_path(target)),
    })
}

/// A file's time, as near as a calendar reaches.
fn moment(time: FileTime) -> Timestamp {
    let limit = if time.seconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    Timestamp::from_nanosecond(time.as_nanos()).unwrap_or(limit)
}
