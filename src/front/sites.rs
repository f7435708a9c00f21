//! Which host leads to which tenant. What two tenants want, the first by its id keeps; what is the node's own, nobody gets.
//! It decides and touches nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::tenant::{PublicHost, ResolvedSpec, TenantId};

/// How one tenant is to be reached, beside its socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaysIn {
    /// The tenant.
    pub tenant: TenantId,
    /// Host names of its own.
    pub hosts: BTreeSet<PublicHost>,
    /// Its port on the host's loopback.
    pub loopback_port: Option<u16>,
}

impl From<&ResolvedSpec> for WaysIn {
    fn from(spec: &ResolvedSpec) -> Self {
        Self {
            tenant: spec.tenant.clone(),
            hosts: spec.hosts.clone(),
            loopback_port: spec.loopback_port,
        }
    }
}

/// Who has which host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sites {
    /// Every host that leads somewhere.
    pub by_host: BTreeMap<PublicHost, TenantId>,
    /// What cannot be, and so is not.
    pub clashes: Vec<Clash>,
}

/// A way in that a tenant wants and does not get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// Who wants it.
    pub tenant: TenantId,
    /// The host, or the port.
    pub what: String,
    /// Why not.
    pub taken: Taken,
}

/// Why a way in cannot be a tenant's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// Another tenant has it.
    By(TenantId),
    /// It is the node's domain or below it.
    ByNode,
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tenant,
            what,
            taken,
        } = self;
        match taken {
            Taken::By(other) => write!(
                f,
                "tenant {tenant} cannot have {what}: tenant {other} has it"
            ),
            Taken::ByNode => write!(
                f,
                "tenant {tenant} cannot have {what}: names of the node's domain are given by tenants' ids"
            ),
        }
    }
}

/// The hosts of all tenants, in the order of their ids.
pub fn sites<'a>(
    domain: Option<&PublicHost>,
    tenants: impl IntoIterator<Item = &'a WaysIn>,
) -> Sites {
    let mut sites = Sites::default();
    let mut ports = BTreeMap::new();
    let mut tenants: Vec<_> = tenants.into_iter().collect();
    tenants.sort_by_key(|ways| &ways.tenant);
    for ways in tenants {
        let tenant = &ways.tenant;
        // A domain so long that nothing fits below it has no tenants.
        let own = domain.and_then(|domain| domain.below(tenant.as_str()).ok());
        sites.by_host.extend(own.map(|own| (own, tenant.clone())));
        let mut clash = |what: String, taken| {
            sites.clashes.push(Clash {
                tenant: tenant.clone(),
                what,
                taken,
            });
        };
        for host in &ways.hosts {
            if domain.is_some_and(|domain| host.is_within(domain)) {
                clash(format!("the host {host}"), Taken::ByNode);
            } else if let Some(other) = sites.by_host.get(host) {
                clash(format!("the host {host}"), Taken::By(other.clone()));
            } else {
                sites.by_host.insert(host.clone(), tenant.clone());
            }
        }
        if let Some(port) = ways.loopback_port {
            match ports.get(&port) {
                Some(other) => {
                    let taken = Taken::By(TenantId::clone(other));
                    clash(format!("the loopback port {port}"), taken);
                }
                None => {
                    ports.insert(port, tenant.clone());
                }
            }
        }
    }
    sites
}

/// What of the ways in that are `asked` for cannot be beside those that there are. A tenant's own earlier ones do not
/// stand in its way, and a clash that there was before is not blamed on who asks for something else.
pub fn check_ways_in(
    domain: Option<&PublicHost>,
    present: &[WaysIn],
    asked: &[WaysIn],
) -> Vec<Clash> {
    let is_asked = |tenant: &TenantId| asked.iter().any(|ways| ways.tenant == *tenant);
    let others = present.iter().filter(|ways| !is_asked(&ways.tenant));
    let mut clashes = sites(domain, others.chain(asked)).clashes;
    for clash in &mut clashes {
        // The id decides who keeps it, not who is blamed: whoever was here first is in the right.
        if let Taken::By(other) = &mut clash.taken
            && !is_asked(&clash.tenant)
            && is_asked(other)
        {
            std::mem::swap(other, &mut clash.tenant);
        }
    }
    clashes.retain(|clash| is_asked(&clash.tenant));
    clashes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> PublicHost {
        name.parse().unwrap()
    }

    fn ways(tenant: &str, hosts: &[&str], loopback_port: Option<u16>) -> WaysIn {
        WaysIn {
            tenant: tenant.parse().unwrap(),
            hosts: hosts.iter().map(|name| host(name)).collect(),
            loopback_port,
        }
    }

    fn said(clashes: &[Clash]) -> Vec<String> {
        clashes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_tenant_has_a_host_below_the_domain_and_its_own() {
        let tenants = [
            ways("acme", &["www.acme.com"], None),
            ways("bolt", &[], None),
        ];
        let found = sites(Some(&host("example.org")), &tenants);
        let by_host: Vec<_> = found
            .by_host
            .iter()
            .map(|(host, tenant)| format!("{host} {tenant}"))
            .collect();
        assert_eq!(
            by_host,
            [
                "acme.example.org acme",
                "bolt.example.org bolt",
                "www.acme.com acme"
            ]
        );
        assert!(found.clashes.is_empty());
        assert_eq!(sites(None, &tenants).by_host.len(), 1);
    }

    #[test]
    fn nobody_gets_a_name_of_the_node_or_of_another_tenant() {
        let tenants = [
            ways(
                "bolt",
                &["www.acme.com", "acme.example.org", "example.org"],
                Some(8000),
            ),
            ways("acme", &["www.acme.com"], Some(8000)),
        ];
        let found = sites(Some(&host("example.org")), &tenants);
        assert_eq!(found.by_host[&host("www.acme.com")].as_str(), "acme");
        assert_eq!(found.by_host[&host("acme.example.org")].as_str(), "acme");
        insta::assert_snapshot!(said(&found.clashes).join("\n"), @r"
        tenant bolt cannot have the host acme.example.org: names of the node's domain are given by tenants' ids
        tenant bolt cannot have the host example.org: names of the node's domain are given by tenants' ids
        tenant bolt cannot have the host www.acme.com: tenant acme has it
        tenant bolt cannot have the loopback port 8000: tenant acme has it
        ");
    }

    #[test]
    fn whoever_has_a_host_keeps_it_whatever_the_newcomer_is_called() {
        let present = [ways("bolt", &["www.acme.com"], Some(8000))];
        let newcomer = [ways("acme", &["www.acme.com"], Some(8000))];
        assert_eq!(
            said(&check_ways_in(None, &present, &newcomer)),
            [
                "tenant acme cannot have the host www.acme.com: tenant bolt has it",
                "tenant acme cannot have the loopback port 8000: tenant bolt has it"
            ]
        );
        // The same tenant may go on with it, give it up, or hand it over in one go.
        assert_eq!(check_ways_in(None, &present, &present), []);
        let handed_over = [
            ways("acme", &["www.acme.com"], None),
            ways("bolt", &[], None),
        ];
        assert_eq!(check_ways_in(None, &present, &handed_over), []);
    }

    #[test]
    fn an_old_clash_is_no_reason_to_refuse_something_else() {
        let domain = host("example.org");
        let present = [ways("bolt", &["shop.example.org"], None)];
        assert_eq!(
            check_ways_in(Some(&domain), &present, &[ways("acme", &[], None)]),
            []
        );
        assert_eq!(check_ways_in(Some(&domain), &present, &present).len(), 1);
    }
}
