//! The ingress door: from the tenant's Unix socket to the agent inside its namespace.
//! It waits for the agent, answers for it when it does not come, and leaves when nobody is there.
//! It wakes nobody itself: its unit wants `tenantd-awake@`, and for an agent that sleeps it asks the sleep service.

mod agent;
mod departure;
mod frames;
mod gate;
mod head;
mod refusal;
mod relay;
mod sleep;
mod traffic;
mod watch;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::layout::Layout;
use crate::tenant::{HttpProbe, Runtime};

use agent::Agent;
use departure::hung_up;
use gate::{Gate, Pass, Standing};
use head::Head;
pub use refusal::Held;
use refusal::Refusal;
use relay::{Buffers, Means};
pub use sleep::Sleeping;
use sleep::{Order, Orders};
use traffic::Counters;
pub use traffic::Totals;
use watch::Activity;

/// What a door does, and its limits.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the agent listens.
    pub agent: SocketAddr,
    /// Answers once the agent can serve.
    pub start_probe: HttpProbe,
    /// How the tenant is held, if it is: then every request is refused.
    pub held: Option<Held>,
    /// How the agent sleeps; none when it never does.
    pub sleeping: Option<Sleeping>,
    /// Longest time for which a connection waits for the agent.
    pub patience: Duration,
    /// The same for a browser, which then gets a page that waits in its place.
    pub browser_patience: Duration,
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
    pub fn new(layout: &Layout, runtime: &Runtime, held: Option<Held>) -> Self {
        let start = Duration::from_secs(runtime.start_timeout_seconds.into());
        // A held tenant's door only refuses, and must notice soon when it is released.
        let idle = if held.is_some() { 2 } else { 60 };
        Self {
            agent: SocketAddr::from((Ipv4Addr::LOCALHOST, runtime.port)),
            start_probe: runtime.start_probe.clone(),
            sleeping: sleeping(layout, runtime).filter(|_| held.is_none()),
            held,
            patience: start.min(Self::PATIENCE),
            browser_patience: Duration::from_secs(1),
            waiting: 256,
            // Two descriptors each, within the unit's LimitNOFILE=.
            connections: 12_000,
            idle: Duration::from_secs(idle),
            idle_without_agent: Duration::from_secs(1),
            drain: Duration::from_secs(5),
        }
    }
}

fn sleeping(layout: &Layout, runtime: &Runtime) -> Option<Sleeping> {
    let times = runtime.sleep?;
    let live = runtime.live_probe.as_ref().map(|live| &live.http);
    let probes = [
        Some(&runtime.start_probe),
        live,
        runtime.idle_probe.as_ref(),
    ];
    let paths = probes.into_iter().flatten().map(|probe| probe.path.clone());
    Some(Sleeping {
        socket: layout.sleep_socket(),
        after: times.after.into(),
        idle_probe: runtime.idle_probe.clone(),
        // An agent whose page answers its probes must be woken by who wants that page.
        probes: paths.filter(|path| path != "/").collect(),
    })
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
    let (orders, ordered) = sleep::orders();
    let door = Arc::new(Door::new(settings, orders));
    let attending = door.attend(ordered);
    let mut connections = JoinSet::new();
    let mut empty_since = Instant::now();
    let mut changes = door.gate.changes();
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
            // Who may leave depends on how the agent stands.
            Ok(()) = changes.changed(), if connections.is_empty() => {}
            () = &mut stop => break Left::Told,
        }
    };
    drop(listener);
    if let Some(attending) = attending {
        attending.abort();
    }
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
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Requests whose heads are read at a time, while the agent is not there; further ones are refused at once.
const HEADS: usize = 1024;

/// For so long an agent is waited for before it is asked again whether it has been started.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// Pause after an agent that was to be woken was not.
const CLOSED_AGAIN: Duration = Duration::from_millis(100);

/// Longest wait for word of how an agent stands that only a probe asks for.
const LOOKING: Duration = Duration::from_secs(5);

/// A door that is needed as long as its agent is in memory does not leave by itself.
const NEVER: Duration = Duration::from_hours(24 * 365);

#[derive(Debug)]
struct Door {
    agent: Agent,
    gate: Arc<Gate>,
    activity: Activity,
    buffers: Buffers,
    heads: Semaphore,
    waiting: Semaphore,
    orders: Orders,
    counters: Counters,
    /// The last connection that waited for the agent waited in vain.
    agent_missed: AtomicBool,
    settings: Settings,
}

impl Door {
    fn new(settings: Settings, orders: Orders) -> Self {
        let standing = match settings.sleeping {
            None => Standing::Awake,
            Some(_) => Standing::Unknown,
        };
        Self {
            agent: Agent::new(settings.agent, settings.start_probe.clone()),
            gate: Gate::new(standing),
            activity: Activity::new(),
            buffers: Buffers::default(),
            heads: Semaphore::new(HEADS),
            waiting: Semaphore::new(settings.waiting),
            orders,
            counters: Counters::default(),
            agent_missed: AtomicBool::new(false),
            settings,
        }
    }

