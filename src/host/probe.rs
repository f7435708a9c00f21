//! Asks an agent over HTTP how it is: through its ingress socket, or by TCP inside the
//! namespace of the asking process. It asks once, or until the agent is ready; for how long is the caller's choice.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use camino::Utf8PathBuf;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::clock;
use crate::tenant::HttpProbe;

/// First and longest pause between two probes of a starting agent.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));

/// Longest time for one probe of a starting agent.
const ONE: Duration = Duration::from_secs(5);

/// Longest answer that is read when it must be JSON.
const BODY_LIMIT: usize = 1024 * 1024;

/// Where the agent is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A Unix socket, the way its users come.
    Unix(Utf8PathBuf),
    /// A TCP address in the network namespace of this process.
    Tcp(SocketAddr),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{path}"),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

/// Why the agent is not ready.
#[derive(Debug, thiserror::Error)]
pub enum Unready {
    /// Nobody listens, or the connection broke.
    #[error("{target} cannot be reached")]
    Unreachable {
        /// Where it was asked.
        target: Target,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// It did not answer in time.
    #[error("{target} did not answer {path} within {} s", limit.as_secs_f32())]
    Silent {
        /// Where it was asked.
        target: Target,
        /// What was asked.
        path: String,
        /// The time it was given.
        limit: Duration,
    },
    /// Its answer was no HTTP.
    #[error("{target} gave no valid answer to {path}")]
    Garbled {
        /// Where it was asked.
        target: Target,
        /// What was asked.
        path: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It answered that it is not ready.
    #[error("{target} answered {path} with {status}")]
    Status {
        /// Where it was asked.
        target: Target,
        /// What was asked.
        path: String,
        /// Its answer.
        status: StatusCode,
    },
    /// It answered, but not with JSON: some agents answer 200 with their web page to every path.
    #[error("{target} answered {path} with something other than JSON")]
    NotJson {
        /// Where it was asked.
        target: Target,
        /// What was asked.
        path: String,
    },
}

/// Why a starting agent did not become ready.
#[derive(Debug, thiserror::Error)]
pub enum NeverReady {
    /// It ended first.
    #[error("the agent ended before it was ready")]
    Ended,
    /// Its time is over.
    #[error("the agent was not ready within {} s", limit.as_secs())]
    Late {
        /// The time it was given.
        limit: Duration,
        /// What it answered last.
        #[source]
        source: Unready,
    },
}

/// Asks a starting agent until it is ready, for at most `limit`, and only as long as it is alive. `note` is given each
/// answer that is not the one.
pub async fn until_ready(
    target: &Target,
    probe: &HttpProbe,
    limit: Duration,
    is_alive: impl Fn() -> bool,
    mut note: impl FnMut(&Unready),
) -> Result<(), NeverReady> {
    let begin = clock::monotonic();
    let mut pause = PAUSE.0;
    loop {
        let source = match ask(target, probe, ONE).await {
            Ok(()) => return Ok(()),
            Err(source) => source,
        };
        note(&source);
        if !is_alive() {
            return Err(NeverReady::Ended);
        }
        if begin.elapsed() >= limit {
            return Err(NeverReady::Late { limit, source });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Sends one request with `POST` and no body, for a 2xx answer.
///
/// # Errors
/// There is none in time, or another one.
pub async fn post(target: &Target, path: &str, limit: Duration) -> Result<(), Unready> {
    let request = HttpProbe {
        path: path.to_owned(),
        json: false,
    };
    within(
        limit,
        target,
        &request,
        connect(target, &request, Method::POST),
    )
    .await
}

/// Asks once, with `GET`. Ready means a 2xx status and, where the probe says so, a JSON body.
pub async fn ask(target: &Target, probe: &HttpProbe, limit: Duration) -> Result<(), Unready> {
    within(limit, target, probe, connect(target, probe, Method::GET)).await
}

/// As [`ask`], over a connection that is there already.
pub async fn ask_over(
    stream: std::net::TcpStream,
    target: &Target,
    probe: &HttpProbe,
    limit: Duration,
) -> Result<(), Unready> {
    let unreachable = |source| Unready::Unreachable {
        target: target.clone(),
        source,
    };
    stream.set_nonblocking(true).map_err(unreachable)?;
    let stream = TcpStream::from_std(stream).map_err(unreachable)?;
    within(
        limit,
        target,
        probe,
        exchange(stream, target, probe, Method::GET),
    )
    .await
}

async fn within(
    limit: Duration,
    target: &Target,
    probe: &HttpProbe,
    answer: impl Future<Output = Result<(), Unready>>,
) -> Result<(), Unready> {
    tokio::time::timeout(limit, answer)
        .await
        .unwrap_or_else(|_| {
            Err(Unready::Silent {
                target: target.clone(),
                path: probe.path.clone(),
                limit,
            })
        })
}

async fn connect(target: &Target, probe: &HttpProbe, method: Method) -> Result<(), Unready> {
    let unreachable = |source| Unready::Unreachable {
        target: target.clone(),
        source,
    };
    match target {
        Target::Unix(path) => {
            let stream = UnixStream::connect(path.as_std_path())
                .await
                .map_err(unreachable)?;
            exchange(stream, target, probe, method).await
        }
        Target::Tcp(address) => {
            let stream = TcpStream::connect(address).await.map_err(unreachable)?;
            exchange(stream, target, probe, method).await
        }
    }
}

async fn exchange<S>(
    stream: S,
    target: &Target,
    probe: &HttpProbe,
    method: Method,
) -> Result<(), Unready>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let path = &probe.path;
    let garbled = |source: Box<dyn std::error::Error + Send + Sync>| Unready::Garbled {
        target: target.clone(),
        path: path.clone(),
        source,
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| garbled(error.into()))?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| garbled(error.into()))?;
    // The connection is driven beside the exchange and ends with it.
    let answer = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| garbled(error.into()))?;
        let status = response.status();
        let body = if probe.json && status.is_success() {
            let body = Limited::new(response.into_body(), BODY_LIMIT)
                .collect()
                .await;
            Some(body.map_err(garbled)?.to_bytes())
        } else {
            None
        };
        Ok((status, body))
    };
    tokio::pin!(answer);
    let (status, body) = tokio::select! {
        answer = &mut answer => answer?,
        // The connection may end with the answer still to be taken from it.
        _ = connection => answer.await?,
    };
    judge(status, body.as_deref(), target, path)
}

fn judge(
    status: StatusCode,
    body: Option<&[u8]>,
    target: &Target,
    path: &str,
) -> Result<(), Unready> {
    if !status.is_success() {
        return Err(Unready::Status {
            target: target.clone(),
            path: path.to_owned(),
            status,
        });
    }
    match body {
        Some(body) if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_err() => {
            Err(Unready::NotJson {
                target: target.clone(),
                path: path.to_owned(),
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request with `answer` and closes.
    async fn agent(answer: &'static str) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /startupz HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        Target::Tcp(address)
    }

    const OK_JSON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"ok\":true}";
    const OK_PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>";
    const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    const UNTIL_CLOSE: &str = "HTTP/1.0 200 OK\r\n\r\n[]";

    #[rstest]
    #[case(OK_JSON, true, "ready")]
    #[case(OK_PAGE, false, "ready")]
    #[case(UNTIL_CLOSE, true, "ready")]
    #[case(OK_PAGE, true, "answered /startupz with something other than JSON")]
    #[case(BUSY, false, "answered /startupz with 503 Service Unavailable")]
    #[case("hello\r\n\r\n", false, "gave no valid answer to /startupz")]
    #[case("", false, "gave no valid answer to /startupz")]
    #[tokio::test]
    async fn judges(#[case] answer: &'static str, #[case] json: bool, #[case] expected: &str) {
        let target = agent(answer).await;
        let probe = HttpProbe {
            path: "/startupz".to_owned(),
            json,
        };
        let verdict = match ask(&target, &probe, Duration::from_secs(20)).await {
            Ok(()) => "ready".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(verdict.ends_with(expected), "{verdict}");
    }

    #[tokio::test]
    async fn an_agent_that_only_listens_is_silent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::Tcp(listener.local_addr().unwrap());
        let probe = HttpProbe {
            path: "/".to_owned(),
            json: false,
        };
        let error = ask(&target, &probe, Duration::from_millis(30)).await;
        assert!(matches!(error, Err(Unready::Silent { .. })), "{error:?}");
    }

    #[tokio::test]
    async fn a_socket_that_is_not_there_is_named() {
        let target = Target::Unix("/run/absent.sock".into());
        let probe = HttpProbe {
            path: "/".to_owned(),
            json: false,
        };
        let error = ask(&target, &probe, Duration::from_secs(1))
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "/run/absent.sock cannot be reached");
    }
}
