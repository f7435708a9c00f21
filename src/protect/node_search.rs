//! Looks for the node that is to be rebuilt among the repositories of a store.
//! Which of them are nodes' is inside their ciphertext, so each is asked; which of those it is, is a pure choice.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};
use jiff::Timestamp;

use super::ProtectError;
use super::forks::forks;
use super::heartbeat::said;
use super::node_restore::NodeWanted;
use super::opened::{Opened, judge_head, local_spec, trust};
use super::store::{Patience, open_store};
use super::tenant::NODE;
use crate::backup::freshness::Evidence;
use crate::backup::{
    BucketPrefix, Identity, RemoteError, RemoteRepository, RepositoryKeys, RestoreError,
    SignedCommit, SignedHeartbeat, Snapshots, Trust,
};
use crate::host::clock;
use crate::layout::Layout;
use crate::node::NodeSettings;
use crate::object_store::{ObjectStore, StoreErrorKind};

/// Repositories that are looked into at the same time.
const AT_A_TIME: usize = 4;

/// The node that was chosen.
pub(super) struct Found {
    pub(super) prefix: BucketPrefix,
    pub(super) opened: Opened,
    /// Its newest heartbeat.
    pub(super) beat: Option<SignedHeartbeat>,
}

/// A node's repository that the identity can read, and its newest snapshot.
struct Candidate {
    prefix: BucketPrefix,
    remote: RemoteRepository,
    snapshots: Snapshots,
    commit: SignedCommit,
    keys: RepositoryKeys,
    /// What the node is called.
    name: String,
}

/// Finds the newest snapshot of the node that is wanted. What this machine has begun itself before anybody came to rebuild
/// it is none, though its writer was certified last; the one from which a rebuild was `begun` is.
pub(super) async fn find(
    layout: &Layout,
    settings: &NodeSettings,
    wanted: NodeWanted<'_>,
    begun: Option<&str>,
) -> Result<Found, ProtectError> {
    let store = open_store(&settings.store, Patience::Usual)?;
    let trust = trust(settings)?;
    let failed = |source: RemoteError| ProtectError::Restore {
        name: "the node".to_owned(),
        source: RestoreError::Remote(source),
    };
    let identities = [Identity::from_text(wanted.identity).map_err(ProtectError::Recipient)?];
    let own = local_spec(layout, NODE)?.map(|spec| spec.prefix);
    let is_own = |prefix: &BucketPrefix| {
        own.as_ref() == Some(prefix) && begun != Some(prefix.to_string().as_str())
    };
    let mut prefixes = RemoteRepository::find(&*store).await.map_err(failed)?;
    prefixes.retain(|prefix| !is_own(prefix));
    if prefixes.is_empty() {
        return Err(ProtectError::EmptyStore);
    }
    let mut asked = stream::iter(prefixes)
        .map(|prefix| {
            let asked = ask(Arc::clone(&store), prefix, trust.clone(), &identities);
            async move { (prefix, asked.await) }
        })
        .buffer_unordered(AT_A_TIME);
    let (mut nodes, mut is_sure) = (Vec::new(), true);
    while let Some((prefix, asked)) = asked.next().await {
        match asked {
            Ok(node) => nodes.extend(node),
            // What fails for now may be the very node that is looked for.
            Err(error) if is_general(&error) => return Err(failed(error)),
            Err(error) => {
                is_sure &= is_foreign(&error);
                let error = &error as &dyn std::error::Error;
                tracing::warn!(%prefix, error, "a repository is passed over");
            }
        }
    }
    let names: Vec<(&str, Rank)> = nodes
        .iter()
        .map(|node| (node.name.as_str(), node.rank()))
        .collect();
    let chosen = choose(&names, &settings.name, wanted.from, is_sure)?;
    let found = nodes.swap_remove(chosen);
    let beat = found.remote.heartbeat().await.map_err(failed)?;
    let evidence = Evidence {
        head: found.commit.name,
        time: found.commit.commit.time,
        unreadable: found.snapshots.unreadable(),
        seen: None,
        word: beat.as_ref().map(|beat| said(beat, found.remote.id())),
        now: clock::now(),
    };
    let doubt = judge_head("the node", settings, wanted.allow_old, &evidence)?;
    let forks = forks(&found.snapshots, &found.snapshots.chain().map_err(failed)?);
    Ok(Found {
        prefix: found.prefix,
        opened: Opened::new(found.remote, found.commit, found.keys, forks, doubt),
        beat,
    })
}

