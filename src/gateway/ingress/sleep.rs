//! The door of an agent that sleeps: it asks the sleep service to wake it, says when it has nothing to do, and closes
//! before it is frozen. It decides nothing about sleep but whether anybody is connected.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use futures_util::{SinkExt, StreamExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::codec::{Framed, LinesCodec};

use super::Door;
use super::gate::Standing;
use crate::sleep::{Asked, LONGEST, Told};
use crate::tenant::HttpProbe;

/// Orders of connections that wait to be taken up.
const ORDERS: usize = 64;

/// How often it is looked whether there is anything to do, at the most.
const LOOK: Duration = Duration::from_secs(5);

/// Pause before the sleep service is looked for again. systemd starts it when it is.
const RECONNECT: Duration = Duration::from_millis(200);

/// How long connections may take to end.
const CLOSING: Duration = Duration::from_secs(3);

/// Longest time for one answer of the idle probe.
const PROBE: Duration = Duration::from_secs(5);

/// How an agent sleeps, as its door knows it.
#[derive(Debug, Clone)]
pub struct Sleeping {
    /// Where the sleep service listens.
    pub socket: Utf8PathBuf,
    /// With nothing to carry for so long, the agent is idle.
    pub after: Duration,
    /// The agent's own word, if it is asked.
    pub idle_probe: Option<HttpProbe>,
    /// Paths that probes ask for; they wake nobody.
    pub probes: Vec<String>,
}

/// What a connection wants to have asked.
#[derive(Debug)]
pub(super) enum Order {
    /// Wake the agent; answered when it may be dialled.
    Wake(oneshot::Sender<()>),
    /// See how it stands.
    Look(oneshot::Sender<()>),
}

/// Where connections put their orders.
pub(super) type Orders = mpsc::Sender<Order>;

pub(super) fn orders() -> (Orders, mpsc::Receiver<Order>) {
    mpsc::channel(ORDERS)
}

/// What was asked and not answered yet, in order.
#[derive(Debug, Default)]
struct Open(VecDeque<(Asked, Vec<oneshot::Sender<()>>)>);

impl Open {
    /// Adds whoever waits to a question that is open already; whether it must be asked.
    fn add(&mut self, asked: &Asked, waits: oneshot::Sender<()>) -> bool {
        if let Some((_, waiting)) = self.0.iter_mut().find(|(open, _)| open == asked) {
            waiting.push(waits);
            return false;
        }
        self.0.push_back((asked.clone(), vec![waits]));
        true
    }

    fn wants_waking(&self) -> bool {
        self.0.iter().any(|(asked, _)| *asked == Asked::Wake)
    }

    /// The oldest has its answer.
    fn answered(&mut self) {
        for waits in self.0.pop_front().into_iter().flat_map(|(_, waits)| waits) {
            // Who has hung up since does not hear it.
            let _ = waits.send(());
        }
    }
}

/// Talks to the sleep service for as long as the door stands.
pub(super) async fn attend(door: Arc<Door>, sleeping: Sleeping, mut orders: mpsc::Receiver<Order>) {
    let mut open = Open::default();
    loop {
        if let Ok(stream) = UnixStream::connect(sleeping.socket.as_std_path()).await {
            // How it ended does not matter: it is looked for again.
            let ended = talk(&door, &sleeping, &mut orders, &mut open, stream).await;
            if ended.is_none() {
                return;
            }
            door.gate.set(Standing::Unknown);
        }
        sleep(RECONNECT).await;
    }
}

/// One conversation; `None` when the door leaves.
async fn talk(
    door: &Door,
    sleeping: &Sleeping,
    orders: &mut mpsc::Receiver<Order>,
    open: &mut Open,
    stream: UnixStream,
) -> Option<()> {
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(LONGEST));
    // What the service before this one did not answer is asked again.
    let mut first: Vec<_> = open.0.iter().map(|(asked, _)| asked.clone()).collect();
    if first.is_empty() {
        open.0.push_back((Asked::Look, Vec::new()));
        first.push(Asked::Look);
    }
    for asked in first {
        if lines.send(asked.to_string()).await.is_err() {
            return Some(());
        }
    }
    let mut looks = interval(sleeping.after.min(LOOK));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said_idle = false;
    loop {
        let say = tokio::select! {
            order = orders.recv() => {
                let (asked, waits) = match order? {
                    Order::Wake(waits) => (Asked::Wake, waits),
                    Order::Look(waits) => (Asked::Look, waits),
                };
                open.add(&asked, waits).then_some(asked)
            }
            line = lines.next() => {
                let Some(Ok(line)) = line else { return Some(()) };
                let Ok(told) = line.parse::<Told>() else { return Some(()) };
                hear(door, sleeping, open, told).await
            }
            _ = looks.tick() => {
                let is_idle = door.gate.standing() == Standing::Awake && is_idle(door, sleeping).await;
                (is_idle != said_idle).then(|| {
                    said_idle = is_idle;
                    if is_idle { Asked::Idle } else { Asked::Active }
                })
            }
        };
        if say == Some(Asked::Wake) || say == Some(Asked::Closed) {
            // Both say more than that.
            said_idle = false;
        }
        if let Some(asked) = say
            && lines.send(asked.to_string()).await.is_err()
        {
            return Some(());
        }
    }
}

/// Does what it is told; what is to be said to that.
async fn hear(door: &Door, sleeping: &Sleeping, open: &mut Open, told: Told) -> Option<Asked> {
    match told {
        Told::Close | Told::CloseNow => {
            let is_used = told == Told::Close
                && door.gate.standing() == Standing::Awake
                && !is_quiet(door, sleeping);
            if is_used || open.wants_waking() {
                return Some(Asked::Active);
            }
            if door.gate.close(CLOSING).await {
                return Some(Asked::Closed);
            }
            door.gate.set(Standing::Awake);
            Some(Asked::Active)
        }
        Told::Leave => {
            door.gate.set(Standing::Stopped);
            None
        }
        Told::Awake | Told::Frozen | Told::Stopped | Told::Refused(_) => {
            // Before those who wait are told, so that they find it open.
            door.gate.set(match told {
                Told::Awake => Standing::Awake,
                Told::Frozen => Standing::Frozen,
                Told::Stopped => Standing::Stopped,
                _ => Standing::Unknown,
            });
            if told == Told::Awake {
                door.activity.note();
            }
            open.answered();
            None
        }
    }
}

/// Whether the agent has had nothing to do for as long as its spec says, and says so itself.
async fn is_idle(door: &Door, sleeping: &Sleeping) -> bool {
    if !is_quiet(door, sleeping) {
        return false;
    }
    match &sleeping.idle_probe {
        // Somebody may have come while it was asked.
        Some(probe) => door.agent.answers(probe, PROBE).await.is_ok() && is_quiet(door, sleeping),
        None => true,
    }
}

fn is_quiet(door: &Door, sleeping: &Sleeping) -> bool {
    let quiet = door.activity.quiet();
    quiet.is_some_and(|quiet| quiet >= sleeping.after)
}

/// Puts an order and waits for its answer, at most until the caller's patience is over.
pub(super) async fn ask(orders: &Orders, order: impl FnOnce(oneshot::Sender<()>) -> Order) {
    let (answer, answered) = oneshot::channel();
    if orders.send(order(answer)).await.is_ok() {
        let _ = answered.await;
    }
}
