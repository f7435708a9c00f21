//! What the writer remembers of a file: how it looked, and which extents hold its content.
//! It converts between values and bytes; keeping them is the index's affair.

use super::entry::{FileTime, Xattrs};
use super::wire::{Reader, Writer};

/// A piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Bytes of an extent.
    Extent {
        /// Its number.
        extent: u32,
        /// Where in it they begin.
        skip: u32,
        /// How many there are.
        take: u32,
    },
    /// A hole.
    Hole(u64),
}

impl Content {
    /// How many bytes of the file it covers.
    pub fn length(&self) -> u64 {
        match self {
            Self::Extent { take, .. } => u64::from(*take),
            Self::Hole(length) => *length,
        }
    }
}

/// What tells that a file was not written since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    /// Device and inode.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Last change of the content.
    pub mtime: FileTime,
    /// Last change of anything; no process can set it.
    pub ctime: FileTime,
}

/// What was read of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Its content.
    pub content: Box<[Content]>,
    /// Of a database, the keyed hash of each page; see [`super::blocks`].
    pub pages: Box<[u64]>,
}

/// A file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRecord {
    /// How it looked.
    pub stamp: FileStamp,
    /// Whether an equal stamp proves an equal file: it had not been changed
    /// shortly before it was looked at.
    pub settled: bool,
    /// Its attributes.
    pub xattrs: Xattrs,
    /// What is in it.
    pub held: Held,
}

/// Says that a piece is a hole, where an extent's number would be.
const HOLE: u32 = u32::MAX;

impl FileRecord {
    /// Writes all of it.
    pub fn encode(&self, out: &mut Writer) {
        let FileStamp {
            device,
            inode,
            size,
            mtime,
            ctime,
        } = self.stamp;
        for number in [device, inode, size] {
            out.u64(number);
        }
        time_out(out, mtime);
        time_out(out, ctime);
        out.u32(self.settled.into());
        out.length(self.xattrs.len());
        for (name, value) in &self.xattrs {
            out.bytes(name.as_bytes());
            out.bytes(value);
        }
        out.length(self.held.content.len());
        for content in &self.held.content {
            match *content {
                Content::Extent { extent, skip, take } => {
                    for number in [extent, skip, take] {
                        out.u32(number);
                    }
                }
                Content::Hole(length) => {
                    out.u32(HOLE);
                    out.u64(length);
                }
            }
        }
        out.length(self.held.pages.len());
        for page in &self.held.pages {
            out.u64(*page);
        }
    }

    /// Reads what [`Self::encode`] wrote; `None` where it is something else.
    pub fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let (device, inode, size) = (from.u64()?, from.u64()?, from.u64()?);
        let (mtime, ctime) = (time_in(from)?, time_in(from)?);
        let settled = from.u32()? != 0;
        let mut xattrs = Xattrs::new();
        for _ in 0..from.length()? {
            let name = String::from_utf8(from.bytes()?.to_vec()).ok()?;
            xattrs.insert(name, from.bytes()?.to_vec());
        }
        let count = from.length()?;
        let mut content = Vec::with_capacity(count);
        for _ in 0..count {
            content.push(match from.u32()? {
                HOLE => Content::Hole(from.u64()?),
                extent => Content::Extent {
                    extent,
                    skip: from.u32()?,
                    take: from.u32()?,
                },
            });
        }
        let count = from.length()?;
        let mut pages = Vec::with_capacity(count);
        for _ in 0..count {
            pages.push(from.u64()?);
        }
        let stamp = FileStamp {
            device,
            inode,
            size,
            mtime,
            ctime,
        };
        let held = Held {
            content: content.into(),
            pages: pages.into(),
        };
        Some(Self {
            stamp,
            settled,
            xattrs,
            held,
        })
    }
}

fn time_out(out: &mut Writer, time: FileTime) {
    out.u64(time.seconds.cast_unsigned());
    out.u32(time.nanos);
}

fn time_in(from: &mut Reader<'_>) -> Option<FileTime> {
    Some(FileTime {
        seconds: from.u64()?.cast_signed(),
        nanos: from.u32()?,
    })
}
