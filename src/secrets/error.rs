//! What can go wrong with a secret, and which problem the API shows for it.

use axum::http::StatusCode;
use camino::Utf8PathBuf;

use crate::backup::SealError;
use crate::host::credentials::CredentialError;
use crate::host::files::FileError;
use crate::host::process::ProcessError;
use crate::tenant::{
    MAX_SECRET, MAX_SECRETS, MAX_SECRETS_TOTAL, Reference, SecretName, SecretVersion, TenantId,
};

/// Why a secret cannot be stored, found or asked for.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// A spec names a secret that nobody has given.
    #[error(
        "tenant {tenant}: secret {name} has no value; `tenantd secret set {tenant} {name}` gives it one"
    )]
    Missing {
        /// The tenant.
        tenant: TenantId,
        /// The secret.
        name: SecretName,
    },
    /// No such secret.
    #[error(
        "tenant {tenant} has no secret {name}; `tenantd secret list {tenant}` shows those there are"
    )]
    Unknown {
        /// The tenant.
        tenant: TenantId,
        /// The secret.
        name: SecretName,
    },
    /// A version that was removed is needed again.
    #[error(
        "tenant {tenant}: version {version} of secret {name} is not there any more; \
         apply the spec again to use the newest"
    )]
    NoVersion {
        /// The tenant.
        tenant: TenantId,
        /// The secret.
        name: SecretName,
        /// The version.
        version: SecretVersion,
    },
    /// A value that is empty or too long.
    #[error("secret {name}: {bytes} bytes; a value has 1 to {MAX_SECRET}")]
    Size {
        /// The secret.
        name: SecretName,
        /// How long it is.
        bytes: usize,
    },
    /// All values together are too long for one unit.
    #[error(
        "tenant {tenant}: its secrets have {bytes} bytes together, and systemd gives a unit not more than \
         {MAX_SECRETS_TOTAL}; move the largest into files of the tenant's state"
    )]
    Total {
        /// The tenant.
        tenant: TenantId,
        /// How long they are.
        bytes: u64,
    },
    /// A secret more than a tenant can have.
    #[error(
        "tenant {tenant} has {MAX_SECRETS} secrets, which is the most; remove some with `tenantd secret remove`"
    )]
    Many {
        /// The tenant.
        tenant: TenantId,
    },
    /// A secret that a revision needs was to be removed.
    #[error(
        "tenant {tenant} uses secret {name} in revision {revision}; take it out of the spec and apply that first"
    )]
    InUse {
        /// The tenant.
        tenant: TenantId,
        /// The secret.
        name: SecretName,
        /// The revision.
        revision: u64,
    },
    /// A new value must be given, and was not.
    #[error(
        "secret {name} of tenant {tenant} is one that somebody gives; give the new value as well"
    )]
    NoValue {
        /// The tenant.
        tenant: TenantId,
        /// The secret.
        name: SecretName,
    },
    /// A value was given for a secret that is made or asked for.
    #[error(
        "secret {name} of tenant {tenant} comes from elsewhere ({from}), and a value of yours would be replaced by it; \
         rotate it without a value, or change the spec"
    )]
    NotGiven {
        /// The tenant.
        tenant: TenantId,
        /// The secret.
        name: SecretName,
        /// Where it comes from.
        from: Reference,
    },
    /// The operator has not allowed a reference.
    #[error(
        "secret {name}: node.toml does not allow {reference}; add it, or how it begins, to `references` under [secrets] \
         and run `tenantd reload`"
    )]
    NotAllowed {
        /// The secret.
        name: SecretName,
        /// The reference.
        reference: Reference,
    },
    /// The program that answers a reference cannot be run.
    #[error("secret {name}: {reference} needs the program {program}; {remedy}")]
    NoProgram {
        /// The secret.
        name: SecretName,
        /// The reference.
        reference: Reference,
        /// The program.
        program: String,
        /// What to do.
        remedy: &'static str,
        /// Why not.
        #[source]
        source: ProcessError,
    },
    /// The program that answers a reference refused. What it said is the operator's to see, in its own words.
    #[error("secret {name}: {reference} gave no value: {said}")]
    NoAnswer {
        /// The secret.
        name: SecretName,
        /// The reference.
        reference: Reference,
        /// What the program wrote to its standard error.
        said: String,
    },
    /// A credential cannot be made or read.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// A value cannot be encrypted for, or opened with, the operator's keys.
    #[error("secret {name} cannot be {verb}")]
    Seal {
        /// The secret.
        name: SecretName,
        /// `encrypted for the recipients`, `opened with this identity`.
        verb: &'static str,
        /// Why.
        #[source]
        source: SealError,
    },
    /// The kernel gave no random bytes.
    #[error("the kernel gave no random bytes")]
    Random(#[source] getrandom::Error),
    /// What is known of a version is broken.
    #[error("{path} is broken; `tenantd secret set` makes a new version")]
    Record {
        /// The file.
        path: Utf8PathBuf,
        /// Where.
        #[source]
        source: serde_json::Error,
    },
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl SecretError {
    /// The stable code and the HTTP status of each error.
    pub fn code(&self) -> (&'static str, StatusCode) {
        match self {
            Self::Missing { .. } => ("secret-missing", StatusCode::CONFLICT),
            Self::Unknown { .. } | Self::NoVersion { .. } => {
                ("secret-unknown", StatusCode::NOT_FOUND)
            }
            Self::Size { .. } | Self::Total { .. } | Self::NoValue { .. } => {
                ("secret-invalid", StatusCode::BAD_REQUEST)
            }
            Self::Many { .. } => ("too-many-secrets", StatusCode::CONFLICT),
            Self::InUse { .. } | Self::NotGiven { .. } => ("secret-in-use", StatusCode::CONFLICT),
            Self::NotAllowed { .. } => ("reference-refused", StatusCode::UNPROCESSABLE_ENTITY),
            Self::NoProgram { .. } | Self::NoAnswer { .. } => {
                ("reference-failed", StatusCode::UNPROCESSABLE_ENTITY)
            }
            Self::File(error) if error.is_full() => ("disk-full", StatusCode::INSUFFICIENT_STORAGE),
            Self::Credential(_) | Self::Random(_) => {
                ("host-unusable", StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::Seal { .. } | Self::Record { .. } | Self::File(_) => {
                ("internal", StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}
