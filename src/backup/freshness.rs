//! Whether the newest snapshot that a store shows is new enough to be believed: a pure judgement.
//! What was seen, said and allowed is its callers' to find out.

use jiff::{SignedDuration, Timestamp};

use super::names::CommitName;

/// A time may be ahead of this host's clock by this much without anything being doubted.
const AHEAD: SignedDuration = SignedDuration::from_hours(1);

/// What the operator demands of a snapshot that nobody named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demands {
    /// It must speak for a time not before this one.
    pub not_before: Option<Timestamp>,
    /// It must speak for a time not longer ago than this.
    pub max_age: Option<SignedDuration>,
}

/// What the newest heartbeat that a trusted node signed says of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// When.
    pub time: Timestamp,
    /// The newest commit at that time; `None` when it names none of this repository.
    pub head: Option<CommitName>,
}

/// What there is to judge by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// The newest commit that the store shows and a trusted node signed.
    pub head: CommitName,
    /// The time that it says its data is of.
    pub time: Timestamp,
    /// The highest commit that a trusted node signed in a version of the format that is not known here.
    pub unreadable: Option<CommitName>,
    /// The newest commit that this host knows was stored.
    pub seen: Option<CommitName>,
    /// What the newest heartbeat says, where there is one.
    pub word: Option<Word>,
    /// This host's time.
    pub now: Timestamp,
}

/// Why a snapshot is not taken unless the operator allows it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// A newer tenantd has written on.
    #[error(
        "the newest snapshot, {}, is in a format that this tenantd does not read; the newest that \
         it reads is {}. Update tenantd",
        place(.newer), place(.found)
    )]
    Unreadable {
        /// What would be taken.
        found: CommitName,
        /// What is newer.
        newer: CommitName,
    },
    /// This host knows of a newer one.
    #[error(
        "the newest snapshot in the store is {}, but this host has stored {}: the store was \
         rolled back or has lost it, or hides it",
        place(.found), place(.seen)
    )]
    Seen {
        /// What would be taken.
        found: CommitName,
        /// What this host knows of.
        seen: CommitName,
    },
    /// The node has said that there is a newer one.
    #[error(
        "the newest snapshot in the store is {}, but the node's heartbeat of {} names {}: the \
         store was rolled back or has lost it, or hides it",
        place(.found), when(.time), place(.named)
    )]
    Named {
        /// What would be taken.
        found: CommitName,
        /// What the heartbeat names.
        named: CommitName,
        /// When the heartbeat was made.
        time: Timestamp,
    },
    /// It says that it comes from the future, which proves no age.
    #[error(
        "the newest snapshot, {}, is dated {}, later than this host's {}; a wrong date proves no \
         age. Set the clock right",
        place(.found), when(.time), when(.now)
    )]
    Future {
        /// What would be taken.
        found: CommitName,
        /// The time that it, or its heartbeat, says.
        time: Timestamp,
        /// This host's time.
        now: Timestamp,
    },
    /// It is older than the settings allow.
    #[error(
        "the newest snapshot, {}, was the newest at {}, before {}, which `not-before` under \
         [restore] in node.toml asks for",
        place(.found), when(.time), when(.not_before)
    )]
    Before {
        /// What would be taken.
        found: CommitName,
        /// The latest time that it is known to speak for.
        time: Timestamp,
        /// What the operator demands.
        not_before: Timestamp,
    },
    /// It is older than the settings allow.
    #[error(
        "the newest snapshot, {}, was the newest at {}, {} ago; `max-age` under [restore] in \
         node.toml allows {}",
        place(.found), when(.time), length(*.age), length(*.max_age)
    )]
    Old {
        /// What would be taken.
        found: CommitName,
        /// The latest time that it is known to speak for.
        time: Timestamp,
        /// How long ago that is.
        age: SignedDuration,
        /// What the operator allows.
        max_age: SignedDuration,
    },
}

/// A commit for people: the number is what commands take.
fn place(name: &CommitName) -> String {
    let digest = name.digest.to_string();
    let (sequence, epoch) = (name.sequence, name.epoch);
    format!("number {sequence} of epoch {epoch} ({}…)", &digest[..12])
}

fn when(time: &Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn length(time: SignedDuration) -> String {
    let hours = time.as_hours();
    match hours {
        48.. => format!("{} days", hours / 24),
        2.. => format!("{hours} hours"),
        _ => format!("{} minutes", time.as_mins()),
    }
}

/// Whether the head of a repository may be taken for the newest state that there is.
///
/// Commits are compared by epoch, then sequence: a node that was replaced says nothing about what its
/// successor has written since.
///
/// # Errors
/// The first reason to doubt it; the worst comes first.
pub fn judge(demands: &Demands, evidence: &Evidence) -> Result<(), Stale> {
    let Evidence {
        head: found,
        unreadable,
        seen,
        word,
        now,
        ..
    } = *evidence;
    if let Some(newer) = unreadable.filter(|newer| is_behind(found, *newer)) {
        return Err(Stale::Unreadable { found, newer });
    }
    if let Some(seen) = seen.filter(|seen| is_behind(found, *seen)) {
        return Err(Stale::Seen { found, seen });
    }
    if let Some((time, named)) = word.and_then(|word| Some((word.time, word.head?)))
        && is_behind(found, named)
    {
        return Err(Stale::Named { found, named, time });
    }
    if demands.not_before.is_none() && demands.max_age.is_none() {
        return Ok(());
    }
    let time = speaks_for(evidence);
    if time > now + AHEAD {
        return Err(Stale::Future { found, time, now });
    }
    if let Some(not_before) = demands.not_before.filter(|not_before| time < *not_before) {
        return Err(Stale::Before {
            found,
            time,
            not_before,
        });
    }
    let age = now.duration_since(time);
    match demands.max_age {
        Some(max_age) if age > max_age => Err(Stale::Old {
            found,
            time,
            age,
            max_age,
        }),
        _ => Ok(()),
    }
}

/// Whether a commit cannot be the newest where the other one was: it is of a lower rank, or of the same
/// with other content.
fn is_behind(found: CommitName, other: CommitName) -> bool {
    let rank = |name: CommitName| (name.epoch, name.sequence);
    rank(found) < rank(other) || rank(found) == rank(other) && found.digest != other.digest
}

/// The latest time at which the head is known to have been the newest: that of a heartbeat which names
/// it, else its own.
fn speaks_for(evidence: &Evidence) -> Timestamp {
    match evidence.word {
        Some(word) if word.head == Some(evidence.head) => word.time.max(evidence.time),
        _ => evidence.time,
    }
}

#[cfg(test)]
#[path = "freshness_tests.rs"]
mod tests;