/// Looks whether the repository at `prefix` is a node's.
async fn ask(
    store: Arc<dyn ObjectStore>,
    prefix: BucketPrefix,
    trust: Trust,
    identities: &[Identity],
) -> Result<Option<Candidate>, RemoteError> {
    let remote = RemoteRepository::open(store, prefix, None, trust).await?;
    let snapshots = remote.snapshots().await?;
    let commit = snapshots.newest()?.clone();
    let keys = remote.unlock(&commit, identities).await?;
    let mut labels = remote.labels(&commit, &keys).await?;
    if labels.get("kind").is_none_or(|kind| kind != "node") {
        return Ok(None);
    }
    Ok(Some(Candidate {
        prefix,
        name: labels.remove("node").unwrap_or_default(),
        remote,
        snapshots,
        commit,
        keys,
    }))
}

/// Whether the error is of the store, and not of what lies at one prefix.
fn is_general(error: &RemoteError) -> bool {
    matches!(error, RemoteError::Store(error) if error.kind.is_general())
}

/// Whether the error says that it is no repository of this operator's, or none any more.
fn is_foreign(error: &RemoteError) -> bool {
    match error {
        RemoteError::NoKey | RemoteError::Empty { refused: 0 } => true,
        RemoteError::Store(error) => error.kind == StoreErrorKind::NotFound,
        _ => false,
    }
}

/// Of several repositories of one node: the one whose writer was certified last, then the newest.
type Rank = (u32, Timestamp);

impl Candidate {
    fn rank(&self) -> Rank {
        (self.commit.name.epoch, self.commit.commit.time)
    }
}

/// Which of the nodes that were found, given as name and rank, is to be rebuilt: the one that was named, or
/// else the one of this machine's name `own`, or else the only one there is, if that is sure.
fn choose(
    nodes: &[(&str, Rank)],
    own: &str,
    from: Option<&str>,
    is_sure: bool,
) -> Result<usize, ProtectError> {
    let best = |name: &str| {
        let namesakes = (0..nodes.len()).filter(|at| nodes[*at].0 == name);
        namesakes.max_by_key(|at| nodes[*at].1)
    };
    if nodes.is_empty() {
        return Err(ProtectError::NoNode);
    }
    let mut names: Vec<&str> = nodes.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();
    let only = || match names.as_slice() {
        [only] if is_sure => best(only),
        _ => None,
    };
    let chosen = match from {
        Some(name) => best(name),
        None => best(own).or_else(only),
    };
    chosen.ok_or_else(|| ProtectError::NotThisNode {
        wanted: from.unwrap_or(own).to_owned(),
        found: names.join(", "),
        is_sure,
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// Names, and the second of the epoch as the age of the newest snapshot.
    const NODES: [(&str, u32, i64); 4] = [("a", 1, 9), ("b", 4, 2), ("a", 3, 1), ("a", 3, 0)];

    #[rstest]
    #[case::of_its_name(&NODES, "a", None, true, Some(2))]
    #[case::of_its_name_though_some_are_unread(&NODES, "b", None, false, Some(1))]
    #[case::named(&NODES, "a", Some("b"), true, Some(1))]
    #[case::named_and_not_there(&NODES, "a", Some("c"), true, None)]
    #[case::one_of_several(&NODES, "new", None, true, None)]
    #[case::the_only_one(&NODES[2..], "new", None, true, Some(0))]
    #[case::perhaps_not_the_only_one(&NODES[2..], "new", None, false, None)]
    #[case::none(&[], "a", None, true, None)]
    fn another_node_than_this_one_is_taken_only_where_nothing_else_can_be_meant(
        #[case] nodes: &[(&'static str, u32, i64)],
        #[case] own: &str,
        #[case] from: Option<&str>,
        #[case] is_sure: bool,
        #[case] expected: Option<usize>,
    ) {
        let rank = |(name, epoch, second): &(&'static str, u32, i64)| {
            (*name, (*epoch, Timestamp::from_second(*second).unwrap()))
        };
        let nodes: Vec<_> = nodes.iter().map(rank).collect();
        let chosen = choose(&nodes, own, from, is_sure);
        assert_eq!(chosen.ok(), expected);
    }
}
