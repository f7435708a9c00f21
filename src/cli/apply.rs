//! `apply`: reads specs, sends them in one request, follows what comes of it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::io::Read;
use std::time::Duration;

use axum::http::StatusCode;
use camino::{Utf8Path, Utf8PathBuf};
use comfy_table::Color;
use serde_json::Value;

use super::args::ApplyArgs;
use super::client::{Client, ClientError};
use super::console::{Console, Paint};
use super::error::CliError;
use super::follow::{ending, follow, problem};
use super::human::counted;
use super::output;
use super::table::{Table, cell};
use crate::api::{ApplyPlan, ApplyRequest, Change, Document, Impact, Problem, TenantDetail};
use crate::host::files;
use crate::state::{Operation, OperationStatus};
use crate::tenant::MAX_BYTES;

/// Runs the command.
pub async fn run(client: &Client, console: Console, args: ApplyArgs) -> Result<(), CliError> {
    let request = ApplyRequest {
        documents: read_all(&args.paths)?,
        dry_run: args.dry_run,
        pull: args.pull,
        force: args.force,
        message: args.message,
    };
    let client = &client.expecting(args.if_revision);
    let path = format!("/v1/apply{}", args.wait.query('?'));
    let answer: Value = client.post(&path, &request).await?;
    let plans: Vec<ApplyPlan> = output::understood(answer.clone())?;
    if args.dry_run {
        return console.print(&if args.output.json {
            output::json(&answer)
        } else {
            planned(&plans, console.out)
        });
    }
    let tenants: Vec<_> = plans.iter().map(|plan| plan.tenant.clone()).collect();
    carry_out(client, console, plans, args.output.json).await?;
    if args.wait_good {
        wait_good(client, console, &tenants).await?;
    }
    Ok(())
}

/// How often a trial is asked after; its end is known, and what ends it earlier is not told.
const ASKED_EVERY: Duration = Duration::from_millis(500);

/// How often in a row a daemon that is being restarted may not answer.
const ABSENCE: u32 = 120;

/// Waits until none of the tenants is on trial; fails for those that were rolled back.
async fn wait_good(client: &Client, console: Console, tenants: &[String]) -> Result<(), CliError> {
    let mut failures = Vec::new();
    for tenant in tenants {
        let path = format!("/v1/tenants/{tenant}");
        let (mut told, mut absent) = (false, 0);
        let begun: TenantDetail = client.get(&path).await?;
        let mut now = begun.clone();
        while let Some(trial) = &now.summary.trial {
            if !told {
                console.tell(&format!("{tenant}: on trial until {}\n", trial.ends_at));
                told = true;
            }
            tokio::time::sleep(ASKED_EVERY).await;
            now = match client.get(&path).await {
                Err(ClientError::NotRunning { .. } | ClientError::Broken(_))
                    if absent < ABSENCE =>
                {
                    absent += 1;
                    continue;
                }
                answer => answer?,
            };
            absent = 0;
        }
        failures.extend(no_good(&begun, &now));
    }
    output::all_well(failures, tenants.len())
}

/// The problem of a tenant whose revision did not turn out good.
fn no_good(begun: &TenantDetail, now: &TenantDetail) -> Option<Problem> {
    let applied = begun.summary.revision;
    // A held tenant is not on trial, and neither good nor bad.
    let is_good = now.good_revision == applied || now.summary.wanted.is_held();
    if is_good {
        return None;
    }
    let (tenant, reason) = (&now.summary.id, now.summary.reason.as_deref());
    let title = format!(
        "tenant {tenant}: {}; `tenantd show {tenant} --operation last` tells more",
        reason.unwrap_or("the new revision is not good")
    );
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    Some(Problem::new("not-healthy", status, title))
}

