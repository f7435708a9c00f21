//! Secrets as a spec names them: where a value comes from and how the agent gets it.
//! It knows names, sources and versions, and never a value.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use camino::Utf8PathBuf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problem;
use super::tables::Over;

/// Longest value of a secret, in bytes.
pub const MAX_SECRET: usize = 64 * 1024;

/// Most secrets that one tenant can have. With [`MAX_SECRETS_TOTAL`] it keeps a tenant's secrets
/// within what systemd gives one unit: 1 MiB (`CREDENTIALS_TOTAL_SIZE_MAX`).
pub const MAX_SECRETS: usize = 64;

/// Most bytes that all secrets of one tenant can have together.
pub const MAX_SECRETS_TOTAL: u64 = 768 * 1024;

/// Where the agent finds the files of its secrets.
pub const SECRETS_PATH: &str = "/run/secrets";

/// Where the program is, inside the container, that gives secrets as variables.
pub const ENTRY_PATH: &str = "/run/tenantd-entry";

/// The name of a secret: `[A-Za-z_][A-Za-z0-9_]{0,63}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretName(String);

impl SecretName {
    /// Longest name, in characters.
    pub const MAX_LEN: usize = 64;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no name of a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the name of a secret: at most 64 letters, digits and `_`, not starting with a digit"
)]
pub struct SecretNameError(String);

impl FromStr for SecretName {
    type Err = SecretNameError;

    fn from_str(text: &str) -> Result<Self, SecretNameError> {
        let starts_right = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if starts_right && is_plain && text.len() <= Self::MAX_LEN {
            Ok(Self(text.to_owned()))
        } else {
            Err(SecretNameError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for SecretName {
    type Error = SecretNameError;

    fn try_from(text: String) -> Result<Self, SecretNameError> {
        text.parse()
    }
}

impl From<SecretName> for String {
    fn from(name: SecretName) -> Self {
        name.0
    }
}

/// A secret's versions are numbered from 1; a version never changes its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretVersion(pub u32);

impl fmt::Display for SecretVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The version of each of a tenant's secrets that a revision runs with.
pub type SecretVersions = BTreeMap<SecretName, SecretVersion>;

/// `[secrets]`: secrets of the agent, by name.
pub type Secrets = BTreeMap<String, Secret>;

/// `secrets.NAME`: where its value comes from, and how the agent gets it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Secret {
    /// Name of its file below `/run/secrets`; the secret's own name when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Variable that has its value as well, for agents that read no files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// Where the value is asked for: `op://vault/item/field`, `sops:/path#key`, `age:/path`, `exec:/path words`.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Makes a random value at the first apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generate: Option<Generate>,
}

impl Over for Secret {
    /// A value comes from one place: a reference in a spec takes the place of the template's `generate`.
    fn over(self, base: Self) -> Self {
        let has_source = self.reference.is_some() || self.generate.is_some();
        let (reference, generate) = if has_source {
            (self.reference, self.generate)
        } else {
            (base.reference, base.generate)
        };
        Self {
            file: self.file.or(base.file),
            env: self.env.or(base.env),
            reference,
            generate,
        }
    }
}

/// What a generated value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Generate {
    /// 16 random bytes as 32 hexadecimal digits.
    Hex32,
    /// 32 random bytes as 64 hexadecimal digits.
    Hex64,
}

impl Generate {
    /// How many random bytes it is made of.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Hex32 => 16,
            Self::Hex64 => 32,
        }
    }

    /// The word in a spec.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hex32 => "hex32",
            Self::Hex64 => "hex64",
        }
    }
}

/// Where a value is asked for: a place outside of tenantd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Reference {
    /// A field in 1Password, read by its program `op`: the whole `op://vault/item/field`.
    OnePassword(String),
    /// One value of a file that `sops` decrypts; the keys that lead to it, outermost first.
    Sops {
        /// The file.
        path: Utf8PathBuf,
        /// The keys.
        keys: Vec<String>,
    },
    /// A whole file that is encrypted with age.
    Age(Utf8PathBuf),
    /// What a program prints; its words, without a shell.
    Exec(Vec<String>),
}

