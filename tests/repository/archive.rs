//! A snapshot goes out as one file that anybody's tar reads; a file that anybody made comes in, or nothing does.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;

use camino::Utf8PathBuf;
use rstest::rstest;
use tar::{EntryType, Header};
use tenantd::backup::Silent;
use tenantd::backup::archive::{
    About, Archive, ArchiveError, ImportError, ImportRequest, Imported,
};
use tenantd::layout::Layout;
use tenantd::protect::read_archive;

use super::round_trip::fill;
use super::world::{World, assert_same, nodes};

const SPEC: &str = "id = \"acme\"\n";

fn about() -> About {
    About::new("acme", "node-a", "2026-11-21T10:00:00Z".parse().unwrap(), 1)
}

async fn exported(world: &World) -> Utf8PathBuf {
    let remote = world.remote().await;
    let snapshots = remote.snapshots().await.unwrap();
    let commit = snapshots.newest().unwrap();
    let identities = [world.operator.clone()];
    let keys = remote.unlock(commit, &identities).await.unwrap();
    let path = world.path.join("acme.tar.zst");
    let out = File::create(&path).unwrap();
    let progress = Arc::new(Silent);
    let about = about();
    let exported = remote.export(commit, &keys, &about, SPEC, out, progress);
    assert!(exported.await.unwrap().files >= 6);
    path
}

fn extract(world: &World, archive: Archive, keep_setuid: bool) -> Result<Imported, ImportError> {
    archive.extract(&ImportRequest {
        target: world.path.join("imported"),
        ownership: true,
        keep_setuid,
        progress: Arc::new(Silent),
    })
}

#[tokio::test]
async fn an_export_comes_in_again_as_it_was() {
    let world = World::new();
    fill(&world);
    let long = "long/".repeat(30);
    fs::create_dir_all(world.state().join(&long)).unwrap();
    fs::write(world.state().join(&long).join("x".repeat(200)), "deep").unwrap();
    world.snapshot().await;
    let archive = Archive::read(&exported(&world).await, u64::MAX, false).unwrap();
    assert_eq!((archive.spec.as_str(), &archive.about), (SPEC, &about()));
    extract(&world, archive, false).unwrap();
    let imported = world.path.join("imported");
    assert_same(&nodes(&imported), &nodes(&world.state()));
    let blocks =
        std::os::unix::fs::MetadataExt::blocks(&fs::metadata(imported.join("all-hole")).unwrap());
    assert!(blocks * 512 < 1 << 20, "zeros take {blocks} blocks");
}

#[tokio::test]
async fn an_export_is_read_by_gnu_tar_with_all_that_it_keeps() {
    let world = World::new();
    fill(&world);
    fs::write(world.state().join("Ünïcode"), "x").unwrap();
    world.snapshot().await;
    let archive = exported(&world).await;
    let output = Command::new("tar")
        .args([
            "-x",
            "--xattrs",
            "--xattrs-include=user.*",
            "--numeric-owner",
            "-p",
            "-f",
        ])
        .args([
            archive.as_str(),
            "-C",
            world.path.as_str(),
            "--transform=s,^state,untarred,;s,^state/,untarred/,h",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_same(&nodes(&world.path.join("untarred")), &nodes(&world.state()));
    let spec = fs::read_to_string(world.path.join("tenant.toml")).unwrap();
    assert_eq!(spec, SPEC);
}

/// One entry of an archive that somebody else made: type, name, target, size in the header, bytes.
type Made<'a> = (EntryType, &'a str, &'a str, u64, &'a [u8]);

const DIRECTORY: Made<'_> = (EntryType::Directory, "state", "", 0, b"");

static LONG: [u8; 2 << 20] = [b'x'; 2 << 20];

const fn file(name: &str) -> Made<'_> {
    (EntryType::Regular, name, "", 1, b"x")
}

const fn link<'a>(name: &'a str, target: &'a str) -> Made<'a> {
    (EntryType::Symlink, name, target, 0, b"")
}

const fn other(kind: EntryType, name: &str) -> Made<'_> {
    (kind, name, "", 0, b"")
}

fn made(world: &World, entries: &[Made<'_>]) -> Utf8PathBuf {
    let path = world.path.join("made.tar.zst");
    let encoder = zstd::Encoder::new(File::create(&path).unwrap(), 1).unwrap();
    let mut tar = tar::Builder::new(encoder);
    let about = serde_json::to_vec(&about()).unwrap();
    let documents: [Made<'_>; 2] = [
        (
            EntryType::Regular,
            "tenantd-export.json",
            "",
            about.len() as u64,
            &about,
        ),
        (
            EntryType::Regular,
            "tenant.toml",
            "",
            SPEC.len() as u64,
            SPEC.as_bytes(),
        ),
    ];
    for (kind, name, target, size, bytes) in documents.iter().chain(entries) {
        let mut header = Header::new_ustar();
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o4755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(*size);
        header.set_cksum();
        tar.append(&header, *bytes).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
    path
}

#[rstest]
#[case::out_by_dots(&[DIRECTORY, file("state/../x")], "leads out")]
#[case::out_by_root(&[DIRECTORY, file("/etc/x")], "leads out")]
#[case::elsewhere(&[DIRECTORY, file("states")], "leads out")]
#[case::through_a_link(&[DIRECTORY, link("state/d", "/etc"), file("state/d/x")], "does not hold")]
#[case::link_over_a_directory(
    &[DIRECTORY, other(EntryType::Directory, "state/d"), link("state/d", "/etc")], "comes twice")]