/// Follows the operations of `plans` to their end and prints a summary.
pub async fn carry_out(
    client: &Client,
    console: Console,
    mut plans: Vec<ApplyPlan>,
    json: bool,
) -> Result<(), CliError> {
    let operations: Vec<Operation> = plans.iter().filter_map(|p| p.operation.clone()).collect();
    let ended = follow(client, console, &operations).await?;
    let mut ends = ended.iter();
    for plan in &mut plans {
        if plan.operation.is_some() {
            plan.operation = ends.next().cloned();
        }
    }
    if json {
        console.print(&output::json(&plans))?;
    } else {
        console.print(&summary(&plans, console.out))?;
    }
    output::all_well(ended.iter().filter_map(problem).collect(), plans.len())
}

/// What would happen, with the files that would be written.
pub fn planned(plans: &[ApplyPlan], paint: Paint) -> String {
    let mut text = String::new();
    for plan in plans {
        let would = match plan.change {
            Change::Create => format!("be {}", paint.good("created")),
            Change::Update => format!("be {}", paint.warn("updated")),
            Change::Repair => format!("be {}", paint.warn("put right")),
            Change::Skip | Change::None => "not change".to_owned(),
        };
        let _ = writeln!(text, "{} would {would}", plan.tenant);
        text.push_str(&impact(plan, paint));
        for file in &plan.files {
            let _ = writeln!(text, "  writes {file}");
        }
    }
    text.push_str(&warnings(plans, paint));
    text
}

/// What changed under an agent that was not restarted for it.
fn ran_on(plan: &ApplyPlan) -> Option<String> {
    let Impact { live, restart } = plan.impact.as_ref()?;
    let is_done = plan
        .operation
        .as_ref()
        .is_some_and(|operation| operation.status == OperationStatus::Succeeded);
    (is_done && restart.is_empty() && !live.is_empty()).then(|| live.join(", "))
}

/// What the operator should know, each once: most hold for the host.
fn warnings(plans: &[ApplyPlan], paint: Paint) -> String {
    let distinct: BTreeSet<_> = plans.iter().flat_map(|plan| &plan.warnings).collect();
    let lines = distinct
        .into_iter()
        .map(|warning| format!("{}: {warning}\n", paint.warn("warning")));
    lines.collect()
}

/// How an update comes into force.
fn impact(plan: &ApplyPlan, paint: Paint) -> String {
    let mut text = String::new();
    let Some(Impact { live, restart }) = &plan.impact else {
        return text;
    };
    for change in live {
        let _ = writeln!(text, "  changes {change}");
    }
    let _ = if restart.is_empty() {
        writeln!(text, "  {}: the agent runs on", paint.good("live"))
    } else {
        let names = restart.join(", ");
        writeln!(text, "  {} the agent, for {names}", paint.warn("restarts"))
    };
    text
}

/// What happened, one line per tenant.
pub fn summary(plans: &[ApplyPlan], paint: Paint) -> String {
    let mut table = Table::new(&["TENANT", "CHANGE", "RESULT"], paint);
    let (mut failed, mut put_right) = (0, 0);
    for plan in plans {
        let change = match plan.change {
            Change::Create => "create",
            Change::Update => "update",
            Change::Repair => "repair",
            Change::Skip => "skip",
            Change::None => "none",
        };
        let result = match &plan.operation {
            None if plan.change == Change::Skip => cell("failed before").fg(Color::Yellow),
            None => cell("as it should be"),
            Some(operation) => {
                let cell = cell(ending(operation));
                match operation.status {
                    OperationStatus::Failed => {
                        failed += 1;
                        cell.fg(Color::Red)
                    }
                    _ if plan.change == Change::Repair => {
                        put_right += 1;
                        cell
                    }
                    _ => cell,
                }
            }
        };
        table.row(vec![cell(&plan.tenant), cell(change), result]);
    }
    let mut text = if plans.is_empty() {
        String::new()
    } else {
        table.render()
    };
    for plan in plans {
        if let Some(told) = ran_on(plan) {
            let _ = writeln!(text, "{} runs on with {told}", plan.tenant);
        }
        if let Some(image) = &plan.pinned {
            let _ = writeln!(
                text,
                "{} keeps image {}; --pull asks its registry for a newer one",
                plan.tenant,
                short(image)
            );
        }
    }
    text.push_str(&warnings(plans, paint));
    for plan in plans {
        let outcome = plan
            .operation
            .as_ref()
            .and_then(|done| done.outcome.as_ref());
        if let Some(why) = outcome.and_then(|outcome| outcome["clone"]["skipped"].as_str()) {
            let _ = writeln!(
                text,
                "{}: its data were not cloned, so a rollback would keep them as they are: {why}",
                plan.tenant
            );
        }
    }
    let unchanged = plans.iter().filter(|plan| plan.operation.is_none()).count();
    let tenants: BTreeSet<_> = plans.iter().map(|plan| &plan.tenant).collect();
    let _ = write!(text, "{}: ", counted(tenants.len(), "tenant"));
    if put_right > 0 {
        let _ = write!(text, "{put_right} put right, ");
    }
    let applied = plans.len() - unchanged - failed - put_right;
    let _ = writeln!(
        text,
        "{applied} applied, {unchanged} unchanged, {failed} failed"
    );
    text
}

