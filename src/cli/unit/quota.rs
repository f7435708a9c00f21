//! `tenantd unit quota`: the storage limit of one tenant, as its `runtime.json` says.

use camino::{Utf8DirEntry, Utf8PathBuf};

use super::runtime;
use crate::host::cgroup;
use crate::host::quota::{self, Limited};
use crate::layout::Layout;
use crate::tenant::{Runtime, TenantId};

/// Has the file system keep a tenant's state to its plan.
pub(super) fn limit(layout: &Layout, tenant: &TenantId) -> anyhow::Result<()> {
    let Some(limited) = limited(layout, tenant, runtime(layout, tenant)?) else {
        tracing::info!("this host keeps no storage limits");
        return Ok(());
    };
    Ok(quota::limit(&limited)?)
}

/// What is limited of a tenant, and what is not.
fn limited(layout: &Layout, tenant: &TenantId, runtime: Runtime) -> Option<Limited> {
    let storage = runtime.storage?;
    let mounts = runtime.state.into_iter().map(|mount| mount.name);
    Some(Limited {
        project: storage.project,
        bytes: storage.bytes,
        directory: layout.state_dir(tenant),
        mounts: mounts.collect(),
        free: set_aside(layout, tenant),
        is_at_rest: !cgroup::is_busy(layout, tenant),
    })
}

/// The states that restores and rollbacks have put aside: the operator's until he gives them up, not the tenant's.
fn set_aside(layout: &Layout, tenant: &TenantId) -> Vec<Utf8PathBuf> {
    let rollbacks = layout.set_aside_dir(tenant).read_dir_utf8();
    let rollbacks = rollbacks.into_iter().flatten().flatten();
    let mut found: Vec<_> = rollbacks
        .map(Utf8DirEntry::into_path)
        .map(|place| place.join("state"))
        .collect();
    found.sort();
    found.push(layout.before_restore_dir(tenant));
    found.push(layout.replaced_dir(tenant));
    found
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const RUNTIME: &str = r#"{
        "tenant": "foo-bar", "revision": 1, "port": 8080, "wake": "always-on",
        "start-probe": {"path": "/"}, "start-timeout-seconds": 1,
        "state": [{"name": "data", "path": "/data"}],
        "storage": {"project": 7, "bytes": 1000}
    }"#;

    #[test]
    fn what_was_set_aside_is_no_part_of_what_is_limited() {
        let guard = tempfile::tempdir().unwrap();
        let layout = Layout::rooted(guard.path().to_str().unwrap());
        let tenant: TenantId = "foo-bar".parse().unwrap();
        for operation in ["01b", "01a"] {
            fs::create_dir_all(layout.set_aside_dir(&tenant).join(operation)).unwrap();
        }
        // As a hostile archive may have it: only what the agent is given counts, and is named.
        fs::create_dir_all(layout.state_dir(&tenant).join("data -p .")).unwrap();
        let found = limited(&layout, &tenant, serde_json::from_str(RUNTIME).unwrap());
        let place = |name: &str| layout.tenant_dir(&tenant).join(name);
        let expected = Limited {
            project: 7,
            bytes: 1000,
            directory: place("state"),
            mounts: vec!["data".to_owned()],
            free: vec![
                place("set-aside/01a/state"),
                place("set-aside/01b/state"),
                place("before-restore"),
                place("replaced"),
            ],
            is_at_rest: true,
        };
        assert_eq!(found, Some(expected));

        let group = cgroup::service(&layout, &tenant);
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("cgroup.events"), "populated 1\n").unwrap();
        let beside = limited(&layout, &tenant, serde_json::from_str(RUNTIME).unwrap());
        assert!(!beside.unwrap().is_at_rest, "the agent runs");
    }
}
