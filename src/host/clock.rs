//! The clock: the only place where the product asks what time it is.
//! Deciding code takes times as arguments.

use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;

/// The time of day, for records and for people.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// A clock that never jumps, for measuring how long something takes.
pub fn monotonic() -> Instant {
    Instant::now()
}

/// A message every `period`, the first at once, for as long as they are received.
///
/// A thread of its own sends them, since it sleeps through: tokio's timers wake their process
/// several times in a wait of many seconds.
///
/// # Panics
/// When no thread can be started.
pub fn ticks(period: Duration) -> mpsc::Receiver<()> {
    let (sender, ticks) = mpsc::channel(1);
    thread::Builder::new()
        .name("clock".to_owned())
        .stack_size(256 * 1024)
        .spawn(move || {
            while sender.blocking_send(()).is_ok() {
                thread::sleep(period);
            }
        })
        .expect("a thread can be started while the daemon starts");
    ticks
}
