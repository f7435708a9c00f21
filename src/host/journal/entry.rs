//! One journal entry, read from a line of `journalctl -o json`.
//! Lenient: fields may be missing, repeated or not text (systemd.journal-fields(7)).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// One journal entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is in the journal: reading can go on after it.
    pub cursor: String,
    /// When the journal received it.
    pub at: Timestamp,
    /// The text; bytes that are not UTF-8 are replaced.
    pub message: String,
    /// Severity from 0 (emergency) to 7 (debug), as syslog(3) has it.
    pub priority: Option<u8>,
    /// The unit that wrote it, or that it is about.
    pub unit: Option<String>,
    /// The service manager wrote it about the unit, not the unit itself.
    pub by_manager: bool,
    /// The user, as the host numbers it, of the process that wrote it.
    pub uid: Option<u32>,
    /// What [`OWN_FIELDS`] it has.
    pub fields: BTreeMap<&'static str, String>,
}

/// Fields that tenantd's own processes give their entries, beside the text.
pub const OWN_FIELDS: [&str; 6] = [
    "DECISION",
    "BY",
    "DESTINATION",
    "ADDRESS",
    "CODE",
    "REPORTED",
];

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "__CURSOR")]
    cursor: String,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    realtime: String,
    #[serde(rename = "MESSAGE", default)]
    message: Value,
    #[serde(rename = "PRIORITY", default)]
    priority: Value,
    #[serde(rename = "UNIT", default)]
    about: Value,
    #[serde(rename = "_SYSTEMD_UNIT", default)]
    unit: Value,
    #[serde(rename = "_UID", default)]
    uid: Value,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// The fields asked of journalctl, beside [`OWN_FIELDS`]; it always adds cursor and timestamps.
pub(super) const FIELDS: &str = "MESSAGE,PRIORITY,UNIT,_SYSTEMD_UNIT,_UID";

impl Entry {
    /// Reads one line; `None` if it is no journal entry.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let line: Line = serde_json::from_slice(line).ok()?;
        let micros = line.realtime.parse().ok()?;
        Some(Self {
            cursor: line.cursor,
            at: Timestamp::from_microsecond(micros).ok()?,
            message: text(&line.message).unwrap_or_default(),
            priority: text(&line.priority).and_then(|p| p.parse().ok()),
            by_manager: text(&line.about).is_some(),
            uid: text(&line.uid).and_then(|uid| uid.parse().ok()),
            unit: text(&line.about).or_else(|| text(&line.unit)),
            fields: OWN_FIELDS
                .into_iter()
                .filter_map(|name| Some((name, text(line.others.get(name)?)?)))
                .collect(),
        })
    }
}

/// A field's text: a string, an array of bytes when it is not plain text, or an array of
/// those when the field is repeated; null when it is too large.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => {
            let bytes: Option<Vec<u8>> = items
                .iter()
                .map(|item| item.as_u64().and_then(|byte| u8::try_from(byte).ok()))
                .collect();
            match bytes {
                Some(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
                None => items.first().and_then(text),
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(r#""MESSAGE":"hello""#, "hello")]
    #[case(r#""MESSAGE":[104,105,255]"#, "hi\u{fffd}")]
    #[case(r#""MESSAGE":["one","two"]"#, "one")]
    #[case(r#""MESSAGE":null"#, "")]
    #[case(r#""PRIORITY":"3""#, "")]
    fn reads_every_shape_of_a_message(#[case] field: &str, #[case] expected: &str) {
        let line = format!(
            r#"{{"__CURSOR":"s=1","__REALTIME_TIMESTAMP":"1700000000000001","_SYSTEMD_UNIT":"a.service","_UID":"1000",{field}}}"#
        );
        let entry = Entry::parse(line.as_bytes()).unwrap();
        assert_eq!(entry.message, expected);
        assert_eq!(entry.unit.as_deref(), Some("a.service"));
        assert_eq!(entry.uid, Some(1000));
        assert_eq!(entry.at.to_string(), "2023-11-14T22:13:20.000001Z");
    }

    #[test]
    fn a_message_of_systemd_belongs_to_the_unit_it_is_about() {
        let entry = Entry::parse(
            br#"{"__CURSOR":"s","__REALTIME_TIMESTAMP":"1","MESSAGE":"Started","UNIT":"a.service","_SYSTEMD_UNIT":"init.scope","PRIORITY":"6"}"#,
        )
        .unwrap();
        assert_eq!(entry.unit.as_deref(), Some("a.service"));
        assert_eq!(entry.priority, Some(6));
        assert!(entry.by_manager);
        assert_eq!(entry.uid, None);
    }

    #[rstest]
    #[case("")]
    #[case("-- No entries --")]
    #[case(r#"{"MESSAGE":"no cursor"}"#)]
    fn skips_what_is_no_entry(#[case] line: &str) {
        assert_eq!(Entry::parse(line.as_bytes()), None);
    }
}
