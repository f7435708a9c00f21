//! The command line's grammar and help texts.
//! Every command shows an example; what they do is in the files beside this one.

use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand};

use super::generate::GenerateCommand;
use super::unit::UnitCommand;
use crate::tenant::TenantId;

/// A single-host home for AI agents: tenants under systemd and Podman, backed up and restored.
#[derive(Debug, Parser)]
#[command(name = "tenantd", version, max_term_width = 100)]
#[command(
    after_help = "Examples:\n  tenantd apply acme.toml\n  tenantd list\n  tenantd logs acme -f\n\n\
                  Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused as invalid, 4 no such \
                  thing, 5 conflict, 6 tenantd does not answer or may not be asked, 7 the agent \
                  is not healthy. `exec` passes on the code of what it ran."
)]
pub struct Cli {
    /// Where the daemon listens; default: `$TENANTD_SOCKET`, else /run/tenantd/api.sock.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        help_heading = "Global options"
    )]
    pub socket: Option<Utf8PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What reads can print themselves as JSON.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// All commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make node.toml and this node's key.
    #[command(
        after_help = "Example:\n  tenantd init --recipient age1… --store s3://backups/host-1"
    )]
    Init(InitArgs),
    /// Run the daemon (systemd does this).
    #[command(after_help = "Example:\n  systemctl start tenantd")]
    Serve,
    /// Bring tenants to what their specs say.
    #[command(
        after_help = "Examples:\n  tenantd apply acme.toml\n  tenantd apply --dry-run tenants/"
    )]
    Apply(ApplyArgs),
    /// List tenants.
    #[command(
        visible_alias = "ls",
        after_help = "Example:\n  tenantd list --json | jq -r '.[].id'"
    )]
    List(Output),
    /// Show everything about one tenant.
    #[command(after_help = "Example:\n  tenantd show acme")]
    Show {
        /// The tenant.
        tenant: TenantId,
        #[command(flatten)]
        output: Output,
    },
    /// Print the files rendered for a tenant.
    #[command(after_help = "Example:\n  tenantd units acme --diff")]
    Units(UnitsArgs),
    /// Start a stopped tenant.
    #[command(after_help = "Example:\n  tenantd start acme")]
    Start(TenantArgs),
    /// Stop a tenant; it stays down until `start`, also over a reboot.
    #[command(after_help = "Example:\n  tenantd stop acme")]
    Stop(TenantArgs),
    /// Stop and start a tenant's agent.
    #[command(after_help = "Example:\n  tenantd restart acme")]
    Restart(TenantArgs),
    /// Suspend a tenant for a reason; only `resume` ends it.
    #[command(after_help = "Example:\n  tenantd suspend acme --reason billing")]
    Suspend {
        #[command(flatten)]
        tenants: TenantArgs,
        /// Why, for those who look later.
        #[arg(long, default_value = "operator")]
        reason: String,
    },
    /// End a suspension.
    #[command(after_help = "Example:\n  tenantd resume acme")]
    Resume(TenantArgs),
    /// Print a tenant's log.
    #[command(after_help = "Example:\n  tenantd logs acme -f -n 20")]
    Logs(LogsArgs),
    /// Run a command inside a tenant's container.
    #[command(
        after_help = "Examples:\n  tenantd exec -it acme -- openclaw onboard\n  \
                            tenantd exec acme -- cat /etc/os-release"
    )]
    Exec(ExecArgs),
    /// Remove a tenant's units; its state and backups stay unless --purge.
    #[command(after_help = "Examples:\n  tenantd remove acme\n  tenantd remove acme --purge --yes")]
    Remove(RemoveArgs),
    /// Make a snapshot of tenants now; of all and the node when none is named.
    #[command(after_help = "Example:\n  tenantd backup acme")]
    Backup(BackupArgs),
    /// List snapshots.
    #[command(after_help = "Example:\n  tenantd snapshots acme")]
    Snapshots(SnapshotsArgs),
    /// Bring a tenant's state back from a snapshot.
    #[command(
        after_help = "Examples:\n  tenantd restore acme --identity key.txt\n  \
                            tenantd restore acme --snapshot 12 --to /tmp/acme\n  \
                            tenantd restore --node --identity key.txt"
    )]
    Restore(RestoreArgs),
    /// List templates, or print one.
    #[command(after_help = "Example:\n  tenantd templates openclaw")]
    Templates(CatalogArgs),
    /// List plans, or print one.
    #[command(after_help = "Example:\n  tenantd plans")]
    Plans(CatalogArgs),
    /// Show how the node is.
    #[command(after_help = "Example:\n  tenantd status")]
    Status(Output),
    /// Check the host for what tenantd needs, and say what to do.
    #[command(after_help = "Example:\n  tenantd doctor")]
    Doctor(Output),
    /// Read node.toml and tenants.d again, and put right what is not as recorded.
    #[command(after_help = "Example:\n  tenantd reload")]
    Reload,
    /// Print the version.
    #[command(after_help = "Example:\n  tenantd version --json")]
    Version(Output),
    /// Generate completions, man pages, schemas and the API's document.
    #[command(
        hide = true,
        after_help = "Example:\n  tenantd generate man /usr/local/share/man/man1"
    )]
    Generate {
        #[command(subcommand)]
        command: GenerateCommand,
    },
    /// What the installed units call; not for people.
    #[command(hide = true)]
    Unit {
        #[command(subcommand)]
        command: UnitCommand,
    },
}

