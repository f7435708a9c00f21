//! Deleting from a directory store. Its times are those of the files: whoever can write there can set them.

use std::fs::{self, File};
use std::io;

use async_trait::async_trait;
use camino::Utf8Path;
use jiff::Timestamp;

use super::collector::{Collector, Deleted};
use super::directory::{TEMPORARY, timestamp};
use super::{DirectoryStore, ObjectVersion, StoreError};

#[async_trait]
impl Collector for DirectoryStore {
    async fn delete_version(&self, version: &ObjectVersion) -> Result<Deleted, StoreError> {
        let path = self.path("deleting", &version.name)?;
        self.blocking("deleting", &version.name, move || {
            remove(&path)?;
            Ok(Deleted::Gone)
        })
        .await
    }

    async fn sweep(&self, prefix: &str, before: Timestamp) -> Result<u64, StoreError> {
        let directory = self.path("listing", prefix.trim_end_matches('/'))?;
        self.blocking("deleting", prefix, move || {
            let mut swept = 0;
            sweep(&directory, before, &mut swept)?;
            Ok(swept)
        })
        .await
    }
}

fn remove(path: &Utf8Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        removed => removed?,
    }
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn sweep(directory: &Utf8Path, before: Timestamp, swept: &mut u64) -> io::Result<()> {
    let entries = match directory.read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sweep(entry.path(), before, swept)?;
        } else if entry.file_name().starts_with(TEMPORARY) {
            let modified = match entry.metadata() {
                Ok(metadata) => timestamp(metadata.modified()?)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if modified < before {
                remove(entry.path())?;
                *swept += 1;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::ObjectStore as _;
    use super::*;
    use crate::object_store::contract::directory;

    #[tokio::test]
    async fn objects_are_listed_with_times_and_deleted_for_good() {
        let (_guard, store) = directory();
        for name in ["r/packs/1", "r/packs/2", "s/packs/1"] {
            store.put(name, Bytes::from_static(b"x")).await.unwrap();
        }
        let versions = store.list_versions("r/").await.unwrap();
        assert_eq!(versions.len(), 2);
        assert!(versions[0].is_latest && !versions[0].is_delete_marker);
        assert_eq!(store.get_version(&versions[0], 1).await.unwrap(), "x");
        for _ in 0..2 {
            let deleted = store.delete_version(&versions[0]).await.unwrap();
            assert_eq!(deleted, Deleted::Gone);
        }
        assert_eq!(store.head("r/packs/1").await.unwrap(), None);
        assert_eq!(store.list_versions("").await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn what_a_crash_left_is_swept_once_it_is_old() {
        let (_guard, store) = directory();
        store
            .put("r/packs/1", Bytes::from_static(b"x"))
            .await
            .unwrap();
        let left = store.root.join("r/packs/.tmp-9-9");
        fs::write(&left, b"half").unwrap();
        let written = timestamp(fs::metadata(&left).unwrap().modified().unwrap()).unwrap();
        assert_eq!(store.sweep("r/", written).await.unwrap(), 0);
        let later = written + jiff::SignedDuration::from_secs(1);
        assert_eq!(store.sweep("r/", later).await.unwrap(), 1);
        assert!(!left.exists() && store.head("r/packs/1").await.unwrap().is_some());
    }
}
