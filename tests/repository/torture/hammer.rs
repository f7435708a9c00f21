//! A SQLite writer that never rests, in a process of its own, and backup after backup of what it writes.
//! Every snapshot is byte for byte what there was in the pause, whole, and has every row that was committed before.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rusqlite::Connection;
use tenantd::backup::{Digest, NobodyWrites, Pause, PauseError, SnapshotOutcome};

use super::Tally;
use crate::world::{Nodes, World, assert_same, nodes};

const DIRECTORY: &str = "TENANTD_TEST_HAMMER_DIRECTORY";
const SEED: &str = "TENANTD_TEST_HAMMER_SEED";

/// Rows that are kept for ever: enough for the file to grow, too few to make the test wait for the disk.
const MOST_ROWS: u64 = 5_000;
const ACCOUNTS: i64 = 50;

/// How much of it to do.
#[derive(Debug, Clone, Copy)]
pub struct Blows {
    /// Backups, one after another.
    pub backups: usize,
    /// One in so many is restored and looked into; 1 is every one.
    pub looked_into: usize,
}

/// Hammers, and gives what was done.
pub async fn run(mut world: World, seed: u64, blows: Blows) -> Tally {
    let anvil = Arc::new(Anvil {
        writer: Writer::start(&world.path, seed),
        directory: world.path.clone(),
        pauses: Mutex::default(),
    });
    world.pause = Arc::clone(&anvil) as Arc<dyn Pause>;
    let mut taken: Vec<(Digest, Moment)> = Vec::new();
    while taken.len() < blows.backups {
        let before = committed(&world.path);
        let outcome = world.outcome().await;
        let pause = anvil.pauses.lock().unwrap().pop();
        match (outcome, pause) {
            (SnapshotOutcome::Committed(record), Some(moment)) => {
                taken.push((record.commit, moment));
            }
            // The writer waits for the disk, too. Then the last snapshot has all that was there.
            (SnapshotOutcome::Unchanged(_), _) => {
                let (_, last) = taken.last_mut().unwrap();
                last.committed = last.committed.max(before);
            }
            (SnapshotOutcome::Committed(_), None) => panic!("a snapshot without a pause"),
        }
    }
    // Nothing may write to it any more while it is compared.
    world.pause = Arc::new(NobodyWrites);
    drop(anvil);
    assert!(taken.last().unwrap().1.committed > 0, "nothing was written");

    let mut tally = Tally {
        backups: blows.backups,
        ..Tally::default()
    };
    let last = taken.len() - 1;
    for (number, (commit, moment)) in taken.into_iter().enumerate() {
        if number % blows.looked_into != 0 && number != last {
            continue;
        }
        let target = world.path.join("restored");
        let name = commit.to_string();
        world.try_restore(Some(&name), "restored").await.unwrap();
        assert_same(&nodes(&target), &moment.state);
        tally.rows += look_into(&target, seed, moment.committed);
        tally.restored += 1;
        fs::remove_dir_all(&target).unwrap();
    }
    tally
}

/// What there was while nothing was written.
#[derive(Debug)]
struct Moment {
    /// Every row up to this one had been committed.
    committed: u64,
    state: Nodes,
}

/// The writer, and what it stood at in each pause.
struct Anvil {
    writer: Writer,
    directory: Utf8PathBuf,
    pauses: Mutex<Vec<Moment>>,
}

#[async_trait]
impl Pause for Anvil {
    async fn pause(&self) -> Result<(), PauseError> {
        self.writer.stop()?;
        let moment = Moment {
            committed: committed(&self.directory),
            state: nodes(&self.directory.join("state")),
        };
        self.pauses.lock().unwrap().push(moment);
        Ok(())
    }

    async fn resume(&self) -> Result<(), PauseError> {
        Ok(kill(self.writer.pid(), Signal::SIGCONT)?)
    }
}

/// The process; killed when dropped.
struct Writer(Child);

