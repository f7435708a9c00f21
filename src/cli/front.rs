//! `front`: the hosts of tenants, their certificates, and snippets for other proxies; a tenant's access log.

use std::fmt::Write;

use comfy_table::{Cell, Color};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::args::{FrontArgs, FrontCommand, LogsArgs};
use super::client::Client;
use super::console::{Console, Paint};
use super::error::CliError;
use super::output;
use super::table::{Table, cell, maybe};
use crate::api::SnippetText;
use crate::front::{AccessLine, CertificateState, FrontReport, Proxy};
use crate::host::clock;

/// Runs the command.
pub async fn run(client: &Client, console: Console, args: FrontArgs) -> Result<(), CliError> {
    match args.command {
        None => {
            output::show(client, console, "/v1/front", args.output.json, |report| {
                shown(&report, clock::now(), console.out)
            })
            .await
        }
        Some(FrontCommand::Snippet { proxy, tenant }) => {
            let proxy = match proxy {
                Proxy::Caddy => "caddy",
                Proxy::Nginx => "nginx",
                Proxy::Traefik => "traefik",
                Proxy::Tailscale => "tailscale",
            };
            let only = tenant.map_or_else(String::new, |tenant| format!("&tenant={tenant}"));
            let path = format!("/v1/front/snippet?proxy={proxy}{only}");
            let snippet: SnippetText = client.get(&path).await?;
            console.print(&format!("{}\n", snippet.text.trim_end()))
        }
    }
}

/// `logs --access`.
pub async fn access(client: &Client, console: Console, args: &LogsArgs) -> Result<(), CliError> {
    let path = format!("/v1/tenants/{}/access?lines={}", args.tenant, args.lines);
    let document: Value = client.get(&path).await?;
    if args.output.json {
        return console.print(&output::json(&document));
    }
    let lines: Vec<AccessLine> = output::understood(document)?;
    let zone = TimeZone::system();
    let text: String = lines
        .iter()
        .map(|line| access_line(line, &zone, console.out))
        .collect();
    console.print(&text)
}

fn access_line(line: &AccessLine, zone: &TimeZone, paint: Paint) -> String {
    let at = line.at.to_zoned(zone.clone());
    let at = paint.dim(&at.strftime("%Y-%m-%d %H:%M:%S").to_string());
    let status = match line.status {
        0 => paint.bad("-"),
        status @ 500.. => paint.bad(&status.to_string()),
        status @ 400.. => paint.warn(&status.to_string()),
        status => status.to_string(),
    };
    let AccessLine {
        client,
        method,
        host,
        path,
        bytes,
        ..
    } = line;
    let milliseconds = line.seconds * 1000.0;
    // A path is a visitor's words, and a terminal obeys some.
    let path: String = path.chars().filter(|c| !c.is_control()).collect();
    format!("{at} {client} {status} {method} {host}{path} {bytes} B {milliseconds:.0} ms\n")
}

fn shown(report: &FrontReport, now: Timestamp, paint: Paint) -> String {
    let mut head = Table::new(&[], paint);
    let mode = match (report.mode.as_str(), report.serves) {
        ("none", _) => "none: tenants are reached by their sockets and loopback ports".to_owned(),
        (mode, true) => mode.to_owned(),
        (mode, false) => format!("{mode}, does not serve"),
    };
    head.row(vec![cell("Front"), cell(mode)]);
    head.row(vec![cell("Domain"), maybe(report.domain.as_ref())]);
    if let Some(wildcard) = &report.wildcard {
        let left = wildcard.certificate.as_ref();
        let left = left.map_or_else(String::new, |certificate| {
            let left = days(now, certificate.not_after);
            format!(", good for {left}, by {}", certificate.issuer)
        });
        let state = wildcard.state.as_str();
        let certificate = format!("{}: {state}{left}", wildcard.name);
        head.row(vec![cell("Certificate"), cell(certificate)]);
    }
    let mut text = head.render();
    if !report.hosts.is_empty() {
        let mut table = Table::new(
            &["HOST", "TENANT", "CERTIFICATE", "GOOD FOR", "ISSUER"],
            paint,
        );
        for host in &report.hosts {
            let certificate = host.certificate.as_ref();
            table.row(vec![
                cell(&host.host),
                cell(&host.tenant),
                state(host.state),
                maybe(certificate.map(|certificate| days(now, certificate.not_after))),
                maybe(certificate.map(|certificate| &certificate.issuer)),
            ]);
        }
        let _ = write!(text, "\n{}", table.render());
    }
    let wildcard = report.wildcard.iter();
    let wildcard = wildcard.map(|wildcard| (&wildcard.name, wildcard.trouble.as_ref()));
    let hosts = report.hosts.iter();
    let hosts = hosts.map(|host| (&host.host, host.trouble.as_ref()));
    let refused = wildcard
        .chain(hosts)
        .filter_map(|(name, trouble)| Some((name, trouble?)));
    let troubles: Vec<_> = refused
        .map(|(name, trouble)| format!("{name}: {}\n  remedy: {}", trouble.reason, trouble.remedy))
        .collect();
    let faults = report.faults.iter().cloned().chain(troubles);
    for (index, fault) in faults.enumerate() {
        if index == 0 {
            text.push('\n');
        }
        let _ = writeln!(text, "{}: {fault}", paint.warn("warning"));
    }
    text
}

