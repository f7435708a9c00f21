//! Caddy: its version, its admin API over its Unix socket (<https://caddyserver.com/docs/api>), and a greeting that has
//! it get a certificate. What it is told is decided elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Command;

use super::process::{self, ProcessError};

/// Longest wait for an answer: a new configuration is in force when it comes.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Longest answer that is read.
const LIMIT: usize = 4 * 1024 * 1024;

/// Why Caddy does not do what it is told.
#[derive(Debug, thiserror::Error)]
pub enum CaddyError {
    /// There is no such program, or it does not run.
    #[error(
        "Caddy cannot be run; install it (Debian: `apt install caddy`), or put its program at /usr/local/bin/caddy"
    )]
    Program(#[source] ProcessError),
    /// It says no version that is understood.
    #[error("Caddy says its version is {0:?}, which is none; install a release, 2.6 or later")]
    Version(String),
    /// It does not answer.
    #[error("Caddy does not answer at {socket}; `systemctl restart tenantd-front` starts it anew")]
    Silent {
        /// Where it was asked.
        socket: Utf8PathBuf,
        /// Why not, if that is known.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// It refuses what it is told.
    #[error("Caddy refuses its configuration: {0}")]
    Refused(String),
}

/// What `caddy version` says.
pub async fn version() -> Result<String, CaddyError> {
    let mut command = Command::new("caddy");
    command.arg("version");
    let output = process::run(command, TIMEOUT, 4096)
        .await
        .map_err(CaddyError::Program)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A Caddy that runs.
#[derive(Debug, Clone)]
pub struct Admin {
    socket: Utf8PathBuf,
    origin: &'static str,
}

impl Admin {
    /// The one that listens at `socket` for those who call it `origin`.
    pub fn new(socket: &Utf8Path, origin: &'static str) -> Self {
        Self {
            socket: socket.to_owned(),
            origin,
        }
    }

    /// The configuration in force.
    pub async fn config(&self) -> Result<Value, CaddyError> {
        let bytes = self.call(Method::GET, "/config/", Bytes::new()).await?;
        serde_json::from_slice(&bytes).map_err(|source| self.silent(source))
    }

    /// Brings a configuration in force, the whole of it or nothing.
    pub async fn load(&self, config: &Value) -> Result<(), CaddyError> {
        let body = Bytes::from(config.to_string());
        self.call(Method::POST, "/load", body).await.map(drop)
    }

    async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, CaddyError> {
        tokio::time::timeout(TIMEOUT, self.call_without_limit(method, path, body))
            .await
            .unwrap_or_else(|_| {
                let socket = self.socket.clone();
                Err(CaddyError::Silent {
                    socket,
                    source: None,
                })
            })
    }

    async fn call_without_limit(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, CaddyError> {
        let stream = UnixStream::connect(self.socket.as_std_path())
            .await
            .map_err(|source| self.silent(source))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|source| self.silent(source))?;
        // Ends by itself when the exchange is over, because the sender is dropped.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.origin)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close")
            .body(Full::new(body))
            .map_err(|source| self.silent(source))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|source| self.silent(source))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LIMIT).collect().await;
        let body = body
            .map_err(|source| CaddyError::Silent {
                socket: self.socket.clone(),
                source: Some(source),
            })?
            .to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        let said = serde_json::from_slice::<Value>(&body).ok();
        let said = said.as_ref().and_then(|said| said["error"].as_str());
        Err(CaddyError::Refused(
            said.map_or_else(|| status.to_string(), str::to_owned),
        ))
    }

    fn silent(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CaddyError {
        CaddyError::Silent {
            socket: self.socket.clone(),
            source: Some(source.into()),
        }
    }
}

/// The content type of a TLS record that goes on with the handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// Begins a TLS connection for `host` as a browser would, which has a server that gets certificates on demand get one,
/// and says whether it has one. No more is said: nothing is trusted, and so nothing checked.
pub async fn greet(address: SocketAddr, host: &str, patience: Duration) -> bool {
    let greeted = async {
        let hello = client_hello(host)?;
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(&hello).await.ok()?;
        let mut kind = [0; 1];
        stream.read_exact(&mut kind).await.ok()?;
        Some(kind[0] == HANDSHAKE)
    };
    let answer = tokio::time::timeout(patience, greeted).await;
    answer.ok().flatten().unwrap_or(false)
}

/// The bytes with which a client begins.
fn client_hello(host: &str) -> Option<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let mut client = ClientConnection::new(Arc::new(config), name).ok()?;
    let mut hello = Vec::new();
    client.write_tls(&mut hello).ok()?;
    Some(hello)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::net::{TcpListener, UnixListener};

    use super::*;

    async fn answered(answer: &'static str) -> (Result<(), CaddyError>, String) {
        let dir = tempfile::tempdir().unwrap();
        let socket = Utf8PathBuf::from_path_buf(dir.path().join("s")).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"{\"a\":1}") {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(request).unwrap()
        });
        let loaded = Admin::new(&socket, "tenantd")
            .load(&json!({ "a": 1 }))
            .await;
        (loaded, server.await.unwrap())
    }

    #[tokio::test]
    async fn a_configuration_is_loaded_by_who_knows_the_origin() {
        let (loaded, request) = answered("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        loaded.unwrap();
        assert!(request.starts_with("POST /load HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("host: tenantd\r\n"), "{request}");
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_caddys_words() {
        let answer = "HTTP/1.1 400 Bad Request\r\nContent-Length: 39\r\n\r\n{\"error\":\"json: unknown field \\\"bad\\\"\"}\n";
        let (loaded, _) = answered(answer).await;
        let said = loaded.unwrap_err().to_string();
        assert_eq!(
            said,
            "Caddy refuses its configuration: json: unknown field \"bad\""
        );
    }

    #[tokio::test]
    async fn a_socket_without_caddy_says_what_to_do() {
        let admin = Admin::new("/nowhere/admin.sock".into(), "tenantd");
        let error = admin.config().await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("systemctl restart tenantd-front"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_greeting_names_the_host_and_hears_whether_it_is_known() {
        for (answer, known) in [(HANDSHAKE, true), (21, false)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut hello = Vec::new();
                let name = b"acme.example.org";
                while !hello.windows(name.len()).any(|part| part == name) {
                    assert_ne!(stream.read_buf(&mut hello).await.unwrap(), 0);
                }
                stream.write_all(&[answer]).await.unwrap();
            });
            let patience = Duration::from_secs(10);
            assert_eq!(greet(address, "acme.example.org", patience).await, known);
            server.await.unwrap();
        }
    }
}
