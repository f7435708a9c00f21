//! The data halves of releases: for a revision that was left, a clone of the state as it left it. Going back exchanges
//! one for the present state, which is set aside.
//!
//! Clones are copies and are dropped by rule; what was set aside exists once only and is given up by the operator alone.
//! Who stops the agent meanwhile is the caller's affair.

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ProtectError;
use crate::failpoint;
use crate::host::files::{self};
use crate::host::tree::{self, Cloned};
use crate::host::{clock, dirs};
use crate::layout::Layout;
use crate::tenant::TenantId;

/// Longest record.
const LIMIT: u64 = 4096;

/// A state as a revision has left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Release {
    /// The revision that wrote it.
    pub revision: u64,
    /// When that revision was left.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Bytes that it takes on the disk, shared ones included.
    pub bytes: u64,
    /// Whether a rollback has set it aside: it is no copy, and stays until it is given up.
    pub set_aside: bool,
    /// Where it is.
    pub path: String,
}

impl Release {
    /// Whether it is the clone that was made when revision `revision` was left.
    pub fn is_clone_of(&self, revision: u64) -> bool {
        self.revision == revision && !self.set_aside
    }
}

/// What is written down of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Record {
    revision: u64,
    since: Timestamp,
    bytes: u64,
    /// Of what a rollback sets aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exchange: Option<Exchange>,
}

/// An exchange that was begun: so a repeated one knows whether it was done.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Exchange {
    /// The directory that holds what comes back, below the tenant's.
    source: Utf8PathBuf,
    /// The inode of the directory that is `state/` afterwards.
    inode: u64,
}

fn record_file(place: &Utf8Path) -> Utf8PathBuf {
    place.join("release.json")
}

fn state_in(place: &Utf8Path) -> Utf8PathBuf {
    place.join("state")
}

/// Clones the present state as the one that `revision` has left; the agent must not run. An older clone of the same
/// revision goes.
///
/// # Errors
/// It cannot be cloned, or more than `copy_at_most` bytes would have to be copied; no clone is made then.
pub fn take(
    layout: &Layout,
    tenant: &TenantId,
    revision: u64,
    copy_at_most: u64,
) -> Result<(Release, Cloned), ProtectError> {
    let directory = layout.releases_dir(tenant);
    let (taking, place) = (
        directory.join("taking"),
        directory.join(revision.to_string()),
    );
    dirs::make(&directory, 0o700)?;
    dirs::remove_tree(&taking)?;
    dirs::make(&taking, 0o700)?;
    let cloned = tree::clone_tree(&layout.state_dir(tenant), &state_in(&taking), copy_at_most);
    let cloned = match cloned {
        Ok(cloned) => cloned,
        Err(error) => {
            dirs::remove_tree(&taking)?;
            return Err(error.into());
        }
    };
    let record = Record {
        revision,
        since: clock::now(),
        bytes: tree::size(&taking),
        exchange: None,
    };
    write_record(&taking, &record)?;
    failpoint::hit("release.cloned");
    dirs::remove_tree(&place)?;
    files::move_to(&taking, &place)?;
    failpoint::hit("release.taken");
    Ok((shown(&place, &record), cloned))
}

/// The states that are there, the newest first.
pub fn releases(layout: &Layout, tenant: &TenantId) -> Vec<Release> {
    let mut found = Vec::new();
    for directory in [layout.releases_dir(tenant), layout.set_aside_dir(tenant)] {
        let entries = directory.read_dir_utf8().into_iter().flatten().flatten();
        for place in entries.map(camino::Utf8DirEntry::into_path) {
            let Some(record) = read_record(&place) else {
                continue;
            };
            if place.file_name() != Some("taking") && holds(&place, &record) {
                found.push(shown(&place, &record));
            }
        }
    }
    found.sort_by_key(|release| std::cmp::Reverse(release.since));
    found
}

/// Whether the state that a record tells of is in its place: not that which was to come back, and not gone.
fn holds(place: &Utf8Path, record: &Record) -> bool {
    files::inode(&state_in(place)).is_ok_and(|inode| {
        let exchange = record.exchange.as_ref();
        exchange.is_none_or(|exchange| exchange.inode != inode)
    })
}

fn shown(place: &Utf8Path, record: &Record) -> Release {
    Release {
        revision: record.revision,
        since: record.since,
        bytes: record.bytes,
        set_aside: record.exchange.is_some(),
        path: state_in(place).into_string(),
    }
}