    /// Begins to talk to the sleep service, if the agent sleeps.
    fn attend(
        self: &Arc<Self>,
        ordered: mpsc::Receiver<Order>,
    ) -> Option<tokio::task::JoinHandle<()>> {
        let sleeping = self.settings.sleeping.clone()?;
        let door = Arc::clone(self);
        Some(tokio::spawn(sleep::attend(door, sleeping, ordered)))
    }

    fn idle(&self) -> Duration {
        if self.settings.sleeping.is_some() {
            return match self.gate.standing() {
                Standing::Awake | Standing::Frozen => NEVER,
                Standing::Stopped => self.settings.idle_without_agent,
                Standing::Unknown => self.settings.idle,
            };
        }
        if self.agent_missed.load(Ordering::Relaxed) {
            self.settings.idle_without_agent
        } else {
            self.settings.idle
        }
    }

    async fn carry(&self, client: UnixStream) {
        self.counters.connection();
        if let Some(held) = self.settings.held {
            return self.refuse(Refusal::Held(held), client, None).await;
        }
        if let Some(pass) = self.gate.enter()
            && let Some(agent) = self.agent.dial_if_ready().await
        {
            return self.relay(client, agent, &[], pass).await;
        }
        self.carry_when_there(client).await;
    }

    /// Carries a connection whose agent is not there, as far as is known, once it is.
    async fn carry_when_there(&self, mut client: UnixStream) {
        let Ok(reading) = self.heads.try_acquire() else {
            return self.refuse(Refusal::Crowded, client, None).await;
        };
        let Some(head) = Head::read(&mut client).await else {
            return self.counters.refusal();
        };
        drop(reading);
        match self.reach_agent(&client, &head).await {
            Ok((agent, pass)) => self.relay(client, agent, head.bytes(), pass).await,
            Err(refusal) => self.refuse(refusal, client, Some(head)).await,
        }
    }

    async fn reach_agent(
        &self,
        client: &UnixStream,
        head: &Head,
    ) -> Result<(TcpStream, Pass), Refusal> {
        // Whether it wakes anybody cannot be told; one that is always on may judge it itself.
        if self.settings.sleeping.is_some() && !head.is_whole() {
            return Err(Refusal::TooLong);
        }
        let is_browser = head.is_from_browser();
        if !is_browser && self.is_only_probed(head).await {
            return Err(Refusal::Asleep);
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            return Err(Refusal::Crowded);
        };
        let _waits = self.activity.waits();
        let (patience, refusal) = if is_browser {
            (self.settings.browser_patience, Refusal::Waking)
        } else {
            (self.settings.patience, Refusal::NotThere)
        };
        let reached = tokio::select! {
            reached = timeout(patience, self.wake_and_dial()) => reached.ok(),
            // Its place is for somebody who still waits.
            () = hung_up(client) => None,
        };
        // A browser comes again and waits in earnest until its agent is there.
        if !is_browser {
            self.agent_missed
                .store(reached.is_none(), Ordering::Relaxed);
        }
        reached.ok_or(refusal)
    }

    /// Whether this is a probe of an agent that sleeps.
    async fn is_only_probed(&self, head: &Head) -> bool {
        let Some(sleeping) = &self.settings.sleeping else {
            return false;
        };
        if self.gate.standing() == Standing::Awake || !head.is_probe(&sleeping.probes) {
            return false;
        }
        let _ = timeout(LOOKING, sleep::ask(&self.orders, Order::Look)).await;
        self.gate.standing() != Standing::Awake
    }

    /// Waits, without end, until the agent is there; one that sleeps is woken.
    async fn wake_and_dial(&self) -> (TcpStream, Pass) {
        let sleeps = self.settings.sleeping.is_some();
        let mut must_ask = self.gate.standing() != Standing::Awake;
        loop {
            if sleeps && must_ask {
                sleep::ask(&self.orders, Order::Wake).await;
            }
            must_ask = true;
            // It could not be woken, or the gate has closed again since.
            let Some(pass) = self.gate.enter() else {
                tokio::time::sleep(CLOSED_AGAIN).await;
                continue;
            };
            if let Some(stream) = self.agent.dial_if_ready().await {
                return (stream, pass);
            }
            drop(pass);
            must_ask = timeout(ASK_AGAIN, self.agent.wait()).await.is_err();
        }
    }

    async fn relay(&self, client: UnixStream, agent: TcpStream, head: &[u8], mut pass: Pass) {
        let means = Means {
            counters: &self.counters,
            activity: &self.activity,
            buffers: &self.buffers,
        };
        relay::relay(&client, &agent, head, &mut pass, &means, || {
            self.gate.open()
        })
        .await;
    }

    async fn refuse(&self, refusal: Refusal, client: UnixStream, head: Option<Head>) {
        self.counters.refusal();
        refusal.send(client, head).await;
    }
}

#[cfg(test)]
mod tests;
