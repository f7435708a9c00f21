//! Whether the databases in a restored state are sound: SQLite by its own integrity check, LanceDB by its manifests.
//! It only reads the state; what a database needs to be opened is done to a copy. Content is hostile: no function of
//! a schema runs that could do anything, and no name in a journal is followed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use serde::Serialize;

use crate::backup::escape_path;
use crate::host::{clock, clone};

/// What a SQLite database begins with (<https://www.sqlite.org/fileformat2.html#magic_header_string>).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What a rollback journal ends with when it names a super-journal, a file that SQLite would look into and delete
/// (<https://www.sqlite.org/fileformat2.html#the_rollback_journal>; `aJournalMagic` of pager.c).
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// Steps of SQLite's machine between two looks at the clock.
const STEPS: std::ffi::c_int = 100_000;

/// Complaints of one database that are told.
const TOLD: usize = 3;

/// What stays as it is in the path of a `file:` URI.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'.')
    .remove(b'-')
    .remove(b'_');

/// How much is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// So many databases.
    pub databases: usize,
    /// Until then.
    pub until: Instant,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Databases {
    /// SQLite databases that are sound.
    pub sound: usize,
    /// What is broken.
    pub faults: Vec<Finding>,
    /// What could not be looked at, and why.
    pub unchecked: Vec<Finding>,
}

/// One file and what is to be said of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// Its path below the state directory; bytes that are no plain text as `%XX`.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
}

/// How one database is.
enum Condition {
    Sound,
    Broken(String),
    Unknown(String),
}

/// Looks at every database below `state`, with `workshop` as a directory for copies, on the same file system.
///
/// # Errors
/// The state cannot be read, or the copies cannot be written.
pub fn check(state: &Path, workshop: &Path, bounds: Bounds) -> io::Result<Databases> {
    let mut found = Databases::default();
    let mut looked_at = 0;
    let mut left_out = 0;
    for path in files(state)? {
        let finding = |problem: String| Finding {
            file: shown(state, &path),
            problem,
        };
        if is_empty_manifest(&path)? {
            found.faults.push(finding(
                "an empty LanceDB manifest: the table has lost a version".to_owned(),
            ));
            continue;
        }
        if !is_sqlite(&path)? {
            continue;
        }
        if looked_at == bounds.databases || clock::monotonic() >= bounds.until {
            left_out += 1;
            continue;
        }
        looked_at += 1;
        match condition(&path, workshop, bounds.until)? {
            Condition::Sound => found.sound += 1,
            Condition::Broken(problem) => found.faults.push(finding(problem)),
            Condition::Unknown(problem) => found.unchecked.push(finding(problem)),
        }
    }
    if left_out > 0 {
        found.unchecked.push(Finding {
            file: ".".to_owned(),
            problem: format!(
                "{left_out} more databases were not looked at for want of time or number"
            ),
        });
    }
    Ok(found)
}

/// All ordinary files below `root`, sorted; no link is followed.
fn files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut directories = vec![root.to_owned()];
    let mut files = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

fn shown(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    escape_path(below.as_os_str().as_bytes())
}

/// LanceDB does not sync its files on local disks: after a crash a manifest may be there and empty.
fn is_empty_manifest(path: &Path) -> io::Result<bool> {
    let is_manifest = path.extension().is_some_and(|end| end == "manifest")
        && path.parent().and_then(Path::file_name) == Some("_versions".as_ref());
    Ok(is_manifest && fs::symlink_metadata(path)?.len() == 0)
}

fn open(path: &Path) -> io::Result<File> {
    let no_links = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new()
        .read(true)
        .custom_flags(no_links)
        .open(path)
}

fn is_sqlite(path: &Path) -> io::Result<bool> {
    let mut start = Vec::with_capacity(MAGIC.len());
    open(path)?
        .take(MAGIC.len() as u64)
        .read_to_end(&mut start)?;
    Ok(start == MAGIC)
}

