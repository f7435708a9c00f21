//! The arguments of the commands about tenants' ways out.

use clap::{Args, Subcommand};

use super::{LogsArgs, Output};
use crate::gateway::egress::Month;
use crate::tenant::TenantId;

/// What to ask of a tenant's way out.
#[derive(Debug, Subcommand)]
pub enum EgressCommand {
    /// Say whether a tenant's agent would get through to a URL, and why; nothing is connected.
    #[command(
        after_help = "Examples:\n  tenantd egress test acme https://api.anthropic.com/\n  \
                            tenantd egress test acme git.example.org:22 --json\n\n\
                            Exit codes: 0 it would get through, 1 it would not."
    )]
    Test {
        /// The tenant's id.
        tenant: TenantId,
        /// A URL, a host, or a host with a port.
        url: String,
        #[command(flatten)]
        output: Output,
    },
    /// Print what a tenant's egress door decided: what was let through, what was refused, and why.
    #[command(
        after_help = "Examples:\n  tenantd egress log acme -n 20\n  tenantd egress log acme -f\n  \
                            tenantd egress log acme --json | jq 'select(.allowed | not)'"
    )]
    Log(LogsArgs),
    /// Print the list that lets a tenant's agent do what it did this month, or put it into force.
    ///
    /// Let it run in mode `observe` for some days first. What the list names already stays in it; what was asked for by
    /// a bare address cannot be in a list, and is told apart.
    #[command(after_help = "Examples:\n  tenantd egress allowlist acme\n  \
                            tenantd egress allowlist acme --apply -m observed\n  \
                            tenantd egress allowlist acme --period 2026-11")]
    Allowlist(AllowlistArgs),
}

/// `egress allowlist`.
#[derive(Debug, Args)]
pub struct AllowlistArgs {
    /// The tenant's id.
    pub tenant: TenantId,
    /// Another month than this one, such as 2026-11.
    #[arg(long, value_name = "MONTH")]
    pub period: Option<Month>,
    /// Write it into the tenant's spec, with mode `allowlist`, as a new revision. The agent runs on.
    #[arg(long)]
    pub apply: bool,
    /// A note that is kept with the revision.
    #[arg(short, long, requires = "apply")]
    pub message: Option<String>,
}

/// `usage`.
#[derive(Debug, Args)]
pub struct UsageArgs {
    /// Only this tenant's, with its destinations; default: all tenants.
    pub tenant: Option<TenantId>,
    /// Another month than this one (UTC), such as 2026-11.
    #[arg(long, value_name = "MONTH")]
    pub period: Option<Month>,
    /// Print lines for a spreadsheet or a billing program, as RFC 4180 has them.
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    #[command(flatten)]
    pub output: Output,
}
