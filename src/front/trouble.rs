//! Why hosts get no certificate, from what Caddy writes to its log, and what to do about it.
//! Lenient: the words of Caddy's log are no interface, and what is not understood is left out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Longest reason that is passed on: it holds what others wrote.
const MOST: usize = 400;

/// Why a host has no certificate, or no new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Trouble {
    /// When it was tried last.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What the certificate authority said.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

/// What a line of Caddy's log has, as far as it matters.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    msg: String,
    #[serde(default)]
    identifier: String,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    problem: Option<Value>,
}

/// The last trouble of each host, from lines of Caddy's log, oldest first. One that got its certificate has none.
pub fn troubles<'a>(
    lines: impl IntoIterator<Item = (Timestamp, &'a str)>,
) -> BTreeMap<String, Trouble> {
    let mut troubles = BTreeMap::<String, (bool, Trouble)>::new();
    for (at, text) in lines {
        let Ok(line) = serde_json::from_str::<Line>(text) else {
            continue;
        };
        // What the authority itself says of a challenge tells more than the sum that is drawn of it.
        let is_first_hand = match line.msg.as_str() {
            "challenge failed" => true,
            "could not get certificate from issuer" => false,
            "certificate obtained successfully" | "certificate renewed successfully" => {
                troubles.remove(&line.identifier);
                continue;
            }
            _ => continue,
        };
        let detail = line
            .problem
            .as_ref()
            .and_then(|problem| problem.get("detail"));
        let said = line.error.as_deref().or(detail.and_then(Value::as_str));
        let Some(said) = said.filter(|_| !line.identifier.is_empty()) else {
            continue;
        };
        let present = troubles.get(&line.identifier);
        if present.is_some_and(|(first_hand, _)| *first_hand && !is_first_hand) {
            continue;
        }
        let kind = line
            .problem
            .as_ref()
            .and_then(|problem| problem.get("type"));
        let kind = kind.and_then(Value::as_str).unwrap_or_default();
        let reason: String = said
            .chars()
            .filter(|c| !c.is_control())
            .take(MOST)
            .collect();
        let remedy = remedy(&format!("{kind} {said}"), &line.identifier);
        troubles.insert(
            line.identifier,
            (is_first_hand, Trouble { at, reason, remedy }),
        );
    }
    troubles
        .into_iter()
        .map(|(host, (_, trouble))| (host, trouble))
        .collect()
}

/// What to do about a refusal (the kinds of RFC 8555, section 6.7, or the words around them).
fn remedy(said: &str, host: &str) -> String {
    let said = said.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if says(&["ratelimited", "rate limit", "too many"]) {
        "the authority has had enough for now; wait, it is tried again".to_owned()
    } else if says(&["error:caa", "caa record"]) {
        format!("allow the certificate authority in the CAA record of {host}")
    } else if says(&[
        "error:dns",
        "nxdomain",
        "no valid a records",
        "resolving",
        "no such host",
    ]) {
        format!("make DNS records for {host} that lead to this host")
    } else if says(&[
        "error:connection",
        "failed to connect",
        "refused",
        "timeout",
        "unreachable",
        "no route",
    ]) {
        format!(
            "let the internet reach TCP ports 80 and 443 of this host, and see that {host} leads here"
        )
    } else if says(&["unauthorized", "invalid response", "incorrect validation"]) {
        format!("another server answers for {host}: let its DNS records lead to this host only")
    } else {
        "see `journalctl -u tenantd-front`".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_305_000 + second).unwrap()
    }

    /// As Caddy 2.6 and 2.10 write them.
    const REFUSED: &str = r#"{"level":"error","ts":1795305395.3,"logger":"http.acme_client","msg":"challenge failed","identifier":"bad.example.org","challenge_type":"tls-alpn-01","status_code":403,"problem_type":"urn:ietf:params:acme:error:unauthorized","error":"Failed to connect to 127.0.0.9:443 for the tls-alpn-01 challenge"}"#;
    const NO_NAME: &str = r#"{"level":"error","msg":"challenge failed","identifier":"new.example.org","problem":{"type":"urn:ietf:params:acme:error:dns","title":"","detail":"DNS problem: NXDOMAIN looking up A for new.example.org","status":400}}"#;
    const SUM: &str = r#"{"level":"error","msg":"could not get certificate from issuer","identifier":"bad.example.org","error":"no solvers available for remaining challenges"}"#;
    const OBTAINED: &str = r#"{"level":"info","msg":"certificate obtained successfully","identifier":"bad.example.org"}"#;

    #[test]
    fn the_last_trouble_of_each_host_is_told_first_hand() {
        let found = troubles([
            (at(1), REFUSED),
            (at(2), SUM),
            (at(3), "no JSON"),
            (at(4), NO_NAME),
        ]);
        assert_eq!(found.len(), 2);
        let bad = &found["bad.example.org"];
        assert_eq!(
            (bad.at, &*bad.reason),
            (
                at(1),
                "Failed to connect to 127.0.0.9:443 for the tls-alpn-01 challenge"
            )
        );
        assert!(bad.remedy.contains("ports 80 and 443"));
        assert!(
            found["new.example.org"]
                .remedy
                .starts_with("make DNS records for new.example.org")
        );
    }

    #[test]
    fn a_host_that_got_its_certificate_has_no_trouble() {
        assert_eq!(troubles([(at(1), REFUSED), (at(2), OBTAINED)]).len(), 0);
        assert_eq!(troubles([(at(1), OBTAINED), (at(2), SUM)]).len(), 1);
    }

    #[rstest]
    #[case(
        "HTTP 429 urn:ietf:params:acme:error:rateLimited - too many certificates",
        "wait"
    )]
    #[case(
        "urn:ietf:params:acme:error:caa CAA record for a.b prevents issuance",
        "CAA"
    )]
    #[case("Invalid response from http://a.b/.well-known: 404", "another server")]
    #[case("something new", "journalctl")]
    fn a_refusal_has_a_remedy(#[case] said: &str, #[case] told: &str) {
        assert!(remedy(said, "a.b").contains(told));
    }
}
