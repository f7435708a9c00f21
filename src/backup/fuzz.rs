//! The parsers of what lies in a bucket or comes as an archive, for `crate::fuzz`; good inputs are the golden vectors'.
//!
//! Mutated bytes alone would end at the first hash, signature or cipher. So each layer is fed by itself, and what a
//! certified node has signed or anyone has sealed is mutated before it is signed or sealed.

use std::collections::HashSet;
use std::fs;
use std::rc::Rc;
use std::sync::LazyLock;

use camino::{Utf8Path, Utf8PathBuf};

use super::archive::{About, Archive};
use super::certificate::{NodeCertificate, Trust};
use super::collect::fuzz_mark;
use super::commit::{Commit, SignedCommit};
use super::entry::EntryKind;
use super::envelope::{self, Signer};
use super::fetch::description;
use super::heartbeat::SignedHeartbeat;
use super::id::{Digest, RepositoryId};
use super::keys::{COMMIT_NAMESPACE, HEARTBEAT_NAMESPACE, NodeKey, RootKey};
use super::names::{CommitName, HeartbeatName};
use super::pack::{MAX_PACK, OpenPack};
use super::pack_list::ListObject;
use super::path;
use super::remote::decompress;
use super::seal::{self, Identity, RepositoryKeys};
use super::tree::TreeReader;
use crate::fuzz::Target;

const MAX_KEYS: usize = 64 << 10;

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/v3");

/// The golden repository, opened.
struct Golden {
    id: RepositoryId,
    operator: Identity,
    trust: Trust,
    keys: RepositoryKeys,
    root: Utf8PathBuf,
    packs: HashSet<Digest>,
    /// A node that the reader trusts, and that says what it likes.
    traitor: Signer,
}

impl Golden {
    fn open() -> Self {
        let vectors = Utf8Path::new(VECTORS);
        let read = |name: &str| fs::read_to_string(vectors.join(name)).unwrap();
        let root = entries(&vectors.join("store")).remove(0);
        let object = description(&fs::read(root.join("repository.json")).unwrap()).unwrap();
        let operator = Identity::from_text(&read("operator.txt").into()).unwrap();
        let sealed = fs::read(&entries(&root.join("keys"))[0]).unwrap();
        let packs = entries(&root.join("packs")).into_iter();
        let own = RootKey::from_seed(&[1; 32]).unwrap();
        let key = NodeKey::from_seed(&[2; 32]).unwrap();
        let certificate = own.certify(&key.public(), 1).unwrap();
        Self {
            id: object.id,
            trust: Trust::root(read("root.pub").parse().unwrap()),
            keys: RepositoryKeys::unwrap(object.id, &operator, &sealed).unwrap(),
            packs: packs
                .map(|path| path.file_name().unwrap().parse().unwrap())
                .collect(),
            operator,
            root,
            traitor: Signer { key, certificate },
        }
    }

    fn all(&self, kind: &str) -> Vec<Vec<u8>> {
        let files = entries(&self.root.join(kind)).into_iter();
        files.map(|path| fs::read(path).unwrap()).collect()
    }

    /// What is inside the age files of a kind.
    fn opened(&self, kind: &str) -> Vec<Vec<u8>> {
        let sealed = self.all(kind).into_iter();
        sealed
            .map(|bytes| seal::open(&self.keys.identity, &bytes, MAX_PACK as u64).unwrap())
            .collect()
    }

    fn traitor_trust() -> Trust {
        Trust::root(RootKey::from_seed(&[1; 32]).unwrap().public())
    }
}

/// The files of a directory, sorted.
fn entries(directory: &Utf8Path) -> Vec<Utf8PathBuf> {
    let found = directory.read_dir_utf8().unwrap();
    let mut paths: Vec<_> = found.map(|entry| entry.unwrap().into_path()).collect();
    paths.sort();
    paths
}

fn first_lines(objects: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let line = |bytes: &Vec<u8>| bytes.split(|byte| *byte == b'\n').next().unwrap().to_vec();
    objects.iter().map(line).collect()
}

/// All of them.
pub fn targets() -> Vec<Target> {
    let golden = Rc::new(Golden::open());
    [signed(&golden), sealed(&golden), archives()]
        .into_iter()
        .flatten()
        .collect()
}

