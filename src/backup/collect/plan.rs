//! What to mark and what to delete: a pure decision over names, times and what commits name.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};

use super::beats::Beats;
use super::marks::Marks;
use super::objects::Objects;
use crate::backup::id::Digest;

/// A commit, as far as deleting is concerned.
pub(super) struct CommitFacts {
    /// Its object.
    pub(super) object: String,
    /// What it names.
    pub(super) names: HashSet<Digest>,
    /// Whether it stays.
    pub(super) is_kept: bool,
}

/// What is to be done.
#[derive(Default)]
pub(super) struct Plan<'a> {
    /// Commits to delete first.
    pub(super) commits: Vec<&'a CommitFacts>,
    /// Objects to delete then: no commit that stays names them.
    pub(super) objects: Vec<&'a str>,
    /// Marks to delete: they mark nothing any more, or what was meant otherwise.
    pub(super) marks: Vec<&'a str>,
    /// What to mark.
    pub(super) mark: Vec<&'a str>,
    /// What was marked less than a grace period ago.
    pub(super) waiting: Vec<&'a str>,
    /// What is needed, or too young to tell.
    pub(super) kept: Vec<&'a str>,
}

/// Plans a collection at `now`, the store's time.
///
/// `contents` are the prefixes of what commits name; of the heartbeats, the newest of each epoch stay.
pub(super) fn plan<'a>(
    objects: &'a Objects,
    contents: &'a [String],
    commits: &'a [CommitFacts],
    beats: &'a Beats,
    marks: &'a Marks,
    now: Timestamp,
    grace: SignedDuration,
) -> Plan<'a> {
    let staying = commits.iter().filter(|commit| commit.is_kept);
    let staying: HashSet<&str> = staying.map(|commit| commit.object.as_str()).collect();
    let mut needed = HashSet::new();
    for commit in commits.iter().filter(|commit| commit.is_kept) {
        needed.extend(&commit.names);
    }
    let is_in = |names: &HashSet<&Digest>, name: &str| {
        let digest = name.rsplit('/').next().and_then(|last| last.parse().ok());
        digest.is_some_and(|digest: Digest| names.contains(&digest))
    };
    let (mut marked, mut ripe) = (HashSet::new(), HashSet::new());
    let mut plan = Plan::default();
    for mark in &marks.marks {
        // A marked commit that stays: another policy was meant, so the whole mark is withdrawn.
        let is_withdrawn = mark
            .names
            .iter()
            .any(|name| staying.contains(name.as_str()));
        // What it marks is gone, or is needed again by a commit that came late. If that goes one
        // day, it is marked anew and waits again.
        let is_over = mark
            .names
            .iter()
            .all(|name| !objects.has(name) || is_in(&needed, name));
        if is_withdrawn || is_over {
            plan.marks.push(&mark.object);
            continue;
        }
        marked.extend(mark.names.iter().map(String::as_str));
        if mark.is_ripe(now, grace) {
            ripe.extend(mark.names.iter().map(String::as_str));
        }
    }
    let is_old = |name: &str| {
        let modified = objects.modified(name);
        modified.is_some_and(|modified| now.duration_since(modified) >= grace)
    };
    let junk = marks.junk.iter().map(String::as_str);
    plan.marks.extend(junk.filter(|name| is_old(name)));

    let mut named = HashSet::new();
    let drop = |plan: &mut Plan<'a>, name: &'a str| {
        let to = if marked.contains(name) {
            &mut plan.waiting
        } else {
            &mut plan.mark
        };
        to.push(name);
    };
    for commit in commits {
        if commit.is_kept {
            plan.kept.push(&commit.object);
        } else if ripe.contains(commit.object.as_str()) {
            plan.commits.push(commit);
        } else {
            // Until it is ripe it can still be restored.
            named.extend(&commit.names);
            drop(&mut plan, &commit.object);
        }
    }
    for (name, _) in contents.iter().flat_map(|prefix| objects.below(prefix)) {
        if is_in(&needed, name) || !is_old(name) {
            plan.kept.push(name);
        } else if ripe.contains(name) && !is_in(&named, name) {
            plan.objects.push(name);
        } else {
            drop(&mut plan, name);
        }
    }
    for (name, _) in objects.below(&beats.prefix) {
        if beats.newest.contains(name) || !is_old(name) {
            plan.kept.push(name);
        } else if ripe.contains(name) {
            plan.objects.push(name);
        } else {
            drop(&mut plan, name);
        }
    }
    plan
}
