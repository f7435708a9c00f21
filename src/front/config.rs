//! Caddy's configuration, from the node's settings alone: tenants are not in it.
//! Pure. Names and meanings of its keys are in <https://caddyserver.com/docs/json/>.

use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use camino::Utf8PathBuf;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::node::FrontSettings;
use crate::tenant::{Period, PublicHost};

/// Whom Caddy asks whether a host is known before it gets a certificate for it: itself. Only this host can ask; the
/// answer is no secret.
const ASK: &str = "127.0.0.1:2018";

/// What a known host's name can be made of. Links are looked for by what clients send, so nothing that means something
/// to a file system may come through.
const HOST: &str = "^[a-z0-9][a-z0-9.-]{0,252}$";

/// What only a proxy may say. From outside it is a forgery: an agent may believe it about who asks.
const FORGED: [&str; 9] = [
    "Forwarded",
    "X-Forwarded-*",
    "X-Real-Ip",
    "X-Original-*",
    "True-Client-Ip",
    "Cf-*",
    "Remote-*",
    "Tailscale-*",
    "X-Tenantd-*",
];

/// Caddy's version: the configuration's grammar has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CaddyVersion {
    major: u32,
    minor: u32,
}

impl CaddyVersion {
    /// The oldest that is known to understand the configuration: Debian 13's.
    pub const OLDEST: Self = Self { major: 2, minor: 6 };

    /// Reads what `caddy version` says: `2.6.2`, or `v2.10.0 h1:…`.
    pub fn parse(said: &str) -> Option<Self> {
        let mut numbers = said.trim().trim_start_matches('v').split('.');
        let mut number = || numbers.next()?.parse().ok();
        let (major, minor) = (number()?, number()?);
        Some(Self { major, minor })
    }

    /// Whether who may have a certificate is asked by `permission` and no more by `ask`.
    fn has_permission(self) -> bool {
        self >= Self { major: 2, minor: 8 }
    }
}

/// Where things are that Caddy needs.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The links of known hosts.
    pub hosts: Utf8PathBuf,
    /// Certificates and accounts.
    pub store: Utf8PathBuf,
    /// The admin API's socket.
    pub admin: Utf8PathBuf,
    /// The access log.
    pub access_log: Utf8PathBuf,
}

/// A certificate that all hosts directly below a domain share. It is no part of the configuration, for loading another one
/// ends open connections: Caddy reads the file at each handshake. It does so by asking itself on the loopback, which every
/// user of the host could, so it shows a password.
#[derive(Debug, Clone)]
pub struct SharedCertificate {
    /// The domain.
    pub domain: PublicHost,
    /// A file with the chain and the key, in PEM.
    pub bundle: Utf8PathBuf,
    /// What is shown for it.
    pub password: SecretString,
}

/// Where Caddy asks for it.
const SHARED: &str = "/shared.pem";

/// The user whose password it is. The pair is in the URL because errors tell a URL without its password.
const USER: &str = "caddy";

/// What the admin API's clients call the host that they speak to; all others are refused.
pub const ORIGIN: &str = "tenantd";

/// The whole configuration.
pub fn caddy_config(
    settings: &FrontSettings,
    paths: &Paths,
    version: CaddyVersion,
    shared: Option<&SharedCertificate>,
) -> Value {
    json!({
        "admin": {
            "listen": format!("unix/{}", paths.admin),
            "origins": [ORIGIN],
            // What is loaded is kept by tenantd, which loads it.
            "config": { "persist": false },
        },
        "logging": logging(settings, paths),
        "storage": { "module": "file_system", "root": paths.store },
        "apps": {
            "http": {
                "http_port": settings.http_port,
                "https_port": settings.https_port,
                "servers": {
                    "ask": ask(paths, shared),
                    "plain": plain(settings, paths),
                    "public": public(settings, paths),
                },
            },
            "tls": tls(settings, version, shared),
        },
    })
}

/// Paths without what is asked for, which may hold tokens, and no headers, which hold more of them.
fn logging(settings: &FrontSettings, paths: &Paths) -> Value {
    let delete = json!({ "filter": "delete" });
    json!({ "logs": {
        "default": { "exclude": ["http.log.access"] },
        "access": {
            "include": ["http.log.access"],
            "writer": {
                "output": "file",
                "filename": paths.access_log,
                "roll_size_mb": settings.access_log.bytes().div_ceil(1 << 20),
                "roll_keep": 2,
                "roll_gzip": false,
            },
            "encoder": {
                "format": "filter",
                "wrap": { "format": "json" },
                "fields": {
                    "request>headers": delete,
                    "request>tls": delete,
                    "resp_headers": delete,
                    "user_id": delete,
                    "request>uri": { "filter": "regexp", "regexp": "\\?.*$", "value": "" },
                },
            },
        },
    } })
}

