//! Looks at the host for the doctor. It only looks; what cannot be seen is said so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8Path;
use jiff::Timestamp;

use super::look::host::HostLook;
use super::look::units::UnitsLook;
use super::look::{self, Look};
use crate::api::TenantUsage;
use crate::front::FrontReport;
use crate::host::clock;
use crate::host::facts::{Facts, SeLinux, systemd_number};
use crate::host::podman::{self, Podman};
use crate::host::space::{self, Inodes, Space};
use crate::host::systemd::{ActiveState, Systemd};
use crate::layout::Layout;
use crate::node::capacity::Commitment;
use crate::node::{BackupSettings, NodeSettings, fitness};
use crate::protect::{self, Kept, ProtectError};
use crate::quadlet::validate::Tools;
use crate::tenant::TenantId;

/// Longest wait for the store's answer: an S3 store is asked again for longer.
const STORE_TIME: Duration = Duration::from_secs(20);

/// Longest wait for Podman, which systemd may have to start.
const PODMAN_TIME: Duration = Duration::from_secs(20);

/// Whom the doctor can ask: all that differs between the daemon's doctor and one without it.
pub struct Witnesses {
    /// Where things are.
    pub layout: Layout,
    /// Whether the daemon serves, or why it seems not to.
    pub daemon: Result<(), String>,
    /// The service manager, if it can be reached.
    pub systemd: Option<Systemd>,
    /// The node's settings, or why there are none.
    pub settings: Result<Arc<NodeSettings>, String>,
    /// The tenants of this host that are not terminated.
    pub tenants: Vec<TenantId>,
    /// All tenants that are recorded.
    pub recorded: Vec<TenantId>,
    /// Those whose units are not as recorded, or why that is not known.
    pub drifted: Look<Vec<String>>,
    /// What they use; nothing without the daemon, which knows their plans.
    pub storage: Vec<TenantUsage>,
    /// What their plans promise of this host, likewise.
    pub commitments: Option<[Commitment; 3]>,
    /// How the public front is, likewise.
    pub front: Option<FrontReport>,
}

/// What was seen of the host.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one independent look at the host"
)]
pub struct Evidence {
    /// When it was seen.
    pub now: Timestamp,
    /// Whether the daemon serves, or why it seems not to.
    pub daemon: Result<(), String>,
    /// Whether the node is set up, or what is wrong with its settings.
    pub settings: Result<(), String>,
    /// The number of systemd's version, if it answers.
    pub systemd: Option<u32>,
    /// Podman's version, or why it does not answer.
    pub podman: Result<String, String>,
    /// Whether the unified hierarchy is in use.
    pub cgroup_v2: bool,
    /// Controllers that limits need and the host lacks.
    pub missing_controllers: Vec<String>,
    /// Programs that check units and are not there.
    pub absent_tools: Vec<String>,
    /// Where memory may be written to.
    pub swap: Swap,
    /// Where decrypted secrets are: each mount, and whether it never reaches swap.
    pub secret_mounts: BTreeMap<String, bool>,
    /// What SELinux does.
    pub selinux: String,
    /// Whether files below the data directory can be cloned.
    pub reflink: bool,
    /// The room of the data directory's file system; none before there is such a directory.
    pub disk: Option<Space>,
    /// How many files it can have, likewise.
    pub inodes: Option<Inodes>,
    /// The host beneath.
    pub host: HostLook,
    /// What is installed.
    pub units: UnitsLook,
    /// How the store does.
    pub store: Store,
    /// Whether `init` made the operator's keys and they are still here.
    pub operator_keys_on_host: bool,
    /// Which of tenantd's own units are active.
    pub active_units: BTreeSet<String>,
    /// How often backups are made.
    pub backup: BackupSettings,
    /// Whether the file system keeps storage limits.
    pub project_quotas: bool,
    /// What tenants use.
    pub storage: Vec<TenantUsage>,
    /// What their plans promise of this host.
    pub commitments: Option<[Commitment; 3]>,
    /// How the public front is.
    pub front: Option<FrontReport>,
    /// Each tenant's last good backup.
    pub last_backups: BTreeMap<String, Option<Timestamp>>,
    /// Tenants whose state from before a restore is kept.
    pub kept: BTreeMap<String, Kept>,
}

/// How the object store does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// It answers at this URL.
    Answers(String),
    /// It was not asked, and why.
    NotAsked(&'static str),
    /// It fails, and how.
    Fails(String),
}

