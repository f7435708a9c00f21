//! Endpoints as a spec names them: base URLs on the tenant's own loopback that lead to a provider, with a key that
//! the agent never sees. What is asked of the provider, and what it costs, is the gateway's business.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tables::Over;
use super::text::text_value;
use super::{ModelPrice, Money, Problem, ResolvedSecret, SecretName, Upstream};

/// Port on the tenant's loopback where endpoints are.
pub const ENDPOINTS_PORT: u16 = 3130;

/// What an agent finds in a variable whose secret is an endpoint's key: clients want one, whatever it is.
pub const PLACEHOLDER: &str = "held-by-tenantd";

/// Most endpoints of one tenant.
const MAX_ENDPOINTS: usize = 16;

/// Most headers of one endpoint.
const MAX_HEADERS: usize = 16;

/// `[endpoints]`: by name, which is the first part of their paths.
pub type Endpoints = BTreeMap<String, Endpoint>;

/// `endpoints.NAME`: where `http://127.0.0.1:3130/NAME` leads. One that names no key is only an offer: it is there
/// once the spec names a key, or says `auth = "none"`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Endpoint {
    /// Base URL of the provider: `https://HOST[:PORT][/PATH]`. A host's address may be private, and then be spoken to
    /// without TLS (`http://`); a name leads to public addresses only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub upstream: Option<Upstream>,
    /// The secret that is the key. The agent gets neither its file nor its variable, but a placeholder in the latter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How the key is sent: `bearer` (`Authorization: Bearer …`, the default), the name of a header, or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub auth: Option<KeyStyle>,
    /// Headers for requests that lack them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Variable of the agent that gets the base URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// The price table; the one of the endpoint's own name when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prices: Option<String>,
}

impl Over for Endpoint {
    fn over(self, base: Self) -> Self {
        Self {
            upstream: self.upstream.or(base.upstream),
            key: self.key.or(base.key),
            auth: self.auth.or(base.auth),
            headers: self.headers.over(base.headers),
            env: self.env.or(base.env),
            prices: self.prices.or(base.prices),
        }
    }
}

impl Endpoint {
    /// Whether it is more than an offer.
    fn is_there(&self) -> bool {
        self.key.is_some() || self.auth == Some(KeyStyle::None)
    }
}

/// `[spending]`: what all endpoints of a tenant together may use in one period.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Spending {
    /// Tokens of requests and answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Money by the price tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub money: Option<Money>,
    /// For how long; both count from zero again in the next (default `month`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<SpendingPeriod>,
}

impl Over for Spending {
    fn over(self, base: Self) -> Self {
        Self {
            tokens: self.tokens.or(base.tokens),
            money: self.money.or(base.money),
            period: self.period.or(base.period),
        }
    }
}

/// A period of spending, by the calendar in UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SpendingPeriod {
    /// A day.
    Day,
    /// A month.
    #[default]
    Month,
}

impl fmt::Display for SpendingPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Day => "day",
            Self::Month => "month",
        })
    }
}

/// How a key is sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum KeyStyle {
    /// `Authorization: Bearer KEY`.
    #[default]
    Bearer,
    /// In the header of this name, as it is.
    Header(String),
    /// Not at all.
    None,
}

impl fmt::Display for KeyStyle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bearer => "bearer",
            Self::Header(name) => name,
            Self::None => "none",
        })
    }
}

/// A text that says no way to send a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no way to send a key: write `bearer`, `none`, or the name of a header such as `x-api-key`"
)]
pub struct KeyStyleError(String);

impl FromStr for KeyStyle {
    type Err = KeyStyleError;

    fn from_str(text: &str) -> Result<Self, KeyStyleError> {
        match text {
            "bearer" => Ok(Self::Bearer),
            "none" => Ok(Self::None),
            name if is_header(name) => Ok(Self::Header(name.to_owned())),
            other => Err(KeyStyleError(other.to_owned())),
        }
    }
}

text_value!(
    KeyStyle,
    "`bearer`, `none` or the name of a header",
    "^[a-z0-9-]+$",
    "How the key is sent: bearer, none, or the name of a header."
);

/// Headers that say how a message is carried; they are the gateway's own.
const CARRYING: [&str; 6] = [
    "accept-encoding",
    "connection",
    "content-length",
    "host",
    "transfer-encoding",
    "upgrade",
];

fn is_header(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(is_plain) && !CARRYING.contains(&name)
}

