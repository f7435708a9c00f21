//! How root tells the sleep service to wake a tenant or to put it to sleep.

use std::io;

use axum::http::StatusCode;
use camino::{Utf8Path, Utf8PathBuf};
use futures_util::{SinkExt, StreamExt};
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LinesCodec};

use super::wire::{Asked, LONGEST, Told};
use crate::api::Problem;

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

impl ClientError {
    /// What the API answers.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Refused(_) => Problem::of("sleep-refused", StatusCode::CONFLICT, self),
            Self::Unreachable { .. } | Self::Silent => {
                Problem::of("sleep-service-down", StatusCode::SERVICE_UNAVAILABLE, self)
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    /// What comes of a service that answers `line`, or ends without a word.
    async fn answered(line: Option<&'static str>) -> Result<Told, ClientError> {
        let guard = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(guard.path().join("s")).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        let service = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut framed = Framed::new(stream, LinesCodec::new_with_max_length(LONGEST));
            let asked = framed.next().await.unwrap().unwrap();
            if let Some(line) = line {
                framed.send(line).await.unwrap();
            }
            asked
        });
        let told = tell(&path, &Asked::SleepTenant("acme".parse().unwrap())).await;
        assert_eq!(service.await.unwrap(), "sleep acme");
        told
    }

    #[tokio::test]
    async fn a_refusal_and_a_service_that_is_down_are_told_apart() {
        assert_eq!(answered(Some("frozen")).await.unwrap(), Told::Frozen);
        let refused = answered(Some("refused it is held"))
            .await
            .unwrap_err()
            .problem();
        assert_eq!(
            (&*refused.code, refused.status, &*refused.title),
            ("sleep-refused", 409, "it is held")
        );
        let silent = answered(None).await.unwrap_err().problem();
        assert_eq!((&*silent.code, silent.status), ("sleep-service-down", 503));
        let asked = Asked::WakeTenant("acme".parse().unwrap());
        let nobody = tell("/nowhere/sleep.sock".into(), &asked).await;
        assert_eq!(nobody.unwrap_err().problem().status, 503);
    }
}
