//! What an S3 server says when it refuses: read from status, headers and body, and judged. Pure.

use std::time::{Duration, SystemTime};

use super::StoreErrorKind;

/// Longest message of a server that is passed on.
const MAX_MESSAGE: usize = 300;

/// A refusal, as the server worded it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the store answered {status}{}{}",
    spaced(" ", code),
    spaced(": ", message)
)]
pub(super) struct Refusal {
    status: u16,
    /// S3's error code; empty where the answer has none, as every answer to a HEAD.
    code: String,
    message: String,
}

fn spaced(before: &str, text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("{before}{text}")
    }
}

impl Refusal {
    /// Reads an answer's body, which is S3's XML, or anything when a proxy answered.
    pub(super) fn read(status: u16, body: &str) -> Self {
        Self {
            status,
            code: element(body, "Code"),
            message: element(body, "Message"),
        }
    }

    /// What to make of it, and of the wait that it asks for. The codes are those of
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>.
    pub(super) fn kind(&self, retry_after: Option<Duration>) -> StoreErrorKind {
        match (self.status, self.code.as_str()) {
            (_, "NoSuchBucket") => StoreErrorKind::NoBucket,
            // The last is versitygw's word for an unknown key.
            (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "XAdminUserNotFound") => {
                StoreErrorKind::WrongKey
            }
            (_, "RequestTimeTooSkewed") => StoreErrorKind::WrongTime,
            (_, "AuthorizationHeaderMalformed" | "PermanentRedirect") => {
                StoreErrorKind::WrongRegion
            }
            (405 | 501, _) | (_, "NotImplemented" | "MethodNotAllowed") => {
                StoreErrorKind::Unsupported
            }
            (412, _) => StoreErrorKind::Exists,
            (416, _) => StoreErrorKind::BeyondEnd,
            (404, _) => StoreErrorKind::NotFound,
            // B2 refuses so when the account's cap is reached.
            (403, _) if self.message.contains("cap exceeded") => StoreErrorKind::Full,
            (_, "QuotaExceeded" | "cap_exceeded") | (507, _) => StoreErrorKind::Full,
            (401 | 403, _) => StoreErrorKind::Denied,
            // AWS answers a body that came too slowly with 400.
            (408 | 425 | 429 | 500 | 502 | 503 | 504, _) | (400, "RequestTimeout") => {
                StoreErrorKind::Unavailable { retry_after }
            }
            _ => StoreErrorKind::Failed,
        }
    }
}

/// How long a Retry-After header asks to wait: seconds, or a moment by the server's clock (RFC 9110,
/// 10.2.3), which its Date header tells, so that this host's clock does not matter.
pub(super) fn retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at: SystemTime = httpdate::parse_http_date(value).ok()?;
    let now = httpdate::parse_http_date(date?).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

/// The text of the first element of this name, on one line; empty where there is none.
fn element(body: &str, name: &str) -> String {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let text = body
        .split_once(&open)
        .and_then(|(_, rest)| rest.split_once(&close))
        .map_or("", |(text, _)| text);
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let text: String = plain.take(MAX_MESSAGE).collect();
    // It becomes part of a sentence.
    text.trim().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn refusal(status: u16, code: &str, message: &str) -> Refusal {
        let body = format!(
            "<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
             <Resource>/bucket/key</Resource></Error>"
        );
        Refusal::read(status, &body)
    }

    #[rstest]
    #[case(404, "NoSuchKey", StoreErrorKind::NotFound)]
    #[case(404, "", StoreErrorKind::NotFound)]
    #[case(404, "NoSuchBucket", StoreErrorKind::NoBucket)]
    #[case(403, "SignatureDoesNotMatch", StoreErrorKind::WrongKey)]
    #[case(403, "InvalidAccessKeyId", StoreErrorKind::WrongKey)]
    #[case(403, "AccessDenied", StoreErrorKind::Denied)]
    #[case(403, "RequestTimeTooSkewed", StoreErrorKind::WrongTime)]
    #[case(400, "AuthorizationHeaderMalformed", StoreErrorKind::WrongRegion)]
    #[case(503, "SlowDown", StoreErrorKind::Unavailable { retry_after: None })]
    #[case(500, "InternalError", StoreErrorKind::Unavailable { retry_after: None })]
    #[case(507, "", StoreErrorKind::Full)]
    #[case(400, "RequestTimeout", StoreErrorKind::Unavailable { retry_after: None })]
    #[case(501, "NotImplemented", StoreErrorKind::Unsupported)]
    #[case(412, "PreconditionFailed", StoreErrorKind::Exists)]
    #[case(400, "InvalidArgument", StoreErrorKind::Failed)]
    fn a_refusal_says_what_to_do(
        #[case] status: u16,
        #[case] code: &str,
        #[case] kind: StoreErrorKind,
    ) {
        assert_eq!(refusal(status, code, "why").kind(None), kind);
    }

    const DATE: &str = "Sat, 21 Nov 2026 10:00:00 GMT";

    #[rstest]
    #[case("7", None, Some(7))]
    #[case(" 0 ", None, Some(0))]
    #[case("Sat, 21 Nov 2026 10:01:30 GMT", Some(DATE), Some(90))]
    #[case::past("Sat, 21 Nov 2026 09:00:00 GMT", Some(DATE), Some(0))]
    #[case::no_clock("Sat, 21 Nov 2026 10:01:30 GMT", None, None)]
    #[case("-1", None, None)]
    #[case("soon", Some(DATE), None)]
    fn a_wait_is_read_in_both_spellings(
        #[case] value: &str,
        #[case] date: Option<&str>,
        #[case] seconds: Option<u64>,
    ) {
        assert_eq!(retry_after(value, date), seconds.map(Duration::from_secs));
    }

    #[test]
    fn an_overloaded_store_passes_its_wait_on() {
        let wait = Some(Duration::from_secs(3));
        let kind = StoreErrorKind::Unavailable { retry_after: wait };
        assert_eq!(refusal(503, "SlowDown", "").kind(wait), kind);
    }

    #[test]
    fn an_account_over_its_cap_is_full_although_the_key_is_denied() {
        let words = "Cannot upload files, storage cap exceeded. See the Caps & Alerts page";
        assert_eq!(
            refusal(403, "AccessDenied", words).kind(None),
            StoreErrorKind::Full
        );
    }

    #[test]
    fn the_servers_words_are_passed_on_in_one_short_line() {
        let told = refusal(403, "AccessDenied", "no\nway.").to_string();
        assert_eq!(told, "the store answered 403 AccessDenied: no way");
        assert_eq!(
            Refusal::read(502, "<html>Bad Gateway</html>").to_string(),
            "the store answered 502"
        );
        let long = refusal(400, "X", &"x".repeat(10_000)).to_string();
        assert!(long.len() < 400, "{long}");
    }
}
