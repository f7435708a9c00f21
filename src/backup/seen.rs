//! Whether anything changed since the last snapshot, in 32 bytes: a digest of all that a scan finds.
//! It never leaves the host, and an equal one saves reading the index, pausing the agent and making a tree.

use super::entry::{FileTime, Metadata};
use super::scan::{FoundKind, Scan};
use super::tree::Labels;
use super::wire::Writer;

/// A digest of names, kinds, metadata and stamps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen(pub [u8; 32]);

impl Seen {
    /// The digest of a scan for a snapshot with these labels.
    ///
    /// An equal digest proves an equal tree only if each file's stamp proved its content when the first was made.
    pub fn of(scan: &Scan, labels: &Labels) -> Self {
        let mut hasher = blake3::Hasher::new();
        let mut out = Writer::new(b"seen");
        out.length(labels.len());
        for (name, value) in labels {
            out.bytes(name.as_bytes());
            out.bytes(value.as_bytes());
        }
        for found in &scan.found {
            out.bytes(&found.path);
            metadata(&mut out, &found.metadata);
            match &found.kind {
                FoundKind::Directory => out.u32(1),
                FoundKind::File(stamp) => {
                    out.u32(2);
                    for number in [stamp.device, stamp.inode, stamp.size] {
                        out.u64(number);
                    }
                    time(&mut out, stamp.ctime);
                }
                FoundKind::Symlink(target) => {
                    out.u32(3);
                    out.bytes(target);
                }
                FoundKind::Hardlink(target) => {
                    out.u32(4);
                    out.bytes(target);
                }
            }
            if out.len() >= BATCH {
                hasher.update(out.written());
                out.clear();
            }
        }
        hasher.update(out.written());
        Self(*hasher.finalize().as_bytes())
    }
}

/// So many bytes are hashed at once.
const BATCH: usize = 64 << 10;

fn metadata(out: &mut Writer, metadata: &Metadata) {
    for number in [metadata.mode, metadata.uid, metadata.gid] {
        out.u32(number);
    }
    time(out, metadata.mtime);
    out.length(metadata.xattrs.len());
    for (name, value) in &metadata.xattrs {
        out.bytes(name.as_bytes());
        out.bytes(value);
    }
}

fn time(out: &mut Writer, time: FileTime) {
    out.u64(time.seconds.cast_unsigned());
    out.u32(time.nanos);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::file_record::FileStamp;
    use crate::backup::scan::Found;

    fn scan(change: impl FnOnce(&mut Found, &mut FileStamp)) -> Scan {
        let mut stamp = FileStamp {
            device: 1,
            inode: 2,
            size: 3,
            mtime: FileTime::default(),
            ctime: FileTime::default(),
        };
        let mut found = Found {
            path: b"a".to_vec(),
            kind: FoundKind::Directory,
            metadata: Metadata::default(),
        };
        change(&mut found, &mut stamp);
        found.kind = FoundKind::File(stamp);
        Scan {
            found: vec![found],
            ..Scan::default()
        }
    }

    #[test]
    fn whatever_a_tree_would_record_or_a_write_would_touch_changes_it() {
        let labels = Labels::from([("tenant".to_owned(), "acme".to_owned())]);
        let seen = |scan: &Scan| Seen::of(scan, &labels);
        let same = seen(&scan(|_, _| {}));
        assert_eq!(seen(&scan(|_, _| {})), same);
        let changes: [fn(&mut Found, &mut FileStamp); 9] = [
            |found, _| found.path = b"b".to_vec(),
            |found, _| found.metadata.mode = 0o600,
            |found, _| found.metadata.uid = 7,
            |found, _| found.metadata.gid = 7,
            |found, _| found.metadata.mtime.nanos = 7,
            |found, _| drop(found.metadata.xattrs.insert("user.a".to_owned(), vec![])),
            |_, stamp| stamp.inode = 7,
            |_, stamp| stamp.size = 7,
            |_, stamp| stamp.ctime.nanos = 7,
        ];
        for (number, change) in changes.into_iter().enumerate() {
            assert_ne!(seen(&scan(change)), same, "change {number}");
        }
        assert_ne!(Seen::of(&scan(|_, _| {}), &Labels::new()), same);
        assert_ne!(seen(&Scan::default()), same);
    }
}
