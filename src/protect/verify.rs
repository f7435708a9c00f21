//! Verifies the repositories of this host's tenants and of the node, and remembers what was found.

use std::error::Error;
use std::sync::Arc;

use secrecy::SecretString;
use serde::Serialize;

use super::ProtectError;
use super::checks::{CheckOutcome, Checked, note_check};
use super::forget::forget_gone;
use super::opened::{identities, local_spec, trust};
use super::store::{Patience, open_store};
use super::tenant::{repositories, shown_name};
use crate::backup::{Progress, RemoteError, RemoteRepository, Share, VerifyReport, VerifyRequest};
use crate::host::clock;
use crate::layout::Layout;
use crate::node::NodeSettings;
use crate::object_store::{StoreError, StoreErrorKind};
use crate::tenant::TenantId;

/// What one verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verified {
    /// The tenant, or `(node)`.
    pub tenant: String,
    /// Whether every snapshot can be restored, as far as was looked.
    pub good: bool,
    /// Snapshots.
    pub snapshots: usize,
    /// The newest one's number.
    pub newest: u64,
    /// Packs that snapshots name.
    pub packs: usize,
    /// Their sizes added up.
    pub bytes: u64,
    /// Packs and parts of trees that were downloaded.
    pub downloaded: usize,
    /// Their sizes added up.
    pub downloaded_bytes: u64,
    /// Whether they were opened too.
    pub opened: bool,
    /// Commits off the chain.
    pub forks: Vec<String>,
    /// What is wrong.
    pub faults: Vec<Faulty>,
}

/// An object that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Faulty {
    /// Its name in the store.
    pub object: String,
    /// What is wrong.
    pub problem: String,
}

/// Verifies the repositories of `tenants`, of all and the node when there are none given, one after the other.
///
/// # Errors
/// The store or an identity cannot be used. What is wrong with a repository is in the result.
pub async fn verify(
    layout: &Layout,
    settings: &NodeSettings,
    tenants: &[TenantId],
    share: Share,
    identity: Option<&SecretString>,
    progress: Arc<dyn Progress>,
) -> Result<Vec<Verified>, ProtectError> {
    let names = if tenants.is_empty() {
        repositories(layout)
    } else {
        tenants.iter().map(ToString::to_string).collect()
    };
    let mut verified = Vec::new();
    for name in names {
        let one = verify_one(layout, settings, &name, share, identity, &progress).await?;
        let Some(one) = one else { continue };
        note_check(layout, &name, |checks| checks.verify = Some(noted(&one)))?;
        verified.push(one);
    }
    Ok(verified)
}

/// What makes a sample another one than the last.
///
/// # Errors
/// The kernel has no random numbers.
pub fn new_salt() -> Result<u64, ProtectError> {
    getrandom::u64().map_err(ProtectError::Random)
}

/// `None` where nothing was ever stored.
async fn verify_one(
    layout: &Layout,
    settings: &NodeSettings,
    name: &str,
    share: Share,
    identity: Option<&SecretString>,
    progress: &Arc<dyn Progress>,
) -> Result<Option<Verified>, ProtectError> {
    let missing = || ProtectError::NoRepository(name.to_owned());
    let spec = local_spec(layout, name)?.ok_or_else(missing)?;
    let store = open_store(&settings.store, Patience::Usual)?;
    let is_new = !layout.repository_dir(name).join("head.json").exists();
    let identities = identities(layout, identity)?;
    let trust = trust(settings)?;
    let looked = async {
        let opened = RemoteRepository::open(store, spec.prefix, Some(spec.id), trust);
        let remote = match opened.await {
            Err(RemoteError::Store(error)) if is_absent(&error) && is_new => return Ok(None),
            other => other?,
        };
        let snapshots = remote.snapshots().await?;
        let forgotten = forget_gone(layout, name, &snapshots);
        if let Err(error) = forgotten {
            let error = &error as &dyn Error;
            tracing::warn!(error, "the list of snapshots still has some that are gone");
        }
        if snapshots.commits.is_empty() && snapshots.refused.is_empty() && is_new {
            return Ok(None);
        }
        let keys = if identities.is_empty() {
            None
        } else {
            Some(remote.unlock(snapshots.newest()?, &identities).await?)
        };
        let request = VerifyRequest {
            share,
            keys: keys.as_ref(),
            progress: Arc::clone(progress),
        };
        let report = remote.verify(&request).await?;
        Ok(Some(told(shown_name(name), &report, keys.is_some())))
    };
    match looked.await {
        Ok(found) => Ok(found),
        // Neither says anything of the repository: the store is out of reach, or the identity is another's.
        Err(source @ (RemoteError::NoKey | RemoteError::Store(_))) if !is_gone(&source) => {
            let name = shown_name(name);
            Err(ProtectError::Read { name, source })
        }
        Err(error) => Ok(Some(unreadable(name, &spec.prefix.to_string(), &error))),
    }
}

fn is_absent(error: &StoreError) -> bool {
    matches!(error.kind, StoreErrorKind::NotFound)
}

/// Whether the store answers that something is not there which must be.
pub(super) fn is_gone(error: &RemoteError) -> bool {
    matches!(error, RemoteError::Store(error) if is_absent(error))
}

/// A repository that cannot be looked into at all.
fn unreadable(name: &str, prefix: &str, error: &RemoteError) -> Verified {
    Verified {
        tenant: shown_name(name),
        good: false,
        snapshots: 0,
        newest: 0,
        packs: 0,
        bytes: 0,
        downloaded: 0,
        downloaded_bytes: 0,
        opened: false,
        forks: Vec::new(),
        faults: vec![Faulty {
            object: prefix.to_owned(),
            problem: story(error),
        }],
    }
}

fn told(tenant: String, report: &VerifyReport, opened: bool) -> Verified {
    let refused = report.refused.iter().map(|refused| Faulty {
        object: refused.name.to_string(),
        problem: story(&refused.reason),
    });
    let faults = report.faults.iter().map(|fault| Faulty {
        object: fault.object.clone(),
        problem: story(&fault.problem),
    });
    Verified {
        tenant,
        good: report.is_good(),
        snapshots: report.commits,
        newest: report.newest.sequence.into(),
        packs: report.packs,
        bytes: report.bytes,
        downloaded: report.downloaded,
        downloaded_bytes: report.downloaded_bytes,
        opened: opened && report.downloaded > 0,
        forks: report.forks.iter().map(ToString::to_string).collect(),
        faults: refused.chain(faults).collect(),
    }
}

/// An error with its causes, in one line.
pub fn story(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    causes.join(": ")
}

fn noted(verified: &Verified) -> Checked {
    let detail = match verified.faults.as_slice() {
        [] => format!(
            "{} of {} packs and parts of trees {}",
            verified.downloaded,
            verified.packs,
            if verified.opened {
                "opened"
            } else {
                "downloaded"
            },
        ),
        [first, ..] => format!(
            "{} of its objects are wrong; first {}: {}",
            verified.faults.len(),
            first.object,
            first.problem
        ),
    };
    Checked {
        at: clock::now(),
        snapshot: verified.newest,
        outcome: if verified.good {
            CheckOutcome::Good
        } else {
            CheckOutcome::Faulty
        },
        detail,
    }
}
