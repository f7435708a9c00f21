//! Shows how far a command of this process is: one moving line on a terminal, a line now and then elsewhere.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::ProgressBar;

use super::console::Console;
use super::human::{bytes, length};
use crate::backup::{Measure, Meter, Progress, Stage, SystemClock};

/// How often a moving line changes.
const MOVING: Duration = Duration::from_millis(200);
/// How often a plain line is written.
const PLAIN: Duration = Duration::from_secs(10);

/// Shows progress on standard error, until it is dropped.
pub fn shown(console: Console) -> Arc<dyn Progress> {
    if console.moving {
        let bar = Bar(ProgressBar::new_spinner());
        return Arc::new(Meter::new(Arc::new(SystemClock), MOVING, move |measure| {
            bar.0.set_message(line(measure));
            bar.0.tick();
        }));
    }
    let last = Mutex::new(None::<Stage>);
    Arc::new(Meter::new(Arc::new(SystemClock), PLAIN, move |measure| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        // The short stages would say more than there is to know.
        if last.replace(measure.stage) != Some(measure.stage) && measure.total_bytes.is_none() {
            return;
        }
        console.tell(&format!("{}\n", line(measure)));
    }))
}

/// A line on the terminal that goes away.
struct Bar(ProgressBar);

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// How far it is, in one line.
pub fn line(measure: &Measure) -> String {
    let mut text = measure.stage.words().to_owned();
    match measure.total_bytes {
        Some(total) => {
            let _ = write!(text, ": {} of {}", bytes(measure.bytes), bytes(total));
        }
        None if measure.bytes > 0 => {
            let _ = write!(text, ": {}", bytes(measure.bytes));
        }
        None => {}
    }
    if let Some(total) = measure.total_files {
        let _ = write!(text, ", {} of {total} files", measure.files);
    }
    if let Some(rate) = measure.rate().filter(|rate| *rate > 0) {
        let _ = write!(text, ", {}/s", bytes(rate));
    }
    if let Some(left) = measure.left() {
        let _ = write!(text, ", {} left", length(left));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_bytes_files_rate_and_time_left() {
        let measure = Measure {
            stage: Stage::Restore,
            bytes: 300 << 20,
            total_bytes: Some(1 << 30),
            files: 12,
            total_files: Some(400),
            elapsed_ms: 10_000,
        };
        assert_eq!(
            line(&measure),
            "restoring: 300.00 MiB of 1.00 GiB, 12 of 400 files, 30.00 MiB/s, 25.0 s left"
        );
        let begun = Measure {
            bytes: 0,
            total_bytes: None,
            total_files: None,
            elapsed_ms: 0,
            stage: Stage::Scan,
            ..measure
        };
        assert_eq!(line(&begun), "looking at all files");
    }
}
