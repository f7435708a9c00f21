//! Carries out a plan: commits first, then what only they named, then marks; each delete may be repeated.

use std::collections::{HashMap, HashSet};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;

use super::marks;
use super::objects::Objects;
use super::plan::Plan;
use super::report::{Amount, CollectReport, Fate};
use crate::backup::id::Digest;
use crate::backup::names::ObjectNames;
use crate::object_store::{Collector, Deleted, StoreError, StoreErrorKind};

/// Objects that are deleted at the same time.
const DELETES: usize = 8;

/// How it ended with an object, of which some versions may be gone.
enum End {
    Gone,
    /// The store holds at least one version back.
    Locked(Option<Timestamp>),
    /// The store's key may not delete at least one version.
    Denied,
}

pub(super) struct Sweep<'a> {
    pub(super) store: &'a dyn Collector,
    pub(super) names: ObjectNames,
    pub(super) objects: &'a Objects,
    pub(super) dry_run: bool,
}

impl Sweep<'_> {
    pub(super) async fn carry_out(
        &self,
        plan: Plan<'_>,
        report: &mut CollectReport,
    ) -> Result<(), StoreError> {
        let commits: Vec<&str> = plan.commits.iter().map(|c| c.object.as_str()).collect();
        let left = self.delete(&commits, report).await?;
        // What a commit that is still there names stays with it, so that it can be restored.
        let held: HashSet<Digest> = plan
            .commits
            .iter()
            .filter(|commit| left.contains_key(commit.object.as_str()))
            .flat_map(|commit| &commit.names)
            .copied()
            .collect();
        for commit in &plan.commits {
            let fate = left.get(commit.object.as_str()).copied();
            report.fate(&commit.object, fate.unwrap_or(Fate::Deleted));
        }
        let is_held = |name: &str| {
            let digest = name.rsplit('/').next().and_then(|last| last.parse().ok());
            digest.is_some_and(|digest: Digest| held.contains(&digest))
        };
        let objects: Vec<&str> = plan.objects.into_iter().filter(|n| !is_held(n)).collect();
        self.delete(&objects, report).await?;
        if !self.dry_run {
            self.delete(&plan.marks, &mut CollectReport::default())
                .await?;
            if !plan.mark.is_empty() {
                let (name, bytes) = marks::make(self.names, &plan.mark);
                self.store.put(&name, bytes).await?;
            }
        }
        for name in plan.mark.iter().chain(&plan.waiting) {
            report.fate(name, Fate::Marked);
        }
        report.marked = self.amount(&plan.mark);
        report.waiting = self.amount(&plan.waiting);
        report.kept = self.amount(&plan.kept);
        Ok(())
    }

    fn amount(&self, names: &[&str]) -> Amount {
        Amount {
            objects: names.len() as u64,
            bytes: names.iter().map(|name| self.objects.bytes(name)).sum(),
        }
    }

    /// Deletes all versions of these objects and adds to the report; gives those that are still there.
    async fn delete<'n>(
        &self,
        names: &[&'n str],
        report: &mut CollectReport,
    ) -> Result<HashMap<&'n str, Fate>, StoreError> {
        let mut left = HashMap::new();
        let mut ends = stream::iter(names)
            .map(async |name| Ok::<_, StoreError>((*name, self.delete_one(name).await?)))
            .buffer_unordered(DELETES);
        while let Some((name, end)) = ends.try_next().await? {
            let amount = self.amount(&[name]);
            match end {
                End::Gone => report.deleted.add(amount),
                End::Locked(until) => {
                    left.insert(name, Fate::Locked);
                    report.locked.add(amount);
                    report.locked_until = report.locked_until.max(until);
                }
                End::Denied => {
                    left.insert(name, Fate::Denied);
                    report.denied.add(amount);
                }
            }
        }
        Ok(left)
    }

    async fn delete_one(&self, name: &str) -> Result<End, StoreError> {
        let mut end = End::Gone;
        for version in self.objects.versions(name) {
            if self.dry_run {
                break;
            }
            end = match (self.store.delete_version(version).await, end) {
                (Ok(Deleted::Gone), end) => end,
                (Ok(Deleted::Locked { until }), End::Locked(before)) => {
                    // Both have to end before it can go.
                    End::Locked(until.max(before))
                }
                (Ok(Deleted::Locked { until }), _) => End::Locked(until),
                (Err(error), End::Locked(until)) if error.kind == StoreErrorKind::Denied => {
                    End::Locked(until)
                }
                (Err(error), _) if error.kind == StoreErrorKind::Denied => End::Denied,
                (Err(error), _) => return Err(error),
            };
        }
        Ok(end)
    }
}
