//! `restore`: in place through the daemon; beside a tenant, or of a whole node, in this process.

use std::fmt::Write as _;

use axum::http::StatusCode;
use futures_util::{StreamExt, stream};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::json;

use super::args::RestoreArgs;
use super::client::Client;
use super::console::Console;
use super::error::CliError;
use super::follow::{follow, problem};
use super::human;
use super::output;
use super::progress;
use crate::api::{Problem, RestoreRequest};
use crate::daemon;
use crate::host::systemd::{JobResult, Systemd};
use crate::layout::{Layout, UnitNames};
use crate::node::{KeyFiles, NodeSettings};
use crate::protect::{self, Apart, NodeWanted, Place, Rebuilt, RestoreReport, Wanted};
use crate::state::Operation;
use crate::tenant::TenantId;

/// Runs the command.
pub async fn run(client: &Client, console: Console, args: RestoreArgs) -> Result<(), CliError> {
    let identity = args.identity.read()?;
    if let (Some(tenant), true) = (&args.tenant, args.undo || args.accept) {
        let what = if args.undo { "undo" } else { "accept" };
        let path = format!("/v1/tenants/{tenant}/restore/{what}");
        let asked = ask(client, console, &path, &json!({}), args.output.json).await;
        return asked.map(drop);
    }
    let place = match (&args.to, &args.path) {
        (Some(directory), _) => Some(Place::Directory(directory.clone())),
        (None, Some(_)) => Some(Place::Beside),
        (None, None) => None,
    };
    match (args.tenant, place) {
        (None, _) => {
            let from = args.from.as_deref();
            restore_node(console, &Layout::default(), identity, from, args.allow_old).await
        }
        (Some(tenant), Some(place)) => {
            let apart = Apart {
                path: args.path,
                place,
            };
            let wanted = Wanted {
                snapshot: args.snapshot,
                identity: identity.as_ref(),
                allow_old: args.allow_old,
            };
            restore_apart(console, &Layout::default(), &tenant, &apart, wanted).await
        }
        (Some(tenant), None) => {
            let request = RestoreRequest {
                snapshot: args.snapshot,
                identity: identity.map(|text| text.expose_secret().to_owned()),
                allow_old: args.allow_old,
            };
            let path = format!("/v1/tenants/{tenant}/restore");
            let done = ask(client, console, &path, &request, args.output.json).await?;
            if done.outcome.is_none_or(|outcome| outcome["kept"].is_null()) {
                return Ok(());
            }
            console.tell(&format!(
                "its state from before is kept: `tenantd restore {tenant} --undo` puts it back, `--accept` removes it\n"
            ));
            Ok(())
        }
    }
}

/// Has the daemon do something, and follows it to its end.
async fn ask(
    client: &Client,
    console: Console,
    path: &str,
    request: &impl Serialize,
    json: bool,
) -> Result<Operation, CliError> {
    let operation: Operation = client.post(path, request).await?;
    let ended = follow(client, console, std::slice::from_ref(&operation)).await?;
    if json {
        console.print(&output::json(&ended.first()))?;
    }
    output::all_well(ended.iter().filter_map(problem).collect(), 1)?;
    Ok(ended.into_iter().next().unwrap_or(operation))
}

/// Restores apart from the tenant's state, without the daemon.
async fn restore_apart(
    console: Console,
    layout: &Layout,
    tenant: &TenantId,
    apart: &Apart,
    wanted: Wanted<'_>,
) -> Result<(), CliError> {
    let settings = daemon::read_settings(layout)?;
    let shown = progress::shown(console);
    let (report, place) =
        protect::restore_apart(layout, &settings, tenant, apart, wanted, shown).await?;
    console.tell(&warnings(&report));
    let path = apart.path.as_ref();
    console.print(&format!(
        "restored {}snapshot {} of {tenant} ({}) into {place}: {} files, {}\n",
        path.map(|path| format!("{path} of ")).unwrap_or_default(),
        report.snapshot,
        report.taken_at,
        report.files,
        human::bytes(report.bytes),
    ))
}

