//! The command line's grammar and help texts.
//! Every command shows an example; what they do is in the files beside this one.

mod backup;
mod doctor;
mod egress;
mod front;
mod node;
mod release;
mod sleep;
mod spending;
mod store;
mod tenant;
mod token;

use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand};

pub use backup::*;
pub use doctor::*;
pub use egress::*;
pub use front::*;
pub use node::*;
pub use release::*;
pub use sleep::*;
pub use spending::*;
pub use store::*;
pub use tenant::*;
pub use token::*;

use super::attempt::Which;
use super::generate::GenerateCommand;
use super::keys::KeysCommand;
use super::secret::SecretCommand;
use super::unit::UnitCommand;
use crate::tenant::TenantId;

/// A single-host home for AI agents: tenants under systemd and Podman, backed up and restored.
#[derive(Debug, Parser)]
#[command(name = "tenantd", version, max_term_width = 100)]
#[command(
    after_help = "Examples:\n  tenantd apply acme.toml\n  tenantd list\n  tenantd logs acme -f\n  \
                  tenantd doctor\n\n\
                  Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused as invalid, 4 no such \
                  thing, 5 conflict, 6 tenantd does not answer or may not be asked, 7 the agent \
                  is not healthy. `exec` passes on the code of what it ran; `doctor` ends with 1 \
                  when a check failed."
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
    /// Print the result as JSON, for programs.
    #[arg(long)]
    pub json: bool,
}

