//! Copies one open file into another, sharing its blocks where the file system can.
//! It decides nothing: the caller says which files and learns which way it went.

use std::fs::File;
use std::io;

use rustix::fs::{SeekFrom, ioctl_ficlone, seek};
use rustix::io::Errno;

/// How the content got into the new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloneKind {
    /// The blocks are shared (FICLONE); the cost does not depend on the size.
    Shared,
    /// The bytes were copied, holes left as holes.
    Copied,
}

/// Gives the empty file `to` the content of `from`.
///
/// Dirty pages of `from` are written out first, either by FICLONE itself or by
/// `fdatasync`: until then, a process that has them mapped can change them without the
/// file's times telling.
///
/// # Errors
/// Any I/O error but "this file system cannot share blocks", which leads to a copy.
pub fn clone_or_copy(from: &File, to: &File) -> io::Result<CloneKind> {
    if share(from, to)? {
        return Ok(CloneKind::Shared);
    }
    rustix::fs::fdatasync(from)?;
    copy(from, to)?;
    Ok(CloneKind::Copied)
}

/// Has the empty file `to` share the blocks of `from`; false where this file system cannot do that.
///
/// # Errors
/// Any other I/O error.
pub fn share(from: &File, to: &File) -> io::Result<bool> {
    match ioctl_ficlone(to, from) {
        Ok(()) => Ok(true),
        Err(
            Errno::OPNOTSUPP
            | Errno::XDEV
            | Errno::INVAL
            | Errno::NOTTY
            | Errno::NOSYS
            | Errno::PERM
            | Errno::TXTBSY,
        ) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The runs of data in `file` (holes left out), as `[start, end)`, up to `size`.
///
/// # Errors
/// Any I/O error of `lseek`; a file system without `SEEK_DATA` reports one run.
pub fn next_data(file: &File, position: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    if position >= size {
        return Ok(None);
    }
    let start = match seek(file, SeekFrom::Data(position)) {
        Ok(start) if start < size => start,
        Ok(_) | Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some((position, size))),
        Err(error) => return Err(error.into()),
    };
    let end = seek(file, SeekFrom::Hole(start))?.min(size);
    Ok((end > start).then_some((start, end)))
}

/// Copies the content of `from` into the empty file `to`, holes left as holes.
///
/// # Errors
/// Any I/O error.
pub fn copy(from: &File, to: &File) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;

    let size = from.metadata()?.len();
    to.set_len(size)?;
    let mut buffer = vec![0; 1 << 20];
    let mut position = 0;
    while let Some((start, end)) = next_data(from, position, size)? {
        let mut at = start;
        while at < end {
            let want = usize::try_from(end - at)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let got = from.read_at(&mut buffer[..want], at)?;
            if got == 0 {
                // It was cut short while we read: the rest stays a hole.
                return Ok(());
            }
            to.write_all_at(&buffer[..got], at)?;
            at += got as u64;
        }
        position = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use super::*;

    #[test]
    fn content_and_holes_arrive_whichever_way() {
        let from = tempfile::tempfile().unwrap();
        from.write_all_at(b"start", 0).unwrap();
        from.write_all_at(b"end", 8 << 20).unwrap();
        let to = tempfile::tempfile().unwrap();
        clone_or_copy(&from, &to).unwrap();

        let mut bytes = vec![0; (8 << 20) + 3];
        to.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes[..5], b"start");
        assert_eq!(&bytes[8 << 20..], b"end");
        assert_eq!(to.metadata().unwrap().len(), (8 << 20) + 3);
        assert!(to.metadata().unwrap().blocks() * 512 < 1 << 20);
    }

    #[test]
    fn runs_of_data_are_found_between_holes() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4 << 20).unwrap();
        assert_eq!(next_data(&file, 0, 4 << 20).unwrap(), None);
        file.write_all_at(&[1; 4096], 1 << 20).unwrap();
        let (start, end) = next_data(&file, 0, 4 << 20).unwrap().unwrap();
        assert!(start <= 1 << 20 && end >= (1 << 20) + 4096);
    }
}
