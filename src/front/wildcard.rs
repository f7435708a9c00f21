//! The wildcard certificate: when it is due, what the operator's program is told, how it stands.
//! Pure; `crate::wildcard` gets it, and Caddy asks itself for it at each handshake (decision 26).

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Certificate, CertificateState, Trouble};
use crate::node::{FrontMode, FrontSettings};
use crate::tenant::PublicHost;

/// How long after an attempt that failed the next one is made: authorities count those, by the hour.
const PAUSE: SignedDuration = SignedDuration::from_hours(1);

/// What the node wants a certificate for, and of whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Wish {
    /// The domain; all hosts directly below it are meant too.
    pub domain: PublicHost,
    /// The directory URL of the ACME server.
    pub directory: String,
}

impl Wish {
    /// What the settings say; none where each host has its own certificate.
    pub fn of(settings: &FrontSettings) -> Option<Self> {
        let is_wanted = settings.wildcard.is_some() && settings.mode() == FrontMode::Caddy;
        Some(Self {
            domain: settings.domain.clone().filter(|_| is_wanted)?,
            directory: settings.acme_directory.clone(),
        })
    }

    /// The names in the certificate: what is asked for most, first.
    pub fn names(&self) -> [String; 2] {
        [format!("*.{}", self.domain), self.domain.to_string()]
    }
}

/// The last attempt to get it. It is written before the attempt, as one that was cut short, and again afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Attempt {
    /// What was wanted.
    pub wish: Wish,
    /// When.
    pub at: Timestamp,
    /// Why it failed, if it did.
    pub trouble: Option<Trouble>,
}

/// What there is of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wildcard {
    /// The certificate for the domain that is wanted now.
    pub certificate: Option<Certificate>,
    /// The last attempt.
    pub attempt: Option<Attempt>,
}

impl Wildcard {
    /// Whether a certificate is to be got: there is none, two thirds of its time are over, it is another authority's
    /// than the one that is wanted, or the last attempt failed.
    pub fn is_due(&self, wish: &Wish, now: Timestamp) -> bool {
        let is_old = self
            .certificate
            .as_ref()
            .is_none_or(|certificate| certificate.wants_renewal(now));
        let is_done = |attempt: &Attempt| attempt.wish == *wish && attempt.trouble.is_none();
        is_old || !self.attempt.as_ref().is_some_and(is_done)
    }

    /// Whether it is due and the last attempt at the same is long enough ago.
    pub fn wants_attempt(&self, wish: &Wish, now: Timestamp) -> bool {
        let is_fresh = |attempt: &Attempt| {
            let age = now.duration_since(attempt.at);
            // One from the future was made before the clock was set.
            attempt.wish == *wish && (SignedDuration::ZERO..PAUSE).contains(&age)
        };
        self.is_due(wish, now) && !self.attempt.as_ref().is_some_and(is_fresh)
    }

    /// The certificate, as long as browsers take it.
    pub fn in_use(&self, now: Timestamp) -> Option<&Certificate> {
        self.certificate
            .as_ref()
            .filter(|certificate| now < certificate.not_after)
    }

    /// How it stands.
    pub fn report(&self, wish: &Wish, now: Timestamp) -> WildcardReport {
        let trouble = self.attempt.as_ref().and_then(|attempt| {
            let trouble = attempt.trouble.as_ref()?;
            (attempt.wish == *wish).then(|| trouble.clone())
        });
        let certificate = self.certificate.clone();
        WildcardReport {
            name: format!("*.{}", wish.domain),
            state: CertificateState::of(certificate.as_ref(), trouble.as_ref(), now),
            certificate,
            trouble,
        }
    }
}

/// The wildcard certificate of the node's domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct WildcardReport {
    /// The name that it is for.
    pub name: String,
    /// How it is. Until it is there, hosts have certificates of their own.
    pub state: CertificateState,
    /// The certificate.
    pub certificate: Option<Certificate>,
    /// Why there is none, or no new one.
    pub trouble: Option<Trouble>,
}

/// A TXT record that proves to the ACME server whose the domain is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Challenge {
    /// The domain that is proven; without `*.`.
    pub domain: String,
    /// The record's value (RFC 8555, section 8.4). No secret: everybody can look it up.
    pub value: String,
}

/// What the operator's program is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookVerb {
    /// Add a record beside those that there are: there are two of one name at a time.
    Present,
    /// Remove that record.
    Cleanup,
}

impl Challenge {
    /// The words for the operator's program, as those of lego's `exec` provider
    /// (<https://go-acme.github.io/lego/dns/exec/>): the verb, the record's full name, its value.
    pub fn words(&self, verb: HookVerb) -> [String; 3] {
        let verb = match verb {
            HookVerb::Present => "present",
            HookVerb::Cleanup => "cleanup",
        };
        [
            verb.to_owned(),
            format!("_acme-challenge.{}.", self.domain),
            self.value.clone(),
        ]
    }

