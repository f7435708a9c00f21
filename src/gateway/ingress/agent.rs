//! Whether the agent is there, and connections to it.
//! One waiter asks for all, so a crowd before the door does not become a crowd of probes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::host::probe::{self, Target, Unready};
use crate::tenant::HttpProbe;

/// First and longest pause between two probes.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Longest time for one probe; a frozen agent accepts and does not answer.
const PROBE: Duration = Duration::from_secs(2);

/// The agent behind a door.
#[derive(Debug)]
pub(super) struct Agent {
    target: Target,
    address: SocketAddr,
    start_probe: HttpProbe,
    /// The start probe has passed, and no dial has failed since.
    ready: AtomicBool,
    /// Held by the one that asks.
    asking: Mutex<()>,
}

impl Agent {
    pub(super) fn new(address: SocketAddr, start_probe: HttpProbe) -> Self {
        Self {
            target: Target::Tcp(address),
            address,
            start_probe,
            ready: AtomicBool::new(false),
            asking: Mutex::new(()),
        }
    }

    /// A connection, if the agent is known to be there and still is.
    pub(super) async fn dial_if_ready(&self) -> Option<TcpStream> {
        if !self.ready.load(Ordering::Relaxed) {
            return None;
        }
        if let Ok(stream) = TcpStream::connect(self.address).await {
            // Small messages go both ways; without this they would wait for each other.
            let _ = stream.set_nodelay(true);
            Some(stream)
        } else {
            self.ready.store(false, Ordering::Relaxed);
            None
        }
    }

    /// Asks it something, whoever else does.
    pub(super) async fn answers(&self, probe: &HttpProbe, limit: Duration) -> Result<(), Unready> {
        probe::ask(&self.target, probe, limit).await
    }

    /// Waits, without end, until the agent is there.
    pub(super) async fn wait(&self) {
        let _asking = self.asking.lock().await;
        let mut pause = PAUSE.0;
        // Whoever asked before may have found it ready.
        while !self.ready.load(Ordering::Relaxed) {
            let answer = probe::ask(&self.target, &self.start_probe, PROBE).await;
            if answer.is_ok() {
                self.ready.store(true, Ordering::Relaxed);
            } else {
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}