fn state(state: Option<CertificateState>) -> Cell {
    let Some(state) = state else { return cell("-") };
    let cell = cell(state.as_str());
    match state {
        CertificateState::Valid => cell.fg(Color::Green),
        CertificateState::Pending => cell,
        CertificateState::Late => cell.fg(Color::Yellow),
        CertificateState::Expired | CertificateState::Refused => cell.fg(Color::Red),
    }
}

fn days(now: Timestamp, until: Timestamp) -> String {
    match until.duration_since(now).as_hours() {
        ..0 => "over".to_owned(),
        hours @ 0..48 => format!("{hours} h"),
        hours => format!("{} days", hours / 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;
    use crate::front::{Certificate, HostReport, Trouble, WildcardReport};

    fn host(host: &str, state: CertificateState, left: Option<i64>) -> HostReport {
        let now = samples::now();
        HostReport {
            host: host.to_owned(),
            tenant: "acme".to_owned(),
            state: Some(state),
            certificate: left.map(|hours| Certificate {
                issuer: "Let's Encrypt E7".to_owned(),
                not_before: now - jiff::SignedDuration::from_hours(24),
                not_after: now + jiff::SignedDuration::from_hours(hours),
            }),
            trouble: None,
        }
    }

    #[test]
    fn a_front_shows_its_hosts_and_what_to_do() {
        let mut refused = host("www.acme.com", CertificateState::Refused, None);
        refused.trouble = Some(Trouble {
            at: samples::now(),
            reason: "no DNS record".to_owned(),
            remedy: "make one".to_owned(),
        });
        let report = FrontReport {
            mode: "caddy".to_owned(),
            domain: Some("example.org".to_owned()),
            serves: true,
            faults: vec![
                "tenant bolt cannot have the host www.acme.com: tenant acme has it".to_owned(),
            ],
            wildcard: Some(WildcardReport {
                name: "*.example.org".to_owned(),
                state: CertificateState::Late,
                certificate: host("", CertificateState::Late, Some(24 * 9)).certificate,
                trouble: Some(Trouble {
                    at: samples::now(),
                    reason: "the zone is locked".to_owned(),
                    remedy: "unlock it".to_owned(),
                }),
            }),
            hosts: vec![
                host("acme.example.org", CertificateState::Valid, Some(24 * 60)),
                refused,
            ],
        };
        insta::assert_snapshot!(shown(&report, samples::now(), Paint(false)));
    }

    #[test]
    fn a_line_of_the_access_log_fits_a_terminal() {
        let line = AccessLine {
            at: "2026-05-04T11:57:00.5Z".parse().unwrap(),
            client: "192.0.2.7".to_owned(),
            host: "acme.example.org".to_owned(),
            method: "GET".to_owned(),
            path: "/\u{1b}[31mx".to_owned(),
            protocol: "HTTP/2.0".to_owned(),
            status: 200,
            bytes: 512,
            seconds: 0.0123,
        };
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(
            access_line(&line, &zone, Paint(false)),
            "2026-05-04 13:57:00 192.0.2.7 200 GET acme.example.org/[31mx 512 B 12 ms\n"
        );
    }
}
