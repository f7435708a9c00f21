//! The connection and its thread.

use camino::Utf8Path;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot};

use super::StateError;
use super::schema::MIGRATIONS;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle to the state database; cheap to clone.
#[derive(Clone)]
pub struct Database {
    // Bounded, so that a stuck disk is felt by the callers and not by the memory.
    jobs: mpsc::Sender<Job>,
}

impl Database {
    /// Opens or creates the database at `path` and brings it to the newest schema.
    pub fn open(path: &Utf8Path) -> Result<Self, StateError> {
        let failed = StateError::open(path);
        let mut connection = Connection::open(path).map_err(&failed)?;
        connection
            .execute_batch(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; \
                 PRAGMA busy_timeout=5000;",
            )
            .map_err(&failed)?;
        migrate(&mut connection, path)?;
        Ok(Self {
            jobs: start_thread(connection),
        })
    }

    /// A database in memory, for tests.
    ///
    /// # Panics
    /// When there is no memory.
    #[cfg(test)]
    pub fn in_memory() -> Self {
        let mut connection = Connection::open_in_memory().expect("memory is there");
        migrate(&mut connection, Utf8Path::new(":memory:")).expect("the schema is sound");
        Self {
            jobs: start_thread(connection),
        }
    }

    /// Runs `job` on the database thread.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // The caller may have given up; the work is done all the same.
            let _ = answer.send(job(connection));
        });
        self.jobs.send(job).await.map_err(|_| StateError::Closed)?;
        answered.await.map_err(|_| StateError::Closed)?
    }
}

/// Copies the database at `from` to the new file `to`, whole and as of one moment, while a
/// daemon may be writing it (`VACUUM INTO` of `SQLite`).
pub fn copy_database(from: &Utf8Path, to: &Utf8Path) -> Result<(), StateError> {
    let connection = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .map_err(StateError::open(from))?;
    connection
        .execute("VACUUM INTO ?1", [to.as_str()])
        .map_err(StateError::statement("copy the database"))?;
    // What is at work now, such as this backup, must not be taken up on the host that the copy
    // is restored to: its tenants have no state yet.
    Connection::open(to)
        .map_err(StateError::open(to))?
        .execute("DELETE FROM operations WHERE finished_at IS NULL", ())
        .map_err(StateError::statement(
            "leave open operations out of the copy",
        ))?;
    Ok(())
}

/// Does `work` with commits that are not synced to the disk one by one. With a write-ahead log,
/// a power cut can undo the last of them and nothing else, and the next synced commit syncs them.
pub(super) fn without_sync<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let done = work(connection);
    connection.pragma_update(None, "synchronous", "FULL")?;
    done
}

fn start_thread(mut connection: Connection) -> mpsc::Sender<Job> {
    // 64 is far more than there are concurrent operations on one host.
    let (jobs, mut queue) = mpsc::channel::<Job>(64);
    std::thread::Builder::new()
        .name("state".to_owned())
        .stack_size(512 * 1024)
        .spawn(move || {
            while let Some(job) = queue.blocking_recv() {
                job(&mut connection);
            }
        })
        .expect("a thread can be started while the daemon starts");
    jobs
}

fn migrate(connection: &mut Connection, path: &Utf8Path) -> Result<(), StateError> {
    let failed = StateError::open(path);
    let found: u32 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(&failed)?;
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(StateError::TooNew {
            path: path.to_owned(),
            found,
            known,
        });
    }
    for (number, migration) in (1u32..).zip(MIGRATIONS).skip(found as usize) {
        let transaction = connection.transaction().map_err(&failed)?;
        transaction.execute_batch(migration).map_err(&failed)?;
        transaction
            .pragma_update(None, "user_version", number)
            .map_err(&failed)?;
        transaction.commit().map_err(&failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use camino::Utf8PathBuf;

    use super::*;

    #[test]
    fn a_database_of_a_newer_tenantd_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(directory.path().join("state.db")).unwrap();
        Connection::open(&path)
            .unwrap()
            .pragma_update(None, "user_version", 99)
            .unwrap();
        assert!(matches!(
            Database::open(&path),
            Err(StateError::TooNew { found: 99, .. })
        ));
    }

    #[tokio::test]
    async fn a_copy_holds_what_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| Utf8PathBuf::from_path_buf(directory.path().join(name)).unwrap();
        let _in_use = Database::open(&at("state.db")).unwrap();
        copy_database(&at("state.db"), &at("copy.db")).unwrap();
        let copy = Connection::open(at("copy.db")).unwrap();
        let version: u32 = copy
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .unwrap();
        assert_eq!(version as usize, MIGRATIONS.len());
    }
}
