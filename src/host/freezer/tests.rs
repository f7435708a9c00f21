use std::fs;

use super::*;
use crate::host::lock::TenantLock;

/// A host below a temporary root whose "control group" is a directory of plain files: the kernel
/// is played by writing `cgroup.events`. The real one is tested in the test machine.
struct Host {
    _dir: tempfile::TempDir,
    layout: Layout,
    tenant: TenantId,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::rooted(dir.path().to_str().unwrap());
        for name in ["lock", "frozen"] {
            fs::create_dir_all(layout.run_dir().join(name)).unwrap();
        }
        Self {
            _dir: dir,
            layout,
            tenant: "foo-bar".parse().unwrap(),
        }
    }

    fn group(&self, events: &str) -> Utf8PathBuf {
        let group = self
            .layout
            .root()
            .join(r"sys/fs/cgroup/tenant.slice/tenant-foo\x2dbar.slice/tenant-foo-bar.service")
            .join("libpod-payload-1");
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("cgroup.events"), events).unwrap();
        group
    }

    async fn lock(&self) -> TenantLock {
        TenantLock::acquire(&self.layout, &self.tenant, "test", Duration::ZERO)
            .await
            .unwrap()
    }

    fn freezer(&self) -> Freezer {
        Freezer::new(self.layout.clone())
    }
}

fn asked(group: &Utf8PathBuf) -> String {
    fs::read_to_string(group.join("cgroup.freeze")).unwrap()
}

#[tokio::test]
async fn a_freeze_is_recorded_and_another_process_can_thaw_it() {
    let host = Host::new();
    let group = host.group("populated 1\nfrozen 1\n");
    let lock = host.lock().await;
    let frozen = host.freezer().freeze(&lock, Owner::Backup, "clone");
    assert_eq!(frozen.unwrap(), Frozen::Yes);
    assert_eq!(asked(&group), "1");
    let record = host.freezer().record(&host.tenant).unwrap().unwrap();
    assert_eq!(
        (record.owner, record.reason.as_str()),
        (Owner::Backup, "clone")
    );
    assert_eq!(
        host.freezer().recorded().unwrap(),
        std::slice::from_ref(&host.tenant)
    );

    // The freezer that thaws is another one, and does not need the lock that is still held.
    host.group("populated 1\nfrozen 0\n");
    assert!(host.freezer().thaw(&host.tenant, Owner::Backup).unwrap());
    assert_eq!(asked(&group), "0");
    assert_eq!(host.freezer().record(&host.tenant).unwrap(), None);
    assert!(!host.freezer().thaw(&host.tenant, Owner::Backup).unwrap());
}

#[tokio::test]
async fn one_owner_does_not_take_over_or_thaw_the_freeze_of_another() {
    let host = Host::new();
    let group = host.group("populated 1\nfrozen 1\n");
    let lock = host.lock().await;
    host.freezer()
        .freeze(&lock, Owner::Operator, "idle")
        .unwrap();
    let error = host
        .freezer()
        .freeze(&lock, Owner::Backup, "clone")
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("tenant foo-bar is already frozen by operator (idle), since "),
        "{error}"
    );
    assert!(!host.freezer().thaw(&host.tenant, Owner::Backup).unwrap());
    assert_eq!(asked(&group), "1", "still frozen");
}

#[tokio::test]
async fn one_that_sleeps_stands_still_for_others_too_unless_another_container_runs_by_now() {
    let host = Host::new();
    let group = host.group("populated 1\nfrozen 1\n");
    let lock = host.lock().await;
    host.freezer().freeze(&lock, Owner::Sleep, "idle").unwrap();
    let frozen = host.freezer().freeze(&lock, Owner::Backup, "clone");
    assert_eq!(frozen.unwrap(), Frozen::Asleep);
    assert!(!host.freezer().thaw(&host.tenant, Owner::Backup).unwrap());
    assert_eq!(asked(&group), "1", "still frozen");

    host.group("populated 0\nfrozen 0\n");
    let frozen = host.freezer().freeze(&lock, Owner::Backup, "clone");
    assert_eq!(frozen.unwrap(), Frozen::Yes);
    let record = host.freezer().record(&host.tenant).unwrap().unwrap();
    assert_eq!(record.owner, Owner::Backup);
}

