//! Whether a tenant may go somewhere, and why: by name before anything is asked, by address before anything is dialled.
//! Pure; it resolves no name and opens no connection.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use super::address::{Special, special};
use crate::tenant::{Destination, EgressMode, EgressPolicy, HostName};

/// Why a name or an address is let through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Allowed {
    /// The list names it.
    Listed(Destination),
    /// The mode lets everything through that is not refused.
    Mode,
}

impl Allowed {
    /// The list names it with its port, so whatever is spoken there is the operator's choice.
    pub fn is_any_protocol(&self) -> bool {
        matches!(self, Self::Listed(entry) if entry.port().is_some())
    }
}

/// Why something is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The tenant has no way out at all.
    NoEgress,
    /// No entry of the list names it.
    NotListed,
    /// The mode lets the usual ports through, and an entry of the list would have to name another.
    Port,
    /// An address was asked for where only names are allowed.
    Literal,
    /// The address is not public.
    Special(Special),
    /// The name has no address.
    NoAddress,
    /// What the client says inside (SNI, Host) is another name than the one it asked for.
    Mismatch,
    /// Nobody knows which name the client means: its address stands for none, and it says none.
    Unknown,
    /// The month's volume is used up.
    Volume,
}

impl Refusal {
    /// The stable word of logs and answers.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoEgress => "no-egress",
            Self::NotListed => "not-listed",
            Self::Port => "port",
            Self::Literal => "literal-address",
            Self::Special(_) => "address",
            Self::NoAddress => "no-address",
            Self::Mismatch => "mismatch",
            Self::Unknown => "unknown-name",
            Self::Volume => "volume",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEgress => f.write_str("this agent has no way out"),
            Self::NotListed => f.write_str("it is not on this agent's list"),
            Self::Port => {
                f.write_str("this port is not open: neither `ports` nor the list names it")
            }
            Self::Literal => f.write_str("only names are allowed here, not addresses"),
            Self::Special(special) => write!(f, "it is {special}"),
            Self::NoAddress => f.write_str("the name has no address"),
            Self::Mismatch => f.write_str("the name inside is not the one that was asked for"),
            Self::Unknown => f.write_str("nobody said which name is meant"),
            Self::Volume => f.write_str("this agent's volume for the month is used up"),
        }
    }
}

/// A policy with what the gateway knows of its host.
#[derive(Debug, Clone)]
pub struct Judge {
    policy: EgressPolicy,
    /// Addresses of this host's own interfaces.
    host: BTreeSet<IpAddr>,
}

impl Judge {
    /// A judge by `policy` on a host with these addresses.
    pub fn new(policy: EgressPolicy, host: BTreeSet<IpAddr>) -> Self {
        Self { policy, host }
    }

    /// How the tenant's way out is guarded.
    pub fn mode(&self) -> EgressMode {
        self.policy.mode
    }

    /// Whether the name may be looked up: some port of it is allowed.
    ///
    /// # Errors
    /// Why not.
    pub fn lookup(&self, name: &HostName) -> Result<(), Refusal> {
        match self.policy.mode {
            EgressMode::None => Err(Refusal::NoEgress),
            EgressMode::Observe | EgressMode::Open => Ok(()),
            EgressMode::Allowlist => {
                let is_listed = |entry: &Destination| entry.covers_name(name);
                let listed = self.policy.allow.iter().any(is_listed);
                listed.then_some(()).ok_or(Refusal::NotListed)
            }
        }
    }

    /// Whether a connection to `name` and `port` may be tried.
    ///
    /// # Errors
    /// Why not.
    pub fn name(&self, name: &HostName, port: u16) -> Result<Allowed, Refusal> {
        if self.policy.mode == EgressMode::None {
            return Err(Refusal::NoEgress);
        }
        let listed = self
            .policy
            .allow
            .iter()
            .find(|entry| entry.covers(name, port, &self.policy.ports));
        if let Some(entry) = listed {
            return Ok(Allowed::Listed(entry.clone()));
        }
        match self.policy.mode {
            EgressMode::Observe | EgressMode::Open if self.policy.ports.contains(&port) => {
                Ok(Allowed::Mode)
            }
            EgressMode::Observe | EgressMode::Open => Err(Refusal::Port),
            _ => Err(Refusal::NotListed),
        }
    }