/// A text that is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no reference: write `op://vault/item/field`, `sops:/path#key`, `age:/path` or \
     `exec:/path words`, with plain absolute paths"
)]
pub struct ReferenceError(String);

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let refuse = || ReferenceError(text.to_owned());
        let path = |text: &str| {
            let plain = |part: &str| !matches!(part, "" | "." | "..");
            let is_plain = text
                .strip_prefix('/')
                .is_some_and(|rest| rest.split('/').all(plain));
            is_plain.then(|| Utf8PathBuf::from(text)).ok_or_else(refuse)
        };
        if text.len() > 1024 || text.chars().any(char::is_control) {
            return Err(refuse());
        }
        if let Some(rest) = text.strip_prefix("op://") {
            let parts: Vec<_> = rest.split('/').collect();
            let is_field = (3..=4).contains(&parts.len())
                && !parts.iter().any(|part| matches!(*part, "" | "." | ".."));
            return if is_field {
                Ok(Self::OnePassword(text.to_owned()))
            } else {
                Err(refuse())
            };
        }
        let (kind, rest) = text.split_once(':').ok_or_else(refuse)?;
        match kind {
            "sops" => {
                let (file, keys) = rest.split_once('#').ok_or_else(refuse)?;
                let keys: Vec<_> = keys.split('.').map(str::to_owned).collect();
                // They become a part of `sops --extract '["a"]["b"]'`.
                let is_key = |key: &String| {
                    let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
                    !key.is_empty() && key.chars().all(plain)
                };
                if !keys.iter().all(is_key) {
                    return Err(refuse());
                }
                Ok(Self::Sops {
                    path: path(file)?,
                    keys,
                })
            }
            "age" => path(rest).map(Self::Age),
            "exec" => {
                let words: Vec<_> = rest.split_whitespace().map(str::to_owned).collect();
                path(words.first().ok_or_else(refuse)?)?;
                Ok(Self::Exec(words))
            }
            _ => Err(refuse()),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnePassword(url) => f.write_str(url),
            Self::Sops { path, keys } => write!(f, "sops:{path}#{}", keys.join(".")),
            Self::Age(path) => write!(f, "age:{path}"),
            Self::Exec(words) => write!(f, "exec:{}", words.join(" ")),
        }
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

/// Where the value of a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretSource {
    /// Somebody gave it: `tenantd secret set`.
    Given,
    /// It is made here.
    Generated(Generate),
    /// It is asked for.
    Reference(Reference),
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given => f.write_str("given"),
            Self::Generated(generate) => write!(f, "generated ({})", generate.as_str()),
            Self::Reference(reference) => reference.fmt(f),
        }
    }
}

/// A secret with everything filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ResolvedSecret {
    /// Name of its file below [`SECRETS_PATH`].
    pub file: String,
    /// Variable that has its value as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// Where the value comes from.
    pub source: SecretSource,
}

/// Fills in what `[secrets]` leaves open. What [`check`] refuses is left out.
pub(super) fn resolve(secrets: Secrets) -> BTreeMap<SecretName, ResolvedSecret> {
    let resolved = secrets.into_iter().filter_map(|(name, secret)| {
        let source = match (&secret.reference, secret.generate) {
            (Some(reference), _) => SecretSource::Reference(reference.parse().ok()?),
            (None, Some(generate)) => SecretSource::Generated(generate),
            (None, None) => SecretSource::Given,
        };
        let secret = ResolvedSecret {
            file: secret.file.unwrap_or_else(|| name.clone()),
            env: secret.env,
            source,
        };
        Some((name.parse().ok()?, secret))
    });
    resolved.collect()
}

