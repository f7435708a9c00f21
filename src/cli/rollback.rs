//! `rollback`: returns a tenant to an earlier release, and says where what was written since is.

use super::args::RollbackArgs;
use super::client::Client;
use super::console::Console;
use super::error::CliError;
use super::follow::{follow, problem};
use super::human;
use super::output;
use crate::api::RollbackRequest;
use crate::protect::Release;
use crate::state::Operation;
use crate::tenant::TenantId;

/// Runs the command.
pub async fn run(client: &Client, console: Console, args: RollbackArgs) -> Result<(), CliError> {
    let request = RollbackRequest {
        to: args.to,
        keep_data: args.keep_data,
        message: args.message,
    };
    let path = format!(
        "/v1/tenants/{}/rollback{}",
        args.tenant,
        args.wait.query('?')
    );
    let client = client.expecting(args.if_revision);
    let operation: Operation = client.post(&path, &request).await?;
    let ended = follow(&client, console, std::slice::from_ref(&operation)).await?;
    if args.output.json {
        console.print(&output::json(&ended.first()))?;
    } else if let Some(ended) = ended.first() {
        console.print(&told(&args.tenant, ended))?;
    }
    output::all_well(ended.iter().filter_map(problem).collect(), 1)
}

/// What came of it; nothing where it failed.
fn told(tenant: &TenantId, ended: &Operation) -> String {
    let outcome = ended.outcome.clone().unwrap_or_default();
    let Some(revision) = outcome["revision"].as_u64() else {
        return String::new();
    };
    match serde_json::from_value::<Release>(outcome["set-aside"].clone()) {
        Err(_) => format!("{tenant} is back at revision {revision}, with the data as it was\n"),
        Ok(aside) => format!(
            "{tenant} is back at revision {revision}, with the data that it had left\n\
             what revision {} has written ({}) is in {}: `tenantd rollback {tenant} --to {}` returns to it, \
             `tenantd restore {tenant} --accept` removes it\n",
            aside.revision,
            human::bytes(aside.bytes),
            aside.path,
            aside.revision,
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::samples;

    #[test]
    fn what_was_set_aside_is_named_with_what_to_do() {
        let tenant = "acme".parse().unwrap();
        let with = |aside| Operation {
            outcome: Some(json!({ "tenant": "acme", "revision": 3, "set-aside": aside })),
            ..samples::succeeded("acme")
        };
        insta::assert_snapshot!(told(&tenant, &with(json!(null))), @"acme is back at revision 3, with the data as it was");
        let aside = json!(Release {
            revision: 4,
            since: samples::now(),
            bytes: 12 << 20,
            set_aside: true,
            path: "/var/lib/tenantd/tenants/acme/set-aside/1/state".to_owned(),
        });
        insta::assert_snapshot!(told(&tenant, &with(aside)), @r"
        acme is back at revision 3, with the data that it had left
        what revision 4 has written (12.00 MiB) is in /var/lib/tenantd/tenants/acme/set-aside/1/state: `tenantd rollback acme --to 4` returns to it, `tenantd restore acme --accept` removes it
        ");
        assert_eq!(told(&tenant, &samples::failed("acme")), "");
    }
}
