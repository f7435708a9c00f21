//! The ingress door: from the tenant's Unix socket to the agent inside its namespace.
//! It waits for the agent, answers for it when it does not come, and leaves when nobody is there.
//! It wakes nobody itself: its unit wants `tenantd-awake@`.

mod agent;
mod departure;
mod refusal;
mod traffic;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::tenant::{HttpProbe, Runtime};

use agent::Agent;
use departure::hung_up;
pub use refusal::Held;
use refusal::Refusal;
pub use traffic::Totals;
use traffic::{Counters, relay};

/// What a door does, and its limits.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the agent listens.
    pub agent: SocketAddr,
    /// Answers once the agent can serve.
    pub start_probe: HttpProbe,
    /// How the tenant is held, if it is: then every request is refused.
    pub held: Option<Held>,
    /// Longest time for which a connection waits for the agent.
    pub patience: Duration,
    /// Most connections that wait for the agent; further ones are refused at once.
    pub waiting: usize,
    /// Most connections at all; further ones wait in the socket.
    pub connections: usize,
    /// The door leaves after this long without a connection.
    pub idle: Duration,
    /// The same, once the agent did not come: only the next door's start wakes it again.
    pub idle_without_agent: Duration,
    /// How long open connections may go on when the door is told to stop.
    pub drain: Duration,
}

impl Settings {
    /// Longest wait for an agent, whatever its start takes: clients and proxies in front of
    /// the door give up after a minute themselves.
    const PATIENCE: Duration = Duration::from_secs(55);

    /// The settings of a tenant's door.
    pub fn new(runtime: &Runtime, held: Option<Held>) -> Self {
        let start = Duration::from_secs(runtime.start_timeout_seconds.into());
        // A held tenant's door only refuses, and must notice soon when it is released.
        let idle = if held.is_some() { 2 } else { 60 };
        Self {
            agent: SocketAddr::from((Ipv4Addr::LOCALHOST, runtime.port)),
            start_probe: runtime.start_probe.clone(),
            held,
            patience: start.min(Self::PATIENCE),
            waiting: 256,
            // Two descriptors each, within the unit's LimitNOFILE=4096.
            connections: 1500,
            idle: Duration::from_secs(idle),
            idle_without_agent: Duration::from_secs(1),
            drain: Duration::from_secs(5),
        }
    }
}

/// Why a door left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nobody was there any more.
    Idle,
    /// It was told to.
    Told,
}

/// Carries connections until nobody is there any more or `stop` ends.
///
/// What was accepted is served, and what arrives while the door leaves stays in the socket,
/// where systemd sees it and starts the next door.
pub async fn serve(
    listener: UnixListener,
    settings: Settings,
    stop: impl Future<Output = ()>,
) -> (Left, Totals) {
    let door = Arc::new(Door::new(settings));
    let mut connections = JoinSet::new();
    let mut empty_since = Instant::now();
    tokio::pin!(stop);
    let left = loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < door.settings.connections => {
                match accepted {
                    Ok((client, _)) => {
                        let door = Arc::clone(&door);
                        connections.spawn(async move { door.carry(client).await });
                    }
                    Err(error) => pause_after(&error).await,
                }
            }
            // A connection whose task panicked has ended like any other.
            Some(_) = connections.join_next(), if !connections.is_empty() => {
                empty_since = Instant::now();
            }
            () = sleep_until(empty_since + door.idle()), if connections.is_empty() => {
                break Left::Idle;
            }
            () = &mut stop => break Left::Told,
        }
    };
    drop(listener);
    let drained = timeout(door.settings.drain, async {
        while connections.join_next().await.is_some() {}
    });
    if drained.await.is_err() {
        tracing::warn!(open = connections.len(), "left with open connections");
    }
    (left, door.counters.totals())
}

/// Accepting fails when descriptors or memory run out, which passes; the door must stay.
async fn pause_after(error: &io::Error) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "cannot accept a connection"
    );
    sleep(Duration::from_millis(100)).await;
}

#[derive(Debug)]
struct Door {
    agent: Agent,
    waiting: Semaphore,
    counters: Counters,
    /// The last connection that waited for the agent waited in vain.
    agent_missed: AtomicBool,
    settings: Settings,
}

impl Door {
    fn new(settings: Settings) -> Self {
        Self {
            agent: Agent::new(settings.agent, settings.start_probe.clone()),
            waiting: Semaphore::new(settings.waiting),
            counters: Counters::default(),
            agent_missed: AtomicBool::new(false),
            settings,
        }
    }

    fn idle(&self) -> Duration {
        if self.agent_missed.load(Ordering::Relaxed) {
            self.settings.idle_without_agent
        } else {
            self.settings.idle
        }
    }

    async fn carry(&self, client: UnixStream) {
        self.counters.connection();
        if let Some(held) = self.settings.held {
            self.counters.refusal();
            return Refusal::Held(held).send(client).await;
        }
        match self.reach_agent(&client).await {
            Ok(agent) => relay(client, agent, &self.counters).await,
            Err(refusal) => {
                self.counters.refusal();
                refusal.send(client).await;
            }
        }
    }

    async fn reach_agent(&self, client: &UnixStream) -> Result<TcpStream, Refusal> {
        if let Some(stream) = self.agent.dial_if_ready().await {
            return Ok(stream);
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            return Err(Refusal::Crowded);
        };
        let stream = tokio::select! {
            stream = timeout(self.settings.patience, self.agent.wait_and_dial()) => stream.ok(),
            // Its place is for somebody who still waits.
            () = hung_up(client) => None,
        };
        self.agent_missed.store(stream.is_none(), Ordering::Relaxed);
        stream.ok_or(Refusal::NotThere)
    }
}

#[cfg(test)]
mod tests;
