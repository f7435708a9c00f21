//! A node that was rebuilt goes on where the one before ended, whatever is done first and wherever it is cut short.

use super::*;
use crate::failpoint;
use crate::protect::catalogued::is_catalogued;
use crate::protect::has_something;
use crate::protect::heartbeat::word;
use crate::protect::opened::local_spec;
use crate::protect::order::has_order;
use crate::protect::store::{Patience, open_store};
use crate::protect::tenant::{NODE, tenants};
use crate::quadlet::UnitSet;
use crate::state::{OperationId, StoredRevision};
use crate::tenant::{Catalog, Revision, RevisionNumber, SecretVersions, Source};

/// A node with a tenant of two snapshots, backed up.
async fn lost(operator: &Operator) -> Host {
    let host = operator.host("a", 1);
    drop(Database::open(&host.layout.database()).unwrap());
    host.back_up("one").await;
    host.back_up("two").await;
    host.back_up_node().await;
    host
}

impl Host {
    async fn try_back_up(&self) -> Result<BackupReport, ProtectError> {
        let (layout, settings) = (&self.layout, &self.settings);
        let progress = Arc::new(Silent);
        back_up_tenant(layout, settings, &acme(), None, Haste::None, progress).await
    }

    /// What the tenant's restore unit does.
    async fn bring_back(&self) -> Result<Option<RestoreReport>, ProtectError> {
        let is_running = async || Ok(false);
        let progress = Arc::new(Silent);
        restore_if_wanted(&self.layout, &self.settings, &acme(), is_running, progress).await
    }

    fn content(&self) -> String {
        fs::read_to_string(self.layout.state_dir(&acme()).join("data/file")).unwrap()
    }

    fn is_catalogued(&self) -> bool {
        is_catalogued(&self.layout.repository_dir(acme().as_str()))
    }

    fn order(&self, snapshot: Option<u64>, identity: &Identity) {
        let order = RestoreOrder {
            snapshot,
            identity: Some(identity.to_text()),
            allow_old: false,
            until_done: true,
        };
        write_order(&self.layout, &acme(), &order).unwrap();
    }
}

#[tokio::test]
async fn nothing_outranks_the_snapshots_of_a_tenant_that_waits_for_its_restore() {
    let operator = Operator::new();
    lost(&operator).await;
    let b = operator.host("b", 2);
    b.restore_node(&operator.identity).await.unwrap();
    let refused = b.try_back_up().await;
    assert!(matches!(refused, Err(ProtectError::NotRestored(_))));
    b.write(&acme(), b"began by itself");
    let refused = b.try_back_up().await;
    assert!(matches!(refused, Err(ProtectError::NotRestored(_))));

    // The first heartbeat of the new node names what the one before named.
    b.back_up_node().await;
    let store = open_store(&b.settings.store, Patience::None).unwrap();
    let spec = local_spec(&b.layout, "acme").unwrap().unwrap();
    let said = word(&b.layout, &b.settings, &store, "acme", spec.id).await;
    let head = said.unwrap().unwrap().head.unwrap();
    assert_eq!((head.epoch, head.sequence), (1, 2));

    let c = operator.host("c", 3);
    c.restore_node(&operator.identity).await.unwrap();
    assert_eq!(c.restore(&operator.identity, false).await.unwrap().1, "two");
}

#[tokio::test]
async fn whichever_snapshot_is_restored_first_the_next_one_follows_the_newest() {
    let operator = Operator::new();
    lost(&operator).await;
    let b = operator.host("b", 2);
    b.restore_node(&operator.identity).await.unwrap();
    b.order(Some(1), &operator.identity);
    let report = b.bring_back().await.unwrap().unwrap();
    assert_eq!((report.snapshot, b.content().as_str()), (1, "one"));
    assert!(!b.is_catalogued());

    // Between the restore and the first snapshot of its own an empty one is refused like any other.
    fs::remove_file(b.layout.state_dir(&acme()).join("data/file")).unwrap();
    let refused = b.try_back_up().await;
    assert!(matches!(refused, Err(ProtectError::EmptyState(_))));

    assert_eq!(b.back_up("of b").await.snapshot, 3);
    let (report, content) = b.restore(&operator.identity, false).await.unwrap();
    assert_eq!((content.as_str(), report.forks.len()), ("of b", 0));
}

