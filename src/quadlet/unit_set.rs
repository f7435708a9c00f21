//! The exact files of one revision of one tenant.
//! It holds and compares; writing them is the applier's business.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

/// One file of a unit set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitFile {
    /// A file with this text.
    Text(String),
    /// A symbolic link to this target.
    Link(Utf8PathBuf),
}

/// Files by absolute path, in the order of their paths.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnitSet {
    files: BTreeMap<Utf8PathBuf, UnitFile>,
}

impl UnitSet {
    /// Adds a file; a path has one.
    pub(super) fn add(&mut self, path: Utf8PathBuf, file: UnitFile) {
        let earlier = self.files.insert(path, file);
        debug_assert!(earlier.is_none(), "two files of one path");
    }

    /// The file at `path`.
    pub fn get(&self, path: &Utf8Path) -> Option<&UnitFile> {
        self.files.get(path)
    }

    /// Every file with its path.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Utf8Path, &UnitFile)> {
        self.files.iter().map(|(path, file)| (path.as_path(), file))
    }

    /// BLAKE3 over every path and file, as hexadecimal digits; stored with the revision.
    ///
    /// The input is unambiguous: each part is preceded by its length (64 bits, little endian).
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(b"tenantd unit set 1");
        for (path, file) in &self.files {
            let (kind, content) = match file {
                UnitFile::Text(text) => ("text", text.as_str()),
                UnitFile::Link(target) => ("link", target.as_str()),
            };
            part(path.as_str().as_bytes());
            part(kind.as_bytes());
            part(content.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(files: &[(&str, &str)]) -> UnitSet {
        let mut set = UnitSet::default();
        for (path, text) in files {
            set.add((*path).into(), UnitFile::Text((*text).into()));
        }
        set
    }

    #[test]
    fn the_hash_is_stable_and_tells_sets_apart() {
        insta::assert_snapshot!(set(&[("/a", "b")]).hash());
        let hashes = [
            set(&[]),
            set(&[("/a", "b")]),
            set(&[("/a", "")]),
            set(&[("/ab", "")]),
            set(&[("/a", "b"), ("/c", "d")]),
        ]
        .map(|set| set.hash());
        let different: std::collections::HashSet<_> = hashes.iter().collect();
        assert_eq!(different.len(), hashes.len());
    }
}
