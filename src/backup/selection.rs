//! A part of a tree: what a path names, and the tree of its own that can be made of it.
//! Pure; that the tree is consistent was checked by its reader.

use std::collections::HashMap;

use super::entry::{Entry, EntryKind};
use super::path;

/// What a person may mean by `text`: as it stands, or escaped as a listing shows it.
///
/// Slashes at either end mean nothing, and nothing at all is the root.
pub fn meanings(text: &str) -> Vec<Vec<u8>> {
    let trimmed = text.trim_matches('/');
    let trimmed = trimmed.strip_prefix("./").unwrap_or(trimmed);
    if trimmed.is_empty() || trimmed == "." {
        return vec![path::ROOT.to_vec()];
    }
    let mut meanings = vec![trimmed.as_bytes().to_vec()];
    meanings.extend(path::unescape(trimmed).filter(|bytes| bytes != trimmed.as_bytes()));
    meanings
}

/// The entry of `path` and all that is below it; `None` where there is none.
pub fn find<'a>(entries: &'a [Entry], path: &[u8]) -> Option<&'a [Entry]> {
    if path == path::ROOT {
        return Some(entries);
    }
    let first = position(entries, path)?;
    let count = entries[first..].partition_point(|entry| is_within(&entry.path, path));
    Some(&entries[first..first + count])
}

/// The entries directly below `path`, or the entry itself where it is no directory.
pub fn children<'a>(entries: &'a [Entry], path: &[u8]) -> Option<Vec<&'a Entry>> {
    let found = find(entries, path)?;
    if !matches!(found.first()?.kind, EntryKind::Directory(_)) {
        return Some(found.iter().collect());
    }
    let below = found.iter().skip(1);
    Some(
        below
            .filter(|entry| path::parent(&entry.path) == path)
            .collect(),
    )
}

/// The file that an entry is a name of; itself where it is no hard link.
pub fn file_of<'a>(entries: &'a [Entry], entry: &'a Entry) -> &'a Entry {
    let EntryKind::Hardlink { target } = &entry.kind else {
        return entry;
    };
    position(entries, target).map_or(entry, |at| &entries[at])
}

/// Makes a tree of what `path` names: a directory becomes the root; anything else lies alone in a
/// root that is as its directory was.
///
/// A file whose first name is outside is there under the first of its names inside.
pub fn subtree(entries: &[Entry], path: &[u8]) -> Option<Vec<Entry>> {
    let found = find(entries, path)?;
    if path == path::ROOT {
        return Some(found.to_vec());
    }
    let is_directory = matches!(found.first()?.kind, EntryKind::Directory(_));
    let base = if is_directory {
        path
    } else {
        path::parent(path)
    };
    let mut part = Vec::with_capacity(found.len() + 1);
    if !is_directory {
        let root = find(entries, base)?.first()?;
        part.push(Entry {
            path: path::ROOT.to_vec(),
            kind: root.kind.clone(),
        });
    }
    let mut names: HashMap<&[u8], Vec<u8>> = HashMap::new();
    for entry in found {
        let path = below(&entry.path, base);
        let file = file_of(entries, entry);
        let kind = match (&entry.kind, names.get(file.path.as_slice())) {
            (EntryKind::Hardlink { .. }, Some(first)) => EntryKind::Hardlink {
                target: first.clone(),
            },
            _ => file.kind.clone(),
        };
        names.entry(&file.path).or_insert_with(|| path.clone());
        part.push(Entry { path, kind });
    }
    Some(part)
}

fn position(entries: &[Entry], path: &[u8]) -> Option<usize> {
    entries
        .binary_search_by(|entry| path::compare(&entry.path, path))
        .ok()
}

fn is_within(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// `path` as seen from `base`, which it is in.
fn below(path: &[u8], base: &[u8]) -> Vec<u8> {
    if path == base {
        return path::ROOT.to_vec();
    }
    if base == path::ROOT {
        return path.to_vec();
    }
    path[base.len() + 1..].to_vec()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::backup::entry::Metadata;

    fn tree() -> Vec<Entry> {
        let metadata = Metadata::default();
        let entry = |path: &str, kind| Entry {
            path: path.as_bytes().to_vec(),
            kind,
        };
        let directory = |path| entry(path, EntryKind::Directory(Metadata::default()));
        let file = |path, size| {
            let (metadata, pieces) = (metadata.clone(), Vec::new());
            entry(
                path,
                EntryKind::File {
                    metadata,
                    size,
                    pieces,
                },
            )
        };
        let link = |path, target: &str| {
            let target = target.as_bytes().to_vec();
            entry(path, EntryKind::Hardlink { target })
        };
        vec![
            directory("."),
            directory("a"),
            directory("a/b"),
            file("a/b/x", 1),
            file("a/y", 2),
            file("a-", 3),
            directory("c"),
            link("c/1", "a/y"),
            link("c/2", "a/y"),
            link("c/3", "a-"),
        ]
    }

    fn paths<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<String> {
        entries.into_iter().map(|e| path::show(&e.path)).collect()
    }

    #[rstest]
    #[case("a", &["a", "a/b", "a/b/x", "a/y"], &["a/b", "a/y"])]
    #[case("a/b", &["a/b", "a/b/x"], &["a/b/x"])]
    #[case("a-", &["a-"], &["a-"])]
    #[case("c", &["c", "c/1", "c/2", "c/3"], &["c/1", "c/2", "c/3"])]
    fn a_path_names_itself_and_what_is_below(
        #[case] path: &str,
        #[case] all: &[&str],
        #[case] listed: &[&str],
    ) {
        let tree = tree();
        assert_eq!(paths(find(&tree, path.as_bytes()).unwrap()), all);
        assert_eq!(paths(children(&tree, path.as_bytes()).unwrap()), listed);
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for path in ["b", "a/b/x/", "", "a/"] {
            assert!(find(&tree(), path.as_bytes()).is_none(), "{path}");
        }
        assert_eq!(paths(children(&tree(), b".").unwrap()), ["a", "a-", "c"]);
    }

    #[test]
    fn a_directory_becomes_the_root_and_its_links_stay_whole() {
        let part = subtree(&tree(), b"c").unwrap();
        assert_eq!(paths(&part), [".", "1", "2", "3"]);
        assert!(matches!(&part[1].kind, EntryKind::File { size: 2, .. }));
        assert!(matches!(&part[2].kind, EntryKind::Hardlink { target } if target == b"1"));
        assert!(matches!(&part[3].kind, EntryKind::File { size: 3, .. }));
    }

    #[test]
    fn a_file_lies_alone_in_a_root() {
        let part = subtree(&tree(), b"a/b/x").unwrap();
        assert_eq!(paths(&part), [".", "x"]);
        assert_eq!(subtree(&tree(), b".").unwrap(), tree());
    }

    #[rstest]
    #[case("", &["."])]
    #[case("/", &["."])]
    #[case("./a/", &["a"])]
    #[case("/data/100%/x", &["data/100%/x"])]
    #[case("a%0Ab", &["a%0Ab", "a\nb"])]
    fn a_path_is_taken_as_it_stands_first(#[case] text: &str, #[case] expected: &[&str]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|path| path.as_bytes().to_vec())
            .collect();
        assert_eq!(meanings(text), expected);
    }
}