#[tokio::test]
async fn a_store_that_has_lost_every_snapshot_is_not_taken_for_a_new_one() {
    let operator = Operator::new();
    let a = lost(&operator).await;
    let b = operator.host("b", 2);
    b.restore_node(&operator.identity).await.unwrap();
    let spec = local_spec(&b.layout, "acme").unwrap().unwrap();
    fs::remove_dir_all(operator.store().join(format!("{}/commits", spec.prefix))).unwrap();
    // One has stored them itself, the other was told by the heartbeat.
    for host in [&a, &b] {
        let lost = host.restore(&operator.identity, false).await.unwrap_err();
        assert!(
            matches!(lost, ProtectError::AllGone { snapshot: 2, .. }),
            "{lost}"
        );
    }
    let lost = b.bring_back().await.unwrap_err();
    assert!(matches!(lost, ProtectError::AllGone { .. }), "{lost}");
    assert!(b.is_catalogued());
    let allowed = a.restore(&operator.identity, true).await.unwrap_err();
    assert!(
        matches!(allowed, ProtectError::NothingStored(_)),
        "{allowed}"
    );
}

#[tokio::test]
async fn what_a_machine_began_before_it_is_rebuilt_is_not_taken_for_the_node_it_replaces() {
    let operator = Operator::new();
    let a = lost(&operator).await;
    let mut b = operator.host("b", 2);
    b.settings.name.clone_from(&a.settings.name);
    assert!(
        !has_something(&b.layout),
        "the timer would begin a repository"
    );
    drop(Database::open(&b.layout.database()).unwrap());
    b.back_up_node().await;
    assert_eq!(b.restore_node(&operator.identity).await.unwrap(), [acme()]);
    b.bring_back().await.unwrap();
    assert_eq!(b.content(), "two");
}

#[tokio::test]
async fn a_host_that_is_too_small_for_what_was_promised_is_told_before_anything_is_restored() {
    let operator = Operator::new();
    let a = lost(&operator).await;
    promise(&a, "512GiB").await;
    a.back_up_node().await;
    let mut b = operator.host("b", 2);
    fs::create_dir_all(b.layout.root().join("proc")).unwrap();
    let memory = b.layout.root().join("proc/meminfo");
    fs::write(memory, "MemTotal: 8388608 kB\n").unwrap();
    b.settings.capacity = toml::from_str("on-overcommit = \"refuse\"").unwrap();
    let refused = b.restore_node(&operator.identity).await.unwrap_err();
    let told = refused.to_string();
    assert!(told.contains("plans promise 512GiB of memory"), "{told}");
    assert!(tenants(&b.layout).is_empty() && !b.layout.node_restore_file().exists());
    b.settings.capacity = toml::from_str("on-overcommit = \"warn\"").unwrap();
    assert_eq!(b.restore_node(&operator.identity).await.unwrap(), [acme()]);
}

/// Records a revision of the tenant whose plan has so much memory.
async fn promise(host: &Host, memory: &str) {
    let mut catalog = Catalog::builtin();
    let plan = include_str!("../../quadlets/plans/starter.toml");
    let plan: String = plan
        .lines()
        .map(|line| match line.split_once(" = ") {
            Some(("memory", _)) => format!("memory = {memory:?}\n"),
            Some(("swap", _)) => String::new(),
            _ => format!("{line}\n"),
        })
        .collect();
    let plan = plan.replace("\"starter\"", "\"huge\"");
    catalog.add_plan(&Source::new("huge.toml", &plan)).unwrap();
    let spec =
        "id = \"acme\"\ntemplate = \"nanobot\"\nplan = \"huge\"\nimage = \"localhost/a:1\"\n";
    let (_, resolved) = catalog.resolve(&Source::new("acme.toml", spec)).unwrap();
    let database = Database::open(&host.layout.database()).unwrap();
    let made = database.create_tenant(acme(), None, "root".to_owned(), jiff::Timestamp::UNIX_EPOCH);
    made.await.unwrap();
    let revision = Revision {
        number: RevisionNumber(1),
        created_at: jiff::Timestamp::UNIX_EPOCH,
        actor: "root".to_owned(),
        message: String::new(),
        spec_text: spec.to_owned(),
        resolved,
        image: format!("sha256:{}", "a".repeat(64)).parse().unwrap(),
        secrets: SecretVersions::default(),
        unit_set_hash: UnitSet::default().hash(),
    };
    let stored = StoredRevision {
        revision,
        unit_set: UnitSet::default(),
    };
    let stored = database.store_revision(acme(), OperationId::nil(), stored);
    stored.await.unwrap();
    let current = database.set_current_revision(acme(), Some(1), false);
    current.await.unwrap();
}

