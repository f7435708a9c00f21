//! Podman's own API, for what the Docker dialect lacks or says less of.
//! One connection per call, JSON in and out; the paths are those of Podman's API reference.

use std::fmt::Write;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::error::{self, PodmanError};

/// Longest wait for an answer. Podman's own locks can make it slow while containers start.
pub(super) const TIMEOUT: Duration = Duration::from_mins(1);

/// Longest answer that is read.
const LIMIT: usize = 16 * 1024 * 1024;

/// The API version that is asked for: served by all Podman 5 and later.
const PREFIX: &str = "/v5.0.0/libpod";

/// A client of the API at one socket.
#[derive(Debug)]
pub(super) struct Libpod {
    socket: Utf8PathBuf,
}

/// What is asked, in words for errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) verb: &'static str,
    pub(super) object: &'a str,
}

/// How Podman says no.
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

impl Libpod {
    pub(super) fn new(socket: &Utf8Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        question: Question<'_>,
    ) -> Result<T, PodmanError> {
        let body = self.call(Method::GET, path, question).await?;
        serde_json::from_slice(&body).map_err(|source| broken(question, source))
    }

    /// Calls and returns the body of a successful answer.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        question: Question<'_>,
    ) -> Result<Bytes, PodmanError> {
        tokio::time::timeout(TIMEOUT, self.call_without_limit(method, path, question))
            .await
            .unwrap_or_else(|_| {
                Err(PodmanError::Silent {
                    verb: question.verb,
                    object: question.object.to_owned(),
                })
            })
    }

    async fn call_without_limit(
        &self,
        method: Method,
        path: &str,
        question: Question<'_>,
    ) -> Result<Bytes, PodmanError> {
        let stream = UnixStream::connect(self.socket.as_std_path())
            .await
            .map_err(|error| error::connecting(self.socket.clone(), question.verb, error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|source| broken(question, source))?;
        // Ends by itself when the exchange is over, because the sender is dropped.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(format!("{PREFIX}{path}"))
            .header(header::HOST, "podman")
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|source| broken(question, source))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|source| broken(question, source))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LIMIT)
            .collect()
            .await
            .map_err(|source| PodmanError::Broken {
                verb: question.verb,
                object: question.object.to_owned(),
                source,
            })?
            .to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        let said = serde_json::from_slice::<Refusal>(&body).map_or_else(
            |_| String::from_utf8_lossy(&body).trim().to_owned(),
            |refusal| refusal.message,
        );
        Err(PodmanError::Refused {
            verb: question.verb,
            object: question.object.to_owned(),
            status: Some(status.as_u16()),
            said,
        })
    }
}

/// Turns "there is none" into `None`.
pub(super) fn if_there<T>(answer: Result<T, PodmanError>) -> Result<Option<T>, PodmanError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

/// A name as part of a path. Slashes stay: Podman's routes expect them in image names.
pub(super) fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:@".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

fn broken(
    question: Question<'_>,
    source: impl std::error::Error + Send + Sync + 'static,
) -> PodmanError {
    PodmanError::Broken {
        verb: question.verb,
        object: question.object.to_owned(),
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    #[test]
    fn a_name_cannot_leave_its_place_in_a_path() {
        assert_eq!(escape("quay.io/a/b:1@sha256:0"), "quay.io/a/b:1@sha256:0");
        assert_eq!(escape("a?all=1 #%\n"), "a%3Fall%3D1%20%23%25%0A");
    }

    const QUESTION: Question<'_> = Question {
        verb: "inspect",
        object: "image a",
    };

    async fn answered(answer: &'static str) -> Result<serde_json::Value, PodmanError> {
        let dir = tempfile::tempdir().unwrap();
        let socket = Utf8PathBuf::from_path_buf(dir.path().join("s")).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /v5.0.0/libpod/images/a/json HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        Libpod::new(&socket).get("/images/a/json", QUESTION).await
    }

    #[tokio::test]
    async fn an_answer_is_read() {
        let answer = answered("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"a\": 1}").await;
        assert_eq!(answer.unwrap()["a"], 1);
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_podmans_words() {
        let error = answered(
            "HTTP/1.1 404 Not Found\r\nContent-Length: 39\r\n\r\n{\"message\":\"no such a\",\"response\":404}\n",
        )
        .await
        .unwrap_err();
        assert!(error.is_absent());
        assert_eq!(
            error.to_string(),
            "Podman cannot inspect image a: no such a"
        );
    }

    #[tokio::test]
    async fn a_socket_tells_what_is_wrong_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let socket = Utf8PathBuf::from_path_buf(dir.path().join("s")).unwrap();
        let libpod = Libpod::new(&socket);
        let error = libpod.call(Method::GET, "/version", QUESTION).await;
        assert!(
            matches!(error, Err(PodmanError::Absent { .. })),
            "{error:?}"
        );
        // A socket's file outlives its listener.
        drop(UnixListener::bind(&socket).unwrap());
        let error = libpod.call(Method::GET, "/version", QUESTION).await;
        assert!(
            matches!(error, Err(PodmanError::NotListening { .. })),
            "{error:?}"
        );
    }
}
