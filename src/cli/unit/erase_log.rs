//! The verb of `tenantd-erase-log@`: what journald keeps of a tenant that is erased.

use camino::Utf8PathBuf;

use crate::host::dirs;
use crate::layout::{Layout, UnitNames};
use crate::tenant::TenantId;

/// Digits of a machine's id (machine-id(5)).
const MACHINE_ID: usize = 32;

/// Removes the tenant's journals, whose daemon has been stopped.
pub(super) fn erase(layout: &Layout, tenant: &TenantId) -> anyhow::Result<()> {
    for journal in journals(layout, tenant) {
        dirs::remove_tree(&journal)?;
    }
    Ok(())
}

/// The directories of a tenant's journal namespace: of this machine, and of those whose disk this one has.
fn journals(layout: &Layout, tenant: &TenantId) -> Vec<Utf8PathBuf> {
    let namespace = UnitNames(tenant).journal_namespace();
    let is_its = |name: &str| {
        name.split_once('.')
            .is_some_and(|(machine, of)| machine.len() == MACHINE_ID && of == namespace)
    };
    let all = layout.journals();
    let entries = all
        .iter()
        .flat_map(|journals| journals.read_dir_utf8().into_iter().flatten().flatten());
    entries
        .filter(|entry| is_its(entry.file_name()))
        .map(camino::Utf8DirEntry::into_path)
        .collect()
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;

    use super::*;

    #[test]
    fn a_tenants_log_is_removed_and_no_other_ones() {
        let guard = tempfile::tempdir().unwrap();
        let layout = Layout::rooted(Utf8Path::from_path(guard.path()).unwrap());
        let [kept, _] = layout.journals();
        let machine = "0123456789abcdef0123456789abcdef";
        let all = [
            machine.to_owned(),
            format!("{machine}.tenant-acme"),
            format!("{machine}.tenant-acme-2"),
            format!("{machine}.other"),
            "short.tenant-acme".to_owned(),
        ];
        for name in &all {
            dirs::make(&kept.join(name), 0o700).unwrap();
        }
        erase(&layout, &"acme".parse().unwrap()).unwrap();
        let left = all.iter().filter(|name| kept.join(name).exists());
        assert_eq!(left.count(), all.len() - 1);
        assert!(!kept.join(&all[1]).exists());
    }
}