#[tokio::test]
async fn a_tenant_that_never_had_a_snapshot_begins_on_a_rebuilt_node() {
    let operator = Operator::new();
    let a = operator.host("a", 1);
    drop(Database::open(&a.layout.database()).unwrap());
    create_repository(&a.layout, &a.settings, &acme())
        .await
        .unwrap();
    dirs::make(&a.layout.tenant_dir(&acme()), 0o700).unwrap();
    fs::write(a.layout.runtime_file(&acme()), "{}").unwrap();
    a.back_up_node().await;
    let b = operator.host("b", 2);
    b.restore_node(&operator.identity).await.unwrap();
    assert!(b.is_catalogued());
    assert!(b.bring_back().await.unwrap().is_none());
    assert!(!b.is_catalogued());
    assert_eq!(b.back_up("first").await.snapshot, 1);
}

#[tokio::test]
async fn where_the_newest_cannot_be_told_an_earlier_one_can_still_be_named() {
    let operator = Operator::new();
    let a = operator.host("a", 1);
    a.back_up("one").await;
    let directory = a.layout.repository_dir("acme");
    let before = a.layout.root().join("before");
    let copy = |from: &Utf8Path, to: &Utf8Path| {
        let copied = std::process::Command::new("cp")
            .arg("-aT")
            .args([from, to])
            .status();
        assert!(copied.unwrap().success());
    };
    copy(&directory, &before);
    a.back_up("two").await;
    fs::remove_dir_all(&directory).unwrap();
    copy(&before, &directory);
    a.back_up("two as well").await;
    let to = a.layout.root().join("restored");
    let (identity, apart) = (
        operator.identity.to_text(),
        Apart {
            path: None,
            place: Place::Directory(to.clone()),
        },
    );
    let restore = async |snapshot| {
        let wanted = Wanted {
            snapshot,
            identity: Some(&identity),
            allow_old: false,
        };
        let progress = Arc::new(Silent);
        restore_apart(&a.layout, &a.settings, &acme(), &apart, wanted, progress).await
    };
    for unclear in [None, Some(2)] {
        let refused = format!(
            "{:#}",
            anyhow::Error::from(restore(unclear).await.unwrap_err())
        );
        assert!(refused.contains("name the one to take"), "{refused}");
    }
    let (report, _) = restore(Some(1)).await.unwrap();
    assert_eq!((report.snapshot, report.forks.len()), (1, 2));
    assert_eq!(fs::read_to_string(to.join("data/file")).unwrap(), "one");
}

const PLACE: &str = "TENANTD_TEST_REBUILD_PLACE";
const IDENTITY: &str = "TENANTD_TEST_REBUILD_IDENTITY";

/// What the parent has made.
fn inherited() -> (Operator, Host) {
    let text = SecretString::from(std::env::var(IDENTITY).unwrap());
    let operator = Operator {
        path: Utf8PathBuf::from(std::env::var(PLACE).unwrap()),
        identity: Identity::from_text(&text).unwrap(),
        _guard: None,
        ..Operator::new()
    };
    let host = operator.host("b", 2);
    (operator, host)
}

