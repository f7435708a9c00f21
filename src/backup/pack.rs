//! Packs: many chunks in one object, each a zstd frame, sealed as a whole.
//! It lays out and takes apart bytes; which chunks belong together is the pipeline's affair.

use bytes::Bytes;

use super::chunker::MAX_CHUNK;
use super::frame::FrameWriter;
use super::id::{ChunkId, Digest};
use super::padding;
use super::ranges::Span;
use super::seal::{self, Identity, Recipient, SealError};

/// The largest pack as it is stored, in bytes: one PUT, no multipart state.
pub const MAX_PACK: usize = 16 << 20;
/// The largest plain pack: what age adds (16 bytes per 64 KiB, and its header) must fit, and it is the
/// last class of padded lengths that does.
pub(super) const MAX_PLAIN: usize = MAX_PACK - (256 << 10);
/// The magic number of the skippable frame (RFC 8878, 3.1.2) that holds the directory.
const SKIPPABLE: u32 = 0x184D_2A50;
/// A directory entry's JSON is never longer than this.
const DIRECTORY_ENTRY: usize = 96;

/// Why a pack or a chunk in it could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// zstd failed to compress.
    #[error("zstd could not compress a chunk")]
    Compress(#[source] std::io::Error),
    /// age failed.
    #[error("the pack could not be encrypted or decrypted")]
    Seal(#[source] SealError),
    /// A place that is not inside the pack.
    #[error("the tree names bytes {offset}..+{stored} of a pack of which {size} were read")]
    Place {
        /// Where the frame should start.
        offset: u32,
        /// How long it should be.
        stored: u32,
        /// How much of the plain pack was read.
        size: usize,
    },
    /// The frame is not one of a chunk of that length.
    #[error("the chunk at {offset} is not a zstd frame of {length} bytes")]
    Frame {
        /// Where the frame starts.
        offset: u32,
        /// What it should give.
        length: u32,
        /// What zstd says, if it was zstd that refused.
        #[source]
        source: Option<std::io::Error>,
    },
    /// The directory at the end is damaged.
    #[error("the directory of the pack is damaged")]
    Directory,
}

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Offset of its zstd frame in the decrypted pack.
    pub offset: u32,
    /// Length of the frame.
    pub stored: u32,
    /// Length of the chunk.
    pub length: u32,
}

/// A pack that is being filled.
pub struct PackBuilder {
    plain: Vec<u8>,
    chunks: Vec<(ChunkId, Place)>,
    frames: FrameWriter,
}

impl PackBuilder {
    /// An empty pack; `level` is zstd's.
    ///
    /// # Errors
    /// zstd does not know the level.
    pub fn new(level: i32) -> Result<Self, PackError> {
        let frames = FrameWriter::new(level).map_err(PackError::Compress)?;
        Ok(Self {
            // Growing it would take as much again for a moment; what is not used takes no memory.
            plain: Vec::with_capacity(MAX_PLAIN),
            chunks: Vec::new(),
            frames,
        })
    }

