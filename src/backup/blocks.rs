//! Blocks of a database: which pages of one have changed, and what of it is stored again.
//! Pure: it compares hashes and computes places; reading and storing is the pipeline's.

use std::ops::Range;

use super::file_record::{Content, Held};
use super::seal::ChunkIdKey;

/// A database is cut at multiples of this, in bytes: as long as other chunks, which compresses well and takes little of
/// the tree. That pages change at random places costs no more than the pages: see [`changes`].
pub const BLOCK: u64 = 256 << 10;
/// Changes are told by this many bytes: the size of most databases' pages, which divides that of the others.
pub const PAGE: usize = 4096;
/// A block in more pieces is stored anew: every piece takes some of the tree.
const MAX_PIECES: usize = 32;

/// The keyed hash of a page, by which it is known to be the one that was stored *at this place*: there is one
/// other page to take it for, and who chooses its bytes knows no hash, so 64 bits are enough.
pub fn page_hash(key: &ChunkIdKey, page: &[u8]) -> u64 {
    let id = key.id(page).0;
    id.first_chunk()
        .map_or(0, |start| u64::from_le_bytes(*start))
}

/// The hashes of all pages of `bytes`, which begin with a page.
pub fn page_hashes(key: &ChunkIdKey, bytes: &[u8]) -> Vec<u64> {
    bytes
        .chunks(PAGE)
        .map(|page| page_hash(key, page))
        .collect()
}

/// A run of pages of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Run {
    /// Bytes, from the block's start, that are as they were, and where they were.
    Same(Vec<Content>),
    /// Bytes, from the block's start, that are new.
    Changed(Range<usize>),
}

/// What is to be done with a block of `length` bytes that begins at `start` of the file, whose pages have the hashes
/// `pages`, after the file held what `earlier` says.
///
/// `None` to store all of it: little of it is as it was, or it would be in too many pieces. A block is so stored anew after
/// its pages have changed about sixteen times, which is why what is dead in a chunk stays a fraction of it.
pub fn changes(
    earlier: &mut Earlier<'_>,
    start: u64,
    length: usize,
    pages: &[u64],
) -> Option<Vec<Run>> {
    let first = usize::try_from(start / PAGE as u64).ok()?;
    let before = earlier.held.pages.get(first..)?;
    let is_same = |at: usize| before.get(at) == pages.get(at) && pages.get(at) != Some(&0);
    let same = (0..pages.len()).filter(|at| is_same(*at)).count();
    if same * 2 < pages.len() {
        return None;
    }
    let numbers: Vec<usize> = (0..pages.len()).collect();
    let (mut runs, mut pieces) = (Vec::new(), 0);
    for run in numbers.chunk_by(|a, b| is_same(*a) == is_same(*b)) {
        let from = run.first()? * PAGE;
        let to = ((run.last()? + 1) * PAGE).min(length);
        if is_same(*run.first()?) {
            let same = earlier.range(start + from as u64, start + to as u64)?;
            pieces += same.len();
            runs.push(Run::Same(same));
        } else {
            pieces += 1;
            runs.push(Run::Changed(from..to));
        }
    }
    (pieces <= MAX_PIECES).then_some(runs)
}

/// Reads what a file held before, from its beginning to its end.
pub struct Earlier<'a> {
    held: &'a Held,
    /// The next piece, …
    next: usize,
    /// … and where in the file it begins.
    offset: u64,
}

impl<'a> Earlier<'a> {
    /// At the beginning.
    pub fn new(held: &'a Held) -> Self {
        Self {
            held,
            next: 0,
            offset: 0,
        }
    }

