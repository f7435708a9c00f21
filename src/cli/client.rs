//! Talks to the daemon over its Unix socket.
//! It carries requests and answers; what they mean is the commands' business.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::time::Duration;

use bytes::Bytes;
use camino::Utf8PathBuf;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::error::problem_exit;
use super::exit::Exit;
use crate::api::Problem;
use crate::host::occupant::Listener;
use crate::state::{Operation, OperationId, OperationStatus};

/// How long one request waits for an operation before it asks again.
const WAIT: Duration = Duration::from_secs(30);

/// Longest wait for the beginning of an answer: more than [`WAIT`], and than what a doctor or
/// a dry run of many tenants takes.
const ANSWER: Duration = Duration::from_mins(2);

/// How long a wait outlasts an absent daemon: a new version of it takes the operation up.
const ABSENCE: Duration = Duration::from_secs(20);

/// Pause before an absent daemon is asked again.
const RETRY: Duration = Duration::from_millis(200);

/// A request's body, after its type.
type Body = (&'static str, Vec<u8>);

/// The type of documents.
const JSON: &str = "application/json";

/// The type of bytes that mean nothing to HTTP.
const BYTES: &str = "application/octet-stream";

/// A client of the daemon's API.
pub struct Client {
    socket: Utf8PathBuf,
    /// Longest wait for the beginning of an answer.
    patience: Duration,
    /// The revision that must be installed for a change.
    expects: Option<u64>,
}

/// Why a request to the daemon has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("tenantd does not answer at {socket}; start it with `systemctl start tenantd`")]
    NotRunning {
        /// The socket.
        socket: Utf8PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The socket may not be opened.
    #[error("you may not talk to tenantd at {socket}; be root, or a member of group tenantd")]
    NotAllowed {
        /// The socket.
        socket: Utf8PathBuf,
    },
    /// Somebody else's process listens, and nothing is said to it.
    #[error(
        "{by} listens at {socket}, which is not tenantd: it is neither root nor you; end it, then \
         `systemctl restart tenantd`"
    )]
    Foreign {
        /// The socket.
        socket: Utf8PathBuf,
        /// Who.
        by: Listener,
    },
    /// What listens does not speak HTTP.
    #[error(
        "{by} listens at {socket} and does not talk like tenantd; end it, then `systemctl restart \
         tenantd`"
    )]
    NotTenantd {
        /// The socket.
        socket: Utf8PathBuf,
        /// Who.
        by: Listener,
        /// What it said.
        #[source]
        source: hyper::Error,
    },
    /// No answer has come.
    #[error(
        "{by} listens at {socket} and did not answer within {} s; if it is tenantd, \
         `journalctl -u tenantd` tells more", patience.as_secs()
    )]
    Silent {
        /// The socket.
        socket: Utf8PathBuf,
        /// Who.
        by: Listener,
        /// How long it was waited for.
        patience: Duration,
    },
    /// The connection broke.
    #[error("the connection to tenantd broke")]
    Broken(#[source] hyper::Error),
    /// The answer is not what this version expects.
    #[error(
        "tenantd gave an answer that this version does not understand; are both the same version?"
    )]
    Answer(#[source] serde_json::Error),
    /// The daemon says no.
    #[error("{}", .0.title)]
    Refused(Box<Problem>),
}

impl ClientError {
    /// The exit code of each error.
    pub fn exit(&self) -> Exit {
        match self {
            Self::NotRunning { .. }
            | Self::NotAllowed { .. }
            | Self::Foreign { .. }
            | Self::NotTenantd { .. }
            | Self::Silent { .. }
            | Self::Broken(_) => Exit::Unreachable,
            Self::Answer(_) => Exit::Failed,
            Self::Refused(problem) => problem_exit(problem),
        }
    }

    /// Whether no tenantd is there, as far as can be told.
    pub fn is_absence(&self) -> bool {
        matches!(
            self,
            Self::NotRunning { .. }
                | Self::Foreign { .. }
                | Self::NotTenantd { .. }
                | Self::Silent { .. }
                | Self::Broken(_)
        )
    }
}

/// A connection, and who is at its other end.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    peer: Listener,
    /// Ends with the sender, or with what the other end does to it.
    task: JoinHandle<hyper::Result<()>>,
}

