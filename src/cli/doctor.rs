//! `doctor`: shows what it finds, and has what is safe mended.
//! What is found and what is safe is the node's business.

use std::fmt::Write;

use camino::Utf8PathBuf;
use serde_json::{Value, json};

use super::args::DoctorArgs;
use super::client::{Client, ClientError};
use super::console::{Console, Paint};
use super::error::CliError;
use super::follow::{follow, problem};
use super::output;
use super::table::{Table, cell};
use crate::api::{CheckResult, ReloadReport, Verdict};
use crate::daemon;
use crate::host::facts::Facts;
use crate::layout::Layout;
use crate::node::doctor::{self, CHECKS, Fix, mend};

/// Runs the command; an error when a check failed. While the daemon does not answer, this process looks at the host
/// itself.
pub async fn run(client: &Client, console: Console, args: DoctorArgs) -> Result<(), CliError> {
    if args.list {
        let listed = if args.output.json {
            output::json(&CHECKS)
        } else {
            listed(console.out)
        };
        return console.print(&listed);
    }
    let mut document = examined(client, &args).await?;
    if args.fix {
        let fixes = fixes(&output::understood::<Vec<CheckResult>>(document.clone())?);
        if args.dry_run {
            if !args.output.json {
                return console.print(&planned(&fixes));
            }
        } else {
            mend_all(client, console, &fixes).await?;
            document = examined(client, &args).await?;
        }
    }
    let checks: Vec<CheckResult> = output::understood(document.clone())?;
    if args.output.json {
        console.print(&output::json(&document))?;
    } else {
        console.print(&shown(&checks, console.out))?;
    }
    let failed = checks.iter().filter(|c| c.verdict == Verdict::Failed);
    match failed.count() {
        0 => Ok(()),
        failed => Err(CliError::Unfit(failed)),
    }
}

