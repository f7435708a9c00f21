//! The egress door: the tenant's only way out, by name and under its policy.
//! It has no privileges, and knows its tenant by the sockets that systemd hands over.

mod address;
mod book;
mod client_hello;
mod decision;
mod door;
mod judge;
mod keeper;
mod meter;
mod names;
mod outside;
mod question;
mod refused;
mod relay;
mod serve;
mod stand_ins;
mod tally;
mod transparent;
mod trial;
mod tunnel;
mod usage;
mod web;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};

pub use address::{Special, special};
pub use book::Book;
pub use decision::By;
pub use door::{Door, Goal};
pub use judge::{Allowed, Judge, Refusal};
pub use keeper::{Files, Keeper};
pub use meter::{Destinations, Figures, Meter};
pub use outside::{Host, LOOKUPS, Outside, Unreached};
pub(in crate::gateway) use outside::{dial, resolve};
pub use serve::serve;
pub use trial::{Verdict, goal_of, verdict};
pub use usage::{Month, MonthError, Usage};

/// The sockets of a door, as systemd hands them over.
#[derive(Debug)]
pub struct Sockets {
    /// Names over UDP.
    pub names: Vec<UdpSocket>,
    /// Everything else, told apart by the address that was connected to.
    pub streams: Vec<TcpListener>,
}

/// How a door is served.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Most connections at all; further ones wait in the sockets.
    pub connections: usize,
    /// The door leaves after this long without a connection or a question.
    pub idle: Duration,
    /// How long open connections may go on when the door is told to stop.
    pub drain: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // Two descriptors each, within the unit's LimitNOFILE=; their buffers, within its MemoryMax=.
            connections: 512,
            idle: Duration::from_mins(1),
            drain: Duration::from_secs(5),
        }
    }
}

/// Which way in a connection took, by the address that it was made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entrance {
    Names,
    Proxy,
    /// To an address that stands for a name, or for none.
    Transparent(SocketAddr),
}

/// Port of the explicit proxy.
pub const PROXY: u16 = 3128;

/// Port of the name server.
const NAMES: u16 = 53;

impl Entrance {
    fn of(local: SocketAddr) -> Self {
        match (local.ip().is_loopback(), local.port()) {
            (true, NAMES) => Self::Names,
            (true, PROXY) => Self::Proxy,
            _ => Self::Transparent(local),
        }
    }
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;
