//! What the writer remembers of its last commit: packs, what is where in them, parts of the tree, and what
//! each file looked like. It is a cache: losing it costs one full upload, and it never leaves the host.

use std::fs::File;
use std::io::{self, Read as _};

use camino::Utf8Path;

use super::commit::ObjectRef;
use super::extents::Extents;
use super::file_record::FileRecord;
use super::id::{ChunkId, Digest};
use super::local_file;
use super::seen::Seen;
use super::wire::{Reader, Writer};

const MAGIC: &[u8] = b"tenantd-index-3\n";

/// A list of packs that the last commit names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackList {
    /// The list's object.
    pub object: ObjectRef,
    /// What it lists.
    pub packs: Vec<Digest>,
}

/// A part of the last tree: the keyed hash of its plain bytes, and its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreePart {
    /// Keyed hash of the plain part.
    pub plain: ChunkId,
    /// Its object.
    pub object: ObjectRef,
}

/// All that the writer remembers.
#[derive(Clone, Default)]
pub struct Index {
    /// The packs that the last commit names.
    pub packs: Vec<ObjectRef>,
    /// What is in them.
    pub extents: Extents,
    /// The lists that the last commit names.
    pub lists: Vec<PackList>,
    /// The parts of its tree.
    pub tree: Vec<TreePart>,
    /// Its files, sorted by [`super::path::compare`].
    pub files: Vec<(Vec<u8>, Box<FileRecord>)>,
    /// What a scan finds as long as nothing has changed; none where that could not be told.
    pub seen: Option<Seen>,
}

