//! `sleep` and `wake`: root tells the sleep service, with or without the daemon.

use serde::Serialize;

use super::args::SleepArgs;
use super::console::Console;
use super::error::CliError;
use super::output;
use crate::layout::Layout;
use crate::sleep::{Asked, ClientError, Told, tell};
use crate::tenant::TenantId;

/// How a tenant stands afterwards.
#[derive(Debug, Serialize)]
struct Line {
    id: TenantId,
    standing: String,
}

/// Asks it of every tenant; one's refusal does not keep the others.
pub async fn run(
    console: Console,
    layout: &Layout,
    args: SleepArgs,
    asked: impl Fn(TenantId) -> Asked,
) -> Result<(), CliError> {
    let mut lines = Vec::new();
    let mut refused = None;
    for tenant in args.tenants {
        match tell(&layout.sleep_socket(), &asked(tenant.clone())).await {
            Ok(told) => lines.push(Line {
                id: tenant,
                standing: told.to_string(),
            }),
            Err(error @ ClientError::Refused(_)) if refused.is_none() => refused = Some(error),
            Err(ClientError::Refused(why)) => console.tell(&format!("{why}\n")),
            Err(error) => return Err(error.into()),
        }
    }
    if args.output.json {
        console.print(&output::json(&lines))?;
    } else {
        for Line { id, standing } in &lines {
            console.print(&format!("{id}: {}\n", words(standing)))?;
        }
    }
    refused.map_or(Ok(()), |error| Err(error.into()))
}

fn words(standing: &str) -> &str {
    match standing.parse() {
        Ok(Told::Awake) => "awake, or on its way",
        Ok(Told::Stopped) => "stopped already; it is started when somebody comes",
        _ => standing,
    }
}