/// What nodes say in clear.
fn signed(golden: &Rc<Golden>) -> Vec<Target> {
    let (commits, beats) = (golden.all("commits"), golden.all("heartbeats"));
    let lists = ListObject {
        salt: "00".repeat(16),
        packs: Vec::new(),
    };
    let lists = vec![serde_json::to_vec(&lists).unwrap()];
    let of = Rc::clone(golden);
    let commit = Target::new("commit", commits.clone(), move |bytes| {
        let name = commit_name(bytes, 1);
        let _ = SignedCommit::verify(name, bytes.to_vec(), of.id, &of.trust);
        let _ = Commit::claimed(bytes);
        let _ = Commit::is_of_another_version(bytes);
    });
    let of = Rc::clone(golden);
    let certified = Target::new("commit of a traitor", first_lines(&commits), move |bytes| {
        let line = String::from_utf8_lossy(bytes).into_owned();
        let sealed = envelope::seal(line, &of.traitor, COMMIT_NAMESPACE, 256 << 10);
        for (bytes, sequence) in sealed
            .into_iter()
            .flat_map(|bytes| [(bytes.clone(), 1), (bytes, 2)])
        {
            let name = commit_name(&bytes, sequence);
            if let Ok(commit) = SignedCommit::verify(name, bytes, of.id, &Golden::traitor_trust()) {
                assert_eq!(
                    (commit.commit.repository, commit.commit.sequence),
                    (of.id, sequence)
                );
            }
        }
    });
    let of = Rc::clone(golden);
    let beat = Target::new("heartbeat", beats.clone(), move |bytes| {
        let _ = SignedHeartbeat::verify(beat_name(bytes), bytes.to_vec(), of.id, &of.trust);
    });
    let of = Rc::clone(golden);
    let certified_beat = Target::new(
        "heartbeat of a traitor",
        first_lines(&beats),
        move |bytes| {
            let line = String::from_utf8_lossy(bytes).into_owned();
            let Ok(bytes) = envelope::seal(line, &of.traitor, HEARTBEAT_NAMESPACE, 1 << 20) else {
                return;
            };
            let trust = Golden::traitor_trust();
            if let Ok(beat) = SignedHeartbeat::verify(beat_name(&bytes), bytes, of.id, &trust) {
                for pair in beat.heartbeat.heads.windows(2) {
                    assert!(pair[0].repository < pair[1].repository);
                }
            }
        },
    );
    let of = Rc::clone(golden);
    let good = golden.traitor.certificate.to_text();
    let certificate = Target::new(
        "certificate",
        vec![good.clone().into_bytes()],
        move |bytes| {
            let text = String::from_utf8_lossy(bytes);
            if let Ok(certificate) = NodeCertificate::from_text(&text)
                && of.trust.certified(&certificate).is_ok()
            {
                assert_eq!(text, good, "another spelling of what was signed");
            }
        },
    );
    let described = vec![fs::read(golden.root.join("repository.json")).unwrap()];
    vec![
        commit,
        certified,
        beat,
        certified_beat,
        certificate,
        Target::new("repository.json", described, |bytes| {
            drop(description(bytes));
        }),
        Target::new("list", lists, |bytes| {
            let _ = serde_json::from_slice::<ListObject>(bytes);
        }),
        Target::new("mark", vec![fuzz_mark::good()], fuzz_mark::parse),
    ]
}

fn commit_name(bytes: &[u8], sequence: u32) -> CommitName {
    CommitName {
        epoch: 1,
        sequence,
        digest: Digest::of(bytes),
    }
}

/// The number of the golden heartbeat, which its name tells.
static BEAT: LazyLock<u32> = LazyLock::new(|| {
    let store = Utf8Path::new(VECTORS).join("store");
    let below = |path: Utf8PathBuf| path.read_dir_utf8().unwrap().next().unwrap().unwrap();
    let repository = below(store);
    let beat = below(repository.path().join("heartbeats"));
    let number = beat.file_name().split('-').nth(1).unwrap();
    number.parse().unwrap()
});

fn beat_name(bytes: &[u8]) -> HeartbeatName {
    HeartbeatName {
        epoch: 1,
        sequence: *BEAT,
        digest: Digest::of(bytes),
    }
}

