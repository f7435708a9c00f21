//! `egress` and `usage`: where agents may go, what their doors decided, and what passed.
//! Doors judge and count; this prints.

mod allowlist;

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::args::{EgressCommand, LogsArgs, UsageArgs};
use super::client::Client;
use super::console::{Console, Paint};
use super::error::CliError;
use super::human::bytes;
use super::lines;
use super::output::{self, json};
use super::table::{Table, cell, maybe};
use crate::api::{EgressDecision, EgressFigures, EgressReport, EgressVerdict};
use crate::gateway::egress::Month;
use crate::tenant::TenantId;

/// Runs the command.
pub async fn run(
    client: &Client,
    console: Console,
    command: EgressCommand,
) -> Result<(), CliError> {
    match command {
        EgressCommand::Test {
            tenant,
            url,
            output,
        } => test(client, console, &tenant, &url, output.json).await,
        EgressCommand::Log(args) => log(client, console, args).await,
        EgressCommand::Allowlist(args) => allowlist::run(client, console, args).await,
    }
}

async fn test(
    client: &Client,
    console: Console,
    tenant: &TenantId,
    url: &str,
    as_json: bool,
) -> Result<(), CliError> {
    let url = utf8_percent_encode(url, NON_ALPHANUMERIC);
    let path = format!("/v1/tenants/{tenant}/egress/test?url={url}");
    let verdict: EgressVerdict = client.get(&path).await?;
    console.print(&if as_json {
        json(&verdict)
    } else {
        told(&verdict, console.out)
    })?;
    if verdict.allowed {
        return Ok(());
    }
    Err(CliError::NoWayOut(verdict.destination))
}

fn told(verdict: &EgressVerdict, paint: Paint) -> String {
    let word = if verdict.allowed {
        paint.good("allowed")
    } else {
        paint.bad("refused")
    };
    let code = verdict.code.as_ref();
    let code = code.map_or_else(String::new, |code| format!(" ({code})"));
    let mut text = format!(
        "{word} {}: {}{code}\n",
        verdict.destination, verdict.because
    );
    for address in &verdict.addresses {
        let refused = address
            .refused
            .as_deref()
            .unwrap_or("public, or an exception");
        let _ = writeln!(text, "  {}  {refused}", address.address);
    }
    text
}

async fn log(client: &Client, console: Console, args: LogsArgs) -> Result<(), CliError> {
    let path = format!(
        "/v1/tenants/{}/egress/decisions?lines={}&follow={}",
        args.tenant, args.lines, args.follow
    );
    let zone = TimeZone::system();
    lines::print(client, console, &path, args.output.json, |decision| {
        shown(decision, &zone, console.out)
    })
    .await
}

fn shown(decision: &EgressDecision, zone: &TimeZone, paint: Paint) -> String {
    let at = decision.at.to_zoned(zone.clone());
    let at = paint.dim(&at.strftime("%Y-%m-%d %H:%M:%S").to_string());
    let EgressDecision {
        by, destination, ..
    } = decision;
    let word = match (decision.allowed, decision.reported) {
        (true, false) => paint.good("allowed"),
        (true, true) => paint.warn("observed"),
        (false, _) => paint.bad("refused"),
    };
    let more = match (&decision.code, &decision.address) {
        (Some(code), _) => {
            let because = decision.message.strip_prefix("refused: ");
            format!(": {} ({code})", because.unwrap_or(&decision.message))
        }
        (None, Some(address)) => format!(" at {address}"),
        (None, None) => String::new(),
    };
    format!("{at} {word} {destination} by {by}{more}\n")
}

async fn reports(
    client: &Client,
    tenant: Option<&TenantId>,
    month: Option<Month>,
) -> Result<Vec<EgressReport>, CliError> {
    let mut path = "/v1/egress?".to_owned();
    if let Some(tenant) = tenant {
        let _ = write!(path, "tenant={tenant}&");
    }
    if let Some(month) = month {
        let _ = write!(path, "month={month}");
    }
    Ok(client.get(&path).await?)
}

/// `usage`.
pub async fn usage(client: &Client, console: Console, args: UsageArgs) -> Result<(), CliError> {
    let reports = reports(client, args.tenant.as_ref(), args.period).await?;
    console.print(&if args.output.json {
        output::json(&reports)
    } else if args.csv {
        csv(&reports)
    } else if args.tenant.is_some() {
        reports
            .iter()
            .map(|report| of_one(report, console.out))
            .collect()
    } else {
        of_all(&reports, console.out)
    })
}

