//! The grammar of what is asked of tenants as they are: listed, watched, entered, removed.

use clap::Args;

use super::Output;
use crate::tenant::TenantId;

/// One or more tenants.
#[derive(Debug, Args)]
pub struct TenantArgs {
    /// The tenants' ids.
    #[arg(required = true, value_name = "TENANT")]
    pub tenants: Vec<TenantId>,
    #[command(flatten)]
    pub wait: Wait,
}

/// What to do when another operation is at work on a tenant.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Wait {
    /// Wait for the end of what is at work on a tenant, instead of being refused.
    #[arg(long)]
    pub wait: bool,
}

impl Wait {
    /// The query of a path, or its continuation where it has one already.
    pub fn query(self, first: char) -> String {
        if self.wait {
            format!("{first}queue=true")
        } else {
            String::new()
        }
    }
}

/// `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Those that are removed and not yet erased as well.
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub output: Output,
}

/// `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Only this tenant.
    pub tenant: Option<TenantId>,
    /// Show one look and end.
    #[arg(long)]
    pub once: bool,
    /// How to print it.
    #[command(flatten)]
    pub output: Output,
}

/// `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The tenant's id.
    pub tenant: TenantId,
    /// Go on with new lines as they come.
    #[arg(short, long)]
    pub follow: bool,
    /// Print the access log of the public front: who asked for what.
    #[arg(long, conflicts_with = "follow")]
    pub access: bool,
    /// How many of the last lines to begin with.
    #[arg(short = 'n', long, default_value_t = 100, value_name = "N")]
    pub lines: u32,
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
    /// The tenant's id.
    pub tenant: TenantId,
    /// The command and its arguments.
    #[arg(required = true, last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    #[command(flatten)]
    pub tenants: TenantArgs,
    /// Erase them now: their state on this host, and what their backups can be read with.
    #[arg(long)]
    pub purge: bool,
    /// Leave the backups readable.
    #[arg(long, requires = "purge")]
    pub keep_backups: bool,
    /// Do not ask before purging.
    #[arg(long, requires = "purge")]
    pub yes: bool,
}