/// One or more tenants.
#[derive(Debug, Args)]
pub struct TenantArgs {
    /// The tenants.
    #[arg(required = true, value_name = "TENANT")]
    pub tenants: Vec<TenantId>,
}

/// `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The node's name; default: the host name.
    #[arg(long)]
    pub name: Option<String>,
    /// The operator's root key: `ssh-ed25519 …`, or a file that holds it.
    #[arg(long, value_name = "KEY|FILE")]
    pub root_key: Option<String>,
    /// The root key's signature over this node's statement, made elsewhere.
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<Utf8PathBuf>,
    /// Who can read backups: `age1…`; can be given more than once.
    #[arg(long, value_name = "AGE1…")]
    pub recipient: Vec<String>,
    /// Where snapshots are kept: `dir:/path` or `s3://bucket/prefix`.
    #[arg(
        long,
        default_value = "dir:/var/lib/tenantd/backups",
        value_name = "URL"
    )]
    pub store: String,
    /// S3 endpoint.
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// S3 region.
    #[arg(long)]
    pub region: Option<String>,
    /// A file with two lines: access key id, secret.
    #[arg(long, value_name = "FILE")]
    pub credentials: Option<Utf8PathBuf>,
    /// Run tenants although this host cannot enforce some of their limits.
    #[arg(long)]
    pub allow_missing_controllers: bool,
}

/// `apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// Specs, or directories of specs; `-` reads one from standard input.
    #[arg(required = true, value_name = "FILE|DIR")]
    pub paths: Vec<Utf8PathBuf>,
    /// Say what would change, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Kept with the revision.
    #[arg(short, long)]
    pub message: Option<String>,
    #[command(flatten)]
    pub output: Output,
}

/// `units`.
#[derive(Debug, Args)]
pub struct UnitsArgs {
    /// The tenant.
    pub tenant: TenantId,
    /// Show how the rendered files differ from the installed ones.
    #[arg(long)]
    pub diff: bool,
    #[command(flatten)]
    pub output: Output,
}

/// `remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    #[command(flatten)]
    pub tenants: TenantArgs,
    /// Delete the tenant's state on this host as well.
    #[arg(long)]
    pub purge: bool,
    /// Do not ask before purging.
    #[arg(long, requires = "purge")]
    pub yes: bool,
}

