//! Where a tenant may go, as its operator writes it: names, everything below a name, networks, each with a port or without.
//! It says what matches, not whether that is allowed.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{HostName, HostNameError};

/// Ports that a destination without one means, unless a policy says otherwise: HTTP and HTTPS.
pub const WEB_PORTS: [u16; 2] = [80, 443];

/// `example.org`, `*.example.org`, either with `:8443`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Destination {
    name: HostName,
    /// Everything below `name`, and not `name` itself.
    below: bool,
    port: Option<u16>,
}

impl Destination {
    /// Whether a connection to `name` and `port` goes there; `usual` are the ports that are meant where none is named.
    pub fn covers(&self, name: &HostName, port: u16, usual: &[u16]) -> bool {
        self.covers_name(name) && covers_port(self.port, port, usual)
    }

    /// Whether `name` is meant, whatever the port.
    pub fn covers_name(&self, name: &HostName) -> bool {
        if self.below {
            name.is_below(&self.name)
        } else {
            *name == self.name
        }
    }

    /// The port that is meant; the policy's when none.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

fn covers_port(meant: Option<u16>, port: u16, usual: &[u16]) -> bool {
    meant.map_or_else(|| usual.contains(&port), |meant| meant == port)
}

/// A network of the operator's own that tenants may reach although it is private:
/// `192.168.1.10:11434`, `10.0.0.0/8`, `[fd12::1]:443`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PrivateNetwork {
    network: IpNet,
    port: Option<u16>,
}

impl PrivateNetwork {
    /// Whether a connection to `address` and `port` goes there; `usual` are the ports that are meant where none is named.
    pub fn covers(&self, address: IpAddr, port: u16, usual: &[u16]) -> bool {
        self.network.contains(&address) && covers_port(self.port, port, usual)
    }

    /// The port that is meant; the policy's when none.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

/// Why a text is no destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// The name does not read.
    #[error(transparent)]
    Name(#[from] HostNameError),
    /// The port does not read.
    #[error("a port is a number from 1 to 65535, after a colon")]
    Port,
    /// The network does not read.
    #[error(
        "a private network is an address or a network such as `192.168.1.10:11434` or `10.1.0.0/16`"
    )]
    Network,
    /// `*` somewhere else than at the beginning.
    #[error("`*` stands at the beginning only, as in `*.example.org`")]
    Star,
}

/// The text before the last colon, and the port after it.
fn split_port(text: &str) -> Result<(&str, Option<u16>), DestinationError> {
    let Some((rest, port)) = text.rsplit_once(':') else {
        return Ok((text, None));
    };
    let is_digits = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse() {
        Ok(port) if port > 0 && is_digits => Ok((rest, Some(port))),
        _ => Err(DestinationError::Port),
    }
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.parse::<IpAddr>().is_ok() || text.starts_with('[') {
            return Err(HostNameError::Address.into());
        }
        let (host, port) = split_port(text)?;
        let (host, below) = match host.strip_prefix("*.") {
            Some(host) => (host, true),
            None => (host, false),
        };
        if host.contains('*') {
            return Err(DestinationError::Star);
        }
        Ok(Self {
            name: host.parse()?,
            below,
            port,
        })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.below { "*." } else { "" };
        write!(f, "{star}{}", self.name)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl FromStr for PrivateNetwork {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (host, port) = match bracketed {
            Some((host, "")) => (host, None),
            Some((host, rest)) if rest.starts_with(':') => (host, split_port(rest)?.1),
            Some(_) => return Err(DestinationError::Network),
            // More than one colon is an IPv6 address or network without a port.
            None if text.matches(':').count() > 1 => (text, None),
            None => split_port(text)?,
        };
        let network = host
            .parse::<IpNet>()
            .or_else(|_| host.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| DestinationError::Network)?;
        Ok(Self {
            network: network.trunc(),
            port,
        })
    }
}

