//! How the front is: which hosts lead where, how their certificates are, and what is wrong.
//! It judges what others have seen.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Certificate, Sites, Trouble, WildcardReport};
use crate::node::{FrontMode, FrontSettings};
use crate::tenant::PublicHost;

/// The public front.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct FrontReport {
    /// `caddy`, or `none` where others stand before the tenants' sockets.
    pub mode: String,
    /// The domain below which each tenant has a host.
    pub domain: Option<String>,
    /// Whether it does what it should; true where there is none.
    pub serves: bool,
    /// What is wrong with it as a whole, and what to do.
    pub faults: Vec<String>,
    /// The certificate that all hosts directly below the domain share, where the node has one.
    pub wildcard: Option<WildcardReport>,
    /// Every host, by name.
    pub hosts: Vec<HostReport>,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct HostReport {
    /// Its name.
    pub host: String,
    /// Whose it is.
    pub tenant: String,
    /// How its certificate is; none where there is no front of tenantd's own.
    pub state: Option<CertificateState>,
    /// The certificate that it has.
    pub certificate: Option<Certificate>,
    /// Why it has none, or no new one.
    pub trouble: Option<Trouble>,
}

/// How a host's certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateState {
    /// There is one, and it is good.
    Valid,
    /// It is good, and its renewal is late.
    Late,
    /// It is over.
    Expired,
    /// It is asked for.
    Pending,
    /// It was asked for and refused; it is tried again.
    Refused,
}

impl CertificateState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Late => "late",
            Self::Expired => "expired",
            Self::Pending => "pending",
            Self::Refused => "refused",
        }
    }

    /// How a certificate is, and the trouble that there was with it last.
    pub fn of(
        certificate: Option<&Certificate>,
        trouble: Option<&Trouble>,
        now: Timestamp,
    ) -> Self {
        match (certificate, trouble) {
            (Some(certificate), _) if certificate.not_after <= now => Self::Expired,
            (Some(certificate), Some(_)) if certificate.wants_renewal(now) => Self::Late,
            (Some(_), _) => Self::Valid,
            (None, Some(_)) => Self::Refused,
            (None, None) => Self::Pending,
        }
    }

    /// Whether somebody should do something.
    pub fn wants_attention(self) -> bool {
        matches!(self, Self::Late | Self::Expired | Self::Refused)
    }
}

/// What was seen of the front.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// What is wrong with Caddy, if it should serve and does not.
    pub fault: Option<String>,
    /// The certificates that there are, by host.
    pub certificates: BTreeMap<String, Certificate>,
    /// Why there are no others, by host.
    pub troubles: BTreeMap<String, Trouble>,
    /// How the wildcard certificate is, where there should be one.
    pub wildcard: Option<WildcardReport>,
}

/// Judges what was seen.
pub fn report(
    settings: &FrontSettings,
    sites: &Sites,
    mut facts: Facts,
    now: Timestamp,
) -> FrontReport {
    let mode = settings.mode();
    // One that browsers take stands for those of all hosts below the domain.
    let shared = facts.wildcard.as_ref().and_then(|wildcard| {
        let certificate = wildcard.certificate.as_ref()?;
        (now < certificate.not_after).then(|| certificate.clone())
    });
    let is_below = |host: &PublicHost| {
        settings
            .domain
            .as_ref()
            .is_some_and(|domain| host.is_within(domain))
    };
    let hosts = sites.by_host.iter().map(|(host, tenant)| {
        let mut certificate = facts.certificates.remove(host.as_str());
        let mut trouble = facts.troubles.remove(host.as_str());
        if let Some(shared) = shared.as_ref().filter(|_| is_below(host)) {
            (certificate, trouble) = (Some(shared.clone()), None);
        }
        let state = (mode == FrontMode::Caddy)
            .then(|| CertificateState::of(certificate.as_ref(), trouble.as_ref(), now));
        // A trouble that a newer certificate ended is none.
        let is_over = |certificate: &Certificate| !certificate.wants_renewal(now);
        let trouble = trouble.filter(|_| !certificate.as_ref().is_some_and(is_over));
        HostReport {
            host: host.to_string(),
            tenant: tenant.to_string(),
            state,
            certificate,
            trouble,
        }
    });
    let hosts = hosts.collect();
    let mut faults: Vec<_> = facts.fault.into_iter().collect();
    let serves = faults.is_empty();
    faults.extend(sites.clashes.iter().map(ToString::to_string));
    FrontReport {
        mode: match mode {
            FrontMode::Caddy => "caddy",
            FrontMode::None => "none",
        }
        .to_owned(),
        domain: settings.domain.as_ref().map(ToString::to_string),
        serves,
        faults,
        wildcard: facts.wildcard,
        hosts,
    }
}

