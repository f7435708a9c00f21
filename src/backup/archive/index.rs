//! Reads all names of an archive that anybody may have made, and believes none before it is checked.
//! It gives entries as the restore of a snapshot takes them; contents are read by `extract`.

use std::fs::File;
use std::io::{self, Read};

use camino::{Utf8Path, Utf8PathBuf};
use tar::{EntryType, Header};

use super::extensions::Extensions;
use super::{ABOUT, About, SPEC, STATE, VERSION};
use crate::backup::entry::{Entry, EntryKind};
use crate::backup::path;
use crate::backup::scan::MAX_NAMES;

/// Longest header of extensions: a path, a target and all attributes that Linux keeps of one file.
const MAX_EXTENSIONS: u64 = 1 << 20;
/// Bytes after the end: tar programs fill their last record.
const MAX_PADDING: u64 = 1 << 20;
/// Longest spec that is read.
const MAX_SPEC: u64 = 256 << 10;
/// Longest document that says what the archive is.
const MAX_ABOUT: u64 = 64 << 10;
/// Names, targets and attributes of all entries together, in bytes. A small archive can say a lot: zeros compress
/// a thousandfold. Ten million names of a hundred bytes are still less.
const MAX_KEPT: usize = 1 << 30;

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be read.
    #[error("{path} cannot be read as a tar archive in zstd")]
    Read {
        /// The archive.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not one of ours.
    #[error("the archive is no export of a tenant that this version reads: {0}")]
    Layout(&'static str),
    /// A name in it is refused.
    #[error("the archive is refused, and nothing was written: {path:?} {reason}")]
    Refused {
        /// The escaped name.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// It has special files.
    #[error(
        "the archive is refused, and nothing was written: {0:?} is a device, FIFO or other special file; \
         --allow-special leaves such files out, and keeps setuid and setgid bits"
    )]
    Special(String),
    /// It is larger than what there is room for.
    #[error("the archive holds more than the {room} bytes that are free here")]
    TooLarge {
        /// Free bytes.
        room: u64,
    },
    /// It has more names than a host can handle.
    #[error("the archive holds more than {MAX_NAMES} files")]
    TooMany,
    /// It says more of its files than a host can keep in memory.
    #[error("the names and attributes of the archive's files are more than {MAX_KEPT} bytes")]
    TooMuch,
}

/// All that an archive holds but the contents of files.
#[derive(Debug)]
pub struct Archive {
    pub(super) file: Utf8PathBuf,
    /// What it says of itself.
    pub about: About,
    /// The spec.
    pub spec: String,
    /// Sorted, unique, each in a directory that is there.
    pub(super) entries: Vec<Entry>,
    /// For each file, in the order of the archive: which header of it, and the place of its entry.
    pub(super) contents: Vec<(usize, usize)>,
    /// Special files that were left out.
    pub left_out: u64,
    /// Files.
    pub files: u64,
    /// Their sizes added up.
    pub bytes: u64,
}

impl Archive {
    /// Reads an archive from its beginning to its end, and checks every name.
    ///
    /// Files of more than `room` bytes together are refused; special files too, unless they are to be left out.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub fn read(file: &Utf8Path, room: u64, skip_special: bool) -> Result<Self, ArchiveError> {
        let failed = |source| ArchiveError::Read {
            path: file.to_owned(),
            source,
        };
        let mut archive = open(file).map_err(failed)?;
        let mut index = Index {
            room,
            skip_special,
            ..Index::default()
        };
        let mut extensions = Extensions::default();
        for (number, entry) in archive.entries().map_err(failed)?.raw(true).enumerate() {
            let mut entry = entry.map_err(failed)?;
            let header = entry.header().clone();
            let kind = header.entry_type();
            match kind {
                EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink => {
                    let text = bounded(&mut entry, MAX_EXTENSIONS).map_err(failed)?;
                    let text = text.ok_or(ArchiveError::Layout("a header is too long"))?;
                    extensions.take(kind, text)?;
                }
                EntryType::XGlobalHeader => {}
                _ => {
                    let name = extensions.name(&header);
                    if name == ABOUT.as_bytes() {
                        index.about = bounded(&mut entry, MAX_ABOUT).map_err(failed)?;
                    } else if name == SPEC.as_bytes() {
                        index.spec = bounded(&mut entry, MAX_SPEC).map_err(failed)?;
                    } else {
                        index.add(number, &name, &header, &extensions)?;
                    }
                    extensions = Extensions::default();
                }
            }
        }
        // What follows the end of the archive is padding; the checksum of the whole comes after it.
        let rest = bounded(&mut archive.into_inner(), MAX_PADDING).map_err(failed)?;
        rest.ok_or(ArchiveError::Layout("it goes on after its end"))?;
        index.finish(file)
    }
}

