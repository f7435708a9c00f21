//! `status`, `reload`, `version`: the node itself.

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::json;

use super::apply;
use super::args::{Output, ReloadArgs};
use super::client::{Client, ClientError};
use super::console::{Console, Paint};
use super::error::CliError;
use super::exit::Exit;
use super::follow::subject;
use super::human::age;
use super::output;
use super::table::{Table, cell};
use crate::api::{NodeStatus, ReloadReport, Version};
use crate::host::clock;

/// `status`.
pub async fn status(client: &Client, console: Console, output: Output) -> Result<(), CliError> {
    output::show(client, console, "/v1/node", output.json, |status| {
        shown(&status, clock::now(), console.out)
    })
    .await
}

/// `reload`: follows what is put right and what the specs lead to, and reports those that are
/// not valid.
pub async fn reload(client: &Client, console: Console, args: ReloadArgs) -> Result<(), CliError> {
    let path = format!("/v1/reload?pull={}", args.pull);
    let report: ReloadReport = client.post(&path, &json!({})).await?;
    let total = report.plans.len() + report.problems.len();
    let mut failures = match apply::carry_out(client, console, report.plans, false).await {
        Ok(()) => Vec::new(),
        Err(CliError::Several { failures, .. }) => failures,
        Err(error) => return Err(error),
    };
    failures.extend(report.problems);
    output::all_well(failures, total)
}

/// `version`: this binary's, and the daemon's where it is another one.
pub async fn version(client: &Client, console: Console, output: Output) -> Result<(), CliError> {
    let own = env!("CARGO_PKG_VERSION");
    let daemon = match client.get::<Version>("/v1/version").await {
        Ok(version) => Some(version.version),
        // The binary has a version without the daemon too.
        Err(error) if error.exit() == Exit::Unreachable => None,
        Err(error @ ClientError::Answer(_)) => return Err(error.into()),
        Err(_) => None,
    };
    if output.json {
        return console.print(&output::json(&json!({ "version": own, "daemon": daemon })));
    }
    let other = daemon
        .filter(|daemon| daemon != own)
        .map_or_else(String::new, |daemon| {
            format!("the running daemon is {daemon}; `systemctl restart tenantd` changes that\n")
        });
    console.print(&format!("tenantd {own}\n{other}"))
}

fn shown(status: &NodeStatus, now: Timestamp, paint: Paint) -> String {
    let counts: Vec<_> = status
        .tenants
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    let tenants = if counts.is_empty() {
        "none".to_owned()
    } else {
        counts.join(", ")
    };
    let mut table = Table::new(&[], paint);
    table.row(vec![cell("Node"), cell(&status.name)]);
    table.row(vec![cell("Version"), cell(&status.version)]);
    table.row(vec![cell("Store"), cell(&status.store)]);
    table.row(vec![cell("Tenants"), cell(tenants)]);
    if !status.promised.is_empty() {
        let promised: Vec<_> = status.promised.iter().map(|of| &*of.summary).collect();
        table.row(vec![cell("Promised"), cell(promised.join(", "))]);
    }
    let mut text = table.render();
    if !status.operations.is_empty() {
        let mut table = Table::new(&["AT WORK", "OPERATION", "BEGUN", "STEP"], paint);
        for operation in &status.operations {
            table.row(vec![
                cell(subject(operation)),
                cell(operation.kind.as_str()),
                cell(age(now, operation.started_at)),
                cell(operation.step.as_deref().unwrap_or_default()),
            ]);
        }
        let _ = write!(text, "\n{}", table.render());
    }
    if !status.warnings.is_empty() {
        text.push('\n');
    }
    for warning in &status.warnings {
        let _ = writeln!(text, "{}: {warning}", paint.warn("warning"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Promised;
    use crate::cli::samples;
    use crate::state::{Operation, OperationStatus};

    #[test]
    fn status_says_what_to_mend() {
        let status = NodeStatus {
            name: "host-1".to_owned(),
            version: "0.1.0".to_owned(),
            tenants: [("running", 3), ("stopped", 1)]
                .map(|(state, count)| (state.to_owned(), count))
                .into(),
            store: "dir:/var/lib/tenantd/backups".to_owned(),
            promised: vec![Promised {
                resource: "memory".to_owned(),
                promised: 6 << 30,
                most: 7680 << 20,
                has: 8 << 30,
                exceeded: false,
                summary: "memory 6GiB of 7680MiB".to_owned(),
            }],
            warnings: vec!["operator's keys on host".to_owned()],
            operations: vec![Operation {
                status: OperationStatus::Running,
                finished_at: None,
                ..samples::succeeded("acme")
            }],
        };
        insta::assert_snapshot!(shown(&status, samples::now(), Paint(false)), @r"
        Node      host-1
        Version   0.1.0
        Store     dir:/var/lib/tenantd/backups
        Tenants   3 running, 1 stopped
        Promised  memory 6GiB of 7680MiB

        AT WORK  OPERATION  BEGUN      STEP
        acme     apply      3 min ago  asking the agent

        warning: operator's keys on host
        ");
    }
}
