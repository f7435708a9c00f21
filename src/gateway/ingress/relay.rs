//! Carries bytes both ways and counts them. Buffers belong to the door, not to connections: an idle connection has
//! none, so that ten thousand of them are cheap.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::socket;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::frames::{GOING_AWAY, GOING_AWAY_MASKED};
use super::gate::Pass;
use super::traffic::Counters;
use super::watch::{Activity, Watch};

/// The most that is read at a time, and that a client which does not read its answer keeps in memory.
const LARGEST: usize = 64 * 1024;

/// The least, when there are many connections.
const SMALLEST: usize = 4 * 1024;

/// What all connections together may keep in memory, for each direction.
const TOGETHER: usize = 32 << 20;

/// Buffers that are kept for the next one.
const KEPT: usize = 8;

/// How long a client may take to close a WebSocket after it was told.
const FAREWELL: Duration = Duration::from_secs(1);

/// A socket that both directions use at once.
pub(super) trait Socket: AsFd + Sync {
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;
    fn writable(&self) -> impl Future<Output = io::Result<()>> + Send;
    fn try_read(&self, into: &mut [u8]) -> io::Result<usize>;
    fn try_write(&self, from: &[u8]) -> io::Result<usize>;
}

macro_rules! socket {
    ($($type:ty),+) => {$(
        impl Socket for $type {
            fn readable(&self) -> impl Future<Output = io::Result<()>> + Send {
                Self::readable(self)
            }
            fn writable(&self) -> impl Future<Output = io::Result<()>> + Send {
                Self::writable(self)
            }
            fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
                Self::try_read(self, into)
            }
            fn try_write(&self, from: &[u8]) -> io::Result<usize> {
                Self::try_write(self, from)
            }
        }
    )+};
}

socket!(UnixStream, TcpStream);

/// The buffers of a door.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    fn take(&self) -> Vec<u8> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.pop().unwrap_or_else(|| vec![0; LARGEST])
    }

    fn give_back(&self, buffer: Vec<u8>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(buffer);
        }
    }
}

/// What a door lends to its connections.
#[derive(Debug)]
pub(super) struct Means<'a> {
    pub(super) counters: &'a Counters,
    pub(super) activity: &'a Activity,
    pub(super) buffers: &'a Buffers,
}

/// Carries bytes until both sides have ended, or the door is asked to close. `head` was read from the client before.
/// Each side's end is passed on while the other goes on; what was carried before a connection broke is counted too.
pub(super) async fn relay(
    client: &UnixStream,
    agent: &TcpStream,
    head: &[u8],
    pass: &mut Pass,
    means: &Means<'_>,
    open: impl Fn() -> usize + Sync,
) {
    let watch = Mutex::new(Watch::new(means.activity));
    let watched = || watch.lock().unwrap_or_else(PoisonError::into_inner);
    let up = async {
        if !head.is_empty() {
            means.counters.sent_in(head.len());
            watched().client_sent(head);
            write_all(agent, head).await?;
        }
        carry(client, agent, means.buffers, &open, |bytes| {
            means.counters.sent_in(bytes.len());
            watched().client_sent(bytes);
        })
        .await
    };
    let down = carry(agent, client, means.buffers, &open, |bytes| {
        means.counters.sent_out(bytes.len());
        watched().agent_sent(bytes);
    });
    let carried = tokio::select! {
        carried = async { tokio::try_join!(up, down) } => carried.map(drop),
        () = pass.asked_to_leave() => {
            let may_say = watched().is_between_frames();
            if may_say {
                say_goodbye(client, agent, means.buffers).await;
            }
            Ok(())
        }
    };
    if let Err(error) = carried {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "a connection broke"
        );
    }
}

/// Closes a WebSocket to both sides as RFC 6455 wants it, and waits a moment for the client to agree.
async fn say_goodbye(client: &UnixStream, agent: &TcpStream, buffers: &Buffers) {
    let said = async {
        write_all(agent, &GOING_AWAY_MASKED).await?;
        write_all(client, &GOING_AWAY).await?;
        end(client);
        // What it still says is its own close frame, or comes too late.
        loop {
            client.readable().await?;
            let mut buffer = buffers.take();
            let read = client.try_read(&mut buffer);
            buffers.give_back(buffer);
            match read {
                Ok(0) => return Ok::<_, io::Error>(()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
    };
    // Whoever does not agree in time is closed all the same.
    let _ = timeout(FAREWELL, said).await;
}

/// Carries one direction to its end, and passes the end on.
async fn carry(
    from: &impl Socket,
    to: &impl Socket,
    buffers: &Buffers,
    open: &impl Fn() -> usize,
    mut seen: impl FnMut(&[u8]),
) -> io::Result<()> {
    loop {
        from.readable().await?;
        let mut buffer = buffers.take();
        let share = (TOGETHER / open().max(1)).clamp(SMALLEST, LARGEST);
        let outcome = match from.try_read(&mut buffer[..share]) {
            Ok(0) => {
                end(to);
                return Ok(());
            }
            Ok(read) => {
                seen(&buffer[..read]);
                match to.try_write(&buffer[..read]) {
                    Ok(written) if written == read => Ok(()),
                    written => match would_block(written) {
                        Ok(written) => {
                            // Only what is left is kept while the other side does not read.
                            let left = buffer[written..read].to_vec();
                            buffers.give_back(buffer);
                            write_all(to, &left).await?;
                            continue;
                        }
                        Err(error) => Err(error),
                    },
                }
            }
            Err(error) => would_block(Err(error)).map(drop),
        };
        buffers.give_back(buffer);
        outcome?;
    }
}

/// Nothing was moved, where nothing could be without waiting.
fn would_block(moved: io::Result<usize>) -> io::Result<usize> {
    match moved {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}

async fn write_all(to: &impl Socket, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        let written = would_block(to.try_write(bytes))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Says that nothing follows; the other direction goes on.
fn end(to: &impl Socket) {
    // One that has gone needs not be told.
    let _ = socket::shutdown(to.as_fd().as_raw_fd(), socket::Shutdown::Write);
}
