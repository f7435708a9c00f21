//! The node's own repository: what is needed to have every tenant again on an empty machine.
//! It holds settings, specs, the state database and the catalogue of tenants' repositories.

use std::sync::Arc;
use std::{fs, io};

use camino::{Utf8Path, Utf8PathBuf};

use super::ProtectError;
use super::front;
use super::heartbeat::beat;
use super::report::{BackupReport, write_report};
use super::tenant::{Haste, NODE, Source, repositories, snapshot, tenants};
use crate::backup::{NobodyWrites, Progress};
use crate::host::dirs;
use crate::host::files::{self, FileError};
use crate::layout::Layout;
use crate::node::NodeSettings;
use crate::secrets::{reseal, sealed_files};
use crate::state::copy_database;

/// Largest file that is part of the node's state, apart from the database.
const LIMIT: u64 = 4 * 1024 * 1024;

/// Backs up the node itself, and says in a heartbeat which snapshot of each tenant is the newest.
pub async fn back_up_node(
    layout: &Layout,
    settings: &NodeSettings,
    haste: Haste,
    progress: Arc<dyn Progress>,
) -> Result<BackupReport, ProtectError> {
    let staging = layout.node_staging_dir();
    reseal(layout, &settings.keys.recipients).await?;
    gather(layout, &staging)?;
    let source = Source {
        name: NODE,
        root: &staging,
        clones: &staging.with_extension("clone"),
        labels: [("kind", "node"), ("node", &settings.name)],
    };
    let pause = Arc::new(NobodyWrites);
    let report = snapshot(layout, settings, source, pause, haste, progress).await?;
    write_report(layout, None, &report)?;
    beat(layout, settings).await?;
    Ok(report)
}

/// Whether there is something of the node to back up by itself: it has tenants, or had some. A host without is new, or
/// about to be rebuilt, and should not begin a repository beside the one that it is rebuilt from.
pub fn has_something(layout: &Layout) -> bool {
    !repositories(layout).is_empty() || !tenants(layout).is_empty()
}

/// What of the node is backed up: where it is on the host, and where in the snapshot.
fn parts(layout: &Layout) -> Result<Vec<(Utf8PathBuf, Utf8PathBuf)>, ProtectError> {
    let mut parts = vec![(layout.node_toml(), "node.toml".into())];
    for (directory, name) in [
        (layout.specs_dir(), "tenants.d"),
        (layout.templates_dir(), "templates.d"),
        (layout.plans_dir(), "plans.d"),
        (layout.prices_dir(), "prices.d"),
    ] {
        let entries = directory.read_dir_utf8().into_iter().flatten().flatten();
        let files = entries.filter(|entry| entry.path().extension() == Some("toml"));
        parts.extend(files.map(|file| {
            (
                file.path().to_owned(),
                Utf8Path::new(name).join(file.file_name()),
            )
        }));
    }
    for name in repositories(layout).iter().filter(|name| *name != NODE) {
        let spec = layout.repository_dir(name).join("repository.json");
        parts.push((spec, format!("repositories/{name}/repository.json").into()));
    }
    let erasures = layout.erasures_dir();
    for entry in erasures.read_dir_utf8().into_iter().flatten().flatten() {
        let name = Utf8Path::new("erasures").join(entry.file_name());
        parts.push((entry.path().to_owned(), name));
    }
    // Encrypted for the recipients when they were set: this host's own credentials are of no use to another.
    for name in sealed_files(layout)? {
        let to = Utf8Path::new(SECRETS).join(&name);
        parts.push((layout.secrets_dir().join(name), to));
    }
    for name in front::stored(layout)? {
        let to = Utf8Path::new(FRONT).join(&name);
        parts.push((layout.front_store_dir().join(name), to));
    }
    for name in front::stored_wildcard(layout)? {
        let to = Utf8Path::new(FRONT_WILDCARD).join(&name);
        parts.push((layout.front_wildcard_dir().join(name), to));
    }
    for tenant in tenants(layout) {
        let place = Utf8PathBuf::from(format!("tenants/{tenant}"));
        parts.push((layout.runtime_file(&tenant), place.join("runtime.json")));
        parts.push((layout.held_file(&tenant), place.join("held")));
    }
    Ok(parts)
}

/// Brings the staging directory up to date. A file whose content is the same is left alone,
/// so that an unchanged node makes an unchanged snapshot.
fn gather(layout: &Layout, staging: &Utf8Path) -> Result<(), ProtectError> {
    dirs::make(staging, 0o700)?;
    let mut wanted = vec![Utf8PathBuf::from(DATABASE)];
    for (from, to) in parts(layout)? {
        let bytes = match files::read(&from, LIMIT) {
            Ok(bytes) => bytes,
            Err(error) if error.is_absent() => continue,
            Err(error) => return Err(error.into()),
        };
        let target = staging.join(&to);
        if !fs::read(&target).is_ok_and(|present| present == bytes) {
            if let Some(parent) = target.parent() {
                dirs::make(parent, 0o700)?;
            }
            files::write(&target, &bytes, 0o600)?;
        }
        wanted.push(to);
    }
    prune(staging, staging, &wanted)?;
    stage_database(layout, staging)
}

/// Copies the database, unless nothing in it has changed: its copy then stays the file that it was.
fn stage_database(layout: &Layout, staging: &Utf8Path) -> Result<(), ProtectError> {
    let (staged, copy) = (staging.join(DATABASE), staging.with_extension("db"));
    files::remove(&copy)?;
    if !layout.database().exists() {
        files::remove(&staged)?;
        return Ok(());
    }
    if let Err(error) = copy_database(&layout.database(), &copy) {
        // A part of a database is nothing, and takes room on a disk that may be full.
        files::remove(&copy)?;
        return Err(error.into());
    }
    let failed = |verb, path: &Utf8Path| {
        let path = path.to_owned();
        move |source| FileError::Io { verb, path, source }
    };
    if staged.exists() && have_same_bytes(&staged, &copy).map_err(failed("read", &copy))? {
        files::remove(&copy)?;
        return Ok(());
    }
    fs::rename(&copy, &staged).map_err(failed("rename", &copy))?;
    Ok(())
}

fn have_same_bytes(a: &Utf8Path, b: &Utf8Path) -> io::Result<bool> {
    let hash = |path: &Utf8Path| {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(fs::File::open(path)?)?;
        io::Result::Ok(hasher.finalize())
    };
    Ok(hash(a)? == hash(b)?)
}

/// The directory of the front's certificates in the snapshot.
pub(super) const FRONT: &str = "front";

/// The directory of the front's wildcard certificate in the snapshot.
pub(super) const FRONT_WILDCARD: &str = "front-wildcard";

/// The secrets' directory in the snapshot.
pub(super) const SECRETS: &str = "secrets";

/// The state database's name in the snapshot.
pub(super) const DATABASE: &str = "state.db";

/// Removes what is staged and not wanted any more.
fn prune(root: &Utf8Path, directory: &Utf8Path, wanted: &[Utf8PathBuf]) -> Result<(), FileError> {
    for entry in directory.read_dir_utf8().into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            prune(root, path, wanted)?;
            dirs::remove_if_empty(path)?;
        } else if !wanted.iter().any(|name| root.join(name) == path) {
            files::remove(path)?;
        }
    }
    Ok(())
}