/// An image's id as Podman shortens it.
fn short(image: &str) -> &str {
    let digits = image.trim_start_matches("sha256:");
    digits.get(..12).unwrap_or(digits)
}

/// Every document that `paths` name, directories in order of file name.
fn read_all(paths: &[Utf8PathBuf]) -> Result<Vec<Document>, CliError> {
    let mut documents = Vec::new();
    for path in paths {
        if path == "-" {
            documents.push(read_stdin()?);
        } else if path.is_dir() {
            for file in specs_in(path)? {
                documents.push(read(&file)?);
            }
        } else {
            documents.push(read(path)?);
        }
    }
    Ok(documents)
}

/// The specs of a directory; none is an error, it is most likely the wrong one.
fn specs_in(path: &Utf8Path) -> Result<Vec<Utf8PathBuf>, CliError> {
    let failed = |source| CliError::Directory {
        path: path.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in path.read_dir_utf8().map_err(failed)? {
        let file = entry.map_err(failed)?.into_path();
        // As in tenants.d: files that editors leave behind begin with a dot.
        let hidden = file.file_name().is_some_and(|name| name.starts_with('.'));
        if file.extension() == Some("toml") && !hidden && file.is_file() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(CliError::NoSpecs(path.to_owned()));
    }
    files.sort();
    Ok(files)
}

fn read(path: &Utf8Path) -> Result<Document, CliError> {
    let bytes = files::read(path, MAX_BYTES as u64)?;
    document(path.as_str(), bytes)
}

fn read_stdin() -> Result<Document, CliError> {
    let mut bytes = Vec::new();
    // One more than is allowed, so that the check finds what is too long.
    std::io::stdin()
        .lock()
        .take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(CliError::Input)?;
    document("standard input", bytes)
}

fn document(name: &str, bytes: Vec<u8>) -> Result<Document, CliError> {
    Ok(Document {
        name: name.to_owned(),
        text: String::from_utf8(bytes).map_err(|_| CliError::NotText(name.to_owned()))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::OperationKind;

    fn plan(tenant: &str, change: Change, operation: Option<Operation>) -> ApplyPlan {
        let file = format!("/etc/containers/systemd/tenantd/{tenant}/tenant-{tenant}.container");
        ApplyPlan {
            tenant: tenant.to_owned(),
            change,
            files: if change == Change::None {
                vec![]
            } else {
                vec![file]
            },
            impact: None,
            warnings: Vec::new(),
            pinned: None,
            operation,
        }
    }

    #[test]
    fn a_dry_run_says_what_would_happen() {
        let plans = [
            plan("acme", Change::Create, None),
            plan("beta", Change::None, None),
        ];
        insta::assert_snapshot!(planned(&plans, Paint(false)), @r"
        acme would be created
          writes /etc/containers/systemd/tenantd/acme/tenant-acme.container
        beta would not change
        ");
    }

    #[test]
    fn an_update_says_whether_the_agent_runs_on() {
        use crate::cli::samples::succeeded;
        let update = |tenant: &str, live: &[&str], restart: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
            ApplyPlan {
                files: vec![],
                impact: Some(Impact {
                    live: owned(live),
                    restart: owned(restart),
                }),
                warnings: vec!["storage limits are not kept".to_owned()],
                ..plan(tenant, Change::Update, Some(succeeded(tenant)))
            }
        };
        let plans = [
            update(
                "acme",
                &["memory from 2GiB to 3GiB", "pids from 9 to 99"],
                &[],
            ),
            update("beta", &["cpus from 0.5 to 1"], &["env", "image"]),
        ];
        insta::assert_snapshot!(planned(&plans, Paint(false)), @r"
        acme would be updated
          changes memory from 2GiB to 3GiB
          changes pids from 9 to 99
          live: the agent runs on
        beta would be updated
          changes cpus from 0.5 to 1
          restarts the agent, for env, image
        warning: storage limits are not kept
        ");
        insta::assert_snapshot!(summary(&plans, Paint(false)), @r"
        TENANT  CHANGE  RESULT
        acme    update  applied in 3.2 s
        beta    update  applied in 3.2 s
        acme runs on with memory from 2GiB to 3GiB, pids from 9 to 99
        warning: storage limits are not kept
        2 tenants: 2 applied, 0 unchanged, 0 failed
        ");
    }

    #[test]
    fn the_summary_has_a_line_per_tenant() {
        use crate::cli::samples::{failed, succeeded};
        let pinned = ApplyPlan {
            pinned: Some(format!("sha256:{}", "0123456789abcdef".repeat(4))),
            ..plan("beta", Change::None, None)
        };
        let plans = [
            plan("acme", Change::Create, Some(succeeded("acme"))),
            pinned,
            plan("gamma-2", Change::Update, Some(failed("gamma-2"))),
        ];
        insta::assert_snapshot!(summary(&plans, Paint(false)), @r"
        TENANT   CHANGE  RESULT
        acme     create  applied in 3.2 s
        beta     none    as it should be
        gamma-2  update  failed after 3.2 s
        beta keeps image 0123456789ab; --pull asks its registry for a newer one
        3 tenants: 1 applied, 1 unchanged, 1 failed
        ");
    }

    #[test]
    fn what_a_reload_put_right_is_told_beside_what_it_applied() {
        use crate::cli::samples::{failed, succeeded};
        let repaired = |operation: Operation| Operation {
            kind: OperationKind::Reconcile,
            ..operation
        };
        let plans = [
            plan("acme", Change::Repair, Some(repaired(succeeded("acme")))),
            plan("beta", Change::Repair, Some(repaired(failed("beta")))),
            plan("acme", Change::Update, Some(succeeded("acme"))),
        ];
        insta::assert_snapshot!(summary(&plans, Paint(false)), @r"
        TENANT  CHANGE  RESULT
        acme    repair  put right in 3.2 s
        beta    repair  failed after 3.2 s
        acme    update  applied in 3.2 s
        2 tenants: 1 put right, 1 applied, 0 unchanged, 1 failed
        ");
    }

    #[test]
    fn a_directory_gives_its_specs_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        for name in ["b.toml", "a.toml", ".hidden.toml", "readme.md"] {
            std::fs::write(root.join(name), name).unwrap();
        }
        let documents = read_all(&[root.to_owned()]).unwrap();
        let texts: Vec<_> = documents.iter().map(|document| &*document.text).collect();
        assert_eq!(texts, ["a.toml", "b.toml"]);
    }

    #[test]
    fn a_directory_without_specs_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::try_from(dir.path().to_owned()).unwrap();
        assert!(matches!(read_all(&[root]), Err(CliError::NoSpecs(_))));
    }
}
