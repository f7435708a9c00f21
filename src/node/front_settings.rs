//! `[front]` in `node.toml`: how the public reaches tenants, and what it may ask of the front.
//! Names, defaults and bounds; what Caddy makes of them is `front::config`'s.

use std::net::IpAddr;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use crate::tenant::{Period, PublicHost, Size};

/// The public front.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct FrontSettings {
    /// Who stands before the tenants' sockets; `caddy` where `domain` is given, else `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<FrontMode>,
    /// Each tenant is found at `TENANT.DOMAIN`. Its DNS has a wildcard record that leads here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<PublicHost>,
    /// Where the certificate authority writes to when something is wrong with a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The directory URL of the ACME server (RFC 8555).
    pub acme_directory: String,
    /// A PEM file with the authorities that the ACME server's own certificate is checked against, where the host's do
    /// not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub acme_root: Option<Utf8PathBuf>,
    /// Addresses to listen on; all when empty.
    #[schemars(with = "Vec<String>")]
    pub bind: Vec<IpAddr>,
    /// The port for HTTP, which only redirects and answers the ACME server.
    pub http_port: u16,
    /// The port for HTTPS.
    pub https_port: u16,
    /// Also serve HTTP/3, on the UDP port of the same number.
    pub http3: bool,
    /// Most bytes that a request's headers may have.
    pub max_header: Size,
    /// Most bytes that a request's body may have.
    pub max_body: Size,
    /// Longest time for a request's headers to arrive, and for the TLS handshake.
    pub header_timeout: Period,
    /// Longest time for which a connection may stay open without a request.
    pub idle_timeout: Period,
    /// How long browsers are told to come by HTTPS only (HSTS, RFC 6797); `0s` tells them nothing.
    pub hsts: Period,
    /// Size from which on a new access log is begun; two old ones are kept.
    pub access_log: Size,
    /// One certificate for `domain` and all hosts directly below it, instead of one each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wildcard: Option<WildcardSettings>,
}

/// How the node proves to the ACME server that its domain's DNS is its own (DNS-01, RFC 8555, section 8.4): by a program
/// of the operator's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WildcardSettings {
    /// The program: it is called with `present` or `cleanup`, the name of a TXT record, and its value, as by lego's
    /// `exec` provider.
    #[schemars(with = "String")]
    pub hook: Utf8PathBuf,
    /// How long a record takes until everybody sees it: the ACME server looks only then.
    #[serde(default = "half_a_minute")]
    pub wait: Period,
}

fn half_a_minute() -> Period {
    Period::from_seconds(30)
}

/// Who stands before the tenants' sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FrontMode {
    /// Caddy, run and configured by tenantd.
    Caddy,
    /// Whoever the operator likes: `tenantd front snippet` prints what to configure.
    None,
}

/// Let's Encrypt (<https://letsencrypt.org/docs/acme-protocol-updates/>).
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// Who waits longer for a DNS record has another trouble. An attempt, of which this is a part, has an hour
/// (`tenantd-wildcard.service`).
const LONGEST_WAIT: Period = Period::from_seconds(1800);

impl Default for FrontSettings {
    fn default() -> Self {
        Self {
            mode: None,
            domain: None,
            email: None,
            acme_directory: LETS_ENCRYPT.to_owned(),
            acme_root: None,
            bind: Vec::new(),
            http_port: 80,
            https_port: 443,
            http3: false,
            max_header: Size::from_bytes(64 * 1024),
            max_body: Size::from_mib(10 * 1024),
            header_timeout: Period::from_seconds(10),
            idle_timeout: Period::from_seconds(120),
            hsts: Period::from_seconds(182 * 86_400),
            access_log: Size::from_mib(64),
            wildcard: None,
        }
    }
}

impl FrontSettings {
    /// Who stands before the tenants' sockets.
    pub fn mode(&self) -> FrontMode {
        self.mode.unwrap_or(if self.domain.is_some() {
            FrontMode::Caddy
        } else {
            FrontMode::None
        })
    }

