//! Where a file is cut into chunks: by content, or in aligned blocks for databases.
//! Cuts decide what is stored twice and never what is restored.

use fastcdc::v2020::FastCDC;
use serde::{Deserialize, Serialize};

/// The largest chunk, in bytes; readers refuse more.
pub const MAX_CHUNK: usize = 1 << 20;
const AVERAGE_CHUNK: usize = 256 << 10;
const MIN_CHUNK: usize = 64 << 10;

/// The size of a database's blocks, in bytes: small, because pages change at random places, and a multiple of
/// every common page size. A repository keeps the one that it was made with; another would store its databases anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct BlockSize(u32);

impl BlockSize {
    /// Of new repositories; `docs/decisions/0014` has the figures.
    pub const NEW: Self = Self(32 << 10);
    /// Of repositories that were made before there was a choice.
    pub const FIRST: Self = Self(64 << 10);

    /// In bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }
}

/// A block size that is none.
#[derive(Debug, thiserror::Error)]
#[error("a block has 4096 to {MAX_CHUNK} bytes and is a power of two, not {0}")]
pub struct BlockSizeError(u32);

impl TryFrom<u32> for BlockSize {
    type Error = BlockSizeError;

    fn try_from(bytes: u32) -> Result<Self, BlockSizeError> {
        let is_good = bytes.is_power_of_two() && (4096..=MAX_CHUNK as u64).contains(&bytes.into());
        is_good.then_some(Self(bytes)).ok_or(BlockSizeError(bytes))
    }
}

impl From<BlockSize> for u32 {
    fn from(size: BlockSize) -> Self {
        size.0
    }
}

/// How a file is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunking {
    /// `FastCDC` with the format's parameters.
    Content,
    /// Blocks, aligned to the file's start.
    Blocks(BlockSize),
}

impl Chunking {
    /// How many first bytes [`Self::for_start`] looks at.
    pub const MAGIC: usize = 16;

    /// Chooses by a file's first bytes.
    ///
    /// The magic numbers are `SQLite`'s (<https://www.sqlite.org/fileformat.html>, 1.3.1)
    /// and redb's (its `docs/design.md`, "super-header").
    pub fn for_start(start: &[u8], block: BlockSize) -> Self {
        let database = start.starts_with(b"SQLite format 3\0")
            || start.starts_with(b"redb\x1A\x0A\xA9\x0D\x0A");
        if database {
            Self::Blocks(block)
        } else {
            Self::Content
        }
    }

    /// The length of the next chunk of `data`, which is at `offset` of the file.
    ///
    /// `data` must hold [`MAX_CHUNK`] bytes unless the run of data ends with it. It is zero
    /// only for no data.
    pub fn cut(self, data: &[u8], offset: u64) -> usize {
        match self {
            Self::Content => {
                let data = &data[..data.len().min(MAX_CHUNK)];
                let chunker = FastCDC::new(data, MIN_CHUNK, AVERAGE_CHUNK, MAX_CHUNK);
                chunker.cut(0, data.len()).1
            }
            Self::Blocks(BlockSize(block)) => {
                let left = u64::from(block) - offset % u64::from(block);
                data.len().min(usize::try_from(left).unwrap_or(MAX_CHUNK))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A fixed pseudo-random input (xorshift64, seed 1), so that the vectors need no crate to stay.
    pub fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    fn lengths(chunking: Chunking, data: &[u8], mut offset: u64) -> Vec<usize> {
        let mut rest = data;
        let mut lengths = Vec::new();
        while !rest.is_empty() {
            let length = chunking.cut(rest, offset);
            lengths.push(length);
            offset += length as u64;
            rest = &rest[length..];
        }
        lengths
    }

    #[test]
    fn cut_points_are_those_of_the_golden_vector() {
        let found = lengths(Chunking::Content, &noise(8 << 20), 0);
        let golden: Vec<usize> = include_str!("../../tests/vectors/v2/cut-points.txt")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.parse().unwrap())
            .collect();
        assert_eq!(found, golden);
    }

    #[test]
    fn databases_are_cut_at_aligned_blocks() {
        let blocks = |start: &[u8]| Chunking::for_start(start, BlockSize::FIRST);
        assert_eq!(
            blocks(b"SQLite format 3\0rest"),
            Chunking::Blocks(BlockSize::FIRST)
        );
        assert_eq!(blocks(b"SQLite"), Chunking::Content);
        assert_eq!(
            lengths(Chunking::Blocks(BlockSize::FIRST), &vec![0; 150_000], 4096),
            vec![61_440, 65_536, 23_024]
        );
    }

    #[test]
    fn a_block_is_a_power_of_two_that_a_reader_takes() {
        for good in [4096, 16 << 10, 1 << 20] {
            assert_eq!(BlockSize::try_from(good).unwrap().bytes(), good);
        }
        for bad in [0, 2048, 5000, 2 << 20, u32::MAX] {
            assert!(BlockSize::try_from(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn every_byte_is_in_one_chunk_of_allowed_size(length in 0_usize..4_000_000) {
            let data = noise(length);
            let cuts = lengths(Chunking::Content, &data, 0);
            prop_assert_eq!(cuts.iter().sum::<usize>(), length);
            prop_assert!(cuts.iter().all(|cut| *cut > 0 && *cut <= MAX_CHUNK));
            let full = &cuts[..cuts.len().saturating_sub(1)];
            prop_assert!(full.iter().all(|cut| *cut >= MIN_CHUNK));
        }
    }
}
