//! `tenantd unit …`: what the static units run, one thin function per verb.
//! They work without the daemon; all they know of a tenant is its [`Runtime`].

mod bootstrap;
mod drill;
mod egress;
mod endpoints;
mod erase_log;
mod protect;
mod quota;
mod secrets;
mod sleep;
mod wildcard;

use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener as StdListener;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use camino::Utf8PathBuf;
use clap::Subcommand;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

use super::log;
use crate::gateway::ingress;
use crate::health::{self, starts, starts::Answers};
use crate::host::freezer::{Freezer, Owner};
use crate::host::lock::TenantLock;
use crate::host::probe::{self, Target, Unready};
use crate::host::systemd::{ActiveState, JobResult, Systemd};
use crate::host::{files, netns};
use crate::layout::{Layout, UnitNames};
use crate::protect::release_abandoned;
use crate::tenant::{Runtime, TenantId};

/// Longest `runtime.json` or `held` file that is read.
const FILE_LIMIT: u64 = 1024 * 1024;

/// Longest wait for another process to let go of a tenant that is to be woken.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// The credential `held` of a tenant that is not held, as set in `tenantd-ingress@.service`.
const NOT_HELD: &str = "-";

/// The verbs of the static units.
#[derive(Debug, Subcommand)]
pub(super) enum UnitCommand {
    /// Make the tenant's network namespace, or complete it.
    NetUp {
        /// The tenant.
        tenant: TenantId,
    },
    /// Remove the tenant's network namespace.
    NetDown {
        /// The tenant.
        tenant: TenantId,
    },
    /// Put the tenant's secrets, which systemd has decrypted, where its agent reads them.
    SecretsUp {
        /// The tenant.
        tenant: TenantId,
    },
    /// Take the tenant's decrypted secrets away.
    SecretsDown {
        /// The tenant.
        tenant: TenantId,
    },
    /// Carry connections from the socket on standard input to the agent.
    Ingress {
        /// The tenant.
        tenant: TenantId,
    },
    /// Carry connections from inside the tenant's namespace to where its policy allows.
    Egress {
        /// The tenant.
        tenant: TenantId,
    },
    /// Serve the tenant's endpoints on the socket on standard input.
    Endpoints {
        /// The tenant.
        tenant: TenantId,
    },
    /// Thaw or start the agent, unless the tenant is held.
    Wake {
        /// The tenant.
        tenant: TenantId,
    },
    /// Put idle agents to sleep and wake those that are wanted; the socket is on standard input.
    Sleep,
    /// Let a frozen agent run on.
    Thaw {
        /// Only if this one froze it and has died since: backup, prestop, sleep or operator.
        #[arg(long)]
        owner: Option<Owner>,
        /// Every tenant that is recorded as frozen.
        #[arg(long, conflicts_with = "tenant", required_unless_present = "tenant")]
        all: bool,
        /// The tenant.
        tenant: Option<TenantId>,
    },
    /// Wait until the starting agent answers its start probe.
    AwaitStart {
        /// The tenant.
        tenant: TenantId,
    },
    /// Keep the tenant's state to its plan's storage limit.
    Quota {
        /// The tenant.
        tenant: TenantId,
    },
    /// Remove what journald keeps of a tenant that is erased.
    EraseLog {
        /// The tenant.
        tenant: TenantId,
    },
    /// Exit with 0 if a tenant which is about to start needs a restore, and with 1 if not.
    NeedsRestore {
        /// The tenant.
        tenant: TenantId,
    },
    /// Make sure that a tenant which is about to start has its state.
    Restore {
        /// The tenant.
        tenant: TenantId,
    },
    /// Back up a tenant.
    Backup {
        /// The tenant.
        tenant: TenantId,
    },
    /// Back up all tenants and the node, each by its own unit.
    BackupAll,
    /// Back up the node.
    BackupNode,
    /// Back up all tenants while they still run, because the host is about to stop.
    Prestop,
    /// Back up what the tenants wrote while they stopped.
    Final,
    /// Become the node that bootstrap.toml describes.
    Bootstrap,
    /// Get the wildcard certificate of the front, if it is due.
    Wildcard,
    /// Ask running agents whether they live, and report those that do not.
    Probe,
    /// Drill every tenant's newest snapshot, if an identity is on this host.
    Drill,
    /// Remove what killed drills have left.
    CleanDrills,
}

