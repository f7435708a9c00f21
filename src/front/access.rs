//! A line of the access log, as Caddy writes it and as people and programs read it.
//! It reads; which lines are whose is told by their hosts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One request that the front has served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AccessLine {
    /// When it was answered.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who asked: an address.
    pub client: String,
    /// The host that was asked for.
    pub host: String,
    /// The method.
    pub method: String,
    /// The path, without what follows a question mark.
    pub path: String,
    /// The protocol, such as `HTTP/2.0`.
    pub protocol: String,
    /// The status of the answer; 0 where none was given.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
}

#[derive(Deserialize)]
struct Line {
    ts: f64,
    request: Request,
    #[serde(default)]
    status: u16,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    duration: f64,
}

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    remote_ip: String,
    #[serde(default)]
    proto: String,
    #[serde(default)]
    method: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    uri: String,
}

impl AccessLine {
    /// Reads a line; `None` when it is no such line.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let line: Line = serde_json::from_slice(line).ok()?;
        let at = jiff::SignedDuration::try_from_secs_f64(line.ts).ok()?;
        let host = match line.request.host.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => &line.request.host,
        };
        Some(Self {
            at: Timestamp::UNIX_EPOCH.checked_add(at).ok()?,
            client: line.request.remote_ip,
            host: host.to_ascii_lowercase(),
            method: line.request.method,
            path: line.request.uri,
            protocol: line.request.proto,
            status: line.status,
            bytes: line.size,
            seconds: line.duration,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_caddy_is_read() {
        let line = br#"{"level":"info","ts":1795305394.948065,"logger":"http.log.access","msg":"handled request","request":{"remote_ip":"192.0.2.7","remote_port":"50726","proto":"HTTP/2.0","method":"GET","host":"acme.example.org:8443","uri":"/x"},"duration":0.001703147,"size":237,"status":200}"#;
        let read = AccessLine::parse(line).unwrap();
        assert_eq!(
            (&*read.host, &*read.client, &*read.path),
            ("acme.example.org", "192.0.2.7", "/x")
        );
        assert_eq!(
            (read.status, read.bytes, read.at.as_second()),
            (200, 237, 1_795_305_394)
        );
    }

    #[test]
    fn what_is_no_line_is_left_out() {
        for line in [
            "",
            "{}",
            "null",
            r#"{"ts":1e300,"request":{}}"#,
            r#"{"ts":"x","request":{}}"#,
        ] {
            assert_eq!(AccessLine::parse(line.as_bytes()), None, "{line}");
        }
    }
}
