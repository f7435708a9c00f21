//! Whole hosts over one store: what a host takes, refuses and says when the store or another host is not honest.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;

use camino::{Utf8Path, Utf8PathBuf};

use super::*;
use crate::backup::freshness::Stale;
use crate::backup::{Identity, NodeKey, Progress, RootKey, Silent};
use crate::host::dirs;
use crate::layout::Layout;
use crate::node::{
    BackupSettings, KeyFiles, KeySettings, NodeSettings, RestoreSettings, RetentionSettings,
    SecretSettings, StoreSettings, UpdateSettings,
};
use crate::state::Database;
use crate::tenant::TenantId;
use secrecy::{ExposeSecret as _, SecretString};
use std::sync::Arc;

#[path = "rebuild_tests.rs"]
mod rebuild;

/// What the hosts of one operator share.
struct Operator {
    path: Utf8PathBuf,
    root: RootKey,
    identity: Identity,
    _guard: Option<tempfile::TempDir>,
}

impl Operator {
    fn new() -> Self {
        let guard = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(guard.path().to_owned()).unwrap();
        Self {
            path,
            root: RootKey::from_seed(&[1; 32]).unwrap(),
            identity: Identity::generate(),
            _guard: Some(guard),
        }
    }

    fn store(&self) -> Utf8PathBuf {
        self.path.join("store")
    }

    /// All objects whose names contain `part`, by name.
    fn objects(&self, part: &str) -> Vec<Utf8PathBuf> {
        let mut found = Vec::new();
        let mut waiting = vec![self.store()];
        while let Some(directory) = waiting.pop() {
            for entry in directory.read_dir_utf8().unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    waiting.push(entry.path().to_owned());
                } else if entry.path().as_str().contains(part) {
                    found.push(entry.path().to_owned());
                }
            }
        }
        found.sort();
        found
    }

    /// A host that was set up, and has no tenants yet.
    fn host(&self, name: &str, epoch: u32) -> Host {
        let layout = Layout::rooted(self.path.join(name));
        dirs::make(&layout.keys_dir(), 0o700).unwrap();
        let key = NodeKey::from_seed(&[u8::try_from(epoch).unwrap(); 32]).unwrap();
        let certificate = self.root.certify(&key.public(), epoch).unwrap();
        let files = KeyFiles::new(&layout);
        let text = key.to_openssh().unwrap();
        fs::write(files.node_key(), text.expose_secret()).unwrap();
        fs::write(files.certificate(), certificate.to_text()).unwrap();
        let settings = NodeSettings {
            name: "host-1".to_owned(),
            allow_missing_controllers: false,
            shutdown_budget_seconds: 25,
            store: StoreSettings {
                url: format!("dir:{}", self.store()),
                ..StoreSettings::default()
            },
            api: crate::node::ApiSettings::default(),
            backup: BackupSettings::default(),
            front: crate::node::FrontSettings::default(),
            restore: RestoreSettings::default(),
            capacity: crate::node::CapacitySettings::default(),
            failure: crate::node::FailureSettings::default(),
            retention: RetentionSettings::default(),
            secrets: SecretSettings::default(),
            update: UpdateSettings::default(),
            keys: KeySettings {
                root: self.root.public().to_string(),
                recipients: vec![self.identity.recipient().to_string()],
            },
        };
        Host { layout, settings }
    }
}

struct Host {
    layout: Layout,
    settings: NodeSettings,
}

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

impl Host {
    /// Has the tenant write `content`, and backs it up.
    async fn back_up(&self, content: &str) -> BackupReport {
        self.back_up_of(&acme(), content.as_bytes()).await
    }

    async fn back_up_of(&self, tenant: &TenantId, content: &[u8]) -> BackupReport {
        self.write(tenant, content);
        self.back_up_as_it_is(tenant).await
    }