/// An endpoint with everything filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ResolvedEndpoint {
    /// Where it leads.
    pub upstream: Upstream,
    /// The secret that is the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretName>,
    /// How the key is sent.
    pub auth: KeyStyle,
    /// Headers for requests that lack them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Variable of the agent that has the base URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// What its tokens cost; empty where nobody says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prices: Vec<ModelPrice>,
}

/// Everything that the door of a tenant's endpoints needs to know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EndpointSettings {
    /// By name.
    pub endpoints: BTreeMap<String, ResolvedEndpoint>,
    /// What all of them together may use.
    #[serde(default)]
    pub spending: Spending,
}

impl EndpointSettings {
    /// Whether there is none, and nothing to be said of any.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether this secret is some endpoint's key, and so none of the agent's business.
    pub fn has_key(&self, name: &SecretName) -> bool {
        self.endpoints
            .values()
            .any(|endpoint| endpoint.key.as_ref() == Some(name))
    }

    /// Variables of the agent: the base URLs, and placeholders for the keys.
    pub fn variables(
        &self,
        secrets: &BTreeMap<SecretName, ResolvedSecret>,
    ) -> BTreeMap<String, String> {
        let urls = self
            .endpoints
            .iter()
            .filter_map(|(name, endpoint)| Some((endpoint.env.clone()?, base_url(name))));
        let keys = self.endpoints.values().filter_map(|endpoint| {
            let secret = secrets.get(endpoint.key.as_ref()?)?;
            Some((secret.env.clone()?, PLACEHOLDER.to_owned()))
        });
        urls.chain(keys).collect()
    }
}

/// The base URL of an endpoint, as the agent sees it.
pub fn base_url(name: &str) -> String {
    format!("http://127.0.0.1:{ENDPOINTS_PORT}/{name}")
}

/// Fills in what `[endpoints]` and `[spending]` leave open; `prices` has the models of a table.
///
/// # Errors
/// What only shows with the secrets and price tables at hand.
pub(super) fn resolve(
    endpoints: &Endpoints,
    spending: Spending,
    secrets: &BTreeMap<String, super::Secret>,
    prices: impl Fn(&str) -> Option<Vec<ModelPrice>>,
) -> Result<EndpointSettings, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut settings = EndpointSettings {
        spending,
        ..EndpointSettings::default()
    };
    for (name, endpoint) in endpoints.iter().filter(|(_, endpoint)| endpoint.is_there()) {
        let mut refuse = |key: &str, message: String, help: &str| {
            problems.push(Problem::at(["endpoints", name, key], message).help(help));
        };
        let Some(upstream) = endpoint.upstream.clone() else {
            refuse(
                "upstream",
                "an endpoint needs the base URL of its provider".to_owned(),
                "such as `upstream = \"https://api.example.org\"`",
            );
            continue;
        };
        if let Some(key) = &endpoint.key
            && !secrets.contains_key(key)
        {
            refuse(
                "key",
                format!("there is no secret `{key}`"),
                &format!("add `[secrets.{key}]`, and give it a value with `tenantd secret set`"),
            );
        }
        let table = endpoint.prices.as_deref().unwrap_or(name);
        let found = prices(table);
        let is_missing =
            found.is_none() && (endpoint.prices.is_some() || settings.spending.money.is_some());
        if is_missing {
            refuse(
                "prices",
                format!("there is no price table `{table}`"),
                "write one into /etc/tenantd/prices.d/NAME.toml, or leave out the limit in money",
            );
        }
        let resolved = ResolvedEndpoint {
            upstream,
            key: endpoint.key.as_deref().and_then(|key| key.parse().ok()),
            auth: endpoint.auth.clone().unwrap_or_default(),
            headers: endpoint.headers.clone(),
            env: endpoint.env.clone(),
            prices: found.unwrap_or_default(),
        };
        settings.endpoints.insert(name.clone(), resolved);
    }
    if problems.is_empty() {
        Ok(settings)
    } else {
        Err(problems)
    }
}