impl Writer {
    /// Starts it, and waits for its first row.
    fn start(directory: &Utf8Path, seed: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args([
                "--exact",
                "torture::hammer::child_writes",
                "--ignored",
                "--nocapture",
            ])
            .env(DIRECTORY, directory)
            .env(SEED, seed.to_string())
            .stdout(Stdio::null());
        let mut writer = Self(child.spawn().unwrap());
        while committed(directory) == 0 {
            assert!(writer.0.try_wait().unwrap().is_none(), "the writer ended");
            std::thread::yield_now();
        }
        writer
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.id()).unwrap())
    }

    /// Returns when none of its threads runs.
    fn stop(&self) -> Result<(), PauseError> {
        kill(self.pid(), Signal::SIGSTOP)?;
        match waitpid(self.pid(), Some(WaitPidFlag::WUNTRACED))? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => Ok(()),
            other => Err(format!("the writer did not stop: {other:?}").into()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The last row that the writer knows to be committed.
fn committed(directory: &Utf8Path) -> u64 {
    let mut number = [0; 8];
    match File::open(directory.join("committed")) {
        Ok(file) if file.read_exact_at(&mut number, 0).is_ok() => u64::from_le_bytes(number),
        _ => 0,
    }
}

/// What row `id` must hold.
fn payload(seed: u64, id: u64) -> String {
    let hash = blake3::hash(format!("{seed} {id}").as_bytes()).to_hex();
    let length = 8 + usize::try_from(id % 50).unwrap();
    hash[..length].to_owned()
}

/// Opens a restored database as the agent would; gives how many rows were compared.
fn look_into(directory: &Utf8Path, seed: u64, committed: u64) -> u64 {
    let database = Connection::open(directory.join("agent.sqlite")).unwrap();
    let check: String = database
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
    let mut rows = database
        .prepare("SELECT id, payload FROM kept ORDER BY id")
        .unwrap();
    let mut count = 0;
    for row in rows
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
    {
        let (id, found): (u64, String) = row.unwrap();
        count += 1;
        assert_eq!(id, count, "a row is missing");
        assert_eq!(found, payload(seed, id), "row {id}");
    }
    assert!(count >= committed, "{count} of {committed} committed rows");
    let money: i64 = database
        .query_row("SELECT sum(amount) FROM accounts", [], |row| row.get(0))
        .unwrap();
    assert_eq!(money, 0, "half of a transaction");
    let moved: u64 = database
        .query_row(
            "SELECT count(*) FROM accounts WHERE amount <> 0",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert!(moved > 0 || committed < 100, "no money was moved");
    count
}

#[test]
#[ignore = "run by the hammer in a process of its own"]
fn child_writes() {
    let directory = Utf8PathBuf::from(std::env::var(DIRECTORY).unwrap());
    let seed = std::env::var(SEED).unwrap().parse().unwrap();
    // A test that is killed leaves no writer behind.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
    write_for_ever(&directory, seed).unwrap();
}

/// Small transactions, as an agent makes them, with checkpoints, VACUUM and other upkeep now and then.
fn write_for_ever(directory: &Utf8Path, seed: u64) -> rusqlite::Result<()> {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut database = Connection::open(directory.join("state/agent.sqlite"))?;
    let _: String = database.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    database.pragma_update(None, "synchronous", "FULL")?;
    database.pragma_update(None, "wal_autocheckpoint", dice.u32(20..400))?;
    database.execute_batch(
        "CREATE TABLE kept (id INTEGER PRIMARY KEY, payload TEXT NOT NULL);
         CREATE TABLE accounts (id INTEGER PRIMARY KEY, amount INTEGER NOT NULL);
         CREATE TABLE notes (id INTEGER PRIMARY KEY, text BLOB NOT NULL)",
    )?;
    for account in 0..ACCOUNTS {
        database.execute("INSERT INTO accounts VALUES (?, 0)", [account])?;
    }
    let log = File::create(directory.join("committed")).unwrap();
    let mut last = 0_u64;
    loop {
        match dice.u32(..400) {
            0 => database.execute_batch("VACUUM")?,
            1..=4 => database.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?,
            5..=9 => database.execute_batch("PRAGMA wal_checkpoint(PASSIVE)")?,
            _ => last = transact(&mut database, &mut dice, seed, last)?,
        }
        // In one call, and never before the commit.
        log.write_all_at(&last.to_le_bytes(), 0).unwrap();
        // Where no disk slows it down: a busy agent, not one that takes all there is.
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn transact(
    database: &mut Connection,
    dice: &mut fastrand::Rng,
    seed: u64,
    mut last: u64,
) -> rusqlite::Result<u64> {
    let transaction = database.transaction()?;
    if last < MOST_ROWS {
        for _ in 0..dice.u32(1..10) {
            last += 1;
            transaction.execute(
                "INSERT INTO kept VALUES (?, ?)",
                (last, payload(seed, last)),
            )?;
        }
    }
    let (amount, from, to) = (
        dice.i64(1..100),
        dice.i64(0..ACCOUNTS),
        dice.i64(0..ACCOUNTS),
    );
    let change = "UPDATE accounts SET amount = amount + ? WHERE id = ?";
    transaction.execute(change, (-amount, from))?;
    transaction.execute(change, (amount, to))?;
    let note = dice.i64(0..40);
    if dice.bool() {
        let text = vec![dice.u8(..); dice.usize(..3000)];
        transaction.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (note, text))?;
    } else {
        transaction.execute("DELETE FROM notes WHERE id = ?", [note])?;
    }
    transaction.commit()?;
    Ok(last)
}
