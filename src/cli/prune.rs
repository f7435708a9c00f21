//! `prune`: asks the protect room to collect a store's repositories, and shows what stays and why.
//! It needs no daemon, so that it can run where the host's key does not reach.

use std::fmt::Write as _;

use camino::Utf8Path;

use super::args::PruneArgs;
use super::confirm::confirm;
use super::console::{Console, Paint};
use super::error::CliError;
use super::human::{bytes, counted};
use super::output;
use super::table::{Table, cell};
use crate::backup::collect::{CollectRequest, Fate, JudgedSnapshot};
use crate::daemon;
use crate::host::clock;
use crate::layout::Layout;
use crate::node::{NodeSettings, RetentionSettings, StoreSettings};
use crate::protect::{PruneRequest, Pruned, prune};

/// `prune`.
pub async fn run(console: Console, layout: &Layout, args: PruneArgs) -> Result<(), CliError> {
    let request = request(layout, &args)?;
    if !args.yes && !args.dry_run {
        confirm(&format!(
            "This deletes from {} what no snapshot that is kept needs.",
            request.store.url
        ))?;
    }
    let pruned = prune(layout, &request).await?;
    if args.output.json {
        console.print(&output::json(&pruned))?;
    } else {
        console.print(&shown(&pruned, args.dry_run, console.out))?;
    }
    let is_undone = |one: &&Pruned| one.report.blocked.is_some() || one.report.denied.objects > 0;
    match pruned.iter().filter(is_undone).count() {
        0 => Ok(()),
        count => Err(CliError::NotPruned {
            count,
            total: pruned.len(),
        }),
    }
}

fn request(layout: &Layout, args: &PruneArgs) -> Result<PruneRequest, CliError> {
    let default = layout.node_toml();
    let settings = match &args.settings {
        Some(path) => Some(daemon::read_settings_of(path)?),
        None if default.exists() => Some(daemon::read_settings_of(&default)?),
        None => None,
    };
    let root = match (&args.root_key, &settings) {
        (Some(key), _) => super::init::text_or_file(key)?,
        (None, Some(settings)) => settings.keys.root.clone(),
        (None, None) => return Err(missing("--root-key", &default)),
    };
    let retention = settings
        .as_ref()
        .map_or_else(RetentionSettings::default, |s| s.retention);
    Ok(PruneRequest {
        store: store(args, settings, &default)?,
        root,
        repositories: args.repository.clone(),
        tenants: args.tenants.clone(),
        collect: CollectRequest {
            policy: retention.policy(),
            dry_run: args.dry_run,
            drop_refused: args.drop_refused,
            now: clock::now(),
        },
    })
}

fn store(
    args: &PruneArgs,
    settings: Option<NodeSettings>,
    default: &Utf8Path,
) -> Result<StoreSettings, CliError> {
    let mut store = match (&args.store, settings) {
        (Some(url), None) => StoreSettings {
            url: url.clone(),
            ..StoreSettings::default()
        },
        (Some(url), Some(settings)) => StoreSettings {
            url: url.clone(),
            ..settings.store
        },
        (None, Some(settings)) => settings.store,
        (None, None) => return Err(missing("--store", default)),
    };
    let given = |new: &Option<String>, old: &mut Option<String>| {
        if new.is_some() {
            old.clone_from(new);
        }
    };
    given(&args.endpoint, &mut store.endpoint);
    given(&args.region, &mut store.region);
    if args.credentials.is_some() {
        store.credentials.clone_from(&args.credentials);
    }
    Ok(store)
}

fn missing(option: &str, default: &Utf8Path) -> CliError {
    CliError::Usage(format!(
        "there is no {default} here: give {option}, or --settings with a copy of the host's node.toml"
    ))
}

const HEADER: [&str; 7] = [
    "TENANT",
    "REPOSITORY",
    "SNAPSHOTS",
    "KEPT",
    "MARKED",
    "WAITING",
    "DELETED",
];

