//! Finding out what a store and its key can do, by doing it to one object of our own.
//! It collects facts and touches nothing else; judging them is the doctor's.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{
    Collector, Deleted, DirectoryStore, ObjectStore, ObjectVersion, StoreError, StoreErrorKind,
};

/// Where the probe's objects are; nothing else is ever stored there.
pub const PROBE_PREFIX: &str = "tenantd-probe/";
/// A step that has not ended by then is taken for failed.
const STEP: Duration = Duration::from_secs(10);
/// What is stored first, and what it is overwritten with.
const FIRST: &[u8] = b"tenantd doctor: the first";
const SECOND: &[u8] = b"tenantd doctor: the second";
/// Leftovers that are named.
const MAX_NAMED: usize = 20;

/// What else a store can be asked, for the probe only.
#[async_trait]
pub trait Probed: Collector {
    /// Stores an object only where there is none.
    async fn put_new(&self, name: &str, bytes: Bytes) -> Result<(), StoreError>;

    /// For how long new objects are locked unless the writer says otherwise, in words.
    async fn default_lock(&self) -> Result<Option<String>, StoreError>;

    /// What time it is for the store, if it has a clock of its own.
    async fn time(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Deletes an object by its name, which only hides it where versions are kept.
    async fn hide(&self, name: &str) -> Result<(), StoreError>;
}

/// What becomes of an object that is overwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// It stays as an older version.
    Kept,
    /// It is gone.
    Lost,
}

/// What a store does about "only where there is none".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conditional {
    /// It keeps what is there.
    Honoured,
    /// It overwrites all the same.
    Ignored,
    /// It refuses such requests.
    NotOffered,
}

/// What the key can do to what is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deleting {
    /// Delete for good.
    ForGood,
    /// It may, but the store holds new objects back until then.
    Locked(Option<Timestamp>),
    /// Only hide, by deleting the name.
    HidesOnly,
    /// Neither.
    Nothing,
}

/// What was found; a text is why something could not be found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFacts {
    /// The store as the operator names it.
    pub url: String,
    /// The median time of the requests, if the store answers.
    pub reached: Result<Duration, String>,
    /// Whether an object could be stored.
    pub put: Result<(), String>,
    /// Whether it could be read again.
    pub get: Result<(), String>,
    /// Whether a part of it could be read.
    pub range: Result<(), String>,
    /// Whether a listing has it.
    pub list: Result<(), String>,
    /// What becomes of what is overwritten.
    pub history: Result<History, String>,
    /// The default lock, if there is one.
    pub lock: Result<Option<String>, String>,
    /// What conditional writes do.
    pub conditional: Result<Conditional, String>,
    /// What the key can do.
    pub deleting: Result<Deleting, String>,
    /// How far the store's clock is ahead of this host's.
    pub skew: Result<Option<SignedDuration>, String>,
    /// What this probe and those before it left behind.
    pub leftovers: Vec<String>,
}

const NOT_TRIED: &str = "not tried, because an object could not be stored";

impl StoreFacts {
    /// What is known of a store that does not answer.
    pub fn unreached(url: String, why: String) -> Self {
        let untried = || "not tried, because the store does not answer".to_owned();
        Self {
            url,
            reached: Err(why),
            put: Err(untried()),
            get: Err(untried()),
            range: Err(untried()),
            list: Err(untried()),
            history: Err(untried()),
            lock: Err(untried()),
            conditional: Err(untried()),
            deleting: Err(untried()),
            skew: Err(untried()),
            leftovers: Vec::new(),
        }
    }
}

/// A failed step: what kind, and in words.
struct Failure {
    kind: StoreErrorKind,
    told: String,
}

/// Asks one thing after the other and remembers how long each took.
#[derive(Default)]
struct Watch {
    times: Vec<Duration>,
}