/// Where memory may be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swap {
    /// Nowhere.
    None,
    /// Only to memory, or encrypted.
    Safe(String),
    /// To a disk as it is.
    Plain(String),
}

/// Units whose being active is looked at.
const WATCHED: &[&str] = &[
    "tenantd-backup.timer",
    "tenantd-drill.timer",
    "tenantd-prestop-backup.service",
    "tenantd-final-backup.service",
];

/// Looks at everything.
pub(super) async fn gather(witnesses: &Witnesses) -> Evidence {
    let Witnesses {
        layout,
        daemon,
        systemd,
        settings,
        tenants,
        recorded,
        drifted,
        storage,
        commitments,
        front,
    } = witnesses;
    let facts = Facts::gather(layout.root());
    let tools = Tools::default();
    let tools = [&tools.generator, &tools.analyze];
    let (version, units) = match systemd {
        Some(systemd) => (
            systemd.version().await.ok(),
            systemd.units(WATCHED).await.unwrap_or_default(),
        ),
        None => (None, Vec::new()),
    };
    let active = units
        .into_iter()
        .filter(|unit| unit.active == ActiveState::Active);
    let missing = fitness::host_facts(&facts).missing_controllers();
    let credentials = settings.as_ref().ok();
    let credentials = credentials.and_then(|settings| settings.store.credentials.clone());
    let host = look::host::look(layout, systemd.as_ref(), tenants, &facts.controllers);
    let units = look::units::look(layout, recorded, drifted.clone(), credentials);
    let store = async {
        match settings {
            Ok(settings) => store(settings, daemon.is_ok()).await,
            Err(_) => Store::NotAsked("the node's settings do not say where it is"),
        }
    };
    let of = layout.clone();
    let room = look::at_files("/var/lib/tenantd", move || {
        let data = of.data_dir();
        let (disk, inodes) = (space::of(&data).ok(), space::inodes(&data).ok());
        (can_clone(&of), disk, inodes)
    });
    // At once: each may wait for its own limit.
    let (host, units, store, podman, room) =
        tokio::join!(host, units, store, podman_version(), room);
    let (reflink, disk, inodes) = room.unwrap_or_default();
    Evidence {
        now: clock::now(),
        daemon: daemon.clone(),
        settings: settings.as_ref().map(drop).map_err(Clone::clone),
        systemd: version.and_then(|text| systemd_number(&text)),
        podman,
        cgroup_v2: facts.cgroup_v2,
        missing_controllers: missing.iter().map(ToString::to_string).collect(),
        absent_tools: tools
            .into_iter()
            .filter(|tool| !tool.exists())
            .map(ToString::to_string)
            .collect(),
        swap: swap(
            &fs::read_to_string("/proc/swaps").unwrap_or_default(),
            is_encrypted,
        ),
        secret_mounts: secret_mounts(
            &fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
            layout,
        ),
        selinux: match facts.selinux {
            SeLinux::Absent => "absent",
            SeLinux::Permissive => "permissive",
            SeLinux::Enforcing => "enforcing",
        }
        .to_owned(),
        reflink,
        disk,
        inodes,
        host,
        units,
        store,
        operator_keys_on_host: crate::node::operator_keys_on_host(layout),
        active_units: active.map(|unit| unit.name).collect(),
        project_quotas: facts.project_quotas,
        storage: storage.clone(),
        commitments: *commitments,
        front: front.clone(),
        last_backups: tenants
            .iter()
            .map(|id| (id.to_string(), protect::last_backup(layout, id)))
            .collect(),
        backup: settings
            .as_ref()
            .map_or_else(|_| BackupSettings::default(), |settings| settings.backup),
        kept: tenants
            .iter()
            .filter_map(|id| Some((id.to_string(), protect::kept(layout, id)?)))
            .collect(),
    }
}

async fn podman_version() -> Result<String, String> {
    let connection = Podman::connect(podman::SOCKET.into());
    match tokio::time::timeout(PODMAN_TIME, connection).await {
        Ok(Ok(podman)) => Ok(podman.version().to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!(
            "Podman did not answer within {} s",
            PODMAN_TIME.as_secs()
        )),
    }
}

