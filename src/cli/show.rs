//! `show`: everything that is known of one tenant.
//! It lays out and says nothing that the API does not.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;

use super::args::Output;
use super::client::Client;
use super::console::{Console, Paint};
use super::error::CliError;
use super::follow::ending;
use super::human::{age, bytes, length};
use super::output::show as print;
use super::table::{Table, cell, maybe, state};
use super::tenants::{kept_note, second};
use crate::api::{HistoryLine, StorageUsage, TenantDetail, TenantSummary};
use crate::host::clock;
use crate::protect::CheckOutcome;
use crate::tenant::TenantId;

/// `show`.
pub async fn run(
    client: &Client,
    console: Console,
    tenant: &TenantId,
    output: Output,
) -> Result<(), CliError> {
    let path = format!("/v1/tenants/{tenant}");
    print(client, console, &path, output.json, |detail| {
        shown(&detail, clock::now(), console.out)
    })
    .await
}

fn shown(tenant: &TenantDetail, now: Timestamp, paint: Paint) -> String {
    let summary = &tenant.summary;
    let mut text = facts(tenant, now, paint);
    if !tenant.units.is_empty() {
        let mut table = Table::new(&["UNIT", "STATE"], paint);
        for (unit, state) in &tenant.units {
            table.row(vec![cell(unit), cell(state)]);
        }
        let _ = write!(text, "\n{}", table.render());
    }
    if !tenant.operations.is_empty() {
        let mut table = Table::new(&["OPERATION", "BEGUN", "BY", "RESULT"], paint);
        for operation in &tenant.operations {
            table.row(vec![
                cell(operation.kind.as_str()),
                cell(age(now, operation.started_at)),
                cell(&operation.actor),
                cell(ending(operation)),
            ]);
        }
        let _ = write!(text, "\n{}", table.render());
    }
    if !tenant.transitions.is_empty() {
        let mut table = Table::new(
            &["STATES", "BY", "EDGE", "FROM", "TO", "CAUSE", "WHY"],
            paint,
        );
        for line in tenant.transitions.iter().rev() {
            table.row(vec![
                cell(age(now, line.at)),
                cell(&line.actor),
                cell(&line.edge),
                cell(&line.from),
                cell(&line.to),
                maybe(line.cause.as_ref()),
                cell(line.reason.as_deref().unwrap_or_default()),
            ]);
        }
        let _ = write!(text, "\n{}", table.render());
    }
    // Changes of state are shown above, with what else is known of each.
    let is_other = |line: &&HistoryLine| !line.action.contains(" -> ");
    let history: Vec<_> = tenant.history.iter().filter(is_other).collect();
    if !history.is_empty() {
        let mut table = Table::new(&["HISTORY", "BY", "WHAT", "WHY"], paint);
        for line in history {
            table.row(vec![
                cell(age(now, line.at)),
                cell(&line.actor),
                cell(&line.action),
                cell(line.detail.as_deref().unwrap_or_default()),
            ]);
        }
        let _ = write!(text, "\n{}", table.render());
    }
    for limit in &summary.unenforced {
        let _ = writeln!(
            text,
            "\n{}: this host does not enforce the plan's limit on {limit}",
            paint.warn("warning")
        );
    }
    text
}

