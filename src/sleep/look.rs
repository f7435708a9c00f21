//! How a tenant is seen: a handful of small files, no process and no call to systemd.

use std::time::Instant;

use super::bed::Bed;
use super::decide::{Agent, Seen};
use crate::host::cgroup::{self, SliceUsage};
use crate::host::files;
use crate::host::freezer::{Freezer, Owner};
use crate::layout::Layout;
use crate::tenant::{Runtime, TenantId};

/// Longest `runtime.json`.
const LIMIT: u64 = 64 * 1024;

/// What the tenant's units say of it; none where it has none.
pub fn runtime(layout: &Layout, tenant: &TenantId) -> Option<Runtime> {
    let bytes = files::read(&layout.runtime_file(tenant), LIMIT).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Every tenant with units.
pub fn tenants(layout: &Layout) -> Vec<Runtime> {
    let entries = layout.tenants_dir().read_dir_utf8();
    let ids = entries.into_iter().flatten().flatten();
    ids.filter_map(|entry| runtime(layout, &entry.file_name().parse().ok()?))
        .collect()
}

/// Looks at one tenant.
pub fn look(layout: &Layout, bed: &Bed, now: Instant, has_swap: bool) -> Seen {
    let group = cgroup::payload(layout, &bed.tenant).ok().flatten();
    let usage = group.as_deref().and_then(SliceUsage::of);
    let record = Freezer::new(layout.clone()).record(&bed.tenant);
    let mut memory = bed.memory();
    let cpu = memory.note_cpu(now, usage.and_then(|usage| usage.cpu_us));
    // Its doors to the outside write there within seconds whenever something has passed.
    let written = [
        files::modified(&layout.egress_state_dir(&bed.tenant)),
        files::modified(&layout.endpoints_dir(&bed.tenant)),
    ];
    let egress = memory.note_egress(now, written);
    let agent = match record {
        _ if group.is_none() => Agent::Down,
        _ if memory.stopping => Agent::Others,
        Ok(None) => Agent::Runs,
        Ok(Some(record)) if record.owner == Owner::Sleep => Agent::Frozen {
            length: now.duration_since(*memory.frozen.get_or_insert(now)),
            paged_out: record.paged_out.is_some(),
        },
        Ok(Some(_)) | Err(_) => Agent::Others,
    };
    if !matches!(agent, Agent::Frozen { .. }) {
        memory.frozen = None;
    }
    Seen {
        agent,
        door: memory.door(),
        held: layout.held_file(&bed.tenant).exists(),
        woken: now.duration_since(memory.woken),
        cpu,
        egress,
        has_swap,
    }
}