/// What is in age files, and the age files.
fn sealed(golden: &Rc<Golden>) -> Vec<Target> {
    let all: Vec<_> = ["keys", "packs", "trees"]
        .iter()
        .flat_map(|kind| golden.all(kind))
        .collect();
    let of = Rc::clone(golden);
    let age = Target::new("age file", all, move |bytes| {
        // Anybody can store a key object, and none is longer; what is, has a digest that a node signed.
        let bytes = &bytes[..bytes.len().min(MAX_KEYS)];
        for identity in [&of.operator, &of.keys.identity] {
            if let Ok(plain) = seal::open(identity, bytes, 1 << 20) {
                assert!(plain.len() <= 1 << 20);
            }
        }
        let _ = RepositoryKeys::unwrap(of.id, &of.operator, bytes);
    });
    let of = Rc::clone(golden);
    let plain = golden.all("keys");
    let plain = plain
        .iter()
        .map(|bytes| seal::open(&golden.operator, bytes, 1 << 20).unwrap());
    let keys = Target::new("keys", plain.collect(), move |bytes| {
        let sealed = seal::seal(std::iter::once(&of.operator.recipient()), bytes).unwrap();
        let _ = RepositoryKeys::unwrap(of.id, &of.operator, &sealed);
    });
    let pack = Target::new("pack", golden.opened("packs"), |bytes| {
        let pack = OpenPack::of_plain(bytes.to_vec());
        let Ok(directory) = pack.directory() else {
            return;
        };
        let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
        let mut chunk = Vec::new();
        for (_, place) in directory.into_iter().take(50) {
            if pack.read(&mut decompressor, place, &mut chunk).is_ok() {
                assert_eq!(chunk.len(), place.length as usize);
            }
        }
    });
    let compressed = golden.opened("trees");
    let trees = compressed
        .iter()
        .map(|bytes| decompress(bytes).unwrap())
        .collect();
    let part = Target::new("compressed tree", compressed, |bytes| {
        drop(decompress(bytes));
    });
    let of = Rc::clone(golden);
    let tree = Target::new("tree", trees, move |bytes| {
        let mut reader = TreeReader::new(of.id, &of.packs);
        if reader.part(bytes).is_err() {
            return;
        }
        let Ok(tree) = reader.finish() else { return };
        for pair in tree.entries.windows(2) {
            assert!(path::compare(&pair[0].path, &pair[1].path).is_lt());
        }
        for entry in &tree.entries {
            assert!(entry.path == path::ROOT || path::is_normal(&entry.path));
            if let EntryKind::File { size, pieces, .. } = &entry.kind {
                let sum: u128 = pieces.iter().map(|piece| u128::from(piece.length())).sum();
                assert_eq!(sum, u128::from(*size));
            }
        }
    });
    vec![age, keys, pack, part, tree]
}

/// What a stranger calls an export.
fn archives() -> Vec<Target> {
    let good = archive();
    let directory = Rc::new(tempfile::tempdir().unwrap());
    let read = move |bytes: &[u8]| {
        let file = Utf8Path::from_path(directory.path())
            .unwrap()
            .join("export.tar.zst");
        fs::write(&file, bytes).unwrap();
        for skip_special in [false, true] {
            if let Ok(archive) = Archive::read(&file, 1 << 20, skip_special) {
                assert!(archive.bytes <= 1 << 20);
            }
        }
    };
    let compress = |bytes: &[u8]| zstd::bulk::compress(bytes, 1).unwrap();
    let (whole, inner) = (read.clone(), read);
    vec![
        Target::new("archive", vec![good.clone()], move |bytes| {
            inner(&compress(bytes));
        }),
        Target::new("compressed archive", vec![compress(&good)], move |bytes| {
            whole(bytes);
        }),
    ]
}

/// A small tar with one of everything.
fn archive() -> Vec<u8> {
    let about = About::new("acme", "host", "2026-11-21T10:00:00Z".parse().unwrap(), 1);
    let about = serde_json::to_vec(&about).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    let header = |kind, size: usize| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(size as u64);
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header
    };
    let file = |size| header(tar::EntryType::Regular, size);
    let directory = || header(tar::EntryType::Directory, 0);
    let nothing: &[u8] = b"";
    tar.append_data(
        &mut file(about.len()),
        "tenantd-export.json",
        about.as_slice(),
    )
    .unwrap();
    tar.append_data(&mut file(4), "tenant.toml", &b"id=1"[..])
        .unwrap();
    tar.append_data(&mut directory(), "state/", nothing)
        .unwrap();
    tar.append_data(&mut directory(), "state/data/", nothing)
        .unwrap();
    let extensions = [
        ("mtime", &b"1764000000.5"[..]),
        ("SCHILY.xattr.user.a", b"value"),
    ];
    tar.append_pax_extensions(extensions).unwrap();
    tar.append_data(&mut file(3), "state/data/a", &b"abc"[..])
        .unwrap();
    let link = |kind| header(kind, 0);
    tar.append_link(&mut link(tar::EntryType::Symlink), "state/data/b", "a")
        .unwrap();
    tar.append_link(
        &mut link(tar::EntryType::Link),
        "state/data/c",
        "state/data/a",
    )
    .unwrap();
    tar.append_data(&mut link(tar::EntryType::Fifo), "state/data/d", nothing)
        .unwrap();
    tar.into_inner().unwrap()
}
