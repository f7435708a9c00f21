//! What other proxies are to be told, for those who have one before this host or on it.
//! It writes text for people to put where it belongs; nothing of it is installed.

use std::fmt::Write;

use camino::Utf8PathBuf;
use serde::Deserialize;

/// A proxy that the operator may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Proxy {
    /// A Caddyfile's site.
    Caddy,
    /// An nginx server.
    Nginx,
    /// A Traefik file provider's routers and services.
    Traefik,
    /// A command for `tailscale serve`.
    Tailscale,
}

/// A tenant to be put behind a proxy.
#[derive(Debug, Clone)]
pub struct SnippetSite {
    /// Its id.
    pub tenant: String,
    /// Its hosts.
    pub hosts: Vec<String>,
    /// Its ingress socket.
    pub socket: Utf8PathBuf,
    /// Its port on the host's loopback.
    pub loopback_port: Option<u16>,
}

/// Why there is no snippet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnippetError {
    /// No host leads to the tenant.
    #[error(
        "tenant {0} has no host; name one in its spec (`hosts = [\"agent.example.org\"]`), or give the node a domain \
         (`domain` under [front] in node.toml)"
    )]
    NoHost(String),
    /// The proxy cannot speak to sockets.
    #[error(
        "{proxy} cannot speak to a Unix socket, and tenant {tenant} has no loopback port; give it one in its spec \
         (`loopback-port = 18080`)"
    )]
    NoPort {
        /// The tenant.
        tenant: String,
        /// The proxy's name.
        proxy: &'static str,
    },
}

/// The configuration for all of `sites`.
pub fn snippet(proxy: Proxy, sites: &[SnippetSite]) -> Result<String, SnippetError> {
    let mut text = head(proxy).to_owned();
    for site in sites {
        if site.hosts.is_empty() && proxy != Proxy::Tailscale {
            return Err(SnippetError::NoHost(site.tenant.clone()));
        }
        text.push('\n');
        text.push_str(&match proxy {
            Proxy::Caddy => caddy(site),
            Proxy::Nginx => nginx(site),
            Proxy::Traefik => router(site),
            Proxy::Tailscale => tailscale(site)?,
        });
    }
    if proxy == Proxy::Traefik && !sites.is_empty() {
        text.push_str("\n  services:\n");
        for site in sites {
            text.push_str(&service(site)?);
        }
    }
    Ok(text)
}

fn head(proxy: Proxy) -> &'static str {
    match proxy {
        Proxy::Caddy => {
            "# Into the Caddyfile. Caddy's user must be in the group that may use the sockets:\n\
             #   usermod --append --groups tenantd-front caddy && systemctl restart caddy\n"
        }
        Proxy::Nginx => {
            "# Into /etc/nginx/conf.d/tenants.conf; `certbot --nginx` adds TLS. nginx's user must be in the group that\n\
             # may use the sockets:\n\
             #   usermod --append --groups tenantd-front www-data && systemctl restart nginx\n\
             map $http_upgrade $tenant_connection {\n    default upgrade;\n    '' close;\n}\n"
        }
        Proxy::Traefik => {
            "# Into a file of Traefik's file provider. `websecure` and `letsencrypt` are the names of your entry point\n\
             # and of your certificate resolver.\n\
             http:\n  routers:"
        }
        Proxy::Tailscale => {
            "# Commands for this host; each tenant has a port of its own on its Tailscale name."
        }
    }
}

fn caddy(site: &SnippetSite) -> String {
    let hosts = site.hosts.join(", ");
    let socket = &site.socket;
    format!("{hosts} {{\n\treverse_proxy unix/{socket} {{\n\t\tflush_interval -1\n\t}}\n}}\n")
}

