//! The sleep service before doors and a systemd that the test plays, on a host of plain files: the kernel is played
//! by `cgroup.events`. The real ones are in the test machine.

use std::fs;
use std::time::Duration;

use async_trait::async_trait;
use camino::Utf8PathBuf;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::codec::{Framed, LinesCodec};

use super::service::{Peer, Service, Units};
use super::wire::{Asked, Told};
use super::{ClientError, tell};
use crate::host::freezer::{Freezer, Owner};
use crate::host::lock::TenantLock;
use crate::layout::{Layout, UnitNames};
use crate::tenant::{HttpProbe, Period, Runtime, SleepTimes, TenantId, WakeMode};

/// A systemd that notes what it is asked.
struct Noted(mpsc::UnboundedSender<String>);

#[async_trait]
impl Units for Noted {
    async fn start(&self, unit: &str) -> Result<(), String> {
        self.0.send(format!("start {unit}")).unwrap();
        // A start takes its time; nobody must ask for another meanwhile.
        std::future::pending().await
    }

    async fn stop(&self, unit: &str) -> Result<(), String> {
        self.0.send(format!("stop {unit}")).unwrap();
        Ok(())
    }
}

struct Host {
    _dir: tempfile::TempDir,
    layout: Layout,
    tenant: TenantId,
    asked: mpsc::UnboundedReceiver<String>,
}

impl Host {
    /// A host with one tenant, and its sleep service, which takes everybody for that tenant's door or for root.
    fn new(peer: impl Fn(&TenantId) -> Peer, sleep: Option<SleepTimes>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        let layout = Layout::rooted(root);
        let tenant: TenantId = "acme".parse().unwrap();
        for name in ["lock", "frozen"] {
            fs::create_dir_all(layout.run_dir().join(name)).unwrap();
        }
        fs::create_dir_all(layout.tenant_dir(&tenant)).unwrap();
        let runtime = Runtime {
            tenant: tenant.clone(),
            revision: 1,
            port: 8080,
            start_probe: HttpProbe {
                path: "/healthz".to_owned(),
                json: false,
            },
            start_timeout_seconds: 10,
            live_probe: None,
            wake: WakeMode::OnDemand,
            sleep,
            idle_probe: None,
            state: Vec::new(),
            quiesce: None,
            storage: None,
            secrets: None,
            endpoints: None,
        };
        let json = serde_json::to_vec(&runtime).unwrap();
        fs::write(layout.runtime_file(&tenant), json).unwrap();
        let (noted, asked) = mpsc::unbounded_channel();
        let service = Service::new(layout.clone(), Box::new(Noted(noted)), 4);
        let listener = UnixListener::bind(layout.sleep_socket()).unwrap();
        let peer = peer(&tenant);
        tokio::spawn(service.run(listener, move |_| Some(peer.clone())));
        Self {
            _dir: dir,
            layout,
            tenant,
            asked,
        }
    }

    fn group(&self) -> Utf8PathBuf {
        let names = UnitNames(&self.tenant);
        let slices = self.layout.root().join("sys/fs/cgroup/tenant.slice");
        let service = slices.join(names.slice()).join(names.service());
        service.join("libpod-payload-1")
    }

    /// The agent's container, in a kernel that does at once what is asked of it.
    fn run_agent(&self, events: &str) {
        let group = self.group();
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("cgroup.freeze"), "0").unwrap();
        fs::write(group.join("cgroup.events"), events).unwrap();
        fs::write(group.join("cpu.stat"), "usage_usec 1000\n").unwrap();
    }

    fn asked_of_kernel(&self) -> String {
        fs::read_to_string(self.group().join("cgroup.freeze")).unwrap()
    }

    fn is_asleep(&self) -> bool {
        let record = Freezer::new(self.layout.clone()).record(&self.tenant);
        record
            .unwrap()
            .is_some_and(|record| record.owner == Owner::Sleep)
    }

    async fn freeze(&self) {
        self.run_agent("populated 1\nfrozen 1\n");
        let lock = TenantLock::acquire(&self.layout, &self.tenant, "test", Duration::ZERO);
        let lock = lock.await.unwrap();
        let freezer = Freezer::new(self.layout.clone());
        freezer.freeze(&lock, Owner::Sleep, "test").unwrap();
    }

    async fn connect(&self) -> Framed<UnixStream, LinesCodec> {
        let stream = UnixStream::connect(self.layout.sleep_socket().as_std_path()).await;
        Framed::new(stream.unwrap(), LinesCodec::new())
    }

    async fn tell(&self, asked: Asked) -> Result<Told, ClientError> {
        tell(&self.layout.sleep_socket(), &asked).await
    }
}

