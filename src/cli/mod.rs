//! The command line: one file per command group; prints, asks and shows progress.
//! No decisions are made here: what a command does is the API's and the rooms' business.

mod apply;
mod args;
mod attempt;
mod backup;
mod butane;
mod catalog;
mod client;
mod confirm;
mod console;
mod doctor;
mod drill;
mod egress;
mod error;
mod exec;
mod exit;
mod follow;
mod front;
mod generate;
mod human;
mod identity;
mod init;
mod install;
mod keys;
mod life;
mod lines;
mod log;
mod logs;
mod ls;
mod node;
mod output;
mod patch;
mod progress;
mod prune;
mod rendered;
mod restore;
mod revisions;
mod rollback;
#[cfg(test)]
mod samples;
mod secret;
mod show;
mod sleep;
mod spending;
mod table;
mod tenants;
mod terminal;
mod token;
mod top;
mod transfer;
mod unit;
mod verify;

use std::process::ExitCode;
use std::time::Duration;

use camino::Utf8PathBuf;
use clap::Parser;
use tokio::runtime::{Builder, Runtime};

use crate::daemon;
use crate::layout::Layout;
use crate::sleep::Asked;
use args::{Cli, Command, NodeCommand};
use client::Client;
use console::Console;
use error::CliError;
use life::Verb;

/// Four times the pause between two of the daemon's looks.
const KEEP_ALIVE: Duration = Duration::from_mins(1);

/// Runs the command line of this process and returns its exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let console = Console::of_process();
    match run(cli, console) {
        Ok(code) => code,
        // `tenantd list | head -1` is no failure.
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            console.tell(&error.report(console.err));
            error.exit().into()
        }
    }
}

fn run(cli: Cli, console: Console) -> Result<ExitCode, CliError> {
    match cli.command {
        Command::Unit { command } => Ok(command.run()),
        Command::Generate { command } => done(generate::run(console, command)),
        Command::Node {
            command: NodeCommand::Butane(args),
        } => done(butane::run(console, &args)),
        Command::Node {
            command: NodeCommand::Install(args),
        } => {
            let runtime = runtime(&mut Builder::new_current_thread())?;
            done(runtime.block_on(install::run(console, &Layout::default(), args)))
        }
        Command::Init(args) => done(init::run(console, &Layout::default(), args)),
        Command::Prune(args) => {
            let runtime = runtime(&mut Builder::new_current_thread())?;
            done(runtime.block_on(prune::run(console, &Layout::default(), args)))
        }
        Command::Sleep(args) => {
            let runtime = runtime(&mut Builder::new_current_thread())?;
            let layout = Layout::default();
            done(runtime.block_on(sleep::run(console, &layout, args, Asked::SleepTenant)))
        }
        Command::Wake(args) => {
            let runtime = runtime(&mut Builder::new_current_thread())?;
            let layout = Layout::default();
            done(runtime.block_on(sleep::run(console, &layout, args, Asked::WakeTenant)))
        }
        Command::Keys { command } => {
            let runtime = runtime(&mut Builder::new_current_thread())?;
            done(runtime.block_on(keys::run(console, &Layout::default(), command)))
        }
        Command::Serve => {
            log::init();
            let mut builder = Builder::new_multi_thread();
            // A thread that waits for blocking work outlives the pause between two looks: to end and to begin again
            // would wake the processor twice each time.
            let runtime = runtime(builder.worker_threads(2).thread_keep_alive(KEEP_ALIVE))?;
            runtime.block_on(daemon::serve(Layout::default()))?;
            Ok(ExitCode::SUCCESS)
        }
        command => {
            let client = Client::new(socket(cli.socket));
            let runtime = runtime(&mut Builder::new_current_thread())?;
            let ended = runtime.block_on(ask(&client, console, command));
            // A read of standard input may still wait in the background; nobody wants it.
            runtime.shutdown_background();
            ended
        }
    }
}