/// Answers whether a host is known, and with the shared certificate.
fn ask(paths: &Paths, shared: Option<&SharedCertificate>) -> Value {
    let answer = |status: u16| json!({ "handler": "static_response", "status_code": status });
    let is_known = json!({
        "match": [known(paths, "{http.request.uri.query.domain}")],
        "handle": [answer(200)],
        "terminal": true,
    });
    let certificate = shared.map(|shared| {
        let pair = format!("{USER}:{}", shared.password.expose_secret());
        let basic = format!("Basic {}", BASE64_STANDARD.encode(pair));
        let (root, name) = (shared.bundle.parent(), shared.bundle.file_name());
        json!({
            "match": [{ "path": [SHARED], "header": { "Authorization": [basic] } }],
            "handle": [
                { "handler": "rewrite", "uri": format!("/{}", name.unwrap_or_default()) },
                { "handler": "file_server", "root": root, "pass_thru": true },
                // None: the host gets one of its own.
                answer(204),
            ],
            "terminal": true,
        })
    });
    let routes = certificate.into_iter().chain([is_known]);
    let routes = routes.chain([json!({ "handle": [answer(404)] })]);
    json!({
        "listen": [ASK],
        "protocols": ["h1"],
        "automatic_https": { "disable": true },
        "routes": routes.collect::<Vec<_>>(),
    })
}

/// Redirects to HTTPS; the ACME server's requests are answered before.
fn plain(settings: &FrontSettings, paths: &Paths) -> Value {
    let port = match settings.https_port {
        443 => String::new(),
        port => format!(":{port}"),
    };
    let location = format!("https://{{http.request.host}}{port}{{http.request.uri}}");
    let mut server = server(settings, settings.http_port);
    server["protocols"] = json!(["h1"]);
    server["routes"] = json!([
        {
            "match": [known(paths, "{http.request.host}")],
            "handle": [{
                "handler": "static_response",
                "status_code": 308,
                "headers": { "Location": [location], "Connection": ["close"] },
            }],
            "terminal": true,
        },
        unknown(),
    ]);
    server
}

fn public(settings: &FrontSettings, paths: &Paths) -> Value {
    let mut server = server(settings, settings.https_port);
    server["protocols"] = if settings.http3 {
        json!(["h1", "h2", "h3"])
    } else {
        json!(["h1", "h2"])
    };
    // A connection that was opened to one tenant asks no other.
    server["strict_sni_host"] = json!(true);
    server["tls_connection_policies"] = json!([{}]);
    server["logs"] = json!({});
    server["routes"] = json!([
        {
            "match": [known(paths, "{http.request.host}")],
            "handle": [headers(settings), body(settings), proxy(paths)],
            "terminal": true,
        },
        unknown(),
    ]);
    server
}

/// What both public servers have: limits, against those who hold connections open and send nothing.
fn server(settings: &FrontSettings, port: u16) -> Value {
    let seconds = |period: Period| format!("{}s", period.seconds());
    json!({
        "listen": listen(&settings.bind, port),
        "automatic_https": { "disable": true },
        "read_header_timeout": seconds(settings.header_timeout),
        "idle_timeout": seconds(settings.idle_timeout),
        "max_header_bytes": settings.max_header.bytes(),
    })
}

fn listen(bind: &[IpAddr], port: u16) -> Vec<String> {
    if bind.is_empty() {
        return vec![format!(":{port}")];
    }
    bind.iter()
        .map(|address| SocketAddr::new(*address, port).to_string())
        .collect()
}

/// Matches where `host`, as Caddy knows it, has a link.
fn known(paths: &Paths, host: &str) -> Value {
    let mut guard = serde_json::Map::new();
    guard.insert(host.to_owned(), json!({ "pattern": HOST }));
    json!({
        "vars_regexp": guard,
        "file": { "root": paths.hosts, "try_files": [format!("/{host}")] },
    })
}

/// Nobody's host: the connection is closed without a word.
fn unknown() -> Value {
    json!({ "handle": [{ "handler": "static_response", "abort": true }] })
}

fn headers(settings: &FrontSettings) -> Value {
    let mut response = json!({ "deferred": true, "delete": ["Server"] });
    if settings.hsts.seconds() > 0 {
        let max_age = format!("max-age={}", settings.hsts.seconds());
        response["set"] = json!({ "Strict-Transport-Security": [max_age] });
    }
    json!({ "handler": "headers", "request": { "delete": FORGED }, "response": response })
}

fn body(settings: &FrontSettings) -> Value {
    json!({ "handler": "request_body", "max_size": settings.max_body.bytes() })
}

/// To the tenant's door. Each request has a connection of its own there: one that is kept could outlive the link and
/// lead to whose host it was before, and a door that carries nothing is one whose tenant may sleep.
fn proxy(paths: &Paths) -> Value {
    json!({
        "handler": "reverse_proxy",
        "upstreams": [{ "dial": format!("unix/{}/{{http.request.host}}", paths.hosts) }],
        "flush_interval": -1,
        "transport": {
            "protocol": "http",
            "dial_timeout": "5s",
            "keep_alive": { "enabled": false },
            "compression": false,
        },
        "headers": { "request": { "set": { "X-Real-Ip": ["{http.request.remote.host}"] } } },
    })
}

