//! What the door answers in the agent's place: a complete HTTP/1.1 response and a clean end.
//! It reads no more of the request than it needs.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::head::Head;

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
    /// It sleeps, and what is asked wakes nobody.
    Asleep,
    /// It is on its way, and a person waits: a page that asks again by itself.
    Waking,
    /// No request that an agent would be woken for.
    TooLong,
}

impl Refusal {
    /// After how many seconds a client may ask again.
    fn retry_after(self) -> u32 {
        match self {
            Self::Held(_) | Self::TooLong => 300,
            Self::NotThere => 5,
            Self::Crowded => 10,
            Self::Asleep => 60,
            Self::Waking => 2,
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
            Self::Asleep => "The agent sleeps; a probe does not wake it.\n".to_owned(),
            Self::Waking => WAITING_PAGE.to_owned(),
            Self::TooLong => {
                "The head of the request is too long, or did not come in time.\n".to_owned()
            }
        }
    }

    /// The response to a request whose head begins like `head` (RFC 9110, section 15.6.4).
    fn response(self, head: &[u8]) -> Vec<u8> {
        let text = self.text();
        let (status, kind) = match self {
            Self::TooLong => ("431 Request Header Fields Too Large", "text/plain"),
            Self::Waking => ("503 Service Unavailable", "text/html"),
            _ => ("503 Service Unavailable", "text/plain"),
        };
        let mut response = format!(
            "HTTP/1.1 {status}\r\n\
             Content-Type: {kind}; charset=utf-8\r\n\
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
    /// gets nothing. `head` is what was read of it before, if anything was.
    pub(super) async fn send(self, mut client: UnixStream, head: Option<Head>) {
        let head = match head {
            Some(head) => head,
            None => match Head::read(&mut client).await {
                Some(head) => head,
                None => return,
            },
        };
        let farewell = async {
            client.write_all(&self.response(head.bytes())).await?;
            client.shutdown().await?;
            tokio::io::copy(&mut client.take(LINGER_LIMIT), &mut tokio::io::sink()).await
        };
        // A client that went away or lingers has had its answer or does not want it.
        let _ = timeout(FAREWELL_TIME, farewell).await;
    }
}

/// What a person sees while an agent wakes. It needs nothing from elsewhere, and asks again by itself.
const WAITING_PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="2">
<title>Waking up</title>
<style>
body { font: 1.1rem/1.5 system-ui, sans-serif; display: grid; place-content: center; min-height: 90vh; text-align: center; color-scheme: light dark }
i { display: inline-block; width: 1.5rem; height: 1.5rem; border: .2rem solid; border-top-color: transparent; border-radius: 50%; animation: turn 1s linear infinite }
@keyframes turn { to { transform: rotate(1turn) } }
</style>
<p><i></i>
<p>The agent is waking up.<br>This page opens it when it is ready.
</html>
"#;

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