fn shown(pruned: &[Pruned], dry_run: bool, paint: Paint) -> String {
    if pruned.is_empty() {
        return "There is no repository in this store.\n".to_owned();
    }
    let mut table = Table::new(&HEADER, paint);
    let mut notes = String::new();
    for Pruned { tenant, report } in pruned {
        let repository = report.repository.map(|prefix| prefix.to_string());
        let repository = repository.unwrap_or_default();
        let left = report.snapshots.iter().filter(|s| s.fate != Fate::Deleted);
        table.row(vec![
            cell(tenant.as_deref().unwrap_or("-")),
            cell(&repository),
            cell(left.count()),
            cell(bytes(report.kept.bytes)),
            cell(bytes(report.marked.bytes)),
            cell(bytes(report.waiting.bytes)),
            cell(bytes(report.deleted.bytes)),
        ]);
        let name = tenant.as_ref().unwrap_or(&repository);
        if let Some(blocked) = &report.blocked {
            let _ = writeln!(
                notes,
                "{}: {name}: {blocked}",
                paint.bad("nothing was collected")
            );
        }
        for refused in &report.refused {
            let reason = &refused.reason;
            let _ = writeln!(notes, "{}: {name}: {reason}", paint.warn("left alone"));
        }
        if report.locked.objects > 0 {
            let until = report.locked_until.map_or_else(
                || "later".to_owned(),
                |until| until.strftime("%Y-%m-%d %H:%M UTC").to_string(),
            );
            let count = usize::try_from(report.locked.objects).unwrap_or(usize::MAX);
            let _ = writeln!(
                notes,
                "not yet: {name}: {} ({}) locked until {until}",
                counted(count, "object"),
                bytes(report.locked.bytes),
            );
        }
        if report.denied.objects > 0 {
            let count = usize::try_from(report.denied.objects).unwrap_or(usize::MAX);
            let _ = writeln!(
                notes,
                "{}: {name}: {} ({}) should go",
                paint.bad("denied"),
                counted(count, "object"),
                bytes(report.denied.bytes),
            );
        }
    }
    let mut text = table.render();
    text.push_str(&notes);
    if pruned.iter().any(|one| one.report.denied.objects > 0) {
        text.push_str(
            "The store's key may not delete: `prune` needs `deleteFiles` at B2, \
             `s3:DeleteObject` and `s3:DeleteObjectVersion` elsewhere.\n",
        );
    }
    if dry_run {
        text.push_str(&snapshots(pruned, paint));
        text.push_str("Nothing was changed.\n");
    }
    text
}

/// Every snapshot with what keeps it.
fn snapshots(pruned: &[Pruned], paint: Paint) -> String {
    let mut table = Table::new(&["TENANT", "SNAPSHOT", "TAKEN", "STORED", "KEPT BY"], paint);
    for Pruned { tenant, report } in pruned {
        let repository = report.repository.map(|prefix| prefix.to_string());
        let name = tenant.clone().or(repository).unwrap_or_default();
        for snapshot in &report.snapshots {
            let at = |time: jiff::Timestamp| time.strftime("%Y-%m-%d %H:%M").to_string();
            table.row(vec![
                cell(&name),
                cell(snapshot.snapshot),
                cell(at(snapshot.taken_at)),
                cell(at(snapshot.stored_at)),
                cell(kept_by(snapshot)),
            ]);
        }
    }
    table.render()
}

fn kept_by(snapshot: &JudgedSnapshot) -> String {
    match snapshot.fate {
        Fate::Kept => {
            let reasons: Vec<_> = snapshot.kept_by.iter().map(ToString::to_string).collect();
            reasons.join(", ")
        }
        Fate::Marked => "nothing: it goes after the grace period".to_owned(),
        Fate::Deleted => "nothing: it goes now".to_owned(),
        Fate::Locked => "the store's lock".to_owned(),
        Fate::Denied => "a key that may not delete".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::Digest;
    use crate::backup::collect::{Amount, Blocked, CollectReport, RefusedSnapshot};
    use crate::backup::retention::Reason;
    use crate::cli::samples;

    fn snapshot(number: u32, fate: Fate, kept_by: &[Reason]) -> JudgedSnapshot {
        JudgedSnapshot {
            epoch: 1,
            snapshot: number,
            commit: Digest::of(b"x"),
            node: "SHA256:abc".to_owned(),
            taken_at: samples::at("2026-05-04T11:15:00Z"),
            stored_at: samples::at("2026-05-04T11:16:00Z"),
            kept_by: kept_by.iter().copied().collect(),
            fate,
        }
    }

    #[test]
    fn what_stays_and_what_goes_is_shown_with_reasons() {
        let amount = |objects, bytes| Amount { objects, bytes };
        let acme = CollectReport {
            repository: Some("00112233445566778899aabbccddeeff".parse().unwrap()),
            snapshots: vec![
                snapshot(1, Fate::Deleted, &[]),
                snapshot(2, Fate::Marked, &[]),
                snapshot(3, Fate::Locked, &[]),
                snapshot(4, Fate::Kept, &[Reason::Daily, Reason::Hourly]),
                snapshot(5, Fate::Kept, &[Reason::Newest, Reason::Grace]),
            ],
            refused: vec![RefusedSnapshot {
                commit: "c".to_owned(),
                reason: "the commit's signature does not hold".to_owned(),
            }],
            kept: amount(9, 5 << 20),
            marked: amount(2, 1 << 20),
            deleted: amount(3, 1 << 10),
            locked: amount(1, 700),
            locked_until: Some(samples::at("2026-06-01T00:00:00Z")),
            denied: amount(2, 3000),
            ..CollectReport::default()
        };
        let other = CollectReport {
            repository: Some("ffeeddccbbaa99887766554433221100".parse().unwrap()),
            blocked: Some(Blocked::NoCommit),
            ..CollectReport::default()
        };
        let pruned = [
            Pruned {
                tenant: Some("acme".to_owned()),
                report: acme,
            },
            Pruned {
                tenant: None,
                report: other,
            },
        ];
        insta::assert_snapshot!(shown(&pruned, true, Paint(false)));
    }
}