impl fmt::Display for PrivateNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.network.prefix_len() == self.network.max_prefix_len() {
            self.network.addr().to_string()
        } else {
            self.network.to_string()
        };
        match (self.port, self.network) {
            (None, _) => f.write_str(&host),
            (Some(port), IpNet::V4(_)) => write!(f, "{host}:{port}"),
            (Some(port), IpNet::V6(_)) => write!(f, "[{host}]:{port}"),
        }
    }
}

/// Both are texts in documents.
macro_rules! as_text {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = DestinationError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}

as_text!(Destination);
as_text!(PrivateNetwork);

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn name(text: &str) -> HostName {
        text.parse().unwrap()
    }

    #[rstest]
    #[case("example.org", "example.org", 443, true)]
    #[case("example.org", "example.org", 80, true)]
    #[case("example.org", "example.org", 22, false)]
    #[case("example.org", "www.example.org", 443, false)]
    #[case("example.org", "badexample.org", 443, false)]
    #[case("*.example.org", "www.example.org", 443, true)]
    #[case("*.example.org", "a.b.example.org", 443, true)]
    #[case("*.example.org", "example.org", 443, false)]
    #[case("*.example.org", "badexample.org", 443, false)]
    #[case("*.example.org", "example.org.evil.net", 443, false)]
    #[case("git.example.org:22", "git.example.org", 22, true)]
    #[case("git.example.org:22", "git.example.org", 443, false)]
    fn covers(
        #[case] destination: &str,
        #[case] to: &str,
        #[case] port: u16,
        #[case] expected: bool,
    ) {
        let destination: Destination = destination.parse().unwrap();
        assert_eq!(destination.covers(&name(to), port, &WEB_PORTS), expected);
    }

    #[rstest]
    #[case("192.168.1.10:11434", "192.168.1.10", 11434, true)]
    #[case("192.168.1.10:11434", "192.168.1.11", 11434, false)]
    #[case("192.168.1.10:11434", "192.168.1.10", 80, false)]
    #[case("10.1.2.3/8", "10.9.9.9", 443, true)]
    #[case("10.0.0.0/8:8080", "10.9.9.9", 8080, true)]
    #[case("fd12::/16", "fd12::1", 80, true)]
    #[case("[fd12::1]:8443", "fd12::1", 8443, true)]
    #[case("[fd12::1]", "fd12::1", 8443, false)]
    #[case("10.0.0.0/8", "::ffff:10.0.0.1", 80, false)]
    fn covers_addresses(
        #[case] network: &str,
        #[case] to: IpAddr,
        #[case] port: u16,
        #[case] expected: bool,
    ) {
        let network: PrivateNetwork = network.parse().unwrap();
        assert_eq!(network.covers(to, port, &WEB_PORTS), expected);
        assert_eq!(network.to_string().parse(), Ok(network));
    }

    #[rstest]
    #[case("", DestinationError::Name(HostNameError::Length))]
    #[case("*", DestinationError::Star)]
    #[case("*.", DestinationError::Name(HostNameError::Length))]
    #[case("api.*.org", DestinationError::Star)]
    #[case("*example.org", DestinationError::Star)]
    #[case("example.org:", DestinationError::Port)]
    #[case("example.org:0", DestinationError::Port)]
    #[case("example.org:+80", DestinationError::Port)]
    #[case("example.org:65536", DestinationError::Port)]
    #[case("https://example.org", DestinationError::Port)]
    #[case("10.0.0.1", DestinationError::Name(HostNameError::Address))]
    #[case("[::1]:80", DestinationError::Name(HostNameError::Address))]
    fn no_destinations(#[case] text: &str, #[case] expected: DestinationError) {
        assert_eq!(text.parse::<Destination>(), Err(expected));
    }

    #[rstest]
    #[case("example.org")]
    #[case("10.0.0.1/33")]
    #[case("[10.0.0.1")]
    #[case("[fd12::1]x")]
    #[case("10.0.0.1:x")]
    fn no_networks(#[case] text: &str) {
        text.parse::<PrivateNetwork>().unwrap_err();
    }
}