/// Which clones may go: all but that of the last known good revision and the newest others, `keep` in all.
///
/// `clones` are revisions, the one left last first.
pub fn surplus(clones: &[u64], good: Option<u64>, keep: usize) -> Vec<u64> {
    let is_good = |revision: &u64| Some(*revision) == good;
    let others = keep.saturating_sub(usize::from(clones.iter().any(is_good)));
    let rest = clones.iter().copied().filter(|revision| !is_good(revision));
    rest.skip(others).collect()
}

/// Removes clones, those that were set aside not.
///
/// # Errors
/// One cannot be removed.
pub fn drop_clones(
    layout: &Layout,
    tenant: &TenantId,
    revisions: &[u64],
) -> Result<(), ProtectError> {
    for revision in revisions {
        let place = layout.releases_dir(tenant).join(revision.to_string());
        // Without its record it is no release any more, however much of it is left.
        files::remove(&record_file(&place))?;
        dirs::remove_tree(&place)?;
    }
    Ok(())
}

/// Puts the state that revision `to` has left in the place of the present one, which `present` has written and which is
/// set aside; the agent must not run.
///
/// Repeated for the same `operation` it goes on where it was, or finds it done. The newest of that revision is taken;
/// one that a rollback has set aside only where `aside_too` says so.
///
/// # Errors
/// The state of that revision is not there, or the file system refuses.
pub fn bring_back(
    layout: &Layout,
    tenant: &TenantId,
    operation: &str,
    (present, to): (u64, u64),
    aside_too: bool,
) -> Result<Release, ProtectError> {
    let (base, state) = (layout.tenant_dir(tenant), layout.state_dir(tenant));
    let place = layout.set_aside_dir(tenant).join(operation);
    let aside = state_in(&place);
    let (record, exchange) = match read_record(&place) {
        Some(record) => {
            let exchange = record.exchange.clone();
            (record, exchange)
        }
        None => begin(layout, tenant, &place, (present, to), aside_too)?,
    };
    let exchange = exchange.ok_or_else(|| no_release(tenant, to))?;
    failpoint::hit("release.noted");
    if files::inode(&state)? != exchange.inode {
        if !aside.exists() {
            let source = state_in(&base.join(&exchange.source));
            files::move_to(&source, &aside)?;
        }
        failpoint::hit("release.moved");
        files::exchange(&aside, &state)?;
        files::sync_dir(&place)?;
    }
    failpoint::hit("release.exchanged");
    // What is left of where it came from: its record.
    dirs::remove_tree(&base.join(&exchange.source))?;
    Ok(shown(&place, &record))
}

/// Records what is going to be exchanged.
fn begin(
    layout: &Layout,
    tenant: &TenantId,
    place: &Utf8Path,
    (present, to): (u64, u64),
    aside_too: bool,
) -> Result<(Record, Option<Exchange>), ProtectError> {
    let found = releases(layout, tenant);
    let is_wanted =
        |release: &&Release| release.revision == to && (aside_too || release.is_clone_of(to));
    let found = found.iter().find(is_wanted);
    let source = found.and_then(|release| Utf8Path::new(&release.path).parent());
    let base = layout.tenant_dir(tenant);
    let source = source.ok_or_else(|| no_release(tenant, to))?;
    let state = layout.state_dir(tenant);
    let exchange = Exchange {
        source: source.strip_prefix(&base).unwrap_or(source).to_owned(),
        inode: files::inode(&state_in(source))?,
    };
    let record = Record {
        revision: present,
        since: clock::now(),
        bytes: tree::size(&state),
        exchange: Some(exchange.clone()),
    };
    dirs::make(place, 0o700)?;
    write_record(place, &record)?;
    Ok((record, Some(exchange)))
}

/// Gives up what rollbacks have set aside. Nothing there is fine: it may be the second time.
///
/// # Errors
/// It cannot be removed.
pub(super) fn give_up_set_aside(layout: &Layout, tenant: &TenantId) -> Result<(), ProtectError> {
    let discarding = layout.tenant_dir(tenant).join("discarding-set-aside");
    dirs::remove_tree(&discarding)?;
    let place = layout.set_aside_dir(tenant);
    if place.exists() {
        // First out of reach: half a state is nothing to go back to.
        files::move_to(&place, &discarding)?;
    }
    Ok(dirs::remove_tree(&discarding)?)
}

fn no_release(tenant: &TenantId, revision: u64) -> ProtectError {
    ProtectError::NoRelease {
        tenant: tenant.clone(),
        revision,
    }
}

