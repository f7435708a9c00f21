//! The node's heartbeat: says in the store which snapshot of each repository is the newest, and reads what was said.
//! What it means for a restore is judged by `backup::freshness`.

use std::sync::Arc;

use camino::Utf8Path;

use super::ProtectError;
use super::catalogued::{catalogued_head, is_catalogued};
use super::opened::{local_spec, trust};
use super::store::Patience;
use super::tenant::{NODE, repositories, repository};
use crate::backup::freshness::Word;
use crate::backup::{
    self, CommitName, Head, RemoteRepository, RepositoryError, RepositoryId, RestoreError,
    SignedHeartbeat,
};
use crate::host::clock;
use crate::layout::Layout;
use crate::node::{KeyFiles, NodeSettings};
use crate::object_store::ObjectStore;

/// Stores one heartbeat for all repositories of this host: all that an interval costs in which
/// nothing has changed.
pub(super) async fn beat(layout: &Layout, settings: &NodeSettings) -> Result<(), ProtectError> {
    let signer = KeyFiles::new(layout).signer()?;
    let mut heads = Vec::new();
    for name in repositories(layout) {
        let directory = layout.repository_dir(&name);
        let head = if is_catalogued(&directory) {
            // This node has not looked yet; what the one before it said still holds.
            let spec = local_spec(layout, &name)?;
            spec.map(|spec| spec.id).zip(catalogued_head(&directory)?)
        } else {
            known_head(&directory, &name)?
        };
        heads.extend(head.map(|(repository, name)| Head::new(repository, name)));
    }
    let node = repository(layout, settings, NODE, Patience::Usual).await?;
    node.beat(heads, &signer, clock::now())
        .await
        .map(drop)
        .map_err(ProtectError::Heartbeat)
}

/// The newest commit of a repository that this host knows was stored.
pub(super) fn known_head(
    directory: &Utf8Path,
    name: &str,
) -> Result<Option<(RepositoryId, CommitName)>, ProtectError> {
    backup::known_head(directory).map_err(|source: RepositoryError| ProtectError::Repository {
        name: name.to_owned(),
        source,
    })
}

/// What the newest heartbeat of this node, or of the one that it replaces, says of the repository of `name`.
pub(super) async fn word(
    layout: &Layout,
    settings: &NodeSettings,
    store: &Arc<dyn ObjectStore>,
    name: &str,
    repository: RepositoryId,
) -> Result<Option<Word>, ProtectError> {
    let Some(node) = local_spec(layout, NODE)? else {
        return Ok(None);
    };
    let failed = |source| ProtectError::Restore {
        name: name.to_owned(),
        source: RestoreError::Remote(source),
    };
    let trust = trust(settings)?;
    let store = Arc::clone(store);
    let remote = match RemoteRepository::open(store, node.prefix, Some(node.id), trust).await {
        Ok(remote) => remote,
        Err(error) if error.may_pass() => return Err(failed(error)),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "the node's heartbeats cannot be read, so they say nothing"
            );
            return Ok(None);
        }
    };
    let beat = remote.heartbeat().await.map_err(failed)?;
    Ok(beat.map(|beat| said(&beat, repository)))
}

/// What a heartbeat says of a repository.
pub(super) fn said(beat: &SignedHeartbeat, repository: RepositoryId) -> Word {
    Word {
        time: beat.heartbeat.time,
        head: beat.heartbeat.head_of(repository).map(|head| head.name()),
    }
}
