//! Opens the object store that `node.toml` names, with its keys.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use secrecy::SecretString;

use super::ProtectError;
use crate::host::files;
use crate::node::{NodeSettings, StoreSettings};
use crate::object_store::{
    DirectoryStore, ObjectStore, RetryBudget, Retrying, S3Keys, S3Settings, S3Store, StoreUrl,
};

/// Longest credentials file.
const LIMIT: u64 = 4096;

/// The directory of this process's systemd credentials, if it has any.
pub(super) fn credentials_directory() -> Option<Utf8PathBuf> {
    std::env::var("CREDENTIALS_DIRECTORY")
        .ok()
        .map(Utf8PathBuf::from)
}

/// Opens the store of `settings`; an S3 store repeats what can be repeated.
pub fn open_store(settings: &StoreSettings) -> Result<Arc<dyn ObjectStore>, ProtectError> {
    let (bucket, prefix) = match settings.url.parse::<StoreUrl>()? {
        StoreUrl::Directory(path) => return Ok(Arc::new(DirectoryStore::new(path))),
        StoreUrl::S3 { bucket, prefix } => (bucket, prefix),
    };
    let setting =
        |value: &Option<String>, name| value.clone().ok_or(ProtectError::StoreSetting(name));
    let s3 = S3Settings {
        endpoint: setting(&settings.endpoint, "endpoint")?,
        region: setting(&settings.region, "region")?,
        bucket,
        prefix,
        path_style: settings.path_style,
    };
    let store = S3Store::new(&s3, &keys(settings)?)?;
    Ok(Arc::new(Retrying::new(store, RetryBudget::default())))
}

fn keys(settings: &StoreSettings) -> Result<S3Keys, ProtectError> {
    let credential = credentials_directory().map(|directory| directory.join("tenantd.s3"));
    for path in credential.iter().chain(&settings.credentials) {
        match files::read(path, LIMIT) {
            Ok(bytes) => return parse_keys(&bytes, path),
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ProtectError::NoCredentials)
}

fn parse_keys(bytes: &[u8], path: &Utf8Path) -> Result<S3Keys, ProtectError> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    match (lines.next(), lines.next(), lines.next()) {
        (Some(id), Some(secret), None) => Ok(S3Keys {
            access_key: SecretString::from(id.to_owned()),
            secret_key: SecretString::from(secret.to_owned()),
        }),
        _ => Err(ProtectError::Credentials(path.to_owned())),
    }
}

/// Asks the store for something harmless; returns its URL when it answers.
pub async fn probe_store(settings: &NodeSettings) -> Result<String, ProtectError> {
    let store = open_store(&settings.store)?;
    store.head("tenantd-probe").await?;
    Ok(settings.store.url.clone())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn keys_are_two_lines_and_nothing_else() {
        let path = Utf8Path::new("/etc/tenantd/s3");
        let keys = parse_keys(b"id\nsecret\n", path).unwrap();
        assert_eq!(keys.access_key.expose_secret(), "id");
        for bad in ["", "id\n", "id\nsecret\nmore\n"] {
            assert!(parse_keys(bad.as_bytes(), path).is_err());
        }
    }
}