/// Opens an archive for one reading.
pub(super) fn open(
    file: &Utf8Path,
) -> io::Result<tar::Archive<zstd::Decoder<'static, io::BufReader<File>>>> {
    Ok(tar::Archive::new(zstd::Decoder::new(File::open(file)?)?))
}

/// Everything of a reader, unless it is longer than `limit`.
fn bounded(reader: &mut impl Read, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

#[derive(Debug, Default)]
struct Index {
    about: Option<Vec<u8>>,
    spec: Option<Vec<u8>>,
    entries: Vec<Entry>,
    contents: Vec<(usize, usize)>,
    left_out: u64,
    files: u64,
    bytes: u64,
    /// Bytes of names, targets and attributes in memory.
    kept: usize,
    room: u64,
    skip_special: bool,
}

impl Index {
    fn add(
        &mut self,
        number: usize,
        name: &[u8],
        header: &Header,
        extensions: &Extensions,
    ) -> Result<(), ArchiveError> {
        let refused = |reason| ArchiveError::Refused {
            path: path::show(name),
            reason,
        };
        if self.entries.len() >= MAX_NAMES {
            return Err(ArchiveError::TooMany);
        }
        let path =
            state_path(name).ok_or_else(|| refused("is not in state/, or leads out of it"))?;
        let wrong = |_| refused("has a malformed header");
        let size = header.entry_size().map_err(wrong)?;
        if extensions.size.is_some_and(|given| given != size) {
            return Err(refused("has two sizes"));
        }
        let target = || {
            let own = || header.link_name_bytes().map(std::borrow::Cow::into_owned);
            let target = extensions.target.clone().or_else(own).unwrap_or_default();
            let fits = !target.is_empty() && target.len() <= path::MAX_PATH && !target.contains(&0);
            fits.then_some(target)
                .ok_or_else(|| refused("is a link to an impossible name"))
        };
        let id = |given: Option<u32>, old: io::Result<u64>| {
            let old = old.map_err(wrong)?;
            let id = given.or_else(|| u32::try_from(old).ok());
            id.filter(|id| *id != u32::MAX)
                .ok_or_else(|| refused("has an impossible owner"))
        };
        let mut metadata = extensions.metadata.clone();
        metadata.mode = header.mode().map_err(wrong)? & 0o7777;
        metadata.uid = id(extensions.uid, header.uid())?;
        metadata.gid = id(extensions.gid, header.gid())?;
        if !extensions.has_mtime {
            let seconds = header.mtime().map_err(wrong)?;
            metadata.mtime.seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        }
        let kind = match header.entry_type() {
            EntryType::Directory => EntryKind::Directory(metadata),
            EntryType::Regular | EntryType::Continuous => {
                self.bytes = self.bytes.saturating_add(size);
                self.files += 1;
                if self.bytes > self.room {
                    return Err(ArchiveError::TooLarge { room: self.room });
                }
                self.contents.push((number, self.entries.len()));
                let pieces = Vec::new();
                EntryKind::File {
                    metadata,
                    size,
                    pieces,
                }
            }
            EntryType::Symlink => EntryKind::Symlink {
                metadata,
                target: target()?,
            },
            EntryType::Link => EntryKind::Hardlink {
                target: state_path(&target()?)
                    .ok_or_else(|| refused("is a link to what is not in state/"))?,
            },
            EntryType::GNUSparse => {
                return Err(ArchiveError::Layout(
                    "it has sparse files as GNU tar writes them",
                ));
            }
            _ if self.skip_special => {
                self.left_out += 1;
                return Ok(());
            }
            _ => return Err(ArchiveError::Special(path::show(name))),
        };
        let entry = Entry { path, kind };
        self.keep(said(&entry))?;
        self.entries.push(entry);
        Ok(())
    }

    /// Counts what is kept in memory.
    fn keep(&mut self, bytes: usize) -> Result<(), ArchiveError> {
        self.kept = self.kept.saturating_add(bytes);
        if self.kept > MAX_KEPT {
            return Err(ArchiveError::TooMuch);
        }
        Ok(())
    }

    /// Sorts the entries and checks each against the others.
    fn finish(self, file: &Utf8Path) -> Result<Archive, ArchiveError> {
        let about: About = self
            .about
            .and_then(|text| serde_json::from_slice(&text).ok())
            .filter(|about: &About| about.version == VERSION)
            .ok_or(ArchiveError::Layout(
                "tenantd-export.json is missing, or of another version",
            ))?;
        let spec = self
            .spec
            .and_then(|text| String::from_utf8(text).ok())
            .ok_or(ArchiveError::Layout(
                "tenant.toml is missing, too long, or no text",
            ))?;
        let mut order: Vec<usize> = (0..self.entries.len()).collect();
        order.sort_by(|a, b| path::compare(&self.entries[*a].path, &self.entries[*b].path));
        let mut place = vec![0; order.len()];
        for (new, old) in order.iter().enumerate() {
            place[*old] = new;
        }
        let mut slots: Vec<Option<Entry>> = self.entries.into_iter().map(Some).collect();
        let entries: Vec<Entry> = order.iter().filter_map(|old| slots[*old].take()).collect();
        check(&entries)?;
        Ok(Archive {
            file: file.to_owned(),
            about,
            spec,
            entries,
            contents: self
                .contents
                .into_iter()
                .map(|(number, old)| (number, place[old]))
                .collect(),
            left_out: self.left_out,
            files: self.files,
            bytes: self.bytes,
        })
    }
}

/// How many bytes an entry has of its own: its path, its target, and its attributes with what it takes to find them.
fn said(entry: &Entry) -> usize {
    /// A place in a map.
    const PLACE: usize = 64;

    let (metadata, target) = match &entry.kind {
        EntryKind::Directory(metadata) | EntryKind::File { metadata, .. } => (Some(metadata), 0),
        EntryKind::Symlink { metadata, target } => (Some(metadata), target.len()),
        EntryKind::Hardlink { target } => (None, target.len()),
    };
    let xattrs = metadata.into_iter().flat_map(|metadata| &metadata.xattrs);
    let xattrs = xattrs.map(|(name, value)| PLACE + name.len() + value.len());
    entry.path.len() + target + xattrs.sum::<usize>()
}

/// The path below the state directory that an archive's name means.
fn state_path(name: &[u8]) -> Option<Vec<u8>> {
    if name == STATE.as_bytes() {
        return Some(path::ROOT.to_vec());
    }
    let path = name.strip_prefix(STATE.as_bytes())?.strip_prefix(b"/")?;
    path::is_normal(path).then(|| path.to_vec())
}

/// Checks sorted entries against each other.
fn check(entries: &[Entry]) -> Result<(), ArchiveError> {
    let refuse = |entry: &Entry, reason| {
        let path = path::show(&entry.path);
        Err(ArchiveError::Refused { path, reason })
    };
    let is_directory = |entry: &Entry| matches!(entry.kind, EntryKind::Directory(_));
    let find = |wanted: &[u8]| {
        let found = entries.binary_search_by(|entry| path::compare(&entry.path, wanted));
        found.ok().map(|at| &entries[at])
    };
    if !entries
        .first()
        .is_some_and(|root| root.path == path::ROOT && is_directory(root))
    {
        return Err(ArchiveError::Layout("it has no directory state/"));
    }
    for pair in entries.windows(2) {
        if path::compare(&pair[0].path, &pair[1].path).is_eq() {
            return refuse(&pair[1], "comes twice");
        }
    }
    for entry in &entries[1..] {
        if !find(path::parent(&entry.path)).is_some_and(is_directory) {
            return refuse(entry, "is in a directory that the archive does not hold");
        }
        if let EntryKind::Hardlink { target } = &entry.kind
            && !find(target).is_some_and(|file| matches!(file.kind, EntryKind::File { .. }))
        {
            return refuse(entry, "is a link to no file of the archive");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_archive_says_of_its_files_is_bounded() {
        let mut extensions = Extensions::default();
        let value = vec![0; 64 << 10];
        extensions
            .metadata
            .xattrs
            .insert("user.a".to_owned(), value);
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Directory);
        for set in [
            Header::set_uid,
            Header::set_gid,
            Header::set_mtime,
            Header::set_size,
        ] {
            set(&mut header, 0);
        }
        header.set_mode(0o755);
        let mut index = Index {
            kept: MAX_KEPT - (200 << 10),
            ..Index::default()
        };
        let added = (0..4).map(|number| {
            let name = format!("state/{number}");
            index.add(number, name.as_bytes(), &header, &extensions)
        });
        let added: Vec<_> = added.collect();
        assert!(added[..3].iter().all(Result::is_ok), "{added:?}");
        assert!(matches!(added[3], Err(ArchiveError::TooMuch)), "{added:?}");
    }
}
