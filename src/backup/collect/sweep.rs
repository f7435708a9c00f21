//! Carries out a plan: commits first, then what only they named, then marks; each delete may be repeated.

use std::collections::HashSet;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;

use super::marks;
use super::objects::Objects;
use super::plan::Plan;
use super::report::{Amount, CollectReport, Fate};
use crate::backup::id::Digest;
use crate::backup::names::ObjectNames;
use crate::object_store::{Collector, Deleted, StoreError};

/// Objects that are deleted at the same time.
const DELETES: usize = 8;

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
        let locked = self.delete(&commits, report).await?;
        // What a locked commit names stays with it, so that it can be restored.
        let held: HashSet<Digest> = plan
            .commits
            .iter()
            .filter(|commit| locked.contains(commit.object.as_str()))
            .flat_map(|commit| &commit.names)
            .copied()
            .collect();
        for commit in &plan.commits {
            let is_locked = locked.contains(commit.object.as_str());
            let fate = if is_locked {
                Fate::Locked
            } else {
                Fate::Deleted
            };
            report.fate(&commit.object, fate);
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

    /// Deletes all versions of these objects and adds to the report; gives those that are locked.
    async fn delete<'n>(
        &self,
        names: &[&'n str],
        report: &mut CollectReport,
    ) -> Result<HashSet<&'n str>, StoreError> {
        let mut locked = HashSet::new();
        let mut ends = stream::iter(names)
            .map(async |name| Ok::<_, StoreError>((*name, self.delete_one(name).await?)))
            .buffer_unordered(DELETES);
        while let Some((name, end)) = ends.try_next().await? {
            match end {
                Deleted::Gone => report.deleted.add(self.amount(&[name])),
                Deleted::Locked { until } => {
                    locked.insert(name);
                    report.locked.add(self.amount(&[name]));
                    report.locked_until = latest(report.locked_until, until);
                }
            }
        }
        Ok(locked)
    }

    async fn delete_one(&self, name: &str) -> Result<Deleted, StoreError> {
        let mut end = Deleted::Gone;
        for version in self.objects.versions(name) {
            if self.dry_run {
                break;
            }
            let deleted = self.store.delete_version(version).await?;
            if let Deleted::Locked { until } = deleted {
                let before = match end {
                    Deleted::Locked { until } => until,
                    Deleted::Gone => None,
                };
                end = Deleted::Locked {
                    until: latest(before, until),
                };
            }
        }
        Ok(end)
    }
}

/// The later of two times, where there are any: when all can be deleted.
fn latest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.max(b)
}
