//! `logs`: a tenant's log, line by line as it comes.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use jiff::tz::TimeZone;

use super::args::LogsArgs;
use super::client::{Client, ClientError};
use super::console::{Console, Paint};
use super::error::CliError;
use crate::api::LogLine;

/// Runs the command; with `--follow` until it is interrupted or the daemon ends.
pub async fn run(client: &Client, console: Console, args: LogsArgs) -> Result<(), CliError> {
    let path = format!(
        "/v1/tenants/{}/logs?lines={}&follow={}",
        args.tenant, args.lines, args.follow
    );
    let mut body = client.stream(&path).await?.into_body();
    let zone = TimeZone::system();
    let mut pending = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(ClientError::Broken)?.into_data() else {
            continue;
        };
        pending.extend_from_slice(&data);
        // All lines of one piece in one write: a log can be long.
        let mut text = String::new();
        while let Some(line) = next_line(&mut pending) {
            if args.output.json {
                text.push_str(&String::from_utf8_lossy(&line));
                text.push('\n');
            } else {
                let line = serde_json::from_slice(&line).map_err(ClientError::Answer)?;
                text.push_str(&shown(&line, &zone, console.out));
            }
        }
        console.print(&text)?;
    }
    Ok(())
}

/// Takes the next whole line, without its end.
fn next_line(pending: &mut BytesMut) -> Option<Bytes> {
    let end = pending.iter().position(|byte| *byte == b'\n')?;
    let line = pending.split_to(end);
    pending.advance(1);
    Some(line.freeze())
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
    fn lines_are_taken_whole() {
        let mut pending = BytesMut::from("one\ntwo\nthr");
        assert_eq!(next_line(&mut pending).unwrap(), "one");
        assert_eq!(next_line(&mut pending).unwrap(), "two");
        assert_eq!(next_line(&mut pending), None);
        pending.extend_from_slice(b"ee\n");
        assert_eq!(next_line(&mut pending).unwrap(), "three");
        assert!(pending.is_empty());
    }

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
