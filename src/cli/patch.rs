//! Texts compared as a unified diff, and its colours.
//! What is compared with what is the commands' business.

use similar::TextDiff;

use super::console::Paint;

/// What leads from one named text to another; nothing when they are the same.
pub fn patch(from: (&str, &str), to: (&str, &str)) -> String {
    let (old, new) = (ended(from.1), ended(to.1));
    TextDiff::from_lines(&old, &new)
        .unified_diff()
        .header(from.0, to.0)
        .to_string()
}

/// A patch in colours.
pub fn coloured(patch: &str, paint: Paint) -> String {
    let colour = |line: &str| {
        let (text, end) = line.split_at(line.trim_end_matches('\n').len());
        match text.as_bytes().first() {
            Some(b'+') => paint.good(text) + end,
            Some(b'-') => paint.bad(text) + end,
            Some(b'@') => paint.dim(text) + end,
            _ => line.to_owned(),
        }
    };
    patch.split_inclusive('\n').map(colour).collect()
}

/// The text with its last line ended.
pub fn ended(text: &str) -> String {
    if text.ends_with('\n') || text.is_empty() {
        text.to_owned()
    } else {
        format!("{text}\n")
    }
}
