//! How a running agent's files are read as of one moment, with a short pause.
//!
//! Most files are read while the agent runs; in the pause everything is looked at again, and only what
//! changed since is cloned or, where it is small, kept in memory. A file counts as unchanged when its stamp is equal **and** it was last changed
//! before the `syncfs` that began the reading: that wrote out and write-protected every mapped page, so any
//! later write, also through a mapping, gives the file a new ctime.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use rustix::fs::OFlags;

use super::entry::Xattrs;
use super::file_record::{Content, FileRecord, FileStamp, Held};
use super::files;
use super::path;
use super::pipeline::{Pipeline, PipelineError, SMALL_FILE};
use super::progress::{Progress, Stage};
use super::record::CaptureReport;
use super::scan::{Found, FoundKind, Scan, ScanError, is_vanished, scan};
use super::seen::Seen;
use super::tree::Labels;
use crate::failpoint;
use crate::host::clone::clone_or_copy;

/// Before Linux 6.13 a file's times advance once per timer tick, at most 10 ms apart; a change
/// within this time before a look may not be visible in the stamp.
const TICK_NANOS: i128 = 20_000_000;

/// Why files could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A directory of the host.
    #[error("{path} cannot be {action}")]
    Directory {
        /// `opened`, `made` or `synced`.
        action: &'static str,
        /// Which.
        path: Utf8PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The scan.
    #[error("the files could not be listed")]
    Scan(#[source] ScanError),
    /// A file.
    #[error("{path:?} could not be {action}; nothing was committed")]
    File {
        /// `read` or `cloned`.
        action: &'static str,
        /// Its escaped path from the root.
        path: String,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The pipeline.
    #[error("the files could not be stored")]
    Pipeline(#[source] PipelineError),
}

/// So many bytes of small files are read in the pause and kept: sharing blocks would write out each
/// file first, which takes longer.
const KEPT: u64 = 32 << 20;

/// A file as it was in the pause.
struct Waiting {
    path: Vec<u8>,
    stamp: FileStamp,
    xattrs: Xattrs,
    content: Paused,
}

/// Where the content of a file is that was secured in the pause.
enum Paused {
    /// In memory.
    Kept(Vec<u8>),
    /// In a clone.
    Cloned(Utf8PathBuf),
}

/// The directory for clones; it goes with the value, and so also after a failure: without
/// reflinks clones take space that others may need.
struct Clones(Utf8PathBuf);

impl Drop for Clones {
    fn drop(&mut self) {
        if let Err(error) = remove_directory(&self.0) {
            tracing::warn!(path = %self.0, %error, "clones could not be removed");
        }
    }
}

/// What is known of files, by path.
pub type Records = HashMap<Vec<u8>, Box<FileRecord>>;

/// Reads the files below a root, in the steps that `snapshot` puts around the pause.
pub struct Capture {
    root: File,
    clones: Clones,
    /// When the last `syncfs` began.
    synced: i128,
    /// The last look at everything, before the pause.
    looked: Scan,
    /// Files as they were read by this or an earlier snapshot.
    records: Records,
    waiting: Vec<Waiting>,
    /// Bytes that `waiting` keeps.
    kept: u64,
    /// What was found in the pause.
    scan: Scan,
    /// What was done.
    pub report: CaptureReport,
    progress: Arc<dyn Progress>,
}

impl Capture {
    /// Opens the root and empties the directory for clones.
    ///
    /// # Errors
    /// One of them is not usable.
    pub fn new(
        root: &Utf8Path,
        clones: &Utf8Path,
        progress: Arc<dyn Progress>,
    ) -> Result<Self, CaptureError> {
        let failed = |action, path: &Utf8Path| {
            let path = path.to_owned();
            move |source| CaptureError::Directory {
                action,
                path,
                source,
            }
        };
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(root)
            .map_err(failed("opened", root))?;
        remove_directory(clones)
            .and_then(|()| {
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(clones)
            })
            .map_err(failed("made", clones))?;
        Ok(Self {
            root: opened,
            clones: Clones(clones.to_owned()),
            synced: i128::MIN,
            looked: Scan::default(),
            records: Records::new(),
            waiting: Vec::new(),
            kept: 0,
            scan: Scan::default(),
            report: CaptureReport::default(),
            progress,
        })
    }

    /// Looks at everything, while the agent runs, after what it wrote by mappings has got its times.
    ///
    /// `now` is the time of day before the call.
    ///
    /// # Errors
    /// See [`CaptureError`].
    pub fn look(&mut self, now: Timestamp) -> Result<(), CaptureError> {
        self.synced = now.as_nanosecond();
        rustix::fs::syncfs(&self.root).map_err(|error| CaptureError::Directory {
            action: "synced",
            path: self.clones.0.clone(),
            source: error.into(),
        })?;
        self.progress.stage(Stage::Scan, None, None);
        self.looked = scan(&self.root).map_err(CaptureError::Scan)?;
        self.report.skipped = self.looked.skipped;
        Ok(())
    }

    /// A digest of the last look.
    pub fn seen(&self, labels: &Labels) -> Seen {
        Seen::of(&self.looked, labels)
    }

    /// Takes what an earlier snapshot read.
    pub fn remember(&mut self, earlier: Vec<(Vec<u8>, Box<FileRecord>)>) {
        self.records = earlier.into_iter().collect();
    }

    /// Reads, while the agent runs, what changed by the last look and is at rest.
    ///
    /// # Errors
    /// See [`CaptureError`].
    pub fn read_live(&mut self, pipeline: &mut Pipeline) -> Result<(), CaptureError> {
        let scan = std::mem::take(&mut self.looked);
        self.progress
            .stage(Stage::Read, Some(scan.bytes), Some(scan.files));
        for found in scan.found {
            let FoundKind::File(stamp) = found.kind else {
                continue;
            };
            if !self.is_current(&found.path, &stamp) && self.is_settled(&stamp) {
                self.read_one(pipeline, found.path, stamp)?;
            }
            self.progress.bytes(stamp.size);
            self.progress.files(1);
        }
        Ok(())
    }

    /// Reads a live file and keeps the result if it did not change meanwhile.
    fn read_one(
        &mut self,
        pipeline: &mut Pipeline,
        path: Vec<u8>,
        stamp: FileStamp,
    ) -> Result<(), CaptureError> {
        let Some(file) = self.open_file(&path, "read")? else {
            return Ok(());
        };
        let earlier = self.records.get(&path).map(|record| &record.held);
        let read = pipeline
            .read(&file, stamp.size, earlier)
            .map_err(CaptureError::Pipeline)?;
        let held = read.map_err(|source| file_error("read", &path, source))?;
        let xattrs = files::xattrs(&file).map_err(|source| file_error("read", &path, source))?;
        let after =
            rustix::fs::fstat(&file).map_err(|error| file_error("read", &path, error.into()))?;
        if let Some(held) = held.filter(|_| files::stamp(&after) == stamp) {
            let record = FileRecord {
                stamp,
                settled: true,
                xattrs,
                held,
            };
            self.records.insert(path, Box::new(record));
            self.report.read_live += 1;
        }
        Ok(())
    }

    /// While nothing writes: looks at everything again and secures what changed.
    ///
    /// # Errors
    /// See [`CaptureError`].
    pub fn clone_changed(&mut self) -> Result<(), CaptureError> {
        self.progress.stage(Stage::Clone, None, None);
        let mut scan = scan(&self.root).map_err(CaptureError::Scan)?;
        let mut vanished = 0;
        for found in &scan.found {
            let FoundKind::File(stamp) = &found.kind else {
                continue;
            };
            if !self.is_current(&found.path, stamp) && !self.secure_one(&found.path)? {
                // What an earlier snapshot knew of it must not stand in for it.
                self.records.remove(&found.path);
                vanished += 1;
            }
        }
        failpoint::hit("backup.while-paused");
        scan.skipped.vanished += vanished;
        self.report.skipped = scan.skipped;
        self.scan = scan;
        Ok(())
    }

    /// Keeps or clones a file; `false` if it is gone.
    fn secure_one(&mut self, path: &[u8]) -> Result<bool, CaptureError> {
        let failed = |source| file_error("cloned", path, source);
        let Some(file) = self.open_file(path, "cloned")? else {
            return Ok(false);
        };
        let xattrs = files::xattrs(&file).map_err(failed)?;
        let before = file.metadata().map_err(failed)?.len();
        // Without a real pause the file may change meanwhile: what counts is what is secured.
        let (content, size) = if before <= SMALL_FILE && self.kept + before <= KEPT {
            let mut bytes = Vec::with_capacity(usize::try_from(before).unwrap_or_default());
            (&file)
                .take(before)
                .read_to_end(&mut bytes)
                .map_err(failed)?;
            self.report.kept += 1;
            self.kept += before;
            let size = bytes.len() as u64;
            (Paused::Kept(bytes), size)
        } else {
            let (clone, size) = self.clone_one(&file).map_err(failed)?;
            (Paused::Cloned(clone), size)
        };
        let stat = rustix::fs::fstat(&file).map_err(|error| failed(error.into()))?;
        let stamp = FileStamp {
            size,
            ..files::stamp(&stat)
        };
        self.waiting.push(Waiting {
            path: path.to_vec(),
            stamp,
            xattrs,
            content,
        });
        Ok(true)
    }

    /// Clones an open file; gives the clone and its size.
    fn clone_one(&mut self, file: &File) -> io::Result<(Utf8PathBuf, u64)> {
        let clone = self.clones.0.join(self.waiting.len().to_string());
        let to = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&clone)?;
        let kind = clone_or_copy(file, &to)?;
        self.report.count_clone(kind);
        Ok((clone, to.metadata()?.len()))
    }

    /// Reads what was secured in the pause, while the agent runs again.
    ///
    /// # Errors
    /// See [`CaptureError`].
    pub fn read_clones(&mut self, pipeline: &mut Pipeline) -> Result<(), CaptureError> {
        let waiting = std::mem::take(&mut self.waiting);
        let bytes = waiting.iter().map(|waiting| waiting.stamp.size).sum();
        self.progress
            .stage(Stage::ReadClones, Some(bytes), Some(waiting.len() as u64));
        for Waiting {
            path,
            stamp,
            xattrs,
            content,
        } in waiting
        {
            let (held, settled) = match content {
                Paused::Kept(bytes) => {
                    let held = pipeline.take(&bytes).map_err(CaptureError::Pipeline)?;
                    // It was not written out: a mapping may change it again without a new time.
                    (held, false)
                }
                Paused::Cloned(clone) => {
                    let earlier = self.records.get(&path).map(|record| &record.held);
                    let held = read_clone(pipeline, &path, &clone, stamp.size, earlier)?;
                    (held, self.is_settled(&stamp))
                }
            };
            let record = FileRecord {
                stamp,
                settled,
                xattrs,
                held,
            };
            self.records.insert(path, Box::new(record));
            self.progress.bytes(stamp.size);
            self.progress.files(1);
        }
        let clones = &self.clones.0;
        remove_directory(clones).map_err(|source| CaptureError::Directory {
            action: "removed",
            path: clones.clone(),
            source,
        })
    }

    /// What a scan will find as long as nothing changes; none where equal stamps would not prove that.
    pub fn seen_in_pause(&self, labels: &Labels) -> Option<Seen> {
        let is_proof = |found: &Found| match &found.kind {
            FoundKind::File(stamp) => self.is_current(&found.path, stamp),
            _ => true,
        };
        let all = self.scan.found.iter().all(is_proof);
        all.then(|| Seen::of(&self.scan, labels))
    }

    /// What was found in the pause, what each file holds, and the report.
    pub fn finish(self) -> (Scan, Records, CaptureReport) {
        (self.scan, self.records, self.report)
    }

    fn is_current(&self, path: &[u8], stamp: &FileStamp) -> bool {
        self.records
            .get(path)
            .is_some_and(|record| record.settled && record.stamp == *stamp)
    }

    fn is_settled(&self, stamp: &FileStamp) -> bool {
        stamp.ctime.as_nanos() + TICK_NANOS < self.synced
    }

    /// The files that were found in the pause, and what each held then.
    pub fn files(&self) -> impl Iterator<Item = (&[u8], &FileRecord)> {
        self.scan.found.iter().filter_map(|found| {
            let is_file = matches!(found.kind, FoundKind::File(_));
            let record = self.records.get(&found.path).filter(|_| is_file)?;
            Some((found.path.as_slice(), record.as_ref()))
        })
    }

    /// Says that a piece of a file is held by something else from now on.
    pub fn replace(&mut self, path: &[u8], piece: usize, by: Content) {
        if let Some(record) = self.records.get_mut(path)
            && let Some(content) = record.held.content.get_mut(piece)
        {
            *content = by;
        }
    }

    /// Opens a regular file; `None` if it is gone or something else by now.
    pub fn open_file(
        &self,
        path: &[u8],
        action: &'static str,
    ) -> Result<Option<File>, CaptureError> {
        let file = match files::open_below(self.root.as_fd(), path, OFlags::RDONLY) {
            Ok(file) => file,
            Err(error) if is_vanished(&error) => return Ok(None),
            Err(error) => return Err(file_error(action, path, error)),
        };
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        Ok(is_file.then_some(file))
    }
}

/// Reads a clone and removes it.
fn read_clone(
    pipeline: &mut Pipeline,
    path: &[u8],
    clone: &Utf8Path,
    size: u64,
    earlier: Option<&Held>,
) -> Result<Held, CaptureError> {
    let failed = |source| file_error("read", path, source);
    let file = File::open(clone).map_err(failed)?;
    let read = pipeline
        .read(&file, size, earlier)
        .map_err(CaptureError::Pipeline)?;
    let held = read.map_err(failed)?.ok_or_else(|| {
        failed(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the clone was cut short",
        ))
    })?;
    // Without reflinks a clone takes space that others may need.
    fs::remove_file(clone).map_err(failed)?;
    Ok(held)
}

fn file_error(action: &'static str, path: &[u8], source: io::Error) -> CaptureError {
    CaptureError::File {
        action,
        path: path::show(path),
        source,
    }
}

fn remove_directory(path: &Utf8Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
