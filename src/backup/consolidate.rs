//! Keeps the packs of a snapshot few: what is alive in small and mostly dead packs is read from the live
//! files and stored again, within a budget. Choosing is pure; nothing is ever fetched from the store.

use std::os::unix::fs::FileExt as _;

use super::blocks::PAGE;
use super::capture::{Capture, CaptureError};
use super::commit::ObjectRef;
use super::extents::{Extents, Located};
use super::file_record::{Content, FileRecord};
use super::pack::MAX_PACK;
use super::pipeline::Pipeline;

/// A pack with less than this alive is small.
const SMALL: u64 = MAX_PACK as u64 / 4;
/// That many small packs are left alone: merging each with the next would send everything again and again.
const SMALL_ALLOWED: usize = 16;

/// A pack and what the snapshot uses of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PackUse {
    /// Its size in bytes.
    size: u64,
    /// The size of the frames in it that are used.
    live: u64,
}

impl PackUse {
    fn is_small(&self) -> bool {
        self.live < SMALL
    }

    fn is_sparse(&self) -> bool {
        self.live * 2 < self.size
    }
}

/// Which packs to rewrite, by number: those that cost least first, together at most `budget` live bytes.
fn choose(packs: &[PackUse], budget: u64) -> Vec<usize> {
    let is_used = |at: &usize| packs[*at].live > 0;
    let all = || (0..packs.len()).filter(is_used);
    let mut small: Vec<usize> = all().filter(|at| packs[*at].is_small()).collect();
    if small.len() <= SMALL_ALLOWED {
        small.retain(|at| packs[*at].is_sparse() && packs[*at].size >= SMALL);
    }
    let sparse = all().filter(|at| !packs[*at].is_small() && packs[*at].is_sparse());
    let mut candidates: Vec<usize> = small.into_iter().chain(sparse).collect();
    candidates.sort_by_key(|at| (packs[*at].live, *at));
    let mut left = budget;
    candidates
        .into_iter()
        .take_while(|at| {
            let fits = packs[*at].live <= left;
            left = left.saturating_sub(packs[*at].live);
            fits
        })
        .collect()
}

/// Pieces of one file that are to be stored again.
struct Wanted {
    path: Vec<u8>,
    pieces: Vec<Piece>,
}

/// One of them.
struct Piece {
    /// Its number in the file's content.
    number: usize,
    /// Where in the file it is.
    offset: u64,
    extent: u32,
    length: u32,
    /// The hashes of its pages, where it is only a part of its extent; without, it is all of it.
    pages: Option<Vec<u64>>,
}

/// Stores again what is alive in the packs that are worth it; gives the number of bytes read.
///
/// A file that changed meanwhile is no harm: only bytes whose hash is known are taken.
///
/// # Errors
/// Only the pipeline's: a pack that could not be rewritten is used as before.
pub(super) fn consolidate(
    capture: &mut Capture,
    pipeline: &mut Pipeline,
    packs: &[ObjectRef],
    budget: u64,
) -> Result<u64, CaptureError> {
    if budget == 0 || !pipeline.has_new() {
        // Without new data there may be no commit, and no pack was added.
        return Ok(0);
    }
    let extents = pipeline.extents();
    let chosen = choose(&uses(capture, extents, packs), budget);
    let mut is_chosen = vec![false; packs.len()];
    for at in chosen {
        is_chosen[at] = true;
    }
    let wanted: Vec<Wanted> = capture
        .files()
        .filter_map(|(path, record)| {
            let pieces = wanted_of(record, extents, &is_chosen);
            let path = path.to_vec();
            (!pieces.is_empty()).then_some(Wanted { path, pieces })
        })
        .collect();
    let mut bytes = 0;
    for wanted in wanted {
        bytes += store_again(capture, pipeline, &is_chosen, wanted)?;
    }
    Ok(bytes)
}

/// The pieces of a file in chosen packs whose bytes can be proved.
fn wanted_of(record: &FileRecord, extents: &Extents, is_chosen: &[bool]) -> Vec<Piece> {
    let mut wanted = Vec::new();
    let mut offset = 0;
    for (number, content) in record.held.content.iter().enumerate() {
        if let Content::Extent { extent, skip, take } = *content
            && is_in(extents, extent, is_chosen)
        {
            let length = extents.extent(extent).map(|extent| extent.length);
            let is_whole = skip == 0 && Some(take) == length;
            let pages = pages_of(record, offset, take).map(<[u64]>::to_vec);
            if is_whole || pages.is_some() {
                wanted.push(Piece {
                    number,
                    offset,
                    extent,
                    length: take,
                    pages: pages.filter(|_| !is_whole),
                });
            }
        }
        offset += content.length();
    }
    wanted
}

/// The hashes of the pages that these bytes of a file are.
fn pages_of(record: &FileRecord, offset: u64, length: u32) -> Option<&[u64]> {
    if !offset.is_multiple_of(PAGE as u64) {
        return None;
    }
    let first = usize::try_from(offset / PAGE as u64).ok()?;
    let count = (length as usize).div_ceil(PAGE);
    record.held.pages.get(first..first.checked_add(count)?)
}

/// Whether an extent is in a chosen pack.
fn is_in(extents: &Extents, extent: u32, is_chosen: &[bool]) -> bool {
    let located = located(extents, extent);
    located.is_some_and(|(at, _)| is_chosen.get(at.pack as usize) == Some(&true))
}

/// Where the chunk of an extent is, if it was stored before, and how long it is.
fn located(extents: &Extents, extent: u32) -> Option<(Located, u32)> {
    let chunk = extents.chunk(extents.extent(extent)?.chunk)?;
    let at = chunk.located()?;
    Some((at, at.place.length))
}

