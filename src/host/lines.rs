//! A file of lines that grows: a line that was pushed is there after the process is killed.
//! It knows nothing of what is in the lines.

use std::fs::{File, OpenOptions};
use std::io::Write;

use camino::{Utf8Path, Utf8PathBuf};

use super::files::{self, FileError};

/// Most that is read of such a file, in bytes.
const LIMIT: u64 = 64 * 1024 * 1024;

/// A file of lines, open at its end.
#[derive(Debug)]
pub struct Lines {
    path: Utf8PathBuf,
    file: File,
    count: usize,
    /// The last line has no end: a crash cut it short, or a write that failed.
    is_torn: bool,
}

impl Lines {
    /// Opens or makes the file at `path`, and gives the lines that are in it.
    ///
    /// # Errors
    /// It cannot be made or read, or is larger than anything that is written there.
    pub fn open(path: &Utf8Path) -> Result<(Self, Vec<String>), FileError> {
        let file = append(path)?;
        let bytes = files::read(path, LIMIT)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let opened = Self {
            path: path.to_owned(),
            file,
            count: lines.len(),
            is_torn: !matches!(bytes.last(), None | Some(b'\n')),
        };
        Ok((opened, lines))
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a line. It survives this process, though not a power cut.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn push(&mut self, line: &str) -> Result<(), FileError> {
        let start = if self.is_torn { "\n" } else { "" };
        let bytes = format!("{start}{line}\n");
        self.is_torn = true;
        self.file
            .write_all(bytes.as_bytes())
            .map_err(|source| FileError::Io {
                verb: "add to",
                path: self.path.clone(),
                source,
            })?;
        self.is_torn = false;
        self.count += 1;
        Ok(())
    }

    /// Puts these lines in the place of all.
    ///
    /// # Errors
    /// They cannot be written; the old ones are there still.
    pub fn replace(&mut self, lines: &[String]) -> Result<(), FileError> {
        let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
        files::write(&self.path, text.as_bytes(), 0o600)?;
        self.file = append(&self.path)?;
        self.count = lines.len();
        self.is_torn = false;
        Ok(())
    }

    /// A file to which nothing can be added.
    #[cfg(test)]
    pub(crate) fn read_only(path: &Utf8Path) -> Self {
        std::fs::write(path, "").unwrap();
        Self {
            path: path.to_owned(),
            file: File::open(path).unwrap(),
            count: 0,
            is_torn: false,
        }
    }
}

fn append(path: &Utf8Path) -> Result<File, FileError> {
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.map_err(|source| FileError::Io {
        verb: "open",
        path: path.to_owned(),
        source,
    })
}
