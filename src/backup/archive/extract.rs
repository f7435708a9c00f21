//! Writes the files of a checked archive into a fresh directory, by the same confined writer as a restore.
//! The archive is read a second time: what it says then is only taken as content.

use std::io;
use std::sync::Arc;

use camino::Utf8PathBuf;

use super::index::{Archive, ArchiveError, open};
use crate::backup::entry::EntryKind;
use crate::backup::progress::{Progress, Stage};
use crate::backup::restore_files::{RestoreFilesError, Target};

/// Bytes that are written at a time; so many zeros are left as a hole.
const STEP: usize = 64 << 10;

/// Where and how to write an archive's files.
#[derive(Clone)]
pub struct ImportRequest {
    /// A directory that does not exist yet; it holds all or nothing afterwards.
    pub target: Utf8PathBuf,
    /// Whether to set owners, which needs root.
    pub ownership: bool,
    /// Whether files keep setuid and setgid bits.
    pub keep_setuid: bool,
    /// Told how far it is.
    pub progress: Arc<dyn Progress>,
}

/// Why an archive's files were not written.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The target.
    #[error("the files could not be written; nothing is left of them")]
    Files(#[from] RestoreFilesError),
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// Files whose setuid or setgid bit was dropped.
    pub setuid_dropped: u64,
}

impl Archive {
    /// Writes all files. It blocks: the caller is on a thread of its own.
    ///
    /// # Errors
    /// See [`ImportError`]; the target is removed again.
    pub fn extract(self, request: &ImportRequest) -> Result<Imported, ImportError> {
        let progress = request.progress.as_ref();
        progress.stage(Stage::Import, Some(self.bytes), Some(self.files));
        let Self {
            file,
            entries,
            contents,
            ..
        } = self;
        let sizes: Vec<u64> = entries
            .iter()
            .map(|entry| match entry.kind {
                EntryKind::File { size, .. } => size,
                _ => 0,
            })
            .collect();
        let whole = vec![false; entries.len()];
        let options = (request.ownership, request.keep_setuid);
        let target = Target::create(request.target.clone(), entries, whole, options)?;
        let written = fill(&target, &file, &contents, &sizes, progress)
            .and_then(|()| target.finish().map_err(ImportError::Files));
        match written {
            Ok(setuid_dropped) => Ok(Imported { setuid_dropped }),
            Err(error) => {
                target.remove();
                Err(error)
            }
        }
    }
}

fn fill(
    target: &Target,
    file: &Utf8PathBuf,
    contents: &[(usize, usize)],
    sizes: &[u64],
    progress: &dyn Progress,
) -> Result<(), ImportError> {
    let failed = |source| ArchiveError::Read {
        path: file.clone(),
        source,
    };
    let changed = || ArchiveError::Layout("it was changed while it was read");
    let mut archive = open(file).map_err(failed)?;
    let mut places = contents.iter().peekable();
    let mut buffer = vec![0; STEP];
    for (number, entry) in archive.entries().map_err(failed)?.raw(true).enumerate() {
        let mut entry = entry.map_err(failed)?;
        let Some((_, place)) = places.next_if(|(wanted, _)| *wanted == number) else {
            continue;
        };
        let place = *place;
        let out = target.open(u32::try_from(place).map_err(|_| changed())?)?;
        let mut offset = 0;
        loop {
            let length = read_full(&mut entry, &mut buffer).map_err(failed)?;
            if length == 0 {
                break;
            }
            let end = offset + length as u64;
            if end > sizes[place] {
                return Err(changed().into());
            }
            if buffer[..length].iter().any(|byte| *byte != 0) {
                out.write(offset, &buffer[..length])?;
            }
            offset = end;
            progress.bytes(length as u64);
        }
        progress.files(1);
    }
    places.next().map_or(Ok(()), |_| Err(changed().into()))
}

/// Fills the buffer, unless the end comes first.
fn read_full(reader: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match reader.read(&mut buffer[length..])? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}
