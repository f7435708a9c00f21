//! `secret`: sets, lists, rotates, removes and reveals secrets.
//! A value goes to the daemon and comes from no answer of it: `reveal` reads it on the host, as root.

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use nix::unistd::geteuid;
use secrecy::{ExposeSecret as _, SecretBox};

use super::args::Output;
use super::client::Client;
use super::confirm::confirm;
use super::console::{Console, Paint};
use super::error::CliError;
use super::follow::{follow, problem};
use super::human::age;
use super::output::{self, json};
use super::table::{Table, cell, maybe};
use super::terminal::NoEcho;
use crate::api::{SecretChange, SecretDetail, SecretRevealed};
use crate::host::credentials::SecretValue;
use crate::host::{clock, files};
use crate::layout::Layout;
use crate::secrets;
use crate::tenant::{MAX_SECRET, SecretName, SecretVersion, TenantId};

/// What to do with secrets.
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Give a secret a value: typed without an echo, or from standard input, a file or a variable.
    ///
    /// The bytes are stored as they are, also a newline at their end. The tenant need not be there yet. An agent that
    /// runs keeps the version that it has until the next apply of its spec, or at once with --apply.
    #[command(after_help = "Examples:\n  tenantd secret set acme DISCORD_TOKEN\n  \
                            tenantd secret set acme DISCORD_TOKEN --from-file discord.txt --apply\n  \
                            pass show discord | tenantd secret set acme DISCORD_TOKEN -")]
    Set(SetArgs),
    /// List secrets: versions, where they come from, and who uses them; never their values.
    #[command(after_help = "Examples:\n  tenantd secret list\n  \
                            tenantd secret list acme --json | jq '.[] | select(.\"in-use\" != .newest)'")]
    List(ListArgs),
    /// Give a secret a new value, and run the agent with it.
    ///
    /// A generated one is made anew, a reference is asked again, any other value is asked for. The tenant's spec is
    /// applied again, since an old value that still runs is not rotated; an agent that does not become healthy with
    /// the new one gets the old one back.
    #[command(
        after_help = "Examples:\n  tenantd secret rotate acme GATEWAY_TOKEN\n  \
                            tenantd secret rotate acme DISCORD_TOKEN --from-file new.txt --no-apply"
    )]
    Rotate(RotateArgs),
    /// Print the value of a secret, as root on the host; the tenant's history says who did.
    #[command(after_help = "Example:\n  tenantd secret reveal acme GATEWAY_TOKEN")]
    Reveal(NameArgs),
    /// Remove a secret with all its versions; refused while the agent is to run with it.
    #[command(after_help = "Example:\n  tenantd secret rm acme DISCORD_TOKEN --yes")]
    Rm(RmArgs),
}

/// One secret.
#[derive(Debug, Args)]
pub struct NameArgs {
    /// The tenant's id.
    pub tenant: TenantId,
    /// The secret's name: letters, digits and `_`.
    pub name: SecretName,
}

/// Where a value is read.
#[derive(Debug, Args)]
pub struct ValueArgs {
    /// Read the value from standard input, also where that is a terminal.
    #[arg(value_name = "-", value_parser = ["-"], conflicts_with_all = ["from_file", "from_env"])]
    pub input: Option<String>,
    /// Read the value from this file; `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "from_env")]
    pub from_file: Option<Utf8PathBuf>,
    /// Read the value from this variable.
    #[arg(long, value_name = "VARIABLE")]
    pub from_env: Option<String>,
}

/// `secret set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    #[command(flatten)]
    pub secret: NameArgs,
    #[command(flatten)]
    pub value: ValueArgs,
    /// Apply the tenant's spec again, so that its agent runs with the new value.
    #[arg(long)]
    pub apply: bool,
}

/// `secret rotate`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    #[command(flatten)]
    pub secret: NameArgs,
    #[command(flatten)]
    pub value: ValueArgs,
    /// Only store the new value; the next apply brings it in.
    #[arg(long)]
    pub no_apply: bool,
}

/// `secret list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those of this tenant.
    pub tenant: Option<TenantId>,
    #[command(flatten)]
    pub output: Output,
}

/// `secret rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    #[command(flatten)]
    pub secret: NameArgs,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
}

