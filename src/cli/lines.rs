//! Answers that come line by line, one JSON document each, and are printed as they come: logs and decisions.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use super::client::{Client, ClientError};
use super::console::Console;
use super::error::CliError;

/// Prints what `path` answers until it ends: each line as it is with `json`, else as `shown` has it.
pub async fn print<T: DeserializeOwned>(
    client: &Client,
    console: Console,
    path: &str,
    json: bool,
    shown: impl Fn(&T) -> String,
) -> Result<(), CliError> {
    let mut body = client.stream(path).await?.into_body();
    let mut pending = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(ClientError::Broken)?.into_data() else {
            continue;
        };
        pending.extend_from_slice(&data);
        // All lines of one piece in one write: a log can be long.
        let mut text = String::new();
        while let Some(line) = next_line(&mut pending) {
            if json {
                text.push_str(&String::from_utf8_lossy(&line));
                text.push('\n');
            } else {
                let line = serde_json::from_slice(&line).map_err(ClientError::Answer)?;
                text.push_str(&shown(&line));
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
}
