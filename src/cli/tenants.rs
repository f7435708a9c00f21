//! `list`: the tenants that there are, a line for each.
//! What one tenant is in full is `show`'s.

use jiff::Timestamp;

use super::args::ListArgs;
use super::client::Client;
use super::console::{Console, Paint};
use super::error::CliError;
use super::human::{age, bytes};
use super::output::show as print;
use super::table::{Table, cell, maybe, state};
use crate::api::{SleepTier, StorageUsage, TenantSummary};
use crate::host::clock;
use crate::protect::{Kept, Release};
use crate::tenant::FailureCause;

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
        .chain(sleep(tenant, now))
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

/// How deep it sleeps, where its state does not say that.
fn sleep(tenant: &TenantSummary, now: Timestamp) -> Option<String> {
    let sleep = tenant.sleep?;
    (sleep.tier == SleepTier::PagedOut)
        .then(|| format!("{} {}", sleep.tier.as_str(), age(now, sleep.since)))
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
pub(super) fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// What a restore has left, and that it takes room.
pub(super) fn kept_note(kept: &Kept, now: Timestamp) -> String {
    format!(
        "keeps {} from before the restore {}",
        bytes(kept.bytes),
        age(now, kept.since)
    )
}

/// What a rollback has left, and that it takes room.
pub(super) fn set_aside_note(release: &Release) -> String {
    format!(
        "keeps {} that revision {} has written",
        bytes(release.bytes),
        release.revision
    )
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
}