/// Everything that talks to the daemon.
async fn ask(client: &Client, console: Console, command: Command) -> Result<ExitCode, CliError> {
    let all = |verb, tenants: args::TenantArgs| async move {
        life::run(client, console, verb, &tenants).await
    };
    done(match command {
        Command::Exec(args) => return exec::run(client, args).await,
        Command::Apply(args) => apply::run(client, console, args).await,
        Command::List(args) => tenants::list(client, console, args).await,
        Command::Show {
            tenant,
            operation: Some(which),
            output,
        } => attempt::show(client, console, &tenant, which, output.json).await,
        Command::Show { tenant, output, .. } => show::run(client, console, &tenant, output).await,
        Command::Spending(args) => spending::run(client, console, args).await,
        Command::Top(args) => top::run(client, console, args).await,
        Command::Usage(args) => egress::usage(client, console, args).await,
        Command::Egress { command } => egress::run(client, console, command).await,
        Command::Units(args) => rendered::run(client, console, args).await,
        Command::History(args) => revisions::history(client, console, args).await,
        Command::Rollback(args) => rollback::run(client, console, args).await,
        Command::Diff(args) => revisions::diff(client, console, args).await,
        Command::Start(tenants) => all(Verb::Start, tenants).await,
        Command::Stop(tenants) => all(Verb::Stop, tenants).await,
        Command::Restart(tenants) => all(Verb::Restart, tenants).await,
        Command::Resume(tenants) => all(Verb::Resume, tenants).await,
        Command::Suspend { tenants, reason } => all(Verb::Suspend(reason), tenants).await,
        Command::Secret { command } => {
            secret::run(client, console, &Layout::default(), command).await
        }
        Command::Token { command } => token::run(client, console, command).await,
        Command::Remove(args) => life::remove(client, console, args).await,
        Command::Reclaim(tenants) => all(Verb::Reclaim, tenants).await,
        Command::Front(args) => front::run(client, console, args).await,
        Command::Logs(args) if args.access => front::access(client, console, &args).await,
        Command::Logs(args) => logs::run(client, console, args).await,
        Command::Backup(args) => backup::backup(client, console, args).await,
        Command::Snapshots(args) => backup::snapshots(client, console, args).await,
        Command::Ls(args) => ls::run(console, &Layout::default(), args).await,
        Command::Export(args) => transfer::export(client, console, &Layout::default(), args).await,
        Command::Import(args) => transfer::import(client, console, &Layout::default(), args).await,
        Command::Verify(args) => verify::run(console, &Layout::default(), args).await,
        Command::Drill(args) => drill::run(console, &Layout::default(), args).await,
        Command::Restore(args) => restore::run(client, console, args).await,
        Command::Templates(args) => catalog::templates(client, console, args).await,
        Command::Plans(args) => catalog::plans(client, console, args).await,
        Command::Status(output) => node::status(client, console, output).await,
        Command::Doctor(args) => doctor::run(client, console, args).await,
        Command::Reload(args) => node::reload(client, console, args).await,
        Command::Version(output) => node::version(client, console, output).await,
        // These need no daemon and were run before.
        Command::Unit { .. }
        | Command::Generate { .. }
        | Command::Node { .. }
        | Command::Init(_)
        | Command::Prune(_)
        | Command::Sleep(_)
        | Command::Wake(_)
        | Command::Keys { .. }
        | Command::Serve => Ok(()),
    })
}

fn done(ended: Result<(), CliError>) -> Result<ExitCode, CliError> {
    ended.map(|()| ExitCode::SUCCESS)
}

fn runtime(builder: &mut Builder) -> Result<Runtime, CliError> {
    builder.enable_all().build().map_err(CliError::Runtime)
}

/// Where the daemon listens.
fn socket(given: Option<Utf8PathBuf>) -> Utf8PathBuf {
    given
        .or_else(|| std::env::var("TENANTD_SOCKET").ok().map(Utf8PathBuf::from))
        .unwrap_or_else(|| Layout::default().api_socket())
}