impl UnitCommand {
    /// Runs the verb to its end; failures go to the journal.
    pub(super) fn run(self) -> ExitCode {
        log::init();
        let tenant = self
            .tenant()
            .map_or_else(|| "all".to_owned(), ToString::to_string);
        let _span = tracing::info_span!("unit", tenant).entered();
        let layout = Layout::default();
        // Only these tell systemd more by their exit codes: whether to go on, and whether another
        // attempt can help.
        let ended = match self {
            Self::NeedsRestore { tenant } => {
                return if protect::needs_restore(&layout, &tenant) {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::FAILURE
                };
            }
            Self::Restore { tenant } => {
                block_on(async { Ok(protect::restore(&layout, &tenant).await) })
                    .unwrap_or_else(|error| Err((ExitCode::FAILURE, error)))
            }
            verb => verb
                .dispatch(&layout)
                .map_err(|error| (ExitCode::FAILURE, error)),
        };
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err((code, error)) => {
                tracing::error!("{error:#}");
                code
            }
        }
    }

    fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::NetUp { tenant }
            | Self::NetDown { tenant }
            | Self::SecretsUp { tenant }
            | Self::SecretsDown { tenant }
            | Self::Ingress { tenant }
            | Self::Egress { tenant }
            | Self::Endpoints { tenant }
            | Self::Wake { tenant }
            | Self::Quota { tenant }
            | Self::EraseLog { tenant }
            | Self::NeedsRestore { tenant }
            | Self::Restore { tenant }
            | Self::Backup { tenant }
            | Self::AwaitStart { tenant } => Some(tenant),
            Self::Thaw { tenant, .. } => tenant.as_ref(),
            Self::BackupAll
            | Self::BackupNode
            | Self::Prestop
            | Self::Final
            | Self::Bootstrap
            | Self::Sleep
            | Self::Probe
            | Self::Wildcard
            | Self::Drill
            | Self::CleanDrills => None,
        }
    }

    fn dispatch(self, layout: &Layout) -> anyhow::Result<()> {
        match self {
            Self::NetUp { tenant } => Ok(netns::up(&layout.netns(&tenant))?),
            Self::NetDown { tenant } => Ok(netns::down(&layout.netns(&tenant))?),
            Self::SecretsUp { tenant } => secrets::up(layout, &tenant),
            Self::SecretsDown { tenant } => secrets::down(layout, &tenant),
            Self::Ingress { tenant: _ } => block_on(carry(layout)),
            Self::Egress { tenant } => egress::run(layout, &tenant),
            Self::Endpoints { tenant: _ } => block_on(endpoints::serve()),
            Self::Wake { tenant } => block_on(wake(layout, &tenant)),
            Self::Sleep => block_on(sleep::serve(layout)),
            Self::Thaw { owner, tenant, .. } => thaw(layout, owner, tenant),
            Self::AwaitStart { tenant } => await_start(layout, &tenant),
            Self::Quota { tenant } => quota::limit(layout, &tenant),
            Self::EraseLog { tenant } => erase_log::erase(layout, &tenant),
            Self::Backup { tenant } => block_on(protect::backup(layout, &tenant)),
            Self::BackupAll => block_on(protect::backup_all(layout)),
            Self::BackupNode => block_on(protect::backup_node(layout)),
            Self::Prestop => block_on(protect::prestop(layout)),
            Self::Final => block_on(protect::last(layout)),
            Self::Probe => block_on(async { Ok(health::run(layout).await?) }),
            Self::Wildcard => block_on(wildcard::renew(layout)),
            Self::Bootstrap => block_on(bootstrap::run(layout)),
            Self::Drill => block_on(drill::all(layout)),
            Self::CleanDrills => block_on(drill::clean(layout)),
            // Handled by `run`, for their exit codes.
            Self::NeedsRestore { .. } | Self::Restore { .. } => Ok(()),
        }
    }
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot make a runtime")?
        .block_on(work)
}