impl Client {
    /// A client of the daemon that listens on `socket`.
    pub fn new(socket: impl Into<Utf8PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            patience: ANSWER,
            expects: None,
        }
    }

    /// One whose changes are refused unless this revision is installed.
    pub fn expecting(&self, revision: Option<u64>) -> Self {
        Self {
            socket: self.socket.clone(),
            patience: self.patience,
            expects: revision,
        }
    }

    /// Asks for a resource.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.request(Method::GET, path, None).await
    }

    /// Posts a document.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(ClientError::Answer)?;
        self.request(Method::POST, path, Some((JSON, body))).await
    }

    /// Puts bytes as they are.
    pub async fn put_bytes<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, ClientError> {
        self.request(Method::PUT, path, Some((BYTES, body))).await
    }

    /// Posts bytes as they are.
    pub async fn post_bytes<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, ClientError> {
        self.request(Method::POST, path, Some((BYTES, body))).await
    }

    /// Deletes a resource.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.request(Method::DELETE, path, None).await
    }

    /// Waits until an operation has ended; `on_step` hears of each new step.
    ///
    /// A daemon that is restarted meanwhile is waited for.
    pub async fn wait(
        &self,
        id: OperationId,
        mut on_step: impl FnMut(&Operation),
    ) -> Result<Operation, ClientError> {
        let mut step: Option<String> = None;
        let mut absent_since: Option<Instant> = None;
        loop {
            // The answer comes with the next step or at the end, whichever is first.
            let after = step.as_deref().unwrap_or_default();
            let after = utf8_percent_encode(after, NON_ALPHANUMERIC);
            let path = format!(
                "/v1/operations/{id}?wait={}s&after-step={after}",
                WAIT.as_secs()
            );
            let operation: Operation = match self.get(&path).await {
                Ok(operation) => operation,
                Err(error @ (ClientError::NotRunning { .. } | ClientError::Broken(_))) => {
                    let since = *absent_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > ABSENCE {
                        return Err(error);
                    }
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            absent_since = None;
            if operation.step != step {
                step.clone_from(&operation.step);
                on_step(&operation);
            }
            if operation.status != OperationStatus::Running {
                return Ok(operation);
            }
        }
    }

    /// Sends a request and returns the answer with its body still to be read.
    pub async fn stream(&self, path: &str) -> Result<Response<Incoming>, ClientError> {
        let response = self.send(Method::GET, path, None, None).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refusal(response).await)
    }

    /// Posts a document and turns the connection into one of `protocol`.
    pub async fn upgrade(
        &self,
        path: &str,
        body: &impl serde::Serialize,
        protocol: &'static str,
    ) -> Result<Upgraded, ClientError> {
        let body = serde_json::to_vec(body).map_err(ClientError::Answer)?;
        let response = self
            .send(Method::POST, path, Some((JSON, body)), Some(protocol))
            .await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(response).await);
        }
        hyper::upgrade::on(response)
            .await
            .map_err(ClientError::Broken)
    }

    async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Body>,
    ) -> Result<T, ClientError> {
        let response = self.send(method, path, body, None).await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let bytes = whole(response).await?;
        serde_json::from_slice(&bytes).map_err(ClientError::Answer)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Body>,
        protocol: Option<&'static str>,
    ) -> Result<Response<Incoming>, ClientError> {
        let Connection {
            mut sender,
            peer,
            task,
        } = self.connect().await?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "tenantd");
        if let Some((kind, _)) = &body {
            request = request.header(header::CONTENT_TYPE, *kind);
        }
        if let Some(revision) = self.expects {
            request = request.header(header::IF_MATCH, format!("\"{revision}\""));
        }
        let body = body.map(|(_, bytes)| bytes);
        if let Some(protocol) = protocol {
            request = request
                .header(header::CONNECTION, "upgrade")
                .header(header::UPGRADE, protocol);
        }
        let request = request
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .expect("paths are made by the commands from checked ids and are valid");
        let socket = || self.socket.clone();
        match tokio::time::timeout(self.patience, sender.send_request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                // Whoever speaks first ends the connection, and the request only by that.
                let first = if error.is_canceled() {
                    task.await.ok().and_then(Result::err)
                } else {
                    None
                };
                let source = first.unwrap_or(error);
                Err(if is_nonsense(&source) {
                    ClientError::NotTenantd {
                        socket: socket(),
                        by: peer,
                        source,
                    }
                } else {
                    ClientError::Broken(source)
                })
            }
            Err(_) => Err(ClientError::Silent {
                socket: socket(),
                by: peer,
                patience: self.patience,
            }),
        }
    }

    /// Connects, and makes sure that whoever listens may hear what is said: an identity can be
    /// part of it.
    async fn connect(&self) -> Result<Connection, ClientError> {
        let socket = || self.socket.clone();
        let stream =
            UnixStream::connect(&self.socket)
                .await
                .map_err(|source| match source.kind() {
                    ErrorKind::PermissionDenied => ClientError::NotAllowed { socket: socket() },
                    _ => ClientError::NotRunning {
                        socket: socket(),
                        source,
                    },
                })?;
        let peer = Listener::of(&stream).map_err(|source| ClientError::NotRunning {
            socket: socket(),
            source,
        })?;
        if peer.uid != 0 && peer.uid != nix::unistd::geteuid().as_raw() {
            return Err(ClientError::Foreign {
                socket: socket(),
                by: peer,
            });
        }
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(ClientError::Broken)?;
        let task = tokio::spawn(connection.with_upgrades());
        Ok(Connection { sender, peer, task })
    }
}

