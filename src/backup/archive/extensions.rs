//! Headers of extensions: what POSIX pax and GNU tar say of the entry that follows.
//! It reads values and believes none; whether they fit the entry is checked by `index`.

use tar::{EntryType, Header, PaxExtensions};

use super::XATTR;
use super::index::ArchiveError;
use crate::backup::entry::{FileTime, Metadata};

/// Attributes of one file, in bytes (the kernel's limit of one value).
const MAX_XATTRS: usize = 64 << 10;

/// What headers of extensions said of the entry that follows them.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub(super) path: Option<Vec<u8>>,
    pub(super) target: Option<Vec<u8>>,
    pub(super) metadata: Metadata,
    pub(super) has_mtime: bool,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) size: Option<u64>,
}

impl Extensions {
    /// Takes what one header of extensions says.
    pub(super) fn take(&mut self, kind: EntryType, mut text: Vec<u8>) -> Result<(), ArchiveError> {
        let wrong = || ArchiveError::Layout("a header is malformed");
        if kind != EntryType::XHeader {
            text.truncate(
                text.iter()
                    .position(|byte| *byte == 0)
                    .unwrap_or(text.len()),
            );
            let field = if kind == EntryType::GNULongName {
                &mut self.path
            } else {
                &mut self.target
            };
            *field = Some(text);
            return Ok(());
        }
        let mut total = 0;
        for extension in PaxExtensions::new(&text) {
            let extension = extension.map_err(|_| wrong())?;
            // A key that is no text is none that means anything here.
            let Ok(key) = extension.key() else { continue };
            let value = extension.value_bytes();
            let number = || std::str::from_utf8(value).ok()?.parse::<u64>().ok();
            let id = || {
                number()
                    .and_then(|id| u32::try_from(id).ok())
                    .ok_or_else(wrong)
            };
            match key {
                "path" => self.path = Some(value.to_vec()),
                "linkpath" => self.target = Some(value.to_vec()),
                "size" => self.size = Some(number().ok_or_else(wrong)?),
                "uid" => self.uid = Some(id()?),
                "gid" => self.gid = Some(id()?),
                "mtime" => {
                    self.metadata.mtime = time(value).ok_or_else(wrong)?;
                    self.has_mtime = true;
                }
                key if key.starts_with("GNU.sparse.") => {
                    return Err(ArchiveError::Layout(
                        "it has sparse files as GNU tar writes them",
                    ));
                }
                key => {
                    let Some(name) = key.strip_prefix(XATTR) else {
                        continue;
                    };
                    total += name.len() + value.len();
                    if name.starts_with("user.") && total <= MAX_XATTRS {
                        self.metadata.xattrs.insert(name.to_owned(), value.to_vec());
                    }
                }
            }
        }
        Ok(())
    }

    /// The entry's name, without a slash at its end.
    pub(super) fn name(&self, header: &Header) -> Vec<u8> {
        let name = self
            .path
            .clone()
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let name = name.strip_prefix(b"./").unwrap_or(&name);
        name.strip_suffix(b"/").unwrap_or(name).to_vec()
    }
}

/// Decimal seconds with any number of digits after the point.
fn time(text: &[u8]) -> Option<FileTime> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    format!("{whole}.{fraction}").parse().ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("1", Some((1, 0)))]
    #[case("1.5", Some((1, 500_000_000)))]
    #[case("-5.00000025", Some((-6, 999_999_750)))]
    #[case("1.1234567899", Some((1, 123_456_789)))]
    #[case("", None)]
    #[case("x", None)]
    fn times_have_any_number_of_digits(#[case] text: &str, #[case] expected: Option<(i64, u32)>) {
        let found = time(text.as_bytes()).map(|time| (time.seconds, time.nanos));
        assert_eq!(found, expected);
    }
}