impl Watch {
    async fn step<T>(
        &mut self,
        step: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Failure> {
        let begun = Instant::now();
        let outcome = tokio::time::timeout(STEP, step).await;
        self.times.push(begun.elapsed());
        match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Failure {
                kind: error.kind,
                told: format!("{:#}", anyhow::Error::from(error)),
            }),
            Err(_) => Err(Failure {
                kind: StoreErrorKind::Unavailable { retry_after: None },
                told: format!("no answer within {} s", STEP.as_secs()),
            }),
        }
    }

    fn median(&mut self) -> Duration {
        self.times.sort_unstable();
        self.times
            .get(self.times.len() / 2)
            .copied()
            .unwrap_or_default()
    }
}

/// Probes a store with an object called `name` below [`PROBE_PREFIX`]; `now` is this host's clock.
pub async fn probe(
    store: &dyn Probed,
    url: String,
    name: &str,
    now: fn() -> Timestamp,
) -> StoreFacts {
    let mut watch = Watch::default();
    if let Err(failure) = watch.step(store.list(PROBE_PREFIX)).await {
        return StoreFacts::unreached(url, failure.told);
    }
    let before = now();
    let skew = watch.step(store.time()).await.map(|time| {
        // The store's time is of some moment between the two.
        let asked = before + now().duration_since(before) / 2;
        time.map(|time| time.duration_since(asked))
    });
    let lock = match watch.step(store.default_lock()).await {
        Err(failure) if failure.kind == StoreErrorKind::Unsupported => Ok(None),
        lock => lock,
    };
    let put = watch.step(store.put(name, Bytes::from_static(FIRST))).await;
    let mut facts = StoreFacts {
        reached: Ok(Duration::ZERO),
        skew: skew.map_err(|failure| failure.told),
        lock: lock.map_err(|failure| failure.told),
        put: put.map_err(|failure| failure.told),
        ..StoreFacts::unreached(url, String::new())
    };
    if facts.put.is_ok() {
        reads(store, name, &mut watch, &mut facts).await;
        writes(store, name, &mut watch, &mut facts).await;
        facts.deleting = deletes(store, name, &mut watch).await;
    } else {
        let untried = || Err(NOT_TRIED.to_owned());
        (facts.get, facts.range, facts.list) = (untried(), untried(), untried());
        facts.history = Err(NOT_TRIED.to_owned());
        facts.conditional = Err(NOT_TRIED.to_owned());
        facts.deleting = Err(NOT_TRIED.to_owned());
    }
    facts.leftovers = clear(store, &mut watch).await;
    facts.reached = Ok(watch.median());
    facts
}

async fn reads(store: &dyn Probed, name: &str, watch: &mut Watch, facts: &mut StoreFacts) {
    let same = |found: Bytes, expected: &[u8]| {
        if found == expected {
            Ok(())
        } else {
            Err("other bytes came back than were stored".to_owned())
        }
    };
    let get = watch.step(store.get(name, 1024)).await;
    facts.get = get
        .map_err(|failure| failure.told)
        .and_then(|bytes| same(bytes, FIRST));
    let range = watch.step(store.get_range(name, 8, 6)).await;
    facts.range = range
        .map_err(|failure| failure.told)
        .and_then(|bytes| same(bytes, &FIRST[8..14]));
    let list = watch.step(store.list(PROBE_PREFIX)).await;
    facts.list = list.map_err(|failure| failure.told).and_then(|objects| {
        let found = objects.iter().any(|object| object.name == name);
        let missing = || "what was just stored is not in the listing".to_owned();
        found.then_some(()).ok_or_else(missing)
    });
}

