//! What a door counted, as it is kept: written every few seconds, a month at a time.
//! It waits for the disk, so nothing else may wait for it; counting is the meter's business.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

use super::meter::Meter;
use super::usage::{Month, Usage};
use crate::host::clock;
use crate::host::files::FileError;

/// Time between two writes, if anything has changed.
const FLUSH: Duration = Duration::from_secs(5);

/// Keeps the figures of one door.
#[derive(Debug)]
pub struct Tally {
    /// The directory of what survives the door.
    state: Utf8PathBuf,
    meter: Arc<Meter>,
    /// What was written last, of the month that is counted.
    written: Usage,
    /// Months that are over and not written yet, the oldest first.
    over: Vec<Usage>,
    /// A write that goes on when nobody waits for it any more; the next one must not overtake it.
    writing: Option<JoinHandle<Result<(), FileError>>>,
}

impl Tally {
    /// Goes on from what was written.
    pub fn new(state: Utf8PathBuf, meter: Arc<Meter>, written: Usage) -> Self {
        Self {
            state,
            meter,
            written,
            over: Vec::new(),
            writing: None,
        }
    }

    /// Writes the figures again and again, without end; can be cut anywhere.
    pub async fn keep(&mut self) {
        loop {
            sleep(FLUSH).await;
            self.flush(Month::of(clock::now())).await;
        }
    }

    /// Writes the figures if they have changed, and begins `month` when it is a new one; can be cut anywhere.
    pub async fn flush(&mut self, month: Month) {
        if let Some(writing) = &mut self.writing {
            let _ = writing.await;
            self.writing = None;
        }
        if month > self.written.month {
            // A clock that was wrong until now leads into a month that another door has counted in.
            let state = self.state.clone();
            let begun = spawn_blocking(move || Usage::begin(&state, month)).await;
            let begun = begun.unwrap_or_else(|_| Usage::nothing(month));
            // Nothing is awaited in between: the figures are taken once, and belong to their month from then on.
            self.over.push(Usage {
                month: self.written.month,
                destinations: self.meter.next_month(begun.destinations.clone()),
            });
            self.written = begun;
        }
        while let Some(over) = self.over.first().cloned() {
            if !self.write(over).await {
                break;
            }
            self.over.remove(0);
        }
        let usage = Usage {
            month: self.written.month,
            destinations: self.meter.figures(),
        };
        if usage != self.written && self.write(usage.clone()).await {
            self.written = usage;
        }
    }

    /// Whether it is written. In a thread of its own: it waits for the disk, and connections must not.
    async fn write(&mut self, usage: Usage) -> bool {
        let state = self.state.clone();
        let writing = spawn_blocking(move || usage.write(&state));
        let written = self.writing.insert(writing).await;
        self.writing = None;
        match &written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(
                error = error as &dyn std::error::Error,
                "the figures are not written; they are tried again"
            ),
            Err(error) => tracing::error!(error = error as &dyn std::error::Error, "no thread"),
        }
        matches!(written, Ok(Ok(())))
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

    #[tokio::test]
    async fn a_month_that_is_over_is_written_when_the_disk_is_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(dir.path()).unwrap().join("later");
        let mut tally = tally(&state, "2020-01");
        tally.meter.connection("a.example:443").count(Way::Out, 7);
        tally.flush(month("2020-02")).await;
        tally.meter.connection("a.example:443").count(Way::Out, 1);
        tally.flush(month("2020-02")).await;
        std::fs::create_dir(&state).unwrap();
        tally.flush(month("2020-02")).await;
        let sent = |text| Usage::read(&state, month(text)).unwrap().total().sent;
        assert_eq!((sent("2020-01"), sent("2020-02")), (7, 1));
    }

    #[tokio::test]
    async fn a_clock_that_jumps_into_a_month_goes_on_from_its_figures() {
        let dir = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(dir.path()).unwrap();
        let mut before = tally(state, "2026-11");
        before.meter.connection("a.example:443").count(Way::Out, 60);
        before.flush(month("2026-11")).await;
        let mut tally = tally(state, "2020-01");
        let flow = tally.meter.connection("a.example:443");
        flow.count(Way::Out, 5);
        tally.flush(month("2026-11")).await;
        assert_eq!(tally.meter.of_volume(), (60, 100));
        flow.count(Way::Out, 1);
        tally.flush(month("2026-11")).await;
        let sent = |text| Usage::read(state, month(text)).unwrap().total().sent;
        assert_eq!((sent("2020-01"), sent("2026-11")), (5, 61));
    }

    #[test]
    fn a_month_that_is_over_keeps_its_figures_when_its_write_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(dir.path()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        runtime.block_on(async {
            let mut tally = tally(state, "2020-01");
            tally.meter.connection("a.example:443").count(Way::Out, 7);
            let meter = Arc::clone(&tally.meter);
            let turned = async move {
                // The only thread has the month to read, and is busy then: the write is under way when it is cut.
                spawn_blocking(move || ends.recv());
                while meter.of_volume().0 > 0 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                () = tally.flush(month("2020-02")) => panic!("no thread was free to write"),
                () = turned => {}
            }
            end.send(()).unwrap();
            tally.flush(month("2020-02")).await;
        });
        let over = Usage::read(state, month("2020-01")).unwrap();
        assert_eq!(over.total().sent, 7);
    }
}