fn facts(tenant: &TenantDetail, now: Timestamp, paint: Paint) -> String {
    let summary = &tenant.summary;
    let mut table = Table::new(&[], paint);
    let mut fact = |name: &str, value: comfy_table::Cell| table.row(vec![cell(name), value]);
    fact("Tenant", cell(&summary.id));
    fact("State", state(&summary.state));
    if let Some(sleep) = summary.sleep {
        let told = format!("{}, {}", sleep.tier.as_str(), age(now, sleep.since));
        fact("Sleep", cell(told));
    }
    if let Some(reason) = &summary.reason {
        fact("Reason", cell(reason));
    }
    if let Some(cause) = summary.cause {
        fact("Cause", cell(cause));
    }
    if let Some(at) = summary.next_try {
        fact("Next try", cell(second(at)));
    }
    if let Some(since) = summary.breaker_open_since {
        let id = &summary.id;
        let told = format!(
            "open: too many rollbacks since {}; `tenantd start {id}` or `apply --force` closes it",
            second(since)
        );
        fact("Breaker", cell(told));
    }
    if let Some(at) = summary.erase_at {
        let id = &summary.id;
        fact(
            "Erased after",
            cell(format!(
                "{}; `tenantd reclaim {id}` takes the removal back",
                second(at)
            )),
        );
    }
    fact("Since", cell(age(now, summary.since)));
    fact("Template", maybe(summary.template.as_ref()));
    fact("Plan", maybe(summary.plan.as_ref()));
    fact("Image", maybe(summary.image.as_ref()));
    fact("Image id", maybe(tenant.image_id.as_ref()));
    let good = tenant
        .good_revision
        .filter(|good| Some(*good) != summary.revision)
        .map(|good| format!(" (last known good: {good})"));
    let revision = summary
        .revision
        .map(|number| format!("{number}{}", good.unwrap_or_default()));
    fact("Revision", maybe(revision));
    for (name, told) in releases(summary, now) {
        fact(name, cell(told));
    }
    let source = tenant.source.as_deref().unwrap_or("applied by hand");
    fact("Defined by", cell(source));
    let backup = summary.last_backup.map(|at| age(now, at));
    fact(
        "Last backup",
        cell(backup.unwrap_or_else(|| "never".to_owned())),
    );
    for (name, told) in checks(summary, now) {
        fact(name, cell(told));
    }
    if let Some(kept) = &summary.kept {
        let id = &summary.id;
        let what = kept_note(kept, now);
        fact(
            "Old state",
            cell(format!(
                "{what}; `tenantd restore {id} --undo` or `--accept`"
            )),
        );
    }
    if let Some(storage) = &summary.storage {
        fact("Storage", cell(storage_fact(storage, now)));
    }
    fact("Ingress", cell(&tenant.ingress_socket));
    fact("State directory", cell(&tenant.state_directory));
    // The range's length is fixed: see `tenant::IdRange`.
    let last = tenant.first_uid.saturating_add(65_535);
    fact("Host ids", cell(format!("{} to {last}", tenant.first_uid)));
    if let Some(usage) = &tenant.usage {
        let uses = [
            usage
                .memory_bytes
                .map(|memory| format!("memory {}", bytes(memory))),
            usage
                .cpu_nanoseconds
                .map(|cpu| format!("processor {}", length(Duration::from_nanos(cpu)))),
            usage.pids.map(|pids| format!("tasks {pids}")),
        ];
        let uses: Vec<_> = uses.into_iter().flatten().collect();
        fact("Uses", cell(uses.join(", ")));
    }
    if let Some(ending) = &tenant.container_ending {
        fact("Last ended", cell(ending));
    }
    table.render()
}

/// What was last found of its backups.
fn checks(summary: &TenantSummary, now: Timestamp) -> Vec<(&'static str, String)> {
    let checked = [
        ("Last verified", &summary.checks.verify),
        ("Last drill", &summary.checks.drill),
    ];
    let made = checked
        .into_iter()
        .filter_map(|(name, checked)| Some((name, checked.as_ref()?)));
    let told = made.map(|(name, checked)| {
        let outcome = match checked.outcome {
            CheckOutcome::Good => "good",
            CheckOutcome::Faulty => "faulty",
            CheckOutcome::Skipped => "skipped",
        };
        let told = format!("{}, {outcome}: {}", age(now, checked.at), checked.detail);
        (name, told)
    });
    told.collect()
}

/// What the state holds of what it may, and who keeps it to that.
fn storage_fact(storage: &StorageUsage, now: Timestamp) -> String {
    let limit = bytes(storage.limit_bytes);
    let share = storage.percent().map(|percent| format!(" ({percent} %)"));
    let share = share.unwrap_or_default();
    let used = storage.used_bytes.map(bytes);
    match (storage.kept, used, storage.at) {
        (true, Some(used), _) => format!("{used} of {limit}{share}"),
        (true, None, _) => format!("at most {limit}"),
        (false, Some(used), Some(at)) => format!(
            "{used} of {limit}{share} in the snapshot of {}; the limit is not kept",
            age(now, at)
        ),
        _ => format!("at most {limit}; the limit is not kept, and nothing was measured yet"),
    }
}

/// The trial of what is installed, and the releases that can be returned to.
fn releases(summary: &TenantSummary, now: Timestamp) -> Vec<(&'static str, String)> {
    let mut told = Vec::new();
    if let Some(trial) = &summary.trial {
        let crashes = match trial.crashes {
            0 => String::new(),
            times => format!(", crashed {times} times"),
        };
        told.push(("On trial", format!("until {}{crashes}", trial.ends_at)));
    }
    for release in &summary.releases {
        let (id, number) = (&summary.id, release.revision);
        let (size, left) = (bytes(release.bytes), age(now, release.since));
        let text = if release.set_aside {
            format!(
                "{number}, set aside {left}: {size} in {}; `tenantd rollback {id} --to {number}`, or `tenantd restore {id} \
                 --accept` removes it",
                release.path
            )
        } else {
            format!(
                "{number}, left {left}, with its data ({size}); `tenantd rollback {id} --to {number}`"
            )
        };
        told.push(("Release", text));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    #[test]
    fn one_tenant_is_shown_whole() {
        insta::assert_snapshot!(shown(&samples::detail(), samples::now(), Paint(false)));
    }
}
