//! Where a file is cut into chunks: by content, or in aligned blocks for databases.
//! Cuts decide what is stored twice and never what is restored.

use fastcdc::v2020::FastCDC;

use super::blocks::BLOCK;

/// The largest chunk, in bytes; readers refuse more.
pub const MAX_CHUNK: usize = 1 << 20;
const AVERAGE_CHUNK: usize = 256 << 10;
const MIN_CHUNK: usize = 64 << 10;

/// How a file is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunking {
    /// `FastCDC` with the format's parameters.
    Content,
    /// Blocks, aligned to the file's start.
    Blocks,
}

impl Chunking {
    /// How many first bytes [`Self::for_start`] looks at.
    pub const MAGIC: usize = 16;

    /// Chooses by a file's first bytes.
    ///
    /// The magic numbers are `SQLite`'s (<https://www.sqlite.org/fileformat.html>, 1.3.1)
    /// and redb's (its `docs/design.md`, "super-header").
    pub fn for_start(start: &[u8]) -> Self {
        let database = start.starts_with(b"SQLite format 3\0")
            || start.starts_with(b"redb\x1A\x0A\xA9\x0D\x0A");
        if database {
            Self::Blocks
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
            Self::Blocks => {
                let left = BLOCK - offset % BLOCK;
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
        let golden: Vec<usize> = include_str!("../../tests/vectors/v3/cut-points.txt")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.parse().unwrap())
            .collect();
        assert_eq!(found, golden);
    }

    #[test]
    fn databases_are_cut_at_aligned_blocks() {
        let start = b"SQLite format 3\0rest";
        assert_eq!(Chunking::for_start(start), Chunking::Blocks);
        assert_eq!(Chunking::for_start(b"SQLite"), Chunking::Content);
        assert_eq!(
            lengths(Chunking::Blocks, &vec![0; 600_000], 4096),
            vec![258_048, 262_144, 79_808]
        );
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
