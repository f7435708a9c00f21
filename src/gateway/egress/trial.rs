//! What would happen to a connection, told without making it: the verdict on the name, and on each of its addresses.
//! It looks names up as a door does, and dials nothing.

use std::net::IpAddr;

use hyper::Uri;

use super::door::{Goal, judged};
use super::judge::{Allowed, Judge, Refusal};
use super::outside::{Outside, lookup};
use super::web;

/// What would happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The entry of the list that names it, if one does.
    pub listed: Option<String>,
    /// Why it would be refused, if it would.
    pub refusal: Option<Refusal>,
    /// What the name is, address by address.
    pub addresses: Vec<(IpAddr, Option<Refusal>)>,
    /// Why the name could not be looked up, if it could not.
    pub lookup_error: Option<String>,
}

/// Where a URL, or `HOST:PORT`, or a bare host (then port 443) leads.
pub fn goal_of(text: &str) -> Option<Goal> {
    let uri: Uri = text.parse().ok()?;
    let port = match uri.scheme_str() {
        Some("http" | "ws") => 80,
        Some("https" | "wss") | None => 443,
        Some(_) => return None,
    };
    web::goal(uri.authority()?, Some(port))
}

/// Tells what would happen to a connection to `goal`.
pub async fn verdict(judge: &Judge, outside: &dyn Outside, goal: &Goal) -> Verdict {
    let mut verdict = Verdict {
        listed: None,
        refusal: None,
        addresses: Vec::new(),
        lookup_error: None,
    };
    match judged(judge, goal) {
        Ok(Allowed::Listed(entry)) => verdict.listed = Some(entry.to_string()),
        Ok(Allowed::Mode) => {}
        Err(refusal) => {
            // What is refused by name is not looked up either.
            verdict.refusal = Some(refusal);
            return verdict;
        }
    }
    let addresses = match goal {
        Goal::Address(address, _) => Ok(vec![*address]),
        Goal::Name(name, _) => lookup(outside, name).await,
    };
    match addresses {
        Ok(addresses) => {
            verdict.refusal = judge.resolved(&addresses, goal.port()).err();
            let one = |address: IpAddr| (address, judge.address(address, goal.port()).err());
            verdict.addresses = addresses.into_iter().map(one).collect();
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            verdict.lookup_error = Some(cause.unwrap_or_else(|| error.to_string()));
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("https://api.example.org/v1?x", Some("api.example.org:443"))]
    #[case("http://api.example.org", Some("api.example.org:80"))]
    #[case("wss://gateway.example.org/", Some("gateway.example.org:443"))]
    #[case("api.example.org", Some("api.example.org:443"))]
    #[case("git.example.org:22", Some("git.example.org:22"))]
    #[case("http://169.254.169.254/", Some("169.254.169.254:80"))]
    #[case("http://[::1]:8080/", Some("[::1]:8080"))]
    #[case("http://2852039166/", None)]
    #[case("ftp://example.org/", None)]
    #[case("/just/a/path", None)]
    #[case("", None)]
    fn goals(#[case] text: &str, #[case] expected: Option<&str>) {
        let goal = goal_of(text).map(|goal| goal.to_string());
        assert_eq!(goal.as_deref(), expected);
    }
}
