//! `show --operation`: what came of an operation, and what is kept of one that failed.

use std::fmt::Write as _;
use std::str::FromStr;

use axum::http::StatusCode;
use serde::Serialize;

use super::client::{Client, ClientError};
use super::console::{Console, Paint};
use super::error::{CliError, problem_report};
use super::follow::{ending, problem};
use super::output;
use super::table::{Table, cell};
use crate::api::{Evidence, Problem};
use crate::state::{Operation, OperationId, OperationStatus};
use crate::tenant::TenantId;

/// Which operation is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The newest that failed, or that began because something had.
    Last,
    /// This one.
    Id(OperationId),
}

impl FromStr for Which {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "last" => Ok(Self::Last),
            id => id.parse().map(Self::Id).map_err(
                |_| "give `last`, or an operation's id as `tenantd show T --json` lists them",
            ),
        }
    }
}

/// An operation, and what is kept of it.
#[derive(Debug, Serialize)]
struct Attempt {
    operation: Operation,
    evidence: Option<Evidence>,
}

/// Runs the command.
pub async fn show(
    client: &Client,
    console: Console,
    tenant: &TenantId,
    which: Which,
    json: bool,
) -> Result<(), CliError> {
    let operation = match which {
        Which::Id(id) => client.get(&format!("/v1/operations/{id}")).await?,
        Which::Last => {
            let all: Vec<Operation> = client
                .get(&format!("/v1/operations?tenant={tenant}"))
                .await?;
            last(all).ok_or_else(|| nothing(tenant))?
        }
    };
    let path = format!("/v1/operations/{}/evidence", operation.id);
    let evidence = match client.get(&path).await {
        Ok(evidence) => Some(evidence),
        Err(ClientError::Refused(problem)) if problem.status == 404 => None,
        Err(error) => return Err(error.into()),
    };
    let attempt = Attempt {
        operation,
        evidence,
    };
    console.print(&if json {
        output::json(&attempt)
    } else {
        shown(&attempt, console.out)
    })
}

/// The newest of those, newest first, that failed or that a failure led to.
fn last(operations: Vec<Operation>) -> Option<Operation> {
    operations.into_iter().find(|operation| {
        operation.status == OperationStatus::Failed || operation.request["trial-failed"].is_string()
    })
}

fn nothing(tenant: &TenantId) -> CliError {
    let title = format!("no operation of tenant {tenant} has failed lately");
    let problem = Problem::new("operation-unknown", StatusCode::NOT_FOUND, title);
    ClientError::Refused(Box::new(problem)).into()
}

fn shown(attempt: &Attempt, paint: Paint) -> String {
    let Attempt {
        operation,
        evidence,
    } = attempt;
    let mut table = Table::new(&[], paint);
    let mut fact = |name: &str, value: String| table.row(vec![cell(name), cell(value)]);
    fact("Operation", operation.id.to_string());
    fact("Kind", operation.kind.as_str().to_owned());
    fact("Begun", operation.started_at.to_string());
    fact("By", operation.actor.clone());
    fact("Result", ending(operation));
    if let Some(why) = operation.request["trial-failed"].as_str() {
        fact("Because", why.to_owned());
    }
    if let Some(found) = evidence {
        if let Some(revision) = found.revision {
            fact("Revision", revision.to_string());
        }
        let job = &found.job;
        let mut stood = format!("{}: {} ({})", job.unit, job.active, job.sub);
        if let (Some(result), Some(status)) = (&job.result, job.status) {
            let _ = write!(stood, ", result {result}, status {status}");
        }
        if let Some(restarts) = job.restarts {
            let _ = write!(stood, ", {restarts} restarts");
        }
        fact("Service", stood);
    }
    let mut text = table.render();
    let failure = problem(operation).or_else(|| evidence.as_ref().map(|e| e.problem.clone()));
    if let Some(mut failure) = failure {
        // The whole story follows.
        if evidence.is_some() {
            failure.log.clear();
        }
        let _ = write!(text, "\n{}", problem_report(&failure, paint));
    }
    let Some(found) = evidence else {
        return text;
    };
    if !found.probes.is_empty() {
        text.push_str("\nProbes through the ingress:\n");
        for probe in &found.probes {
            let _ = writeln!(text, "  {}  {}", probe.at, probe.answer);
        }
    }
    if !found.journal.is_empty() {
        text.push_str("\nJournal (the agent's own lines have a bar):\n");
        for line in &found.journal {
            let bar = if line.by_agent { '|' } else { ' ' };
            let _ = writeln!(text, "  {} {bar} {}", line.at, line.message);
        }
    }
    if let Some(revision) = found.revision {
        let _ = writeln!(
            text,
            "\nFiles rendered for revision {revision}: {}; --json has them",
            found.files.len()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{JobEvidence, JournalLine, ProbeAttempt};
    use crate::cli::samples;
    use crate::state::OperationKind;

    #[test]
    fn an_operation_is_named_by_its_id_or_as_the_last() {
        assert_eq!("last".parse(), Ok(Which::Last));
        let id = OperationId::nil();
        assert_eq!(id.to_string().parse(), Ok(Which::Id(id)));
        assert!("first".parse::<Which>().is_err());
    }

    #[test]
    fn the_last_is_one_that_failed_or_that_a_failure_led_to() {
        let rollback = Operation {
            kind: OperationKind::Rollback,
            request: json!({ "trial-failed": "no" }),
            ..samples::succeeded("acme")
        };
        let newest_first = vec![
            samples::succeeded("acme"),
            rollback.clone(),
            samples::failed("acme"),
        ];
        assert_eq!(last(newest_first), Some(rollback));
        assert_eq!(last(vec![samples::succeeded("acme")]), None);
    }

    #[test]
    fn a_failed_attempt_is_shown_with_all_that_is_kept() {
        let at = samples::at("2026-05-04T11:57:01Z");
        let operation = samples::failed("acme");
        let evidence = Evidence {
            operation: operation.id,
            kind: operation.kind,
            tenant: "acme".to_owned(),
            revision: Some(4),
            gathered_at: at,
            problem: problem(&operation).unwrap(),
            job: JobEvidence {
                unit: "tenant-acme.service".to_owned(),
                active: "failed".to_owned(),
                sub: "failed".to_owned(),
                result: Some("exit-code".to_owned()),
                status: Some(78),
                restarts: Some(0),
            },
            probes: vec![ProbeAttempt {
                at,
                answer: "/run/tenantd/ingress/acme.sock answered /healthz with 503".to_owned(),
            }],
            journal: vec![
                JournalLine {
                    at,
                    by_agent: true,
                    message: "cannot migrate".to_owned(),
                },
                JournalLine {
                    at,
                    by_agent: false,
                    message: "container died".to_owned(),
                },
            ],
            unit_set_hash: Some("ab".to_owned()),
            files: [("/etc/a.slice".to_owned(), "[Slice]\n".to_owned())].into(),
        };
        let attempt = Attempt {
            operation,
            evidence: Some(evidence),
        };
        insta::assert_snapshot!(shown(&attempt, Paint(false)));
    }
}
