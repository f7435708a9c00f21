//! The state that a restore replaced: kept beside the new one until the operator puts it back or gives it up.
//! There is one at most. Who stops the agent meanwhile is the caller's affair.

use camino::Utf8PathBuf;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ProtectError;
use super::exchange::has_state;
use super::releases::give_up_set_aside;
use crate::failpoint;
use crate::host::files::{self};
use crate::host::tree::size;
use crate::host::{clock, dirs};
use crate::layout::Layout;
use crate::tenant::TenantId;

/// Longest record.
const LIMIT: u64 = 4096;

/// A state that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Kept {
    /// When it was replaced.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Bytes that it takes on the disk, shared ones included.
    pub bytes: u64,
}

/// What is written down of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Record {
    #[serde(flatten)]
    kept: Kept,
    /// An exchange that was begun: so a repeated one knows whether it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exchange: Option<Exchange>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Exchange {
    /// Who wants it.
    operation: String,
    /// The inode of the directory that is `state/` afterwards.
    inode: u64,
}

fn record_file(layout: &Layout, tenant: &TenantId) -> Utf8PathBuf {
    layout.tenant_dir(tenant).join("before-restore.json")
}

/// What is kept of a tenant, if anything.
pub fn kept(layout: &Layout, tenant: &TenantId) -> Option<Kept> {
    if !layout.before_restore_dir(tenant).exists() {
        return None;
    }
    let unknown = Kept {
        since: Timestamp::UNIX_EPOCH,
        bytes: 0,
    };
    Some(read_record(layout, tenant).map_or(unknown, |record| record.kept))
}

