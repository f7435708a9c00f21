//! Directories that are built once and named by the hash of what they are built from.
//!
//! An entry appears whole or not at all: it is built under another name and renamed.
//! None is ever removed here: machines of other checkouts run on them, and nothing says so.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nix::fcntl::{Flock, FlockArg};

use crate::{paths, progress};

/// Hexadecimal digits of a hash in a name.
const HASH_LENGTH: usize = 16;

/// The name of an entry: what it is, and the hash of everything that decides its content.
#[derive(Debug, Clone)]
pub struct Key {
    kind: String,
    hash: String,
}

impl Key {
    /// Hashes the inputs, in order, each with its length.
    pub fn new<I: AsRef<[u8]>>(
        kind: impl Into<String>,
        inputs: impl IntoIterator<Item = I>,
    ) -> Self {
        let mut hasher = blake3::Hasher::new();
        for input in inputs {
            let input = input.as_ref();
            hasher.update(&(input.len() as u64).to_le_bytes());
            hasher.update(input);
        }
        let hash = hasher.finalize().to_hex()[..HASH_LENGTH].to_owned();
        Self {
            kind: kind.into(),
            hash,
        }
    }

    /// The hash, for keys that depend on this one.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Where the entry is, or will be.
    pub fn path(&self) -> PathBuf {
        paths::cache().join(format!("{}-{}", self.kind, self.hash))
    }
}

/// The entry's directory; `build` fills an empty one if there is none yet.
///
/// Whoever else wants the same kind of entry, in this process or another, waits.
pub fn entry(
    key: &Key,
    build: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let path = key.path();
    if path.exists() {
        return Ok(path);
    }
    let cache = paths::cache();
    fs::create_dir_all(&cache).with_context(|| format!("could not create {}", cache.display()))?;
    let lock = cache.join(format!("{}.lock", key.kind));
    let file = File::create(&lock).with_context(|| format!("could not open {}", lock.display()))?;
    let _lock = Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("could not lock {}", lock.display()))?;
    if path.exists() {
        return Ok(path);
    }

    // Under the lock, a directory of this name is what a killed run left.
    let unfinished = cache.join(format!("{}.unfinished", key.kind));
    remove(&unfinished)?;
    fs::create_dir(&unfinished)
        .with_context(|| format!("could not create {}", unfinished.display()))?;
    progress::step(format!("Building {} ({})", key.kind, key.hash), || {
        build(&unfinished)
    })?;
    fs::rename(&unfinished, &path)
        .with_context(|| format!("could not rename to {}", path.display()))?;
    Ok(path)
}

fn remove(directory: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::Key;

    #[test]
    fn a_key_tells_inputs_apart_even_when_their_bytes_run_together() {
        let hash = |inputs: &[&str]| Key::new("k", inputs).hash().to_owned();
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
        assert_eq!(hash(&["a", "b"]), hash(&["a", "b"]));
    }
}
