//! What can go wrong with an object store, said for the operator.

use std::time::Duration;

/// A failed call: where, what, and the cause.
#[derive(Debug, thiserror::Error)]
#[error("{action} {place} failed: {kind}")]
pub struct StoreError {
    /// `reading`, `storing`, `listing`, `looking for`, `deleting` or `asking`.
    pub action: &'static str,
    /// Store and object.
    pub place: String,
    /// What it was.
    pub kind: StoreErrorKind,
    /// The adapter's error.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What kind of failure it was, and so what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// There is no such object.
    NotFound,
    /// There is no such bucket.
    NoBucket,
    /// The object is longer than the reader takes.
    TooLarge {
        /// What the reader takes, in bytes.
        limit: u64,
    },
    /// The name is none that an object can have.
    BadName,
    /// The key lacks a right.
    Denied,
    /// The key is wrong or revoked.
    WrongKey,
    /// The request is signed for another region than the store's.
    WrongRegion,
    /// The request's time is too far from the store's.
    WrongTime,
    /// The store is full or the account is over its cap.
    Full,
    /// The part that was asked for begins behind the object's end.
    BeyondEnd,
    /// There is already such an object, and none was to be replaced.
    Exists,
    /// The store does not have this kind of request.
    Unsupported,
    /// The store or the way to it fails for now.
    Unavailable {
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// Anything else that will not get better by itself.
    Failed,
}

impl std::fmt::Display for StoreErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotFound => f.write_str("it is not there; check the store's URL and prefix"),
            Self::NoBucket => f.write_str(
                "there is no such bucket; make it, or correct `url` under [store] in node.toml",
            ),
            Self::TooLarge { limit } => {
                write!(f, "it is larger than the {limit} bytes that it may have")
            }
            Self::BadName => f.write_str("the name is not an object's"),
            Self::Denied => f.write_str(
                "access denied; check the store's key, its rights and the directory's mode",
            ),
            Self::WrongKey => f.write_str(
                "the store does not accept the key; check the two lines of its credentials, key id and secret",
            ),
            Self::WrongRegion => f.write_str(
                "the store is in another region; correct `region` under [store] in node.toml",
            ),
            Self::WrongTime => f.write_str(
                "this host's clock differs too much from the store's; set it right",
            ),
            Self::Full => f.write_str("no space or over the account's cap; make room"),
            Self::BeyondEnd => f.write_str("it is shorter than what was asked for"),
            Self::Exists => f.write_str("there is such an object already"),
            Self::Unsupported => f.write_str("the store does not offer that"),
            Self::Unavailable { .. } => f.write_str(
                "the store is out of reach or overloaded; check its endpoint and the network",
            ),
            Self::Failed => f.write_str("the store refused or broke off"),
        }
    }
}

impl StoreErrorKind {
    /// Whether it is the same for every object: the store is out of reach, or its settings or key are wrong.
    ///
    /// Anything else may be one object's own: whoever may only write can store a version that nobody may read
    /// (with a key of his own, or in cold storage), and that must not stand before all the others.
    pub fn is_general(self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::WrongKey
                | Self::WrongRegion
                | Self::WrongTime
                | Self::NoBucket
        )
    }

    /// The kind of a local I/O error.
    pub fn of_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::Denied,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full,
            ErrorKind::Interrupted | ErrorKind::TimedOut => Self::Unavailable { retry_after: None },
            _ => Self::Failed,
        }
    }
}
