//! Marks: objects in the store that say what will be deleted, so that there is a grace period to object.
//!
//! Anyone who can write to the store can make or remove one. A forged mark only takes the wait away, not
//! the other conditions; a lost one only begins the wait again.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::objects::Objects;
use crate::backup::FORMAT_VERSION;
use crate::backup::id::Digest;
use crate::backup::names::ObjectNames;
use crate::object_store::{Collector, StoreError};

const FORMAT: &str = "tenantd-mark";
/// Longest mark, in bytes.
const MAX_MARK: u64 = 16 << 20;
/// Names in one mark; 130 bytes each fit well.
const MAX_NAMES: usize = 100_000;
/// More marks than this are not read: a collection makes one.
const MAX_MARKS: usize = 64;

#[derive(Serialize, Deserialize)]
struct MarkObject {
    format: String,
    version: u32,
    /// Names without the repository's prefix.
    objects: Vec<String>,
}

/// A mark that was read.
pub(super) struct Mark {
    /// Its object's name.
    pub(super) object: String,
    /// When it was stored.
    pub(super) since: Timestamp,
    /// The full names that it marks.
    pub(super) names: Vec<String>,
}

/// All marks of a repository.
#[derive(Default)]
pub(super) struct Marks {
    pub(super) marks: Vec<Mark>,
    /// What lies among the marks and is none.
    pub(super) junk: Vec<String>,
}

impl Marks {
    /// Reads what the survey found; `clock` is the running collection's own object there.
    pub(super) async fn read(
        store: &dyn Collector,
        objects: &Objects,
        names: ObjectNames,
        clock: Option<&str>,
    ) -> Result<Self, StoreError> {
        let prefix = names.marks_prefix();
        let mut found = Self::default();
        for (object, _) in objects.below(&prefix) {
            if Some(object) == clock {
                continue;
            }
            let digest = object.strip_prefix(&prefix).and_then(|d| d.parse().ok());
            let read = match digest {
                Some(digest) if found.marks.len() < MAX_MARKS => {
                    match objects.read(store, object, digest, MAX_MARK).await {
                        // A mark that nobody can read marks nothing.
                        Err(error) if !error.kind.is_general() => None,
                        read => read?,
                    }
                }
                _ => None,
            };
            let mark = read.and_then(|(bytes, since)| Some((parse(&bytes)?, since)));
            match mark {
                Some((marked, since)) => found.marks.push(Mark {
                    object: object.to_owned(),
                    since,
                    names: marked
                        .iter()
                        .map(|name| format!("{}{name}", names.all()))
                        .collect(),
                }),
                None => found.junk.push(object.to_owned()),
            }
        }
        Ok(found)
    }
}

/// The names that a mark gives, without the repository's prefix; `None` where it is none.
pub(super) fn parse(bytes: &[u8]) -> Option<Vec<String>> {
    let mark: MarkObject = serde_json::from_slice(bytes).ok()?;
    (mark.format == FORMAT && mark.version == FORMAT_VERSION).then_some(mark.objects)
}

impl Mark {
    pub(super) fn is_ripe(&self, now: Timestamp, grace: SignedDuration) -> bool {
        now.duration_since(self.since) >= grace
    }
}

/// The object that marks `names`, and its name; as many as fit.
pub(super) fn make(names: ObjectNames, marked: &[&str]) -> (String, Bytes) {
    let prefix = names.all();
    let own = |name: &&str| name.strip_prefix(&prefix).map(str::to_owned);
    let object = MarkObject {
        format: FORMAT.to_owned(),
        version: FORMAT_VERSION,
        objects: marked.iter().take(MAX_NAMES).filter_map(own).collect(),
    };
    // Names always have a JSON form.
    let mut bytes = serde_json::to_vec(&object).unwrap_or_default();
    bytes.push(b'\n');
    let name = format!("{}{}", names.marks_prefix(), Digest::of(&bytes));
    (name, bytes.into())
}
