//! The arguments of `spending`.

use clap::Args;

use super::Output;
use crate::gateway::egress::Month;
use crate::tenant::TenantId;

/// `spending`.
#[derive(Debug, Args)]
pub struct SpendingArgs {
    /// Only this tenant; default: all that have endpoints.
    pub tenant: Option<TenantId>,
    /// A month in UTC, such as 2026-11; default: the present one.
    #[arg(long, value_name = "MONTH")]
    pub month: Option<Month>,
    /// How to print it.
    #[command(flatten)]
    pub output: Output,
}