    /// The pieces that held these bytes, which come after those asked for before; `None` if there was a hole, or the end.
    fn range(&mut self, start: u64, end: u64) -> Option<Vec<Content>> {
        let mut found = Vec::new();
        let mut position = start;
        while position < end {
            let piece = self.held.content.get(self.next)?;
            let past = self.offset + piece.length();
            if past <= position {
                self.offset = past;
                self.next += 1;
                continue;
            }
            let Content::Extent { extent, skip, .. } = *piece else {
                return None;
            };
            // Both are less than the length of an extent.
            let into = u32::try_from(position.checked_sub(self.offset)?).ok()?;
            let take = u32::try_from(past.min(end) - position).ok()?;
            found.push(Content::Extent {
                extent,
                skip: skip + into,
                take,
            });
            position = past.min(end);
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LENGTH: usize = 64 * PAGE;

    fn extent(extent: u32, skip: usize, take: usize) -> Content {
        Content::Extent {
            extent,
            skip: skip.try_into().unwrap(),
            take: take.try_into().unwrap(),
        }
    }

    /// Two blocks, each one extent.
    fn held() -> Held {
        Held {
            content: [extent(1, 0, LENGTH), extent(2, 0, LENGTH)].into(),
            pages: (1..=128).collect(),
        }
    }

    fn changed(held: &Held, block: u64, pages: &[usize]) -> Option<Vec<Run>> {
        let first = usize::try_from(block).unwrap() * 64;
        let mut now = held.pages[first..][..64].to_vec();
        for page in pages {
            now[*page] += 1000;
        }
        changes(&mut Earlier::new(held), block * BLOCK, LENGTH, &now)
    }

    #[test]
    fn an_unchanged_block_stays_what_it_was() {
        let runs = changed(&held(), 1, &[]).unwrap();
        assert_eq!(runs, [Run::Same(vec![extent(2, 0, LENGTH)])]);
    }

    #[test]
    fn of_a_changed_block_only_the_changed_pages_are_stored() {
        let runs = changed(&held(), 0, &[0, 7, 8]).unwrap();
        let expected = [
            Run::Changed(0..PAGE),
            Run::Same(vec![extent(1, PAGE, 6 * PAGE)]),
            Run::Changed(7 * PAGE..9 * PAGE),
            Run::Same(vec![extent(1, 9 * PAGE, 55 * PAGE)]),
        ];
        assert_eq!(runs, expected);
    }

    #[test]
    fn a_block_that_is_mostly_new_or_in_many_pieces_is_stored_whole() {
        let half: Vec<usize> = (0..33).collect();
        assert_eq!(changed(&held(), 0, &half), None);
        let scattered: Vec<usize> = (0..17).map(|at| at * 3 + 1).collect();
        assert_eq!(changed(&held(), 0, &scattered), None);
        assert!(changed(&held(), 0, &scattered[..15]).is_some());
    }

    #[test]
    fn pages_that_are_not_known_count_as_changed() {
        let held = Held {
            pages: vec![0; 128].into(),
            ..held()
        };
        assert_eq!(changed(&held, 0, &[]), None);
        assert_eq!(changes(&mut Earlier::new(&held), 2 * BLOCK, 1, &[5]), None);
    }

    proptest! {
        /// Whatever changes: the pieces cover the block, in order, and each is what was there or is new.
        #[test]
        fn every_byte_of_a_block_is_covered_once(
            rounds in prop::collection::vec(prop::collection::vec(0_usize..128, 0..12), 1..12),
            last in 1_usize..=PAGE,
        ) {
            let mut held = held();
            // What the file has at each place: the extent and where in it.
            let mut model: Vec<(u32, usize)> = (0..2 * LENGTH)
                .step_by(PAGE)
                .map(|at| (1 + u32::from(at >= LENGTH), at % LENGTH))
                .collect();
            let mut next = 3;
            let end = 2 * LENGTH - PAGE + last;
            for round in rounds {
                let mut pages = held.pages.to_vec();
                for page in &round {
                    pages[*page] += 1000;
                }
                let mut earlier = Earlier::new(&held);
                let mut content = Vec::new();
                for block in 0..2 {
                    let start = block * LENGTH;
                    let length = LENGTH.min(end - start);
                    let hashes = &pages[block * 64..][..64];
                    let runs = changes(&mut earlier, start as u64, length, hashes);
                    let runs = runs.unwrap_or_else(|| vec![Run::Changed(0..length)]);
                    for run in runs {
                        match run {
                            Run::Same(same) => content.extend(same),
                            Run::Changed(range) => {
                                content.push(extent(next, 0, range.len()));
                                for at in range.clone().step_by(PAGE) {
                                    model[(start + at) / PAGE] = (next, at - range.start);
                                }
                                next += 1;
                            }
                        }
                    }
                }
                prop_assert_eq!(content.iter().map(Content::length).sum::<u64>(), end as u64);
                let mut offset = 0;
                for piece in &content {
                    let Content::Extent { extent, skip, take } = *piece else { panic!("a hole") };
                    for at in (0..take as usize).step_by(PAGE) {
                        let expected = model[(offset + at) / PAGE];
                        prop_assert_eq!((extent, skip as usize + at), expected);
                    }
                    offset += take as usize;
                }
                held = Held { content: content.into(), pages: pages.into() };
            }
        }
    }
}