fn read_record(place: &Utf8Path) -> Option<Record> {
    let bytes = files::read(&record_file(place), LIMIT).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn write_record(place: &Utf8Path, record: &Record) -> Result<(), ProtectError> {
    let path = record_file(place);
    let bytes = serde_json::to_vec(record).map_err(|source| ProtectError::Document {
        path: path.clone(),
        source,
    })?;
    Ok(files::write(&path, &bytes, 0o600)?)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::protect::samples::{fill, host, read};

    #[rstest]
    #[case::nothing(&[], None, 2, &[])]
    #[case::the_good_one_and_the_one_before(&[5, 4, 3, 2], Some(3), 2, &[4, 2])]
    #[case::the_good_one_is_live(&[4, 3, 2], Some(5), 2, &[2])]
    #[case::the_good_one_however_few(&[5, 4, 3], Some(3), 1, &[5, 4])]
    #[case::none_is_kept_but_the_good_one(&[2, 1], Some(1), 0, &[2])]
    fn the_last_known_good_is_kept_and_the_newest_others(
        #[case] clones: &[u64],
        #[case] good: Option<u64>,
        #[case] keep: usize,
        #[case] expected: &[u64],
    ) {
        assert_eq!(surplus(clones, good, keep), expected);
    }

    #[test]
    fn going_back_brings_the_data_back_and_sets_the_later_data_aside() {
        let (_guard, layout, tenant) = host();
        let state = layout.state_dir(&tenant);
        fill(&state, "of 1");
        take(&layout, &tenant, 1, u64::MAX).unwrap();
        fill(&state, "of 2");

        let aside = bring_back(&layout, &tenant, "first", (2, 1), true).unwrap();
        assert_eq!(read(&state), "of 1");
        assert_eq!((aside.revision, aside.set_aside), (2, true));
        assert_eq!(read(Utf8Path::new(&aside.path)), "of 2");
        // Repeated, it finds it done.
        assert_eq!(
            bring_back(&layout, &tenant, "first", (2, 1), true).unwrap(),
            aside
        );
        assert_eq!(read(&state), "of 1");
        assert_eq!(releases(&layout, &tenant), [aside]);

        // And forth again, from what was set aside.
        let back = bring_back(&layout, &tenant, "second", (1, 2), true).unwrap();
        assert_eq!(read(&state), "of 2");
        assert_eq!(read(Utf8Path::new(&back.path)), "of 1");
        assert_eq!(releases(&layout, &tenant), [back]);

        let gone = bring_back(&layout, &tenant, "third", (2, 7), true).unwrap_err();
        assert!(matches!(gone, ProtectError::NoRelease { revision: 7, .. }));
        assert_eq!(read(&state), "of 2");

        give_up_set_aside(&layout, &tenant).unwrap();
        give_up_set_aside(&layout, &tenant).unwrap();
        assert_eq!(releases(&layout, &tenant), []);
        assert_eq!(read(&state), "of 2");
    }

    #[test]
    fn a_rollback_that_was_cut_short_goes_on_where_it_was() {
        for moved in [false, true] {
            let (_guard, layout, tenant) = host();
            let state = layout.state_dir(&tenant);
            fill(&state, "of 1");
            take(&layout, &tenant, 1, u64::MAX).unwrap();
            fill(&state, "of 2");
            let place = layout.set_aside_dir(&tenant).join("first");
            begin(&layout, &tenant, &place, (2, 1), true).unwrap();
            if moved {
                let clone = layout.releases_dir(&tenant).join("1/state");
                files::move_to(&clone, &state_in(&place)).unwrap();
            }
            // What is to come back is not taken for what was set aside.
            let known: Vec<_> = releases(&layout, &tenant);
            assert!(
                known.iter().all(|release| release.revision == 1),
                "{known:?}"
            );
            bring_back(&layout, &tenant, "first", (2, 1), true).unwrap();
            assert_eq!(read(&state), "of 1");
            assert_eq!(read(&state_in(&place)), "of 2");
        }
    }

    #[test]
    fn a_clone_that_was_cut_short_is_none() {
        let (_guard, layout, tenant) = host();
        fill(&layout.state_dir(&tenant), "of 1");
        fill(&layout.releases_dir(&tenant).join("taking/state"), "half");
        assert_eq!(releases(&layout, &tenant), []);
        let (taken, _) = take(&layout, &tenant, 1, u64::MAX).unwrap();
        assert_eq!(read(Utf8Path::new(&taken.path)), "of 1");
        assert_eq!(releases(&layout, &tenant), [taken]);
        drop_clones(&layout, &tenant, &[1, 2]).unwrap();
        assert_eq!(releases(&layout, &tenant), []);
    }
}
