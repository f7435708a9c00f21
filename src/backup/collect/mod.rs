//! Deleting what no snapshot that is kept needs: run with a key that may delete, away from the host.
//!
//! It has the operator's root key and the listing, no identity and no word from the host. It believes
//! signatures and the store's times; it deletes on nobody else's word:
//!
//! - An object is deleted only if no commit that stays names it, it is older than the grace period, and
//!   a mark that says so is older than the grace period too.
//! - Such an object stays garbage: a writer names only what its own newest commit names and what it has
//!   just stored. So two collectors, or one that died anywhere, do no harm.
//! - Commits go before what only they name, so that what is listed can be restored.
//! - Where it cannot tell what a commit names, it deletes nothing at all.

mod beats;
#[cfg(test)]
pub(super) mod fuzz_mark;
mod marks;
mod named;
mod objects;
mod plan;
mod report;
mod survey;
mod sweep;

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use self::beats::Beats;
use self::marks::Marks;
use self::named::Named;
use self::plan::{CommitFacts, plan};
use self::survey::Survey;
use self::sweep::Sweep;
use super::certificate::Trust;
use super::id::{BucketPrefix, random};
use super::names::ObjectNames;
use super::retention::{Known, Policy, Reason, judge};
use crate::object_store::{Collector, StoreError, StoreErrorKind};

pub use objects::find_repositories;
pub use report::{Amount, Blocked, CollectReport, Fate, JudgedSnapshot, RefusedSnapshot};

/// What to collect by.
#[derive(Debug, Clone, Copy)]
pub struct CollectRequest {
    /// What to keep.
    pub policy: Policy,
    /// Only say what would be done; nothing is written either.
    pub dry_run: bool,
    /// Let commits go that no trusted node signed, or that name what is lost, instead of leaving
    /// alone what they name.
    pub drop_refused: bool,
    /// This host's time, which a dry run judges by.
    pub now: Timestamp,
}

/// Why a collection broke off. What was not done yet is done by the next one.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The store.
    #[error("repository {repository} could not be collected to the end; run it again")]
    Store {
        /// Which.
        repository: BucketPrefix,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The kernel gave no random bytes.
    #[error("the kernel gave no random bytes")]
    Random(#[source] getrandom::Error),
}

/// Judges the snapshots of one repository, marks what nobody needs, and deletes what was marked
/// at least a grace period ago.
///
/// # Errors
/// The store fails. What forbids collecting is in the report, not an error.
pub async fn collect(
    store: &Arc<dyn Collector>,
    prefix: BucketPrefix,
    trust: &Trust,
    request: &CollectRequest,
) -> Result<CollectReport, CollectError> {
    let names = ObjectNames(prefix);
    let failed = |source| CollectError::Store {
        repository: prefix,
        source,
    };
    if request.dry_run {
        return Collection::new(store, names, trust, request, None)
            .run()
            .await
            .map_err(failed);
    }
    let clock = random::<16>().map_err(CollectError::Random)?;
    let clock = format!("{}clock-{}", names.marks_prefix(), hex::encode(clock));
    // The store's clock is the only one that all who write there share.
    let text = Bytes::from_static(b"tenantd asks this store for the time\n");
    store.put(&clock, text).await.map_err(failed)?;
    let ran = Collection::new(store, names, trust, request, Some(&clock))
        .run()
        .await;
    let versions = store.list_versions(&clock).await.map_err(failed)?;
    for version in versions {
        match store.delete_version(&version).await {
            // It lies among the marks, where the next collection that may delete removes it.
            Err(error) if error.kind != StoreErrorKind::Denied => return Err(failed(error)),
            _ => {}
        }
    }
    ran.map_err(failed)
}

struct Collection<'a> {
    store: &'a Arc<dyn Collector>,
    names: ObjectNames,
    trust: &'a Trust,
    request: &'a CollectRequest,
    clock: Option<&'a str>,
}

impl<'a> Collection<'a> {
    fn new(
        store: &'a Arc<dyn Collector>,
        names: ObjectNames,
        trust: &'a Trust,
        request: &'a CollectRequest,
        clock: Option<&'a str>,
    ) -> Self {
        Self {
            store,
            names,
            trust,
            request,
            clock,
        }
    }

    async fn run(&self) -> Result<CollectReport, StoreError> {
        let CollectRequest {
            policy, dry_run, ..
        } = *self.request;
        let survey = Survey::take(self.store.as_ref(), self.names, self.trust).await?;
        let clock = self.clock.map(|clock| survey.objects.modified(clock));
        let now = clock.unwrap_or(Some(self.request.now));
        let mut report = CollectReport::new(self.names.0, now.unwrap_or_default(), &survey);
        let Some(now) = now else {
            return Ok(report.blocked(Blocked::Listing));
        };
        if let Some(blocked) = survey.blocked(self.request.drop_refused) {
            return Ok(report.blocked(blocked));
        }
        let mut reader = Named::new(self.store.as_ref(), self.names, &survey.objects);
        let mut facts = Vec::new();
        let mut whole: Vec<Known> = Vec::new();
        for found in &survey.commits {
            let names = match reader.of(&found.signed.commit).await? {
                Ok(names) => names,
                Err(list) if !self.request.drop_refused => {
                    let commit = found.signed.name;
                    return Ok(report.blocked(Blocked::List { commit, list }));
                }
                Err(list) => HashSet::from([list]),
            };
            if names.iter().all(|digest| survey.contents.contains(digest)) {
                whole.push(found.known());
            }
            facts.push(CommitFacts {
                object: self.names.commit(&found.signed.name),
                names,
                is_kept: true,
            });
        }
        let mut judged = match judge(&policy, now, &whole) {
            Ok(judged) => judged,
            Err(error) => return Ok(report.blocked(Blocked::Lines(error))),
        };
        for (found, facts) in survey.commits.iter().zip(&mut facts) {
            let is_young = now.duration_since(found.touched) < policy.grace;
            // What cannot be restored as a whole takes no place from what can, and may still hold what
            // somebody needs.
            let reasons = judged.entry(found.signed.name).or_insert_with(|| {
                let is_kept = is_young || !self.request.drop_refused;
                is_kept.then_some(Reason::Incomplete).into_iter().collect()
            });
            facts.is_kept = !reasons.is_empty();
        }
        report.judged(&survey, &judged);

        for refused in &survey.refused {
            let is_kept =
                !self.request.drop_refused || now.duration_since(refused.touched) < policy.grace;
            let mut names = HashSet::new();
            if let Some(claims) = refused.claims.as_ref().filter(|_| is_kept) {
                // A list that is not there names nothing that could be lost by it.
                names = reader.of(claims).await?.unwrap_or_default();
            }
            facts.push(CommitFacts {
                object: self.names.commit(&refused.name),
                names,
                is_kept,
            });
        }

        let store = self.store.as_ref();
        let marks = Marks::read(store, &survey.objects, self.names, self.clock).await?;
        let beats = Beats::read(store, &survey.objects, self.names, self.trust).await?;
        let contents = objects::contents(self.names);
        let plan = plan(
            &survey.objects,
            &contents,
            &facts,
            &beats,
            &marks,
            now,
            policy.grace,
        );
        let sweep = Sweep {
            store: self.store.as_ref(),
            names: self.names,
            objects: &survey.objects,
            dry_run,
        };
        sweep.carry_out(plan, &mut report).await?;
        if !dry_run {
            let before = now - policy.grace;
            report.swept = self.store.sweep(&self.names.all(), before).await?;
        }
        Ok(report)
    }
}