/// Rebuilds this empty machine from the node's own repository, and has the daemon go on.
async fn restore_node(
    console: Console,
    layout: &Layout,
    identity: Option<SecretString>,
    from: Option<&str>,
    allow_old: bool,
) -> Result<(), CliError> {
    let settings = daemon::read_settings(layout)?;
    let identity = match identity {
        Some(identity) => identity,
        None => KeyFiles::new(layout)
            .operator_identity(None)?
            .map(|identity| identity.to_text())
            .ok_or(CliError::Usage(
                "a node is restored with --identity FILE".to_owned(),
            ))?,
    };
    let systemd = Systemd::connect().await?;
    let wanted = NodeWanted {
        identity: &identity,
        from,
        allow_old,
    };
    let tenants = node_back(console, layout, &settings, &systemd, wanted).await?;
    let total = tenants.len();
    let failures = bring_back(console, &systemd, tenants).await;
    output::all_well(failures, total)
}

/// Has the node's own part back, and the daemon running. The tenants' state is still to come.
pub(super) async fn node_back(
    console: Console,
    layout: &Layout,
    settings: &NodeSettings,
    systemd: &Systemd,
    wanted: NodeWanted<'_>,
) -> Result<Vec<TenantId>, CliError> {
    systemd.stop(DAEMON).await?;
    let shown = progress::shown(console);
    let Rebuilt {
        report,
        tenants,
        warnings: told,
    } = protect::restore_node(layout, settings, wanted, shown).await?;
    console.tell(&warnings(&report));
    for warning in told {
        console.tell(&format!("warning: {warning}\n"));
    }
    console.print(&format!(
        "the node is back as of {}: {}; their state follows\n",
        report.taken_at,
        human::counted(tenants.len(), "tenant")
    ))?;
    systemd.start(DAEMON).await?;
    console.print("tenantd is running; `tenantd list` shows how far the tenants are\n")?;
    Ok(tenants)
}

/// What the operator should know of what was restored: that it is old, and that somebody else has written.
fn warnings(report: &RestoreReport) -> String {
    let mut text = String::new();
    if let Some(doubt) = &report.doubt {
        let _ = writeln!(text, "warning: this is old, as allowed: {doubt}");
    }
    if let Some(newest) = report.forks.first() {
        let _ = writeln!(
            text,
            "warning: {} not on the chain that was restored, the newest number {} of {} by node {} \
             in epoch {}: that node was replaced, or somebody has its key",
            human::counted(report.forks.len(), "snapshot"),
            newest.snapshot,
            newest.taken_at,
            newest.node,
            newest.epoch,
        );
    }
    text
}

/// Has every tenant's restore unit run, those of held tenants too: nothing else would start
/// them, and a reboot takes the identity away that they need.
pub(super) async fn bring_back(
    console: Console,
    systemd: &Systemd,
    tenants: Vec<TenantId>,
) -> Vec<Problem> {
    let start = async |tenant: TenantId| {
        let unit = UnitNames(&tenant).instance("restore", "service");
        (systemd.start(&unit).await, tenant)
    };
    let mut restored = stream::iter(tenants).map(start).buffer_unordered(AT_A_TIME);
    let mut failures = Vec::new();
    while let Some((result, tenant)) = restored.next().await {
        if let Ok(JobResult::Done) = result {
            console.tell(&format!("{tenant}: its state is back\n"));
            continue;
        }
        failures.push(Problem::new(
            "restore-failed",
            StatusCode::INTERNAL_SERVER_ERROR,
            format!(
                "tenant {tenant}: its state is not back; `journalctl --unit 'tenantd-restore@*'` \
                 tells why, `tenantd restore {tenant} --identity FILE` tries again"
            ),
        ));
    }
    failures
}

/// Tenants whose restore is waited for at a time; the daemon starts those that run by itself.
const AT_A_TIME: usize = 2;

/// The daemon's unit.
const DAEMON: &str = "tenantd.service";