async fn store(settings: &NodeSettings, in_daemon: bool) -> Store {
    match tokio::time::timeout(STORE_TIME, protect::probe_store(settings)).await {
        Ok(Ok(url)) => Store::Answers(url),
        Ok(Err(ProtectError::NoCredentials)) if !in_daemon => {
            Store::NotAsked("its keys are a systemd credential, which only tenantd's units get")
        }
        Ok(Err(error)) => Store::Fails(format!("{:#}", anyhow::Error::from(error))),
        Err(_) => Store::Fails(format!(
            "{} did not answer within {} s",
            settings.store.url,
            STORE_TIME.as_secs()
        )),
    }
}

/// Judges `/proc/swaps`: the first device that keeps what it holds decides.
fn swap(table: &str, is_encrypted: fn(&str) -> bool) -> Swap {
    let devices = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next());
    let mut found = Swap::None;
    for device in devices {
        if device.starts_with("/dev/zram") || is_encrypted(device) {
            found = Swap::Safe(device.to_owned());
        } else {
            return Swap::Plain(device.to_owned());
        }
    }
    found
}

/// The mounts with agents' secrets, from the text of `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`: the fifth field is
/// the mount point; after a lone dash come the type, the source and the file system's own options).
fn secret_mounts(table: &str, layout: &Layout) -> BTreeMap<String, bool> {
    let places = [layout.secret_mounts(), layout.drill_secret_mounts()];
    let mount = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let place = mount.split(' ').nth(4)?;
        let kind = file_system.split(' ').next()?;
        let options = file_system.rsplit(' ').next()?;
        let stays = kind == "ramfs" || options.split(',').any(|option| option == "noswap");
        let is_one = |parent| Utf8Path::new(place).starts_with(parent);
        places.iter().any(is_one).then(|| (place.to_owned(), stays))
    };
    table.lines().filter_map(mount).collect()
}

/// Whether a block device is a dm-crypt mapping, by the UUID that cryptsetup gives it.
fn is_encrypted(device: &str) -> bool {
    let Ok(device) = fs::canonicalize(device) else {
        return false;
    };
    let Some(name) = device.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    fs::read_to_string(format!("/sys/class/block/{name}/dm/uuid"))
        .is_ok_and(|uuid| uuid.starts_with("CRYPT-"))
}

/// Tries it: a clone of an empty file costs nothing.
fn can_clone(layout: &Layout) -> bool {
    let directory = layout.data_dir();
    let attempt = |path: &Utf8Path| {
        let from = tempfile::tempfile_in(path).ok()?;
        let to = tempfile::tempfile_in(path).ok()?;
        rustix::fs::ioctl_ficlone(&to, &from).ok()
    };
    attempt(&directory).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_looked_for_where_they_are_mounted() {
        let table = "\
            30 1 0:26 / /run rw,nosuid - tmpfs tmpfs rw,size=100k\n\
            40 30 0:50 / /run/tenantd/secrets/acme rw,noexec shared:1 - tmpfs tmpfs rw,mode=500,noswap\n\
            41 30 0:51 / /run/tenantd/secrets/old rw - ramfs ramfs rw\n\
            42 30 0:52 / /run/tenantd/secrets/bad rw - tmpfs tmpfs rw,size=100k\n\
            43 30 0:53 / /run/tenantd/drill-secrets/acme rw - tmpfs tmpfs rw,size=100k\n\
            44 30 0:54 / /run/tenantd/drill-secrets-else/acme rw - tmpfs tmpfs rw,size=100k\n";
        let found = secret_mounts(table, &Layout::default());
        let place = |mount: &str| format!("/run/tenantd/{mount}");
        let expected = [
            ("secrets/acme", true),
            ("secrets/old", true),
            ("secrets/bad", false),
            ("drill-secrets/acme", false),
        ];
        assert_eq!(
            found,
            expected.map(|(mount, safe)| (place(mount), safe)).into()
        );
    }

    #[test]
    fn one_plain_swap_device_is_enough_to_leak() {
        let head = "Filename\tType\tSize\tUsed\tPriority\n";
        assert_eq!(swap(head, |_| false), Swap::None);
        let zram = format!("{head}/dev/zram0 partition 100 0 100\n");
        assert_eq!(swap(&zram, |_| false), Swap::Safe("/dev/zram0".to_owned()));
        let both = format!("{zram}/dev/vda2 partition 100 0 -2\n");
        assert_eq!(swap(&both, |_| false), Swap::Plain("/dev/vda2".to_owned()));
        assert_eq!(swap(&both, |_| true), Swap::Safe("/dev/vda2".to_owned()));
    }
}
