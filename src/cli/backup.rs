//! `backup`, `snapshots`.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::args::{BackupArgs, SnapshotsArgs, Wait};
use super::client::Client;
use super::console::{Console, Paint};
use super::error::CliError;
use super::follow::{follow, problem};
use super::human::{age, bytes, length};
use super::life::{self, Verb};
use super::output;
use super::table::{Table, cell, maybe};
use crate::api::SnapshotSummary;
use crate::host::clock;
use crate::state::Operation;

/// `backup`.
pub async fn backup(client: &Client, console: Console, args: BackupArgs) -> Result<(), CliError> {
    let (ended, failures) = if args.tenants.is_empty() {
        let operations: Vec<Operation> = client.post("/v1/backups", &json!({})).await?;
        let ended = follow(client, console, &operations).await?;
        let failures = ended.iter().filter_map(problem).collect();
        (ended, failures)
    } else {
        life::ask_all(
            client,
            console,
            Verb::Backup,
            &args.tenants,
            Wait::default(),
        )
        .await?
    };
    if args.output.json {
        console.print(&output::json(&ended))?;
    }
    output::all_well(failures, args.tenants.len().max(ended.len()))
}

/// `snapshots`.
pub async fn snapshots(
    client: &Client,
    console: Console,
    args: SnapshotsArgs,
) -> Result<(), CliError> {
    let path = match &args.tenant {
        Some(tenant) => format!("/v1/tenants/{tenant}/snapshots"),
        None => "/v1/snapshots".to_owned(),
    };
    output::show(client, console, &path, args.output.json, |snapshots| {
        listed(snapshots, clock::now(), console.out)
    })
    .await
}

const HEADER: [&str; 9] = [
    "TENANT", "SNAPSHOT", "TAKEN", "TIME", "FILES", "SIZE", "SENT", "PAUSE", "KEPT BY",
];

fn listed(snapshots: Vec<SnapshotSummary>, now: Timestamp, paint: Paint) -> String {
    if snapshots.is_empty() {
        return "There are no snapshots yet; `tenantd backup` makes one.\n".to_owned();
    }
    let mut table = Table::new(&HEADER, paint);
    for snapshot in snapshots {
        if let Some(node) = snapshot.fork {
            let unknown = || cell("-");
            table.row(vec![
                cell(snapshot.tenant),
                cell(snapshot.snapshot),
                cell(age(now, snapshot.taken_at)),
                cell(snapshot.taken_at.strftime("%Y-%m-%d %H:%M:%S UTC")),
                unknown(),
                unknown(),
                unknown(),
                unknown(),
                cell(format!("fork, not restored: by node {node}")),
            ]);
            continue;
        }
        table.row(vec![
            cell(snapshot.tenant),
            cell(snapshot.snapshot),
            cell(age(now, snapshot.taken_at)),
            cell(snapshot.taken_at.strftime("%Y-%m-%d %H:%M:%S UTC")),
            cell(snapshot.files),
            cell(bytes(snapshot.bytes)),
            cell(bytes(snapshot.sent_bytes)),
            cell(length(Duration::from_micros(snapshot.pause_us))),
            maybe(Some(snapshot.kept_by.join(", ")).filter(|rules| !rules.is_empty())),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    #[test]
    fn snapshots_are_listed_with_age_and_size() {
        let snapshot = |tenant: &str, number, taken_at, sent_bytes| SnapshotSummary {
            tenant: tenant.to_owned(),
            snapshot: number,
            taken_at: samples::at(taken_at),
            files: 42,
            bytes: 5 << 20,
            sent_bytes,
            pause_us: 12_345,
            kept_by: if number > 1 {
                vec!["newest".to_owned(), "hourly".to_owned()]
            } else {
                vec![]
            },
            fork: None,
        };
        let fork = SnapshotSummary {
            fork: Some("SHA256:abc, epoch 7".to_owned()),
            ..snapshot("acme", 13, "2026-05-04T10:15:00Z", 0)
        };
        let snapshots = vec![
            snapshot("(node)", 1, "2026-05-01T12:00:00Z", 900),
            fork,
            snapshot("acme", 12, "2026-05-04T11:15:00Z", 3 << 20),
        ];
        insta::assert_snapshot!(listed(snapshots, samples::now(), Paint(false)), @r"
        TENANT  SNAPSHOT  TAKEN       TIME                     FILES  SIZE      SENT      PAUSE  KEPT BY
        (node)  1         3 days ago  2026-05-01 12:00:00 UTC  42     5.00 MiB  900 B     12 ms  -
        acme    13        1 h ago     2026-05-04 10:15:00 UTC  -      -         -         -      fork, not restored: by node SHA256:abc, epoch 7
        acme    12        45 min ago  2026-05-04 11:15:00 UTC  42     5.00 MiB  3.00 MiB  12 ms  newest, hourly
        ");
    }
}