    async fn back_up_as_it_is(&self, tenant: &TenantId) -> BackupReport {
        let (layout, settings) = (&self.layout, &self.settings);
        let progress = Arc::new(Silent);
        back_up_tenant(layout, settings, tenant, None, Haste::None, progress)
            .await
            .unwrap()
    }

    fn write(&self, tenant: &TenantId, content: &[u8]) {
        let state = self.layout.state_dir(tenant).join("data");
        dirs::make(&state, 0o700).unwrap();
        fs::write(state.join("file"), content).unwrap();
        fs::write(self.layout.runtime_file(tenant), "{}").unwrap();
    }

    async fn back_up_node(&self) -> BackupReport {
        back_up_node(&self.layout, &self.settings, Haste::None, Arc::new(Silent))
            .await
            .unwrap()
    }

    async fn restore(
        &self,
        identity: &Identity,
        allow_old: bool,
    ) -> Result<(RestoreReport, String), ProtectError> {
        let to = self.layout.root().join("restored");
        let identity = identity.to_text();
        let wanted = Wanted {
            identity: Some(&identity),
            allow_old,
            ..Wanted::default()
        };
        let progress = Arc::new(Silent);
        let tenant = acme();
        let apart = Apart {
            path: None,
            place: Place::Directory(to.clone()),
        };
        let restored = restore_apart(
            &self.layout,
            &self.settings,
            &tenant,
            &apart,
            wanted,
            progress,
        );
        let (report, _) = restored.await?;
        let content = fs::read_to_string(to.join("data/file")).unwrap();
        fs::remove_dir_all(to).unwrap();
        Ok((report, content))
    }

    async fn restore_node(&self, identity: &Identity) -> Result<Vec<TenantId>, ProtectError> {
        self.rebuild(identity, None).await
    }

    async fn rebuild(
        &self,
        identity: &Identity,
        from: Option<&str>,
    ) -> Result<Vec<TenantId>, ProtectError> {
        let identity: SecretString = identity.to_text();
        let wanted = NodeWanted {
            identity: &identity,
            from,
            allow_old: false,
        };
        restore_node(&self.layout, &self.settings, wanted, Arc::new(Silent))
            .await
            .map(|rebuilt| rebuilt.tenants)
    }
}

