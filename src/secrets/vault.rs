//! The versions of secrets on disk: each value once for this host, as a systemd credential, and once for the operator's
//! recipients, as an age file that the node's backup takes with it. No plain text is ever written.
//!
//! `NAME/N.json` says what is known of version N, `NAME/N.age` is the value for the recipients, `NAME/N.cred` for this
//! host. The credential comes last: a version is there when it is. `NAME/last` outlives removed versions, so that a
//! number never comes to mean another value.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretBox};
use serde::{Deserialize, Serialize};

use super::error::SecretError;
use crate::backup::{self, Identity, Recipient};
use crate::failpoint;
use crate::host::credentials::{self, MAX_CREDENTIAL, SecretValue};
use crate::host::files::{self, FileError};
use crate::host::lock::FileLock;
use crate::host::{clock, dirs};
use crate::layout::Layout;
use crate::tenant::{
    Generate, MAX_SECRET, MAX_SECRETS, SecretName, SecretSource, SecretVersion, TenantId,
};

/// Longest record of a version.
const RECORD_LIMIT: u64 = 64 * 1024;

/// Longest age file: a value, a header for each recipient, and tags.
const SEALED_LIMIT: u64 = 512 * 1024;

/// What is known of a version, beside its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VersionRecord {
    /// When it was made.
    pub made_at: Timestamp,
    /// Who made it.
    pub actor: String,
    /// Where its value came from.
    pub source: SecretSource,
    /// How long the value is.
    pub bytes: u64,
    /// For whom the backup of its value is encrypted.
    pub recipients: Vec<String>,
}

/// A version that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVersion {
    /// Its number.
    pub number: SecretVersion,
    /// What is known of it.
    pub record: VersionRecord,
}

/// The versions of one secret, the oldest first; never empty.
pub type StoredSecret = Vec<StoredVersion>;

/// All secrets of a tenant that have a value.
pub fn stored(
    layout: &Layout,
    tenant: &TenantId,
) -> Result<BTreeMap<SecretName, StoredSecret>, SecretError> {
    let directory = layout.tenant_secrets_dir(tenant);
    let mut found = BTreeMap::new();
    for name in names(&directory)? {
        let Ok(name) = name.parse::<SecretName>() else {
            continue;
        };
        let place = directory.join(name.as_str());
        let mut versions = Vec::new();
        for number in numbers(&place)? {
            let path = record_file(&place, number);
            let bytes = match files::read(&path, RECORD_LIMIT) {
                // It was removed meanwhile.
                Err(error) if error.is_absent() && !credential_file(&place, number).exists() => {
                    continue;
                }
                other => other?,
            };
            let record = serde_json::from_slice(&bytes)
                .map_err(|source| SecretError::Record { path, source })?;
            versions.push(StoredVersion { number, record });
        }
        if !versions.is_empty() {
            found.insert(name, versions);
        }
    }
    Ok(found)
}

