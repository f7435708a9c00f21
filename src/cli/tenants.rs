//! `list`, `show`, `units`: what there is.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;

use super::args::{ListArgs, Output, UnitsArgs};
use super::client::Client;
use super::console::{Console, Paint};
use super::error::CliError;
use super::follow::ending;
use super::human::{age, bytes, length};
use super::output::show as print;
use super::patch::{coloured, ended, patch};
use super::table::{Table, cell, maybe, state};
use crate::api::{
    HistoryLine, RenderedFile, StorageUsage, TenantDetail, TenantSummary, TenantUnits,
};
use crate::host::clock;
use crate::protect::{CheckOutcome, Kept, Release};
use crate::tenant::{FailureCause, TenantId};

/// `list`.
pub async fn list(client: &Client, console: Console, args: ListArgs) -> Result<(), CliError> {
    let path = if args.all {
        "/v1/tenants?all=true"
    } else {
        "/v1/tenants"
    };
    print(client, console, path, args.output.json, |tenants| {
        listed(tenants, clock::now(), console.out)
    })
    .await
}

/// `show`.
pub async fn show(
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

/// `units`.
pub async fn units(client: &Client, console: Console, args: UnitsArgs) -> Result<(), CliError> {
    let path = format!("/v1/tenants/{}/units", args.tenant);
    print(client, console, &path, args.output.json, |units| {
        if args.diff {
            differences(&units, console.out)
        } else {
            files(&units, console.out)
        }
    })
    .await
}

fn listed(tenants: Vec<TenantSummary>, now: Timestamp, paint: Paint) -> String {
    if tenants.is_empty() {
        return "There are no tenants yet; `tenantd apply FILE` makes one.\n".to_owned();
    }
    let header = [
        "TENANT", "STATE", "SINCE", "TEMPLATE", "PLAN", "REVISION", "BACKUP", "NOTE",
    ];
    let mut table = Table::new(&header, paint);
    for tenant in tenants {
        let note = note(&tenant, now);
        table.row(vec![
            cell(tenant.id),
            state(&tenant.state),
            cell(age(now, tenant.since)),
            maybe(tenant.template),
            maybe(tenant.plan),
            maybe(tenant.revision),
            maybe(tenant.last_backup.map(|at| age(now, at))),
            cell(note),
        ]);
    }
    table.render()
}

/// Why it is as it is, and what the host does not do for it.
fn note(tenant: &TenantSummary, now: Timestamp) -> String {
    let unenforced = (!tenant.unenforced.is_empty())
        .then(|| format!("not limited: {}", tenant.unenforced.join(", ")));
    let storage = tenant.storage.filter(StorageUsage::is_nearly_full);
    let storage = storage.and_then(|found| found.percent());
    let notes: Vec<_> = tenant
        .reason
        .iter()
        .map(|reason| caused(tenant.cause, reason))
        .chain(plans(tenant))
        .chain(tenant.checks.failures())
        .chain(tenant.kept.as_ref().map(|kept| kept_note(kept, now)))
        .chain(storage.map(|percent| format!("storage is {percent} % full")))
        .chain(
            tenant
                .releases
                .iter()
                .filter(|release| release.set_aside)
                .map(set_aside_note),
        )
        .chain(unenforced)
        .collect();
    notes.join("; ")
}

/// A reason under the name of its cause.
fn caused(cause: Option<FailureCause>, reason: &str) -> String {
    cause.map_or_else(|| reason.to_owned(), |cause| format!("{cause}: {reason}"))
}

/// What tenantd is going to do about it, or not.
fn plans(tenant: &TenantSummary) -> Vec<String> {
    let next_try = tenant
        .next_try
        .map(|at| format!("next try at {}", second(at)));
    let breaker = tenant
        .breaker_open_since
        .map(|since| format!("breaker open: too many rollbacks since {}", second(since)));
    let erased = tenant
        .erase_at
        .map(|at| format!("erased after {}", second(at)));
    [next_try, breaker, erased].into_iter().flatten().collect()
}

/// A time, to the second.
fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// What a restore has left, and that it takes room.
fn kept_note(kept: &Kept, now: Timestamp) -> String {
    format!(
        "keeps {} from before the restore {}",
        bytes(kept.bytes),
        age(now, kept.since)
    )
}

/// What a rollback has left, and that it takes room.
fn set_aside_note(release: &Release) -> String {
    format!(
        "keeps {} that revision {} has written",
        bytes(release.bytes),
        release.revision
    )
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

/// The rendered files, one after the other, each under its name.
fn files(units: &TenantUnits, paint: Paint) -> String {
    let mut text = String::new();
    for file in &units.files {
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = writeln!(text, "{}", paint.dim(&format!("# {}", file.path)));
        text.push_str(&ended(&file.rendered));
    }
    text
}

/// What is installed against what was rendered; nothing when they are the same.
fn differences(units: &TenantUnits, paint: Paint) -> String {
    let changed = units
        .files
        .iter()
        .filter(|file| file.installed.as_deref() != Some(&*file.rendered));
    changed.map(|file| difference(file, paint)).collect()
}

fn difference(file: &RenderedFile, paint: Paint) -> String {
    let installed = file.installed.as_deref().unwrap_or_default();
    let from = match file.installed {
        Some(_) => format!("installed{}", file.path),
        None => "/dev/null".to_owned(),
    };
    let to = format!("rendered{}", file.path);
    coloured(&patch((&from, installed), (&to, &file.rendered)), paint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;
    use crate::state::Wanted;

    const PLAIN: Paint = Paint(false);

    #[test]
    fn a_list_shows_what_needs_saying() {
        let tenants = vec![
            samples::running("acme"),
            TenantSummary {
                state: "failed".to_owned(),
                reason: Some("it ended with 3; restarted 5 times".to_owned()),
                cause: Some(FailureCause::CrashLoop),
                next_try: Some(samples::at("2026-05-04T12:05:00Z")),
                last_backup: None,
                unenforced: vec!["memory".to_owned(), "cpu".to_owned()],
                ..samples::running("a-longer-name")
            },
            TenantSummary {
                state: "suspended".to_owned(),
                reason: Some("billing".to_owned()),
                wanted: Wanted::Suspended,
                template: None,
                plan: None,
                revision: None,
                ..samples::running("foo-bar")
            },
            TenantSummary {
                state: "terminated".to_owned(),
                wanted: Wanted::Removed,
                erase_at: Some(samples::at("2026-05-18T12:00:00Z")),
                ..samples::running("gone")
            },
        ];
        insta::assert_snapshot!(listed(tenants, samples::now(), PLAIN));
    }

    #[test]
    fn an_empty_list_says_what_to_do() {
        insta::assert_snapshot!(
            listed(vec![], samples::now(), PLAIN),
            @"There are no tenants yet; `tenantd apply FILE` makes one."
        );
    }

    #[test]
    fn one_tenant_is_shown_whole() {
        insta::assert_snapshot!(shown(&samples::detail(), samples::now(), PLAIN));
    }

    fn some_units() -> TenantUnits {
        let file = |name: &str, rendered: &str, installed: Option<&str>| RenderedFile {
            path: format!("/etc/systemd/system/{name}"),
            rendered: rendered.to_owned(),
            installed: installed.map(str::to_owned),
        };
        TenantUnits {
            revision: 3,
            files: vec![
                file("same.slice", "[Slice]\nA=1\n", Some("[Slice]\nA=1\n")),
                file(
                    "edited.slice",
                    "[Slice]\nA=1\nB=2\n",
                    Some("[Slice]\nA=9\nB=2\n"),
                ),
                file("link.service", "link to /x", None),
            ],
        }
    }

    #[test]
    fn units_are_printed_under_their_names() {
        insta::assert_snapshot!(files(&some_units(), PLAIN));
    }

    #[test]
    fn a_difference_is_a_patch_from_installed_to_rendered() {
        insta::assert_snapshot!(differences(&some_units(), PLAIN));
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let coloured = differences(&some_units(), Paint(true));
        assert!(coloured.contains("\u{1b}["));
        let mut plain = coloured;
        for code in [
            "\u{1b}[0m",
            "\u{1b}[1m",
            "\u{1b}[2m",
            "\u{1b}[31m",
            "\u{1b}[32m",
        ] {
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, differences(&some_units(), PLAIN));
    }
}
