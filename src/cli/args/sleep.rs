//! The arguments of `sleep` and `wake`.

use clap::Args;

use super::Output;
use crate::tenant::TenantId;

/// `sleep` and `wake`.
#[derive(Debug, Args)]
pub struct SleepArgs {
    /// The tenants' ids.
    #[arg(required = true, value_name = "TENANT")]
    pub tenants: Vec<TenantId>,
    #[command(flatten)]
    pub output: Output,
}