/// Whoever has secrets here, whether a tenant of that name was applied or not.
pub fn stored_tenants(layout: &Layout) -> Result<Vec<TenantId>, SecretError> {
    let names = names(&layout.secrets_dir())?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

/// A value as it may be: not empty, and not too long.
pub fn accept(name: &SecretName, value: SecretValue) -> Result<SecretValue, SecretError> {
    let bytes = value.expose_secret().len();
    if (1..=MAX_SECRET).contains(&bytes) {
        return Ok(value);
    }
    Err(SecretError::Size {
        name: name.clone(),
        bytes,
    })
}

/// A new random value.
pub fn generate(kind: Generate) -> Result<SecretValue, SecretError> {
    let mut random = SecretBox::new(Box::new(vec![0_u8; kind.bytes()]));
    getrandom::fill(secrecy::ExposeSecretMut::expose_secret_mut(&mut random))
        .map_err(SecretError::Random)?;
    let text = hex::encode(random.expose_secret());
    Ok(SecretBox::new(Box::new(text.into_bytes())))
}

/// The right to write here, which one process has at a time: the daemon, or a backup that encrypts once more.
async fn writing(layout: &Layout) -> Result<FileLock, SecretError> {
    // Made at boot; a node may be rebuilt before that.
    dirs::make(&layout.run_dir(), 0o755)?;
    let path = layout.secrets_lock();
    let locked = FileLock::acquire(&path).await;
    Ok(locked.map_err(|source| FileError::Io {
        verb: "lock",
        path,
        source,
    })?)
}

/// Refuses a secret that would be one more than a tenant can have.
pub(super) fn room_for(
    layout: &Layout,
    tenant: &TenantId,
    name: &SecretName,
) -> Result<(), SecretError> {
    let directory = layout.tenant_secrets_dir(tenant);
    let mut others = 0;
    for other in names(&directory)? {
        if other != name.as_str() && !numbers(&directory.join(other))?.is_empty() {
            others += 1;
        }
    }
    let is_there = !numbers(&directory.join(name.as_str()))?.is_empty();
    if is_there || others < MAX_SECRETS {
        return Ok(());
    }
    Err(SecretError::Many {
        tenant: tenant.clone(),
    })
}

/// Stores a value as the next version of a secret, for this host and for `recipients`.
pub async fn put(
    layout: &Layout,
    recipients: &[String],
    (tenant, name): (&TenantId, &SecretName),
    (source, actor): (SecretSource, String),
    value: SecretValue,
) -> Result<SecretVersion, SecretError> {
    let value = accept(name, value)?;
    let _writing = writing(layout).await?;
    room_for(layout, tenant, name)?;
    let credential = credentials::encrypt(name, &value).await?;
    let sealed = seal(name, recipients, &value)?;
    let place = layout.tenant_secrets_dir(tenant).join(name.as_str());
    for directory in [
        layout.secrets_dir(),
        layout.tenant_secrets_dir(tenant),
        place.clone(),
    ] {
        dirs::make(&directory, 0o700)?;
    }
    let number = next(&place)?;
    let record = VersionRecord {
        made_at: clock::now(),
        actor,
        source,
        bytes: value.expose_secret().len() as u64,
        recipients: recipients.to_vec(),
    };
    write_record(&place, number, &record)?;
    files::write(&sealed_file(&place, number), &sealed, 0o600)?;
    failpoint::hit("secret.noted");
    files::write(&credential_file(&place, number), &credential, 0o600)?;
    failpoint::hit("secret.stored");
    Ok(number)
}

/// The value of a version.
pub async fn value(
    layout: &Layout,
    tenant: &TenantId,
    name: &SecretName,
    version: SecretVersion,
) -> Result<SecretValue, SecretError> {
    let path = layout.secret_credential(tenant, name, version);
    let credential = files::read(&path, MAX_CREDENTIAL).map_err(|error| {
        if error.is_absent() {
            SecretError::NoVersion {
                tenant: tenant.clone(),
                name: name.clone(),
                version,
            }
        } else {
            error.into()
        }
    })?;
    Ok(credentials::decrypt(name, &credential).await?)
}

/// Removes the versions of a secret, but not those in `keep`; the numbers are never used again.
pub async fn forget(
    layout: &Layout,
    tenant: &TenantId,
    name: &SecretName,
    keep: &BTreeSet<SecretVersion>,
) -> Result<(), SecretError> {
    let _writing = writing(layout).await?;
    let place = layout.tenant_secrets_dir(tenant).join(name.as_str());
    let numbers = remnants(&place)?;
    if let Some(last) = numbers.last() {
        let last = last.0.max(last_number(&place)?);
        files::write(&place.join(LAST), last.to_string().as_bytes(), 0o600)?;
    }
    failpoint::hit("secret.forgetting");
    for number in numbers.into_iter().filter(|number| !keep.contains(number)) {
        remove(&place, number)?;
    }
    Ok(())
}

fn remove(place: &Utf8Path, number: SecretVersion) -> Result<(), FileError> {
    for file in [credential_file, sealed_file, record_file] {
        files::remove(&file(place, number))?;
    }
    Ok(())
}

/// Removes what is left of versions whose storing or removing was cut short: without its credential none is there.
fn sweep(place: &Utf8Path) -> Result<(), SecretError> {
    let there = numbers(place)?;
    let left = remnants(place)?;
    for number in left.into_iter().filter(|number| !there.contains(number)) {
        remove(place, number)?;
    }
    Ok(())
}

/// Encrypts the values once more where the backup's recipients have changed. Values are in memory only.
///
/// It also removes what crashes have left: the backup that follows, and the disk, have only what is there.
pub async fn reseal(layout: &Layout, recipients: &[String]) -> Result<(), SecretError> {
    for tenant in stored_tenants(layout)? {
        // From the look to the last write: what somebody removes meanwhile must not come back.
        let _writing = writing(layout).await?;
        for name in names(&layout.tenant_secrets_dir(&tenant))? {
            sweep(&layout.tenant_secrets_dir(&tenant).join(name))?;
        }
        for (name, versions) in stored(layout, &tenant)? {
            let place = layout.tenant_secrets_dir(&tenant).join(name.as_str());
            for version in versions {
                if version.record.recipients == recipients {
                    continue;
                }
                let value = value(layout, &tenant, &name, version.number).await?;
                let sealed = seal(&name, recipients, &value)?;
                files::write(&sealed_file(&place, version.number), &sealed, 0o600)?;
                // The last: as long as it names others, this is done again.
                let record = VersionRecord {
                    recipients: recipients.to_vec(),
                    ..version.record
                };
                write_record(&place, version.number, &record)?;
            }
        }
    }
    Ok(())
}

/// The files that the node's backup takes with it, by their path below [`Layout::secrets_dir`]: records and age files
/// of versions that are there.
pub fn sealed_files(layout: &Layout) -> Result<Vec<Utf8PathBuf>, SecretError> {
    let root = layout.secrets_dir();
    let mut found = Vec::new();
    for tenant in stored_tenants(layout)? {
        for name in names(&root.join(tenant.as_str()))? {
            let place = Utf8Path::new(tenant.as_str()).join(&name);
            if root.join(&place).join(LAST).exists() {
                found.push(place.join(LAST));
            }
            for number in numbers(&root.join(&place))? {
                found.push(record_file(&place, number));
                found.push(sealed_file(&place, number));
            }
        }
    }
    Ok(found)
}

/// Makes the secrets of a restored backup this host's own: `restored` is what [`sealed_files`] named on another host.
pub async fn restore(
    layout: &Layout,
    restored: &Utf8Path,
    identity: &Identity,
) -> Result<(), SecretError> {
    let _writing = writing(layout).await?;
    for tenant in names(restored)? {
        let Ok(tenant) = tenant.parse::<TenantId>() else {
            continue;
        };
        for name in names(&restored.join(tenant.as_str()))? {
            let Ok(name) = name.parse::<SecretName>() else {
                continue;
            };
            let from = restored.join(tenant.as_str()).join(name.as_str());
            let to = layout.tenant_secrets_dir(&tenant).join(name.as_str());
            for directory in [
                layout.secrets_dir(),
                layout.tenant_secrets_dir(&tenant),
                to.clone(),
            ] {
                dirs::make(&directory, 0o700)?;
            }
            copy_if_there(&from.join(LAST), &to.join(LAST))?;
            for number in numbered(&from, ".age")? {
                restore_version(&name, number, (&from, &to), identity).await?;
            }
        }
    }
    Ok(())
}

async fn restore_version(
    name: &SecretName,
    number: SecretVersion,
    (from, to): (&Utf8Path, &Utf8Path),
    identity: &Identity,
) -> Result<(), SecretError> {
    let sealed = files::read(&sealed_file(from, number), SEALED_LIMIT)?;
    let value = backup::open_sealed(identity, &sealed, MAX_SECRET as u64).map_err(|source| {
        SecretError::Seal {
            name: name.clone(),
            verb: "opened with this identity",
            source,
        }
    })?;
    let credential = credentials::encrypt(name, &SecretBox::new(Box::new(value))).await?;
    copy_if_there(&record_file(from, number), &record_file(to, number))?;
    files::write(&sealed_file(to, number), &sealed, 0o600)?;
    files::write(&credential_file(to, number), &credential, 0o600)?;
    Ok(())
}

fn copy_if_there(from: &Utf8Path, to: &Utf8Path) -> Result<(), FileError> {
    match files::read(from, RECORD_LIMIT) {
        Ok(bytes) => files::write(to, &bytes, 0o600),
        Err(error) if error.is_absent() => Ok(()),
        Err(error) => Err(error),
    }
}

fn seal(
    name: &SecretName,
    recipients: &[String],
    value: &SecretValue,
) -> Result<Vec<u8>, SecretError> {
    let failed = |source| SecretError::Seal {
        name: name.clone(),
        verb: "encrypted for the recipients",
        source,
    };
    let recipients: Vec<Recipient> = recipients
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    backup::seal(recipients.iter(), value.expose_secret()).map_err(failed)
}

/// The file with the highest number that was ever used, where versions were removed.
const LAST: &str = "last";

fn last_number(place: &Utf8Path) -> Result<u32, SecretError> {
    match files::read(&place.join(LAST), 64) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).trim().parse().unwrap_or(0)),
        Err(error) if error.is_absent() => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn next(place: &Utf8Path) -> Result<SecretVersion, SecretError> {
    let newest = numbers(place)?.last().map_or(0, |number| number.0);
    Ok(SecretVersion(newest.max(last_number(place)?) + 1))
}