/// Runs the command.
pub async fn run(
    client: &Client,
    console: Console,
    layout: &Layout,
    command: SecretCommand,
) -> Result<(), CliError> {
    match command {
        SecretCommand::Set(args) => set(client, console, args).await,
        SecretCommand::List(args) => list(client, console, args).await,
        SecretCommand::Rotate(args) => rotate(client, console, args).await,
        SecretCommand::Reveal(args) => reveal(client, layout, args).await,
        SecretCommand::Rm(args) => remove(client, console, args).await,
    }
}

fn path(secret: &NameArgs) -> String {
    format!("/v1/tenants/{}/secrets/{}", secret.tenant, secret.name)
}

async fn set(client: &Client, console: Console, args: SetArgs) -> Result<(), CliError> {
    let value = read(&args.secret.name, &args.value)?;
    let path = format!("{}?apply={}", path(&args.secret), args.apply);
    let body = value.expose_secret().clone();
    let change: SecretChange = client.put_bytes(&path, body).await?;
    brought_in(client, console, change).await
}

async fn rotate(client: &Client, console: Console, args: RotateArgs) -> Result<(), CliError> {
    let list = format!("/v1/tenants/{}/secrets", args.secret.tenant);
    let known: Vec<SecretDetail> = client.get(&list).await?;
    let from = &args.value;
    let names_a_value = from.input.is_some() || from.from_file.is_some() || from.from_env.is_some();
    let body = if names_a_value || is_given(&known, &args.secret.name) {
        read(&args.secret.name, &args.value)?
            .expose_secret()
            .clone()
    } else {
        Vec::new()
    };
    let path = format!("{}/rotate?apply={}", path(&args.secret), !args.no_apply);
    let change: SecretChange = client.post_bytes(&path, body).await?;
    brought_in(client, console, change).await
}

/// Whether somebody gave the newest value; what the daemon does not know, it refuses by itself.
fn is_given(known: &[SecretDetail], name: &SecretName) -> bool {
    let secret = known.iter().find(|secret| secret.name == name.as_str());
    let newest = secret.and_then(|secret| secret.versions.last());
    newest.is_some_and(|newest| newest.source == "given")
}

/// Waits for the apply, if there is one, and says what the agent runs with.
async fn brought_in(
    client: &Client,
    console: Console,
    change: SecretChange,
) -> Result<(), CliError> {
    let SecretChange { secret, operation } = change;
    let stored = format!(
        "secret {} of {} has version {}",
        secret.name, secret.tenant, secret.newest
    );
    let Some(operation) = operation else {
        let rest = match secret.in_use {
            Some(used) => format!("; its agent has version {used} until the spec is applied again"),
            None => String::new(),
        };
        return console.print(&format!("{stored}{rest}\n"));
    };
    console.tell(&format!("{stored}\n"));
    let ended = follow(client, console, std::slice::from_ref(&operation)).await?;
    output::all_well(ended.iter().filter_map(problem).collect(), 1)
}

async fn list(client: &Client, console: Console, args: ListArgs) -> Result<(), CliError> {
    let path = match &args.tenant {
        Some(tenant) => format!("/v1/tenants/{tenant}/secrets"),
        None => "/v1/secrets".to_owned(),
    };
    let secrets: Vec<SecretDetail> = client.get(&path).await?;
    if args.output.json {
        return console.print(&json(&secrets));
    }
    console.print(&listed(&secrets, clock::now(), console.out))
}

fn listed(secrets: &[SecretDetail], now: Timestamp, paint: Paint) -> String {
    if secrets.is_empty() {
        return "There are no secrets yet.\n".to_owned();
    }
    let header = [
        "TENANT", "SECRET", "NEWEST", "IN USE", "SOURCE", "MADE", "BY", "FILE", "VARIABLE",
    ];
    let mut table = Table::new(&header, paint);
    for secret in secrets {
        let newest = secret.versions.last();
        table.row(vec![
            cell(&secret.tenant),
            cell(&secret.name),
            cell(secret.newest),
            maybe(secret.in_use),
            maybe(newest.map(|newest| &newest.source)),
            maybe(newest.map(|newest| age(now, newest.made_at))),
            maybe(newest.map(|newest| &newest.actor)),
            maybe(secret.file.as_ref()),
            maybe(secret.env.as_ref()),
        ]);
    }
    table.render()
}

