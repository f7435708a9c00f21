//! Keeps the public front at what settings and tenants say: the links of known hosts, Caddy's unit and configuration,
//! loopback sockets. Looks again and again; what was missed costs a minute. It decides nothing: `front` does.

mod files;
mod look;
mod loopback;
mod wildcard;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::blocking;
use super::engine::Engine;
use super::error::{OperationError, chain};
use crate::failpoint;
use crate::front::{self, CaddyVersion, Clash, FrontReport, Paths, Sites, WaysIn};
use crate::host::caddy::{self, Admin, CaddyError};
use crate::host::clock;
use crate::host::files::FileError;
use crate::host::systemd::{ActiveState, JobResult, SystemdError};
use crate::layout::Layout;
use crate::node::{FrontMode, FrontSettings};
use crate::state::Wanted;
use crate::tenant::{PublicHost, ResolvedSpec};

pub use look::access_log;

const UNIT: &str = "tenantd-front.service";

/// Longest time between two looks.
const LOOK: Duration = Duration::from_mins(1);

/// Longest wait for the answer to a greeting: what an authority needs for a certificate at most, when all goes well.
const GREETING: Duration = Duration::from_secs(30);

/// How long a host without a good certificate is left alone after the first greeting; it doubles with each further one.
const GREET_AGAIN: SignedDuration = SignedDuration::from_mins(1);

/// The longest that becomes: authorities count attempts that fail, by the hour.
const GREET_AT_MOST: SignedDuration = SignedDuration::from_mins(16);

/// When a host was greeted last, and how often.
#[derive(Debug, Clone, Copy)]
struct Greeted {
    at: Timestamp,
    times: u32,
}

impl Greeted {
    /// Whether it is left alone still.
    fn is_enough(self, now: Timestamp) -> bool {
        let pause = GREET_AGAIN * 2_i32.pow(self.times.saturating_sub(1).min(4));
        now.duration_since(self.at) < pause.min(GREET_AT_MOST)
    }
}

/// Most hosts that are greeted in one look: each may cost an authority an order.
const GREETED_AT_ONCE: usize = 8;

/// Why the front is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// Which tenants there are is not known.
    #[error("the tenants cannot be read")]
    Tenants(#[source] Box<OperationError>),
    /// Its files.
    #[error("the front's files cannot be written")]
    File(#[from] FileError),
    /// Its units.
    #[error("the front's units cannot be started or stopped")]
    Systemd(#[from] SystemdError),
    /// Its server.
    #[error(transparent)]
    Caddy(#[from] CaddyError),
    /// Its server is older than what it is told.
    #[error("Caddy {0} is too old; the front needs 2.6 or later")]
    TooOld(String),
    /// Its server ends at its start.
    #[error(
        "Caddy does not start; `journalctl -u tenantd-front` tells why (a port that another server has, such as a \
         caddy.service or nginx.service of its own?)"
    )]
    NotStarted,
    /// Its server is not there.
    #[error(
        "Caddy is not installed; install it (Debian: `apt install caddy`), or put its program at /usr/local/bin/caddy"
    )]
    NotInstalled,
}

/// What is remembered of the front from one look to the next.
#[derive(Debug, Default)]
pub struct Remembered {
    /// Why the last look did not end well.
    fault: Option<String>,
    /// When hosts were greeted last.
    greeted: BTreeMap<String, Greeted>,
    /// The wildcard certificate is being got, at the daemon's word.
    getting_wildcard: bool,
}

