//! All commits of a repository with the store's times, and what is to be said of those that do not verify.

use std::collections::HashSet;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;

use super::objects::{self, Objects};
use super::report::Blocked;
use crate::backup::certificate::Trust;
use crate::backup::commit::{Commit, CommitError, MAX_COMMIT, SignedCommit};
use crate::backup::id::Digest;
use crate::backup::names::{CommitName, ObjectNames};
use crate::backup::retention::Known;
use crate::object_store::{Collector, StoreError};

/// Commits that are read at the same time.
const READERS: usize = 16;

/// A commit that a trusted node signed.
pub(super) struct Found {
    pub(super) signed: SignedCommit,
    /// When the store first took these bytes.
    pub(super) stored: Timestamp,
    /// When it last took anything under this name.
    pub(super) touched: Timestamp,
}

impl Found {
    pub(super) fn known(&self) -> Known {
        Known {
            name: self.signed.name,
            repository: self.signed.commit.repository,
            writer: self.signed.node.to_string(),
            previous: self.signed.commit.previous,
            stored: self.stored,
            touched: self.touched,
            signed: self.signed.commit.time,
        }
    }
}

/// A commit that does not verify.
pub(super) struct Refused {
    pub(super) name: CommitName,
    pub(super) reason: CommitError,
    /// What it says it names. It is believed only as a reason to leave things alone.
    pub(super) claims: Option<Commit>,
    pub(super) touched: Timestamp,
    /// What it, or what was there before it, names cannot be told.
    is_riddle: bool,
}

enum Checked {
    Found(Box<Found>),
    Refused(Box<Refused>),
    /// Somebody else deleted it meanwhile, or it was deleted long ago and left a marker.
    Gone,
}

/// What a repository holds.
pub(super) struct Survey {
    pub(super) objects: Objects,
    /// The digests of everything that commits can name and that is there.
    pub(super) contents: HashSet<Digest>,
    pub(super) commits: Vec<Found>,
    pub(super) refused: Vec<Refused>,
}

impl Survey {
    pub(super) async fn take(
        store: &dyn Collector,
        names: ObjectNames,
        trust: &Trust,
    ) -> Result<Self, StoreError> {
        let objects = Objects::list(store, names).await?;
        let prefix = names.commits_prefix();
        let listed: Vec<CommitName> = objects
            .below(&prefix)
            .filter_map(|(name, _)| CommitName::parse(name.strip_prefix(&prefix)?))
            .collect();
        let checked: Vec<Checked> = stream::iter(listed)
            .map(|name| check(store, &objects, names, name, trust))
            .buffer_unordered(READERS)
            .try_collect()
            .await?;
        let mut contents = HashSet::new();
        for prefix in objects::contents(names) {
            let there = objects
                .below(&prefix)
                .filter(|(_, versions)| versions.iter().any(|version| !version.is_delete_marker));
            contents.extend(
                there.filter_map(|(name, _)| name.strip_prefix(&prefix)?.parse::<Digest>().ok()),
            );
        }
        let mut survey = Self {
            objects,
            contents,
            commits: Vec::new(),
            refused: Vec::new(),
        };
        for checked in checked {
            match checked {
                Checked::Found(found) => survey.commits.push(*found),
                Checked::Refused(refused) => survey.refused.push(*refused),
                Checked::Gone => {}
            }
        }
        survey.commits.sort_by_key(|found| found.signed.name);
        survey.refused.sort_by_key(|refused| refused.name);
        Ok(survey)
    }

    /// What forbids to delete anything here.
    pub(super) fn blocked(&self, drop_refused: bool) -> Option<Blocked> {
        if drop_refused {
            return None;
        }
        let riddle = self.refused.iter().find(|refused| refused.is_riddle);
        if let Some(refused) = riddle {
            return Some(Blocked::Commit(refused.name));
        }
        // Before the first commit nothing can be judged; after it, hiding all must not help.
        (self.commits.is_empty() && self.refused.is_empty()).then_some(Blocked::NoCommit)
    }
}

async fn check(
    store: &dyn Collector,
    objects: &Objects,
    names: ObjectNames,
    name: CommitName,
    trust: &Trust,
) -> Result<Checked, StoreError> {
    let object = names.commit(&name);
    let versions = objects.versions(&object);
    let touched = versions.iter().map(|version| version.modified).max();
    let touched = touched.unwrap_or_default();
    if versions.iter().all(|version| version.is_delete_marker) {
        return Ok(Checked::Gone);
    }
    let refused = |reason, claims, is_riddle| {
        Checked::Refused(Box::new(Refused {
            name,
            reason,
            claims,
            touched,
            is_riddle,
        }))
    };
    let read = match objects.read(store, &object, name.digest, MAX_COMMIT).await {
        Err(source) if !source.kind.is_general() => {
            return Ok(refused(CommitError::Unread { name, source }, None, true));
        }
        read => read?,
    };
    let Some((bytes, stored)) = read else {
        let is_there = store.head(&object).await?.is_some();
        let is_plain = versions.iter().all(|version| version.version.is_none());
        if is_plain && !is_there {
            return Ok(Checked::Gone);
        }
        return Ok(refused(CommitError::Name(name), None, true));
    };
    Ok(
        match SignedCommit::verify_of_any(name, bytes.to_vec(), trust) {
            Ok(signed) => Checked::Found(Box::new(Found {
                signed,
                stored,
                touched,
            })),
            Err(reason) => {
                let claims = Commit::claimed(&bytes);
                // These are the bytes that were meant, so without any claim there is none.
                let is_riddle = claims.is_none() && Commit::is_of_another_version(&bytes);
                refused(reason, claims, is_riddle)
            }
        },
    )
}
