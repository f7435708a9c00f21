//! What the door decided, one line of the log for each: what was asked for, how, and why it was let through or not.
//! A tenant that asks without end gets a share of lines, and the rest are counted.

use std::fmt;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::judge::Refusal;

/// How the tenant asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// It asked for the name's address.
    Name,
    /// Through the proxy, by `CONNECT`.
    Connect,
    /// Through the proxy, by a plain request.
    Request,
    /// By connecting to the address that stands for the name.
    Transparent,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "name",
            Self::Connect => "connect",
            Self::Request => "request",
            Self::Transparent => "transparent",
        })
    }
}

/// Lines of one minute for what was let through, and as many for what was refused; a busy agent makes some ten.
const LINES: u32 = 300;

/// For which [`LINES`] are.
const WINDOW: Duration = Duration::from_mins(1);

/// Writes decisions to the door's log.
#[derive(Debug)]
pub struct Log {
    window: Mutex<Window>,
}

/// Refusals cost nothing, so they must not keep back what was let through.
#[derive(Debug)]
struct Window {
    since: Instant,
    allowed: Share,
    refused: Share,
}

impl Window {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            allowed: Share::default(),
            refused: Share::default(),
        }
    }
}

/// What is left of a window's lines. Pure, for its own test.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Share {
    written: u32,
    kept_back: u32,
}

impl Share {
    /// Whether one more line is written.
    fn take(&mut self) -> bool {
        let is_free = self.written < LINES;
        *(if is_free {
            &mut self.written
        } else {
            &mut self.kept_back
        }) += 1;
        is_free
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            window: Mutex::new(Window::new()),
        }
    }
}

impl Log {
    /// Something was let through.
    pub fn allowed(&self, by: By, destination: &str, address: Option<IpAddr>, reported: bool) {
        if self.is_free(|window| &mut window.allowed) {
            let address = address.map(tracing::field::display);
            tracing::info!(decision = "allowed", %by, destination, address, reported, "allowed");
        }
    }

    /// Something was refused.
    pub fn refused(&self, by: By, destination: &str, refusal: Refusal) {
        if self.is_free(|window| &mut window.refused) {
            tracing::warn!(decision = "refused", %by, destination, code = refusal.code(), "refused: {refusal}");
        }
    }

    fn is_free(&self, share: impl FnOnce(&mut Window) -> &mut Share) -> bool {
        let mut window = self
            .window
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if window.since.elapsed() >= WINDOW {
            let kept_back = window.allowed.kept_back + window.refused.kept_back;
            *window = Window::new();
            if kept_back > 0 {
                tracing::warn!(kept_back, "more decisions than lines in the last minute");
            }
        }
        share(&mut window).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_decisions_is_counted_and_not_written() {
        let mut share = Share::default();
        let written = (0..1000).filter(|_| share.take()).count();
        assert_eq!(written, LINES as usize);
        assert_eq!(share.kept_back, 1000 - LINES);
    }

    #[test]
    fn a_flood_of_refusals_keeps_back_no_line_of_what_is_let_through() {
        let log = Log::default();
        for _ in 0..=LINES {
            log.refused(By::Connect, "a.example:443", Refusal::NotListed);
        }
        assert!(!log.is_free(|window| &mut window.refused));
        assert!(log.is_free(|window| &mut window.allowed));
    }
}
