//! When a repository's last backup ended well, remembered beside it: also where nothing had changed, of which no snapshot tells.
//! Losing it only makes a backup look older than it is.

use camino::Utf8PathBuf;
use jiff::Timestamp;

use super::ProtectError;
use super::tenant::newest;
use crate::host::files;
use crate::layout::Layout;
use crate::tenant::TenantId;

/// Longest record: a time.
const LIMIT: u64 = 64;

fn path(layout: &Layout, name: &str) -> Utf8PathBuf {
    layout.repository_dir(name).join("last-good")
}

/// Remembers that what there was at `time` is in the store.
pub(super) fn note_good(layout: &Layout, name: &str, time: Timestamp) -> Result<(), ProtectError> {
    let path = path(layout, name);
    Ok(files::write(&path, time.to_string().as_bytes(), 0o600)?)
}

/// The last moment of which what there was is known to be in the store.
pub(super) fn last_good(layout: &Layout, name: &str) -> Option<Timestamp> {
    let noted = files::read(&path(layout, name), LIMIT).ok();
    let noted = noted.and_then(|text| String::from_utf8_lossy(&text).parse().ok());
    noted.max(newest(layout, name).map(|record| record.time))
}

/// When a tenant's last good backup was, whether it found anything new or not.
pub fn last_backup(layout: &Layout, tenant: &TenantId) -> Option<Timestamp> {
    last_good(layout, tenant.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protect::samples::host;

    #[test]
    fn a_backup_without_news_is_as_good_as_one_with() {
        let (_guard, layout, tenant) = host();
        assert_eq!(last_backup(&layout, &tenant), None);
        std::fs::create_dir_all(layout.repository_dir(tenant.as_str())).unwrap();
        let time = "2026-11-21T10:00:00.5Z".parse().unwrap();
        note_good(&layout, tenant.as_str(), time).unwrap();
        assert_eq!(last_backup(&layout, &tenant), Some(time));
        std::fs::write(path(&layout, tenant.as_str()), "no time").unwrap();
        assert_eq!(last_backup(&layout, &tenant), None);
    }
}