fn condition(path: &Path, workshop: &Path, until: Instant) -> io::Result<Condition> {
    let wal = beside(path, "-wal")?;
    let journal = beside(path, "-journal")?;
    if let Some(journal) = &journal
        && names_another(journal)?
    {
        return Ok(Condition::Unknown(
            "its transaction spans several databases, and only SQLite with all of them can end it"
                .to_owned(),
        ));
    }
    if wal.is_none() && journal.is_none() {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let path = percent_encode(path.as_os_str().as_bytes(), PATH);
        let opened = Connection::open_with_flags(format!("file:{path}?immutable=1"), flags);
        return Ok(judged(
            opened.and_then(|database| integrity(database, until)),
        ));
    }
    // What a crash has left open is ended by the first who opens it, and that is the agent in its own copy.
    let place = tempfile::tempdir_in(workshop)?;
    let copy = place.path().join("copy");
    copied(path, &copy)?;
    for (from, suffix) in [(wal, "-wal"), (journal, "-journal")] {
        if let Some(from) = from {
            copied(&from, &with_suffix(&copy, suffix))?;
        }
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(&copy, flags);
    Ok(judged(
        opened.and_then(|database| integrity(database, until)),
    ))
}

/// What SQLite finds wrong; nothing when it is sound.
fn integrity(mut database: Connection, until: Instant) -> rusqlite::Result<Vec<String>> {
    database.progress_handler(STEPS, Some(move || clock::monotonic() >= until))?;
    // A schema of somebody else may call only what is harmless.
    database.pragma_update(None, "trusted_schema", false)?;
    let mut statement = database.prepare(&format!("PRAGMA integrity_check({TOLD})"))?;
    let rows = statement.query_map([], |row| row.get(0))?;
    let mut complaints: Vec<String> = rows.collect::<rusqlite::Result<_>>()?;
    complaints.retain(|complaint| complaint != "ok");
    Ok(complaints)
}

fn judged(found: rusqlite::Result<Vec<String>>) -> Condition {
    match found {
        Ok(complaints) if complaints.is_empty() => Condition::Sound,
        Ok(complaints) => Condition::Broken(complaints.join("; ")),
        Err(error) => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Condition::Broken(error.to_string())
            }
            Some(ErrorCode::OperationInterrupted) => {
                Condition::Unknown("there was no time to look at all of it".to_owned())
            }
            // An extension or a collation of the agent's own, for example.
            _ => Condition::Unknown(error.to_string()),
        },
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned().into_vec();
    name.extend_from_slice(suffix.as_bytes());
    PathBuf::from(std::ffi::OsString::from_vec(name))
}

/// The file with that suffix, when it holds anything.
fn beside(path: &Path, suffix: &str) -> io::Result<Option<PathBuf>> {
    let path = with_suffix(path, suffix);
    match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_file() && metadata.len() > 0 => Ok(Some(path)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn names_another(journal: &Path) -> io::Result<bool> {
    let mut file = open(journal)?;
    if file.metadata()?.len() < JOURNAL_MAGIC.len() as u64 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-8))?;
    let mut end = [0; 8];
    file.read_exact(&mut end)?;
    Ok(end == JOURNAL_MAGIC)
}

