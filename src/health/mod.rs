//! Asks running agents whether they live, and says of those that do not since when: a process of its own,
//! because it enters tenants' network namespaces, which the daemon may not. It restarts nobody: what follows
//! from a report is the daemon's decision.

mod report;
mod rounds;
pub mod starts;
mod wheel;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use tokio::sync::Semaphore;

use crate::host::cgroup;
use crate::host::files::{self, FileError};
use crate::host::netns;
use crate::host::probe::{self, Target};
use crate::host::{clock, dirs};
use crate::layout::Layout;
use crate::tenant::{LiveProbe, Runtime, TenantId};

pub use report::{Report, reports};
use rounds::Turns;
use wheel::Wheel;

/// How often it is looked who is to be asked.
const TICK: Duration = Duration::from_secs(5);

/// Most agents that are connected to at a time, a thread for each. Waiting for answers takes none.
const CONNECTIONS: usize = 16;

/// Longest time for a connection inside a namespace, which has nothing but a loopback.
const CONNECT: Duration = Duration::from_secs(1);

/// Longest `runtime.json`.
const LIMIT: u64 = 64 * 1024;

/// Asks for as long as the process lives. Each is asked apart from the others: one that says nothing for long holds up
/// nobody else.
///
/// # Errors
/// The directory of reports cannot be made.
pub async fn run(layout: &Layout) -> Result<(), FileError> {
    dirs::make(&layout.health_dir(), 0o700)?;
    let connections = Semaphore::new(CONNECTIONS);
    let turns = Probed {
        layout,
        connections: &connections,
        wheel: Wheel::default(),
    };
    rounds::ask(clock::ticks(TICK), turns).await;
    Ok(())
}

/// The agents of this host, and whose turn it is.
struct Probed<'a> {
    layout: &'a Layout,
    connections: &'a Semaphore,
    wheel: Wheel,
}

impl<'a> Turns for Probed<'a> {
    type Answer = (TenantId, Result<(), String>);
    type Asking = LocalBoxFuture<'a, Self::Answer>;

    fn due(&mut self) -> Vec<Self::Asking> {
        let (layout, connections) = (self.layout, self.connections);
        let probed = probed(layout);
        for gone in self
            .wheel
            .keep_only(probed.iter().map(|(tenant, ..)| tenant))
        {
            forget(layout, &gone);
        }
        let now = clock::monotonic();
        let due = probed.into_iter().filter(|(tenant, _, live)| {
            self.wheel.is_due(tenant, now, live.interval.into()) && is_awake(layout, tenant)
        });
        let due: Vec<_> = due.collect();
        for (tenant, ..) in &due {
            self.wheel.asks(tenant);
        }
        let asking = due.into_iter().map(|(tenant, port, live)| {
            async move {
                let answer = ask(layout, connections, &tenant, port, &live).await;
                (tenant, answer)
            }
            .boxed_local()
        });
        asking.collect()
    }

    fn answered(&mut self, (tenant, answer): Self::Answer) {
        if !self.wheel.answered(&tenant) {
            return;
        }
        let noted = match answer {
            // One that was put to sleep meanwhile did not fail to answer.
            Err(_) if !is_awake(self.layout, &tenant) => Ok(()),
            Err(why) => report::note_failure(self.layout, &tenant, clock::now(), &why),
            Ok(()) => files::remove(&self.layout.health_file(&tenant)).map(drop),
        };
        if let Err(error) = noted {
            tracing::warn!(%tenant, error = &error as &dyn std::error::Error, "cannot note an answer");
        }
    }
}

/// The tenants that have units and a live probe, with the port of each.
fn probed(layout: &Layout) -> Vec<(TenantId, u16, LiveProbe)> {
    let entries = layout.tenants_dir().read_dir_utf8();
    let ids = entries.into_iter().flatten().flatten();
    let runtimes = ids.filter_map(|entry| {
        let tenant: TenantId = entry.file_name().parse().ok()?;
        let bytes = files::read(&layout.runtime_file(&tenant), LIMIT).ok()?;
        let runtime: Runtime = serde_json::from_slice(&bytes).ok()?;
        Some((tenant, runtime.port, runtime.live_probe?))
    });
    runtimes.collect()
}

/// Whether an answer can be expected: nobody holds the tenant or has frozen it, and its
/// agent runs in a namespace.
fn is_awake(layout: &Layout, tenant: &TenantId) -> bool {
    !layout.held_file(tenant).exists()
        && !layout.freeze_file(tenant).exists()
        && netns::is_namespace(&layout.netns(tenant))
        && cgroup::payload(layout, tenant).is_ok_and(|group| group.is_some())
}

async fn ask(
    layout: &Layout,
    connections: &Semaphore,
    tenant: &TenantId,
    port: u16,
    live: &LiveProbe,
) -> Result<(), String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let namespace = layout.netns(tenant);
    let turn = connections.acquire().await;
    // A socket belongs to the namespace that it was made in, whoever uses it afterwards.
    let connected = tokio::task::spawn_blocking(move || {
        netns::inside(&namespace, || TcpStream::connect_timeout(&address, CONNECT))
    });
    let connected = connected.await;
    drop(turn);
    let stream = match connected {
        Ok(Ok(Ok(stream))) => stream,
        Ok(Ok(Err(error))) => return Err(format!("{address} cannot be reached: {error}")),
        Ok(Err(error)) => return Err(error.to_string()),
        Err(error) => return Err(error.to_string()),
    };
    probe::ask_over(
        stream,
        &Target::Tcp(address),
        &live.http,
        live.timeout.into(),
    )
    .await
    .map_err(|error| error.to_string())
}

fn forget(layout: &Layout, tenant: &TenantId) {
    if let Err(error) = files::remove(&layout.health_file(tenant)) {
        tracing::warn!(%tenant, error = &error as &dyn std::error::Error, "cannot forget a report");
    }
}
