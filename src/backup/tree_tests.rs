use rstest::rstest;

use super::*;
use crate::backup::entry::Metadata;
use crate::backup::id::ChunkId;
use crate::backup::pack::Place;

const ID: RepositoryId = RepositoryId([5; 16]);
const PACK: Digest = Digest([6; 32]);

fn chunk(length: u32) -> Piece {
    let place = Place {
        offset: 0,
        stored: 10,
        length,
    };
    Piece::Chunk {
        pack: PACK,
        place,
        id: ChunkId([1; 32]),
        skip: 0,
        take: length,
    }
}

/// A part of a chunk of 100 bytes.
fn part(skip: u32, take: u32) -> Piece {
    let Piece::Chunk {
        pack, place, id, ..
    } = chunk(100)
    else {
        return Piece::Hole(0);
    };
    Piece::Chunk {
        pack,
        place,
        id,
        skip,
        take,
    }
}

fn directory(path: &str) -> Entry {
    Entry {
        path: path.into(),
        kind: EntryKind::Directory(Metadata::default()),
    }
}

fn file(path: &str, pieces: Vec<Piece>) -> Entry {
    let size = pieces.iter().map(Piece::length).sum();
    let kind = EntryKind::File {
        metadata: Metadata::default(),
        size,
        pieces,
    };
    Entry {
        path: path.into(),
        kind,
    }
}

fn read(parts: &[Vec<u8>]) -> Result<Tree, TreeError> {
    let packs = HashSet::from([PACK]);
    let mut reader = TreeReader::new(ID, &packs);
    for part in parts {
        reader.part(part)?;
    }
    reader.finish()
}

fn written(entries: &[Entry]) -> Vec<Vec<u8>> {
    let mut writer = TreeWriter::new(ID, &Labels::new());
    for entry in entries {
        writer.push(entry).unwrap();
    }
    writer.finish()
}

#[test]
fn entries_survive_including_odd_names_and_many_chunks() {
    let mut pieces = vec![chunk(1 << 20); 5000];
    pieces.push(Piece::Hole(1 << 40));
    pieces.extend([part(0, 1), part(99, 1), part(10, 90), part(0, 100)]);
    let entries = vec![
        directory("."),
        directory("a"),
        file("a/big", pieces),
        Entry {
            path: b"a/n\xffl\n%".to_vec(),
            kind: EntryKind::Symlink {
                metadata: Metadata::default(),
                target: b"/etc/\xfe".to_vec(),
            },
        },
        file("b", vec![]),
        Entry {
            path: b"c".to_vec(),
            kind: EntryKind::Hardlink {
                target: b"b".to_vec(),
            },
        },
    ];
    assert_eq!(read(&written(&entries)).unwrap().entries, entries);
}

#[test]
fn a_part_of_a_chunk_says_which_and_a_whole_one_does_not() {
    let line = |piece| serde_json::to_string(&piece).unwrap();
    let (pack, id) = (PACK, ChunkId([1; 32]));
    let whole = format!("[\"{pack}\",0,10,100,\"{id}\"]");
    assert_eq!(line(part(0, 100)), whole);
    let some = format!("[\"{pack}\",0,10,100,\"{id}\",7,9]");
    assert_eq!(line(part(7, 9)), some);
    let half = format!("[\"{pack}\",0,10,100,\"{id}\",7]");
    assert!(serde_json::from_str::<Piece>(&half).is_err());
}

#[test]
fn many_entries_become_parts_and_a_change_touches_few() {
    let names: Vec<String> = (0..30_000).map(|n| format!("{n:06}")).collect();
    let mut entries = vec![directory(".")];
    entries.extend(names.iter().map(|name| file(name, vec![chunk(7)])));
    let before = written(&entries);
    assert!(before.len() >= 4, "{} parts", before.len());
    entries[100] = file(&names[99], vec![chunk(8)]);
    let after = written(&entries);
    let same = before.iter().zip(&after).filter(|(a, b)| a == b).count();
    assert_eq!((after.len(), same), (before.len(), before.len() - 1));
}

