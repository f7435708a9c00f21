//! Which packs a commit names itself and which by a list, so that commits stay small however large a tenant is.
//! A pure choice: lists of earlier commits are kept as long as every pack in them is still needed.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::commit::ObjectRef;
use super::id::Digest;
use super::index::PackList;

/// A commit names at most this many packs itself.
const MAX_INLINE: usize = 256;
/// Packs in one list.
const MAX_LISTED: usize = 4096;
/// Longest list object, in bytes.
pub const MAX_LIST: u64 = 1 << 20;

/// The content of a list object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListObject {
    /// Random, so that no two lists ever have one name: what a collector deletes is then never
    /// what a writer has just stored again.
    pub salt: String,
    /// The packs.
    pub packs: Vec<ObjectRef>,
}

/// How a commit names its packs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arranged {
    /// Lists that are stored already.
    pub kept: Vec<PackList>,
    /// Lists to store.
    pub new: Vec<ListObject>,
    /// Packs that the commit names itself.
    pub inline: Vec<ObjectRef>,
}

/// Arranges the packs that a commit needs, given the lists of the commit before.
pub fn arrange(needed: &[ObjectRef], previous: &[PackList]) -> Arranged {
    let wanted: HashSet<Digest> = needed.iter().map(|pack| pack.sha256).collect();
    let kept: Vec<PackList> = previous
        .iter()
        .filter(|list| list.packs.iter().all(|pack| wanted.contains(pack)))
        .cloned()
        .collect();
    let listed: HashSet<&Digest> = kept.iter().flat_map(|list| &list.packs).collect();
    let mut inline: Vec<ObjectRef> = needed
        .iter()
        .filter(|pack| !listed.contains(&pack.sha256))
        .copied()
        .collect();
    let mut new = Vec::new();
    if inline.len() > MAX_INLINE {
        new = inline
            .chunks(MAX_LISTED)
            .map(|packs| ListObject {
                salt: String::new(),
                packs: packs.to_vec(),
            })
            .collect();
        inline.clear();
    }
    Arranged { kept, new, inline }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pack(number: usize) -> ObjectRef {
        ObjectRef {
            sha256: Digest::of(&number.to_le_bytes()),
            size: number as u64,
        }
    }

    fn list(numbers: impl Iterator<Item = usize>) -> PackList {
        PackList {
            object: pack(1 << 40),
            packs: numbers.map(|n| pack(n).sha256).collect(),
        }
    }

    proptest! {
        #[test]
        fn every_pack_is_named_once_and_no_other(
            needed in 0_usize..9000, first in 1_usize..5000, second in 1_usize..5000,
        ) {
            let packs: Vec<_> = (0..needed).map(pack).collect();
            let previous = [list(0..first), list(first..first + second)];
            let arranged = arrange(&packs, &previous);
            let mut named: Vec<Digest> = arranged.inline.iter().map(|pack| pack.sha256).collect();
            named.extend(arranged.kept.iter().flat_map(|list| &list.packs));
            named.extend(arranged.new.iter().flat_map(|list| &list.packs).map(|pack| pack.sha256));
            let mut expected: Vec<_> = packs.iter().map(|pack| pack.sha256).collect();
            named.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(named, expected);
            prop_assert!(arranged.inline.len() <= MAX_INLINE);
            prop_assert_eq!(arranged.kept.len(), usize::from(needed >= first) + usize::from(needed >= first + second));
        }
    }
}
