//! Base URLs of providers, as specs write them: where a key is sent, and so nothing that could be read in two ways.
//! It knows the grammar, not who answers there.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use hyper::Uri;

use super::HostName;
use super::text::text_value;

/// The base URL of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// The host.
    pub host: UpstreamHost,
    /// Its port.
    pub port: u16,
    /// What all paths begin with; empty, or with a slash before and none behind.
    pub path: String,
}

/// The host of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamHost {
    /// A name, which leads to public addresses.
    Name(HostName),
    /// An address, which may be a private one.
    Address(IpAddr),
}

impl Upstream {
    /// The host and port as a URL has them.
    pub fn authority(&self) -> String {
        let host = match &self.host {
            UpstreamHost::Name(name) => name.to_string(),
            UpstreamHost::Address(IpAddr::V6(address)) => format!("[{address}]"),
            UpstreamHost::Address(IpAddr::V4(address)) => address.to_string(),
        };
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// The scheme.
    pub const fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.path)
    }
}

/// A text that is no base URL of a provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// No URL, or one with more than host, port and path.
    #[error("{0:?} is no base URL: write `https://HOST`, with a port or a path where there is one")]
    Url(String),
    /// A key would be sent to a name in clear text.
    #[error(
        "{0:?} is not encrypted: use `https://`; `http://` is for a private network's addresses only"
    )]
    Clear(String),
}

impl FromStr for Upstream {
    type Err = UpstreamError;

    fn from_str(text: &str) -> Result<Self, UpstreamError> {
        let refuse = || UpstreamError::Url(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| refuse())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refuse()),
        };
        let authority = uri.authority().ok_or_else(refuse)?;
        if authority.as_str().contains('@') || uri.query().is_some() || text.contains('#') {
            return Err(refuse());
        }
        let host = authority.host();
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = match bare.unwrap_or(host).parse() {
            Ok(address) => UpstreamHost::Address(address),
            Err(_) => UpstreamHost::Name(host.parse().map_err(|_| refuse())?),
        };
        if !tls && matches!(host, UpstreamHost::Name(_)) {
            return Err(UpstreamError::Clear(text.to_owned()));
        }
        let port = match (authority.port(), authority.port_u16(), tls) {
            (None, ..) if !authority.as_str().ends_with(':') => {
                if tls {
                    443
                } else {
                    80
                }
            }
            (Some(_), Some(port @ 1..), _) => port,
            _ => return Err(refuse()),
        };
        let path = uri.path().strip_suffix('/').unwrap_or(uri.path());
        let is_plain = |part: &str| {
            !matches!(part, "" | "." | "..")
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
        };
        if !path.is_empty() && !path[1..].split('/').all(is_plain) {
            return Err(refuse());
        }
        Ok(Self {
            tls,
            host,
            port,
            path: path.to_owned(),
        })
    }
}

text_value!(
    Upstream,
    "a base URL such as \"https://api.example.org/v1\"",
    "^https?://",
    "Base URL of a provider."
);

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("https://api.example.org")]
    #[case("https://api.example.org/v1")]
    #[case("https://api.example.org:8443/a/b.c")]
    #[case("https://10.0.0.1:8443")]
    #[case("http://192.168.1.10:11434/v1")]
    #[case("https://[fd12::1]:8443/v1")]
    fn an_upstream_is_written_as_it_was_read(#[case] text: &str) {
        assert_eq!(text.parse::<Upstream>().unwrap().to_string(), text);
    }

    #[rstest]
    #[case("https://api.example.org/", "https://api.example.org")]
    #[case("https://API.example.org:443/v1/", "https://api.example.org/v1")]
    fn upstreams_have_one_spelling(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(text.parse::<Upstream>().unwrap().to_string(), expected);
    }

    #[rstest]
    #[case("api.example.org")]
    #[case("http://api.example.org")]
    #[case("ftp://api.example.org")]
    #[case("https://key@api.example.org")]
    #[case("https://api.example.org/a?b")]
    #[case("https://api.example.org/a#b")]
    #[case("https://api.example.org/../b")]
    #[case("https://api.example.org//b")]
    #[case("https://api.example.org/%2e%2e")]
    #[case("https://api.example.org:0")]
    #[case("https://api.example.org:")]
    #[case("https://2130706433")]
    #[case("https://0x7f.1")]
    fn no_upstreams(#[case] text: &str) {
        text.parse::<Upstream>().unwrap_err();
    }
}
