//! Names of files as they stand in a tree: any bytes, escaped to text, in one order.
//! It checks names and never touches a file.

use std::cmp::Ordering;

/// The longest path in bytes that is recorded or restored (`PATH_MAX` without its NUL).
pub const MAX_PATH: usize = 4095;

/// The path of the root directory.
pub const ROOT: &[u8] = b".";

/// Compares paths component by component, so that a directory precedes all it holds.
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    if a == ROOT || b == ROOT {
        return (a != ROOT).cmp(&(b != ROOT));
    }
    // `/` sorts below every byte that a name can have.
    let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    a.iter().map(key).cmp(b.iter().map(key))
}

/// The directory that holds `path`; the root for a name without `/`.
pub fn parent(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => &path[..slash],
        None => ROOT,
    }
}

/// The last component.
pub fn name(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => &path[slash + 1..],
        None => path,
    }
}

/// Whether a path is relative and has only normal components of possible length.
pub fn is_normal(path: &[u8]) -> bool {
    path.len() <= MAX_PATH
        && !path.contains(&0)
        && path
            .split(|byte| *byte == b'/')
            .all(|part| !matches!(part, b"" | b"." | b"..") && part.len() <= 255)
}

/// Writes any bytes as text that `printf %b` can turn back (see the format's page).
pub fn escape(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c < ' ' || matches!(c, '\u{7f}' | '%' | '\\') {
                let _ = write!(text, "%{:02X}", c as u32);
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// The bytes that [`escape`] wrote; `None` where a `%` is not followed by two hex digits.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    Some(bytes)
}

/// For messages: the path in its escaped form.
pub fn show(path: &[u8]) -> String {
    escape(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(b"a", true)]
    #[case(b"a/b.c", true)]
    #[case(b"...", true)]
    #[case(b"", false)]
    #[case(b"/a", false)]
    #[case(b"a/", false)]
    #[case(b"a//b", false)]
    #[case(b".", false)]
    #[case(b"..", false)]
    #[case(b"a/../b", false)]
    #[case(b"a/./b", false)]
    #[case(b"a\0b", false)]
    #[case(&[b'a'; 256], false)]
    fn only_normal_components_pass(#[case] path: &[u8], #[case] normal: bool) {
        assert_eq!(is_normal(path), normal);
    }

    #[test]
    fn a_directory_precedes_what_it_holds() {
        let mut paths: Vec<&[u8]> = vec![b"a-b", b"a/c", b"b", b"a", b".", b"a!", b".x"];
        paths.sort_by(|a, b| compare(a, b));
        let expected: Vec<&[u8]> = vec![b".", b".x", b"a", b"a/c", b"a!", b"a-b", b"b"];
        assert_eq!(paths, expected);
    }

    proptest! {
        #[test]
        fn any_bytes_survive_escaping(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let text = escape(&bytes);
            let has_control = text.bytes().any(|byte| byte < b' ' || byte == 0x7f);
            prop_assert!(!has_control);
            prop_assert_eq!(unescape(&text), Some(bytes));
        }
    }
}
