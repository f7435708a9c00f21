//! The agent's files: written whole, synced, confined to the state directory.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Component, Path, PathBuf},
    sync::Mutex,
};

/// The state directory.
#[derive(Debug)]
pub struct State {
    directory: PathBuf,
    /// Counters are read, raised and written by one thread at a time.
    counting: Mutex<()>,
}

impl State {
    /// The state below this directory, which exists.
    pub fn open(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            counting: Mutex::new(()),
        }
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        let relative = Path::new(name);
        let plain = !name.is_empty()
            && relative
                .components()
                .all(|part| matches!(part, Component::Normal(_)));
        if plain {
            Ok(self.directory.join(relative))
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name:?} is not a name below the state directory"),
            ))
        }
    }

    /// Writes the file and syncs it and its directory.
    pub fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let path = self.path(name)?;
        let parent = path.parent().unwrap_or(&self.directory);
        fs::create_dir_all(parent)?;
        let mut file = File::create(&path)?;
        file.write_all(content)?;
        file.sync_all()?;
        File::open(parent)?.sync_all()
    }

    /// The file's bytes.
    pub fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path(name)?)
    }

    /// Removes the file.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name)?)
    }

    /// Raises a counter kept in a file by one, durably, and returns it; the first is 1.
    pub fn bump(&self, name: &str) -> io::Result<u64> {
        let _guard = self
            .counting
            .lock()
            .map_err(|_| io::Error::other("a counter's writer panicked"))?;
        let old = match self.read(name) {
            Ok(bytes) => String::from_utf8_lossy(&bytes)
                .trim()
                .parse()
                .map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let new: u64 = old + 1;
        self.write(name, format!("{new}\n").as_bytes())?;
        Ok(new)
    }
}