fn store_again(
    capture: &mut Capture,
    pipeline: &mut Pipeline,
    is_chosen: &[bool],
    wanted: Wanted,
) -> Result<u64, CaptureError> {
    let Ok(Some(file)) = capture.open_file(&wanted.path, "read") else {
        return Ok(0);
    };
    let mut bytes = 0;
    let mut buffer = Vec::new();
    for piece in wanted.pieces {
        // An extent that two files have moves once.
        if !is_in(pipeline.extents(), piece.extent, is_chosen) {
            continue;
        }
        buffer.resize(piece.length as usize, 0);
        if file.read_exact_at(&mut buffer, piece.offset).is_err() {
            continue;
        }
        bytes += u64::from(piece.length);
        let Some(pages) = piece.pages else {
            pipeline
                .store_again(piece.extent, &buffer)
                .map_err(CaptureError::Pipeline)?;
            continue;
        };
        let held = pipeline.store_pages(&pages, &buffer);
        if let Some(held) = held.map_err(CaptureError::Pipeline)? {
            capture.replace(&wanted.path, piece.number, held);
        }
    }
    Ok(bytes)
}

/// What the captured files use of each pack: of a chunk, the share of its frame that they have. What several files have
/// counts several times, up to the pack's size: its pack is then rewritten later than it could be.
fn uses(capture: &Capture, extents: &Extents, packs: &[ObjectRef]) -> Vec<PackUse> {
    let size = |pack: &ObjectRef| PackUse {
        size: pack.size,
        live: 0,
    };
    let mut uses: Vec<PackUse> = packs.iter().map(size).collect();
    for (_, record) in capture.files() {
        for content in &record.held.content {
            let Content::Extent { extent, take, .. } = *content else {
                continue;
            };
            if let Some((at, length)) = located(extents, extent)
                && let Some(pack) = uses.get_mut(at.pack as usize)
            {
                let share = u64::from(at.place.stored) * u64::from(take);
                pack.live += share.div_ceil(u64::from(length.max(1)));
            }
        }
    }
    for pack in &mut uses {
        pack.live = pack.live.min(pack.size);
    }
    uses
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn pack((size, live): (u64, u64)) -> PackUse {
        PackUse { size, live }
    }

    #[rstest]
    #[case::few_small_ones_stay(vec![(MIB, MIB); 16], 32, &[])]
    #[case::many_small_ones_go(vec![(MIB, MIB); 17], 32, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16])]
    #[case::the_budget_holds(vec![(MIB, MIB); 17], 3, &[0, 1, 2])]
    #[case::full_ones_stay(vec![(16 * MIB, 9 * MIB); 40], 32, &[])]
    #[case::mostly_dead_ones_go(vec![(16 * MIB, 9 * MIB), (16 * MIB, 7 * MIB), (16 * MIB, MIB)], 32, &[2, 1])]
    #[case::the_deadest_first(vec![(16 * MIB, 7 * MIB), (16 * MIB, 5 * MIB)], 6, &[1])]
    #[case::what_is_dead_costs_nothing(vec![(MIB, 0); 40], 32, &[])]
    #[case::no_budget(vec![(MIB, MIB); 40], 0, &[])]
    fn packs_are_chosen(
        #[case] packs: Vec<(u64, u64)>,
        #[case] budget: u64,
        #[case] expected: &[usize],
    ) {
        let packs: Vec<PackUse> = packs.into_iter().map(pack).collect();
        assert_eq!(choose(&packs, budget * MIB), expected);
    }

    proptest! {
        #[test]
        fn the_budget_is_never_exceeded(
            packs in proptest::collection::vec((1_u64..16 * MIB, 0_u64..16 * MIB), 0..200),
            budget in 0_u64..64 * MIB,
        ) {
            let packs: Vec<PackUse> = packs.into_iter().map(|(size, live)| pack((size, live.min(size)))).collect();
            let chosen = choose(&packs, budget);
            prop_assert!(chosen.iter().map(|at| packs[*at].live).sum::<u64>() <= budget);
            let mut unique = chosen.clone();
            unique.sort_unstable();
            unique.dedup();
            prop_assert_eq!(unique.len(), chosen.len());
        }

        /// Each run adds a pack or two and lets parts of others die.
        #[test]
        fn the_number_of_packs_stays_bounded_and_so_does_what_is_sent_again(
            runs in proptest::collection::vec((1_u64..6 * MIB, any::<prop::sample::Index>(), 0_u64..100), 400),
        ) {
            let budget = 32 * MIB;
            let mut packs: Vec<PackUse> = Vec::new();
            let (mut sent, mut again) = (0, 0);
            for (new, dies, percent) in runs {
                packs.push(pack((new, new)));
                sent += new;
                let victim = dies.index(packs.len());
                packs[victim].live = packs[victim].live * percent / 100;
                let chosen = choose(&packs, budget);
                let mut live: u64 = chosen.iter().map(|at| packs[*at].live).sum();
                again += live;
                let mut at = 0;
                packs.retain(|pack| {
                    at += 1;
                    pack.live > 0 && !chosen.contains(&(at - 1))
                });
                while live > 0 {
                    let size = live.min(16 * MIB);
                    packs.push(pack((size, size)));
                    live -= size;
                }
                let total: u64 = packs.iter().map(|pack| pack.live).sum();
                let bound = SMALL_ALLOWED + 8 + usize::try_from(total / SMALL).unwrap();
                prop_assert!(packs.len() <= bound, "{} packs for {total} bytes", packs.len());
            }
            prop_assert!(again <= 4 * sent + budget, "{again} again for {sent}");
        }
    }
}
