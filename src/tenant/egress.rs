//! Where a tenant may go: the mode and its lists, as specs, templates and plans say it.
//! Judging a connection by it is the gateway's business.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tables::Over;
use super::{Destination, PrivateNetwork, Problem, TenantId, WEB_PORTS};

/// Most entries of a list; every connection is compared with each.
const MAX_ENTRIES: usize = 500;

/// Most ports.
const MAX_PORTS: usize = 32;

/// How a tenant's way out is guarded. In every mode, addresses that are not public are refused.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum EgressMode {
    /// Nothing gets out.
    None,
    /// Only what the lists name.
    Allowlist,
    /// Everything on the usual ports and what the lists name; what the lists do not name is reported.
    #[default]
    Observe,
    /// Everything on the usual ports and what the lists name.
    Open,
}

impl fmt::Display for EgressMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Allowlist => "allowlist",
            Self::Observe => "observe",
            Self::Open => "open",
        })
    }
}

/// `[egress]`: where the agent may go. In every mode, addresses that are not public are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Egress {
    /// How its way out is guarded (default `observe`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<EgressMode>,
    /// Names that are allowed, such as `api.example.org`, `*.example.org` or `git.example.org:22`; added to the template's.
    /// The usual ports unless another is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>")]
    pub allow: Option<Vec<Destination>>,
    /// The usual ports (default 80 and 443), on which TLS and HTTP are spoken. Programs that know no proxy reach 80 and 443 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<u16>>", inner(range(min = 1)))]
    pub ports: Option<Vec<u16>>,
    /// Private addresses and networks that may be reached all the same, such as `192.168.1.10:11434`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>")]
    pub private_networks: Option<Vec<PrivateNetwork>>,
}

impl Over for Egress {
    /// Lists are added up: a template names what its agent needs, a plan and a spec what its tenant needs beside that.
    /// Ports are not, so that a spec can also close one.
    fn over(self, base: Self) -> Self {
        Self {
            mode: self.mode.or(base.mode),
            allow: union(base.allow, self.allow),
            ports: self.ports.or(base.ports),
            private_networks: union(base.private_networks, self.private_networks),
        }
    }
}

fn union<T: PartialEq>(base: Option<Vec<T>>, more: Option<Vec<T>>) -> Option<Vec<T>> {
    let Some(mut all) = base else {
        return more;
    };
    for entry in more.into_iter().flatten() {
        if !all.contains(&entry) {
            all.push(entry);
        }
    }
    Some(all)
}

impl Egress {
    /// The rules that the lists must keep, beyond their types.
    pub(super) fn check(&self) -> Vec<Problem> {
        let lengths = [
            ("allow", self.allow.as_ref().map_or(0, Vec::len)),
            (
                "private-networks",
                self.private_networks.as_ref().map_or(0, Vec::len),
            ),
        ];
        let ports = self.ports.as_deref().unwrap_or_default();
        let wrong_ports = (ports.contains(&0) || ports.len() > MAX_PORTS).then(|| {
            let rule = format!("has up to {MAX_PORTS} numbers from 1 to 65535");
            Problem::at(["egress", "ports"], rule)
                .help("`ports = [80, 443, 8443]`; a single host's port is named in `allow`, as in `git.example.org:22`")
        });
        lengths
            .into_iter()
            .filter(|(_, length)| *length > MAX_ENTRIES)
            .map(|(key, length)| {
                Problem::at(
                    ["egress", key],
                    format!("has {length} entries; {MAX_ENTRIES} are the most"),
                )
                .help("`*.example.org` names everything below a name")
            })
            .chain(wrong_ports)
            .collect()
    }

    /// The policy, with everything filled in.
    pub(super) fn resolved(self) -> EgressPolicy {
        EgressPolicy {
            mode: self.mode.unwrap_or_default(),
            allow: self.allow.unwrap_or_default(),
            ports: self.ports.unwrap_or_else(usual),
            private_networks: self.private_networks.unwrap_or_default(),
        }
    }
}

/// One tenant's policy, with everything filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EgressPolicy {
    /// How it is guarded.
    pub mode: EgressMode,
    /// What is allowed by name.
    pub allow: Vec<Destination>,
    /// Ports of entries without one, and of everything that the mode lets through.
    #[serde(default = "usual")]
    pub ports: Vec<u16>,
    /// Private networks that may be reached although they are private.
    pub private_networks: Vec<PrivateNetwork>,
}

impl Default for EgressPolicy {
    fn default() -> Self {
        Egress::default().resolved()
    }
}

fn usual() -> Vec<u16> {
    WEB_PORTS.into()
}

/// What a tenant's egress door needs to know. Part of the unit set; stored as JSON at
/// [`crate::layout::Layout::egress_file`], where the door sees within a second that it has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EgressRuntime {
    /// The tenant.
    pub tenant: TenantId,
    /// Where it may go.
    pub policy: EgressPolicy,
    /// Bytes of both directions that a month has.
    pub volume: u64,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn table(text: &str) -> Egress {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_spec_adds_to_its_templates_list_and_may_change_the_mode() {
        let template = table("mode = \"allowlist\"\nallow = [\"a.example\", \"b.example\"]");
        let spec = table("mode = \"open\"\nallow = [\"b.example\", \"c.example:22\"]");
        let policy = spec.over(template.clone()).resolved();
        assert_eq!(policy.mode, EgressMode::Open);
        let allowed: Vec<String> = policy.allow.iter().map(ToString::to_string).collect();
        assert_eq!(allowed, ["a.example", "b.example", "c.example:22"]);
        assert_eq!(Egress::default().over(template.clone()), template);
        assert_eq!(Egress::default().resolved().mode, EgressMode::Observe);
    }

    #[rstest]
    #[case("allow = [\"10.0.0.1\"]", "an address and not a host name")]
    #[case("allow = [\"*\"]", "`*` stands at the beginning only")]
    #[case(
        "private-networks = [\"home.example\"]",
        "a private network is an address"
    )]
    #[case("mode = \"closed\"", "unknown variant")]
    fn what_is_wrong_is_said(#[case] text: &str, #[case] expected: &str) {
        let error = toml::from_str::<Egress>(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn ports_are_those_of_the_innermost_table_that_names_some() {
        let template = table("ports = [443]");
        let plan = table("ports = [443, 8443]");
        let over = |spec: &str| {
            table(spec)
                .over(plan.clone().over(template.clone()))
                .resolved()
        };
        assert_eq!(over("").ports, [443, 8443]);
        assert_eq!(over("ports = []").ports, [0_u16; 0]);
        assert_eq!(Egress::default().resolved().ports, WEB_PORTS);
        assert!(table("ports = [1, 65535]").check().is_empty());
        assert_eq!(table("ports = [0]").check().len(), 1);
    }

    #[test]
    fn a_list_has_an_end() {
        let name = |number| format!("n{number}.example").parse().unwrap();
        let egress = Egress {
            allow: Some((0..=MAX_ENTRIES).map(name).collect()),
            ..Egress::default()
        };
        assert_eq!(egress.check().len(), 1);
    }
}
