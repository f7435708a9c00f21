//! `token`: makes, lists and revokes the tokens with which the API is asked over TCP.

use jiff::Timestamp;

use super::args::{TokenCommand, TokenCreateArgs, TokenRevokeArgs};
use super::client::Client;
use super::console::{Console, Paint};
use super::error::CliError;
use super::human::age;
use super::output::{self, json};
use super::table::{Table, cell, maybe};
use crate::api::{TokenDetail, TokenMade, TokenRequest};
use crate::host::clock;

/// Runs the command.
pub async fn run(client: &Client, console: Console, command: TokenCommand) -> Result<(), CliError> {
    match command {
        TokenCommand::Create(args) => create(client, console, args).await,
        TokenCommand::List(args) => {
            output::show(
                client,
                console,
                "/v1/tokens",
                args.json,
                |tokens: Vec<TokenDetail>| shown(&tokens, clock::now(), console.out),
            )
            .await
        }
        TokenCommand::Revoke(args) => revoke(client, console, args).await,
    }
}

async fn create(client: &Client, console: Console, args: TokenCreateArgs) -> Result<(), CliError> {
    let request = TokenRequest {
        name: args.name,
        scope: args.scope,
        expires: args.expires.0,
    };
    let made: TokenMade = client.post("/v1/tokens", &request).await?;
    if args.output.json {
        return console.print(&json(&made));
    }
    // Only the token is on standard output, so that it can go straight into a file.
    let TokenDetail { id, scope, .. } = &made.detail;
    let until = until(&made.detail);
    console.tell(&format!(
        "token {id}, scope {scope}, good {until}; it is shown this once:\n"
    ));
    console.print(&format!("{}\n", made.token))
}

async fn revoke(client: &Client, console: Console, args: TokenRevokeArgs) -> Result<(), CliError> {
    let mut revoked = Vec::new();
    for id in args.tokens {
        let token: TokenDetail = client.delete(&format!("/v1/tokens/{id}")).await?;
        if !args.output.json {
            console.print(&format!("revoked token {} ({})\n", token.id, token.name))?;
        }
        revoked.push(token);
    }
    if args.output.json {
        return console.print(&json(&revoked));
    }
    Ok(())
}

fn until(token: &TokenDetail) -> String {
    match token.expires_at {
        None => "until it is revoked".to_owned(),
        Some(at) => format!("until {}", at.strftime("%Y-%m-%d %H:%M UTC")),
    }
}

fn shown(tokens: &[TokenDetail], now: Timestamp, paint: Paint) -> String {
    if tokens.is_empty() {
        return "no tokens; `tenantd token create` makes one\n".to_owned();
    }
    let mut table = Table::new(
        &["ID", "NAME", "SCOPE", "MADE BY", "GOOD", "LAST USED"],
        paint,
    );
    for token in tokens {
        let good = match token.expires_at {
            Some(at) if at <= now => "expired".to_owned(),
            _ => until(token),
        };
        table.row(vec![
            cell(&token.id),
            cell(&token.name),
            cell(&token.scope),
            cell(&token.created_by),
            cell(good),
            maybe(token.last_used.map(|at| age(now, at))),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_what_tokens_are_for_and_until_when() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let token = |name: &str, scope: &str, expires_at, last_used| TokenDetail {
            id: "0123456789ab".parse().unwrap(),
            name: name.parse().unwrap(),
            scope: scope.parse().unwrap(),
            created_at: at("2026-11-01T10:00:00Z"),
            created_by: "root".to_owned(),
            expires_at,
            last_used,
        };
        let tokens = [
            token(
                "billing",
                "operator",
                None,
                Some(at("2026-11-21T08:00:00Z")),
            ),
            token(
                "phone",
                "tenant:acme",
                Some(at("2027-01-30T10:00:00Z")),
                None,
            ),
            token("old", "read", Some(at("2026-11-20T10:00:00Z")), None),
        ];
        let now = at("2026-11-21T10:00:00Z");
        insta::assert_snapshot!(shown(&tokens, now, Paint(false)));
        assert!(shown(&[], now, Paint(false)).contains("token create"));
    }
}
