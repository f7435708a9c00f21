//! What is stored and where: chunks, which are the frames of packs, and extents, which are runs of bytes in chunks.
//! Both go by numbers, so that a file is remembered in a few bytes; which file has what is others' affair.

use hashbrown::HashTable;

use super::id::ChunkId;
use super::pack::Place;
use super::wire::{Reader, Writer};

/// What an extent is found by: the first half of the keyed hash of its bytes.
///
/// Whoever chooses the bytes does not know the key, and sees no hash, so 128 bits leave nothing to search for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtentId([u8; 16]);

impl ExtentId {
    /// Keyed hashes are as good as random.
    fn hash(self) -> u64 {
        let half = self.0.first_chunk();
        half.map_or(0, |start| u64::from_le_bytes(*start))
    }
}

impl From<ChunkId> for ExtentId {
    fn from(ChunkId(id): ChunkId) -> Self {
        let (half, _) = id.split_at(16);
        Self(half.try_into().unwrap_or_default())
    }
}

/// Where a known chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    /// Number of the pack in [`super::index::Index::packs`].
    pub pack: u32,
    /// Where in it.
    pub place: Place,
}

/// The number of the pack of what is not stored yet.
const NOWHERE: u32 = u32::MAX;

/// A chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// The keyed hash of its bytes.
    pub id: ChunkId,
    at: Located,
}

impl Chunk {
    /// Where it is, once it is stored.
    pub fn located(&self) -> Option<Located> {
        (self.at.pack != NOWHERE).then_some(self.at)
    }
}

/// A run of bytes in a chunk: all of it, a small file, or changed pages of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// What it is found by.
    pub id: ExtentId,
    /// The number of its chunk.
    pub chunk: u32,
    /// Where in the chunk it begins.
    pub skip: u32,
    /// Its length.
    pub length: u32,
}

/// All chunks and extents that the writer knows.
#[derive(Default, Clone)]
#[expect(
    clippy::struct_field_names,
    reason = "chunks and extents are what there is"
)]
pub struct Extents {
    chunks: Vec<Chunk>,
    extents: Vec<Extent>,
    by_id: HashTable<u32>,
}

impl Extents {
    fn new(chunks: Vec<Chunk>, extents: Vec<Extent>) -> Option<Self> {
        let fits = |extent: &Extent| {
            let chunk = chunks.get(extent.chunk as usize)?;
            let end = extent.skip.checked_add(extent.length)?;
            (end <= chunk.at.place.length).then_some(())
        };
        extents.iter().try_for_each(fits)?;
        let mut all = Self {
            chunks,
            extents,
            by_id: HashTable::new(),
        };
        all.find_anew();
        Some(all)
    }

    /// Makes the table anew, after numbers have changed.
    fn find_anew(&mut self) {
        let Self { extents, by_id, .. } = self;
        let hash = |number: &u32| extents[*number as usize].id.hash();
        by_id.clear();
        by_id.reserve(extents.len(), hash);
        for number in 0..small(extents.len()) {
            by_id.insert_unique(hash(&number), number, hash);
        }
    }

    /// The number of the extent with this id.
    pub fn find(&self, id: ExtentId) -> Option<u32> {
        let is_it = |number: &u32| self.extents[*number as usize].id == id;
        self.by_id.find(id.hash(), is_it).copied()
    }

    /// An extent by its number.
    pub fn extent(&self, number: u32) -> Option<&Extent> {
        self.extents.get(number as usize)
    }

    /// A chunk by its number.
    pub fn chunk(&self, number: u32) -> Option<&Chunk> {
        self.chunks.get(number as usize)
    }

    /// Adds a chunk that is not stored yet, and gives its number.
    pub fn begin_chunk(&mut self) -> u32 {
        let place = Place {
            offset: 0,
            stored: 0,
            length: 0,
        };
        self.chunks.push(Chunk {
            id: ChunkId([0; 32]),
            at: Located {
                pack: NOWHERE,
                place,
            },
        });
        small(self.chunks.len() - 1)
    }

    /// Says which bytes a chunk has.
    pub fn name_chunk(&mut self, number: u32, id: ChunkId) {
        if let Some(chunk) = self.chunks.get_mut(number as usize) {
            chunk.id = id;
        }
    }

    /// Says where a chunk is.
    pub fn place_chunk(&mut self, number: u32, at: Located) {
        if let Some(chunk) = self.chunks.get_mut(number as usize) {
            chunk.at = at;
        }
    }

    /// Adds an extent, or says where a known one is from now on; gives its number.
    pub fn put(&mut self, extent: Extent) -> u32 {
        if let Some(number) = self.find(extent.id) {
            self.extents[number as usize] = extent;
            return number;
        }
        let number = small(self.extents.len());
        self.extents.push(extent);
        let Self { extents, by_id, .. } = self;
        let hash = |number: &u32| extents[*number as usize].id.hash();
        by_id.insert_unique(extent.id.hash(), number, hash);
        number
    }

