//! What a tree records of one file, directory or link, and its line of text.
//! It converts between values and lines; order and consistency are checked by `tree`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::id::{ChunkId, Digest};
use super::pack::Place;
use super::path;

/// Extended attributes: name to value.
pub type Xattrs = BTreeMap<String, Vec<u8>>;

/// A time stamp of a file, as the kernel keeps it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileTime {
    /// Seconds since 1970, rounded down.
    pub seconds: i64,
    /// Nanoseconds to add, below 1 000 000 000.
    pub nanos: u32,
}

impl FileTime {
    /// Nanoseconds since 1970.
    pub fn as_nanos(self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos)
    }
}

impl fmt::Display for FileTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.as_nanos();
        let sign = if nanos < 0 { "-" } else { "" };
        let nanos = nanos.unsigned_abs();
        write!(
            f,
            "{sign}{}.{:09}",
            nanos / 1_000_000_000,
            nanos % 1_000_000_000
        )
    }
}

impl std::str::FromStr for FileTime {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "a time is decimal seconds with nine digits after the point";
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = digits.split_once('.').ok_or(WRONG)?;
        let decimal = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
        if fraction.len() != 9 || !decimal(whole) || !decimal(fraction) {
            return Err(WRONG);
        }
        let whole: i64 = whole.parse().map_err(|_| WRONG)?;
        let fraction: i128 = fraction.parse().map_err(|_| WRONG)?;
        let mut nanos = i128::from(whole) * 1_000_000_000 + fraction;
        if digits.len() != text.len() {
            nanos = -nanos;
        }
        Ok(Self {
            seconds: i64::try_from(nanos.div_euclid(1_000_000_000)).map_err(|_| WRONG)?,
            nanos: u32::try_from(nanos.rem_euclid(1_000_000_000)).map_err(|_| WRONG)?,
        })
    }
}

/// What is kept of any file beside its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits including setuid, setgid and sticky (07777).
    pub mode: u32,
    /// Owner, as the container sees it.
    pub uid: u32,
    /// Group, as the container sees it.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: FileTime,
    /// `user.*` attributes.
    pub xattrs: Xattrs,
}

/// A piece of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of a chunk in a pack.
    Chunk {
        /// The pack.
        pack: Digest,
        /// Where in the pack the chunk is.
        place: Place,
        /// The keyed hash of all of the chunk.
        id: ChunkId,
        /// Where in the chunk the bytes begin.
        skip: u32,
        /// How many there are.
        take: u32,
    },
    /// This many zero bytes without blocks.
    Hole(u64),
}

impl Piece {
    /// How many bytes of the file it covers.
    pub fn length(&self) -> u64 {
        match self {
            Self::Chunk { take, .. } => u64::from(*take),
            Self::Hole(length) => *length,
        }
    }
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative path, any bytes; [`path::ROOT`] for the root.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory(Metadata),
    /// A regular file.
    File {
        /// Its metadata.
        metadata: Metadata,
        /// Its size in bytes.
        size: u64,
        /// Its content.
        pieces: Vec<Piece>,
    },
    /// A symbolic link.
    Symlink {
        /// Its metadata (the mode means nothing on Linux).
        metadata: Metadata,
        /// What it points to, any bytes.
        target: Vec<u8>,
    },
    /// Another name of an earlier file.
    Hardlink {
        /// The path of that file.
        target: Vec<u8>,
    },
}

/// The type of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LineType {
    /// A directory.
    Directory,
    /// A file, with its first chunks.
    File,
    /// A symbolic link.
    Symlink,
    /// A hard link.
    Hardlink,
    /// More chunks of the file before it.
    Chunks,
}

/// One line of a tree, flat: which fields are there depends on the type.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line<'a> {
    /// What the line is.
    #[serde(rename = "type")]
    pub kind: LineType,
    /// Escaped path.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    mtime: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    xattrs: Option<BTreeMap<String, String>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    target: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// Pieces of content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunks: Vec<Piece>,
    /// Whether a `chunks` line follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