/// `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The tenant.
    pub tenant: TenantId,
    /// Go on with new lines as they come.
    #[arg(short, long)]
    pub follow: bool,
    /// How many lines to begin with.
    #[arg(short = 'n', long, default_value_t = 100, value_name = "N")]
    pub lines: u32,
    #[command(flatten)]
    pub output: Output,
}

/// `backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The tenants; default: all, and the node.
    #[arg(value_name = "TENANT")]
    pub tenants: Vec<TenantId>,
    #[command(flatten)]
    pub output: Output,
}

/// `snapshots`.
#[derive(Debug, Args)]
pub struct SnapshotsArgs {
    /// Only this tenant's.
    pub tenant: Option<TenantId>,
    #[command(flatten)]
    pub output: Output,
}

/// `exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Pass standard input on.
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the command a terminal.
    #[arg(short, long)]
    pub tty: bool,
    /// The tenant.
    pub tenant: TenantId,
    /// The command and its arguments.
    #[arg(required = true, last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The tenant.
    #[arg(required_unless_present = "node", conflicts_with = "node")]
    pub tenant: Option<TenantId>,
    /// Rebuild a whole node on an empty machine: settings, specs and catalogue, then the tenants.
    #[arg(long)]
    pub node: bool,
    /// The snapshot's number; default: the newest.
    #[arg(long, value_name = "ID")]
    pub snapshot: Option<u64>,
    /// Restore beside the tenant, into this new directory, and change nothing else.
    #[arg(long, value_name = "DIR", conflicts_with = "node")]
    pub to: Option<Utf8PathBuf>,
    /// The age identity that can read the backups; default: the one on this host.
    #[arg(long, value_name = "FILE")]
    pub identity: Option<Utf8PathBuf>,
    #[command(flatten)]
    pub output: Output,
}

/// `templates`, `plans`.
#[derive(Debug, Args)]
pub struct CatalogArgs {
    /// Print this one whole.
    pub name: Option<String>,
    #[command(flatten)]
    pub output: Output,
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use clap::CommandFactory;

    use super::*;

    /// Every command that people use, with its path; those for units are left out.
    fn commands() -> Vec<(String, clap::Command)> {
        fn walk(path: &str, command: &clap::Command, found: &mut Vec<(String, clap::Command)>) {
            found.push((path.to_owned(), command.clone()));
            for sub in command.get_subcommands() {
                if !matches!(sub.get_name(), "unit" | "help") {
                    walk(&format!("{path} {}", sub.get_name()), sub, found);
                }
            }
        }
        let mut root = Cli::command().term_width(100);
        root.build();
        let mut found = Vec::new();
        walk("tenantd", &root, &mut found);
        found
    }

    fn examples(command: &clap::Command) -> Vec<String> {
        let help = command.get_after_help().map(ToString::to_string);
        let help = help.unwrap_or_default();
        let indented = help.lines().filter_map(|line| line.strip_prefix("  "));
        indented.map(str::to_owned).collect()
    }

    #[test]
    fn the_grammar_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        for (path, command) in commands() {
            assert!(!examples(&command).is_empty(), "{path} has no example");
        }
    }

    #[test]
    fn every_example_is_understood() {
        let mut tried = 0;
        for (_, command) in commands() {
            for example in examples(&command) {
                // What follows is another program's business.
                let ours = example.split(" | ").next().unwrap_or_default();
                let ours = ours.split(" > ").next().unwrap_or_default();
                if ours.starts_with("tenantd ") {
                    let words = ours.split_whitespace();
                    let parsed = Cli::try_parse_from(words);
                    assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
                    tried += 1;
                }
            }
        }
        assert!(tried > 25, "only {tried} examples were found");
    }

    #[test]
    fn the_help_of_every_command() {
        let mut text = String::new();
        for (path, mut command) in commands() {
            let help = command.render_long_help();
            let _ = write!(text, "──── {path} --help\n{help}\n");
        }
        insta::assert_snapshot!(text);
    }
}
