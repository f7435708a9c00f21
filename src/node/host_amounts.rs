//! What this host has to promise. It looks and judges nothing: that is `capacity`'s.

use super::capacity::Amounts;
use crate::host::{facts, space};
use crate::layout::Layout;

/// What the host has. What cannot be seen counts as without end: it is no reason to refuse.
pub fn what_the_host_has(layout: &Layout) -> Amounts {
    Amounts {
        memory: facts::memory_total(layout.root()).unwrap_or(u64::MAX),
        cpu_millis: facts::processors() as u64 * 1000,
        storage: space::of(&layout.data_dir()).map_or(u64::MAX, |space| space.total),
    }
}