/// The daemon is asked first: it records who is shown the value, and never has it in an answer.
async fn reveal(client: &Client, layout: &Layout, secret: NameArgs) -> Result<(), CliError> {
    if !geteuid().is_root() {
        return Err(CliError::Usage(
            "only root can decrypt secrets, on the host itself: sudo tenantd secret reveal …"
                .to_owned(),
        ));
    }
    let path = format!("{}/reveal", path(&secret));
    let SecretRevealed { version } = client.post(&path, &serde_json::json!({})).await?;
    let value = secrets::value(layout, &secret.tenant, &secret.name, SecretVersion(version))
        .await
        .map_err(Box::new)?;
    let mut out = io::stdout().lock();
    let value = value.expose_secret();
    let ends_a_line = if value.ends_with(b"\n") || !io::stdout().is_terminal() {
        ""
    } else {
        "\n"
    };
    out.write_all(value)
        .and_then(|()| out.write_all(ends_a_line.as_bytes()))
        .and_then(|()| out.flush())
        .map_err(CliError::Output)
}

async fn remove(client: &Client, console: Console, args: RmArgs) -> Result<(), CliError> {
    let NameArgs { tenant, name } = &args.secret;
    if !args.yes {
        confirm(&format!(
            "This deletes secret {name} of {tenant} on this host, with all its versions."
        ))?;
    }
    let _left: Vec<SecretDetail> = client.delete(&path(&args.secret)).await?;
    console.print(&format!("secret {name} of {tenant} is removed\n"))
}

/// The value, from where the command line says.
fn read(name: &SecretName, from: &ValueArgs) -> Result<SecretValue, CliError> {
    let limit = MAX_SECRET as u64 + 1;
    let bytes = match (&from.from_file, &from.from_env) {
        (Some(path), _) if path != "-" => files::read(path, limit)?,
        (None, Some(variable)) => {
            use std::os::unix::ffi::OsStringExt as _;
            std::env::var_os(variable)
                .ok_or_else(|| CliError::Usage(format!("there is no variable {variable}")))?
                .into_vec()
        }
        (None, None) if from.input.is_none() && io::stdin().is_terminal() => typed(name)?,
        _ => {
            let mut bytes = Vec::with_capacity(MAX_SECRET + 1);
            io::stdin()
                .take(limit)
                .read_to_end(&mut bytes)
                .map_err(CliError::Input)?;
            bytes
        }
    };
    secrets::accept(name, SecretBox::new(Box::new(bytes)))
        .map_err(|error| CliError::Usage(error.to_string()))
}

/// One line from the terminal, which does not show it.
fn typed(name: &SecretName) -> Result<Vec<u8>, CliError> {
    let mut prompt = io::stderr().lock();
    write!(prompt, "Value of {name} (not shown): ")
        .and_then(|()| prompt.flush())
        .map_err(CliError::Terminal)?;
    let silence = NoEcho::enter().map_err(CliError::Terminal)?;
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(CliError::Input)?;
    drop(silence);
    let _ = writeln!(prompt);
    let length = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(length);
    Ok(line.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SecretVersionDetail;

    fn detail(name: &str, source: &str) -> SecretDetail {
        SecretDetail {
            tenant: "acme".to_owned(),
            name: name.to_owned(),
            newest: 2,
            in_use: (source != "given").then_some(1),
            revision: None,
            file: Some("token".to_owned()),
            env: None,
            versions: vec![SecretVersionDetail {
                version: 2,
                made_at: Timestamp::UNIX_EPOCH,
                actor: "root".to_owned(),
                source: source.to_owned(),
                of_a_revision: false,
            }],
        }
    }

    #[test]
    fn the_table_says_what_is_newest_and_what_is_in_use() {
        let secrets = [
            detail("DISCORD", "given"),
            detail("GATEWAY", "generated (hex32)"),
        ];
        let now = Timestamp::from_second(3600).unwrap();
        insta::assert_snapshot!(listed(&secrets, now, Paint(false)));
        assert_eq!(
            listed(&[], now, Paint(false)),
            "There are no secrets yet.\n"
        );
    }

    #[test]
    fn only_what_somebody_gave_is_asked_for_again() {
        let known = [detail("A", "given"), detail("B", "op://a/b/c")];
        let is = |name: &str| is_given(&known, &name.parse().unwrap());
        assert!(is("A") && !is("B") && !is("C"));
    }
}
