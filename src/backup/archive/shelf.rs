//! Keeps the last few packs while files are read in order, and tells beforehand which will be fetched when.
//! Pure: the same rule decides both what is fetched ahead and what is kept.

use std::collections::VecDeque;

use crate::backup::entry::{Entry, EntryKind, Piece};
use crate::backup::id::Digest;

/// Decrypted packs kept at a time, of at most 16 MiB each: neighbours in a tree are mostly neighbours in packs.
pub(super) const PLACES: usize = 5;

/// A few values by the pack they are of; the one that was asked for the longest ago goes first.
#[derive(Debug)]
pub(super) struct Shelf<T>(VecDeque<(Digest, T)>);

impl<T> Shelf<T> {
    pub(super) fn new() -> Self {
        Self(VecDeque::with_capacity(PLACES))
    }

    /// Moves a pack to the front, and says whether it is there.
    pub(super) fn touch(&mut self, pack: Digest) -> bool {
        let Some(at) = self.0.iter().position(|(digest, _)| *digest == pack) else {
            return false;
        };
        let found = self.0.remove(at);
        self.0.extend(found);
        true
    }

    pub(super) fn put(&mut self, pack: Digest, value: T) {
        if self.0.len() == PLACES {
            self.0.pop_front();
        }
        self.0.push_back((pack, value));
    }

    /// What was touched or put last.
    pub(super) fn last(&self) -> Option<&T> {
        self.0.back().map(|(_, value)| value)
    }
}

/// The packs in the order in which they are fetched when all files are read one after the other.
pub(super) fn fetches(entries: &[Entry]) -> Vec<Digest> {
    let mut shelf = Shelf::new();
    let mut fetches = Vec::new();
    let pieces = entries.iter().flat_map(|entry| match &entry.kind {
        EntryKind::File { pieces, .. } => pieces.as_slice(),
        _ => &[],
    });
    for piece in pieces {
        if let Piece::Chunk { pack, .. } = piece
            && !shelf.touch(*pack)
        {
            shelf.put(*pack, ());
            fetches.push(*pack);
        }
    }
    fetches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_the_longest_ago_goes_first() {
        let pack = |number: u8| Digest::of(&[number]);
        let mut shelf = Shelf::new();
        for number in 0..PLACES {
            shelf.put(pack(u8::try_from(number).unwrap()), number);
        }
        assert!(shelf.touch(pack(0)));
        assert_eq!(shelf.last(), Some(&0));
        shelf.put(pack(99), 99);
        assert!(!shelf.touch(pack(1)));
        assert!(shelf.touch(pack(0)) && shelf.touch(pack(99)));
    }
}
