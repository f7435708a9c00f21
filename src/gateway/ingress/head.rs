//! The head of a request that came while the agent was not there: read to know whether it may wake anybody and how its
//! sender is answered. It is given to the agent as it was.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Longest head that is read.
const LIMIT: usize = 16 * 1024;

/// Longest time for it.
const TIME: Duration = Duration::from_secs(5);

/// The bytes of a request, to the end of its head or a little further.
#[derive(Debug, Default)]
pub(super) struct Head {
    bytes: Vec<u8>,
    /// The head has its end, or its sender has.
    is_whole: bool,
}

impl Head {
    /// Reads a head; `None` when the client closed, or waited, without a word.
    pub(super) async fn read(client: &mut UnixStream) -> Option<Self> {
        let mut head = Self {
            bytes: Vec::with_capacity(1024),
            is_whole: false,
        };
        let reading = async {
            while head.bytes.len() < LIMIT {
                let before = head.bytes.len().saturating_sub(3);
                match client.read_buf(&mut head.bytes).await {
                    Ok(0) => {
                        head.is_whole = true;
                        return;
                    }
                    Err(_) => return,
                    Ok(_) => {}
                }
                if head.bytes[before..]
                    .windows(4)
                    .any(|end| end == b"\r\n\r\n")
                {
                    head.is_whole = true;
                    return;
                }
            }
        };
        // What came until then may be all there is.
        let _ = timeout(TIME, reading).await;
        (!head.bytes.is_empty()).then_some(head)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether all of it is there; one that is longer than any sender needs is not.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub(super) fn is_for_head(&self) -> bool {
        self.bytes.starts_with(b"HEAD ")
    }

    /// The path that is asked for, without its query.
    fn path(&self) -> Option<&str> {
        let line = self.bytes.split(|byte| *byte == b'\r').next()?;
        let target = std::str::from_utf8(line).ok()?.split(' ').nth(1)?;
        target.split('?').next()
    }

    /// Whether it asks what only probes ask. `probes` are their paths.
    pub(super) fn is_probe(&self, probes: &[String]) -> bool {
        let Some(path) = self.path() else {
            return false;
        };
        self.is_for_head()
            || probes
                .iter()
                .any(|probe| probe.split('?').next() == Some(path))
    }

    /// Whether a person looks at the answer: a browser that goes to a page.
    pub(super) fn is_from_browser(&self) -> bool {
        let text = String::from_utf8_lossy(&self.bytes);
        let mut lines = text.split("\r\n").take_while(|line| !line.is_empty());
        let is_get = lines.next().is_some_and(|line| line.starts_with("GET "));
        let fields: Vec<_> = lines.filter_map(|line| line.split_once(':')).collect();
        let has = |name: &str, what: &str| {
            fields.iter().any(|(field, value)| {
                field.eq_ignore_ascii_case(name) && value.to_ascii_lowercase().contains(what)
            })
        };
        is_get && has("accept", "text/html") && !has("upgrade", "")
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn head(text: &str) -> Head {
        Head {
            bytes: text.as_bytes().to_vec(),
            is_whole: true,
        }
    }

    #[rstest]
    #[case(
        "GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html,*/*;q=0.8\r\n\r\n",
        true
    )]
    #[case("GET / HTTP/1.1\r\nACCEPT: TEXT/HTML\r\n\r\n", true)]
    #[case("GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n", false)]
    #[case("POST / HTTP/1.1\r\nAccept: text/html\r\n\r\n", false)]
    #[case("GET / HTTP/1.1\r\n\r\nAccept: text/html\r\n\r\n", false)]
    #[case(
        "GET / HTTP/1.1\r\nAccept: text/html\r\nUpgrade: websocket\r\n\r\n",
        false
    )]
    #[case("hello", false)]
    fn a_browser_is_known_by_what_it_wants(#[case] text: &str, #[case] expected: bool) {
        assert_eq!(head(text).is_from_browser(), expected);
    }

    #[rstest]
    #[case("HEAD / HTTP/1.1\r\n\r\n", true)]
    #[case::a_browsers_question_before_the_real_one("OPTIONS / HTTP/1.1\r\n\r\n", false)]
    #[case("GET /healthz HTTP/1.1\r\n\r\n", true)]
    #[case("GET /healthz?full=1 HTTP/1.1\r\n\r\n", true)]
    #[case("GET /healthz/other HTTP/1.1\r\n\r\n", false)]
    #[case("GET / HTTP/1.1\r\n\r\n", false)]
    #[case("nonsense", false)]
    fn a_probe_is_known_by_its_method_or_path(#[case] text: &str, #[case] expected: bool) {
        let probes = ["/healthz".to_owned()];
        assert_eq!(head(text).is_probe(&probes), expected);
    }
}
