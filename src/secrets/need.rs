//! Whether a secret has the value that a spec wants, or needs a new one. Pure.

use std::collections::BTreeMap;

use super::error::SecretError;
use super::vault::{StoredSecret, StoredVersion};
use crate::tenant::{
    MAX_SECRETS_TOTAL, SecretName, SecretSource, SecretVersion, SecretVersions, TenantId,
};

/// What an apply has to do for one secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: this version is it.
    Have(SecretVersion),
    /// A value is to be made or asked for.
    Make,
    /// Somebody has to give a value.
    Missing,
}

/// What `source` needs where `newest` is the newest version there is.
///
/// A reference is asked once and its answer kept, as an image is: an apply of an unchanged spec asks nobody, and
/// `rotate` asks again. Another reference is another value.
pub fn need(source: &SecretSource, newest: Option<&StoredVersion>) -> Need {
    match (source, newest) {
        (SecretSource::Given | SecretSource::Generated(_), Some(version)) => {
            Need::Have(version.number)
        }
        (SecretSource::Reference(_), Some(version)) if version.record.source == *source => {
            Need::Have(version.number)
        }
        (SecretSource::Given, None) => Need::Missing,
        (SecretSource::Generated(_), None) | (SecretSource::Reference(_), _) => Need::Make,
    }
}

/// The lengths of these versions, of what is stored.
pub fn lengths<'a>(
    versions: &'a SecretVersions,
    stored: &'a BTreeMap<SecretName, StoredSecret>,
) -> impl Iterator<Item = u64> + 'a {
    versions.iter().filter_map(|(name, number)| {
        let version = stored
            .get(name)?
            .iter()
            .find(|found| found.number == *number)?;
        Some(version.record.bytes)
    })
}

/// Whether values of these lengths fit into one unit.
pub fn fits(tenant: &TenantId, lengths: impl Iterator<Item = u64>) -> Result<(), SecretError> {
    let bytes = lengths.fold(0_u64, u64::saturating_add);
    if bytes <= MAX_SECRETS_TOTAL {
        return Ok(());
    }
    Err(SecretError::Total {
        tenant: tenant.clone(),
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::vault::VersionRecord;
    use super::*;
    use crate::tenant::Generate;

    fn source(text: &str) -> SecretSource {
        match text {
            "given" => SecretSource::Given,
            "generated" => SecretSource::Generated(Generate::Hex32),
            reference => SecretSource::Reference(reference.parse().unwrap()),
        }
    }

    fn version(number: u32, source: SecretSource, bytes: u64) -> StoredVersion {
        StoredVersion {
            number: SecretVersion(number),
            record: VersionRecord {
                made_at: jiff::Timestamp::UNIX_EPOCH,
                actor: "root".to_owned(),
                source,
                bytes,
                recipients: Vec::new(),
            },
        }
    }

    #[test]
    fn what_is_counted_is_what_the_agent_gets_and_not_what_it_had() {
        let name = |text: &str| text.parse::<SecretName>().unwrap();
        let (short, long) = (
            version(1, SecretSource::Given, 5),
            version(2, SecretSource::Given, 60_000),
        );
        let stored = BTreeMap::from([
            (name("ASKED"), vec![short.clone(), long]),
            (
                name("BACK"),
                vec![short, version(2, SecretSource::Given, 7)],
            ),
            (name("UNUSED"), vec![version(1, SecretSource::Given, 9)]),
        ]);
        let versions = [("ASKED", 2), ("BACK", 1), ("ABSENT", 1)];
        let versions = versions.map(|(text, number)| (name(text), SecretVersion(number)));
        let found: Vec<_> = lengths(&versions.into(), &stored).collect();
        assert_eq!(found, [60_000, 5]);
    }

    #[rstest]
    #[case("given", None, Need::Missing)]
    #[case("given", Some("given"), Need::Have(SecretVersion(3)))]
    #[case("given", Some("op://a/b/c"), Need::Have(SecretVersion(3)))]
    #[case("generated", None, Need::Make)]
    #[case("generated", Some("given"), Need::Have(SecretVersion(3)))]
    #[case("op://a/b/c", None, Need::Make)]
    #[case("op://a/b/c", Some("op://a/b/c"), Need::Have(SecretVersion(3)))]
    #[case("op://a/b/c", Some("op://a/b/d"), Need::Make)]
    #[case("op://a/b/c", Some("given"), Need::Make)]
    fn a_value_is_made_only_where_there_is_none_of_that_source(
        #[case] wanted: &str,
        #[case] newest: Option<&str>,
        #[case] expected: Need,
    ) {
        let newest = newest.map(|from| version(3, source(from), 1));
        assert_eq!(need(&source(wanted), newest.as_ref()), expected);
    }

    #[test]
    fn what_systemd_would_refuse_is_refused_before() {
        let tenant = "acme".parse().unwrap();
        assert!(fits(&tenant, [MAX_SECRETS_TOTAL].into_iter()).is_ok());
        assert!(fits(&tenant, [MAX_SECRETS_TOTAL, 1].into_iter()).is_err());
        assert!(fits(&tenant, [u64::MAX, u64::MAX].into_iter()).is_err());
    }
}
