//! What the last verification and the last drill of each repository found, remembered beside the repository.
//! It records; what follows from it is shown by whoever asks.

use camino::Utf8PathBuf;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ProtectError;
use crate::host::files;
use crate::layout::Layout;

/// Longest record.
const LIMIT: u64 = 64 << 10;

/// What was found by looking.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Checks {
    /// By the last `tenantd verify`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Checked>,
    /// By the last `tenantd drill`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<Checked>,
}

/// When something was looked at, and how it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Checked {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The newest snapshot then.
    pub snapshot: u64,
    /// How it was.
    pub outcome: CheckOutcome,
    /// What was looked at, or what is wrong, in a line.
    pub detail: String,
}

/// How something was that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CheckOutcome {
    /// As it should be.
    Good,
    /// Something is wrong.
    Faulty,
    /// It could not be looked at, and the detail says why.
    Skipped,
}

impl Checks {
    /// What was found wrong, in a line for each kind of check.
    pub fn failures(&self) -> impl Iterator<Item = String> {
        let each = [("verification", &self.verify), ("drill", &self.drill)];
        each.into_iter().filter_map(|(what, checked)| {
            let checked = checked.as_ref()?;
            let is_faulty = checked.outcome == CheckOutcome::Faulty;
            is_faulty.then(|| format!("the last {what} of its backups failed: {}", checked.detail))
        })
    }
}

fn path(layout: &Layout, name: &str) -> Utf8PathBuf {
    layout.repository_dir(name).join("checks.json")
}

/// What is remembered of the repository of `name`; a record that cannot be read says nothing.
pub fn read_checks(layout: &Layout, name: &str) -> Checks {
    let path = path(layout, name);
    match files::read(&path, LIMIT) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(%path, %error, "a record of checks is broken; the next check replaces it");
            Checks::default()
        }),
        Err(error) => {
            if !error.is_absent() {
                tracing::warn!(%path, error = &error as &dyn std::error::Error, "checks cannot be read");
            }
            Checks::default()
        }
    }
}

/// Remembers something of the repository of `name`.
pub(super) fn note_check(
    layout: &Layout,
    name: &str,
    note: impl FnOnce(&mut Checks),
) -> Result<(), ProtectError> {
    let mut checks = read_checks(layout, name);
    note(&mut checks);
    let path = path(layout, name);
    let bytes = serde_json::to_vec(&checks).map_err(|source| ProtectError::Document {
        path: path.clone(),
        source,
    })?;
    Ok(files::write(&path, &bytes, 0o600)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drill_is_noted_beside_a_verification_and_damage_says_nothing() {
        let guard = tempfile::tempdir().unwrap();
        let layout = Layout::rooted(Utf8PathBuf::from_path_buf(guard.path().to_owned()).unwrap());
        assert_eq!(read_checks(&layout, "acme"), Checks::default());
        std::fs::create_dir_all(layout.repository_dir("acme")).unwrap();
        let checked = Checked {
            at: Timestamp::UNIX_EPOCH,
            snapshot: 3,
            outcome: CheckOutcome::Faulty,
            detail: "2 faults".to_owned(),
        };
        note_check(&layout, "acme", |checks| {
            checks.verify = Some(checked.clone());
        })
        .unwrap();
        note_check(&layout, "acme", |checks| {
            checks.drill = Some(checked.clone());
        })
        .unwrap();
        let expected = Checks {
            verify: Some(checked.clone()),
            drill: Some(checked),
        };
        assert_eq!(read_checks(&layout, "acme"), expected);
        std::fs::write(path(&layout, "acme"), "{").unwrap();
        assert_eq!(read_checks(&layout, "acme"), Checks::default());
    }
}