    /// Whether a chunk of `length` bytes fits, however badly it compresses.
    pub fn has_room(&self, length: usize) -> bool {
        let directory = (self.chunks.len() + 1) * DIRECTORY_ENTRY + 64 + padding::FRAME_HEADER;
        self.plain.len() + FrameWriter::bound(length) + directory <= MAX_PLAIN
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Appends a chunk, which must have room.
    ///
    /// # Errors
    /// zstd's.
    pub fn push(&mut self, id: ChunkId, chunk: &[u8]) -> Result<(), PackError> {
        debug_assert!(chunk.len() <= MAX_CHUNK && self.has_room(chunk.len()));
        let offset = self.plain.len();
        let stored = self
            .frames
            .append(chunk, &mut self.plain)
            .map_err(PackError::Compress)?;
        let place = Place {
            offset: small(offset),
            stored: small(stored),
            length: small(chunk.len()),
        };
        self.chunks.push((id, place));
        Ok(())
    }

    /// Closes the pack, using the memory of `buffer`, and starts a new one in its place.
    ///
    /// # Errors
    /// age's.
    pub fn seal(
        &mut self,
        recipient: &Recipient,
        buffer: Vec<u8>,
    ) -> Result<SealedPack, PackError> {
        append_directory(&mut self.plain, &self.chunks)?;
        let bytes = seal::seal_into(buffer, std::iter::once(recipient), &self.plain)
            .map_err(PackError::Seal)?;
        self.plain.clear();
        let chunks = std::mem::take(&mut self.chunks);
        Ok(SealedPack {
            digest: Digest::of(&bytes),
            bytes,
            chunks,
        })
    }
}

/// Sizes inside a pack are below [`MAX_PACK`], which fits.
fn small(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// A pack as it is stored.
pub struct SealedPack {
    /// Its name.
    pub digest: Digest,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What is in it.
    pub chunks: Vec<(ChunkId, Place)>,
}

fn append_directory(plain: &mut Vec<u8>, chunks: &[(ChunkId, Place)]) -> Result<(), PackError> {
    let entries: Vec<_> = chunks
        .iter()
        .map(|(id, place)| (id, place.stored, place.length))
        .collect();
    let mut payload = serde_json::to_vec(&entries).map_err(|_| PackError::Directory)?;
    let whole = small(payload.len() + 4 + 8);
    padding::pad(plain, whole as usize);
    payload.extend_from_slice(&whole.to_le_bytes());
    plain.extend_from_slice(&SKIPPABLE.to_le_bytes());
    plain.extend_from_slice(&small(payload.len()).to_le_bytes());
    plain.extend_from_slice(&payload);
    Ok(())
}

/// A decrypted pack, or parts of one.
pub struct OpenPack {
    /// Plain bytes by their offset, in order.
    parts: Vec<(u64, Vec<u8>)>,
}

impl OpenPack {
    /// Decrypts a pack, whose digest the caller has checked.
    ///
    /// # Errors
    /// age's.
    pub fn open(identity: &Identity, sealed: &[u8]) -> Result<Self, PackError> {
        let plain = seal::open(identity, sealed, MAX_PACK as u64).map_err(PackError::Seal)?;
        Ok(Self::whole(plain))
    }

    fn whole(plain: Vec<u8>) -> Self {
        Self {
            parts: vec![(0, plain)],
        }
    }

    /// Decrypts the parts of a pack that were read.
    ///
    /// Nothing tells here that it is the right pack; only the ids of the chunks do.
    ///
    /// # Errors
    /// age's.
    pub fn open_spans(
        identity: &Identity,
        pieces: &[(u64, Bytes)],
        spans: &[Span],
    ) -> Result<Self, PackError> {
        let parts = seal::open_spans(identity, pieces, spans).map_err(PackError::Seal)?;
        Ok(Self { parts })
    }

    /// The bytes at a place, if they were read.
    fn bytes(&self, offset: u32, stored: u32) -> Option<&[u8]> {
        let before = |part: &(u64, Vec<u8>)| part.0 <= u64::from(offset);
        let part = self.parts.partition_point(before).checked_sub(1)?;
        let (start, plain) = self.parts.get(part)?;
        let at = usize::try_from(u64::from(offset) - start).ok()?;
        plain.get(at..at.checked_add(stored as usize)?)
    }

    /// A pack whose plain bytes anybody may have made.
    #[cfg(test)]
    pub fn of_plain(plain: Vec<u8>) -> Self {
        Self::whole(plain)
    }

    /// Decompresses the chunk at `place` into `chunk`, which gets exactly its length.
    ///
    /// # Errors
    /// The place is outside the pack, or holds something else.
    pub fn read(
        &self,
        decompressor: &mut zstd::bulk::Decompressor<'_>,
        place: Place,
        chunk: &mut Vec<u8>,
    ) -> Result<(), PackError> {
        let Place {
            offset,
            stored,
            length,
        } = place;
        let frame = self.bytes(offset, stored).ok_or_else(|| PackError::Place {
            offset,
            stored,
            size: self.parts.iter().map(|(_, plain)| plain.len()).sum(),
        })?;
        let wrong = |source| PackError::Frame {
            offset,
            length,
            source,
        };
        if length as usize > MAX_CHUNK {
            return Err(wrong(None));
        }
        // The claimed length bounds what a hostile frame can expand to.
        chunk.resize(length as usize, 0);
        let got = decompressor
            .decompress_to_buffer(frame, chunk.as_mut_slice())
            .map_err(|error| wrong(Some(error)))?;
        if got != length as usize {
            return Err(wrong(None));
        }
        Ok(())
    }

    /// The directory of a whole pack: every chunk and its place, to rebuild an index.
    ///
    /// # Errors
    /// It is damaged.
    pub fn directory(&self) -> Result<Vec<(ChunkId, Place)>, PackError> {
        let [(0, plain)] = self.parts.as_slice() else {
            return Err(PackError::Directory);
        };
        let (body, tail) = plain.split_last_chunk::<4>().ok_or(PackError::Directory)?;
        let whole = u32::from_le_bytes(*tail) as usize;
        let start = plain.len().checked_sub(whole).ok_or(PackError::Directory)?;
        let json = body.get(start + 8..).ok_or(PackError::Directory)?;
        let entries: Vec<(ChunkId, u32, u32)> =
            serde_json::from_slice(json).map_err(|_| PackError::Directory)?;
        let mut offset = 0_u32;
        let mut chunks = Vec::with_capacity(entries.len());
        for (id, stored, length) in entries {
            chunks.push((
                id,
                Place {
                    offset,
                    stored,
                    length,
                },
            ));
            offset = offset.checked_add(stored).ok_or(PackError::Directory)?;
        }
        // Between the last chunk and the directory there is padding, and nothing else.
        match plain.get(offset as usize..start) {
            Some(between) if padding::is_padding(between) => Ok(chunks),
            _ => Err(PackError::Directory),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::ranges::Access;
    use crate::backup::seal::ChunkIdKey;

    fn pack_of(chunks: &[&[u8]]) -> (Identity, SealedPack) {
        let identity = Identity::generate();
        let key = ChunkIdKey::from_bytes([3; 32]);
        let mut builder = PackBuilder::new(1).unwrap();
        for chunk in chunks {
            builder.push(key.id(chunk), chunk).unwrap();
        }
        let pack = builder.seal(&identity.recipient(), Vec::new()).unwrap();
        (identity, pack)
    }

    #[test]
    fn chunks_are_read_back_at_their_places() {
        let large = vec![7; MAX_CHUNK];
        let chunks: [&[u8]; 3] = [b"small", &large, b""];
        let (identity, pack) = pack_of(&chunks);
        let open = OpenPack::open(&identity, &pack.bytes).unwrap();
        let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
        let mut chunk = Vec::new();
        for ((_, place), expected) in pack.chunks.iter().zip(chunks) {
            open.read(&mut decompressor, *place, &mut chunk).unwrap();
            assert_eq!(chunk, expected);
        }
        assert_eq!(open.directory().unwrap(), pack.chunks);
        let all = zstd::decode_all(open.parts[0].1.as_slice()).unwrap();
        assert_eq!(all, chunks.concat(), "the plain pack is a zstd stream");
    }

    #[test]
    fn chunks_are_read_back_from_ranges_of_the_stored_pack() {
        let noise: Vec<u8> = (0..900_000_u32)
            .map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[3])
            .collect();
        let chunks: Vec<&[u8]> = noise.chunks(9000).collect();
        let (identity, pack) = pack_of(&chunks);
        let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
        let mut chunk = Vec::new();
        for wanted in [vec![0], vec![7, 8], vec![0, 99], vec![50, 20]] {
            let places: Vec<Place> = wanted.iter().map(|at| pack.chunks[*at].1).collect();
            // As if the pack were large, so that reading it whole would not be cheaper.
            let access = Access::plan(16 << 20, places.iter().copied());
            let Access::Spans(spans) = &access else {
                panic!("{access:?}")
            };
            let end = pack.bytes.len();
            let piece = |range: std::ops::Range<u64>| {
                let range = usize::try_from(range.start).unwrap()
                    ..usize::try_from(range.end).unwrap().min(end);
                (
                    range.start as u64,
                    Bytes::copy_from_slice(&pack.bytes[range]),
                )
            };
            let pieces: Vec<_> = access.requests().into_iter().map(piece).collect();
            let open = OpenPack::open_spans(&identity, &pieces, spans).unwrap();
            for (at, place) in wanted.iter().zip(places) {
                open.read(&mut decompressor, place, &mut chunk).unwrap();
                assert_eq!(chunk, chunks[*at]);
            }
            assert!(open.directory().is_err());
        }
    }

    #[test]
    fn places_that_lie_are_refused() {
        let (identity, pack) = pack_of(&[&[1; 5000], b"second"]);
        let open = OpenPack::open(&identity, &pack.bytes).unwrap();
        let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
        let good = pack.chunks[0].1;
        for place in [
            Place {
                offset: u32::MAX,
                ..good
            },
            Place {
                stored: u32::MAX,
                ..good
            },
            Place {
                stored: good.stored - 1,
                ..good
            },
            Place {
                offset: good.offset + 1,
                ..good
            },
            Place {
                length: good.length - 1,
                ..good
            },
            Place {
                length: good.length + 1,
                ..good
            },
            Place {
                length: u32::MAX,
                ..good
            },
        ] {
            let read = open.read(&mut decompressor, place, &mut Vec::new());
            assert!(read.is_err(), "{place:?}");
        }
    }

    #[test]
    fn a_frame_that_expands_beyond_its_chunk_is_refused() {
        let bomb = zstd::bulk::compress(&vec![0; 256 << 20], 1).unwrap();
        let (stored, bytes) = (small(bomb.len()), bomb.len());
        let open = OpenPack::whole(bomb);
        let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
        let mut chunk = Vec::new();
        for length in [bytes, MAX_CHUNK, MAX_CHUNK + 1, 256 << 20] {
            let place = Place {
                offset: 0,
                stored,
                length: small(length),
            };
            assert!(open.read(&mut decompressor, place, &mut chunk).is_err());
            assert!(chunk.capacity() <= 2 * MAX_CHUNK, "{length}");
        }
    }

    #[test]
    fn bytes_that_are_not_padding_are_no_part_of_a_pack() {
        let (_, pack) = pack_of(&[b"chunk"]);
        let good: Vec<_> = pack.chunks.clone();
        let mut plain = zstd::bulk::compress(b"chunk", 1).unwrap();
        let frames = plain.len();
        append_directory(&mut plain, &good).unwrap();
        assert_eq!(OpenPack::whole(plain.clone()).directory().unwrap(), good);
        for at in frames..frames + padding::FRAME_HEADER {
            let mut plain = plain.clone();
            plain[at] ^= 1;
            assert!(OpenPack::whole(plain).directory().is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_full_pack_stays_within_one_put() {
        let mut builder = PackBuilder::new(1).unwrap();
        let key = ChunkIdKey::from_bytes([3; 32]);
        let mut seed = 0_u64;
        let mut noise = vec![0_u8; MAX_CHUNK];
        while builder.has_room(MAX_CHUNK) {
            seed += 1;
            for (at, word) in noise.chunks_mut(8).enumerate() {
                let mixed = (seed << 32 | at as u64)
                    .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                    .rotate_left(29);
                word.copy_from_slice(&mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9).to_le_bytes());
            }
            builder.push(key.id(&noise), &noise).unwrap();
        }
        let pack = builder
            .seal(&Identity::generate().recipient(), Vec::new())
            .unwrap();
        assert!(pack.bytes.len() <= MAX_PACK && pack.bytes.len() > 14 << 20);
        assert!(builder.is_empty() && builder.has_room(MAX_CHUNK));
    }
}
