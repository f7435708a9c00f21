//! `[api]` in `node.toml`: where the API is beside its Unix socket, which is always there.
//! Names and bounds; `api::tcp` listens.

use std::fmt::Write as _;
use std::net::SocketAddr;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

/// The API over TCP; whoever asks there needs a token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ApiSettings {
    /// Address and port, 1024 or higher; not over TCP when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub listen: Option<SocketAddr>,
    /// The certificate; without one, only an address of this host's loopback can be listened on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
}

/// The files of a certificate; a renewed one is found within a minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate and those that lead to its authority, PEM.
    #[schemars(with = "String")]
    pub cert: Utf8PathBuf,
    /// Its private key, PEM.
    #[schemars(with = "String")]
    pub key: Utf8PathBuf,
}

/// Directories that `tenantd.service` does not see (`ProtectHome=`, `PrivateTmp=`).
const HIDDEN: [&str; 5] = ["/root", "/home", "/run/user", "/tmp", "/var/tmp"];

impl ApiSettings {
    /// What is wrong with it, if anything.
    pub fn fault(&self) -> Option<&'static str> {
        if let Some(TlsFiles { cert, key }) = &self.tls {
            if !cert.is_absolute() || !key.is_absolute() {
                return Some("`cert` and `key` must be absolute paths");
            }
            if HIDDEN
                .iter()
                .any(|hidden| cert.starts_with(hidden) || key.starts_with(hidden))
            {
                return Some(
                    "`cert` and `key` must be where tenantd sees them, for example in /etc/tenantd: not below /root, \
                     /home or /tmp",
                );
            }
        }
        match (&self.listen, &self.tls) {
            (Some(address), _) if address.port() < 1024 => {
                Some("`listen` needs a port of 1024 or higher, for example 127.0.0.1:7443")
            }
            (Some(address), None) if !address.ip().is_loopback() => Some(
                "without `tls`, tokens would cross the network in the clear; give `tls`, or listen on 127.0.0.1",
            ),
            _ => None,
        }
    }

    /// Its lines in `node.toml`; none while the API is not over TCP.
    pub(super) fn to_toml(&self) -> String {
        let mut text = String::new();
        if let Some(address) = self.listen {
            let quoted = |path: &Utf8PathBuf| toml::Value::String(path.to_string()).to_string();
            let _ = write!(
                text,
                "\n# The API over TCP, for holders of tokens.\n[api]\nlisten = \"{address}\"\n"
            );
            if let Some(TlsFiles { cert, key }) = &self.tls {
                let (cert, key) = (quoted(cert), quoted(key));
                let _ = writeln!(text, "tls = {{ cert = {cert}, key = {key} }}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", None)]
    #[case(r#"listen = "127.0.0.1:7443""#, None)]
    #[case(r#"listen = "[::1]:7443""#, None)]
    #[case(r#"listen = "0.0.0.0:7443""#, Some("without `tls`"))]
    #[case(r#"listen = "192.0.2.1:7443""#, Some("without `tls`"))]
    #[case(r#"listen = "127.0.0.1:443""#, Some("1024 or higher"))]
    #[case(
        "listen = \"0.0.0.0:7443\"\ntls = { cert = \"/etc/a\", key = \"/etc/b\" }",
        None
    )]
    #[case("tls = { cert = \"a\", key = \"/etc/b\" }", Some("absolute"))]
    #[case("tls = { cert = \"/etc/a\", key = \"/root/b\" }", Some("sees them"))]
    fn tokens_never_cross_a_network_in_the_clear(#[case] text: &str, #[case] fault: Option<&str>) {
        let settings: ApiSettings = toml::from_str(text).unwrap();
        let found = settings.fault();
        assert_eq!(found.is_some(), fault.is_some(), "{found:?}");
        assert!(
            found
                .unwrap_or_default()
                .contains(fault.unwrap_or_default()),
            "{found:?}"
        );
    }
}
