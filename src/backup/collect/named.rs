//! Which objects a commit names, itself and by its lists.

use std::collections::{HashMap, HashSet};

use super::objects::Objects;
use crate::backup::commit::Commit;
use crate::backup::id::Digest;
use crate::backup::names::ObjectNames;
use crate::backup::pack_list::{ListObject, MAX_LIST};
use crate::object_store::{Collector, StoreError};

/// Reads lists, each once.
pub(super) struct Named<'a> {
    store: &'a dyn Collector,
    names: ObjectNames,
    objects: &'a Objects,
    lists: HashMap<Digest, Option<Vec<Digest>>>,
}

impl<'a> Named<'a> {
    pub(super) fn new(store: &'a dyn Collector, names: ObjectNames, objects: &'a Objects) -> Self {
        Self {
            store,
            names,
            objects,
            lists: HashMap::new(),
        }
    }

    /// The digests of all parts of the tree, lists and packs that a commit names. The inner error is
    /// a list that no version of its object fits.
    pub(super) async fn of(
        &mut self,
        commit: &Commit,
    ) -> Result<Result<HashSet<Digest>, Digest>, StoreError> {
        let own = [&commit.tree, &commit.packs, &commit.lists];
        let mut named: HashSet<Digest> = own
            .into_iter()
            .flatten()
            .map(|object| object.sha256)
            .collect();
        for list in &commit.lists {
            match self.list(list.sha256).await? {
                Some(packs) => named.extend(packs),
                None => return Ok(Err(list.sha256)),
            }
        }
        Ok(Ok(named))
    }

    async fn list(&mut self, digest: Digest) -> Result<Option<&[Digest]>, StoreError> {
        if !self.lists.contains_key(&digest) {
            let name = self.names.list(&digest);
            let read = self
                .objects
                .read(self.store, &name, digest, MAX_LIST)
                .await?;
            let list = read.and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok());
            let packs = |list: ListObject| list.packs.iter().map(|pack| pack.sha256).collect();
            self.lists.insert(digest, list.map(packs));
        }
        Ok(self.lists.get(&digest).and_then(Option::as_deref))
    }
}
