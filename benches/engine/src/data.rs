//! The data that is backed up: the same bytes on every host, like what agents keep.
//! Nothing here is random at run time; a directory that is there is taken as it is.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};

use anyhow::Context as _;
use camino::Utf8Path;
use clap::ValueEnum;
use rusqlite::{Connection, params};

/// Rows are as long as notes are; a page holds two or three.
const ROW: usize = 1500;
/// Bytes that go to a file at once.
const BLOCK: usize = 1 << 20;

/// What to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Files of 1–30 KiB, text.
    Files,
    /// One `SQLite` database of notes.
    Database,
    /// The state of a busy agent: logs, databases, small files, and what does not compress.
    Mixed,
}

/// Makes data of about `size` bytes (or, of [`Kind::Files`], that many files) in the directory `to`.
pub fn make(kind: Kind, to: &Utf8Path, size: u64) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    match kind {
        Kind::Files => small_files(to, size, 1),
        Kind::Database => database(&to.join("memory.sqlite"), size, 2),
        Kind::Mixed => mixed(to, size),
    }
}

/// Rewrites rows of the database until about `share` of its pages have changed.
pub fn change_pages(database: &Utf8Path, share: f64, seed: u64) -> anyhow::Result<()> {
    let connection = Connection::open(database)?;
    let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
    let pages = number("PRAGMA page_count")?;
    let rows = number("SELECT max(id) FROM notes")?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "a share of a few million pages"
    )]
    let changes = (pages as f64 * share) as i64;
    let mut noise = Noise::new(seed);
    let mut text = Text::new(seed);
    let transaction = connection.unchecked_transaction()?;
    {
        let mut update = transaction.prepare("UPDATE notes SET body = ?2 WHERE id = ?1")?;
        for _ in 0..changes {
            let id = 1 + noise.next().cast_signed().rem_euclid(rows);
            let mut body = Vec::new();
            text.fill(&mut body, ROW);
            update.execute(params![id, body])?;
        }
    }
    Ok(transaction.commit()?)
}

/// Appends to one file and rewrites a few rows: what an hour of an agent does.
pub fn change_hour(state: &Utf8Path, hour: u64) -> anyhow::Result<()> {
    let mut text = Text::new(hour);
    let mut line = Vec::new();
    text.fill(&mut line, 20_000);
    let log = state.join("logs/0.jsonl");
    fs::OpenOptions::new()
        .append(true)
        .open(&log)
        .with_context(|| format!("no {log}"))?
        .write_all(&line)?;
    fs::write(state.join(format!("files/0/{}.md", hour % 20)), &line)?;
    change_pages(&state.join("memory.sqlite"), 0.000_5, hour)
}

fn small_files(to: &Utf8Path, count: u64, seed: u64) -> anyhow::Result<()> {
    let mut noise = Noise::new(seed);
    let mut text = Text::new(seed);
    let mut content = Vec::new();
    for file in 0..count {
        let directory = to.join((file / 100).to_string());
        if file % 100 == 0 {
            fs::create_dir_all(&directory)?;
        }
        content.clear();
        text.fill(&mut content, noise.between(1 << 10, 30 << 10));
        fs::write(directory.join(format!("{}.md", file % 100)), &content)?;
    }
    Ok(())
}

fn database(to: &Utf8Path, size: u64, seed: u64) -> anyhow::Result<()> {
    let connection = Connection::open(to)?;
    connection.pragma_update(None, "page_size", 4096)?;
    connection.pragma_update(None, "journal_mode", "off")?;
    connection.pragma_update(None, "synchronous", "off")?;
    connection.execute_batch(
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, body BLOB NOT NULL)",
    )?;
    let mut text = Text::new(seed);
    let rows = size / (ROW as u64 + 20);
    let transaction = connection.unchecked_transaction()?;
    {
        let mut insert = transaction.prepare("INSERT INTO notes (at, body) VALUES (?1, ?2)")?;
        let mut body = Vec::new();
        for row in 0..rows {
            body.clear();
            text.fill(&mut body, ROW);
            insert.execute(params![1_700_000_000 + row.cast_signed() * 7, body])?;
        }
    }
    Ok(transaction.commit()?)
}

fn mixed(to: &Utf8Path, size: u64) -> anyhow::Result<()> {
    let percent = |share: u64| size / 100 * share;
    small_files(&to.join("files"), (percent(15) / (15 << 10)).max(100), 3)?;
    database(&to.join("memory.sqlite"), percent(25), 4)?;
    let mut text = Text::new(5);
    large_files(&to.join("logs"), "jsonl", percent(25), 5, |block| {
        block.clear();
        text.fill(block, BLOCK);
    })?;
    let mut noise = Noise::new(6);
    large_files(&to.join("media"), "bin", percent(35), 6, |block| {
        noise.fill(block);
    })
}

/// Files of 1–40 MiB, together `size` bytes.
fn large_files(
    to: &Utf8Path,
    extension: &str,
    size: u64,
    seed: u64,
    mut fill: impl FnMut(&mut Vec<u8>),
) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    let mut sizes = Noise::new(seed);
    let mut block = vec![0; BLOCK];
    let mut left = size / BLOCK as u64;
    let mut number = 0;
    while left > 0 {
        let blocks = (sizes.between(1, 40) as u64).min(left);
        let mut out = BufWriter::new(File::create(to.join(format!("{number}.{extension}")))?);
        for _ in 0..blocks {
            fill(&mut block);
            out.write_all(&block)?;
        }
        out.flush()?;
        left -= blocks;
        number += 1;
    }
    Ok(())
}

/// xorshift64: the bytes stay the same whatever becomes of a crate.
struct Noise(u64);

impl Noise {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn between(&mut self, least: usize, most: usize) -> usize {
        let span = (most - least + 1) as u64;
        least + usize::try_from(self.next() % span).unwrap_or_default()
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_mut(8) {
            let next = self.next().to_le_bytes();
            word.copy_from_slice(&next[..word.len()]);
        }
    }
}

/// Lines as agents write them: words, numbers and identifiers; compresses to about a third.
struct Text {
    noise: Noise,
    words: Vec<Vec<u8>>,
}

impl Text {
    fn new(seed: u64) -> Self {
        // The words are the same for all texts.
        let mut letters = Noise::new(77);
        let words = (0..4096).map(|_| {
            let length = letters.between(2, 9);
            let letter = |noise: &mut Noise| b'a' + u8::try_from(noise.next() % 26).unwrap_or(0);
            (0..length).map(|_| letter(&mut letters)).collect()
        });
        Self {
            words: words.collect(),
            noise: Noise::new(seed),
        }
    }

    /// Appends exactly `length` bytes.
    fn fill(&mut self, to: &mut Vec<u8>, length: usize) {
        let end = to.len() + length;
        while to.len() < end {
            let bits = self.noise.next();
            if bits.is_multiple_of(23) {
                to.extend_from_slice(format!("\n{{\"id\":\"{bits:016x}\",\"text\":\"").as_bytes());
            }
            // The product of two is small more often than large, as the use of words is.
            let word = (bits >> 8 & 63) * (bits >> 16 & 63);
            to.extend_from_slice(&self.words[usize::try_from(word).unwrap_or_default()]);
            to.push(b' ');
        }
        to.truncate(end);
    }
}
