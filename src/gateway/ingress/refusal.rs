//! What the door answers in the agent's place: a complete HTTP/1.1 response and a clean end.
//! It reads no more of the request than it needs.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Longest head of a request that is read before it is refused.
const HEAD_LIMIT: usize = 16 * 1024;

/// Longest time for the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(5);

/// Longest time for our answer and for the client to close after it.
const FAREWELL_TIME: Duration = Duration::from_secs(1);

/// Most of a refused request's body that is read and thrown away: a connection closed with
/// unread bytes is reset, and the client might lose the answer.
const LINGER_LIMIT: u64 = 1024 * 1024;

/// How a tenant is held, as the first word of its `held` file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// By `stop`.
    Stopped,
    /// By `suspend`.
    Suspended,
}

impl Held {
    /// The word that begins the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Suspended => "suspended",
        }
    }

    /// Reads the file's text; files of older versions hold a reason only.
    pub fn of_file(text: &str) -> Self {
        match text.strip_prefix(Self::Suspended.as_str()) {
            Some(rest) if rest.is_empty() || rest.starts_with(':') => Self::Suspended,
            _ => Self::Stopped,
        }
    }
}

/// Why the door answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The tenant is held. Why is between its operator and whoever pays, not for visitors.
    Held(Held),
    /// The agent did not come in time.
    NotThere,
    /// Too many are waiting for the agent already.
    Crowded,
}

impl Refusal {
    /// After how many seconds a client may ask again.
    fn retry_after(self) -> u32 {
        match self {
            Self::Held(_) => 300,
            Self::NotThere => 5,
            Self::Crowded => 10,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Held(Held::Stopped) => "This agent is stopped on purpose.\n".to_owned(),
            Self::Held(Held::Suspended) => {
                "This agent is suspended; its operator can say more.\n".to_owned()
            }
            Self::NotThere => "The agent is starting or broken. Try again soon.\n".to_owned(),
            Self::Crowded => {
                "The agent is starting and many are waiting. Try again soon.\n".to_owned()
            }
        }
    }

    /// The response to a request whose head begins like `head` (RFC 9110, section 15.6.4).
    fn response(self, head: &[u8]) -> Vec<u8> {
        let text = self.text();
        let mut response = format!(
            "HTTP/1.1 503 Service Unavailable\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\n\
             Retry-After: {}\r\n\
             Cache-Control: no-store\r\n\
             Connection: close\r\n\
             \r\n",
            text.len(),
            self.retry_after(),
        );
        // The answer to HEAD has the length of the body but no body.
        if !head.starts_with(b"HEAD ") {
            response.push_str(&text);
        }
        response.into_bytes()
    }

    /// Answers the request on `client` and closes the connection; a client that sends nothing
    /// gets nothing.
    pub(super) async fn send(self, mut client: UnixStream) {
        let Ok(Some(head)) = timeout(HEAD_TIME, read_head(&mut client)).await else {
            return;
        };
        let farewell = async {
            client.write_all(&self.response(&head)).await?;
            client.shutdown().await?;
            tokio::io::copy(&mut client.take(LINGER_LIMIT), &mut tokio::io::sink()).await
        };
        // A client that went away or lingers has had its answer or does not want it.
        let _ = timeout(FAREWELL_TIME, farewell).await;
    }
}

/// Reads to the end of the request's head; `None` when the client closed without a word.
async fn read_head(client: &mut UnixStream) -> Option<Vec<u8>> {
    let mut head = Vec::with_capacity(1024);
    while head.len() < HEAD_LIMIT && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match client.read_buf(&mut head).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    (!head.is_empty()).then_some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_response_is_complete() {
        insta::assert_snapshot!(
            String::from_utf8(Refusal::Held(Held::Suspended).response(b"GET / HTTP/1.1")).unwrap(),
            @r"
        HTTP/1.1 503 Service Unavailable
        Content-Type: text/plain; charset=utf-8
        Content-Length: 52
        Retry-After: 300
        Cache-Control: no-store
        Connection: close

        This agent is suspended; its operator can say more.
        "
        );
    }

    #[test]
    fn a_held_file_says_how_and_a_visitor_never_hears_why() {
        for (text, held) in [
            ("suspended: unpaid since May", Held::Suspended),
            ("suspended", Held::Suspended),
            ("stopped", Held::Stopped),
            (
                "suspended by mistake, says the file of an old version",
                Held::Stopped,
            ),
            ("", Held::Stopped),
        ] {
            assert_eq!(Held::of_file(text), held, "{text}");
            assert!(!Refusal::Held(held).text().contains("unpaid"));
        }
    }

    #[test]
    fn head_gets_no_body_but_its_length() {
        let response = String::from_utf8(Refusal::NotThere.response(b"HEAD / HTTP/1.1")).unwrap();
        assert!(response.ends_with("\r\n\r\n"));
        assert!(response.contains("Content-Length: 49\r\n"), "{response}");
    }
}