    /// The same for programs that were made for certbot (<https://eff-certbot.readthedocs.io/en/stable/using.html#hooks>).
    pub fn variables(&self) -> [(&'static str, &str); 2] {
        [
            ("CERTBOT_DOMAIN", &self.domain),
            ("CERTBOT_VALIDATION", &self.value),
        ]
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::node::WildcardSettings;

    fn settings(domain: Option<&str>, mode: Option<FrontMode>) -> FrontSettings {
        FrontSettings {
            domain: domain.map(|domain| domain.parse().unwrap()),
            mode,
            wildcard: Some(WildcardSettings {
                hook: "/etc/tenantd/dns-hook".into(),
                wait: crate::tenant::Period::from_seconds(0),
            }),
            ..FrontSettings::default()
        }
    }

    fn wish() -> Wish {
        Wish::of(&settings(Some("example.org"), None)).unwrap()
    }

    fn hour(hour: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hour)
    }

    /// Good from hour 0 to hour 300: it is to be renewed from 200 on.
    fn wildcard(has_certificate: bool, attempted: Option<i64>, failed: bool) -> Wildcard {
        Wildcard {
            certificate: has_certificate.then(|| Certificate {
                issuer: "Test CA".to_owned(),
                not_before: hour(0),
                not_after: hour(300),
            }),
            attempt: attempted.map(|at| Attempt {
                wish: wish(),
                at: hour(at),
                trouble: failed.then(|| Trouble {
                    at: hour(at),
                    reason: "no such zone".to_owned(),
                    remedy: "mend the hook".to_owned(),
                }),
            }),
        }
    }

    #[test]
    fn only_a_front_with_a_domain_has_one() {
        assert_eq!(wish().names(), ["*.example.org", "example.org"]);
        assert_eq!(Wish::of(&settings(None, Some(FrontMode::Caddy))), None);
        let other_proxy = settings(Some("example.org"), Some(FrontMode::None));
        assert_eq!(Wish::of(&other_proxy), None);
        let without = FrontSettings {
            wildcard: None,
            ..settings(Some("example.org"), None)
        };
        assert_eq!(Wish::of(&without), None);
    }

    #[rstest]
    #[case::none_yet(wildcard(false, None, false), 1, true, true)]
    #[case::failed_just_now(wildcard(false, Some(1), true), 1, true, false)]
    #[case::failed_an_hour_ago(wildcard(false, Some(1), true), 2, true, true)]
    #[case::good(wildcard(true, Some(0), false), 199, false, false)]
    #[case::two_thirds_over(wildcard(true, Some(0), false), 201, true, true)]
    #[case::renewal_failed(wildcard(true, Some(201), true), 201, true, false)]
    #[case::the_clock_was_set_back(wildcard(false, Some(1000), true), 1, true, true)]
    #[case::lost(wildcard(false, Some(0), false), 100, true, true)]
    fn it_is_got_when_it_is_due_and_not_too_often(
        #[case] wildcard: Wildcard,
        #[case] at: i64,
        #[case] due: bool,
        #[case] now: bool,
    ) {
        assert_eq!(wildcard.is_due(&wish(), hour(at)), due);
        assert_eq!(wildcard.wants_attempt(&wish(), hour(at)), now);
    }

    #[test]
    fn another_authority_is_asked_at_once() {
        let other = Wish {
            directory: "https://acme.test/directory".to_owned(),
            ..wish()
        };
        for wildcard in [
            wildcard(true, Some(1), false),
            wildcard(true, Some(1), true),
        ] {
            assert!(wildcard.wants_attempt(&other, hour(1)));
            assert_eq!(wildcard.report(&other, hour(1)).trouble, None);
        }
    }

    #[rstest]
    #[case(wildcard(false, None, false), 1, CertificateState::Pending, false)]
    #[case(wildcard(false, Some(1), true), 1, CertificateState::Refused, false)]
    #[case(wildcard(true, Some(1), false), 1, CertificateState::Valid, true)]
    #[case(wildcard(true, Some(201), true), 202, CertificateState::Late, true)]
    #[case(wildcard(true, Some(201), true), 300, CertificateState::Expired, false)]
    fn it_is_used_while_it_is_good_and_told_how_it_stands(
        #[case] wildcard: Wildcard,
        #[case] at: i64,
        #[case] state: CertificateState,
        #[case] used: bool,
    ) {
        assert_eq!(wildcard.report(&wish(), hour(at)).state, state);
        assert_eq!(wildcard.in_use(hour(at)).is_some(), used);
    }

    #[test]
    fn the_hook_is_told_what_others_hooks_are() {
        let challenge = Challenge {
            domain: "example.org".to_owned(),
            value: "abc".to_owned(),
        };
        assert_eq!(
            challenge.words(HookVerb::Present),
            ["present", "_acme-challenge.example.org.", "abc"]
        );
        assert_eq!(challenge.words(HookVerb::Cleanup)[0], "cleanup");
        assert_eq!(
            challenge.variables(),
            [
                ("CERTBOT_DOMAIN", "example.org"),
                ("CERTBOT_VALIDATION", "abc")
            ]
        );
    }
}
