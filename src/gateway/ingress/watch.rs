//! What passes between a client and an agent, as far as it tells whether they have something to do: it looks at the
//! first bytes of answers and at the borders of WebSocket frames, and changes nothing.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::frames::Frames;

/// Longest head of an answer that switches protocols; with a longer one, all that follows counts as data.
const HEAD: usize = 8 * 1024;

/// How an answer begins that switches protocols (RFC 9110, section 15.2.2).
const SWITCHING: &[u8] = b"HTTP/1.1 101 ";

/// When a door last had something to carry.
#[derive(Debug)]
pub(super) struct Activity {
    begin: Instant,
    /// Milliseconds since the begin.
    last: AtomicU64,
    /// Requests that wait for an answer.
    in_flight: AtomicUsize,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            begin: Instant::now(),
            last: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
        }
    }

    /// Something was carried, or somebody came.
    pub(super) fn note(&self) {
        let now = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// Somebody waits.
    pub(super) fn waits(&self) -> Waits<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Waits(self)
    }

    /// For how long nothing was carried that counts; none while a request waits for its answer.
    pub(super) fn quiet(&self) -> Option<Duration> {
        if self.in_flight.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        Some(self.begin.elapsed().saturating_sub(last))
    }
}

/// Somebody waits for the agent; until it is dropped, the agent has something to do.
#[derive(Debug)]
pub(super) struct Waits<'a>(&'a Activity);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.0.note();
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    activity: &'a Activity,
    phase: Phase,
    /// Its last bytes came from the client.
    is_asking: bool,
}

#[derive(Debug)]
enum Phase {
    /// HTTP.
    Plain,
    /// The head of an answer that switches protocols, as far as it is there.
    Switching(Vec<u8>),
    /// WebSocket: from the client, and from the agent.
    Frames(Box<(Frames, Frames)>),
    /// Something else: all of it is data.
    Opaque,
}

impl<'a> Watch<'a> {
    pub(super) fn new(activity: &'a Activity) -> Self {
        activity.note();
        Self {
            activity,
            phase: Phase::Plain,
            is_asking: false,
        }
    }

    /// Bytes pass from the client.
    pub(super) fn client_sent(&mut self, bytes: &[u8]) {
        match &mut self.phase {
            Phase::Frames(frames) => {
                if frames.0.pass(bytes) {
                    self.activity.note();
                }
            }
            Phase::Plain => {
                self.ask(true);
                self.activity.note();
            }
            Phase::Switching(_) | Phase::Opaque => self.activity.note(),
        }
    }

    /// Bytes pass from the agent.
    pub(super) fn agent_sent(&mut self, bytes: &[u8]) {
        self.ask(false);
        match &mut self.phase {
            Phase::Frames(frames) => {
                if frames.1.pass(bytes) {
                    self.activity.note();
                }
                return;
            }
            Phase::Plain if bytes.starts_with(SWITCHING) => {
                self.phase = Phase::Switching(Vec::new());
                self.switch(bytes);
            }
            Phase::Switching(_) => self.switch(bytes),
            Phase::Plain | Phase::Opaque => {}
        }
        self.activity.note();
    }

    /// Whether a close frame may be sent to both sides: it is a WebSocket, and between two frames each way.
    pub(super) fn is_between_frames(&self) -> bool {
        match &self.phase {
            Phase::Frames(frames) => frames.0.is_between() && frames.1.is_between(),
            Phase::Plain | Phase::Switching(_) | Phase::Opaque => false,
        }
    }

    fn switch(&mut self, bytes: &[u8]) {
        let Phase::Switching(head) = &mut self.phase else {
            return;
        };
        head.extend_from_slice(&bytes[..bytes.len().min(HEAD)]);
        if let Some(end) = head.windows(4).position(|end| end == b"\r\n\r\n") {
            let mut frames = Box::<(Frames, Frames)>::default();
            let is_websocket = upgrades_to_websocket(&head[..end]);
            frames.1.pass(&head[end + 4..]);
            self.phase = if is_websocket {
                Phase::Frames(frames)
            } else {
                Phase::Opaque
            };
        } else if head.len() >= HEAD {
            self.phase = Phase::Opaque;
        }
    }

    fn ask(&mut self, is_asking: bool) {
        if self.is_asking != is_asking {
            self.is_asking = is_asking;
            if is_asking {
                self.activity.in_flight.fetch_add(1, Ordering::Relaxed);
            } else {
                self.activity.in_flight.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.ask(false);
        self.activity.note();
    }
}

fn upgrades_to_websocket(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.any(|(name, value)| name.trim() == "upgrade" && value.trim() == "websocket")
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPGRADED: &[u8] =
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n";
    const PING: [u8; 2] = [0x89, 0];
    const TEXT: [u8; 3] = [0x81, 1, b'x'];

    /// Whether something was noted since this was last asked.
    fn was_noted(activity: &Activity) -> bool {
        activity.last.swap(u64::MAX, Ordering::Relaxed) != u64::MAX
    }

    #[tokio::test]
    async fn ping_and_pong_keep_nobody_awake_and_a_message_does() {
        let activity = Activity::new();
        let mut watch = Watch::new(&activity);
        watch.client_sent(b"GET /socket HTTP/1.1\r\n\r\n");
        // The head may come in pieces, and the first frame with its end.
        watch.agent_sent(&UPGRADED[..40]);
        watch.agent_sent(&[&UPGRADED[40..], &PING].concat());
        assert!(watch.is_between_frames());
        assert!(was_noted(&activity));
        watch.client_sent(&PING);
        watch.agent_sent(&PING);
        assert!(!was_noted(&activity));
        watch.agent_sent(&TEXT[..2]);
        assert!(!watch.is_between_frames());
        watch.agent_sent(&TEXT[2..]);
        assert!(was_noted(&activity));
        assert!(watch.is_between_frames());
    }

    #[tokio::test]
    async fn a_request_without_an_answer_is_in_flight_until_its_end() {
        let activity = Activity::new();
        let mut watch = Watch::new(&activity);
        watch.client_sent(b"POST / HTTP/1.1\r\n\r\n");
        assert_eq!(activity.quiet(), None);
        watch.agent_sent(b"HTTP/1.1 200 OK\r\n\r\n");
        assert!(activity.quiet().is_some());
        watch.client_sent(b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(activity.quiet(), None);
        assert!(was_noted(&activity));
        drop(watch);
        assert!(was_noted(&activity), "its end is the last sign of use");
        assert!(activity.quiet().is_some());
        let waits = activity.waits();
        assert_eq!(activity.quiet(), None);
        drop(waits);
        assert!(activity.quiet().is_some());
    }

    #[tokio::test]
    async fn what_is_switched_to_something_else_or_never_is_all_data() {
        let activity = Activity::new();
        let mut watch = Watch::new(&activity);
        watch.agent_sent(b"HTTP/1.1 101 X\r\nupgrade: echo\r\n\r\n");
        assert!(matches!(watch.phase, Phase::Opaque));
        assert!(was_noted(&activity));
        watch.client_sent(&PING);
        assert!(was_noted(&activity));
        let mut watch = Watch::new(&activity);
        watch.agent_sent(&[SWITCHING, &vec![b'x'; 3 * HEAD]].concat());
        assert!(matches!(watch.phase, Phase::Opaque));
    }
}