const SOON: SleepTimes = SleepTimes {
    after: Period::from_seconds(0),
    stop_after: Period::from_seconds(3600),
    every: Period::from_seconds(3600),
};

async fn heard(door: &mut Framed<UnixStream, LinesCodec>) -> String {
    let line = timeout(Duration::from_secs(30), door.next()).await;
    line.expect("an answer").unwrap().unwrap()
}

fn root(_: &TenantId) -> Peer {
    Peer::Root
}

fn door(tenant: &TenantId) -> Peer {
    Peer::Door(tenant.clone())
}

#[tokio::test]
async fn a_frozen_agent_is_thawed_for_its_door() {
    let host = Host::new(door, Some(SOON));
    host.freeze().await;
    let mut door = host.connect().await;
    door.send("look").await.unwrap();
    assert_eq!(heard(&mut door).await, "frozen");
    // The kernel of this test does not thaw by itself.
    fs::write(
        host.group().join("cgroup.events"),
        "populated 0\nfrozen 0\n",
    )
    .unwrap();
    door.send("wake").await.unwrap();
    assert_eq!(heard(&mut door).await, "awake");
    assert_eq!(host.asked_of_kernel(), "0");
    assert!(!host.is_asleep());
}

#[tokio::test]
async fn an_agent_that_is_down_is_started_once_however_many_ask() {
    let mut host = Host::new(door, Some(SOON));
    let mut doors = Vec::new();
    for _ in 0..100 {
        let mut door = host.connect().await;
        door.send("wake").await.unwrap();
        doors.push(door);
    }
    for door in &mut doors {
        assert_eq!(heard(door).await, "awake");
    }
    assert_eq!(
        host.asked.recv().await.as_deref(),
        Some("start tenant-acme.service")
    );
    assert!(host.asked.try_recv().is_err());
}

#[tokio::test]
async fn an_idle_agent_is_frozen_when_its_door_has_closed_and_not_before() {
    let host = Host::new(door, Some(SOON));
    // Without processes no state is waited for.
    host.run_agent("populated 0\nfrozen 0\n");
    let mut door = host.connect().await;
    door.send("idle").await.unwrap();
    assert_eq!(heard(&mut door).await, "close");
    assert_eq!(host.asked_of_kernel(), "0");
    // Somebody came: it goes on, and is asked again once that is over.
    door.send("active").await.unwrap();
    door.send("idle").await.unwrap();
    assert_eq!(heard(&mut door).await, "close");
    assert!(!host.is_asleep());
    door.send("closed").await.unwrap();
    let frozen = async {
        while host.asked_of_kernel() != "1" {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), frozen).await.unwrap();
    door.send("wake").await.unwrap();
    assert_eq!(heard(&mut door).await, "awake");
    assert_eq!(host.asked_of_kernel(), "0");
}

#[tokio::test]
async fn who_wants_the_agent_while_its_door_closes_is_not_kept_waiting() {
    let host = Host::new(door, Some(SOON));
    host.run_agent("populated 0\nfrozen 0\n");
    let mut door = host.connect().await;
    door.send("idle").await.unwrap();
    assert_eq!(heard(&mut door).await, "close");
    // The words crossed: it was asked for before the door heard that it should close.
    door.send("wake").await.unwrap();
    assert_eq!(heard(&mut door).await, "awake");
    assert!(!host.is_asleep());
}