    /// Whether a connection to a bare address may be tried.
    ///
    /// # Errors
    /// Why not.
    pub fn literal(&self, address: IpAddr, port: u16) -> Result<Allowed, Refusal> {
        let is_excepted = self.is_excepted(address, port);
        match self.policy.mode {
            EgressMode::None => return Err(Refusal::NoEgress),
            // Whoever named a private network named its addresses.
            EgressMode::Allowlist if !is_excepted => return Err(Refusal::Literal),
            EgressMode::Observe | EgressMode::Open
                if !is_excepted && !self.policy.ports.contains(&port) =>
            {
                return Err(Refusal::Port);
            }
            _ => {}
        }
        self.address(address, port).map(|()| Allowed::Mode)
    }

    /// Whether this very address may be dialled, whatever led to it.
    ///
    /// # Errors
    /// It is no public one, and no exception covers it.
    pub fn address(&self, address: IpAddr, port: u16) -> Result<(), Refusal> {
        if self.host.contains(&address) {
            return Err(Refusal::Special(Special::Host));
        }
        match special(address) {
            None => Ok(()),
            // Nothing excuses these: they are this host, or a disguise of something else.
            Some(
                special @ (Special::Loopback
                | Special::Unspecified
                | Special::LinkLocal
                | Special::Translated
                | Special::Multicast
                | Special::Host),
            ) => Err(Refusal::Special(special)),
            Some(_) if self.is_excepted(address, port) => Ok(()),
            Some(special) => Err(Refusal::Special(special)),
        }
    }

    /// The addresses of a name that may be dialled. One that may not refuses all: a name that leads both
    /// outside and inside is an attack or a mistake.
    ///
    /// # Errors
    /// The name has no address, or one that is refused.
    pub fn resolved(&self, addresses: &[IpAddr], port: u16) -> Result<(), Refusal> {
        if addresses.is_empty() {
            return Err(Refusal::NoAddress);
        }
        addresses
            .iter()
            .try_for_each(|address| self.address(*address, port))
    }

    /// Whether the report of `observe` mentions a connection that was let through like this.
    pub fn is_reported(&self, allowed: &Allowed) -> bool {
        self.policy.mode == EgressMode::Observe && *allowed == Allowed::Mode
    }