fn record_file(place: &Utf8Path, number: SecretVersion) -> Utf8PathBuf {
    place.join(format!("{number}.json"))
}

fn sealed_file(place: &Utf8Path, number: SecretVersion) -> Utf8PathBuf {
    place.join(format!("{number}.age"))
}

fn credential_file(place: &Utf8Path, number: SecretVersion) -> Utf8PathBuf {
    place.join(format!("{number}.cred"))
}

fn write_record(
    place: &Utf8Path,
    number: SecretVersion,
    record: &VersionRecord,
) -> Result<(), SecretError> {
    let path = record_file(place, number);
    let json = serde_json::to_vec_pretty(record).map_err(|source| SecretError::Record {
        path: path.clone(),
        source,
    })?;
    Ok(files::write(&path, &json, 0o600)?)
}

/// The versions of which there is anything, the oldest first.
fn remnants(place: &Utf8Path) -> Result<BTreeSet<SecretVersion>, SecretError> {
    let mut found = BTreeSet::new();
    for ending in [".cred", ".age", ".json"] {
        found.extend(numbered(place, ending)?);
    }
    Ok(found)
}

/// The versions that are there, the oldest first.
fn numbers(place: &Utf8Path) -> Result<Vec<SecretVersion>, SecretError> {
    numbered(place, ".cred")
}

fn numbered(place: &Utf8Path, ending: &str) -> Result<Vec<SecretVersion>, SecretError> {
    let mut numbers: Vec<_> = names(place)?
        .iter()
        .filter_map(|name| name.strip_suffix(ending)?.parse().ok())
        .map(SecretVersion)
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn names(directory: &Utf8Path) -> Result<Vec<String>, FileError> {
    let failed = |source| FileError::Io {
        verb: "look into",
        path: directory.to_owned(),
        source,
    };
    let entries = match directory.read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(failed)?.file_name().to_owned());
    }
    names.sort();
    Ok(names)
}