/// Whether something was said that is no HTTP; a connection that just ends is another matter.
fn is_nonsense(error: &hyper::Error) -> bool {
    // A request that was cancelled has what cancelled it as its cause.
    let causes = std::iter::successors(Some(error as &dyn Error), |&cause| cause.source());
    let innermost = causes
        .filter_map(|cause| cause.downcast_ref::<hyper::Error>())
        .last()
        .unwrap_or(error);
    let is_of_the_kernel = innermost.source().is_some_and(<dyn Error>::is::<io::Error>);
    let has_ended =
        innermost.is_incomplete_message() || innermost.is_canceled() || innermost.is_closed();
    innermost.is_parse() || !has_ended && !is_of_the_kernel
}

async fn whole(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let body = response.into_body().collect().await;
    Ok(body.map_err(ClientError::Broken)?.to_bytes())
}

/// What an answer says that is no success.
async fn refusal(response: Response<Incoming>) -> ClientError {
    let status = response.status();
    let bytes = match whole(response).await {
        Ok(bytes) => bytes,
        Err(error) => return error,
    };
    // Below the routes, axum answers in plain text.
    let problem = serde_json::from_slice(&bytes).unwrap_or_else(|_| {
        let said = String::from_utf8_lossy(&bytes);
        Problem::new(
            "refused",
            status,
            format!("tenantd refused the request ({status}): {}", said.trim()),
        )
    });
    ClientError::Refused(Box::new(problem))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    /// Asks somebody who says `answer`, before or after he is asked, and then nothing more.
    async fn asked(answer: &'static [u8], before: bool, patience: Duration) -> ClientError {
        let dir = tempfile::tempdir().unwrap();
        let socket = Utf8PathBuf::from_path_buf(dir.path().join("s")).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        let other = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            if !before {
                stream.read_u8().await.unwrap();
            }
            stream.write_all(answer).await.unwrap();
            std::future::pending::<()>().await;
        };
        let client = Client {
            socket,
            patience,
            expects: None,
        };
        tokio::select! {
            answer = client.get::<()>("/v1/version") => answer.unwrap_err(),
            () = other => unreachable!("it waits for ever"),
        }
    }

    #[tokio::test]
    async fn whoever_is_silent_is_not_waited_for_for_ever() {
        let error = asked(b"", false, Duration::from_millis(10)).await;
        assert!(matches!(error, ClientError::Silent { .. }), "{error}");
        assert!(error.is_absence() && error.exit() == Exit::Unreachable);
    }

    #[rstest]
    #[case(true)]
    #[case(false)]
    #[tokio::test]
    async fn whoever_speaks_no_http_is_named(#[case] before: bool) {
        let error = asked(b"220 mail.example ESMTP\r\n", before, ANSWER).await;
        assert!(matches!(error, ClientError::NotTenantd { .. }), "{error}");
        let pid = format!("(process {})", std::process::id());
        assert!(error.to_string().contains(&pid), "{error}");
    }
}
