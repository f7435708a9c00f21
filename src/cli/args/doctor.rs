//! The arguments of `doctor`.

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::Output;
use crate::node::doctor::CHECKS;

/// What to check, and whether to mend it.
#[derive(Debug, Clone, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub struct DoctorArgs {
    /// Only this check; can be given more than once. `--list` names them.
    #[arg(
        long,
        value_name = "NAME",
        value_parser = PossibleValuesParser::new(CHECKS.iter().map(|check| check.name)),
        hide_possible_values = true
    )]
    pub only: Vec<String>,
    /// Mend what is safe to mend, saying so before it is done, and check again. Needs root, and never touches what
    /// tenants have stored.
    #[arg(long)]
    pub fix: bool,
    /// With --fix: say what would be done, and do nothing.
    #[arg(long, requires = "fix")]
    pub dry_run: bool,
    /// List the checks, and why there is each.
    #[arg(long, conflicts_with_all = ["only", "fix", "store"])]
    pub list: bool,
    /// Check the object store instead: what it and this host's key to it can do, and whether that
    /// key could destroy backups. Stores an object below `tenantd-probe/` and touches no other.
    #[arg(long, conflicts_with_all = ["only", "fix"])]
    pub store: bool,
    /// How to print it.
    #[command(flatten)]
    pub output: Output,
}