async fn writes(store: &dyn Probed, name: &str, watch: &mut Watch, facts: &mut StoreFacts) {
    let again = watch
        .step(store.put_new(name, Bytes::from_static(SECOND)))
        .await;
    facts.conditional = match again {
        Ok(()) => Ok(Conditional::Ignored),
        Err(failure) => match failure.kind {
            StoreErrorKind::Exists => Ok(Conditional::Honoured),
            StoreErrorKind::Unsupported => Ok(Conditional::NotOffered),
            _ => Err(failure.told),
        },
    };
    let history = async {
        store.put(name, Bytes::from_static(SECOND)).await?;
        let versions = store.list_versions(name).await?;
        let first = versions.iter().find(|version| version.name == name);
        // The first is still there only if it can be read as it was.
        Ok(match first {
            Some(first) if store.get_version(first, 1024).await? == FIRST => History::Kept,
            _ => History::Lost,
        })
    };
    facts.history = watch.step(history).await.map_err(|failure| failure.told);
}

async fn deletes(store: &dyn Probed, name: &str, watch: &mut Watch) -> Result<Deleting, String> {
    let versions = watch.step(store.list_versions(name)).await;
    let versions = versions.map_err(|failure| failure.told)?;
    let Some(oldest) = versions.iter().find(|version| version.name == name) else {
        return Err("what was stored is not in the listing of versions".to_owned());
    };
    match watch.step(store.delete_version(oldest)).await {
        Ok(Deleted::Gone) => Ok(Deleting::ForGood),
        Ok(Deleted::Locked { until }) => Ok(Deleting::Locked(until)),
        Err(failure) if failure.kind == StoreErrorKind::Denied => {
            match watch.step(store.hide(name)).await {
                Ok(()) => Ok(Deleting::HidesOnly),
                Err(failure) if failure.kind == StoreErrorKind::Denied => Ok(Deleting::Nothing),
                Err(failure) => Err(failure.told),
            }
        }
        Err(failure) => Err(failure.told),
    }
}

/// Deletes what is below the prefix, of this probe and those before it; gives what stays.
async fn clear(store: &dyn Probed, watch: &mut Watch) -> Vec<String> {
    let listed = watch.step(store.list_versions(PROBE_PREFIX)).await;
    let mut left: Vec<String> = Vec::new();
    let versions: Vec<ObjectVersion> = listed.unwrap_or_default();
    for version in versions {
        let gone = !left.contains(&version.name)
            && matches!(
                watch.step(store.delete_version(&version)).await,
                Ok(Deleted::Gone)
            );
        if !gone && !left.contains(&version.name) && left.len() < MAX_NAMED {
            left.push(version.name);
        }
    }
    left
}

#[async_trait]
impl Probed for DirectoryStore {
    async fn put_new(&self, name: &str, _: Bytes) -> Result<(), StoreError> {
        Err(StoreError {
            action: "storing",
            place: name.to_owned(),
            kind: StoreErrorKind::Unsupported,
            source: None,
        })
    }

    async fn default_lock(&self) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    async fn hide(&self, name: &str) -> Result<(), StoreError> {
        for version in self.list_versions(name).await? {
            self.delete_version(&version).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use camino::Utf8PathBuf;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    #[tokio::test]
    async fn a_directory_is_probed_and_left_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
        let store = DirectoryStore::new(&root);
        let other = Bytes::from_static(b"somebody's");
        store.put("x/packs/1", other).await.unwrap();
        let left = Bytes::from_static(b"of an earlier probe");
        store.put("tenantd-probe/old", left).await.unwrap();
        let url = format!("dir:{root}");
        let facts = probe(&store, url.clone(), "tenantd-probe/new", now).await;
        let expected = StoreFacts {
            url,
            reached: facts.reached.clone(),
            put: Ok(()),
            get: Ok(()),
            range: Ok(()),
            list: Ok(()),
            history: Ok(History::Lost),
            lock: Ok(None),
            conditional: Ok(Conditional::NotOffered),
            deleting: Ok(Deleting::ForGood),
            skew: Ok(None),
            leftovers: Vec::new(),
        };
        assert_eq!(facts, expected);
        let names: Vec<_> = store.list("").await.unwrap();
        assert_eq!(names.len(), 1, "{names:?}");
    }
}
