//! Opens the object store that `node.toml` names, with its keys.

use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::ProtectError;
use crate::backup::id;
use crate::host::{clock, files};
use crate::node::{NodeSettings, StoreSettings, StoreTarget};
use crate::object_store::{
    self, Collector, DirectoryStore, ObjectStore, PROBE_PREFIX, Probed, RetryBudget, Retrying,
    S3Keys, S3Settings, S3Store, StoreFacts,
};

/// Longest credentials file.
const LIMIT: u64 = 4096;

/// A store that has not answered a small question by then is taken for out of reach.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// A whole probe of a store takes no longer; whoever asked for it waits for it.
const EXAMINE_LIMIT: Duration = Duration::from_secs(45);

/// The directory of this process's systemd credentials, if it has any.
pub(super) fn credentials_directory() -> Option<Utf8PathBuf> {
    std::env::var("CREDENTIALS_DIRECTORY")
        .ok()
        .map(Utf8PathBuf::from)
}

/// How much is put up with from a store that fails for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// What can be repeated is repeated for [`RetryBudget`]'s time.
    Usual,
    /// One attempt: somebody waits, and what fails is made up for later.
    None,
}

/// Opens the store of `settings`.
pub(super) fn open_store(
    settings: &StoreSettings,
    patience: Patience,
) -> Result<Arc<dyn ObjectStore>, ProtectError> {
    let s3 = match settings.target()? {
        StoreTarget::Directory(path) => return Ok(Arc::new(DirectoryStore::new(path))),
        StoreTarget::S3(s3) => s3,
    };
    let store = bucket(settings, &s3)?;
    Ok(match patience {
        Patience::Usual => Arc::new(Retrying::new(store, RetryBudget::default())),
        Patience::None => Arc::new(store),
    })
}

/// Opens the store of `settings` for whoever may delete there.
pub(super) fn open_collector(settings: &StoreSettings) -> Result<Arc<dyn Collector>, ProtectError> {
    Ok(match settings.target()? {
        StoreTarget::Directory(path) => Arc::new(DirectoryStore::new(path)),
        StoreTarget::S3(s3) => {
            let store = bucket(settings, &s3)?;
            Arc::new(Retrying::new(store, RetryBudget::default()))
        }
    })
}

fn bucket(settings: &StoreSettings, s3: &S3Settings) -> Result<S3Store, ProtectError> {
    Ok(S3Store::new(s3, &keys(settings)?)?)
}

fn keys(settings: &StoreSettings) -> Result<S3Keys, ProtectError> {
    let credential = credentials_directory().map(|directory| directory.join("tenantd.s3"));
    for path in credential.iter().chain(&settings.credentials) {
        match files::read(path, LIMIT) {
            Ok(bytes) => {
                return S3Keys::parse(&String::from_utf8_lossy(&bytes))
                    .ok_or_else(|| ProtectError::Credentials(path.to_owned()));
            }
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ProtectError::NoCredentials)
}

/// Asks the store for something harmless; returns its URL when it answers.
pub async fn probe_store(settings: &NodeSettings) -> Result<String, ProtectError> {
    let store = open_store(&settings.store, Patience::None)?;
    // A listing, because only that fails where there is no bucket.
    tokio::time::timeout(PROBE_LIMIT, store.list(PROBE_PREFIX))
        .await
        .map_err(|_| ProtectError::Silent(PROBE_LIMIT))??;
    Ok(settings.store.url.clone())
}

/// Finds out what the store and its key can do, with an object of its own; what is wrong is in the facts.
pub async fn examine_store(settings: &StoreSettings) -> StoreFacts {
    let url = settings.url.clone();
    let opened = id::random::<16>()
        .map_err(|error| error.to_string())
        .and_then(|random| {
            let store = open_probed(settings).map_err(told)?;
            Ok((store, format!("{PROBE_PREFIX}{}", hex::encode(random))))
        });
    let (store, name) = match opened {
        Ok(opened) => opened,
        Err(why) => return StoreFacts::unreached(url, why),
    };
    let probed = object_store::probe(store.as_ref(), url.clone(), &name, clock::now);
    let facts = tokio::time::timeout(EXAMINE_LIMIT, probed).await;
    facts.unwrap_or_else(|_| {
        let limit = EXAMINE_LIMIT.as_secs();
        StoreFacts::unreached(url, format!("too slow to be probed within {limit} s"))
    })
}

fn told(error: ProtectError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

fn open_probed(settings: &StoreSettings) -> Result<Box<dyn Probed>, ProtectError> {
    Ok(match settings.target()? {
        StoreTarget::Directory(path) => Box::new(DirectoryStore::new(path)),
        StoreTarget::S3(s3) => Box::new(bucket(settings, &s3)?),
    })
}

/// A file in a repository's local directory that names the store its packs are in.
const HOME: &str = "store";

/// Longest URL with endpoint.
const HOME_LIMIT: u64 = 4096;

/// The store in words that tell it from others.
fn place(settings: &StoreSettings) -> String {
    match &settings.endpoint {
        Some(endpoint) if settings.url.starts_with("s3:") => {
            format!("{} at {endpoint}", settings.url)
        }
        _ => settings.url.clone(),
    }
}

/// Notes where a repository was made, unless that is noted.
pub(super) fn note_home(
    directory: &Utf8Path,
    settings: &StoreSettings,
) -> Result<(), ProtectError> {
    let path = directory.join(HOME);
    if !path.exists() {
        files::write(&path, place(settings).as_bytes(), 0o600)?;
    }
    Ok(())
}

/// Makes sure that a repository's packs are in the store of `settings`: a snapshot names packs of
/// those before it, and the writer never looks whether the store has them.
pub(super) fn check_home(
    name: &str,
    directory: &Utf8Path,
    settings: &StoreSettings,
) -> Result<(), ProtectError> {
    let was = match files::read(&directory.join(HOME), HOME_LIMIT) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.is_absent() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let now = place(settings);
    if was == now {
        return Ok(());
    }
    Err(ProtectError::OtherStore {
        name: name.to_owned(),
        was,
        now,
        directory: directory.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_stays_in_the_store_that_it_was_made_in() {
        let guard = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(guard.path()).unwrap();
        let first = StoreSettings {
            url: "s3://bucket/a".to_owned(),
            endpoint: Some("http://127.0.0.1:9000".to_owned()),
            ..StoreSettings::default()
        };
        check_home("acme", directory, &first).unwrap();
        note_home(directory, &first).unwrap();
        check_home("acme", directory, &first).unwrap();
        let other = StoreSettings {
            endpoint: Some("http://127.0.0.1:9001".to_owned()),
            ..first.clone()
        };
        note_home(directory, &other).unwrap();
        let error = check_home("acme", directory, &other).unwrap_err();
        let told = error
            .to_string()
            .replace(directory.as_str(), "/var/lib/tenantd/repositories/acme");
        insta::assert_snapshot!(told);
        check_home("acme", directory, &first).unwrap();
    }
}
