//! `spending`: what tenants' endpoints have used, and how they stand to their limits.
//! The doors count; nothing is computed here but sums for people.

use std::fmt::Write as _;

use super::args::SpendingArgs;
use super::client::Client;
use super::console::{Console, Paint};
use super::error::CliError;
use super::human::counted;
use super::output;
use super::table::{Table, cell};
use crate::api::{SpendingLimits, SpendingReport};

/// Runs the command.
pub async fn run(client: &Client, console: Console, args: SpendingArgs) -> Result<(), CliError> {
    let tenant = args.tenant.map(|tenant| format!("tenant={tenant}"));
    let month = args.month.map(|month| format!("month={month}"));
    let query: Vec<_> = tenant.into_iter().chain(month).collect();
    let reports: Vec<SpendingReport> = client
        .get(&format!("/v1/spending?{}", query.join("&")))
        .await?;
    if args.output.json {
        return console.print(&output::json(&reports));
    }
    console.print(&shown(&reports, console.out))
}

fn shown(reports: &[SpendingReport], paint: Paint) -> String {
    let header = [
        "TENANT", "ENDPOINT", "MODEL", "REQUESTS", "INPUT", "OUTPUT", "CACHE", "MONEY",
    ];
    let mut table = Table::new(&header, paint);
    let mut has_any = false;
    for report in reports {
        for line in &report.lines {
            has_any = true;
            table.row(vec![
                cell(&report.tenant),
                cell(&line.endpoint),
                cell(&line.model),
                cell(line.requests),
                cell(line.input_tokens),
                cell(line.output_tokens),
                cell(
                    line.cache_read_tokens
                        .saturating_add(line.cache_write_tokens),
                ),
                cell(&line.money),
            ]);
        }
    }
    let mut text = if has_any {
        table.render()
    } else {
        "No endpoint has been used in this month.\n".to_owned()
    };
    for report in reports {
        let guessed: u64 = report.lines.iter().map(|line| line.estimated).sum();
        if guessed > 0 {
            let requests = counted(usize::try_from(guessed).unwrap_or(usize::MAX), "request");
            let _ = writeln!(
                text,
                "{}: {requests} with tokens that are in part a guess, because nobody counted them",
                report.tenant
            );
        }
        if let Some(limits) = &report.limits {
            let _ = writeln!(text, "{}: {}", report.tenant, told(limits));
        }
        if let Some(why) = &report.unreadable {
            let _ = writeln!(text, "{}: not known: {why}", report.tenant);
        }
    }
    text
}

fn told(limits: &SpendingLimits) -> String {
    let tokens = limits
        .tokens_limit
        .map(|limit| format!("{} of {limit} tokens", limits.tokens));
    let money = limits
        .money_limit
        .as_ref()
        .map(|limit| format!("{} of {limit}", limits.money));
    let used: Vec<_> = tokens.into_iter().chain(money).collect();
    let paused = if limits.paused {
        "; paused until the next one, or until an apply raises the limit"
    } else {
        ""
    };
    format!("{} of this {}{paused}", used.join(", "), limits.period)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SpendingLine;

    #[test]
    fn figures_are_shown_with_how_they_stand_to_limits() {
        let report = SpendingReport {
            tenant: "acme".to_owned(),
            month: "2026-11".to_owned(),
            lines: vec![SpendingLine {
                endpoint: "anthropic".to_owned(),
                model: "claude-large-4".to_owned(),
                requests: 12,
                estimated: 1,
                input_tokens: 4800,
                output_tokens: 1200,
                cache_read_tokens: 90_000,
                money: "0.0594".to_owned(),
                ..SpendingLine::default()
            }],
            limits: Some(SpendingLimits {
                period: "month".to_owned(),
                tokens: 96_000,
                tokens_limit: Some(96_000),
                money: "0.0594".to_owned(),
                money_limit: Some("20.00".to_owned()),
                paused: true,
            }),
            unreadable: None,
        };
        insta::assert_snapshot!(shown(&[report], Paint(false)), @"
        TENANT  ENDPOINT   MODEL           REQUESTS  INPUT  OUTPUT  CACHE  MONEY
        acme    anthropic  claude-large-4  12        4800   1200    90000  0.0594
        acme: 1 request with tokens that are in part a guess, because nobody counted them
        acme: 96000 of 96000 tokens, 0.0594 of 20.00 of this month; paused until the next one, or until an apply raises the limit
        ");
        insta::assert_snapshot!(shown(&[], Paint(false)), @"No endpoint has been used in this month.");
    }
}
