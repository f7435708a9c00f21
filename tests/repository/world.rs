//! One tenant's state, a store, the operator's keys, and how to tell whether two directories are equal.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use tenantd::backup::{
    Identity, NobodyWrites, NodeKey, Pause, RemoteRepository, Repository, RepositoryError,
    RestoreError, RestoreReport, RestoreRequest, RootKey, Share, Signer, Silent, SnapshotOutcome,
    SnapshotRecord, SnapshotRequest, Snapshots, SystemClock, Trust, VerifyReport, VerifyRequest,
};
use tenantd::object_store::{DirectoryStore, ObjectStore};

pub struct World {
    _temporary: Option<tempfile::TempDir>,
    pub path: Utf8PathBuf,
    pub store: Arc<dyn ObjectStore>,
    pub operator: Identity,
    pub root: RootKey,
    pub epoch: u32,
    pub pause: Arc<dyn Pause>,
}

impl World {
    pub fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(temporary.path().to_owned()).unwrap();
        let world = Self {
            _temporary: Some(temporary),
            ..Self::at(&path, Identity::generate())
        };
        fs::create_dir(world.state()).unwrap();
        world
    }

    /// A world that was made before, or by another process.
    pub fn at(path: &Utf8Path, operator: Identity) -> Self {
        Self {
            _temporary: None,
            path: path.to_owned(),
            store: Arc::new(DirectoryStore::new(path.join("store"))),
            operator,
            root: RootKey::from_seed(&[1; 32]).unwrap(),
            epoch: 1,
            pause: Arc::new(NobodyWrites),
        }
    }

    pub fn state(&self) -> Utf8PathBuf {
        self.path.join("state")
    }

    pub fn local(&self) -> Utf8PathBuf {
        self.path.join("local")
    }

    pub fn signer(&self) -> Signer {
        let seed = [u8::try_from(self.epoch).unwrap() + 10; 32];
        let key = NodeKey::from_seed(&seed).unwrap();
        let certificate = self.root.certify(&key.public(), self.epoch).unwrap();
        Signer { key, certificate }
    }

    pub fn request(&self) -> SnapshotRequest {
        SnapshotRequest {
            root: self.state(),
            clones: self.path.join("clone"),
            labels: [("kind", "tenant"), ("tenant", "acme")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            pause: Arc::clone(&self.pause),
            clock: Arc::new(SystemClock),
            signer: self.signer(),
            level: 1,
            consolidation: 32 << 20,
            progress: Arc::new(Silent),
        }
    }

    pub async fn repository(&self) -> Repository {
        self.try_repository().await.unwrap()
    }

    pub async fn try_repository(&self) -> Result<Repository, RepositoryError> {
        let recipients = [self.operator.recipient()];
        let now = Timestamp::now();
        Repository::create(&self.local(), Arc::clone(&self.store), &recipients, now).await
    }

    pub async fn outcome(&self) -> SnapshotOutcome {
        self.repository()
            .await
            .snapshot(self.request())
            .await
            .unwrap()
    }

    pub async fn snapshot(&self) -> SnapshotRecord {
        match self.outcome().await {
            SnapshotOutcome::Committed(record) => record,
            SnapshotOutcome::Unchanged(report) => panic!("nothing changed: {report:?}"),
        }
    }

    /// Whether exactly one repository is found and can be opened.
    pub async fn is_reachable(&self) -> bool {
        let Ok(prefixes) = RemoteRepository::find(self.store.as_ref()).await else {
            return false;
        };
        let trust = Trust::root(self.root.public());
        match prefixes.as_slice() {
            [one] => RemoteRepository::open(Arc::clone(&self.store), *one, None, trust)
                .await
                .is_ok(),
            _ => false,
        }
    }

    pub async fn remote(&self) -> RemoteRepository {
        let prefixes = RemoteRepository::find(self.store.as_ref()).await.unwrap();
        assert_eq!(prefixes.len(), 1);
        let trust = Trust::root(self.root.public());
        RemoteRepository::open(Arc::clone(&self.store), prefixes[0], None, trust)
            .await
            .unwrap()
    }

    pub async fn snapshots(&self) -> Snapshots {
        self.remote().await.snapshots().await.unwrap()
    }

    /// Restores a snapshot, the newest without a name, to `target` below the world.
    pub async fn try_restore(
        &self,
        name: Option<&str>,
        target: &str,
    ) -> Result<RestoreReport, RestoreError> {
        self.try_restore_path(name, None, target).await
    }

    /// Restores what a path of a snapshot names.
    pub async fn try_restore_path(
        &self,
        name: Option<&str>,
        path: Option<&str>,
        target: &str,
    ) -> Result<RestoreReport, RestoreError> {
        let remote = self.remote().await;
        let snapshots = remote.snapshots().await.map_err(RestoreError::Remote)?;
        let commit = match name {
            Some(name) => snapshots.named(name),
            None => snapshots.newest(),
        };
        let commit = commit.map_err(RestoreError::Remote)?;
        let identities = [self.operator.clone()];
        let keys = remote
            .unlock(commit, &identities)
            .await
            .map_err(RestoreError::Remote)?;
        let request = RestoreRequest {
            target: self.path.join(target),
            only: path.map(|path| path.as_bytes().to_vec()),
            ownership: true,
            keep_setuid: false,
            progress: Arc::new(Silent),
        };
        remote.restore(commit, &keys, &request).await
    }

    /// Restores and gives what is there then; the target is removed.
    pub async fn restored(&self, name: Option<&str>) -> BTreeMap<Vec<u8>, Node> {
        self.try_restore(name, "restored").await.unwrap();
        let nodes = nodes(&self.path.join("restored"));
        fs::remove_dir_all(self.path.join("restored")).unwrap();
        nodes
    }

    /// The files of the store below the repository, as `packs/…`.
    pub fn objects(&self) -> Vec<Utf8PathBuf> {
        let mut files = Vec::new();
        let mut waiting = vec![self.path.join("store")];
        while let Some(directory) = waiting.pop() {
            for entry in directory.read_dir_utf8().unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    waiting.push(entry.path().to_owned());
                } else {
                    files.push(entry.path().to_owned());
                }
            }
        }
        files.sort();
        files
    }

    /// The only object whose path contains `part`.
    pub fn object(&self, part: &str) -> Utf8PathBuf {
        let mut found = self.objects();
        found.retain(|path| path.as_str().contains(part));
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }
}

