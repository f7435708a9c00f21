//! How root tells the sleep service to wake a tenant or to put it to sleep.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use futures_util::{SinkExt, StreamExt};
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LinesCodec};

use super::wire::{Asked, LONGEST, Told};

/// Why the sleep service did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It cannot be reached.
    #[error(
        "the sleep service does not listen on {path}; `systemctl start tenantd-sleep.socket` has it listen, and only root may ask it"
    )]
    Unreachable {
        /// Its socket.
        path: Utf8PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It ended the connection without an answer.
    #[error(
        "the sleep service gave no answer; `journalctl -u tenantd-sleep` tells why, and only root is heard"
    )]
    Silent,
    /// It said no.
    #[error("{0}")]
    Refused(String),
}

/// Asks, and waits for the answer.
///
/// # Errors
/// See [`ClientError`].
pub async fn tell(socket: &Utf8Path, asked: &Asked) -> Result<Told, ClientError> {
    let stream = UnixStream::connect(socket.as_std_path()).await;
    let stream = stream.map_err(|source| ClientError::Unreachable {
        path: socket.to_owned(),
        source,
    })?;
    let mut framed = Framed::new(stream, LinesCodec::new_with_max_length(LONGEST));
    let sent = framed.send(asked.to_string()).await;
    sent.map_err(|_| ClientError::Silent)?;
    let line = framed.next().await.and_then(Result::ok);
    match line.and_then(|line| line.parse().ok()) {
        Some(Told::Refused(why)) => Err(ClientError::Refused(why)),
        Some(told) => Ok(told),
        None => Err(ClientError::Silent),
    }
}
