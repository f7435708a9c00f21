//! Carries bytes both ways and counts them.
//! It looks at none of them.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpStream, UnixStream};
use tokio_util::io::InspectReader;

/// What a door has carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connections that were accepted.
    pub connections: u64,
    /// Connections that the door answered itself.
    pub refused: u64,
    /// Bytes from clients to the agent.
    pub bytes_in: u64,
    /// Bytes from the agent to clients.
    pub bytes_out: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    connections: AtomicU64,
    refused: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Counters {
    pub(super) fn connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refusal(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn totals(&self) -> Totals {
        Totals {
            connections: self.connections.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
        }
    }
}

/// Carries bytes until both sides have ended. Each side's end is passed on while the other
/// goes on; what was carried before a connection broke is counted too.
pub(super) async fn relay(client: UnixStream, agent: TcpStream, counters: &Counters) {
    let count = |counter: &'_ AtomicU64, bytes: &[u8]| {
        counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    };
    let mut client = InspectReader::new(client, |bytes: &[u8]| count(&counters.bytes_in, bytes));
    let mut agent = InspectReader::new(agent, |bytes: &[u8]| count(&counters.bytes_out, bytes));
    if let Err(error) = copy_bidirectional(&mut client, &mut agent).await {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "a connection broke"
        );
    }
}