/// All commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Set this host up: write node.toml and make the node's key.
    ///
    /// Done once, before the daemon's first start. Backups are encrypted for recipients and
    /// trusted by a root key, which are the operator's and belong on another machine: give their
    /// public halves with --recipient and --root-key. Without them both are made here, and
    /// their secret halves are shown once.
    #[command(after_help = "Examples:\n  tenantd init\n  \
                            tenantd init --root-key root.pub --recipient age1… --store dir:/srv/backups\n  \
                            tenantd init --store s3://backups/host-1 --endpoint https://s3.example.com\n  \
                            tenantd init --certificate node.json.sig")]
    Init(InitArgs),
    /// Run the daemon; systemd does this.
    ///
    /// Tenants run without it: it installs what specs say, watches, and answers the other
    /// commands.
    #[command(after_help = "Example:\n  systemctl start tenantd")]
    Serve,
    /// Create tenants, or change them, to what their specs say.
    ///
    /// All specs are checked before anything is touched. An agent that does not become healthy
    /// gets its last known good release back: revision, image and data. So does one that fails on trial, before it was
    /// healthy for a minute. A tenant whose spec says nothing new is left alone.
    #[command(
        after_help = "Examples:\n  tenantd apply acme.toml\n  tenantd apply --dry-run tenants/\n  \
                            tenantd apply --pull acme.toml --wait-good\n  \
                            tenantd apply acme.toml --if-revision 3"
    )]
    Apply(ApplyArgs),
    /// List tenants.
    #[command(
        after_help = "Examples:\n  tenantd list --json | jq -r '.[].id'\n  tenantd list --all"
    )]
    List(ListArgs),
    /// Show one tenant: image, units, usage, last operations and history.
    ///
    /// With --operation, show one operation instead, and what is kept of it when it failed: the agent's log, what it
    /// answered to probes, systemd's result, and the files that were rendered.
    #[command(after_help = "Examples:\n  tenantd show acme\n  tenantd show acme --operation last")]
    Show {
        /// The tenant's id.
        tenant: TenantId,
        /// An operation's id, or `last`: the newest that failed or that a failure led to.
        #[arg(long, value_name = "ID|last")]
        operation: Option<Which>,
        #[command(flatten)]
        output: Output,
    },
    /// Show what tenants use: processor, memory, tasks, pressure, disk and storage, the busiest first.
    ///
    /// On a terminal it goes on until it is interrupted. PRESSURE is the share of the last ten seconds in
    /// which something of the tenant waited, for what it waited most; a dash is what this host does not count.
    #[command(after_help = "Examples:\n  tenantd top\n  tenantd top acme --once\n  \
                            tenantd top --once --json | jq '.[0].id'")]
    Top(TopArgs),
    /// Show what tenants' endpoints have used: requests, tokens and money, and how they stand to their limits.
    ///
    /// Days and months are those of UTC; money is in the currency of /etc/tenantd/prices.d. A tenant that has used up
    /// its limit is paused: its endpoints answer 429 until the next period, or until an apply raises the limit.
    #[command(
        after_help = "Examples:\n  tenantd spending\n  tenantd spending acme --month 2026-11\n  \
                            tenantd spending --json | jq '.[] | select(.limits.paused) | .tenant'"
    )]
    Spending(SpendingArgs),
    /// Show what passed tenants' egress doors in a month: bytes, connections, refusals, and how much of the plan's volume.
    #[command(
        after_help = "Examples:\n  tenantd usage\n  tenantd usage acme --period 2026-11\n  \
                            tenantd usage --period 2026-11 --csv > egress.csv"
    )]
    Usage(UsageArgs),
    /// Look at agents' ways out: try a URL, read decisions, make a list of what an agent needs.
    ///
    /// A spec says under [egress] where its agent may go. Addresses that are not public are refused in every mode.
    #[command(
        after_help = "Examples:\n  tenantd egress test acme https://api.anthropic.com/\n  \
                            tenantd egress log acme -f\n  tenantd egress allowlist acme"
    )]
    Egress {
        #[command(subcommand)]
        command: EgressCommand,
    },
    /// Print the systemd and Quadlet files that a tenant's spec leads to.
    #[command(after_help = "Examples:\n  tenantd units acme\n  tenantd units acme --diff")]
    Units(UnitsArgs),
    /// List a tenant's revisions: who changed what it is, when and why.
    #[command(after_help = "Examples:\n  tenantd history acme\n  \
                            tenantd history acme --json | jq '.[0]'")]
    History(HistoryArgs),
    /// Show what changed from one revision to another: the spec, the image and the rendered files.
    ///
    /// Without numbers, the installed revision is compared with the one that ran before it.
    #[command(after_help = "Examples:\n  tenantd diff acme\n  tenantd diff acme 3 5 --spec")]
    Diff(DiffArgs),
    /// Start stopped tenants.
    #[command(after_help = "Example:\n  tenantd start acme")]
    Start(TenantArgs),
    /// Stop tenants; they stay down until `start`, also over a reboot.
    #[command(after_help = "Example:\n  tenantd stop acme")]
    Stop(TenantArgs),
    /// Stop and start tenants' agents, from the images that they are pinned to.
    #[command(after_help = "Example:\n  tenantd restart acme")]
    Restart(TenantArgs),
    /// Stop tenants for a reason; only `resume` starts them again.
    #[command(after_help = "Example:\n  tenantd suspend acme --reason billing")]
    Suspend {
        #[command(flatten)]
        tenants: TenantArgs,
        /// Why; `list` and `show` say it, the tenant's visitors do not hear it.
        #[arg(long, default_value = "operator")]
        reason: String,
    },
    /// Start suspended tenants again.
    #[command(after_help = "Example:\n  tenantd resume acme")]
    Resume(TenantArgs),
    /// Put tenants to sleep now, as when they are idle: frozen, until somebody comes.
    ///
    /// Whoever is connected is disconnected. It needs root and not the daemon; tenants that are always on do not sleep.
    #[command(after_help = "Example:\n  tenantd sleep acme")]
    Sleep(SleepArgs),
    /// Wake tenants that sleep, as when somebody comes; they sleep again once they are idle.
    #[command(after_help = "Example:\n  tenantd wake acme")]
    Wake(SleepArgs),
    /// Return a tenant to an earlier release: its revision, its image, and the data that it had left.
    ///
    /// What was written since is set aside, and the answer says where. It needs neither the network nor an identity: before
    /// each update the state is cloned. Without --to it is the last known good release, or the one before it.
    #[command(after_help = "Examples:\n  tenantd rollback acme\n  \
                            tenantd rollback acme --to 3 --message regression\n  \
                            tenantd rollback acme --to 2 --keep-data")]
    Rollback(RollbackArgs),
    /// Print what a tenant's agent wrote.
    ///
    /// With --access, print who asked for what through the public front instead.
    #[command(
        after_help = "Examples:\n  tenantd logs acme -n 20\n  tenantd logs acme -f\n  \
                            tenantd logs acme --access"
    )]
    Logs(LogsArgs),
    /// Run a command inside a tenant's running container.
    ///
    /// With -it it is a terminal inside, for onboarding and pairing.
    #[command(
        after_help = "Examples:\n  tenantd exec -it acme -- openclaw onboard\n  \
                            tenantd exec acme -- cat /etc/os-release"
    )]
    Exec(ExecArgs),
    /// Give tenants' agents secrets: tokens and keys that are in no spec.
    ///
    /// A spec names them under [secrets]; values are encrypted on this host's disk, and in backups for the recipients
    /// only. The agent finds each as a file below /run/secrets, in memory that is never swapped out.
    #[command(after_help = "Examples:\n  tenantd secret set acme DISCORD_TOKEN\n  \
                            tenantd secret list acme\n  tenantd secret rotate acme GATEWAY_TOKEN")]
    Secret {
        #[command(subcommand)]
        command: SecretCommand,
    },
    /// Let others ask this daemon over TCP, each with a token of their own and for what its scope allows.
    ///
    /// Over the Unix socket nobody needs one. `[api]` in node.toml says where the daemon listens beside it.
    #[command(after_help = "Examples:\n  \
                            tenantd token create --name phone --scope tenant:acme > acme.token\n  \
                            tenantd token list\n  tenantd token revoke 0123456789ab")]
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Remove tenants from this host; `reclaim` takes it back until their plans' retention is over.
    ///
    /// Units, namespaces and slices go at once. State and backups stay for the retention of the plan; then the
    /// state is deleted, and with it what the backups can be read with. With --purge that happens now; with
    /// --keep-backups too, the backups stay readable.
    #[command(
        after_help = "Examples:\n  tenantd remove acme\n  tenantd remove acme --purge --yes\n  \
                            tenantd remove acme --purge --keep-backups --yes"
    )]
    Remove(RemoveArgs),
    /// Take the removal of tenants back: revision, units and state are as they were.
    ///
    /// Until they are erased; `tenantd list --all` says when that is.
    #[command(after_help = "Example:\n  tenantd reclaim acme")]
    Reclaim(TenantArgs),
    /// Back up tenants now; all of them and the node when none is named.
    ///
    /// systemd does this every hour, and when the host stops.
    #[command(after_help = "Examples:\n  tenantd backup\n  tenantd backup acme")]
    Backup(BackupArgs),
    /// List the snapshots that this host has made.
    #[command(after_help = "Example:\n  tenantd snapshots acme")]
    Snapshots(SnapshotsArgs),
    /// List what is in a snapshot.
    ///
    /// Names that are no plain text are shown with %XX for their odd bytes, and are understood so.
    #[command(
        after_help = "Examples:\n  tenantd ls acme\n  tenantd ls acme data/notes -l\n  \
                            tenantd ls acme --snapshot 12 --recursive --json --identity key.txt"
    )]
    Ls(LsArgs),
    /// Delete old snapshots from the store, by the rules of [retention]; needs a key that may delete.
    #[command(after_help = "Examples:\n  tenantd prune --dry-run\n  \
                            tenantd prune --settings node.toml --credentials admin.key --yes\n  \
                            tenantd prune --store dir:/srv/backups --root-key root.pub --dry-run")]
    Prune(PruneArgs),
    /// Show, certify, rotate and erase the keys that backups are signed and read with.
    #[command(
        after_help = "Examples:\n  tenantd keys show\n  tenantd keys rotate --identity key.txt --dry-run"
    )]
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Bring back a tenant's state, or a whole node, from the backups.
    ///
    /// In place, the agent stops, its state is replaced as a whole, and it starts again; what
    /// was there is untouched when the restore fails, and else kept until --accept removes it or --undo
    /// puts it back (and keeps the other one). With
    /// --to, the snapshot is written beside it, and nothing else changes. With --path, only one file
    /// or directory comes back: to another directory with --to, or else beside what has its name now,
    /// as `NAME.restored-N`; the agent may run. With --node, an empty machine that was set up with
    /// `tenantd init` gets settings, specs and all tenants back; what was cut short is repeated.
    #[command(
        override_usage = "tenantd restore <TENANT> [--snapshot N | --allow-old] [--identity FILE]\n       \
                          tenantd restore <TENANT> --to <DIR> [--snapshot N | --allow-old] [--identity FILE]\n       \
                          tenantd restore <TENANT> --path <PATH> [--to <DIR>] [--snapshot N | --allow-old] [--identity FILE]\n       \
                          tenantd restore <TENANT> --undo | --accept\n       \
                          tenantd restore --node [--from NAME] [--identity FILE] [--allow-old]",
        after_help = "Examples:\n  tenantd restore acme\n  \
                            tenantd restore acme --snapshot 12 --identity key.txt\n  \
                            tenantd restore acme --snapshot 12 --to /var/tmp/acme\n  \
                            tenantd restore acme --undo\n  \
                            tenantd restore acme --path data/notes/todo.md\n  \
                            tenantd restore acme --allow-old\n  \
                            tenantd restore --node --identity key.txt\n  \
                            tenantd restore --node --from old-host --identity key.txt"
    )]
    Restore(RestoreArgs),
    /// Look whether the backups are whole: signatures, presence and sizes of all that snapshots name.
    ///
    /// With --sample or --full, so much of it is downloaded and its hashes are checked; where an identity is given or on
    /// this host, it is opened too, down to every chunk. What was found is remembered, and `show` tells it.
    #[command(
        after_help = "Examples:\n  tenantd verify\n  tenantd verify acme --sample 5%\n  \
                            tenantd verify --full --identity key.txt"
    )]
    Verify(VerifyArgs),
    /// Bring the newest snapshots back to life beside their tenants, and look whether they are.
    ///
    /// Each is restored into a scratch tenant that has no way out. Every SQLite database in it is checked, its agent
    /// is started and asked as at every start, and all of it is removed again. The tenant itself runs on and is not
    /// touched. What was found is remembered, and `show` tells it. A timer does this every month on hosts that have
    /// an identity.
    #[command(
        after_help = "Examples:\n  tenantd drill\n  tenantd drill acme --identity key.txt\n  \
                            tenantd drill --json | jq '.[] | select(.outcome != \"good\")'"
    )]
    Drill(DrillArgs),
    /// Write a tenant's state and spec into one file, for a user who leaves.
    ///
    /// The file is a tar archive (POSIX pax) in zstd: `tenantd-export.json`, `tenant.toml`, and `state/`
    /// with one directory for each mount. `tar -xf` reads it; `tenantd import` makes a tenant of it. It is
    /// not encrypted.
    #[command(after_help = "Examples:\n  tenantd export acme > acme.tar.zst\n  \
                            tenantd export acme --snapshot 12 --identity key.txt --file acme.tar.zst")]
    Export(ExportArgs),
    /// Make a tenant from a file that `export` wrote.
    ///
    /// Anybody may have made the file: nothing in it can lead out of the tenant's state directory. Devices
    /// and other special files are refused, and setuid bits are dropped.
    #[command(after_help = "Examples:\n  tenantd import acme.tar.zst\n  \
                            tenantd import acme.tar.zst --as acme-2 --dry-run")]
    Import(ImportArgs),
    /// List templates (what tenantd knows of kinds of agents), or print one.
    #[command(after_help = "Examples:\n  tenantd templates\n  tenantd templates openclaw")]
    Templates(CatalogArgs),
    /// List plans (named limits), or print one.
    #[command(after_help = "Examples:\n  tenantd plans\n  tenantd plans starter")]
    Plans(CatalogArgs),
    /// Prepare a host to be a node: its files, and the config of its first boot.
    #[command(
        after_help = "Examples:\n  tenantd node install\n  tenantd node butane --host host-1 --root-key root.pub --recipient age1… --binary tenantd.gz"
    )]
    Node {
        /// What to do.
        #[command(subcommand)]
        command: NodeCommand,
    },
    /// Show the node: its store, its tenants by state, what is at work, what to mend.
    #[command(after_help = "Example:\n  tenantd status")]
    Status(Output),
    /// Show the public front: the hosts of tenants, their certificates, and what to mend.
    #[command(
        after_help = "Examples:\n  tenantd front\n  tenantd front --json | jq '.hosts[] | select(.state != \"valid\")'\n  \
                            tenantd front snippet caddy acme"
    )]
    Front(FrontArgs),
    /// Check the host for what tenantd needs, and say what to do.
    ///
    /// Works without the daemon too, as root: that it does not run is then one of the findings.
    #[command(
        after_help = "Examples:\n  tenantd doctor\n  tenantd doctor --list\n  tenantd doctor --only swap --only disk\n  \
                            tenantd doctor --fix --dry-run\n  tenantd doctor --store\n  \
                            tenantd doctor --json | jq '.[] | select(.verdict == \"failed\")'\n\n\
                            Exit codes: 0 no check failed, though some may warn; 1 a check failed, or was not mended; \
                            6 the daemon may not be asked, or is absent and you are not root."
    )]
    Doctor(DoctorArgs),
    /// Read node.toml and tenants.d again, and put right what is not as recorded.
    #[command(after_help = "Example:\n  tenantd reload")]
    Reload(ReloadArgs),
    /// Print the version of this program, and of the daemon where it is another.
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

/// `reload`.
#[derive(Debug, Args)]
pub struct ReloadArgs {
    /// Ask the images' registries again: a tag may mean another image by now.
    #[arg(long)]
    pub pull: bool,
}

/// `templates`, `plans`.
#[derive(Debug, Args)]
pub struct CatalogArgs {
    /// Print this one whole; default: list all.
    pub name: Option<String>,
    #[command(flatten)]
    pub output: Output,
}

#[cfg(test)]
mod tests;
