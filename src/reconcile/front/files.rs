//! The front's files: a link for each known host, and the configuration with which Caddy begins.
//! Each call brings them to what it is given and touches nothing that is so already.

use std::collections::BTreeMap;

use camino::Utf8Path;
use serde_json::Value;

use crate::host::dirs;
use crate::host::files::{self, FileError};
use crate::layout::Layout;
use crate::tenant::{PublicHost, TenantId};

/// Most of a configuration that is read back.
const LIMIT: u64 = 1024 * 1024;

/// Makes every host lead to its tenant's ingress socket, and no other anywhere.
pub(super) fn link(
    layout: &Layout,
    by_host: &BTreeMap<PublicHost, TenantId>,
) -> Result<(), FileError> {
    let directory = layout.front_hosts_dir();
    // Whoever finds them must be able to pass; what they lead to is guarded by itself.
    dirs::make(&directory, 0o755)?;
    for name in names(&directory)? {
        let is_known = name
            .parse()
            .is_ok_and(|host: PublicHost| by_host.contains_key(&host) && host.as_str() == name);
        if !is_known {
            files::remove(&directory.join(&name))?;
            tracing::info!(host = name, "is known no more");
        }
    }
    for (host, tenant) in by_host {
        let (link, target) = (directory.join(host.as_str()), layout.ingress_socket(tenant));
        if link.read_link_utf8().ok() != Some(target.clone()) {
            files::symlink(&target, &link)?;
            tracing::info!(%host, %tenant, "is known");
        }
    }
    Ok(())
}

fn names(directory: &Utf8Path) -> Result<Vec<String>, FileError> {
    let failed = |source| FileError::Io {
        verb: "read",
        path: directory.to_owned(),
        source,
    };
    let entries = directory.read_dir_utf8().map_err(failed)?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_owned()));
    names.collect::<Result<_, _>>().map_err(failed)
}

/// Keeps a configuration for Caddy's next start.
pub(super) fn keep(layout: &Layout, config: &Value) -> Result<(), FileError> {
    let path = layout.front_config();
    let text = format!("{config:#}\n");
    match files::read(&path, LIMIT) {
        Ok(present) if present == text.as_bytes() => return Ok(()),
        Ok(_) => {}
        Err(error) if error.is_absent() => {}
        Err(error) => return Err(error),
    }
    dirs::make(&layout.front_dir(), 0o755)?;
    files::write(&path, text.as_bytes(), 0o600)
}

/// Takes the configuration away, so that Caddy starts no more; says whether there was one.
pub(super) fn forget(layout: &Layout) -> Result<bool, FileError> {
    files::remove(&layout.front_config())
}

#[cfg(test)]
mod tests {
    use camino::Utf8PathBuf;
    use serde_json::json;

    use super::*;

    fn layout() -> (tempfile::TempDir, Layout) {
        let guard = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(guard.path().to_owned()).unwrap();
        (guard, Layout::rooted(root))
    }

    fn hosts(pairs: &[(&str, &str)]) -> BTreeMap<PublicHost, TenantId> {
        let pair = |(host, tenant): &(&str, &str)| (host.parse().unwrap(), tenant.parse().unwrap());
        pairs.iter().map(pair).collect()
    }

    fn linked(layout: &Layout) -> Vec<String> {
        let directory = layout.front_hosts_dir();
        let mut linked: Vec<_> = names(&directory)
            .unwrap()
            .into_iter()
            .map(|name| {
                let target = directory.join(&name).read_link_utf8().unwrap();
                format!("{name} {}", target.file_name().unwrap())
            })
            .collect();
        linked.sort();
        linked
    }

    #[test]
    fn the_links_are_the_known_hosts_and_nothing_else() {
        let (_guard, layout) = layout();
        link(
            &layout,
            &hosts(&[("a.test", "acme"), ("b.test", "bolt"), ("c.test", "acme")]),
        )
        .unwrap();
        assert_eq!(
            linked(&layout),
            ["a.test acme.sock", "b.test bolt.sock", "c.test acme.sock"]
        );
        // One goes, one changes hands, and what a crash has left goes too.
        std::fs::create_dir(layout.front_hosts_dir().join("d.test")).unwrap();
        let changed = hosts(&[("a.test", "bolt"), ("b.test", "bolt")]);
        assert!(
            link(&layout, &changed).is_err(),
            "a directory is nobody's link: somebody has to look"
        );
        std::fs::remove_dir(layout.front_hosts_dir().join("d.test")).unwrap();
        std::fs::write(layout.front_hosts_dir().join(".x.tmp"), "").unwrap();
        link(&layout, &changed).unwrap();
        assert_eq!(linked(&layout), ["a.test bolt.sock", "b.test bolt.sock"]);
    }

    #[test]
    fn the_configuration_is_there_while_it_is_wanted_and_for_root_alone() {
        let (_guard, layout) = layout();
        assert!(!forget(&layout).unwrap());
        keep(&layout, &json!({ "admin": {} })).unwrap();
        let before = files::inode(&layout.front_config()).unwrap();
        assert!(files::is_private(&layout.front_config()).unwrap());
        keep(&layout, &json!({ "admin": {} })).unwrap();
        assert_eq!(
            files::inode(&layout.front_config()).unwrap(),
            before,
            "written again"
        );
        assert!(forget(&layout).unwrap());
        assert!(!layout.front_config().exists());
    }
}
