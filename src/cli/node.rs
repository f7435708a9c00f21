//! `status`, `doctor`, `reload`, `version`: the node itself.

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::apply;
use super::args::{DoctorArgs, Output, ReloadArgs};
use super::client::{Client, ClientError};
use super::console::{Console, Paint};
use super::error::CliError;
use super::exit::Exit;
use super::follow::subject;
use super::human::age;
use super::output;
use super::table::{Table, cell};
use crate::api::{CheckResult, NodeStatus, ReloadReport, Verdict, Version};
use crate::daemon;
use crate::host::clock;
use crate::host::facts::Facts;
use crate::layout::Layout;
use crate::node::doctor;

/// `status`.
pub async fn status(client: &Client, console: Console, output: Output) -> Result<(), CliError> {
    output::show(client, console, "/v1/node", output.json, |status| {
        shown(&status, clock::now(), console.out)
    })
    .await
}

/// `doctor`; an error when a check failed. While the daemon does not answer, this process
/// looks at the host itself.
pub async fn doctor(client: &Client, console: Console, args: DoctorArgs) -> Result<(), CliError> {
    let DoctorArgs { store, output } = args;
    let answer: Result<Value, ClientError> = if store {
        client.post("/v1/doctor/store", &json!({})).await
    } else {
        client.get("/v1/doctor").await
    };
    let document = match answer {
        Ok(document) => document,
        Err(error) if error.is_absence() => alone(error, store).await?,
        Err(error) => return Err(error.into()),
    };
    let checks: Vec<CheckResult> = output::understood(document.clone())?;
    if output.json {
        console.print(&output::json(&document))?;
    } else {
        console.print(&examined(&checks, console.out))?;
    }
    let failed = checks.iter().filter(|c| c.verdict == Verdict::Failed);
    match failed.count() {
        0 => Ok(()),
        failed => Err(CliError::Unfit(failed)),
    }
}

/// What the host shows without the daemon.
async fn alone(absence: ClientError, store: bool) -> Result<Value, CliError> {
    let layout = Layout::default();
    if !Facts::gather(layout.root()).root {
        return Err(CliError::DoctorNeedsRoot(absence));
    }
    let settings = daemon::read_settings(&layout);
    if store {
        return Ok(json!(doctor::examine_store(&settings?).await));
    }
    let settings = settings.map_err(|error| error.to_string());
    let checks = doctor::examine_alone(&layout, settings, absence.to_string()).await;
    Ok(json!(checks))
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

/// One line per check, and below it what to do. A remedy can be long: it has its own line.
fn examined(checks: &[CheckResult], paint: Paint) -> String {
    let width = checks.iter().map(|check| check.check.len()).max();
    let width = width.unwrap_or_default();
    let mut text = String::new();
    for check in checks {
        let verdict = match check.verdict {
            Verdict::Ok => paint.good("ok     "),
            Verdict::Warning => paint.warn("warning"),
            Verdict::Failed => paint.bad("failed "),
        };
        let _ = writeln!(text, "{verdict}  {:width$}  {}", check.check, check.finding);
        if let Some(remedy) = &check.remedy {
            let _ = writeln!(text, "         {:width$}  remedy: {remedy}", "");
        }
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

    #[test]
    fn the_doctor_says_what_to_do() {
        let check = |name: &str, verdict, finding: &str, remedy: Option<&str>| CheckResult {
            check: name.to_owned(),
            verdict,
            finding: finding.to_owned(),
            remedy: remedy.map(str::to_owned),
        };
        let checks = [
            check("systemd", Verdict::Ok, "257", None),
            check(
                "controllers",
                Verdict::Warning,
                "no memory controller",
                Some("boot with cgroup_enable=memory"),
            ),
            check(
                "swap",
                Verdict::Failed,
                "/dev/sda2 is not encrypted",
                Some("use zram"),
            ),
        ];
        insta::assert_snapshot!(examined(&checks, Paint(false)), @r"
        ok       systemd      257
        warning  controllers  no memory controller
                              remedy: boot with cgroup_enable=memory
        failed   swap         /dev/sda2 is not encrypted
                              remedy: use zram
        ");
    }
}