#[tokio::test]
#[ignore = "run by the tests below in a process of its own"]
async fn child_rebuilds() {
    let (operator, host) = inherited();
    host.restore_node(&operator.identity).await.unwrap();
}

#[tokio::test]
#[ignore = "run by the tests below in a process of its own"]
async fn child_restores() {
    let (_operator, host) = inherited();
    host.bring_back().await.unwrap();
}

/// Runs a child that is killed at a point.
fn kill(operator: &Operator, child: &str, point: &str) {
    let child = format!("protect::trust_tests::rebuild::{child}");
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", child.as_str(), "--ignored"])
        .env(failpoint::VARIABLE, point)
        .env(PLACE, &operator.path)
        .env(IDENTITY, operator.identity.to_text().expose_secret())
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(9), "{point}: {output:?}");
}

/// The prefixes in the store.
fn prefixes(operator: &Operator) -> usize {
    operator.store().read_dir_utf8().unwrap().count()
}

#[tokio::test]
async fn a_rebuild_that_was_cut_short_anywhere_is_ended_by_another_one() {
    for point in [
        "node.restoring",
        "node.placed",
        "adopt.emptied",
        "node.adopted",
    ] {
        let operator = Operator::new();
        lost(&operator).await;
        let b = operator.host("b", 2);
        kill(&operator, "child_rebuilds", point);
        // Nobody takes the part for the whole.
        let refused = back_up_node(&b.layout, &b.settings, Haste::None, Arc::new(Silent)).await;
        assert!(
            matches!(refused, Err(ProtectError::HalfRestored)),
            "{point}"
        );

        let tenants = b.restore_node(&operator.identity).await.unwrap();
        assert_eq!(tenants, [acme()], "{point}");
        assert!(has_order(&b.layout, &acme()));
        assert_eq!(b.bring_back().await.unwrap().unwrap().snapshot, 2);
        assert_eq!(b.back_up("of b").await.snapshot, 3);
        assert_eq!(b.back_up_node().await.snapshot, 2);
        assert_eq!(
            prefixes(&operator),
            2,
            "{point}: one of the tenant, one of the node"
        );
        // What is whole is not begun again.
        let again = b.restore_node(&operator.identity).await;
        assert!(matches!(again, Err(ProtectError::NotEmpty)), "{point}");
    }
}

#[tokio::test]
async fn a_restore_that_was_cut_short_anywhere_never_begins_another_repository() {
    for point in [
        "protect.restored",
        "adopt.emptied",
        "protect.adopted",
        "protect.exchanged",
    ] {
        let operator = Operator::new();
        lost(&operator).await;
        let b = operator.host("b", 2);
        b.restore_node(&operator.identity).await.unwrap();
        kill(&operator, "child_restores", point);
        assert!(b.try_back_up().await.is_err(), "{point}");
        assert!(is_restore_due(&b.layout, &acme()).unwrap(), "{point}");
        // A reboot takes the order away.
        fs::remove_dir_all(b.layout.run_dir()).unwrap();
        b.order(None, &operator.identity);
        b.bring_back().await.unwrap();
        assert_eq!(b.content(), "two", "{point}");
        assert_eq!(b.back_up("of b").await.snapshot, 3, "{point}");
        assert_eq!(prefixes(&operator), 2, "{point}");
    }
}

#[tokio::test]
async fn an_adoption_waits_for_whoever_writes_there() {
    let operator = Operator::new();
    lost(&operator).await;
    let b = operator.host("b", 2);
    b.restore_node(&operator.identity).await.unwrap();
    let directory = b.layout.repository_dir(acme().as_str());
    let lock = fs::File::create(directory.join("lock")).unwrap();
    lock.lock().unwrap();
    let refused = b.bring_back().await.unwrap_err();
    assert!(
        matches!(refused, ProtectError::Repository { .. }),
        "{refused}"
    );
    assert!(b.is_catalogued() && has_order(&b.layout, &acme()));
    lock.unlock().unwrap();
    assert_eq!(b.bring_back().await.unwrap().unwrap().snapshot, 2);
    assert!(local_spec(&b.layout, NODE).unwrap().is_some());
}