/// Fails with the paths that differ.
#[track_caller]
pub fn assert_same(found: &BTreeMap<Vec<u8>, Node>, expected: &BTreeMap<Vec<u8>, Node>) {
    let paths: std::collections::BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    for path in paths {
        let name = String::from_utf8_lossy(path);
        assert_eq!(found.get(path), expected.get(path), "{name}");
    }
}

/// All that is in a directory, by path.
pub type Nodes = BTreeMap<Vec<u8>, Node>;

/// Everything that a snapshot promises to keep of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, i64),
    pub size: u64,
    /// A file's bytes (the hash of long ones) or a link's target.
    pub content: Vec<u8>,
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// All names of the same file, for files with several.
    pub names: Vec<Vec<u8>>,
}

/// All that is below a directory, and itself.
pub fn nodes(root: &Utf8Path) -> BTreeMap<Vec<u8>, Node> {
    let mut nodes = BTreeMap::new();
    let mut inodes: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    let mut by_path = BTreeMap::new();
    let mut waiting = vec![root.as_std_path().to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let name = path
            .strip_prefix(root)
            .unwrap()
            .as_os_str()
            .as_bytes()
            .to_vec();
        let content = if metadata.is_dir() {
            waiting.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            Vec::new()
        } else if metadata.is_symlink() {
            fs::read_link(&path)
                .unwrap()
                .as_os_str()
                .as_bytes()
                .to_vec()
        } else if metadata.is_file() {
            inodes.entry(metadata.ino()).or_default().push(name.clone());
            by_path.insert(name.clone(), metadata.ino());
            let bytes = fs::read(&path).unwrap();
            if bytes.len() > 256 {
                blake3::hash(&bytes).as_bytes().to_vec()
            } else {
                bytes
            }
        } else {
            continue;
        };
        let node = Node {
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid(), metadata.gid()),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            size: if metadata.is_dir() {
                0
            } else {
                metadata.size()
            },
            content,
            xattrs: xattrs(&path, &metadata),
            names: Vec::new(),
        };
        nodes.insert(name, node);
    }
    for (name, inode) in by_path {
        let mut names = inodes[&inode].clone();
        names.sort();
        if names.len() > 1 {
            nodes.get_mut(&name).unwrap().names = names;
        }
    }
    nodes
}

fn xattrs(path: &Path, metadata: &fs::Metadata) -> BTreeMap<String, Vec<u8>> {
    let mut xattrs = BTreeMap::new();
    if metadata.is_symlink() {
        return xattrs;
    }
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    for name in names[..length].split(|byte| *byte == 0) {
        if name.starts_with(b"user.") {
            let mut value = vec![0; 65_536];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(length);
            xattrs.insert(String::from_utf8(name.to_vec()).unwrap(), value);
        }
    }
    xattrs
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// What a verification without the identity finds.
pub async fn verified(remote: &RemoteRepository, share: Share) -> VerifyReport {
    let request = VerifyRequest {
        share,
        keys: None,
        progress: Arc::new(Silent),
    };
    remote.verify(&request).await.unwrap()
}