#[tokio::test]
async fn what_a_living_process_froze_is_not_abandoned() {
    let host = Host::new();
    let group = host.group("populated 1\nfrozen 1\n");
    let lock = host.lock().await;
    host.freezer()
        .freeze(&lock, Owner::Backup, "clone")
        .unwrap();
    let abandoned = || {
        host.freezer()
            .thaw_abandoned(&host.tenant, Owner::Backup)
            .unwrap()
    };
    assert!(!abandoned());
    assert_eq!(asked(&group), "1", "still frozen");

    host.group("populated 1\nfrozen 0\n");
    let mut record = host.freezer().record(&host.tenant).unwrap().unwrap();
    record.process.started -= 1;
    let json = serde_json::to_vec(&record).unwrap();
    fs::write(host.layout.freeze_file(&host.tenant), json).unwrap();
    assert!(abandoned());
    assert_eq!(asked(&group), "0");
}

#[tokio::test]
async fn nothing_runs_so_nothing_is_frozen() {
    let host = Host::new();
    let lock = host.lock().await;
    let frozen = host.freezer().freeze(&lock, Owner::Backup, "clone");
    assert_eq!(frozen.unwrap(), Frozen::NotRunning);
    assert_eq!(host.freezer().record(&host.tenant).unwrap(), None);
    host.freezer().thaw_all(&host.tenant).unwrap();
}

#[tokio::test]
async fn a_broken_record_does_not_keep_a_tenant_frozen() {
    let host = Host::new();
    let group = host.group("populated 1\nfrozen 0\n");
    fs::write(host.layout.freeze_file(&host.tenant), "{").unwrap();
    assert!(host.freezer().thaw(&host.tenant, Owner::Backup).unwrap());
    assert_eq!(asked(&group), "0");
    assert_eq!(host.freezer().record(&host.tenant).unwrap(), None);
}

/// A process that counts; it ends with the value, however the test ends.
struct Agent(std::process::Child);

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The kernel's freezer, with a process that counts.
#[tokio::test]
#[ignore = "needs root and cgroup v2: runs in the test machine"]
async fn the_real_kernel_freezes_and_a_killed_owner_leaves_nothing_frozen() {
    let layout = Layout::default();
    let tenant: TenantId = "selftest".parse().unwrap();
    let slice = Utf8PathBuf::from("/sys/fs/cgroup/tenant.slice/tenant-selftest.slice");
    let group = slice.join("tenant-selftest.service/libpod-payload-0");
    fs::create_dir_all(&group).unwrap();
    let agent = std::process::Command::new("sh")
        .args(["-c", "echo $$ > \"$0\"; while :; do :; done"])
        .arg(group.join("cgroup.procs"))
        .spawn()
        .map(Agent)
        .unwrap();
    while fs::read_to_string(group.join("cgroup.procs"))
        .unwrap()
        .is_empty()
    {
        std::thread::yield_now();
    }
    let used = || {
        let text = fs::read_to_string(group.join("cpu.stat")).unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("usage_usec"))
            .unwrap();
        line.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
    };

    let lock = TenantLock::acquire(&layout, &tenant, "test", Duration::ZERO)
        .await
        .unwrap();
    let freezer = Freezer::new(layout.clone());
    let begin = clock::monotonic();
    assert_eq!(
        freezer.freeze(&lock, Owner::Backup, "test").unwrap(),
        Frozen::Yes
    );
    let took = begin.elapsed();
    let before = used();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(used(), before, "a frozen process uses no processor time");

    // The owner is gone, its lock with it or not; only the record says that it froze.
    let begin = clock::monotonic();
    assert!(
        Freezer::new(layout.clone())
            .thaw(&tenant, Owner::Backup)
            .unwrap()
    );
    println!("frozen in {took:?}, thawed in {:?}", begin.elapsed());
    while used() == before {
        std::thread::yield_now();
    }
    drop(agent);
    for group in [
        group.clone(),
        slice.join("tenant-selftest.service"),
        slice.clone(),
    ] {
        while fs::remove_dir(&group).is_err_and(|error| error.raw_os_error() == Some(16)) {
            std::thread::yield_now();
        }
    }
}
