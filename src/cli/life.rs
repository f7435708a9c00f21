//! `start`, `stop`, `restart`, `suspend`, `resume`, `remove`, `reclaim`: one verb on one or more tenants.

use serde_json::json;

use super::args::{RemoveArgs, TenantArgs, Wait};
use super::client::{Client, ClientError};
use super::confirm::confirm_by_typing;
use super::console::Console;
use super::error::CliError;
use super::follow::{follow, problem};
use super::output;
use crate::api::SuspendRequest;
use crate::state::Operation;
use crate::tenant::TenantId;

/// What is asked of each tenant.
#[derive(Debug, Clone)]
pub enum Verb {
    /// `start`.
    Start,
    /// `stop`.
    Stop,
    /// `restart`.
    Restart,
    /// `suspend`, with its reason.
    Suspend(String),
    /// `resume`.
    Resume,
    /// `remove`.
    Remove {
        /// Erased now.
        purge: bool,
        /// All but the backups.
        keep_backups: bool,
    },
    /// `reclaim`.
    Reclaim,
    /// `backup`.
    Backup,
}

impl Verb {
    async fn ask(
        &self,
        client: &Client,
        tenant: &TenantId,
        wait: Wait,
    ) -> Result<Operation, ClientError> {
        let path = |verb: &str| format!("/v1/tenants/{tenant}/{verb}{}", wait.query('?'));
        let none = json!({});
        match self {
            Self::Start => client.post(&path("start"), &none).await,
            Self::Stop => client.post(&path("stop"), &none).await,
            Self::Restart => client.post(&path("restart"), &none).await,
            Self::Resume => client.post(&path("resume"), &none).await,
            Self::Backup => {
                let path = format!("/v1/tenants/{tenant}/backups");
                client.post(&path, &none).await
            }
            Self::Suspend(reason) => {
                let request = SuspendRequest {
                    reason: Some(reason.clone()),
                };
                client.post(&path("suspend"), &request).await
            }
            Self::Reclaim => client.post(&path("reclaim"), &none).await,
            Self::Remove {
                purge,
                keep_backups,
            } => {
                let path = format!(
                    "/v1/tenants/{tenant}?purge={purge}&keep_backups={keep_backups}{}",
                    wait.query('&')
                );
                client.delete(&path).await
            }
        }
    }
}

/// Asks it of every tenant and waits for all; one tenant's refusal does not keep the others.
pub async fn run(
    client: &Client,
    console: Console,
    verb: Verb,
    TenantArgs { tenants, wait }: &TenantArgs,
) -> Result<(), CliError> {
    let (_, failures) = ask_all(client, console, verb, tenants, *wait).await?;
    output::all_well(failures, tenants.len())
}

/// As [`run`]; returns the operations as they ended, and every problem.
pub async fn ask_all(
    client: &Client,
    console: Console,
    verb: Verb,
    tenants: &[TenantId],
    wait: Wait,
) -> Result<(Vec<Operation>, Vec<crate::api::Problem>), CliError> {
    let mut operations = Vec::new();
    let mut failures = Vec::new();
    for tenant in tenants {
        match verb.ask(client, tenant, wait).await {
            Ok(operation) => operations.push(operation),
            Err(ClientError::Refused(problem)) => failures.push(*problem),
            Err(error) => return Err(error.into()),
        }
    }
    let ended = follow(client, console, &operations).await?;
    failures.extend(ended.iter().filter_map(problem));
    Ok((ended, failures))
}

/// `remove`: asks before state is deleted.
pub async fn remove(client: &Client, console: Console, args: RemoveArgs) -> Result<(), CliError> {
    let tenants = &args.tenants.tenants;
    if args.purge && !args.yes {
        confirm(tenants, args.keep_backups)?;
    }
    let verb = Verb::Remove {
        purge: args.purge,
        keep_backups: args.keep_backups,
    };
    let (ended, failures) = ask_all(client, console, verb, tenants, args.tenants.wait).await?;
    for operation in &ended {
        if let Some(told) = removal_note(operation) {
            console.tell(&told);
        }
    }
    output::all_well(failures, tenants.len())
}

/// What is left of a tenant that was removed, and until when.
fn removal_note(operation: &Operation) -> Option<String> {
    let (tenant, outcome) = (operation.tenant.as_ref()?, operation.outcome.as_ref()?);
    if let Some(at) = outcome["erase-at"].as_str() {
        return Some(format!(
            "{tenant}: its state and backups stay until {at}; `tenantd reclaim {tenant}` takes it back\n"
        ));
    }
    (outcome["backups"] == "erasure pending").then(|| {
        format!(
            "{tenant}: erasure pending: the store still has what its backups are read with; \
             `tenantd keys erase {tenant} --credentials FILE` ends that\n"
        )
    })
}

/// Lets the operator type the tenants' names.
fn confirm(tenants: &[TenantId], keep_backups: bool) -> Result<(), CliError> {
    let names: Vec<_> = tenants.iter().map(TenantId::as_str).collect();
    let names = names.join(" ");
    let backups = if keep_backups {
        "Backups stay."
    } else {
        "Nobody can read its backups then, for ever."
    };
    confirm_by_typing(
        &names,
        &format!("This deletes the state of {names} on this host. {backups}"),
        format!("--purge erases {names}; without a terminal to ask on, give --yes as well"),
    )
}