/// The tenant's facts from beside its units.
fn runtime(layout: &Layout, tenant: &TenantId) -> anyhow::Result<Runtime> {
    read_runtime(&layout.runtime_file(tenant))
}

fn read_runtime(path: &Utf8PathBuf) -> anyhow::Result<Runtime> {
    let bytes = files::read(path, FILE_LIMIT)?;
    serde_json::from_slice(&bytes)
        .with_context(|| format!("{path} is broken; `tenantd apply` writes it anew"))
}

async fn carry(layout: &Layout) -> anyhow::Result<()> {
    let listener = listener_on_stdin()?;
    let credentials = std::env::var("CREDENTIALS_DIRECTORY")
        .map(Utf8PathBuf::from)
        .context(
            "no $CREDENTIALS_DIRECTORY: a door is started by its unit, tenantd-ingress@.service",
        )?;
    let runtime = read_runtime(&credentials.join("runtime.json"))?;
    let held = String::from_utf8_lossy(&files::read(&credentials.join("held"), FILE_LIMIT)?)
        .trim()
        .to_owned();
    let held = (held != NOT_HELD).then(|| ingress::Held::of_file(&held));

    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let settings = ingress::Settings::new(layout, &runtime, held);
    let (left, totals) = ingress::serve(listener, settings, async move {
        terminate.recv().await;
    })
    .await;
    tracing::info!(
        connections = totals.connections,
        refused = totals.refused,
        bytes_in = totals.bytes_in,
        bytes_out = totals.bytes_out,
        "the door leaves ({left:?}) after {} connections",
        totals.connections
    );
    Ok(())
}

/// Standard input as the listening socket that `StandardInput=socket` makes it.
fn listener_on_stdin() -> anyhow::Result<UnixListener> {
    let why = "standard input is no Unix socket: systemd starts this by its socket unit";
    let descriptor = io::stdin().as_fd().try_clone_to_owned().context(why)?;
    let listener = StdListener::from(descriptor);
    listener.local_addr().context(why)?;
    listener.set_nonblocking(true).context(why)?;
    UnixListener::from_std(listener).context(why)
}

async fn wake(layout: &Layout, tenant: &TenantId) -> anyhow::Result<()> {
    if layout.held_file(tenant).exists() {
        tracing::info!("the tenant is held and stays down");
        return Ok(());
    }
    // Whether a visitor wakes one that sleeps depends on what he asks: that is the door's and the sleep service's.
    if runtime(layout, tenant)?.sleep.is_some() {
        return Ok(());
    }
    let freezer = Freezer::new(layout.clone());
    if freezer
        .record(tenant)?
        .is_some_and(|r| r.owner == Owner::Sleep)
    {
        let _lock = TenantLock::acquire(layout, tenant, "wake", LOCK_WAIT).await?;
        freezer.thaw(tenant, Owner::Sleep)?;
    }
    let service = UnitNames(tenant).service();
    let systemd = Systemd::connect().await?;
    let status = systemd.units(&[&service]).await?;
    // A start job of a service that runs would still start what it requires: the restore.
    if status.iter().any(|unit| unit.active == ActiveState::Active) {
        return Ok(());
    }
    let result = systemd.start(&service).await?;
    match result {
        JobResult::Done => Ok(()),
        JobResult::Skipped => {
            tracing::info!("a condition of {service} keeps the tenant down");
            Ok(())
        }
        other => bail!(
            "the start of {service} ended with `{other}`; `journalctl -u {service}` tells why"
        ),
    }
}

fn thaw(layout: &Layout, owner: Option<Owner>, tenant: Option<TenantId>) -> anyhow::Result<()> {
    let freezer = Freezer::new(layout.clone());
    let only = tenant.clone();
    let tenants = match tenant {
        Some(tenant) => vec![tenant],
        None => freezer.recorded()?,
    };
    let mut failed = 0;
    for tenant in &tenants {
        let thawed = match owner {
            Some(owner) => freezer.thaw_abandoned(tenant, owner),
            None => freezer.thaw_all(tenant).map(|()| false),
        };
        match thawed {
            Ok(true) => tracing::warn!("thawed tenant {tenant}, which was left frozen"),
            Ok(false) => {}
            // One tenant's trouble must not leave another one frozen.
            Err(error) => {
                failed += 1;
                tracing::error!("{:#}", anyhow::Error::from(error));
            }
        }
    }
    // An agent answers only once it is thawed; one that is about to be stopped is not asked.
    let released = if owner.is_some() {
        block_on(async { Ok(release_abandoned(layout, only.as_ref()).await?) })
    } else {
        Ok(())
    };
    ensure!(
        failed == 0,
        "{failed} of {} tenants could not be thawed",
        tenants.len()
    );
    released
}