fn read_record(layout: &Layout, tenant: &TenantId) -> Option<Record> {
    let bytes = files::read(&record_file(layout, tenant), LIMIT).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn write_record(layout: &Layout, tenant: &TenantId, record: &Record) -> Result<(), ProtectError> {
    let path = record_file(layout, tenant);
    let bytes = serde_json::to_vec(record).map_err(|source| ProtectError::Document {
        path: path.clone(),
        source,
    })?;
    Ok(files::write(&path, &bytes, 0o600)?)
}

/// Keeps what an exchange has put to `replaced/`; nothing is worth keeping of a tenant that had no state, or beside what
/// is kept already, for that is older.
pub(super) fn keep_replaced(layout: &Layout, tenant: &TenantId) -> Result<(), ProtectError> {
    let (replaced, kept) = (
        layout.replaced_dir(tenant),
        layout.before_restore_dir(tenant),
    );
    if !replaced.exists() {
        return Ok(());
    }
    if kept.exists() || !has_state(&replaced) {
        return Ok(dirs::remove_tree(&replaced)?);
    }
    let kept_now = Kept {
        since: clock::now(),
        bytes: size(&replaced),
    };
    let record = Record {
        kept: kept_now,
        exchange: None,
    };
    write_record(layout, tenant, &record)?;
    failpoint::hit("protect.kept-noted");
    Ok(files::move_to(&replaced, &kept)?)
}

/// Exchanges the kept state and the present one, in one step; the agent must not run. The present one is kept then.
///
/// Repeated for the same `operation` it finds it done.
///
/// # Errors
/// Nothing is kept, or the file system refuses.
pub fn put_back(layout: &Layout, tenant: &TenantId, operation: &str) -> Result<(), ProtectError> {
    let (state, kept) = (layout.state_dir(tenant), layout.before_restore_dir(tenant));
    let nothing = || ProtectError::NothingKept(tenant.clone());
    let begun = read_record(layout, tenant)
        .and_then(|record| record.exchange)
        .filter(|exchange| exchange.operation == operation);
    let is_done =
        |exchange: &Exchange| files::inode(&state).is_ok_and(|inode| inode == exchange.inode);
    if begun.as_ref().is_some_and(is_done) {
        return Ok(());
    }
    if !kept.exists() {
        return Err(nothing());
    }
    let record = Record {
        kept: Kept {
            since: clock::now(),
            bytes: size(&state),
        },
        exchange: Some(Exchange {
            operation: operation.to_owned(),
            inode: files::inode(&kept)?,
        }),
    };
    write_record(layout, tenant, &record)?;
    failpoint::hit("protect.undo-noted");
    files::exchange(&kept, &state)?;
    failpoint::hit("protect.undone");
    Ok(())
}

/// Gives up the kept state, and what rollbacks have set aside. Nothing kept is fine: it may be the second time.
///
/// # Errors
/// It cannot be removed.
pub fn give_up(layout: &Layout, tenant: &TenantId) -> Result<(), ProtectError> {
    let discarding = layout.tenant_dir(tenant).join("discarding");
    dirs::remove_tree(&discarding)?;
    let kept = layout.before_restore_dir(tenant);
    if kept.exists() {
        // First out of reach: half a state is nothing to put back.
        files::move_to(&kept, &discarding)?;
    }
    failpoint::hit("protect.discarding");
    dirs::remove_tree(&discarding)?;
    files::remove(&record_file(layout, tenant))?;
    give_up_set_aside(layout, tenant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protect::exchange::exchange;
    use crate::protect::samples::{fill, host, read};
    use std::fs;

    fn restored(layout: &Layout, tenant: &TenantId, content: &str) {
        fill(&layout.restoring_dir(tenant), content);
        exchange(layout, tenant).unwrap();
        assert!(!layout.replaced_dir(tenant).exists());
    }

    #[test]
    fn a_restore_keeps_the_old_state_until_it_is_put_back_or_given_up() {
        let (_guard, layout, tenant) = host();
        let (state, before) = (
            layout.state_dir(&tenant),
            layout.before_restore_dir(&tenant),
        );
        assert_eq!(kept(&layout, &tenant), None);
        fill(&state, "old");
        restored(&layout, &tenant, "new");
        assert_eq!((read(&state), read(&before)), ("new".into(), "old".into()));
        assert!(kept(&layout, &tenant).unwrap().bytes > 0);

        // Another restore goes over what came from a snapshot; what was there first stays.
        restored(&layout, &tenant, "newer");
        assert_eq!(
            (read(&state), read(&before)),
            ("newer".into(), "old".into())
        );

        put_back(&layout, &tenant, "first").unwrap();
        assert_eq!(
            (read(&state), read(&before)),
            ("old".into(), "newer".into())
        );
        put_back(&layout, &tenant, "first").unwrap();
        assert_eq!(
            read(&state),
            "old",
            "a repeated exchange must not undo itself"
        );
        put_back(&layout, &tenant, "second").unwrap();
        assert_eq!(read(&state), "newer");

        give_up(&layout, &tenant).unwrap();
        give_up(&layout, &tenant).unwrap();
        assert_eq!(kept(&layout, &tenant), None);
        assert_eq!(read(&state), "newer");
        let nothing = put_back(&layout, &tenant, "third").unwrap_err();
        assert!(matches!(nothing, ProtectError::NothingKept(_)));
    }

    #[test]
    fn a_crash_before_the_exchange_leaves_it_to_be_done() {
        let (_guard, layout, tenant) = host();
        let state = layout.state_dir(&tenant);
        fill(&state, "old");
        restored(&layout, &tenant, "new");
        put_back(&layout, &tenant, "first").unwrap();
        // As if only the record had been written.
        let before = layout.before_restore_dir(&tenant);
        files::exchange(&before, &state).unwrap();
        put_back(&layout, &tenant, "first").unwrap();
        assert_eq!(read(&state), "old");
    }

    #[test]
    fn nothing_is_kept_of_a_tenant_that_had_no_state() {
        let (_guard, layout, tenant) = host();
        fs::create_dir_all(layout.state_dir(&tenant).join("data")).unwrap();
        restored(&layout, &tenant, "new");
        assert_eq!(kept(&layout, &tenant), None);
        assert_eq!(read(&layout.state_dir(&tenant)), "new");
    }
}
