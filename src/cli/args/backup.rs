//! The arguments of the commands that make, look at and bring back snapshots.

use camino::Utf8PathBuf;
use clap::Args;

use super::Output;
use crate::backup::BucketPrefix;
use crate::cli::identity::IdentityArg;
use crate::cli::verify::permille;
use crate::tenant::TenantId;

/// `backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The tenants' ids; default: all, and the node.
    #[arg(value_name = "TENANT")]
    pub tenants: Vec<TenantId>,
    #[command(flatten)]
    pub output: Output,
}

/// `snapshots`.
#[derive(Debug, Args)]
pub struct SnapshotsArgs {
    /// Only this tenant's; default: all, and the node's.
    pub tenant: Option<TenantId>,
    #[command(flatten)]
    pub output: Output,
}

/// `ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// The tenant's id.
    pub tenant: TenantId,
    /// A file or directory in the snapshot; default: all that is at the top.
    pub path: Option<String>,
    /// The snapshot's number, as `tenantd snapshots` lists it; default: the newest.
    #[arg(long, value_name = "N")]
    pub snapshot: Option<u64>,
    /// Show modes, owners (as the container sees them), sizes and times too.
    #[arg(short, long)]
    pub long: bool,
    /// Show what is in directories too.
    #[arg(short = 'R', long)]
    pub recursive: bool,
    #[command(flatten)]
    pub identity: IdentityArg,
    #[command(flatten)]
    pub output: Output,
}

/// `prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Only these tenants' snapshots; on the host, which knows them by name.
    #[arg(value_name = "TENANT")]
    pub tenants: Vec<TenantId>,
    /// Only this repository; can be given more than once.
    #[arg(long, value_name = "PREFIX")]
    pub repository: Vec<BucketPrefix>,
    /// Where [store], [retention] and the root key are; default: /etc/tenantd/node.toml.
    #[arg(long, value_name = "FILE")]
    pub settings: Option<Utf8PathBuf>,
    /// The store, instead of the settings': `dir:/path` or `s3://bucket/prefix`.
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// S3 endpoint.
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// S3 region.
    #[arg(long)]
    pub region: Option<String>,
    /// A file with two lines: id and secret of a key that may delete.
    #[arg(long, value_name = "FILE")]
    pub credentials: Option<Utf8PathBuf>,
    /// The operator's root key, instead of the settings': `ssh-ed25519 …`, or a file that holds it.
    #[arg(long, value_name = "KEY|FILE")]
    pub root_key: Option<String>,
    /// Say what would be marked and deleted, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Let commits that no trusted node signed, or that were overwritten, go too.
    #[arg(long)]
    pub drop_refused: bool,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub output: Output,
}

/// `restore`.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct RestoreArgs {
    /// The tenant's id.
    #[arg(required_unless_present = "node", conflicts_with = "node")]
    pub tenant: Option<TenantId>,
    /// Rebuild a whole node on an empty machine, instead of one tenant.
    #[arg(long)]
    pub node: bool,
    /// The node to bring back, where it is not of this machine's name.
    // Beside a tenant, which rules `--node` out, clap would not miss it.
    #[arg(
        long,
        value_name = "NAME",
        requires = "node",
        conflicts_with = "tenant"
    )]
    pub from: Option<String>,
    /// The snapshot's number, as `tenantd snapshots` lists it; default: the newest.
    #[arg(long, value_name = "N")]
    pub snapshot: Option<u64>,
    /// Take the newest snapshot though it is older than this host, the node's heartbeat or [restore] in
    /// node.toml says it should be.
    #[arg(long, conflicts_with = "snapshot")]
    pub allow_old: bool,
    /// Put the state from before the last restore back.
    #[arg(long, conflicts_with_all = ["node", "accept", "snapshot", "path", "to", "identity", "allow_old"])]
    pub undo: bool,
    /// Remove the state from before the last restore.
    #[arg(long, conflicts_with_all = ["node", "snapshot", "path", "to", "identity", "allow_old"])]
    pub accept: bool,
    /// Only this file or directory of the snapshot, as `tenantd ls` shows it.
    #[arg(long, value_name = "PATH", conflicts_with = "node")]
    pub path: Option<String>,
    /// Write the snapshot into this directory, which must not exist yet, and change nothing else.
    #[arg(long, value_name = "DIR", conflicts_with = "node")]
    pub to: Option<Utf8PathBuf>,
    #[command(flatten)]
    pub identity: IdentityArg,
    #[command(flatten)]
    pub output: Output,
}

/// `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Only these tenants; default: all, and the node.
    #[arg(value_name = "TENANT")]
    pub tenants: Vec<TenantId>,
    /// Download this share of the packs, others each time.
    #[arg(long, value_name = "SHARE", value_parser = permille, conflicts_with = "full")]
    pub sample: Option<u16>,
    /// Download everything.
    #[arg(long)]
    pub full: bool,
    #[command(flatten)]
    pub identity: IdentityArg,
    #[command(flatten)]
    pub output: Output,
}

/// `drill`.
#[derive(Debug, Args)]
pub struct DrillArgs {
    /// Only these tenants; default: all that have a snapshot.
    #[arg(value_name = "TENANT")]
    pub tenants: Vec<TenantId>,
    #[command(flatten)]
    pub identity: IdentityArg,
    #[command(flatten)]
    pub output: Output,
}

/// `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The tenant's id.
    pub tenant: TenantId,
    /// The snapshot's number, as `tenantd snapshots` lists it; default: the newest.
    #[arg(long, value_name = "N")]
    pub snapshot: Option<u64>,
    /// Take the newest snapshot though it is older than it should be.
    #[arg(long, conflicts_with = "snapshot")]
    pub allow_old: bool,
    /// Write to this file, which must not exist yet, instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<Utf8PathBuf>,
    #[command(flatten)]
    pub identity: IdentityArg,
}

/// `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The archive. It is read twice, so it must be a file.
    pub file: Utf8PathBuf,
    /// The new tenant's id; default: the one in the archive's spec.
    #[arg(long = "as", value_name = "TENANT")]
    pub tenant: Option<TenantId>,
    /// Leave devices, FIFOs and the like out instead of refusing the archive, and keep setuid and
    /// setgid bits.
    #[arg(long)]
    pub allow_special: bool,
    /// Check everything and say what would be created, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub output: Output,
}