fn await_start(layout: &Layout, tenant: &TenantId) -> anyhow::Result<()> {
    let runtime = runtime(layout, tenant)?;
    let target = Target::Tcp(([127, 0, 0, 1], runtime.port).into());
    // systemd tells the main process (conmon) to what follows it.
    let main = std::env::var("MAINPID").ok();
    let mut answers = Answers::default();
    let ready = netns::inside(&layout.netns(tenant), || {
        block_on(async {
            let limit = Duration::from_secs(runtime.start_timeout_seconds.into());
            // systemd waits for us even when the agent has ended.
            let is_alive = || {
                let gone = |pid: &String| !Utf8PathBuf::from(format!("/proc/{pid}")).exists();
                !main.as_ref().is_some_and(gone)
            };
            let note = |answer: &Unready| starts::note_now(&mut answers, &answer.to_string());
            Ok(probe::until_ready(&target, &runtime.start_probe, limit, is_alive, note).await?)
        })
    })?;
    if ready.is_err()
        && let Err(error) = answers.leave(layout, tenant)
    {
        tracing::warn!(
            "what the agent answered is not kept: {:#}",
            anyhow::Error::from(error)
        );
    }
    ready
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Cli;

    const PROGRAM: &str = "/usr/local/bin/tenantd ";

    fn unit_files() -> Vec<(String, String)> {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd");
        let mut files: Vec<_> = camino::Utf8Path::new(dir)
            .read_dir_utf8()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let text = std::fs::read_to_string(entry.path()).unwrap();
                (entry.file_name().to_owned(), text)
            })
            .collect();
        files.sort();
        files
    }

    /// The command lines of the static units, with the tenant's id for `%I`.
    fn command_lines() -> Vec<String> {
        unit_files()
            .iter()
            .flat_map(|(_, text)| text.lines())
            .filter(|line| line.starts_with("Exec"))
            .filter_map(|line| line.split_once(PROGRAM))
            .map(|(_, arguments)| arguments.replace("%I", "foo-bar"))
            .collect()
    }

    #[test]
    fn every_command_of_the_static_units_is_understood() {
        let mut unknown: Vec<_> = command_lines()
            .into_iter()
            .filter(|line| {
                let words = std::iter::once("tenantd").chain(line.split(' '));
                Cli::try_parse_from(words).is_err()
            })
            .collect();
        unknown.sort();
        unknown.dedup();
        assert_eq!(unknown, Vec::<String>::new());
    }

    #[test]
    fn no_process_with_keys_or_secrets_leaves_a_core_dump() {
        let mut seen = 0;
        for (name, text) in unit_files() {
            let signs = ["\nImportCredential=", "unit secrets-up", "unit endpoints"];
            if signs.iter().any(|sign| text.contains(sign)) {
                seen += 1;
                assert!(text.contains("\nLimitCORE=1\n"), "{name}");
            }
            assert!(!text.contains("LimitCORE=0"), "{name}");
        }
        assert!(seen > 5, "only {seen} have any");
    }

    #[test]
    fn no_service_gives_up_because_a_host_is_slow() {
        for (name, text) in unit_files() {
            let limits = text
                .lines()
                .filter_map(|line| line.strip_prefix("TimeoutStartSec="));
            for limit in limits {
                let is_short = limit.strip_suffix('s').is_some_and(|seconds| {
                    seconds.parse::<u32>().is_ok_and(|seconds| seconds < 60)
                });
                assert!(!is_short, "{name}: {limit}");
            }
        }
    }

    #[test]
    fn every_service_says_how_long_it_may_take_to_stop() {
        for (name, text) in unit_files() {
            if name.ends_with(".service") {
                assert!(text.contains("\nTimeoutStopSec="), "{name}");
            }
        }
    }
}