/// Names of tenants and hosts and numbers need no quotes (RFC 4180, section 2).
fn csv(reports: &[EgressReport]) -> String {
    let mut text = "tenant,month,destination,sent,received,connections,refused\r\n".to_owned();
    for report in reports {
        let total = std::iter::once(("total", &report.total));
        let each = report.destinations.iter();
        for (name, figures) in total.chain(each.map(|(name, figures)| (name.as_str(), figures))) {
            let EgressFigures {
                sent,
                received,
                connections,
                refused,
            } = figures;
            let _ = write!(
                text,
                "{},{},{name},{sent},{received},{connections},{refused}\r\n",
                report.tenant, report.month
            );
        }
    }
    text
}

fn of_all(reports: &[EgressReport], paint: Paint) -> String {
    let header = [
        "TENANT", "MONTH", "MODE", "SENT", "RECEIVED", "OF", "USED", "REQUESTS", "REFUSED",
    ];
    let mut table = Table::new(&header, paint);
    for report in reports {
        let EgressFigures {
            sent,
            received,
            connections,
            refused,
        } = report.total;
        let used = report.volume.filter(|volume| *volume > 0).map(|volume| {
            let passed = u128::from(sent) + u128::from(received);
            format!("{} %", passed * 100 / u128::from(volume))
        });
        table.row(vec![
            cell(&report.tenant),
            cell(&report.month),
            cell(&report.mode),
            cell(bytes(sent)),
            cell(bytes(received)),
            maybe(report.volume.map(bytes)),
            maybe(used),
            cell(connections),
            cell(refused),
        ]);
    }
    table.render()
}

fn of_one(report: &EgressReport, paint: Paint) -> String {
    let mut table = Table::new(
        &["DESTINATION", "SENT", "RECEIVED", "CONNECTIONS", "REFUSED"],
        paint,
    );
    for (name, figures) in &report.destinations {
        table.row(vec![
            cell(name),
            cell(bytes(figures.sent)),
            cell(bytes(figures.received)),
            cell(figures.connections),
            cell(figures.refused),
        ]);
    }
    format!(
        "{}\n{}",
        of_all(std::slice::from_ref(report), paint),
        table.render()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::EgressAddress;

    pub(super) fn report() -> EgressReport {
        let figures = |connections, refused| EgressFigures {
            sent: 2048 * connections,
            received: 1_048_576 * connections,
            connections,
            refused,
        };
        EgressReport {
            tenant: "acme".to_owned(),
            month: "2026-11".to_owned(),
            mode: "observe".to_owned(),
            allow: vec!["*.example.org".to_owned(), "git.example.net:22".to_owned()],
            ports: vec![80, 443],
            private_networks: vec!["192.168.1.10:11434".to_owned()],
            volume: Some(100 << 20),
            total: figures(12, 3),
            destinations: [
                ("api.example.org:443", figures(4, 0)),
                ("pypi.example:443", figures(3, 0)),
                ("pypi.example:80", figures(1, 0)),
                ("odd.example:8443", figures(1, 0)),
                ("refused.example:25", figures(0, 3)),
                ("203.0.114.9:443", figures(3, 0)),
            ]
            .map(|(name, figures)| (name.to_owned(), figures))
            .into(),
        }
    }

    #[test]
    fn usage_is_a_table_and_lines_for_programs() {
        insta::assert_snapshot!(of_one(&report(), Paint(false)));
        insta::assert_snapshot!(csv(&[report()]).replace("\r\n", "\n"));
    }

    #[test]
    fn a_verdict_says_why_and_what_the_name_leads_to() {
        let verdict = EgressVerdict {
            destination: "home.example:443".to_owned(),
            mode: "open".to_owned(),
            allowed: false,
            code: Some("address".to_owned()),
            because: "it is a private address".to_owned(),
            addresses: vec![
                EgressAddress {
                    address: "203.0.114.9".to_owned(),
                    refused: None,
                },
                EgressAddress {
                    address: "10.0.0.1".to_owned(),
                    refused: Some("it is a private address".to_owned()),
                },
            ],
        };
        insta::assert_snapshot!(told(&verdict, Paint(false)), @r"
        refused home.example:443: it is a private address (address)
          203.0.114.9  public, or an exception
          10.0.0.1  it is a private address
        ");
    }

    #[test]
    fn a_decision_is_one_line() {
        let decision = EgressDecision {
            at: "2026-05-04T11:57:00.5Z".parse().unwrap(),
            allowed: false,
            by: "connect".to_owned(),
            destination: "evil.example:443".to_owned(),
            address: None,
            code: Some("not-listed".to_owned()),
            reported: false,
            message: "refused: it is not on this agent's list".to_owned(),
        };
        insta::assert_snapshot!(
            shown(&decision, &TimeZone::UTC, Paint(false)),
            @"2026-05-04 11:57:00 refused evil.example:443 by connect: it is not on this agent's list (not-listed)"
        );
    }
}
