//! What an S3 server says when it refuses: read from status and body, and judged. Pure.

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

    /// What to make of it. The codes are those of
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>.
    pub(super) fn kind(&self) -> StoreErrorKind {
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
            (404, _) => StoreErrorKind::NotFound,
            // B2 refuses so when the account's cap is reached.
            (403, _) if self.message.contains("cap exceeded") => StoreErrorKind::Full,
            (_, "QuotaExceeded" | "cap_exceeded") | (507, _) => StoreErrorKind::Full,
            (401 | 403, _) => StoreErrorKind::Denied,
            (408 | 425 | 429 | 500 | 502 | 503 | 504, _) => {
                StoreErrorKind::Unavailable { retry_after: None }
            }
            _ => StoreErrorKind::Failed,
        }
    }
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
    #[case(400, "InvalidArgument", StoreErrorKind::Failed)]
    fn a_refusal_says_what_to_do(
        #[case] status: u16,
        #[case] code: &str,
        #[case] kind: StoreErrorKind,
    ) {
        assert_eq!(refusal(status, code, "why").kind(), kind);
    }

    #[test]
    fn an_account_over_its_cap_is_full_although_the_key_is_denied() {
        let words = "Cannot upload files, storage cap exceeded. See the Caps & Alerts page";
        assert_eq!(
            refusal(403, "AccessDenied", words).kind(),
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