/// What the checks that were asked for say.
async fn examined(client: &Client, args: &DoctorArgs) -> Result<Value, CliError> {
    let answer: Result<Value, ClientError> = if args.store {
        client.post("/v1/doctor/store", &json!({})).await
    } else {
        client.get("/v1/doctor").await
    };
    let mut document = match answer {
        Ok(document) => document,
        Err(error) if error.is_absence() => alone(error, args.store).await?,
        Err(error) => return Err(error.into()),
    };
    if let (Value::Array(checks), false) = (&mut document, args.only.is_empty()) {
        checks.retain(|check| args.only.iter().any(|name| check["check"] == **name));
    }
    Ok(document)
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

/// What is to be done, each thing once: several checks may want the same.
fn fixes(checks: &[CheckResult]) -> Vec<Fix> {
    let mut fixes: Vec<Fix> = Vec::new();
    for fix in checks.iter().flat_map(|check| &check.fixes) {
        if !fixes.contains(fix) {
            fixes.push(fix.clone());
        }
    }
    fixes
}

/// Does everything, saying each before it is done; an error when something could not be.
async fn mend_all(client: &Client, console: Console, fixes: &[Fix]) -> Result<(), CliError> {
    let layout = Layout::default();
    if !fixes.is_empty() && !Facts::gather(layout.root()).root {
        return Err(CliError::MendingNeedsRoot);
    }
    let settings = daemon::read_settings(&layout).ok();
    let credentials: Option<Utf8PathBuf> = settings.and_then(|found| found.store.credentials);
    let mut failures = 0;
    for fix in fixes {
        console.tell(&format!("mending: {fix}\n"));
        let mended = match fix {
            Fix::Reload => reload(client, console).await,
            fix => mend::mend(&layout, credentials.as_deref(), fix)
                .await
                .map_err(CliError::Mend),
        };
        if let Err(error) = mended {
            failures += 1;
            console.tell(&error.report(console.err));
        }
    }
    match failures {
        0 => Ok(()),
        failures => Err(CliError::Unmended(failures)),
    }
}

/// Has the daemon put tenants' units right, and waits for that.
async fn reload(client: &Client, console: Console) -> Result<(), CliError> {
    let report: ReloadReport = client.post("/v1/reload?pull=false", &json!({})).await?;
    let operations = report.plans.into_iter().filter_map(|plan| plan.operation);
    let operations: Vec<_> = operations.collect();
    let ended = follow(client, console, &operations).await?;
    let total = ended.len();
    // Specs that are not valid have nothing to do with units, and `tenantd reload` tells of them.
    output::all_well(ended.iter().filter_map(problem).collect(), total)
}

/// What `--fix` would do.
fn planned(fixes: &[Fix]) -> String {
    if fixes.is_empty() {
        return "nothing that `--fix` could mend\n".to_owned();
    }
    let lines = fixes.iter().map(|fix| format!("would mend: {fix}\n"));
    lines.collect()
}

/// The registry, as a table.
fn listed(paint: Paint) -> String {
    let mut table = Table::new(&["CHECK", "WORST", "--fix", "REASON"], paint);
    for check in CHECKS {
        table.row(vec![
            cell(check.name),
            cell(check.severity.as_str()),
            cell(if check.fixable { "yes" } else { "-" }),
            cell(check.reason),
        ]);
    }
    table.render()
}

/// One line per check, and below it why it matters and what to do. They can be long: each has its own line.
fn shown(checks: &[CheckResult], paint: Paint) -> String {
    let width = checks.iter().map(|check| check.check.len()).max();
    let width = width.unwrap_or_default();
    let mut text = String::new();
    for check in checks {
        let verdict = match check.verdict {
            Verdict::Ok => paint.good("ok     "),
            Verdict::Unknown => paint.warn("unknown"),
            Verdict::Warning => paint.warn("warning"),
            Verdict::Failed => paint.bad("failed "),
        };
        let _ = writeln!(text, "{verdict}  {:width$}  {}", check.check, check.finding);
        let more = [("reason", &check.reason), ("remedy", &check.remedy)];
        for (what, told) in more {
            if let Some(told) = told {
                let _ = writeln!(text, "         {:width$}  {what}: {told}", "");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, verdict: Verdict, finding: &str, remedy: Option<&str>) -> CheckResult {
        CheckResult {
            check: name.to_owned(),
            verdict,
            finding: finding.to_owned(),
            reason: remedy.map(|_| "it matters".to_owned()),
            remedy: remedy.map(str::to_owned),
            fixes: Vec::new(),
        }
    }

    #[test]
    fn the_doctor_says_what_to_do() {
        let checks = [
            check("systemd", Verdict::Ok, "257", None),
            check(
                "controllers",
                Verdict::Warning,
                "no memory controller",
                Some("boot with cgroup_enable=memory"),
            ),
            check("os-updates", Verdict::Unknown, "not known: why", None),
            check(
                "swap",
                Verdict::Failed,
                "/dev/sda2 is not encrypted",
                Some("use zram"),
            ),
        ];
        insta::assert_snapshot!(shown(&checks, Paint(false)), @r"
        ok       systemd      257
        warning  controllers  no memory controller
                              reason: it matters
                              remedy: boot with cgroup_enable=memory
        unknown  os-updates   not known: why
        failed   swap         /dev/sda2 is not encrypted
                              reason: it matters
                              remedy: use zram
        ");
    }

    #[test]
    fn what_several_checks_want_is_done_once() {
        let enable = |unit: &str| Fix::EnableUnit {
            unit: unit.to_owned(),
        };
        let checks =
            [vec![enable("b"), Fix::ReserveIds], vec![enable("b")]].map(|fixes| CheckResult {
                fixes,
                ..check("any", Verdict::Failed, "", None)
            });
        let fixes = fixes(&checks);
        assert_eq!(fixes, [enable("b"), Fix::ReserveIds]);
        insta::assert_snapshot!(planned(&fixes), @r"
        would mend: systemctl enable --now b
        would mend: add the range of the tenants' ids to /etc/subuid and /etc/subgid
        ");
        assert_eq!(planned(&[]), "nothing that `--fix` could mend\n");
    }

    /// `docs/doctor.md` names every check; `TENANTD_REGENERATE=1 cargo test --lib doctor` writes its table anew.
    #[test]
    fn the_document_lists_every_check() {
        const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctor.md");
        const MARK: &str = "<!-- checks -->\n";
        let mut table = "| check | worst | `--fix` | because |\n|---|---|---|---|\n".to_owned();
        for check in CHECKS {
            let fix = if check.fixable { "yes" } else { "" };
            let _ = writeln!(
                table,
                "| `{}` | {} | {fix} | {} |",
                check.name,
                check.severity.as_str(),
                check.reason
            );
        }
        let document = std::fs::read_to_string(PATH).unwrap();
        let parts: Vec<&str> = document.split(MARK).collect();
        let &[before, found, after] = &*parts else {
            panic!("{MARK:?} does not stand twice in {PATH}");
        };
        if std::env::var_os("TENANTD_REGENERATE").is_some() {
            std::fs::write(PATH, format!("{before}{MARK}{table}{MARK}{after}")).unwrap();
        } else {
            assert_eq!(
                found, table,
                "run TENANTD_REGENERATE=1 cargo test --lib doctor"
            );
        }
    }
}
