//! What a certificate says of itself: whose it is, who issued it, how long it is good.
//! It trusts nothing of it; browsers do the checking.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use x509_cert::Certificate as X509;
use x509_cert::der::DecodePem as _;
use x509_cert::der::oid::db::rfc4519::{CN, O};
use x509_cert::name::Name;

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Certificate {
    /// Who issued it, in the issuer's own words.
    pub issuer: String,
    /// From when on it is good.
    #[schema(value_type = String, format = DateTime)]
    pub not_before: Timestamp,
    /// Until when it is good.
    #[schema(value_type = String, format = DateTime)]
    pub not_after: Timestamp,
}

/// What ends a certificate in PEM.
const END: &str = "-----END CERTIFICATE-----";

/// Reads the first certificate, the host's own, of a chain in PEM (RFC 7468); none when that is no certificate.
pub fn read_chain(pem: &[u8]) -> Option<Certificate> {
    let text = std::str::from_utf8(pem).ok()?;
    // Cut here: the library's own way through a chain panics where there is none.
    let begin = text.find("-----BEGIN CERTIFICATE-----")?;
    let (first, _) = text.get(begin..)?.split_once(END)?;
    let certificate = X509::from_pem(format!("{first}{END}\n"))
        .ok()?
        .tbs_certificate;
    let time = |time: &x509_cert::time::Time| {
        let seconds = time.to_unix_duration().as_secs();
        Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
    };
    Some(Certificate {
        issuer: words(&certificate.issuer),
        not_before: time(&certificate.validity.not_before)?,
        not_after: time(&certificate.validity.not_after)?,
    })
}

/// Organisation and common name, without what a terminal would obey.
fn words(name: &Name) -> String {
    let attributes = name.0.iter().flat_map(|part| part.0.iter());
    let wanted = attributes.filter(|attribute| attribute.oid == O || attribute.oid == CN);
    let words: Vec<_> = wanted
        .map(|attribute| {
            String::from_utf8_lossy(attribute.value.value()).replace(char::is_control, "")
        })
        .collect();
    words.join(" ")
}

impl Certificate {
    /// Whether it should have been renewed by now: less than a third of its time is left, as Caddy and other ACME clients
    /// have it.
    pub fn wants_renewal(&self, now: Timestamp) -> bool {
        let lifetime = self.not_after.duration_since(self.not_before);
        self.not_after.duration_since(now) < lifetime / 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl req -x509` with the subject `O=Test CA, CN=acme.example.org`.
    const CHAIN: &str = include_str!("certificate_test.pem");

    #[test]
    fn a_chain_is_read_by_its_first_certificate() {
        let read = read_chain(CHAIN.as_bytes()).unwrap();
        assert_eq!(read.issuer, "Test CA acme.example.org");
        assert_eq!(
            read.not_after.duration_since(read.not_before).as_hours(),
            90 * 24
        );
        let begins = read.not_before;
        assert!(!read.wants_renewal(begins));
        assert!(!read.wants_renewal(begins + jiff::SignedDuration::from_hours(59 * 24)));
        assert!(read.wants_renewal(begins + jiff::SignedDuration::from_hours(61 * 24)));
    }

    #[test]
    fn what_is_no_certificate_is_none() {
        for bytes in [
            "",
            "no PEM",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            assert_eq!(read_chain(bytes.as_bytes()), None);
        }
        assert_eq!(read_chain(&CHAIN.as_bytes()[..200]), None);
    }
}
