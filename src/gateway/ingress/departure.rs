//! Notices that a client has hung up while nobody reads from it or writes to it.
//! It neither reads nor writes itself: what the client has sent is the agent's.

use std::future::pending;
use std::io::{Error, ErrorKind};
use std::os::fd::AsFd;

use tokio::io::Interest;
use tokio::net::UnixStream;

/// Ends when the client has closed its connection. One that only sends no more has not: it
/// still wants its answer.
pub(super) async fn hung_up(client: &UnixStream) {
    // A registration of its own, because the looks below forget that there is room to write,
    // which those that write later must know.
    let watched = client.as_fd().try_clone_to_owned();
    let watched = watched.and_then(|fd| UnixStream::from_std(fd.into()));
    // Out of descriptors: then the client keeps its place for as long as it may wait.
    let Ok(watched) = watched else {
        return pending().await;
    };
    while let Ok(news) = watched.ready(Interest::WRITABLE).await {
        if news.is_write_closed() {
            return;
        }
        // Nothing is written: so it is said that this was seen, and the next look waits for news.
        let seen = || Err::<(), _>(Error::from(ErrorKind::WouldBlock));
        let _ = watched.try_io(Interest::WRITABLE, seen);
    }
    pending::<()>().await;
}
