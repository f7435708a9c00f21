//! `logs`: a tenant's log, line by line as it comes.

use jiff::tz::TimeZone;

use super::args::LogsArgs;
use super::client::Client;
use super::console::{Console, Paint};
use super::error::CliError;
use super::lines;
use crate::api::LogLine;

/// Runs the command; with `--follow` until it is interrupted or the daemon ends.
pub async fn run(client: &Client, console: Console, args: LogsArgs) -> Result<(), CliError> {
    let path = format!(
        "/v1/tenants/{}/logs?lines={}&follow={}",
        args.tenant, args.lines, args.follow
    );
    let zone = TimeZone::system();
    lines::print(client, console, &path, args.output.json, |line| {
        shown(line, &zone, console.out)
    })
    .await
}

/// The time in the operator's zone, then the message.
fn shown(line: &LogLine, zone: &TimeZone, paint: Paint) -> String {
    let at = line.at.to_zoned(zone.clone());
    let at = paint.dim(&at.strftime("%Y-%m-%d %H:%M:%S").to_string());
    let message = match line.priority {
        // Error and worse; warning (syslog(3)).
        Some(0..=3) => paint.bad(&line.message),
        Some(4) => paint.warn(&line.message),
        _ => line.message.clone(),
    };
    format!("{at} {message}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_local_time_and_message() {
        let line = LogLine {
            at: "2026-05-04T11:57:00.5Z".parse().unwrap(),
            message: "the gateway listens".to_owned(),
            priority: Some(6),
        };
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        insta::assert_snapshot!(
            shown(&line, &zone, Paint(false)),
            @"2026-05-04 13:57:00 the gateway listens"
        );
    }
}
