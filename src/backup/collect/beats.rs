//! Which heartbeats stay whatever their age: the newest of each epoch that a trusted node signed.
//! A restore looks for nothing else among them.

use std::collections::{BTreeMap, HashSet};

use super::objects::Objects;
use crate::backup::certificate::Trust;
use crate::backup::heartbeat::{MAX_HEARTBEAT, SignedHeartbeat};
use crate::backup::names::{HeartbeatName, ObjectNames};
use crate::object_store::{Collector, StoreError};

/// So many of an epoch are looked at for one that holds.
const MAX_TRIED: usize = 256;

/// The heartbeats of a repository, as far as deleting is concerned.
pub(super) struct Beats {
    /// What their names begin with.
    pub(super) prefix: String,
    /// The objects that stay.
    pub(super) newest: HashSet<String>,
}

impl Beats {
    /// Looks from the newest of each epoch down.
    pub(super) async fn read(
        store: &dyn Collector,
        objects: &Objects,
        names: ObjectNames,
        trust: &Trust,
    ) -> Result<Self, StoreError> {
        let prefix = names.heartbeats_prefix();
        let mut epochs: BTreeMap<u32, Vec<HeartbeatName>> = BTreeMap::new();
        for (object, _) in objects.below(&prefix) {
            let name = object.strip_prefix(&prefix).and_then(HeartbeatName::parse);
            if let Some(name) = name {
                epochs.entry(name.epoch).or_default().push(name);
            }
        }
        let mut newest = HashSet::new();
        for epoch in epochs.values_mut() {
            epoch.sort_unstable();
            for name in epoch.iter().rev().take(MAX_TRIED) {
                let object = names.heartbeat(name);
                let read = match objects
                    .read(store, &object, name.digest, MAX_HEARTBEAT)
                    .await
                {
                    // It may be a good one, so it stays; one below it does too.
                    Err(error) if !error.kind.is_general() => {
                        newest.insert(object);
                        continue;
                    }
                    read => read?,
                };
                let is_good = read.is_some_and(|(bytes, _)| is_signed(*name, &bytes, trust));
                if is_good {
                    newest.insert(object);
                    break;
                }
            }
        }
        Ok(Self { prefix, newest })
    }
}

/// Whether a trusted node signed it, of whichever repository it says it is: the object that tells which
/// one this is, is not signed.
fn is_signed(name: HeartbeatName, bytes: &[u8], trust: &Trust) -> bool {
    SignedHeartbeat::verify_of_any(name, bytes.to_vec(), trust).is_ok()
}