    /// What is wrong with it, if anything.
    pub fn fault(&self) -> Option<&'static str> {
        if self.http_port == 0 || self.https_port == 0 || self.http_port == self.https_port {
            return Some("`http-port` and `https-port` must be two different ports");
        }
        let is_url = self.acme_directory.starts_with("https://")
            && self
                .acme_directory
                .bytes()
                .all(|byte| byte.is_ascii_graphic());
        if !is_url {
            return Some("`acme-directory` must be an https:// URL");
        }
        // One address of plain ASCII; whether somebody reads it, nobody can tell from here.
        let is_address = |email: &String| {
            let parts = email.split_once('@');
            email.bytes().all(|byte| byte.is_ascii_graphic())
                && parts.is_some_and(|(user, host)| !user.is_empty() && host.contains('.'))
        };
        if self.email.as_ref().is_some_and(|email| !is_address(email)) {
            return Some("`email` must be an address such as ops@example.org");
        }
        if self
            .acme_root
            .as_ref()
            .is_some_and(|path| !path.is_absolute())
        {
            return Some("`acme-root` must be an absolute path");
        }
        if !(4096..=1 << 20).contains(&self.max_header.bytes()) {
            return Some("`max-header` must be from 4KiB to 1MiB");
        }
        if self.header_timeout.seconds() == 0 || self.idle_timeout.seconds() == 0 {
            return Some("`header-timeout` and `idle-timeout` must be 1s or more");
        }
        if let Some(wildcard) = &self.wildcard {
            if self.domain.is_none() {
                return Some("`wildcard` needs a `domain`");
            }
            if !wildcard.hook.is_absolute() || wildcard.wait > LONGEST_WAIT {
                return Some(
                    "`wildcard.hook` must be an absolute path, and `wildcard.wait` 30min or less",
                );
            }
        }
        // Caddy counts in whole megabytes.
        if self.max_body.bytes() == 0 || self.access_log < Size::from_mib(1) {
            return Some("`max-body` must be 1B or more, and `access-log` 1MiB or more");
        }
        None
    }

    /// The table, where anything differs from the defaults.
    pub(super) fn to_toml(&self) -> String {
        if *self == Self::default() {
            return String::new();
        }
        // Numbers, texts and lists of them always have a TOML form.
        let table = std::collections::BTreeMap::from([("front", self)]);
        let lines = toml::to_string(&table).unwrap_or_default();
        format!("\n# How the public reaches tenants.\n{lines}")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", FrontMode::None)]
    #[case("domain = \"example.org\"", FrontMode::Caddy)]
    #[case("domain = \"example.org\"\nmode = \"none\"", FrontMode::None)]
    #[case("mode = \"caddy\"", FrontMode::Caddy)]
    fn a_domain_is_enough_for_a_front(#[case] text: &str, #[case] mode: FrontMode) {
        let settings: FrontSettings = toml::from_str(text).unwrap();
        assert_eq!((settings.mode(), settings.fault()), (mode, None));
    }

    #[rstest]
    #[case("http-port = 443")]
    #[case("https-port = 0")]
    #[case("acme-directory = \"http://acme.test/dir\"")]
    #[case("acme-directory = \"https://acme.test/dir\\n\"")]
    #[case("email = \"nobody\"")]
    #[case("email = \"a b@example.org\"")]
    #[case("acme-root = \"ca.pem\"")]
    #[case("max-header = \"1KiB\"")]
    #[case("max-body = \"0B\"")]
    #[case("header-timeout = \"0s\"")]
    #[case("access-log = \"1KiB\"")]
    #[case("[wildcard]\nhook = \"/etc/tenantd/dns-hook\"")]
    #[case("domain = \"example.org\"\n[wildcard]\nhook = \"dns-hook\"")]
    #[case("domain = \"example.org\"\n[wildcard]\nhook = \"/h\"\nwait = \"2h\"")]
    fn what_could_never_work_is_refused(#[case] text: &str) {
        let settings: FrontSettings = toml::from_str(text).unwrap();
        assert!(settings.fault().is_some());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let settings = FrontSettings {
            domain: Some("example.org".parse().unwrap()),
            bind: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            wildcard: Some(WildcardSettings {
                hook: "/etc/tenantd/dns-hook".into(),
                wait: Period::from_seconds(5),
            }),
            ..FrontSettings::default()
        };
        let text = settings.to_toml();
        let read: BTreeMap<String, FrontSettings> = toml::from_str(&text).unwrap();
        assert_eq!(read["front"], settings);
        assert_eq!(FrontSettings::default().to_toml(), "");
    }
}
