//! Follows operations to their end and shows how far they are.
//! On a terminal one moving line each, otherwise one line per step; all on standard error.

use std::time::Duration;

use futures_util::future::join_all;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::client::{Client, ClientError};
use super::console::{Console, Paint};
use super::human;
use crate::api::Problem;
use crate::state::{Operation, OperationKind, OperationStatus};

/// How often a moving line moves.
const TICK: Duration = Duration::from_millis(100);

/// Waits for all operations at once and shows them; returns them as they ended, in order.
pub async fn follow(
    client: &Client,
    console: Console,
    operations: &[Operation],
) -> Result<Vec<Operation>, ClientError> {
    let lines = Lines::new(console, operations);
    let waits = operations.iter().map(|operation| {
        let line = lines.begin(operation);
        async move {
            let ended = client
                .wait(operation.id, |operation| line.step(operation))
                .await;
            if let Ok(operation) = &ended {
                line.end(operation);
            }
            ended
        }
    });
    join_all(waits).await.into_iter().collect()
}

/// The problem that a failed operation ended with.
pub fn problem(operation: &Operation) -> Option<Problem> {
    if operation.status != OperationStatus::Failed {
        return None;
    }
    let outcome = operation.outcome.clone().unwrap_or_default();
    Some(serde_json::from_value(outcome).unwrap_or_else(|_| {
        Problem::new(
            "internal",
            axum::http::StatusCode::INTERNAL_SERVER_ERROR,
            format!(
                "{}: the {} failed; `journalctl -u tenantd` tells why",
                subject(operation),
                operation.kind.as_str()
            ),
        )
    }))
}

/// Whom an operation is about.
pub fn subject(operation: &Operation) -> &str {
    operation
        .tenant
        .as_ref()
        .map_or("(node)", |tenant| tenant.as_str())
}

/// How an operation ended, in a few words: `started in 3.2 s`.
pub fn ending(operation: &Operation) -> String {
    let took = human::between(
        operation.started_at,
        operation.finished_at.unwrap_or(operation.started_at),
    );
    let is_unchanged = operation
        .outcome
        .as_ref()
        .is_some_and(|outcome| outcome["unchanged"] == true);
    let is_unordered = operation
        .outcome
        .as_ref()
        .is_some_and(|outcome| outcome["quiesced"]["result"] == "failed");
    match operation.status {
        OperationStatus::Succeeded if is_unordered => format!(
            "{} in {took}, but the agent did not put its files in order for it",
            done(operation.kind)
        ),
        OperationStatus::Succeeded if is_unchanged => format!("looked in {took}: nothing newer"),
        OperationStatus::Succeeded => format!("{} in {took}", done(operation.kind)),
        OperationStatus::Failed => format!("failed after {took}"),
        OperationStatus::Running => "at work".to_owned(),
    }
}

fn done(kind: OperationKind) -> &'static str {
    match kind {
        OperationKind::Apply => "applied",
        OperationKind::Start => "started",
        OperationKind::Stop => "stopped",
        OperationKind::Restart => "restarted",
        OperationKind::Suspend => "suspended",
        OperationKind::Resume => "resumed",
        OperationKind::Remove => "removed",
        OperationKind::Reclaim => "reclaimed",
        OperationKind::Backup => "backed up",
        OperationKind::Restore => "restored",
        OperationKind::Rollback => "rolled back",
        OperationKind::Reconcile => "put right",
    }
}

/// The lines of all operations.
struct Lines {
    console: Console,
    bars: Option<MultiProgress>,
    /// Of the longest name.
    width: usize,
}

impl Lines {
    fn new(console: Console, operations: &[Operation]) -> Self {
        Self {
            console,
            bars: console.moving.then(MultiProgress::new),
            width: operations
                .iter()
                .map(|operation| subject(operation).len())
                .max()
                .unwrap_or_default(),
        }
    }

    fn begin(&self, operation: &Operation) -> Line {
        let name = subject(operation).to_owned();
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner());
            let template = format!(
                "{{spinner}} {{prefix:{}}}  {{elapsed:>4}}  {{wide_msg}}",
                self.width
            );
            bar.set_style(
                ProgressStyle::with_template(&template)
                    .unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar.set_prefix(name.clone());
            bar.set_message(operation.kind.as_str());
            bar.enable_steady_tick(TICK);
            bar
        });
        Line {
            console: self.console,
            name,
            bar,
        }
    }
}

/// The line of one operation.
struct Line {
    console: Console,
    name: String,
    bar: Option<ProgressBar>,
}

impl Line {
    fn step(&self, operation: &Operation) {
        let Some(step) = &operation.step else {
            return;
        };
        match &self.bar {
            Some(bar) => bar.set_message(step.clone()),
            None => self.console.tell(&format!("{}: {step}\n", self.name)),
        }
    }

    fn end(&self, operation: &Operation) {
        let ending = coloured(operation, self.console.err);
        match &self.bar {
            Some(bar) => bar.finish_with_message(ending),
            None => self.console.tell(&format!("{}: {ending}\n", self.name)),
        }
    }
}

fn coloured(operation: &Operation, paint: Paint) -> String {
    let ending = ending(operation);
    match operation.status {
        OperationStatus::Failed => paint.bad(&ending),
        OperationStatus::Succeeded => paint.good(&ending),
        OperationStatus::Running => ending,
    }
}
