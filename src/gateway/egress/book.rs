//! The addresses that stand for names, as they survive the door: each is written down before anybody is told it.
//! Which address stands for which name, `stand_ins` decides.

use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use camino::Utf8Path;

use super::stand_ins::{CAPACITY, Entry, Full, StandIns};
use crate::failpoint;
use crate::host::clock;
use crate::host::files::FileError;
use crate::host::lines::Lines;
use crate::tenant::HostName;

/// More lines than this are written anew as what they say: twice as many as there can be names.
const LINES: usize = 2 * CAPACITY;

/// Why a name gets no address.
#[derive(Debug, thiserror::Error)]
pub enum NoStandIn {
    /// All are in use.
    #[error(transparent)]
    Full(#[from] Full),
    /// It could not be written down.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The book of one tenant.
#[derive(Debug, Default)]
pub struct Book(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    stand_ins: StandIns,
    /// None in tests that write nothing down.
    lines: Option<Lines>,
}

impl Book {
    /// The book that is kept in a file; an empty one where there is none yet. Lines that cannot be read are left out:
    /// the last one may have been cut short, and then nobody was told its address.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(path: &Utf8Path) -> Result<Self, FileError> {
        let (lines, read) = Lines::open(path)?;
        let entries = read
            .iter()
            .filter_map(|line| serde_json::from_str::<Entry>(line).ok());
        let mut inner = Inner {
            stand_ins: StandIns::from_entries(entries),
            lines: Some(lines),
        };
        if read.len() > LINES {
            inner.write_anew()?;
        }
        Ok(Self(Mutex::new(inner)))
    }

    /// The address that stands for `name`.
    ///
    /// # Errors
    /// There is none left, or it cannot be written down.
    pub fn address_of(&self, name: &HostName) -> Result<Ipv4Addr, NoStandIn> {
        let mut inner = self.lock();
        let (address, entry) = inner.stand_ins.address_of(name, clock::now())?;
        let Some(entry) = entry else {
            return Ok(address);
        };
        if let Err(error) = inner.write(&entry) {
            inner.stand_ins.take_back(entry.index);
            return Err(error.into());
        }
        Ok(address)
    }

    /// The name for which `address` stands.
    pub fn name_of(&self, address: Ipv4Addr) -> Option<HostName> {
        let mut inner = self.lock();
        let (name, entry) = inner.stand_ins.name_of(address, clock::now())?;
        if let Some(entry) = entry
            && let Err(error) = inner.write(&entry)
        {
            // It stands for its name all the same; what is lost is that it was of use today.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot note the use of {name}"
            );
        }
        Some(name)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self, entry: &Entry) -> Result<(), FileError> {
        let Some(lines) = &mut self.lines else {
            return Ok(());
        };
        if lines.len() >= LINES {
            return self.write_anew();
        }
        lines.push(&line(entry))?;
        failpoint::hit("egress.named");
        Ok(())
    }

    fn write_anew(&mut self) -> Result<(), FileError> {
        let all: Vec<String> = self.stand_ins.entries().map(line).collect();
        match &mut self.lines {
            Some(lines) => lines.replace(&all),
            None => Ok(()),
        }
    }
}

/// An entry as one line. Numbers, names and times always serialise.
fn line(entry: &Entry) -> String {
    serde_json::to_string(entry).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn name(number: usize) -> HostName {
        format!("n{number}.example").parse().unwrap()
    }

    #[test]
    fn an_address_that_was_told_stands_for_its_name_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap().join("names");
        let book = Book::open(&path).unwrap();
        let first = book.address_of(&name(1)).unwrap();
        let second = book.address_of(&name(2)).unwrap();
        // Nothing is done at the end that a crash would leave out; the next line was cut short by one.
        std::mem::forget(book);
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap();
        file.write_all(b"{\"index\":2,\"na").unwrap();

        let book = Book::open(&path).unwrap();
        assert_eq!(book.name_of(first), Some(name(1)));
        assert_eq!(book.name_of(second), Some(name(2)));
        let third = book.address_of(&name(3)).unwrap();
        assert!(third != first && third != second);
        // The torn line did not swallow the one after it.
        let book = Book::open(&path).unwrap();
        assert_eq!(book.name_of(third), Some(name(3)));
        assert_eq!(book.address_of(&name(1)).unwrap(), first);
    }

    #[test]
    fn what_cannot_be_written_down_is_not_given_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap().join("names");
        let book = Book(Mutex::new(Inner {
            stand_ins: StandIns::default(),
            // A file that is only open for reading.
            lines: Some(Lines::read_only(&path)),
        }));
        assert!(matches!(book.address_of(&name(1)), Err(NoStandIn::File(_))));
        assert!(book.lock().stand_ins.entries().next().is_none());
    }

    #[test]
    fn a_file_that_grew_is_written_anew_and_says_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap().join("names");
        let entry = Entry {
            index: 7,
            name: name(7),
            used: clock::now(),
        };
        let text = format!("{}\n", line(&entry)).repeat(LINES + 1);
        std::fs::write(&path, text).unwrap();
        let address = Book::open(&path).unwrap().address_of(&name(7)).unwrap();
        let kept = std::fs::read_to_string(&path).unwrap();
        assert_eq!(kept.lines().count(), 1);
        assert_eq!(Book::open(&path).unwrap().name_of(address), Some(name(7)));
    }
}
