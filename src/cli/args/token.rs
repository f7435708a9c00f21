//! The grammar of `token`.

use clap::{Args, Subcommand};

use super::Output;
use crate::access::{Scope, TokenId, TokenName};
use crate::tenant::{Period, PeriodError};

/// `token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, once; it is kept nowhere.
    #[command(after_help = "Examples:\n  \
                            tenantd token create --name phone --scope tenant:acme > acme.token\n  \
                            tenantd token create --name grafana --scope read --expires never\n  \
                            tenantd token create --name billing --scope operator --json | jq -r .token")]
    Create(TokenCreateArgs),
    /// List tokens: what they are for, until when, and when they were last used.
    #[command(after_help = "Examples:\n  tenantd token list\n  \
                            tenantd token list --json | jq '.[] | select(.scope == \"admin\")'")]
    List(Output),
    /// Revoke tokens; they are no good from then on.
    #[command(after_help = "Example:\n  tenantd token revoke 0123456789ab")]
    Revoke(TokenRevokeArgs),
}

/// `token create`.
#[derive(Debug, Args)]
pub struct TokenCreateArgs {
    /// What people call it; histories show it beside its id.
    #[arg(long)]
    pub name: TokenName,
    /// What it is for: `read`, `operator`, `admin`, or `tenant:ID` for the owner of one tenant.
    #[arg(long)]
    pub scope: Scope,
    /// How long it is good: a time such as `90d`, or `never` for one that does not expire.
    #[arg(long, default_value = "90d", value_name = "TIME|never", value_parser = expires)]
    pub expires: Expires,
    #[command(flatten)]
    pub output: Output,
}

/// How long a token is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expires(pub Option<Period>);

fn expires(text: &str) -> Result<Expires, PeriodError> {
    if text == "never" {
        return Ok(Expires(None));
    }
    text.parse().map(|period| Expires(Some(period)))
}

/// `token revoke`.
#[derive(Debug, Args)]
pub struct TokenRevokeArgs {
    /// The tokens' ids, as `list` shows them.
    #[arg(required = true, value_name = "ID")]
    pub tokens: Vec<TokenId>,
    #[command(flatten)]
    pub output: Output,
}