/// The rules that secrets must keep, beyond their types; `is_reserved` tells variables that
/// somebody else sets.
pub(super) fn check(secrets: &Secrets, is_reserved: impl Fn(&str) -> bool) -> Vec<Problem> {
    let mut findings = Vec::new();
    if secrets.len() > MAX_SECRETS {
        findings.push(Problem::at(
            ["secrets"],
            format!("{} secrets; a tenant can have {MAX_SECRETS}", secrets.len()),
        ));
    }
    let (mut files, mut variables) = (BTreeSet::new(), BTreeSet::new());
    for (name, secret) in secrets {
        let mut refuse = |key: Option<&str>, message: String| {
            let field = ["secrets", name].into_iter().chain(key);
            findings.push(Problem::at(field, message));
        };
        if let Err(error) = name.parse::<SecretName>() {
            refuse(None, error.to_string());
        }
        let file = secret.file.as_ref().unwrap_or(name);
        if !is_file_name(file) {
            refuse(
                Some("file"),
                format!(
                    "{file:?} is not the name of a file: at most 64 letters, digits, `.`, `_` and `-`, not starting with `.`"
                ),
            );
        }
        if !files.insert(file) {
            refuse(Some("file"), format!("two secrets have the file {file}"));
        }
        if let Some(variable) = &secret.env {
            if variable.parse::<SecretName>().is_err() {
                refuse(
                    Some("env"),
                    format!("{variable:?} is not the name of a variable"),
                );
            }
            if is_reserved(variable) {
                refuse(
                    Some("env"),
                    format!("`{variable}` is set already: by [env], systemd, Podman or tenantd"),
                );
            }
            if !variables.insert(variable) {
                refuse(
                    Some("env"),
                    format!("two secrets have the variable {variable}"),
                );
            }
        }
        if secret.reference.is_some() && secret.generate.is_some() {
            refuse(
                Some("generate"),
                "a value is generated or asked for, not both".to_owned(),
            );
        }
        if let Some(Err(error)) = secret.reference.as_deref().map(str::parse::<Reference>) {
            refuse(Some("ref"), error.to_string());
        }
    }
    findings
}

fn is_file_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with('.')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("op://vault/item/field")]
    #[case("op://vault/item/section/field")]
    #[case("sops:/etc/tenantd/secrets.yaml#acme.discord")]
    #[case("age:/etc/tenantd/discord.age")]
    #[case("exec:/usr/local/bin/fetch acme discord")]
    fn a_reference_is_written_as_it_was_read(#[case] text: &str) {
        assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
    }

    #[rstest]
    #[case("op://vault/item")]
    #[case("op://vault/../field")]
    #[case("sops:/etc/secrets.yaml")]
    #[case("sops:/etc/../root/secrets.yaml#key")]
    #[case("sops:/etc/secrets.yaml#a\"]")]
    #[case("age:secret.age")]
    #[case("age:/etc//secret.age")]
    #[case("exec:")]
    #[case("exec:fetch")]
    #[case("exec:/bin/a\nb")]
    #[case("vault:secret/acme")]
    fn what_could_lead_elsewhere_is_no_reference(#[case] text: &str) {
        assert!(text.parse::<Reference>().is_err());
    }

    #[rstest]
    #[case("A", true)]
    #[case("_a1", true)]
    #[case("", false)]
    #[case("1A", false)]
    #[case("A-B", false)]
    #[case("../A", false)]
    fn names_are_those_of_variables(#[case] text: &str, #[case] good: bool) {
        assert_eq!(text.parse::<SecretName>().is_ok(), good);
    }

    #[test]
    fn a_name_has_a_length() {
        assert!("A".repeat(64).parse::<SecretName>().is_ok());
        assert!("A".repeat(65).parse::<SecretName>().is_err());
    }

    fn checked(text: &str) -> String {
        let secrets: Secrets = toml::from_str(text).unwrap();
        let found = check(&secrets, |name| name == "HOME");
        found
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[rstest]
    #[case("A = {}\nB = { file = 'b', env = 'B' }", "")]
    #[case("A = { file = '../a' }", "is not the name of a file")]
    #[case("A = { file = 'x' }\nB = { file = 'x' }", "two secrets have the file")]
    #[case(
        "A = { env = 'X' }\nB = { env = 'X' }",
        "two secrets have the variable"
    )]
    #[case("A = { env = 'HOME' }", "is set already")]
    #[case("A = { env = 'a=b' }", "is not the name of a variable")]
    #[case("A = { ref = 'nowhere' }", "is no reference")]
    #[case("A = { ref = 'op://a/b/c', generate = 'hex32' }", "not both")]
    #[case("'a-b' = {}", "is not the name of a secret")]
    fn rules(#[case] text: &str, #[case] message: &str) {
        let found = checked(text);
        assert!(
            found.contains(message) && found.is_empty() == message.is_empty(),
            "{found}"
        );
    }

    #[test]
    fn a_reference_takes_the_place_of_a_generated_value() {
        let base: Secret = toml::from_str("env = 'TOKEN'\ngenerate = 'hex32'").unwrap();
        let over: Secret = toml::from_str("ref = 'op://a/b/c'").unwrap();
        let merged = over.over(base);
        assert_eq!(merged.env.as_deref(), Some("TOKEN"));
        assert!(merged.generate.is_none() && merged.reference.is_some());
    }
}
