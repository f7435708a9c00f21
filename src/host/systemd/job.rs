//! Jobs under way and how they ended.
//! It matches results to waiters whichever comes first, and calls nobody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// How a job ended: the `result` of systemd's `JobRemoved` signal (org.freedesktop.systemd1(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobResult {
    /// It was done.
    Done,
    /// It was cancelled, or replaced by a contrary job.
    Canceled,
    /// It did not end within its time.
    Timeout,
    /// The unit failed.
    Failed,
    /// A unit that this one requires failed.
    Dependency,
    /// A condition of the unit was not met, or there was nothing to do.
    Skipped,
    /// A result that systemd has learnt since.
    Other(String),
}

impl JobResult {
    /// Whether the job did what was asked.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }
}

impl From<&str> for JobResult {
    fn from(text: &str) -> Self {
        match text {
            "done" => Self::Done,
            "canceled" => Self::Canceled,
            "timeout" => Self::Timeout,
            "failed" => Self::Failed,
            "dependency" => Self::Dependency,
            "skipped" => Self::Skipped,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl std::fmt::Display for JobResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Canceled => "canceled",
            Self::Timeout => "timeout",
            Self::Failed => "failed",
            Self::Dependency => "dependency",
            Self::Skipped => "skipped",
            Self::Other(text) => text,
        })
    }
}

/// The jobs of one connection.
#[derive(Debug, Default, Clone)]
pub(super) struct Jobs(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    /// Calls whose answer, the job's path, is not known yet.
    unanswered: usize,
    /// Results of jobs that ended while some call was unanswered: one may be that call's.
    ended: HashMap<String, JobResult>,
    waiting: HashMap<String, oneshot::Sender<JobResult>>,
    closed: bool,
}

impl Jobs {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Every change of the table is one statement, so a panic elsewhere left it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces a call that will make a job. To be taken before the call.
    pub(super) fn expect_job(&self) -> Ticket {
        self.table().unanswered += 1;
        Ticket { jobs: self.clone() }
    }

    /// Records that a job ended.
    pub(super) fn ended(&self, path: &str, result: JobResult) {
        let mut table = self.table();
        if let Some(waiter) = table.waiting.remove(path) {
            // A waiter that has gone does not need the result.
            let _ = waiter.send(result);
        } else if table.unanswered > 0 {
            table.ended.insert(path.to_owned(), result);
        }
    }

    /// Tells all waiters, also later ones, that no result will come.
    pub(super) fn close(&self) {
        let mut table = self.table();
        table.closed = true;
        table.waiting.clear();
        table.ended.clear();
    }
}

/// A call that will make a job.
#[derive(Debug)]
pub(super) struct Ticket {
    jobs: Jobs,
}

impl Ticket {
    /// Waits until the job at `path` ends; `None` when the connection is lost before.
    pub(super) async fn result_of(self, path: &str) -> Option<JobResult> {
        let receiver = {
            let mut table = self.jobs.table();
            if let Some(result) = table.ended.remove(path) {
                return Some(result);
            }
            if table.closed {
                return None;
            }
            let (sender, receiver) = oneshot::channel();
            table.waiting.insert(path.to_owned(), sender);
            receiver
        };
        drop(self);
        receiver.await.ok()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut table = self.jobs.table();
        table.unanswered -= 1;
        if table.unanswered == 0 {
            table.ended.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_result_before_the_answer_is_kept() {
        let jobs = Jobs::default();
        let ticket = jobs.expect_job();
        jobs.ended("/job/1", JobResult::Failed);
        jobs.ended("/job/2", JobResult::Done);
        assert_eq!(ticket.result_of("/job/2").await, Some(JobResult::Done));
        assert!(
            jobs.table().ended.is_empty(),
            "foreign results are forgotten"
        );
    }

    #[tokio::test]
    async fn a_result_after_the_answer_wakes_the_waiter() {
        let jobs = Jobs::default();
        let ticket = jobs.expect_job();
        let waiter = tokio::spawn(async move { ticket.result_of("/job/1").await });
        while jobs.table().waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        jobs.ended("/job/9", JobResult::Done);
        jobs.ended("/job/1", JobResult::Timeout);
        assert_eq!(waiter.await.unwrap(), Some(JobResult::Timeout));
    }

    #[tokio::test]
    async fn a_closed_table_lets_nobody_wait() {
        let jobs = Jobs::default();
        let early = jobs.expect_job();
        jobs.close();
        assert_eq!(early.result_of("/job/1").await, None);
    }

    #[test]
    fn foreign_jobs_leave_no_trace() {
        let jobs = Jobs::default();
        jobs.ended("/job/1", JobResult::Done);
        assert!(jobs.table().ended.is_empty());
    }

    #[test]
    fn a_result_reads_as_it_prints() {
        for text in [
            "done",
            "canceled",
            "timeout",
            "failed",
            "dependency",
            "skipped",
            "once",
        ] {
            assert_eq!(JobResult::from(text).to_string(), text);
        }
    }
}
