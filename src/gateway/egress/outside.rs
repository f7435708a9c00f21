//! The way to the Internet: names become addresses once, every one of them is judged, and a judged one is dialled.
//! It decides nothing itself; looking up and connecting are behind a trait, for tests that stand for the Internet.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::judge::{Judge, Refusal};
use crate::tenant::HostName;

/// Names that are looked up at the same time; each has a thread, also when nobody waits for it any more.
pub const LOOKUPS: usize = 6;

/// Longest time for a name, with the wait for its turn.
const LOOKUP: Duration = Duration::from_secs(5);

/// Longest time for one address; the next one is tried then.
const CONNECT: Duration = Duration::from_secs(5);

/// Most addresses that are tried for one name.
const ADDRESSES: usize = 4;

/// Looks names up and connects, as the host does.
#[async_trait]
pub trait Outside: std::fmt::Debug + Send + Sync + 'static {
    /// The addresses of a name, in the order in which they are to be tried.
    async fn lookup(&self, name: &HostName) -> io::Result<Vec<IpAddr>>;

    /// A connection to an address.
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream>;
}

/// The host's own resolver and network.
#[derive(Debug, Clone)]
pub struct Host {
    /// One for each of [`LOOKUPS`].
    turns: Arc<Semaphore>,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(LOOKUPS)),
        }
    }
}

#[async_trait]
impl Outside for Host {
    async fn lookup(&self, name: &HostName) -> io::Result<Vec<IpAddr>> {
        // The final dot keeps the host's search list out of it; the port is of no interest.
        let name = format!("{name}.");
        in_turn(&self.turns, move || {
            let addresses = (name.as_str(), 0).to_socket_addrs()?;
            Ok(addresses.map(|address| address.ip()).collect())
        })
        .await
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }
}

/// Looks up in a thread of its own when a turn is free. The turn lasts as long as the thread, which cannot be cut: who
/// does not wait any more leaves no place for another, and nothing queues before what else needs a thread.
async fn in_turn<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    look: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let turn = Arc::clone(turns).acquire_owned().await;
    let turn = turn.map_err(io::Error::other)?;
    let looking = spawn_blocking(move || {
        let found = look();
        drop(turn);
        found
    });
    looking.await.map_err(io::Error::other)?
}

/// Why nothing was reached.
#[derive(Debug, thiserror::Error)]
pub enum Unreached {
    /// The policy does not allow it.
    #[error("{0}")]
    Refused(Refusal),
    /// The name could not be looked up.
    #[error("the name cannot be looked up")]
    Lookup(#[source] io::Error),
    /// No address answered.
    #[error("no address answers")]
    Connect(#[source] io::Error),
}

impl From<Refusal> for Unreached {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Looks a name up, within [`LOOKUP`].
///
/// # Errors
/// The name cannot be looked up.
pub async fn lookup(outside: &dyn Outside, name: &HostName) -> Result<Vec<IpAddr>, Unreached> {
    let found = timeout(LOOKUP, outside.lookup(name)).await;
    let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    found.map_err(Unreached::Lookup)
}

/// Looks a name up and has every address judged.
///
/// # Errors
/// The name has no address, or one that is refused.
pub async fn resolve(
    outside: &dyn Outside,
    judge: &Judge,
    name: &HostName,
    port: u16,
) -> Result<Vec<IpAddr>, Unreached> {
    let addresses = lookup(outside, name).await?;
    judge.resolved(&addresses, port)?;
    Ok(addresses)
}

/// Connects to the first of some judged addresses that answers.
///
/// # Errors
/// None does.
pub async fn dial(
    outside: &dyn Outside,
    addresses: &[IpAddr],
    port: u16,
) -> Result<(TcpStream, IpAddr), Unreached> {
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses.iter().take(ADDRESSES) {
        let connecting = outside.connect(SocketAddr::new(*address, port));
        match timeout(CONNECT, connecting).await {
            Ok(Ok(stream)) => {
                // Small messages go both ways; without this they would wait for each other.
                let _ = stream.set_nodelay(true);
                return Ok((stream, *address));
            }
            Ok(Err(error)) => failed = error,
            Err(_) => failed = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(Unreached::Connect(failed))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_slow_name_keeps_its_turn_when_nobody_waits_for_it_any_more() {
        let turns = Arc::new(Semaphore::new(1));
        let (begun, begins) = tokio::sync::oneshot::channel();
        let (answer, answers) = mpsc::channel::<()>();
        let first = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move {
                in_turn(&turns, move || {
                    begun.send(()).unwrap();
                    // The name's server answers at last.
                    let _ = answers.recv();
                    Ok(())
                })
                .await
            }
        });
        begins.await.unwrap();
        first.abort();
        first.await.unwrap_err();
        assert_eq!(turns.available_permits(), 0);
        // The next one waits before it has a thread, and is given up without one.
        let (begun, mut begins) = tokio::sync::oneshot::channel();
        let second = in_turn(&turns, move || {
            begun.send(()).unwrap();
            Ok(())
        });
        timeout(Duration::ZERO, second).await.unwrap_err();
        begins.try_recv().unwrap_err();
        answer.send(()).unwrap();
        in_turn(&turns, || Ok(())).await.unwrap();
    }
}
