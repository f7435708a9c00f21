//! What a door counted, as it is kept: written every few seconds, a month at a time.
//! It waits for the disk, so nothing else may wait for it; counting is the meter's business.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::meter::Meter;
use super::usage::{Month, Usage};
use crate::host::clock;

/// Time between two writes, if anything has changed.
const FLUSH: Duration = Duration::from_secs(5);

/// Keeps the figures of one door.
#[derive(Debug)]
pub struct Tally {
    /// The directory of what survives the door.
    state: Utf8PathBuf,
    meter: Arc<Meter>,
    /// What was written last.
    written: Usage,
}

impl Tally {
    /// Goes on from what was written.
    pub fn new(state: Utf8PathBuf, meter: Arc<Meter>, written: Usage) -> Self {
        Self {
            state,
            meter,
            written,
        }
    }

    /// Writes the figures again and again, without end; can be cut anywhere.
    pub async fn keep(&mut self) {
        loop {
            sleep(FLUSH).await;
            self.flush(Month::of(clock::now())).await;
        }
    }

    /// Writes the figures if they have changed, and begins `month` when it is a new one.
    pub async fn flush(&mut self, month: Month) {
        if month > self.written.month {
            let over = Usage {
                month: self.written.month,
                destinations: self.meter.next_month(),
            };
            self.write(over).await;
            self.written = Usage::nothing(month);
        }
        let usage = Usage {
            month: self.written.month,
            destinations: self.meter.figures(),
        };
        if usage != self.written {
            self.write(usage).await;
        }
    }

    /// In a thread of its own: it waits for the disk, and connections must not.
    async fn write(&mut self, usage: Usage) {
        let state = self.state.clone();
        let written = spawn_blocking(move || usage.write(&state).map(|()| usage)).await;
        match written {
            Ok(Ok(usage)) => self.written = usage,
            Ok(Err(error)) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "the figures are not written; they are tried again"
            ),
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "no thread"),
        }
    }
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;

    use super::*;
    use crate::gateway::egress::meter::{Destinations, Way};

    fn month(text: &str) -> Month {
        text.parse().unwrap()
    }

    fn tally(state: &Utf8Path, begun: &str) -> Tally {
        let meter = Arc::new(Meter::new(100, Destinations::new()));
        Tally::new(state.to_owned(), meter, Usage::nothing(month(begun)))
    }

    #[tokio::test]
    async fn a_month_that_is_over_is_written_and_the_next_begins_at_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(dir.path()).unwrap();
        let mut tally = tally(state, "2020-01");
        let flow = tally.meter.connection("a.example:443");
        flow.count(Way::Out, 100);
        tally.flush(month("2020-02")).await;
        let over = Usage::read(state, month("2020-01")).unwrap();
        assert_eq!(over.total().sent, 100);
        assert_eq!(tally.meter.of_volume(), (0, 100));
        assert!(!tally.meter.used_up().is_cancelled());
    }
}