fn stale(restored: Result<(RestoreReport, String), ProtectError>) -> Stale {
    match restored {
        Err(ProtectError::Stale { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_store_that_was_rolled_back_is_refused_here_and_on_a_new_host_unless_allowed() {
    let operator = Operator::new();
    let a = operator.host("a", 1);
    drop(Database::open(&a.layout.database()).unwrap());
    a.back_up("one").await;
    a.back_up("two").await;
    a.back_up_node().await;
    assert_eq!(a.restore(&operator.identity, false).await.unwrap().1, "two");

    let b = operator.host("b", 2);
    assert_eq!(b.restore_node(&operator.identity).await.unwrap(), [acme()]);
    assert_eq!(b.restore(&operator.identity, false).await.unwrap().1, "two");

    // The tenant's repository has two commits, the node's one.
    let commits = operator.objects("/commits/");
    let newest = commits
        .iter()
        .find(|path| path.as_str().contains("-0000000002-"));
    fs::remove_file(newest.unwrap()).unwrap();
    let known = stale(a.restore(&operator.identity, false).await);
    assert!(matches!(known, Stale::Seen { .. }), "{known}");
    let named = stale(b.restore(&operator.identity, false).await);
    assert!(matches!(named, Stale::Named { .. }), "{named}");

    let (report, content) = b.restore(&operator.identity, true).await.unwrap();
    assert_eq!(content, "one");
    assert_eq!(report.doubt, Some(named.to_string()));
    let lenient = NodeSettings {
        restore: RestoreSettings {
            allow_old: true,
            ..RestoreSettings::default()
        },
        ..b.settings.clone()
    };
    let b = Host {
        settings: lenient,
        ..b
    };
    assert_eq!(b.restore(&operator.identity, false).await.unwrap().1, "one");
}

#[tokio::test]
async fn a_node_that_was_replaced_and_comes_back_is_reported_and_not_followed() {
    let operator = Operator::new();
    let a = operator.host("a", 1);
    drop(Database::open(&a.layout.database()).unwrap());
    a.back_up("shared").await;
    a.back_up_node().await;
    let b = operator.host("b", 2);
    b.restore_node(&operator.identity).await.unwrap();
    // B's tenant comes back as its unit would bring it.
    let is_running = async || Ok(false);
    let progress = Arc::new(Silent);
    restore_if_wanted(&b.layout, &b.settings, &acme(), is_running, progress)
        .await
        .unwrap()
        .unwrap();
    b.back_up("of b").await;
    b.back_up_node().await;

    for content in ["of a", "of a again", "of a once more"] {
        a.back_up(content).await;
        a.back_up_node().await;
    }
    let c = operator.host("c", 3);
    c.restore_node(&operator.identity).await.unwrap();
    for host in [&b, &c] {
        let (report, content) = host.restore(&operator.identity, false).await.unwrap();
        assert_eq!((content.as_str(), report.snapshot), ("of b", 2));
        assert_eq!(report.forks.len(), 3, "{report:?}");
        assert!(report.forks.iter().all(|fork| fork.epoch == 1));
    }
    let shown = local_snapshots(&c.layout, &c.settings, Some(&acme())).unwrap();
    assert_eq!(shown.iter().filter(|one| one.fork.is_some()).count(), 3);
    // A itself has written what is not taken: its own chain is longer, and of a lower epoch.
    let (report, content) = a.restore(&operator.identity, false).await.unwrap();
    assert_eq!((content.as_str(), report.forks.len()), ("of b", 3));
}

#[tokio::test]
async fn an_unchanged_node_with_its_tenants_costs_one_heartbeat() {
    let operator = Operator::new();
    let host = operator.host("a", 1);
    drop(Database::open(&host.layout.database()).unwrap());
    host.back_up("content").await;
    host.back_up_node().await;
    let before = operator.objects("");
    for round in 1..4 {
        let report = host.back_up_as_it_is(&acme()).await;
        assert_eq!(report.outcome, Outcome::Unchanged);
        assert_eq!(host.back_up_node().await.outcome, Outcome::Unchanged);
        let mut new = operator.objects("");
        new.retain(|path| !before.contains(path));
        assert_eq!(new.len(), round, "{new:?}");
        assert!(
            new.iter()
                .all(|path| path.as_str().contains("/heartbeats/"))
        );
    }
}

#[tokio::test]
async fn of_two_nodes_in_one_store_a_new_machine_becomes_the_one_of_its_name() {
    let operator = Operator::new();
    let a = operator.host("a", 1);
    drop(Database::open(&a.layout.database()).unwrap());
    a.back_up("of a").await;
    a.back_up_node().await;
    let mut other = operator.host("other", 5);
    other.settings.name = "host-2".to_owned();
    drop(Database::open(&other.layout.database()).unwrap());
    other.back_up_node().await;
    let new = |name: &str, epoch| {
        let mut machine = operator.host(name, epoch);
        machine.settings.name = name.to_owned();
        machine
    };
    for (name, epoch, has_tenant) in [("host-1", 6, true), ("host-2", 7, false)] {
        let machine = new(name, epoch);
        let tenants = machine.restore_node(&operator.identity).await.unwrap();
        assert_eq!(tenants.contains(&acme()), has_tenant, "{name}");
    }
    // A name that is nobody's takes nobody's place unless it is told whose.
    let machine = new("new", 8);
    let refused = machine.restore_node(&operator.identity).await.unwrap_err();
    assert!(refused.to_string().contains("host-1, host-2"), "{refused}");
    let tenants = machine.rebuild(&operator.identity, Some("host-1")).await;
    assert_eq!(tenants.unwrap(), [acme()]);
}

#[tokio::test]
async fn a_snapshot_that_is_older_than_the_settings_allow_is_refused() {
    let operator = Operator::new();
    let mut host = operator.host("a", 1);
    host.back_up("one").await;
    host.settings.restore.not_before = Some("2100-01-01".parse().unwrap());
    let before = stale(host.restore(&operator.identity, false).await);
    assert!(matches!(before, Stale::Before { .. }), "{before}");
    assert_eq!(
        host.restore(&operator.identity, true).await.unwrap().1,
        "one"
    );
}

#[tokio::test]
async fn rotation_shuts_the_former_recipient_out_and_may_be_repeated() {
    let operator = Operator::new();
    let mut host = operator.host("a", 1);
    host.back_up("one").await;
    let (former, next) = (&operator.identity, Identity::generate());
    host.settings.keys.recipients = vec![next.recipient().to_string()];
    let is_current = |host: &Host| {
        let report = show_keys(&host.layout, &host.settings).unwrap();
        report.repositories.iter().all(|one| one.is_current)
    };
    assert!(!is_current(&host));
    let rotate = async |identity: &Identity, dry_run| {
        let (layout, settings) = (&host.layout, &host.settings);
        rotate_keys(layout, settings, &settings.store, &[], identity, dry_run).await
    };
    let stranger = Identity::generate();
    assert!(matches!(
        rotate(&stranger, false).await,
        Err(ProtectError::Rewrap { .. })
    ));
    let before = operator.objects("/keys/");
    assert!(rotate(former, true).await.unwrap()[0].is_new);
    assert_eq!(
        operator.objects("/keys/"),
        before,
        "a dry run changes nothing"
    );

    let rotated = rotate(former, false).await.unwrap();
    assert_eq!((rotated[0].is_new, rotated[0].old.removed), (true, 1));
    assert!(is_current(&host));
    assert!(!rotate(&next, false).await.unwrap()[0].is_new);
    assert_eq!(operator.objects("/keys/").len(), 1);
    assert_eq!(host.restore(&next, false).await.unwrap().1, "one");
    assert!(host.restore(former, false).await.is_err());
    // The writer goes on as before.
    host.back_up("two").await;
    assert_eq!(host.restore(&next, false).await.unwrap().1, "two");
}

#[tokio::test]
async fn an_erased_tenant_can_be_read_by_nobody_and_begins_anew() {
    let operator = Operator::new();
    let host = operator.host("a", 1);
    host.back_up("one").await;
    let store = host.settings.store.clone();
    let erase = async |dry_run| erase_keys(&host.layout, &store, &acme(), dry_run).await;
    assert!(matches!(
        erase(false).await,
        Err(ProtectError::NotRemoved(_))
    ));
    // As `remove` without --purge leaves it.
    fs::remove_file(host.layout.runtime_file(&acme())).unwrap();
    assert!(matches!(
        erase(false).await,
        Err(ProtectError::StateLeft(..))
    ));
    fs::remove_dir_all(host.layout.tenant_dir(&acme())).unwrap();
    let dry = erase(true).await.unwrap();
    assert_eq!(dry.last.map(|last| last.removed), Some(1));
    assert_eq!(
        operator.objects("/keys/").len(),
        1,
        "a dry run changes nothing"
    );

    let erased = erase(false).await.unwrap();
    assert_eq!(erased.status, ErasureStatus::Erased);
    assert!(operator.objects("/keys/").is_empty());
    let report = show_keys(&host.layout, &host.settings).unwrap();
    assert_eq!(report.erasures, [erased]);
    assert!(report.repositories.is_empty());
    // Once more is no error, and a new tenant of the name has a repository of its own.
    assert_eq!(erase(false).await.unwrap().status, ErasureStatus::Erased);
    host.back_up("another").await;
    let (report, content) = host.restore(&operator.identity, false).await.unwrap();
    assert_eq!((report.snapshot, content.as_str()), (1, "another"));

    // What was asked for outlives the host.
    drop(Database::open(&host.layout.database()).unwrap());
    host.back_up_node().await;
    let rebuilt = operator.host("b", 2);
    rebuilt.restore_node(&operator.identity).await.unwrap();
    let report = show_keys(&rebuilt.layout, &rebuilt.settings).unwrap();
    assert_eq!(report.erasures.len(), 1);
}

/// Bytes that do not compress.
fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new_keyed(&[seed; 32])
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

#[tokio::test]
async fn at_shutdown_who_sends_least_comes_first_and_who_is_late_is_named() {
    let operator = Operator::new();
    let host = operator.host("a", 1);
    drop(Database::open(&host.layout.database()).unwrap());
    let busy: TenantId = "a-busy".parse().unwrap();
    let quiet: TenantId = "b-quiet".parse().unwrap();
    let new: TenantId = "c-new".parse().unwrap();
    host.back_up_of(&quiet, &noise(1, 900_000)).await;
    host.back_up_of(&quiet, b"a little").await;
    host.back_up_of(&busy, b"a little").await;
    host.back_up_of(&busy, &noise(2, 900_000)).await;
    for (tenant, content) in [(&busy, "last"), (&quiet, "words"), (&new, "first")] {
        host.write(tenant, content.as_bytes());
    }
    dirs::make(&host.layout.run_dir(), 0o755).unwrap();
    let (layout, settings) = (&host.layout, &host.settings);
    let silent = |_: &str| -> Arc<dyn Progress> { Arc::new(Silent) };
    let deadline = layout.run_dir().join("shutdown-deadline");

    fs::write(&deadline, "2026-01-01T00:00:00Z").unwrap();
    let before = operator.objects("");
    let late = final_backup(layout, settings, &silent).await.unwrap();
    assert!(late.done.is_empty(), "{late:?}");
    let missed: Vec<_> = late.missed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(missed, ["b-quiet", "a-busy", "c-new", "(node)"]);
    assert!(
        late.missed
            .iter()
            .all(|(_, why)| why.starts_with("no time was left to begin"))
    );
    assert_eq!(operator.objects(""), before, "nothing was begun");

    let done = final_backup(layout, settings, &silent).await.unwrap();
    assert_eq!(done.done, ["b-quiet", "a-busy", "c-new", "(node)"]);
    assert!(done.missed.is_empty(), "{done:?}");
    assert_eq!(operator.objects("/heartbeats/").len(), 1);
}

const DIRECTORY: &str = "TENANTD_TEST_ERASE_DIRECTORY";

#[tokio::test]
#[ignore = "run by the test below in a process of its own"]
async fn child_erases() {
    let path = std::env::var(DIRECTORY).unwrap();
    let operator = Operator {
        path: Utf8Path::new(&path).to_owned(),
        _guard: None,
        ..Operator::new()
    };
    let host = operator.host("a", 1);
    erase_keys(&host.layout, &host.settings.store, &acme(), false)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_erasure_that_was_cut_short_is_pending_and_goes_on() {
    let operator = Operator::new();
    let host = operator.host("a", 1);
    host.back_up("one").await;
    fs::remove_dir_all(host.layout.tenant_dir(&acme())).unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "protect::trust_tests::child_erases", "--ignored"])
        .env(crate::failpoint::VARIABLE, "keys.erasing")
        .env(DIRECTORY, &operator.path)
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(9), "{output:?}");
    let status = |host: &Host| {
        let report = show_keys(&host.layout, &host.settings).unwrap();
        report.erasures[0].status
    };
    assert_eq!(status(&host), ErasureStatus::Pending);
    let store = &host.settings.store;
    erase_keys(&host.layout, store, &acme(), false)
        .await
        .unwrap();
    assert_eq!(status(&host), ErasureStatus::Erased);
    assert!(operator.objects("/keys/").is_empty());
}