#[tokio::test]
async fn an_agent_without_a_door_gets_one() {
    let mut host = Host::new(root, Some(SOON));
    host.run_agent("populated 1\nfrozen 0\n");
    assert_eq!(
        host.asked.recv().await.as_deref(),
        Some("start tenantd-ingress@acme.service")
    );
}

#[tokio::test]
async fn one_that_died_frozen_or_is_always_on_now_is_not_kept_frozen() {
    // The record outlived the container that it was of: another one runs.
    let host = Host::new(root, Some(SOON));
    host.freeze().await;
    fs::write(
        host.group().join("cgroup.events"),
        "populated 1\nfrozen 0\n",
    )
    .unwrap();
    let awake = |host: &Host| !host.is_asleep();
    let thawed = async |host: &Host| {
        while !awake(host) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(30), thawed(&host))
        .await
        .unwrap();

    let host = Host::new(root, None);
    host.freeze().await;
    fs::write(
        host.group().join("cgroup.events"),
        "populated 0\nfrozen 1\n",
    )
    .unwrap();
    timeout(Duration::from_secs(30), thawed(&host))
        .await
        .unwrap();
    assert_eq!(host.asked_of_kernel(), "0");
}

#[tokio::test]
async fn one_that_has_slept_for_long_is_stopped_and_its_door_may_leave() {
    let times = SleepTimes {
        stop_after: Period::from_seconds(0),
        ..SOON
    };
    let mut host = Host::new(door, Some(times));
    // The door is there before the first look at a sleeper: else none is asked to close.
    let mut door = host.connect().await;
    door.send("look").await.unwrap();
    assert_eq!(heard(&mut door).await, "stopped");
    host.freeze().await;
    assert_eq!(heard(&mut door).await, "close");
    door.send("closed").await.unwrap();
    assert_eq!(
        host.asked.recv().await.as_deref(),
        Some("stop tenant-acme.service")
    );
    assert_eq!(heard(&mut door).await, "leave");
}

#[tokio::test]
async fn root_puts_to_sleep_and_wakes_what_may_sleep_and_nothing_else() {
    let host = Host::new(root, Some(SleepTimes::default()));
    host.run_agent("populated 0\nfrozen 0\n");
    let tenant = || host.tenant.clone();
    let asleep = host.tell(Asked::SleepTenant(tenant())).await;
    assert_eq!(asleep.unwrap(), Told::Frozen);
    assert_eq!(host.asked_of_kernel(), "1");
    let awake = host.tell(Asked::WakeTenant(tenant())).await;
    assert_eq!(awake.unwrap(), Told::Awake);
    fs::write(host.layout.held_file(&host.tenant), "stopped").unwrap();
    let refused = host.tell(Asked::WakeTenant(tenant())).await.unwrap_err();
    assert!(refused.to_string().contains("is held"), "{refused}");
    let nobody = Asked::WakeTenant("nobody".parse().unwrap());
    let refused = host.tell(nobody).await.unwrap_err();
    assert!(
        refused.to_string().contains("no tenant nobody"),
        "{refused}"
    );

    let host = Host::new(root, None);
    let refused = host.tell(Asked::SleepTenant(tenant())).await.unwrap_err();
    assert!(refused.to_string().contains("always on"), "{refused}");
}

#[tokio::test]
async fn a_backup_that_has_the_tenant_is_waited_for_by_who_wakes_it() {
    let host = Host::new(door, Some(SOON));
    host.freeze().await;
    fs::write(
        host.group().join("cgroup.events"),
        "populated 0\nfrozen 1\n",
    )
    .unwrap();
    let backup = TenantLock::acquire(&host.layout, &host.tenant, "backup", Duration::ZERO);
    let backup = backup.await.unwrap();
    let mut door = host.connect().await;
    door.send("wake").await.unwrap();
    door.send("look").await.unwrap();
    let early = timeout(Duration::from_millis(50), door.next()).await;
    assert!(early.is_err(), "{early:?}");
    assert!(host.is_asleep());
    drop(backup);
    assert_eq!(heard(&mut door).await, "awake");
    assert_eq!(heard(&mut door).await, "awake");
}
