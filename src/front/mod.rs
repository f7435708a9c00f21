//! The public front: which hosts lead to which tenants, what Caddy is told, what its certificates and its log say,
//! and what other proxies are to be told. Pure; `reconcile::front` does what follows.
//!
//! Hosts are links in a directory, not a part of Caddy's configuration: a tenant comes and goes without Caddy loading
//! anything, which would cut the open connections of all others (decision 21).

mod access;
mod certificate;
mod config;
mod report;
mod sites;
mod snippet;
mod trouble;
mod wildcard;

pub use access::AccessLine;
pub use certificate::{Certificate, read_chain};
pub use config::{CaddyVersion, ORIGIN, Paths, SharedCertificate, caddy_config};
pub use report::{CertificateState, Facts, FrontReport, HostReport, report};
pub use sites::{Clash, Sites, Taken, WaysIn, check_ways_in, sites};
pub use snippet::{Proxy, SnippetError, SnippetSite, snippet};
pub use trouble::{Trouble, troubles};
pub use wildcard::{Attempt, Challenge, HookVerb, Wildcard, WildcardReport, Wish};