/// Watches for as long as the process lives.
pub async fn watch(engine: Arc<Engine>) {
    loop {
        tend(&engine).await;
        tokio::select! {
            () = engine.front_changed.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// One look, and what follows from it.
async fn tend(engine: &Arc<Engine>) {
    let outcome = apply(engine).await;
    let fault = outcome.err().map(|error| {
        let said = chain(&error);
        let is_news = engine.front().fault.as_ref() != Some(&said);
        if is_news {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the front is not as it should be"
            );
        }
        said
    });
    engine.front().fault = fault;
}

async fn apply(engine: &Arc<Engine>) -> Result<(), FrontError> {
    let settings = engine.settings().front.clone();
    let ways = engine
        .ways_in()
        .await
        .map_err(|error| FrontError::Tenants(Box::new(error)))?;
    let sites = front::sites(settings.domain.as_ref(), &ways);
    loopback::apply(engine, &ways, &sites).await?;
    match settings.mode() {
        FrontMode::None => stop(engine).await,
        FrontMode::Caddy => {
            let (layout, by_host) = (engine.layout.clone(), sites.by_host.clone());
            blocking(move || files::link(&layout, &by_host)).await?;
            failpoint::hit("front.linked");
            run_caddy(engine, &settings).await?;
            wildcard::renew_if_due(engine, &settings).await;
            greet(engine, &settings, &sites).await;
            Ok(())
        }
    }
}

/// Nobody serves; certificates stay.
async fn stop(engine: &Engine) -> Result<(), FrontError> {
    let layout = engine.layout.clone();
    // First, so that the next boot does not start it either. Whether it still runs is asked each time: a kill between
    // the two must not leave it serving.
    let was_on = blocking(move || files::forget(&layout)).await?;
    let units = engine.systemd.units(&[UNIT]).await?;
    let is_down =
        |active: &ActiveState| matches!(active, ActiveState::Inactive | ActiveState::Failed);
    if was_on || units.iter().any(|unit| !is_down(&unit.active)) {
        tracing::info!("the front is off");
        engine.systemd.stop(UNIT).await?;
    }
    Ok(())
}

/// Caddy runs and has the configuration that it should have.
async fn run_caddy(engine: &Engine, settings: &FrontSettings) -> Result<(), FrontError> {
    let said = caddy::version().await?;
    let version = CaddyVersion::parse(&said).ok_or(CaddyError::Version(said.clone()))?;
    if version < CaddyVersion::OLDEST {
        return Err(FrontError::TooOld(said));
    }
    let layout = engine.layout.clone();
    let shared = wildcard::shared(&layout, settings).await?;
    let config = front::caddy_config(settings, &paths(&layout), version, shared.as_ref());
    let units = engine.systemd.units(&[UNIT]).await?;
    let active = units.first().map(|unit| unit.active.clone());
    if active == Some(ActiveState::Active) {
        load(
            &Admin::new(&layout.front_admin_socket(), front::ORIGIN),
            &config,
        )
        .await?;
        failpoint::hit("front.loaded");
        // What Caddy has taken is what it begins with next time.
        blocking(move || files::keep(&layout, &config)).await?;
        return Ok(());
    }
    // Nothing runs that could judge it: it begins with this.
    blocking(move || files::keep(&layout, &config)).await?;
    failpoint::hit("front.kept");
    engine.systemd.reset_failed(UNIT).await?;
    match engine.systemd.start(UNIT).await? {
        JobResult::Done => {
            tracing::info!("the front serves, by Caddy {said}");
            Ok(())
        }
        JobResult::Skipped => Err(FrontError::NotInstalled),
        _ => Err(FrontError::NotStarted),
    }
}

/// Loads only what differs: open connections may not survive it.
async fn load(admin: &Admin, config: &Value) -> Result<(), CaddyError> {
    if admin.config().await? != *config {
        admin.load(config).await?;
        tracing::info!("Caddy has a new configuration");
    }
    Ok(())
}

fn paths(layout: &Layout) -> Paths {
    Paths {
        hosts: layout.front_hosts_dir(),
        store: layout.front_store_dir(),
        admin: layout.front_admin_socket(),
        access_log: layout.front_log_dir().join(ACCESS_LOG),
    }
}

/// The newest access log's name; older ones have their time in it.
const ACCESS_LOG: &str = "access.log";

/// Has Caddy get certificates before the first visitor waits for them, and renew those that nobody visits.
async fn greet(engine: &Arc<Engine>, settings: &FrontSettings, sites: &Sites) {
    let layout = engine.layout.clone();
    let certificates = blocking(move || look::certificates(&layout)).await;
    let now = clock::now();
    let shared = wildcard::covered(&engine.layout, settings, now).await;
    let is_good = |host: &str| {
        let certificate = certificates.get(host);
        let is_covered = shared.as_ref().is_some_and(|domain| {
            host.parse()
                .is_ok_and(|host: PublicHost| host.is_within(domain))
        });
        is_covered || certificate.is_some_and(|certificate| !certificate.wants_renewal(now))
    };
    let due: Vec<String> = {
        let mut front = engine.front();
        let hosts: BTreeSet<_> = sites.by_host.keys().map(ToString::to_string).collect();
        front
            .greeted
            .retain(|host, _| hosts.contains(host) && !is_good(host));
        let left_alone = |host: &str| {
            let greeted = front.greeted.get(host);
            greeted.is_some_and(|greeted| greeted.is_enough(now))
        };
        let due = hosts.into_iter();
        let due = due.filter(|host| !is_good(host) && !left_alone(host));
        let due: Vec<_> = due.take(GREETED_AT_ONCE).collect();
        for host in &due {
            let times = front
                .greeted
                .get(host)
                .map_or(1, |greeted| greeted.times + 1);
            front
                .greeted
                .insert(host.clone(), Greeted { at: now, times });
        }
        due
    };
    let address = settings
        .bind
        .first()
        .copied()
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let address = SocketAddr::new(address, settings.https_port);
    for host in due {
        tokio::spawn(async move {
            if caddy::greet(address, &host, GREETING).await {
                tracing::info!(host, "has a certificate");
            }
        });
    }
}

impl Engine {
    /// What is remembered of the front.
    fn front(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.front
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How each tenant that is not on its way out is to be reached. Held ones count: their doors say that they are held.
    pub async fn ways_in(&self) -> Result<Vec<WaysIn>, OperationError> {
        let mut ways = Vec::new();
        for row in self.database.tenants().await? {
            let installed = row
                .current_revision
                .filter(|_| row.wanted != Wanted::Removed);
            let Some(number) = installed else { continue };
            if let Some(stored) = self.database.revision(row.id, number).await? {
                ways.push(WaysIn::from(&stored.revision.resolved));
            }
        }
        Ok(ways)
    }

    /// Refuses specs that want what another tenant has, or the node.
    ///
    /// # Errors
    /// Every such host and port.
    pub async fn check_ways_in<'a>(
        &self,
        specs: impl IntoIterator<Item = &'a ResolvedSpec>,
    ) -> Result<(), OperationError> {
        let asked: Vec<_> = specs.into_iter().map(WaysIn::from).collect();
        let settings = self.settings();
        let present = self.ways_in().await?;
        let clashes = front::check_ways_in(settings.front.domain.as_ref(), &present, &asked);
        if clashes.is_empty() {
            return Ok(());
        }
        Err(OperationError::WaysIn(
            clashes.iter().map(Clash::to_string).collect(),
        ))
    }

    /// How the front is.
    pub async fn front_report(&self) -> Result<FrontReport, OperationError> {
        let settings = self.settings().front.clone();
        let ways = self.ways_in().await?;
        let sites = front::sites(settings.domain.as_ref(), &ways);
        let facts = match settings.mode() {
            FrontMode::Caddy => {
                let fault = self.front().fault.clone();
                look::facts(&self.layout, &settings, fault).await
            }
            FrontMode::None => front::Facts::default(),
        };
        Ok(front::report(&settings, &sites, facts, clock::now()))
    }

    /// What a snippet for another proxy is made of.
    pub async fn snippet_sites(&self) -> Result<Vec<front::SnippetSite>, OperationError> {
        let settings = self.settings();
        let ways = self.ways_in().await?;
        let sites = front::sites(settings.front.domain.as_ref(), &ways);
        let site = |ways: &WaysIn| {
            let hosts = sites
                .by_host
                .iter()
                .filter(|(_, tenant)| **tenant == ways.tenant);
            front::SnippetSite {
                tenant: ways.tenant.to_string(),
                hosts: hosts.map(|(host, _)| host.to_string()).collect(),
                socket: self.layout.ingress_socket(&ways.tenant),
                loopback_port: ways.loopback_port,
            }
        };
        Ok(ways.iter().map(site).collect())
    }
}

/// The hosts of one tenant.
pub async fn hosts_of(
    engine: &Engine,
    tenant: &crate::tenant::TenantId,
) -> Result<Vec<String>, OperationError> {
    let sites = engine.snippet_sites().await?;
    let found = sites
        .into_iter()
        .find(|site| site.tenant == tenant.as_str());
    Ok(found.map(|site| site.hosts).unwrap_or_default())
}

/// Every file of the access log, the oldest first.
fn access_logs(layout: &Layout) -> Vec<Utf8PathBuf> {
    let directory = layout.front_log_dir();
    let entries = directory.read_dir_utf8().into_iter().flatten().flatten();
    let mut logs: Vec<_> = entries
        .filter(|entry| {
            entry.file_name().starts_with("access") && entry.file_name().ends_with(".log")
        })
        .map(camino::Utf8DirEntry::into_path)
        .collect();
    // `access-TIME.log` sorts before `access.log`.
    logs.sort();
    logs
}