#[rstest]
#[case::no_root(&[file("a", vec![])])]
#[case::climbing(&[directory("."), file("../a", vec![])])]
#[case::climbing_inside(&[directory("."), directory("a"), file("a/../../b", vec![])])]
#[case::absolute(&[directory("."), file("/etc/passwd", vec![])])]
#[case::dot(&[directory("."), file("a/./b", vec![])])]
#[case::twice(&[directory("."), file("a", vec![]), file("a", vec![])])]
#[case::root_twice(&[directory("."), directory(".")])]
#[case::out_of_order(&[directory("."), file("b", vec![]), file("a", vec![])])]
#[case::no_parent(&[directory("."), file("a/b", vec![])])]
#[case::parent_is_a_file(&[directory("."), file("a", vec![]), file("a/b", vec![])])]
#[case::unknown_pack(&[directory("."), file("a", vec![Piece::Chunk {
    pack: Digest([9; 32]), place: Place { offset: 0, stored: 1, length: 1 }, id: ChunkId([0; 32]), skip: 0, take: 1,
}])])]
#[case::large_chunk(&[directory("."), file("a", vec![chunk(u32::MAX)])])]
#[case::empty_chunk(&[directory("."), file("a", vec![chunk(0)])])]
#[case::nothing_of_a_chunk(&[directory("."), file("a", vec![part(5, 0)])])]
#[case::more_than_a_chunk(&[directory("."), file("a", vec![part(0, 101)])])]
#[case::behind_a_chunk(&[directory("."), file("a", vec![part(100, 1)])])]
#[case::far_behind_a_chunk(&[directory("."), file("a", vec![part(u32::MAX, 2)])])]
#[case::empty_hole(&[directory("."), file("a", vec![Piece::Hole(0)])])]
#[case::huge(&[directory("."), file("a", vec![Piece::Hole(u64::MAX)])])]
#[case::overflow(&[directory("."), Entry { path: b"a".to_vec(), kind: EntryKind::File {
    metadata: Metadata::default(), size: 1, pieces: vec![Piece::Hole(u64::MAX), Piece::Hole(2)],
}}])]
#[case::wrong_size(&[directory("."), Entry { path: b"a".to_vec(), kind: EntryKind::File {
    metadata: Metadata::default(), size: 3, pieces: vec![chunk(2)],
}}])]
#[case::link_to_nothing(&[directory("."), Entry {
    path: b"b".to_vec(), kind: EntryKind::Hardlink { target: b"a".to_vec() },
}])]
#[case::link_outside(&[directory("."), Entry {
    path: b"b".to_vec(), kind: EntryKind::Hardlink { target: b"../../etc/shadow".to_vec() },
}])]
fn hostile_trees_are_refused(#[case] entries: &[Entry]) {
    assert!(read(&written(entries)).is_err());
}

#[test]
fn writing_through_a_symlink_is_refused() {
    let link = Entry {
        path: b"a".to_vec(),
        kind: EntryKind::Symlink {
            metadata: Metadata::default(),
            target: b"/etc".to_vec(),
        },
    };
    let error = read(&written(&[directory("."), link, file("a/passwd", vec![])])).unwrap_err();
    insta::assert_snapshot!(error, @r#"line 4 of the tree ("a/passwd") is refused: its parent is not a directory of the tree"#);
}

#[rstest]
#[case::nothing(b"")]
#[case::no_newline(b"{}")]
#[case::no_header(b"{\"type\":\"directory\",\"path\":\".\"}\n")]
#[case::other_repository(b"{\"format\":\"tenantd-tree\",\"version\":3,\"repository\":\"00000000000000000000000000000000\",\"labels\":{}}\n")]
#[case::other_version(b"{\"format\":\"tenantd-tree\",\"version\":2,\"repository\":\"05050505050505050505050505050505\",\"labels\":{}}\n")]
#[case::header_only(b"{\"format\":\"tenantd-tree\",\"version\":3,\"repository\":\"05050505050505050505050505050505\",\"labels\":{}}\n")]
fn texts_that_are_no_tree_are_refused(#[case] text: &[u8]) {
    assert!(read(&[text.to_vec()]).is_err());
}

#[test]
fn a_tree_without_its_last_part_is_refused_inside_a_file() {
    let parts = written(&[directory("."), file("a", vec![chunk(1 << 20); 60_000])]);
    assert!(parts.len() > 1);
    assert!(read(&parts).is_ok());
    assert!(read(&parts[..parts.len() - 1]).is_err());
}

#[test]
fn a_tree_that_no_reader_takes_is_not_written() {
    let entries: Vec<Entry> = ["a", "b", "c"].map(directory).into();
    let whole = written(&[&[directory(".")], entries.as_slice()].concat());
    let length: usize = whole.iter().map(Vec::len).sum();
    let just = Room {
        bytes: length as u64,
        entries: 4,
    };
    let (shorter, fewer) = (
        Room {
            bytes: just.bytes - 1,
            ..just
        },
        Room {
            entries: just.entries - 1,
            ..just
        },
    );
    let header = TreeWriter::new(ID, &Labels::new()).finish().concat().len();
    let write = |room: Room| {
        let mut writer = TreeWriter::new(ID, &Labels::new());
        writer.room = room;
        writer.room.take_bytes(header)?;
        writer.push(&directory("."))?;
        entries.iter().try_for_each(|entry| writer.push(entry))
    };
    let read = |room: Room| {
        let packs = HashSet::from([PACK]);
        let mut reader = TreeReader::new(ID, &packs);
        reader.room = room;
        whole.iter().try_for_each(|part| reader.part(part))
    };
    for end in [write(just), read(just)] {
        assert!(end.is_ok(), "{end:?}");
    }
    for end in [write(shorter), read(shorter)] {
        assert!(matches!(end, Err(TreeError::TooLong)), "{end:?}");
    }
    for end in [write(fewer), read(fewer)] {
        assert!(matches!(end, Err(TreeError::TooMany)), "{end:?}");
    }
}