    fn is_excepted(&self, address: IpAddr, port: u16) -> bool {
        let covers = |network: &crate::tenant::PrivateNetwork| {
            network.covers(address, port, &self.policy.ports)
        };
        self.policy.private_networks.iter().any(covers)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const MODES: [EgressMode; 4] = [
        EgressMode::None,
        EgressMode::Allowlist,
        EgressMode::Observe,
        EgressMode::Open,
    ];

    fn judge(mode: EgressMode, allow: &[&str], private: &[&str]) -> Judge {
        let policy = EgressPolicy {
            mode,
            allow: allow.iter().map(|text| text.parse().unwrap()).collect(),
            ports: vec![80, 443, 8080],
            private_networks: private.iter().map(|text| text.parse().unwrap()).collect(),
        };
        Judge::new(policy, BTreeSet::from(["203.0.114.7".parse().unwrap()]))
    }

    #[rstest]
    #[case(EgressMode::None, "api.example.org", 443, Err(Refusal::NoEgress))]
    #[case(EgressMode::Allowlist, "other.example", 443, Err(Refusal::NotListed))]
    #[case(EgressMode::Allowlist, "api.example.org", 22, Err(Refusal::NotListed))]
    #[case(EgressMode::Allowlist, "git.example.org", 22, Ok(true))]
    #[case(EgressMode::Allowlist, "api.example.org", 443, Ok(true))]
    #[case(EgressMode::Observe, "other.example", 443, Ok(false))]
    #[case(EgressMode::Observe, "other.example", 25, Err(Refusal::Port))]
    #[case(EgressMode::Open, "other.example", 80, Ok(false))]
    #[case(EgressMode::Open, "git.example.org", 22, Ok(true))]
    #[case(EgressMode::Open, "other.example", 8080, Ok(false))]
    #[case(EgressMode::Allowlist, "api.example.org", 8080, Ok(true))]
    #[case(EgressMode::Allowlist, "other.example", 8080, Err(Refusal::NotListed))]
    #[case(
        EgressMode::Allowlist,
        "api.example.org",
        8443,
        Err(Refusal::NotListed)
    )]
    fn names(
        #[case] mode: EgressMode,
        #[case] name: &str,
        #[case] port: u16,
        #[case] expected: Result<bool, Refusal>,
    ) {
        let judge = judge(mode, &["*.example.org", "git.example.org:22"], &[]);
        let judged = judge.name(&name.parse().unwrap(), port);
        let is_listed = judged.map(|allowed| matches!(allowed, Allowed::Listed(_)));
        assert_eq!(is_listed, expected);
    }

    #[rstest]
    #[case("1.1.1.1", 443, Ok(()))]
    #[case("192.168.1.10", 11434, Ok(()))]
    #[case("192.168.1.10", 443, Err(Refusal::Special(Special::Private)))]
    #[case("203.0.114.7", 443, Err(Refusal::Special(Special::Host)))]
    #[case("169.254.169.254", 80, Err(Refusal::Special(Special::LinkLocal)))]
    #[case("127.0.0.1", 80, Err(Refusal::Special(Special::Loopback)))]
    #[case("::ffff:1.1.1.1", 443, Err(Refusal::Special(Special::Translated)))]
    fn addresses(
        #[case] address: IpAddr,
        #[case] port: u16,
        #[case] expected: Result<(), Refusal>,
    ) {
        let private = [
            "192.168.1.10:11434",
            "169.254.0.0/16",
            "127.0.0.0/8",
            "203.0.114.0/24",
        ];
        let judge = judge(EgressMode::Open, &[], &private);
        assert_eq!(judge.address(address, port), expected);
    }

    #[test]
    fn a_name_that_also_leads_inside_is_refused_as_a_whole() {
        let judge = judge(EgressMode::Open, &[], &[]);
        let addresses = ["1.1.1.1".parse().unwrap(), "10.0.0.1".parse().unwrap()];
        assert_eq!(
            judge.resolved(&addresses, 443),
            Err(Refusal::Special(Special::Private))
        );
        assert_eq!(judge.resolved(&[], 443), Err(Refusal::NoAddress));
    }

    #[rstest]
    #[case(EgressMode::None, "1.1.1.1", 443, Err(Refusal::NoEgress))]
    #[case(EgressMode::Allowlist, "1.1.1.1", 443, Err(Refusal::Literal))]
    #[case(EgressMode::Allowlist, "10.1.0.1", 8080, Ok(Allowed::Mode))]
    #[case(EgressMode::Open, "1.1.1.1", 443, Ok(Allowed::Mode))]
    #[case(EgressMode::Open, "1.1.1.1", 25, Err(Refusal::Port))]
    #[case(
        EgressMode::Open,
        "10.2.0.1",
        443,
        Err(Refusal::Special(Special::Private))
    )]
    fn literals(
        #[case] mode: EgressMode,
        #[case] address: IpAddr,
        #[case] port: u16,
        #[case] expected: Result<Allowed, Refusal>,
    ) {
        let judge = judge(mode, &["example.org"], &["10.1.0.0/16:8080"]);
        assert_eq!(judge.literal(address, port), expected);
    }

    proptest! {
        #[test]
        fn without_exceptions_nothing_that_is_not_public_is_ever_dialled(
            address in any::<u32>().prop_map(|bits| IpAddr::from(bits.to_be_bytes())),
            port in 1..=u16::MAX,
        ) {
            for mode in MODES {
                let judge = judge(mode, &["*.example.org"], &[]);
                if special(address).is_some() {
                    prop_assert!(judge.literal(address, port).is_err());
                    prop_assert!(judge.resolved(&[address], port).is_err());
                }
            }
        }

        #[test]
        fn a_stricter_mode_never_lets_more_through(
            name in "(a|b|git)\\.example\\.(org|net)",
            port in prop_oneof![Just(22_u16), Just(80), Just(443), Just(8443)],
        ) {
            let name: HostName = name.parse().unwrap();
            let allowed: Vec<bool> = MODES
                .iter()
                .map(|mode| judge(*mode, &["*.example.org", "git.example.org:22"], &[]).name(&name, port).is_ok())
                .collect();
            prop_assert!(allowed.is_sorted(), "{allowed:?}");
        }
    }
}
