//! The grammar of `front`.

use clap::{Args, Subcommand};

use super::Output;
use crate::front::Proxy;
use crate::tenant::TenantId;

/// `front`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct FrontArgs {
    #[command(subcommand)]
    pub command: Option<FrontCommand>,
    #[command(flatten)]
    pub output: Output,
}

/// What else `front` can do.
#[derive(Debug, Subcommand)]
pub enum FrontCommand {
    /// Print what another proxy is to be told so that it leads to tenants.
    ///
    /// For those who have a proxy of their own (`mode = "none"` under [front] in node.toml). Caddy and nginx speak to
    /// the tenants' sockets; Traefik and Tailscale need a `loopback-port` in each tenant's spec.
    #[command(after_help = "Examples:\n  tenantd front snippet nginx\n  \
                      tenantd front snippet tailscale acme | sh")]
    Snippet {
        /// The proxy.
        #[arg(value_enum)]
        proxy: Proxy,
        /// Only this tenant; all when not given.
        tenant: Option<TenantId>,
    },
}
