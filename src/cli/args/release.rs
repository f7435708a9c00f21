//! The grammar of releases: applying specs, going back, and what changed.

use camino::Utf8PathBuf;
use clap::Args;

use super::{Output, Wait};
use crate::tenant::TenantId;

/// `apply`.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub struct ApplyArgs {
    /// Specs, or directories of *.toml specs; `-` reads one from standard input.
    #[arg(required = true, value_name = "FILE|DIR")]
    pub paths: Vec<Utf8PathBuf>,
    /// Say what would change, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Ask the images' registries again: a tag may mean another image by now. Without it, an
    /// image that is on the host is used as it is.
    #[arg(long, conflicts_with = "dry_run")]
    pub pull: bool,
    /// Try images that have failed these tenants before, and although a breaker is open.
    #[arg(long)]
    pub force: bool,
    /// A note that is kept with the revision.
    #[arg(short, long)]
    pub message: Option<String>,
    /// Only if this revision is installed; for one spec.
    #[arg(long, value_name = "N")]
    pub if_revision: Option<u64>,
    /// Wait until the new revision is good: healthy for as long as node.toml says, by default a minute.
    #[arg(long, conflicts_with = "dry_run")]
    pub wait_good: bool,
    #[command(flatten)]
    pub wait: Wait,
    #[command(flatten)]
    pub output: Output,
}

/// `rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// The tenant's id.
    pub tenant: TenantId,
    /// The revision to return to.
    #[arg(long, value_name = "N")]
    pub to: Option<u64>,
    /// Leave the data as it is.
    #[arg(long)]
    pub keep_data: bool,
    /// Why; kept in the tenant's history.
    #[arg(short, long)]
    pub message: Option<String>,
    /// Only if this revision is installed.
    #[arg(long, value_name = "N")]
    pub if_revision: Option<u64>,
    #[command(flatten)]
    pub wait: Wait,
    #[command(flatten)]
    pub output: Output,
}

/// `history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// The tenant's id.
    pub tenant: TenantId,
    #[command(flatten)]
    pub output: Output,
}

/// `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The tenant's id.
    pub tenant: TenantId,
    /// The revision to begin with; default: the one that ran before the other.
    pub from: Option<u64>,
    /// The revision to end with; default: the installed one.
    pub to: Option<u64>,
    /// Only the spec, and what it meant.
    #[arg(long, conflicts_with = "units")]
    pub spec: bool,
    /// Only the rendered files.
    #[arg(long)]
    pub units: bool,
    #[command(flatten)]
    pub output: Output,
}

/// `units`.
#[derive(Debug, Args)]
pub struct UnitsArgs {
    /// The tenant's id.
    pub tenant: TenantId,
    /// Show how they differ from what is installed; nothing when they do not.
    #[arg(long)]
    pub diff: bool,
    #[command(flatten)]
    pub output: Output,
}