impl Index {
    /// Reads the index of the commit with this digest.
    ///
    /// `None` where there is none, it is another commit's or it is damaged: the caller then starts
    /// from nothing.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn load(file: &Utf8Path, commit: &Digest) -> io::Result<Option<Self>> {
        match std::fs::read(file) {
            Ok(bytes) => Ok(Self::decode(&bytes, commit)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads only what a scan would find if nothing has changed since the commit with this digest.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn load_seen(file: &Utf8Path, commit: &Digest) -> io::Result<Option<Seen>> {
        let mut head = [0; HEAD];
        let read = File::open(file).and_then(|mut file| file.read_exact(&mut head));
        match read {
            Ok(()) => Ok(Head::decode(&head)
                .filter(|head| head.is_of(commit))
                .and_then(|head| head.seen)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes the index of the commit with this digest, durably and at once.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, file: &Utf8Path, commit: &Digest) -> io::Result<()> {
        local_file::write(file, &self.encode(commit))
    }

    fn encode(&self, commit: &Digest) -> Vec<u8> {
        let head = Head {
            commit: *commit,
            seen: self.seen,
        };
        let mut out = Writer::new(&head.encode());
        out.length(self.packs.len());
        for pack in &self.packs {
            object_out(&mut out, pack);
        }
        self.extents.encode(&mut out);
        out.length(self.lists.len());
        for list in &self.lists {
            object_out(&mut out, &list.object);
            out.length(list.packs.len());
            for pack in &list.packs {
                out.fixed(&pack.0);
            }
        }
        out.length(self.tree.len());
        for part in &self.tree {
            out.fixed(&part.plain.0);
            object_out(&mut out, &part.object);
        }
        out.length(self.files.len());
        for (path, record) in &self.files {
            out.bytes(path);
            record.encode(&mut out);
        }
        out.finish()
    }

    fn decode(bytes: &[u8], commit: &Digest) -> Option<Self> {
        let start = bytes.first_chunk()?;
        let Head { seen, .. } = Head::decode(start).filter(|head| head.is_of(commit))?;
        let mut from = Reader::new(bytes, start)?;
        let packs = (0..from.length()?)
            .map(|_| object_in(&mut from))
            .collect::<Option<_>>()?;
        let extents = Extents::decode(&mut from)?;
        let mut lists = Vec::new();
        for _ in 0..from.length()? {
            let object = object_in(&mut from)?;
            let count = from.length()?;
            let packs = (0..count)
                .map(|_| from.fixed().map(Digest))
                .collect::<Option<_>>()?;
            lists.push(PackList { object, packs });
        }
        let mut tree = Vec::new();
        for _ in 0..from.length()? {
            tree.push(TreePart {
                plain: ChunkId(from.fixed()?),
                object: object_in(&mut from)?,
            });
        }
        let count = from.length()?;
        let mut files = Vec::with_capacity(count);
        for _ in 0..count {
            let path = from.bytes()?.to_vec();
            files.push((path, Box::new(FileRecord::decode(&mut from)?)));
        }
        from.is_empty().then_some(Self {
            packs,
            extents,
            lists,
            tree,
            files,
            seen,
        })
    }
}

/// What an index begins with, with a hash of its own.
struct Head {
    commit: Digest,
    seen: Option<Seen>,
}

/// Magic, commit, whether something was seen, what, and the hash.
const HEAD: usize = MAGIC.len() + 32 + 4 + 32 + 32;

impl Head {
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(MAGIC);
        out.fixed(&self.commit.0);
        out.u32(self.seen.is_some().into());
        out.fixed(&self.seen.unwrap_or_default().0);
        out.finish()
    }

    fn decode(bytes: &[u8; HEAD]) -> Option<Self> {
        let mut from = Reader::new(bytes, MAGIC)?;
        let commit = Digest(from.fixed()?);
        let is_some = from.u32()? != 0;
        let seen = Seen(from.fixed()?);
        Some(Self {
            commit,
            seen: is_some.then_some(seen),
        })
    }

    /// Whether the index is of this commit.
    fn is_of(&self, commit: &Digest) -> bool {
        self.commit == *commit
    }
}

fn object_out(out: &mut Writer, object: &ObjectRef) {
    out.fixed(&object.sha256.0);
    out.u64(object.size);
}

fn object_in(from: &mut Reader<'_>) -> Option<ObjectRef> {
    Some(ObjectRef {
        sha256: Digest(from.fixed()?),
        size: from.u64()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::entry::{FileTime, Xattrs};
    use crate::backup::extents::{Extent, Located};
    use crate::backup::file_record::{Content, FileStamp, Held};
    use crate::backup::pack::Place;

    fn index() -> Index {
        let object = ObjectRef {
            sha256: Digest([1; 32]),
            size: 9,
        };
        let time = FileTime {
            seconds: -5,
            nanos: 7,
        };
        let stamp = FileStamp {
            device: 1,
            inode: 2,
            size: 3,
            mtime: time,
            ctime: time,
        };
        let place = Place {
            offset: 1,
            stored: 2,
            length: 3,
        };
        let mut extents = Extents::default();
        let chunk = extents.begin_chunk();
        extents.name_chunk(chunk, ChunkId([4; 32]));
        extents.place_chunk(chunk, Located { pack: 0, place });
        let extent = extents.put(Extent {
            id: ChunkId([5; 32]).into(),
            chunk,
            skip: 1,
            length: 2,
        });
        let whole = Content::Extent {
            extent,
            skip: 0,
            take: 2,
        };
        let record = FileRecord {
            stamp,
            settled: true,
            xattrs: Xattrs::from([("user.a".to_owned(), vec![0, 255])]),
            held: Held {
                content: [whole, Content::Hole(1 << 40)].into(),
                pages: [9, u64::MAX].into(),
            },
        };
        Index {
            packs: vec![object],
            extents,
            lists: vec![PackList {
                object,
                packs: vec![Digest([1; 32])],
            }],
            tree: vec![TreePart {
                plain: ChunkId([8; 32]),
                object,
            }],
            files: vec![(b"a\xff".to_vec(), Box::new(record))],
            seen: Some(Seen([6; 32])),
        }
    }

    #[test]
    fn an_index_is_read_back_for_its_commit_only() {
        let commit = Digest([2; 32]);
        let bytes = index().encode(&commit);
        let read = Index::decode(&bytes, &commit).unwrap();
        assert_eq!(read.encode(&commit), bytes);
        assert_eq!((read.seen, &read.files), (index().seen, &index().files));
        let extent = read.extents.find(ChunkId([5; 32]).into()).unwrap();
        assert_eq!(read.extents.extent(extent).unwrap().length, 2);
        assert!(Index::decode(&bytes, &Digest([3; 32])).is_none());
    }

    #[test]
    fn a_damaged_index_is_no_index() {
        let commit = Digest([2; 32]);
        let good = index().encode(&commit);
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            assert!(Index::decode(&bytes, &commit).is_none(), "byte {at}");
            assert!(Index::decode(&good[..at], &commit).is_none(), "cut at {at}");
        }
    }
}
