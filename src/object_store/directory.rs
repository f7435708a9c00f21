//! A store in a directory: temporary name, fsync, rename, fsync of the directory.
//! It gives no protection against whoever can write to the directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;

use super::{ObjectInfo, ObjectStore, ObjectVersion, StoreError, StoreErrorKind, is_object_name};

/// Names that begin so are writes in progress or left over from a crash.
pub(super) const TEMPORARY: &str = ".tmp-";

/// Objects as files below a directory.
#[derive(Debug, Clone)]
pub struct DirectoryStore {
    pub(super) root: Utf8PathBuf,
}

impl DirectoryStore {
    /// A store below `root`, which is made (0700) at the first put.
    pub fn new(root: impl Into<Utf8PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn error(&self, action: &'static str, name: &str, source: io::Error) -> StoreError {
        StoreError {
            action,
            place: self.root.join(name).into_string(),
            kind: StoreErrorKind::of_io(&source),
            source: Some(Box::new(source)),
        }
    }

    pub(super) fn path(&self, action: &'static str, name: &str) -> Result<Utf8PathBuf, StoreError> {
        if is_object_name(name) {
            return Ok(self.root.join(name));
        }
        Err(StoreError {
            action,
            place: format!("{name:?} in {}", self.root),
            kind: StoreErrorKind::BadName,
            source: None,
        })
    }

    /// Runs file work where it may block.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        action: &'static str,
        name: &str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        tokio::task::spawn_blocking(work)
            .await
            .map_err(io::Error::other)
            .flatten()
            .map_err(|source| self.error(action, name, source))
    }
}

#[async_trait]
impl ObjectStore for DirectoryStore {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        let path = self.path("storing", name)?;
        let root = self.root.clone();
        self.blocking("storing", name, move || store(&root, &path, &bytes))
            .await
    }

    async fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        let path = self.path("reading", name)?;
        let bytes = self
            .blocking("reading", name, move || {
                let file = open(&path)?;
                let mut bytes = Vec::new();
                let size = file.metadata()?.len();
                bytes.reserve_exact(usize::try_from(size.min(limit)).unwrap_or_default() + 1);
                file.take(limit + 1).read_to_end(&mut bytes)?;
                Ok(bytes)
            })
            .await?;
        if bytes.len() as u64 > limit {
            return Err(StoreError {
                action: "reading",
                place: self.root.join(name).into_string(),
                kind: StoreErrorKind::TooLarge { limit },
                source: None,
            });
        }
        Ok(bytes.into())
    }

    async fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StoreError> {
        let path = self.path("reading", name)?;
        let read = move || {
            let mut file = open(&path)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut bytes = Vec::new();
            file.take(length).read_to_end(&mut bytes)?;
            Ok(bytes.into())
        };
        self.blocking("reading", name, read).await
    }

    async fn head(&self, name: &str) -> Result<Option<u64>, StoreError> {
        let path = self.path("looking for", name)?;
        self.blocking("looking for", name, move || {
            match fs::symlink_metadata(path) {
                Ok(metadata) => Ok(metadata.is_file().then_some(metadata.len())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let directory = prefix.trim_end_matches('/').to_owned();
        if !directory.is_empty() {
            self.path("listing", &directory)?;
        }
        let (root, wanted) = (self.root.clone(), prefix.to_owned());
        self.blocking("listing", prefix, move || {
            let mut found = Vec::new();
            // Without a final slash the prefix may end inside a name: begin one level higher.
            let start = if wanted.ends_with('/') || wanted.is_empty() {
                Utf8PathBuf::from(&directory)
            } else {
                Utf8Path::new(&directory)
                    .parent()
                    .map_or_else(Utf8PathBuf::new, Utf8Path::to_owned)
            };
            walk(&root, &start, &mut found)?;
            found.retain(|info: &ObjectInfo| info.name.starts_with(&wanted));
            found.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(found)
        })
        .await
    }

    async fn list_versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, StoreError> {
        let objects = self.list(prefix).await?;
        let root = self.root.clone();
        self.blocking("listing", prefix, move || versions(&root, objects))
            .await
    }

    async fn list_directories(&self) -> Result<Vec<String>, StoreError> {
        let root = self.root.clone();
        self.blocking("listing", "", move || directories(&root))
            .await
    }

    async fn get_version(&self, version: &ObjectVersion, limit: u64) -> Result<Bytes, StoreError> {
        self.get(&version.name, limit).await
    }
}

fn open(path: &Utf8Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}

/// The directories in the store's own, sorted.
fn directories(root: &Utf8Path) -> io::Result<Vec<String>> {
    let entries = match root.read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() && !entry.file_name().starts_with('.') {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The only version of each object that is still there.
fn versions(root: &Utf8Path, objects: Vec<ObjectInfo>) -> io::Result<Vec<ObjectVersion>> {
    let mut versions = Vec::with_capacity(objects.len());
    for object in objects {
        let metadata = match fs::symlink_metadata(root.join(&object.name)) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        versions.push(ObjectVersion {
            name: object.name,
            version: None,
            size: metadata.len(),
            modified: timestamp(metadata.modified()?)?,
            is_latest: true,
            is_delete_marker: false,
        });
    }
    Ok(versions)
}

pub(super) fn timestamp(time: SystemTime) -> io::Result<Timestamp> {
    Timestamp::try_from(time).map_err(io::Error::other)
}

fn walk(root: &Utf8Path, below: &Utf8Path, found: &mut Vec<ObjectInfo>) -> io::Result<()> {
    let entries = match root.join(below).read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if name.starts_with('.') {
            continue;
        }
        let kind = entry.file_type()?;
        let path = below.join(name);
        if kind.is_dir() {
            walk(root, &path, found)?;
        } else if kind.is_file() {
            let size = entry.metadata()?.len();
            found.push(ObjectInfo {
                name: path.into_string(),
                size,
            });
        }
    }
    Ok(())
}

fn store(root: &Utf8Path, path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    // One process may put the same name twice at the same time.
    static COUNTER: AtomicU64 = AtomicU64::new(0);

    let parent = path.parent().unwrap_or(root);
    make_directories(parent)?;
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let temporary = parent.join(format!("{TEMPORARY}{}-{count}", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // The first error is the one to report; what is left over is never listed.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    File::open(parent)?.sync_all()
}

/// Makes `directory` and what is missing above it, each entry of a directory on disk.
fn make_directories(directory: &Utf8Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        make_directories(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    match directory.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object_store::contract;

    #[tokio::test]
    async fn a_directory_keeps_what_a_store_promises() {
        let (_guard, store) = contract::directory();
        contract::holds(&store, 30).await;
    }

    #[tokio::test]
    async fn errors_say_where() {
        let (_guard, store) = contract::directory();
        let missing = store.get("y", 3).await.unwrap_err();
        assert!(missing.to_string().contains("/store/y"), "{missing}");
    }

    #[tokio::test]
    async fn a_write_cut_short_is_not_an_object() {
        let (_guard, store) = contract::directory();
        store.put("a/x", Bytes::from_static(b"x")).await.unwrap();
        fs::write(store.root.join("a/.tmp-1-1"), b"half").unwrap();
        assert_eq!(store.list("a/").await.unwrap().len(), 1);
    }
}