    /// Keeps only what is in the packs that get a new number; gives the new number of each extent.
    pub fn renumber(&mut self, packs: &[Option<u32>]) -> Vec<Option<u32>> {
        let mut kept = 0;
        let mut chunks = Vec::with_capacity(self.chunks.len());
        for chunk in &mut self.chunks {
            let pack = packs.get(chunk.at.pack as usize).copied().flatten();
            chunks.push(pack.map(|_| small(kept)));
            kept += usize::from(pack.is_some());
            chunk.at.pack = pack.unwrap_or(NOWHERE);
        }
        self.chunks.retain(|chunk| chunk.located().is_some());
        let mut kept = 0;
        let mut numbers = Vec::with_capacity(self.extents.len());
        self.extents.retain_mut(|extent| {
            let chunk = chunks.get(extent.chunk as usize).copied().flatten();
            numbers.push(chunk.map(|_| small(kept)));
            kept += usize::from(chunk.is_some());
            extent.chunk = chunk.unwrap_or(NOWHERE);
            chunk.is_some()
        });
        self.find_anew();
        numbers
    }

    /// Writes all of it.
    pub fn encode(&self, out: &mut Writer) {
        out.length(self.chunks.len());
        for Chunk { id, at } in &self.chunks {
            out.fixed(&id.0);
            let Place {
                offset,
                stored,
                length,
            } = at.place;
            for number in [at.pack, offset, stored, length] {
                out.u32(number);
            }
        }
        out.length(self.extents.len());
        for extent in &self.extents {
            out.fixed(&extent.id.0);
            for number in [extent.chunk, extent.skip, extent.length] {
                out.u32(number);
            }
        }
    }

    /// Reads what [`Self::encode`] wrote; `None` where it is something else.
    pub fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let count = from.length()?;
        let mut chunks = Vec::with_capacity(count);
        for _ in 0..count {
            let id = ChunkId(from.fixed()?);
            let pack = from.u32()?;
            let place = Place {
                offset: from.u32()?,
                stored: from.u32()?,
                length: from.u32()?,
            };
            let at = Located { pack, place };
            chunks.push(Chunk { id, at });
        }
        let count = from.length()?;
        let mut extents = Vec::with_capacity(count);
        for _ in 0..count {
            extents.push(Extent {
                id: ExtentId(from.fixed()?),
                chunk: from.u32()?,
                skip: from.u32()?,
                length: from.u32()?,
            });
        }
        Self::new(chunks, extents)
    }
}

/// There is no memory for more than four thousand million of anything.
fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> ExtentId {
        ChunkId([number; 32]).into()
    }

    fn place(length: u32) -> Place {
        Place {
            offset: 7,
            stored: 5,
            length,
        }
    }

    /// Three chunks in three packs, with two extents each.
    fn extents() -> Extents {
        let mut extents = Extents::default();
        for number in 0..3_u8 {
            let chunk = extents.begin_chunk();
            for half in 0..2_u8 {
                extents.put(Extent {
                    id: id(2 * number + half),
                    chunk,
                    skip: u32::from(half) * 10,
                    length: 10,
                });
            }
            extents.name_chunk(chunk, ChunkId([100 + number; 32]));
            let pack = u32::from(number);
            let place = place(20);
            extents.place_chunk(chunk, Located { pack, place });
        }
        extents
    }

    #[test]
    fn an_extent_is_found_by_its_id_and_moves_to_where_it_was_stored_last() {
        let mut extents = extents();
        assert_eq!(extents.find(id(3)), Some(3));
        assert_eq!(extents.find(id(9)), None);
        let chunk = extents.begin_chunk();
        assert!(extents.chunk(chunk).unwrap().located().is_none());
        let moved = Extent {
            chunk,
            skip: 0,
            ..*extents.extent(3).unwrap()
        };
        assert_eq!(extents.put(moved), 3);
        assert_eq!(extents.extent(3), Some(&moved));
    }

    #[test]
    fn what_is_in_dropped_packs_is_forgotten_and_the_rest_keeps_its_place() {
        let mut extents = extents();
        let unstored = extents.begin_chunk();
        extents.put(Extent {
            id: id(50),
            chunk: unstored,
            skip: 0,
            length: 0,
        });
        let numbers = extents.renumber(&[Some(0), None, Some(1)]);
        let expected = [Some(0), Some(1), None, None, Some(2), Some(3), None];
        assert_eq!(numbers, expected);
        assert_eq!(extents.find(id(2)), None);
        assert_eq!(extents.find(id(50)), None);
        let found = extents.find(id(5)).unwrap();
        let chunk = extents.extent(found).unwrap().chunk;
        let chunk = extents.chunk(chunk).unwrap();
        assert_eq!(chunk.id, ChunkId([102; 32]));
        assert_eq!(chunk.located().unwrap().pack, 1);
    }

    #[test]
    fn extents_outside_their_chunks_are_not_read() {
        for (chunk, skip, length) in [(3, 0, 1), (0, 20, 1), (0, u32::MAX, 2), (0, 0, 21)] {
            let mut extents = extents();
            extents.put(Extent {
                id: id(60),
                chunk,
                skip,
                length,
            });
            let mut out = Writer::new(b"");
            extents.encode(&mut out);
            let bytes = out.finish();
            let mut from = Reader::new(&bytes, b"").unwrap();
            assert!(Extents::decode(&mut from).is_none());
        }
    }
}