impl FrontReport {
    /// What somebody should know and do something about, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<_> = self
            .faults
            .iter()
            .map(|fault| format!("front: {fault}"))
            .collect();
        // What it cannot be yet, hosts' own certificates are; so it is told apart from them.
        if let Some(wildcard) = &self.wildcard
            && (wildcard.state.wants_attention() || wildcard.trouble.is_some())
        {
            let why = wildcard.trouble.as_ref().map_or_else(
                || "see `journalctl -u tenantd-wildcard`".to_owned(),
                |trouble| format!("{}; {}", trouble.reason, trouble.remedy),
            );
            warnings.push(format!(
                "front: the certificate of {} is {}: {why}",
                wildcard.name,
                wildcard.state.as_str()
            ));
        }
        for host in &self.hosts {
            let Some(state) = host.state.filter(|state| state.wants_attention()) else {
                continue;
            };
            let why = host.trouble.as_ref().map_or_else(
                || "see `journalctl -u tenantd-front`".to_owned(),
                |trouble| format!("{}; {}", trouble.reason, trouble.remedy),
            );
            warnings.push(format!(
                "{}: the certificate of {} is {}: {why}",
                host.tenant,
                host.host,
                state.as_str()
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::super::{WaysIn, sites};
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn day(day: i64) -> Timestamp {
        NOW + jiff::SignedDuration::from_hours(24 * day)
    }

    fn certificate(from: i64, until: i64) -> Certificate {
        Certificate {
            issuer: "Test CA".to_owned(),
            not_before: day(from),
            not_after: day(until),
        }
    }

    fn tenants() -> Sites {
        let ways = ["good", "late", "gone", "new", "bad"].map(|id| WaysIn {
            tenant: id.parse().unwrap(),
            hosts: [format!("www.{id}.com").parse().unwrap()].into(),
            loopback_port: None,
        });
        sites(None, &ways)
    }

    fn facts() -> Facts {
        let trouble = || Trouble {
            at: NOW,
            reason: "refused".to_owned(),
            remedy: "open the port".to_owned(),
        };
        let certificates = [
            ("www.good.com", certificate(-10, 80)),
            ("www.late.com", certificate(-80, 10)),
            ("www.gone.com", certificate(-91, -1)),
        ];
        let troubled = ["www.good.com", "www.late.com", "www.bad.com"];
        Facts {
            fault: None,
            certificates: certificates
                .map(|(host, one)| (host.to_owned(), one))
                .into(),
            troubles: troubled.map(|host| (host.to_owned(), trouble())).into(),
            wildcard: None,
        }
    }

    #[test]
    fn each_host_has_its_state_and_only_what_matters_is_a_warning() {
        let settings = FrontSettings {
            mode: Some(FrontMode::Caddy),
            ..FrontSettings::default()
        };
        let report = report(&settings, &tenants(), facts(), NOW);
        let states: Vec<_> = report
            .hosts
            .iter()
            .map(|one| (&*one.tenant, one.state.unwrap().as_str()))
            .collect();
        assert_eq!(
            states,
            [
                ("bad", "refused"),
                ("gone", "expired"),
                ("good", "valid"),
                ("late", "late"),
                ("new", "pending")
            ]
        );
        assert!(report.serves && report.hosts[2].trouble.is_none());
        insta::assert_snapshot!(report.warnings().join("\n"), @r"
        bad: the certificate of www.bad.com is refused: refused; open the port
        gone: the certificate of www.gone.com is expired: see `journalctl -u tenantd-front`
        late: the certificate of www.late.com is late: refused; open the port
        ");
    }

    #[test]
    fn a_wildcard_certificate_is_that_of_all_hosts_below_the_domain_while_it_is_good() {
        let settings = FrontSettings {
            domain: Some("example.org".parse().unwrap()),
            ..FrontSettings::default()
        };
        let ways = [WaysIn {
            tenant: "acme".parse().unwrap(),
            hosts: ["www.acme.com".parse().unwrap()].into(),
            loopback_port: None,
        }];
        let sites = sites(settings.domain.as_ref(), &ways);
        let judged = |until: i64| {
            let wildcard = certificate(-80, until);
            let trouble = Trouble {
                at: NOW,
                reason: "the zone is locked".to_owned(),
                remedy: "unlock it".to_owned(),
            };
            let facts = Facts {
                wildcard: Some(WildcardReport {
                    name: "*.example.org".to_owned(),
                    state: CertificateState::of(Some(&wildcard), Some(&trouble), NOW),
                    certificate: Some(wildcard),
                    trouble: Some(trouble),
                }),
                ..Facts::default()
            };
            let report = report(&settings, &sites, facts, NOW);
            let states: Vec<_> = report
                .hosts
                .iter()
                .map(|host| host.state.unwrap())
                .collect();
            (states, report.warnings())
        };
        let (states, warnings) = judged(10);
        assert_eq!(states, [CertificateState::Valid, CertificateState::Pending]);
        assert_eq!(
            warnings,
            ["front: the certificate of *.example.org is late: the zone is locked; unlock it"]
        );
        // Over, it is nobody's: each host asks for its own.
        let (states, warnings) = judged(0);
        assert_eq!(
            states,
            [CertificateState::Pending, CertificateState::Pending]
        );
        assert!(warnings[0].contains("is expired"), "{warnings:?}");
    }

    #[test]
    fn without_a_front_nobody_waits_for_certificates() {
        let report = report(&FrontSettings::default(), &tenants(), Facts::default(), NOW);
        assert_eq!(report.warnings(), Vec::<String>::new());
        assert!(report.hosts.iter().all(|host| host.state.is_none()));
    }
}