fn copied(from: &Path, to: &Path) -> io::Result<()> {
    clone::clone_or_copy(&open(from)?, &File::create(to)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct State(tempfile::TempDir);

    impl State {
        fn new() -> Self {
            let state = Self(tempfile::tempdir().unwrap());
            for directory in ["state", "workshop"] {
                fs::create_dir(state.0.path().join(directory)).unwrap();
            }
            state
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join("state").join(name)
        }

        /// A database with a thousand rows and an index.
        fn database(&self, name: &str) -> Connection {
            let database = Connection::open(self.path(name)).unwrap();
            database
                .execute_batch(
                    "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT);
                     CREATE INDEX note_text ON note (text);
                     WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
                     INSERT INTO note SELECT i, 'note number ' || i FROM n;",
                )
                .unwrap();
            database
        }

        fn check_within(&self, databases: usize, time: Duration) -> Databases {
            let bounds = Bounds {
                databases,
                until: clock::monotonic() + time,
            };
            let root = self.0.path();
            let before = self.bytes();
            let found = check(&root.join("state"), &root.join("workshop"), bounds).unwrap();
            assert_eq!(self.bytes(), before, "the state is only read");
            let left = fs::read_dir(root.join("workshop")).unwrap().count();
            assert_eq!(left, 0, "no copy is left");
            found
        }

        fn check(&self) -> Databases {
            self.check_within(100, Duration::from_mins(5))
        }

        fn bytes(&self) -> Vec<(PathBuf, Vec<u8>)> {
            let paths = files(&self.0.path().join("state")).unwrap();
            let with_bytes = |path: PathBuf| (path.clone(), fs::read(path).unwrap());
            paths.into_iter().map(with_bytes).collect()
        }

        /// Overwrites a page in the middle with other bytes.
        fn damage(&self, name: &str) {
            let mut bytes = fs::read(self.path(name)).unwrap();
            let middle = bytes.len() / 2 / 4096 * 4096;
            bytes[middle..middle + 4096].fill(0xa5);
            fs::write(self.path(name), bytes).unwrap();
        }
    }

    #[test]
    fn sound_databases_are_counted_and_other_files_are_not() {
        let state = State::new();
        drop(state.database("one.db"));
        drop(state.database("a name with ? and % and #"));
        fs::write(state.path("text.db"), "SQLite, but no database").unwrap();
        fs::write(state.path("empty.db"), "").unwrap();
        std::os::unix::fs::symlink("one.db", state.path("link.db")).unwrap();
        let expected = Databases {
            sound: 2,
            ..Databases::default()
        };
        assert_eq!(state.check(), expected);
    }

    #[test]
    fn a_damaged_database_is_named() {
        let state = State::new();
        fs::create_dir(state.path("data")).unwrap();
        drop(state.database("data/notes.db"));
        state.damage("data/notes.db");
        drop(state.database("good.db"));
        let found = state.check();
        assert_eq!((found.sound, found.unchecked.len()), (1, 0), "{found:?}");
        assert_eq!(found.faults.len(), 1, "{found:?}");
        assert_eq!(found.faults[0].file, "data/notes.db");
    }

    #[test]
    fn a_database_that_is_cut_off_is_broken() {
        let state = State::new();
        drop(state.database("notes.db"));
        let bytes = fs::read(state.path("notes.db")).unwrap();
        fs::write(state.path("notes.db"), &bytes[..bytes.len() / 2]).unwrap();
        fs::write(state.path("start.db"), &bytes[..16]).unwrap();
        let found = state.check();
        assert_eq!((found.sound, found.faults.len()), (0, 2), "{found:?}");
    }

    #[test]
    fn what_is_only_in_the_write_ahead_log_counts() {
        let state = State::new();
        let live = Connection::open(state.path("live.db")).unwrap();
        live.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE a (b);",
        )
        .unwrap();
        for suffix in ["", "-wal"] {
            let from = with_suffix(&state.path("live.db"), suffix);
            fs::copy(from, with_suffix(&state.path("crashed.db"), suffix)).unwrap();
        }
        drop(live);
        let wal = fs::metadata(state.path("crashed.db-wal")).unwrap().len();
        assert!(wal > 0, "the log holds the table");
        let found = state.check();
        assert_eq!((found.sound, found.faults.len()), (2, 0), "{found:?}");
    }

    #[test]
    fn a_journal_that_names_another_file_is_not_followed() {
        let state = State::new();
        let victim = state.0.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        drop(state.database("notes.db"));
        let mut journal = vec![0; 512];
        journal.extend_from_slice(victim.as_os_str().as_bytes());
        journal.extend_from_slice(&JOURNAL_MAGIC);
        fs::write(state.path("notes.db-journal"), journal).unwrap();
        let found = state.check();
        assert_eq!((found.sound, found.unchecked.len()), (0, 1), "{found:?}");
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn what_the_bounds_leave_out_is_said() {
        let state = State::new();
        for name in ["a", "b", "c"] {
            drop(state.database(name));
        }
        let found = state.check_within(2, Duration::from_mins(5));
        assert_eq!((found.sound, found.unchecked.len()), (2, 1));
        assert!(
            found.unchecked[0].problem.starts_with("1 more"),
            "{found:?}"
        );
        let found = state.check_within(2, Duration::ZERO);
        assert_eq!((found.sound, found.unchecked.len()), (0, 1));
    }

    #[test]
    fn an_empty_manifest_of_a_vector_table_is_a_fault() {
        let state = State::new();
        let versions = state.path("vectors.lance/_versions");
        fs::create_dir_all(&versions).unwrap();
        fs::write(versions.join("1.manifest"), "full").unwrap();
        fs::write(versions.join("2.manifest"), "").unwrap();
        let found = state.check();
        assert_eq!(found.faults.len(), 1);
        assert_eq!(found.faults[0].file, "vectors.lance/_versions/2.manifest");
    }
}