fn nginx(site: &SnippetSite) -> String {
    let hosts = site.hosts.join(" ");
    let socket = &site.socket;
    format!(
        "server {{\n    \
             listen 80;\n    \
             listen [::]:80;\n    \
             server_name {hosts};\n    \
             client_max_body_size 0;\n    \
             location / {{\n        \
                 proxy_pass http://unix:{socket};\n        \
                 proxy_http_version 1.1;\n        \
                 proxy_set_header Host $host;\n        \
                 proxy_set_header X-Real-Ip $remote_addr;\n        \
                 proxy_set_header X-Forwarded-For $remote_addr;\n        \
                 proxy_set_header X-Forwarded-Proto $scheme;\n        \
                 proxy_set_header X-Forwarded-Host $host;\n        \
                 proxy_set_header Upgrade $http_upgrade;\n        \
                 proxy_set_header Connection $tenant_connection;\n        \
                 proxy_buffering off;\n        \
                 proxy_request_buffering off;\n        \
                 proxy_read_timeout 1h;\n    \
             }}\n\
         }}\n"
    )
}

fn router(site: &SnippetSite) -> String {
    let rules: Vec<_> = site
        .hosts
        .iter()
        .map(|host| format!("Host(`{host}`)"))
        .collect();
    let (tenant, rule) = (&site.tenant, rules.join(" || "));
    let mut text = format!("    tenant-{tenant}:\n      rule: \"{rule}\"\n");
    text.push_str("      entryPoints: [websecure]\n");
    // Writing to a String cannot fail.
    let _ = writeln!(text, "      service: tenant-{tenant}");
    text.push_str("      tls:\n        certResolver: letsencrypt");
    text
}

fn service(site: &SnippetSite) -> Result<String, SnippetError> {
    let port = port(site, "Traefik")?;
    let tenant = &site.tenant;
    Ok(format!(
        "    tenant-{tenant}:\n      loadBalancer:\n        servers:\n          - url: \"http://127.0.0.1:{port}\"\n"
    ))
}

fn tailscale(site: &SnippetSite) -> Result<String, SnippetError> {
    let port = port(site, "Tailscale")?;
    Ok(format!(
        "tailscale serve --bg --https={port} http://127.0.0.1:{port}  # tenant {}",
        site.tenant
    ))
}

fn port(site: &SnippetSite, proxy: &'static str) -> Result<u16, SnippetError> {
    let tenant = || site.tenant.clone();
    site.loopback_port.ok_or_else(|| SnippetError::NoPort {
        tenant: tenant(),
        proxy,
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn sites() -> Vec<SnippetSite> {
        let site = |tenant: &str, hosts: &[&str], loopback_port| SnippetSite {
            tenant: tenant.to_owned(),
            hosts: hosts.iter().map(ToString::to_string).collect(),
            socket: format!("/run/tenantd/ingress/{tenant}.sock").into(),
            loopback_port,
        };
        vec![
            site("acme", &["acme.example.org", "www.acme.com"], Some(18080)),
            site("bolt", &["bolt.example.org"], Some(18081)),
        ]
    }

    #[rstest]
    #[case(Proxy::Caddy, "caddy")]
    #[case(Proxy::Nginx, "nginx")]
    #[case(Proxy::Traefik, "traefik")]
    #[case(Proxy::Tailscale, "tailscale")]
    fn a_snippet_is_ready(#[case] proxy: Proxy, #[case] name: &str) {
        let text = format!("{}\n", snippet(proxy, &sites()).unwrap().trim_end());
        insta::assert_snapshot!(format!("snippet_{name}"), text);
    }

    #[test]
    fn what_a_snippet_would_lack_is_said() {
        let mut sites = sites();
        sites[1].loopback_port = None;
        let error = snippet(Proxy::Traefik, &sites).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("tenant bolt has no loopback port")
        );
        assert!(
            snippet(Proxy::Tailscale, &sites).is_err() && snippet(Proxy::Caddy, &sites).is_ok()
        );
        sites[0].hosts.clear();
        assert_eq!(
            snippet(Proxy::Nginx, &sites),
            Err(SnippetError::NoHost("acme".to_owned()))
        );
    }
}