#[case::hard_link_out(
    &[DIRECTORY, (EntryType::Link, "state/p", "/etc/passwd", 0, &[])], "not in state/")]
#[case::hard_link_to_a_link(
    &[DIRECTORY, link("state/s", "/etc/passwd"), (EntryType::Link, "state/p", "state/s", 0, &[])],
    "no file of the archive")]
#[case::link_to_nothing(&[DIRECTORY, link("state/s", "")], "impossible name")]
#[case::device(&[DIRECTORY, other(EntryType::Char, "state/null")], "--allow-special")]
#[case::fifo(&[DIRECTORY, other(EntryType::Fifo, "state/pipe")], "--allow-special")]
#[case::twice(&[DIRECTORY, file("state/x"), file("state/x")], "comes twice")]
#[case::no_root(&[file("state/x")], "no directory state/")]
#[case::larger_than_the_disk(
    &[DIRECTORY, (EntryType::Regular, "state/x", "", 1 << 40, &[])], "bytes that are free")]
#[case::gnu_sparse(&[DIRECTORY, other(EntryType::GNUSparse, "state/x")], "sparse files")]
#[case::endless_name(
    &[DIRECTORY, (EntryType::GNULongName, "x", "", 2 << 20, &LONG), file("state/x")], "too long")]
fn a_hostile_archive_is_refused_before_anything_is_written(
    #[case] entries: &[Made<'_>],
    #[case] expected: &str,
) {
    let world = World::new();
    let error = Archive::read(&made(&world, entries), 1 << 30, false).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
}

#[rstest]
#[case::a_mount(&[DIRECTORY, other(EntryType::Directory, "state/data"), file("state/data/a b")], None)]
#[case::words_of_a_command(&[DIRECTORY, other(EntryType::Directory, "state/a -p .")], Some("a -p ."))]
#[case::an_option(&[DIRECTORY, other(EntryType::Directory, "state/-C")], Some("-C"))]
#[case::a_link_to_the_host(&[DIRECTORY, link("state/data", "/etc")], Some("data"))]
#[case::a_file(&[DIRECTORY, file("state/data")], Some("data"))]
fn an_archive_has_nothing_beside_mounts(
    #[case] entries: &[Made<'_>],
    #[case] refused: Option<&str>,
) {
    let world = World::new();
    let layout = Layout::rooted(world.path.clone());
    fs::create_dir_all(layout.data_dir()).unwrap();
    let read = read_archive(&layout, &made(&world, entries), false);
    let said = read
        .err()
        .map(|error| anyhow::Error::from(error).to_string());
    assert_eq!(said.is_some(), refused.is_some(), "{said:?}");
    if let (Some(said), Some(name)) = (said, refused) {
        let expected = format!("{name:?} is directly in state/");
        assert!(said.contains(&expected), "{said}");
    }
}

#[test]
fn special_files_and_setuid_bits_come_in_only_when_asked_for() {
    let world = World::new();
    let file = (EntryType::Regular, "state/x", "", 1, &b"x"[..]);
    let path = made(
        &world,
        &[DIRECTORY, file, (EntryType::Fifo, "state/pipe", "", 0, b"")],
    );
    let refused = Archive::read(&path, 1 << 30, false);
    assert!(matches!(refused, Err(ArchiveError::Special(_))));
    let mode = |path: &str| {
        let metadata = fs::metadata(world.path.join(path)).unwrap();
        metadata.permissions().mode() & 0o7777
    };
    for (keep, expected, dropped) in [(false, 0o755, 1), (true, 0o4755, 0)] {
        let archive = Archive::read(&path, 1 << 30, true).unwrap();
        assert_eq!(archive.left_out, 1);
        let imported = extract(&world, archive, keep).unwrap();
        assert_eq!(
            (mode("imported/x"), imported.setuid_dropped),
            (expected, dropped)
        );
        assert!(!world.path.join("imported/pipe").exists());
        fs::remove_dir_all(world.path.join("imported")).unwrap();
    }
}

#[tokio::test]
async fn an_archive_that_ends_too_early_leaves_nothing() {
    let world = World::new();
    fill(&world);
    world.snapshot().await;
    let path = exported(&world).await;
    let whole = fs::read(&path).unwrap();
    for length in [0, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(
            Archive::read(&path, u64::MAX, false).is_err(),
            "{length} bytes"
        );
    }
    // It is whole when it is looked at, and not any more when it is read.
    fs::write(&path, &whole).unwrap();
    let archive = Archive::read(&path, u64::MAX, false).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(extract(&world, archive, false).is_err());
    assert!(!world.path.join("imported").exists());
}