impl Line<'_> {
    fn empty(kind: LineType, path: Option<&[u8]>) -> Self {
        Self {
            kind,
            path: path.map(|path| path::escape(path).into()),
            mode: None,
            uid: None,
            gid: None,
            mtime: None,
            xattrs: None,
            target: None,
            size: None,
            chunks: Vec::new(),
            more: false,
        }
    }

    fn with(mut self, metadata: &Metadata) -> Self {
        self.mode = Some(metadata.mode);
        self.uid = Some(metadata.uid);
        self.gid = Some(metadata.gid);
        self.mtime = Some(metadata.mtime.to_string().into());
        if !metadata.xattrs.is_empty() {
            let text = |(name, value): (&String, &Vec<u8>)| (name.clone(), BASE64.encode(value));
            self.xattrs = Some(metadata.xattrs.iter().map(text).collect());
        }
        self
    }

    /// The line of an entry; a file's without its pieces.
    pub fn of(entry: &Entry) -> Self {
        let path = Some(entry.path.as_slice());
        match &entry.kind {
            EntryKind::Directory(metadata) => Self::empty(LineType::Directory, path).with(metadata),
            EntryKind::File { metadata, size, .. } => {
                let mut line = Self::empty(LineType::File, path).with(metadata);
                line.size = Some(*size);
                line
            }
            EntryKind::Symlink { metadata, target } => {
                let mut line = Self::empty(LineType::Symlink, path).with(metadata);
                line.target = Some(path::escape(target).into());
                line
            }
            EntryKind::Hardlink { target } => {
                let mut line = Self::empty(LineType::Hardlink, path);
                line.target = Some(path::escape(target).into());
                line
            }
        }
    }

    /// A line with more pieces of the file before it.
    pub fn more_chunks() -> Self {
        Self::empty(LineType::Chunks, None)
    }

    fn metadata(&self) -> Result<Metadata, &'static str> {
        let mut xattrs = Xattrs::new();
        for (name, value) in self.xattrs.iter().flatten() {
            let value = BASE64.decode(value).map_err(|_| "an xattr is not base64")?;
            xattrs.insert(name.clone(), value);
        }
        let mode = self.mode.ok_or("`mode` is missing")?;
        if mode & !0o7777 != 0 {
            return Err("`mode` has more than permission bits");
        }
        let id = |id: Option<u32>| id.filter(|id| *id != u32::MAX);
        Ok(Metadata {
            mode,
            uid: id(self.uid).ok_or("`uid` is missing or -1")?,
            gid: id(self.gid).ok_or("`gid` is missing or -1")?,
            mtime: self.mtime.as_deref().ok_or("`mtime` is missing")?.parse()?,
            xattrs,
        })
    }

    /// The entry of this line; `chunks` lines have none.
    ///
    /// # Errors
    /// A field is missing or malformed.
    pub fn into_entry(mut self) -> Result<Entry, &'static str> {
        let name = self.path.take().ok_or("`path` is missing")?;
        let path = path::unescape(&name).ok_or("`path` is not escaped as the format says")?;
        let target = |line: &Self| {
            let text = line.target.as_deref().ok_or("`target` is missing")?;
            path::unescape(text).ok_or("`target` is not escaped as the format says")
        };
        let kind = match self.kind {
            LineType::Directory => EntryKind::Directory(self.metadata()?),
            LineType::File => EntryKind::File {
                metadata: self.metadata()?,
                size: self.size.ok_or("`size` is missing")?,
                pieces: self.chunks,
            },
            LineType::Symlink => EntryKind::Symlink {
                metadata: self.metadata()?,
                target: target(&self)?,
            },
            LineType::Hardlink => EntryKind::Hardlink {
                target: target(&self)?,
            },
            LineType::Chunks => return Err("a `chunks` line is no entry"),
        };
        Ok(Entry { path, kind })
    }
}

impl Serialize for Piece {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Chunk {
                pack,
                place,
                id,
                skip,
                take,
            } => {
                let is_whole = *skip == 0 && *take == place.length;
                let mut tuple = serializer.serialize_tuple(if is_whole { 5 } else { 7 })?;
                tuple.serialize_element(pack)?;
                tuple.serialize_element(&place.offset)?;
                tuple.serialize_element(&place.stored)?;
                tuple.serialize_element(&place.length)?;
                tuple.serialize_element(id)?;
                if !is_whole {
                    tuple.serialize_element(skip)?;
                    tuple.serialize_element(take)?;
                }
                tuple.end()
            }
            Self::Hole(length) => ("hole", length).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Piece {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PieceVisitor;

        impl<'de> Visitor<'de> for PieceVisitor {
            type Value = Piece;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"["<pack>",offset,stored,length,"<id>"], with skip and take after it, or ["hole",length]"#)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Piece, A::Error> {
                let short = || A::Error::custom("a piece has too few members");
                let first: Cow<'de, str> = items.next_element()?.ok_or_else(short)?;
                let piece = if first == "hole" {
                    Piece::Hole(items.next_element()?.ok_or_else(short)?)
                } else {
                    let place = Place {
                        offset: items.next_element()?.ok_or_else(short)?,
                        stored: items.next_element()?.ok_or_else(short)?,
                        length: items.next_element()?.ok_or_else(short)?,
                    };
                    let id = items.next_element()?.ok_or_else(short)?;
                    let pack = first.parse().map_err(A::Error::custom)?;
                    let (skip, take) = match items.next_element()? {
                        Some(skip) => (skip, items.next_element()?.ok_or_else(short)?),
                        None => (0, place.length),
                    };
                    Piece::Chunk {
                        pack,
                        place,
                        id,
                        skip,
                        take,
                    }
                };
                Ok(piece)
            }
        }

        deserializer.deserialize_seq(PieceVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0, 0, "0.000000000")]
    #[case(1_764_000_000, 123, "1764000000.000000123")]
    #[case(-1, 500_000_000, "-0.500000000")]
    #[case(-2, 0, "-2.000000000")]
    fn times_are_decimal_seconds(#[case] seconds: i64, #[case] nanos: u32, #[case] text: &str) {
        let time = FileTime { seconds, nanos };
        assert_eq!(time.to_string(), text);
        assert_eq!(text.parse(), Ok(time));
    }

    #[rstest]
    #[case("1")]
    #[case("1.5")]
    #[case("--1.000000000")]
    #[case("+1.000000000")]
    #[case("1.+00000000")]
    #[case("99999999999999999999.000000000")]
    fn other_times_are_refused(#[case] text: &str) {
        assert!(text.parse::<FileTime>().is_err());
    }

    proptest! {
        #[test]
        fn every_time_survives(seconds in any::<i32>(), nanos in 0_u32..1_000_000_000) {
            let time = FileTime { seconds: seconds.into(), nanos };
            prop_assert_eq!(time.to_string().parse(), Ok(time));
        }
    }
}
