//! What is on disk of a secret goes as a whole, whoever else writes and whatever a crash has left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use camino::Utf8PathBuf;

use super::vault::room_for;
use super::{SecretError, VersionRecord, forget, reseal, stored};
use crate::host::lock::FileLock;
use crate::layout::Layout;
use crate::tenant::{MAX_SECRETS, SecretName, SecretSource, SecretVersion, TenantId};

const RECIPIENT: &str = "age1qqqq";

struct Vault {
    _guard: tempfile::TempDir,
    layout: Layout,
    tenant: TenantId,
    name: SecretName,
    place: Utf8PathBuf,
}

/// A secret of which these files are there.
fn vault(files: &[&str]) -> Vault {
    let guard = tempfile::tempdir().unwrap();
    let layout = Layout::rooted(guard.path().to_str().unwrap());
    let (tenant, name): (TenantId, SecretName) =
        ("acme".parse().unwrap(), "TOKEN".parse().unwrap());
    let place = layout.tenant_secrets_dir(&tenant).join(name.as_str());
    fs::create_dir_all(&place).unwrap();
    fs::create_dir_all(layout.run_dir()).unwrap();
    let record = VersionRecord {
        made_at: jiff::Timestamp::UNIX_EPOCH,
        actor: "root".to_owned(),
        source: SecretSource::Given,
        bytes: 1,
        recipients: vec![RECIPIENT.to_owned()],
    };
    let record = serde_json::to_vec(&record).unwrap();
    for file in files {
        fs::write(place.join(file), &record).unwrap();
    }
    Vault {
        _guard: guard,
        layout,
        tenant,
        name,
        place,
    }
}

impl Vault {
    fn files(&self) -> Vec<String> {
        let entries = self.place.read_dir_utf8().unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().to_owned())
            .collect();
        names.sort();
        names
    }

    async fn forget(&self, keep: &[u32]) {
        let keep: BTreeSet<_> = keep.iter().copied().map(SecretVersion).collect();
        let forgotten = forget(&self.layout, &self.tenant, &self.name, &keep);
        forgotten.await.unwrap();
    }
}

/// One that is whole, one that was never stored to its end, and one whose removal was cut short.
const AFTER_CRASHES: [&str; 6] = ["1.cred", "1.age", "1.json", "2.age", "2.json", "3.age"];

#[tokio::test]
async fn nothing_is_left_of_a_removed_secret_whatever_crashes_have_left_of_it() {
    let vault = vault(&AFTER_CRASHES);
    vault.forget(&[]).await;
    assert_eq!(vault.files(), ["last"]);
    assert_eq!(fs::read_to_string(vault.place.join("last")).unwrap(), "3");
}

#[test]
fn a_tenant_has_no_more_secrets_than_a_spec_may_name() {
    let vault = vault(&["1.cred"]);
    let room = |name: &str| room_for(&vault.layout, &vault.tenant, &name.parse().unwrap());
    assert!(room("ONE_MORE").is_ok());
    let place = |number: usize| {
        let name = format!("S{number}");
        vault.layout.tenant_secrets_dir(&vault.tenant).join(name)
    };
    for number in 1..MAX_SECRETS {
        fs::create_dir_all(place(number)).unwrap();
        fs::write(place(number).join("1.cred"), "").unwrap();
    }
    assert!(matches!(room("ONE_MORE"), Err(SecretError::Many { .. })));
    // One that is there gets another version, and one that was removed leaves room.
    assert!(room("TOKEN").is_ok());
    fs::remove_file(place(1).join("1.cred")).unwrap();
    assert!(room("ONE_MORE").is_ok());
}

#[tokio::test]
async fn what_crashes_have_left_of_versions_goes_with_the_next_backup() {
    let vault = vault(&AFTER_CRASHES);
    let recipients = [RECIPIENT.to_owned()];
    reseal(&vault.layout, &recipients).await.unwrap();
    assert_eq!(vault.files(), ["1.age", "1.cred", "1.json"]);
    assert_eq!(stored(&vault.layout, &vault.tenant).unwrap().len(), 1);
}

#[tokio::test]
async fn nobody_removes_a_version_while_another_process_encrypts_it_once_more() {
    let vault = vault(&["1.cred", "1.age", "1.json"]);
    let other = FileLock::try_acquire(&vault.layout.secrets_lock()).unwrap();
    assert!(other.is_some());
    tokio::join!(vault.forget(&[]), async {
        assert_eq!(vault.files(), ["1.age", "1.cred", "1.json"]);
        drop(other);
    });
    assert_eq!(vault.files(), ["last"]);
}

#[test]
fn a_version_that_goes_while_it_is_looked_at_is_none() {
    // A directory listing that still names the credential, and a record that is gone: as a removal leaves them.
    let vault = vault(&["1.cred"]);
    fs::remove_file(vault.place.join("1.cred")).unwrap();
    std::os::unix::fs::symlink("gone", vault.place.join("1.cred")).unwrap();
    let found = stored(&vault.layout, &vault.tenant).unwrap();
    assert_eq!(found, BTreeMap::new());
}
