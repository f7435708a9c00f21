//! The system's journal, read through `journalctl -o json`: its format is stable, its files are not.
//! A reader is a child process that ends with its handle; nothing is cached.

mod entry;

use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use super::process::{self, ProcessError};

pub use entry::{Entry, OWN_FIELDS};

/// Longest journal entry that is read, as JSON; longer ones are skipped.
const LINE_LIMIT: u64 = 1024 * 1024;

/// Most that one bounded read returns, as JSON.
const READ_LIMIT: usize = 16 * 1024 * 1024;

/// Longest time for one bounded read.
const READ_TIME: Duration = Duration::from_secs(10);

/// Which entries to read.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Units whose entries are wanted; all when empty.
    pub units: Vec<String>,
    /// A journal namespace to read together with the default one.
    pub namespace: Option<String>,
    /// Only what comes after this entry.
    pub after: Option<String>,
    /// Only what was written at this time or later.
    pub since: Option<Timestamp>,
    /// At most this many entries: the last ones, or the first after `after`.
    pub lines: Option<usize>,
    /// Only entries with one of these, such as `DECISION=refused` (journalctl(1), matches of one field).
    pub matches: Vec<&'static str>,
}

impl Query {
    /// The last `lines` entries of `unit`.
    pub fn last(unit: impl Into<String>, lines: usize) -> Self {
        Self {
            units: vec![unit.into()],
            lines: Some(lines),
            ..Self::default()
        }
    }

    fn arguments(&self, follow: bool) -> Vec<String> {
        let mut arguments = vec![
            "--output=json".to_owned(),
            format!("--output-fields={},{}", entry::FIELDS, OWN_FIELDS.join(",")),
            "--no-pager".to_owned(),
            "--quiet".to_owned(),
            "--all".to_owned(),
        ];
        arguments.extend(self.units.iter().map(|unit| format!("--unit={unit}")));
        if let Some(namespace) = &self.namespace {
            arguments.push(format!("--namespace=+{namespace}"));
        }
        if let Some(since) = self.since {
            let micros = since.as_microsecond();
            arguments.push(format!(
                "--since=@{}.{:06}",
                micros.div_euclid(1_000_000),
                micros.rem_euclid(1_000_000)
            ));
        }
        if let Some(cursor) = &self.after {
            arguments.push(format!("--after-cursor={cursor}"));
        }
        match (self.lines, &self.after) {
            // `+N` means the first N, but only since systemd 254; we require 255.
            (Some(lines), Some(_)) if !follow => arguments.push(format!("--lines=+{lines}")),
            (Some(lines), _) => arguments.push(format!("--lines={lines}")),
            (None, _) if follow => arguments.push("--no-tail".to_owned()),
            (None, _) => {}
        }
        if follow {
            arguments.push("--follow".to_owned());
        }
        arguments.extend(self.matches.iter().map(ToString::to_string));
        arguments
    }
}

/// Why the journal could not be read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// journalctl did not run to its end.
    #[error("cannot read the journal")]
    Run(#[source] ProcessError),
    /// journalctl refused.
    #[error("journalctl refused to read the journal: {0}")]
    Refused(String),
    /// Its output could not be read.
    #[error("the journal's reader broke off")]
    Broken(#[source] std::io::Error),
}

/// Reads what is there now, oldest first, and ends.
pub async fn read(query: &Query) -> Result<Vec<Entry>, JournalError> {
    let mut command = Command::new("journalctl");
    command.args(query.arguments(false));
    let output = process::run(command, READ_TIME, READ_LIMIT)
        .await
        .map_err(JournalError::Run)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(JournalError::Refused(said));
    }
    Ok(output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter_map(Entry::parse)
        .collect())
}

/// Reads what is there and then what comes, until the handle is dropped.
pub fn follow(query: &Query) -> Result<Follow, JournalError> {
    let mut command = Command::new("journalctl");
    command
        .args(query.arguments(true))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let start = |source| {
        JournalError::Run(ProcessError::Start {
            program: "journalctl".to_owned(),
            source,
        })
    };
    let mut child = command.spawn().map_err(start)?;
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| start(std::io::ErrorKind::BrokenPipe.into()))?;
    Ok(Follow {
        _child: child,
        lines: BufReader::new(stdout),
    })
}

/// A reader that follows the journal.
#[derive(Debug)]
pub struct Follow {
    /// Killed on drop.
    _child: Child,
    lines: BufReader<ChildStdout>,
}

impl Follow {
    /// The next entry; `None` when journalctl ended.
    pub async fn next(&mut self) -> Result<Option<Entry>, JournalError> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut self.lines)
                .take(LINE_LIMIT)
                .read_until(b'\n', &mut line)
                .await
                .map_err(JournalError::Broken)?;
            if read == 0 {
                return Ok(None);
            }
            // A part of an over-long line is no JSON and is skipped like any other noise.
            if let Some(entry) = Entry::parse(&line) {
                return Ok(Some(entry));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_becomes_arguments() {
        let query = Query {
            units: vec!["tenant-a.service".to_owned()],
            namespace: Some("tenant-a".to_owned()),
            after: Some("s=1".to_owned()),
            since: Some("2026-11-21T10:00:00.25Z".parse().unwrap()),
            lines: Some(100),
            matches: vec!["CODE=port"],
        };
        assert_eq!(
            query.arguments(false)[5..],
            [
                "--unit=tenant-a.service",
                "--namespace=+tenant-a",
                "--since=@1795255200.250000",
                "--after-cursor=s=1",
                "--lines=+100",
                "CODE=port"
            ]
        );
        assert_eq!(
            Query::last("a.service", 5).arguments(true)[5..],
            ["--unit=a.service", "--lines=5", "--follow"]
        );
        assert_eq!(
            Query::default().arguments(true)[5..],
            ["--no-tail", "--follow"]
        );
    }

    #[tokio::test]
    #[ignore = "needs a running journal: runs in the test machine"]
    async fn the_real_journal_is_read_and_followed() {
        let unit = "systemd-journald.service";
        let last = read(&Query::last(unit, 3)).await.unwrap();
        assert!((1..=3).contains(&last.len()), "{last:?}");
        assert!(last.windows(2).all(|pair| pair[0].at <= pair[1].at));

        let newest = read(&Query {
            lines: Some(1),
            ..Query::default()
        })
        .await
        .unwrap()
        .remove(0);
        let after = Query {
            after: Some(newest.cursor),
            ..Query::default()
        };
        let mut follow = follow(&after).unwrap();
        let text = format!("selftest of process {}", std::process::id());
        let mut logger = Command::new("systemd-cat");
        logger.args(["echo", &text]);
        assert!(logger.status().await.unwrap().success());
        loop {
            let entry = follow.next().await.unwrap().unwrap();
            if entry.message == text {
                break;
            }
        }
        let seen = read(&after).await.unwrap();
        assert!(seen.iter().any(|entry| entry.message == text));
    }
}