fn tls(
    settings: &FrontSettings,
    version: CaddyVersion,
    shared: Option<&SharedCertificate>,
) -> Value {
    let mut issuer = json!({ "module": "acme", "ca": settings.acme_directory });
    if let Some(email) = &settings.email {
        issuer["email"] = json!(email);
    }
    if let Some(root) = &settings.acme_root {
        issuer["trusted_roots_pem_files"] = json!([root]);
    }
    let endpoint = format!("http://{ASK}/ask");
    let on_demand = if version.has_permission() {
        json!({ "permission": { "module": "http", "endpoint": endpoint } })
    } else {
        json!({ "ask": endpoint })
    };
    let own = json!({ "on_demand": true, "issuers": [issuer] });
    let below = shared.map(|shared| {
        let password = shared.password.expose_secret();
        let mut policy = own.clone();
        policy["subjects"] = json!([format!("*.{}", shared.domain)]);
        policy["get_certificate"] =
            json!([{ "via": "http", "url": format!("http://{USER}:{password}@{ASK}{SHARED}") }]);
        policy
    });
    let policies: Vec<_> = below.into_iter().chain([own]).collect();
    json!({ "automation": { "on_demand": on_demand, "policies": policies } })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn paths() -> Paths {
        Paths {
            hosts: "/var/lib/tenantd-front/hosts".into(),
            store: "/var/lib/tenantd-front/store".into(),
            admin: "/run/tenantd-front/admin.sock".into(),
            access_log: "/var/log/tenantd-front/access.log".into(),
        }
    }

    const NEW: CaddyVersion = CaddyVersion {
        major: 2,
        minor: 10,
    };

    #[test]
    fn the_configuration_is_made_of_the_settings() {
        let settings = FrontSettings {
            domain: Some("example.org".parse().unwrap()),
            email: Some("ops@example.org".to_owned()),
            ..FrontSettings::default()
        };
        insta::assert_json_snapshot!(caddy_config(
            &settings,
            &paths(),
            CaddyVersion::OLDEST,
            None
        ));
    }

    #[test]
    fn what_is_set_comes_through() {
        let settings = FrontSettings {
            bind: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            http_port: 8080,
            https_port: 8443,
            http3: true,
            hsts: Period::from_seconds(0),
            acme_root: Some("/etc/tenantd/ca.pem".into()),
            ..FrontSettings::default()
        };
        let config = caddy_config(&settings, &paths(), NEW, None);
        let servers = &config["apps"]["http"]["servers"];
        assert_eq!(
            servers["public"]["listen"],
            json!(["192.0.2.1:8443", "[2001:db8::1]:8443"])
        );
        assert_eq!(servers["public"]["protocols"], json!(["h1", "h2", "h3"]));
        assert_eq!(
            servers["public"]["routes"][0]["handle"][0]["response"].get("set"),
            None
        );
        let location = &servers["plain"]["routes"][0]["handle"][0]["headers"]["Location"][0];
        assert_eq!(
            location,
            "https://{http.request.host}:8443{http.request.uri}"
        );
        let automation = &config["apps"]["tls"]["automation"];
        assert_eq!(automation["on_demand"]["permission"]["module"], "http");
        let issuer = &automation["policies"][0]["issuers"][0];
        assert_eq!(
            issuer["trusted_roots_pem_files"],
            json!(["/etc/tenantd/ca.pem"])
        );
    }

    #[test]
    fn a_shared_certificate_is_asked_for_at_each_handshake_by_caddy_alone() {
        let shared = SharedCertificate {
            domain: "example.org".parse().unwrap(),
            bundle: "/var/lib/tenantd-front/wildcard/example.org.pem".into(),
            password: "hidden".to_owned().into(),
        };
        let settings = FrontSettings::default();
        let config = caddy_config(&settings, &paths(), NEW, Some(&shared));
        let apps = &config["apps"];
        insta::assert_json_snapshot!([
            &apps["http"]["servers"]["ask"]["routes"][0],
            &apps["tls"]["automation"]["policies"][0],
        ]);
        // All else is as without it.
        let without = caddy_config(&settings, &paths(), NEW, None);
        let policies = &apps["tls"]["automation"]["policies"];
        assert_eq!(
            policies[1],
            without["apps"]["tls"]["automation"]["policies"][0]
        );
        assert_eq!(
            apps["http"]["servers"]["ask"]["routes"][1],
            without["apps"]["http"]["servers"]["ask"]["routes"][0]
        );
    }

    #[rstest]
    #[case("2.6.2", Some((2, 6)))]
    #[case("v2.10.0 h1:fonubSaQKF1YANl8TXqGcn4IbIRUDdfAkpcsfI/vX5U=\n", Some((2, 10)))]
    #[case("(devel)", None)]
    #[case("", None)]
    fn a_version_is_read_as_caddy_says_it(#[case] said: &str, #[case] read: Option<(u32, u32)>) {
        let version = CaddyVersion::parse(said);
        assert_eq!(version.map(|version| (version.major, version.minor)), read);
    }
}