/// The rules that endpoints must keep, beyond their types; `is_taken` tells variables that somebody else sets.
pub(super) fn check(endpoints: &Endpoints, is_taken: impl Fn(&str) -> bool) -> Vec<Problem> {
    let mut findings = Vec::new();
    if endpoints.len() > MAX_ENDPOINTS {
        let message = format!(
            "{} endpoints; a tenant can have {MAX_ENDPOINTS}",
            endpoints.len()
        );
        findings.push(Problem::at(["endpoints"], message));
    }
    let mut variables = BTreeSet::new();
    for (name, endpoint) in endpoints {
        let mut refuse = |key: Option<&str>, message: String| {
            findings.push(Problem::at(
                ["endpoints", name].into_iter().chain(key),
                message,
            ));
        };
        if !super::check::is_name(name) {
            refuse(
                None,
                format!(
                    "{name:?} is not a name: lower-case letters, digits and dashes, starting with a letter"
                ),
            );
        }
        if let Some(variable) = &endpoint.env {
            if variable.parse::<SecretName>().is_err() {
                refuse(
                    Some("env"),
                    format!("{variable:?} is not the name of a variable"),
                );
            }
            if endpoint.is_there() && is_taken(variable) {
                refuse(
                    Some("env"),
                    format!("`{variable}` is set already: by [env], systemd, Podman or tenantd"),
                );
            }
            if endpoint.is_there() && !variables.insert(variable) {
                refuse(
                    Some("env"),
                    format!("two endpoints have the variable {variable}"),
                );
            }
        }
        if endpoint.key.is_some() && endpoint.auth == Some(KeyStyle::None) {
            refuse(
                Some("auth"),
                "a key is sent somehow; leave out `key` or `auth = \"none\"`".to_owned(),
            );
        }
        if endpoint.headers.len() > MAX_HEADERS {
            refuse(Some("headers"), format!("more than {MAX_HEADERS} headers"));
        }
        for (header, value) in &endpoint.headers {
            let is_value = value.len() <= 1024 && value.bytes().all(|b| (b' '..=b'~').contains(&b));
            if !is_header(header) || !is_value {
                refuse(
                    Some("headers"),
                    format!(
                        "{header:?} is no header that can be added: lower-case letters, digits and dashes, with a plain value"
                    ),
                );
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::tenant::Secrets;

    fn checked(text: &str) -> String {
        let endpoints: Endpoints = toml::from_str(text).unwrap();
        let found = check(&endpoints, |name| name == "HOME");
        found
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[rstest]
    #[case(
        "acme = { upstream = 'https://a.example', key = 'K', env = 'A_URL', auth = 'x-api-key' }",
        ""
    )]
    #[case("'A b' = {}", "is not a name")]
    #[case("acme = { key = 'K', env = 'HOME' }", "set already")]
    #[case::an_offer_may_wait_for_its_variable("acme = { env = 'HOME' }", "")]
    #[case(
        "a = { key = 'K', env = 'X' }\nb = { key = 'K', env = 'X' }",
        "two endpoints have the variable"
    )]
    #[case::or_leave_it_to_another("a = { env = 'X' }\nb = { key = 'K', env = 'X' }", "")]
    #[case("acme = { key = 'K', auth = 'none' }", "leave out")]
    #[case("acme = { headers = { host = 'x' } }", "no header that can be added")]
    #[case(
        "acme = { headers = { x-a = \"b\\r\\nc\" } }",
        "no header that can be added"
    )]
    fn rules(#[case] text: &str, #[case] message: &str) {
        let found = checked(text);
        assert!(
            found.contains(message) && found.is_empty() == message.is_empty(),
            "{found}"
        );
    }

    fn resolved(text: &str, spending: Spending) -> Result<EndpointSettings, Vec<Problem>> {
        let endpoints: Endpoints = toml::from_str(text).unwrap();
        let secrets: Secrets = toml::from_str("K = { env = 'K_VARIABLE' }").unwrap();
        resolve(&endpoints, spending, &secrets, |_| None)
    }

    #[test]
    fn an_offer_without_a_key_is_not_there() {
        let settings = resolved(
            "a = { upstream = 'https://a.example' }",
            Spending::default(),
        );
        assert!(settings.unwrap().endpoints.is_empty());
        let settings = resolved(
            "a = { upstream = 'http://10.0.0.1', auth = 'none' }",
            Spending::default(),
        );
        assert_eq!(settings.unwrap().endpoints.len(), 1);
    }

    #[test]
    fn a_limit_in_money_needs_prices() {
        let spending = Spending {
            money: Some("1".parse().unwrap()),
            ..Spending::default()
        };
        let problems = resolved(
            "a = { upstream = 'https://a.example', key = 'K' }",
            spending,
        )
        .unwrap_err();
        assert!(problems[0].to_string().contains("no price table `a`"));
    }

    #[test]
    fn a_key_must_be_a_secret_that_there_is() {
        let problems = resolved(
            "a = { upstream = 'https://a.example', key = 'OTHER' }",
            Spending::default(),
        );
        assert!(
            problems.unwrap_err()[0]
                .to_string()
                .contains("no secret `OTHER`")
        );
    }
}
