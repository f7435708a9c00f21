//! What can go wrong with an operation, and which problem the API shows for it.
//! Every message says what failed, for which tenant, and what to do.

use std::sync::Arc;

use axum::http::StatusCode;
use camino::Utf8PathBuf;
use jiff::Timestamp;

use super::verbs::Refusal;
use crate::api::Problem;
use crate::host::files::FileError;
use crate::host::systemd::SystemdError;
use crate::protect::{ProtectError, Release};
use crate::quadlet::validate::ValidateError;
use crate::secrets::SecretError;
use crate::state::{OperationId, OperationKind, StateError, TenantRow};
use crate::tenant::{self, ImageId, ImageRef, TenantId, TenantState};

/// Why an operation was refused or has failed.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// Documents that are not valid.
    #[error("{} of the documents given {} not valid; nothing was changed",
            .0.len(), if .0.len() == 1 { "is" } else { "are" })]
    Spec(Vec<tenant::Problems>),
    /// Two documents for one tenant.
    #[error("{first} and {second} both describe tenant {tenant}; nothing was changed")]
    Twice {
        /// The tenant.
        tenant: TenantId,
        /// The first document.
        first: String,
        /// The second document.
        second: String,
    },
    /// Hosts or ports that are not theirs.
    #[error("{}; nothing was changed", .0.join("; "))]
    WaysIn(Vec<String>),
    /// No such tenant.
    #[error("there is no tenant {0}; `tenantd list` shows those there are")]
    NoTenant(TenantId),
    /// No such operation.
    #[error("there is no operation {0}")]
    NoOperation(OperationId),
    /// A file under `tenants.d` rules this tenant.
    #[error(
        "tenant {tenant} is defined by {file}; change or remove that file and run `tenantd reload`"
    )]
    DefinedByFile {
        /// The tenant.
        tenant: TenantId,
        /// The file.
        file: String,
    },
    /// A held tenant was to be restarted.
    #[error("tenant {0} is stopped; `tenantd start {0}` starts it")]
    Held(TenantId),
    /// A suspended tenant was to be started.
    #[error("tenant {tenant} is suspended ({because}); `tenantd resume {tenant}` ends that")]
    Suspended {
        /// The tenant.
        tenant: TenantId,
        /// Why.
        because: String,
    },
    /// A terminated tenant was to be something else than reclaimed or purged.
    #[error(
        "tenant {tenant} is terminated{}; `tenantd reclaim {tenant}` takes that back, `tenantd remove {tenant} \
         --purge` erases it now",
        erase_at.map(|at| format!(" and will be erased after {}", day(at))).unwrap_or_default()
    )]
    Terminated {
        /// The tenant.
        tenant: TenantId,
        /// From when it is erased.
        erase_at: Option<Timestamp>,
    },
    /// A tenant of which a part is erased was to be something else than that.
    #[error(
        "tenant {0} is being erased, and what is left of it is nothing to come back to; `tenantd remove {0} --purge` goes on \
         with it"
    )]
    Erasing(TenantId),
    /// A tenant that is not terminated was to be reclaimed.
    #[error("tenant {tenant} is {state}, not terminated: there is nothing to reclaim")]
    NotTerminated {
        /// The tenant.
        tenant: TenantId,
        /// Where it is.
        state: TenantState,
    },
    /// A tenant on its way in was to be something that needs its units.
    #[error("tenant {tenant} is {state} and cannot {verb}; wait for it, or apply its spec again")]
    NotYet {
        /// The tenant.
        tenant: TenantId,
        /// Where it is.
        state: TenantState,
        /// What was asked.
        verb: &'static str,
    },
    /// An image has failed this tenant before.
    #[error(
        "tenant {tenant}: image {image} failed as revision {revision} and is not tried again; give another image, \
         or try it all the same with `tenantd apply --force`"
    )]
    FailedBefore {
        /// The tenant.
        tenant: TenantId,
        /// The image's id.
        image: ImageId,
        /// The revision that was rolled back.
        revision: u64,
    },
    /// Too many rollbacks in too short a time.
    #[error(
        "tenant {tenant}: breaker open, {rollbacks} rollbacks since {since}; nothing new is tried until \
         `tenantd start {tenant}` or `tenantd apply --force`"
    )]
    BreakerOpen {
        /// The tenant.
        tenant: TenantId,
        /// How many.
        rollbacks: usize,
        /// When the first of them was.
        since: Timestamp,
    },
    /// A tenant without an installed revision was to be started.
    #[error("tenant {0} has no installed revision; apply its spec again")]
    NoRevision(TenantId),
    /// No such revision.
    #[error("tenant {tenant} has no revision {number}; `tenantd history {tenant}` lists them")]
    UnknownRevision {
        /// The tenant.
        tenant: TenantId,
        /// What was asked for.
        number: u64,
    },
    /// The image cannot be used.
    #[error("tenant {tenant}: image {image} cannot be used: {reason}")]
    Image {
        /// The tenant.
        tenant: TenantId,
        /// The image.
        image: ImageRef,
        /// Why not, and what to do.
        reason: String,
        /// What Podman said.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Something is where the tenant's ingress socket is to be.
    #[error("tenant {tenant}: {path}, where its users reach it, is taken by {by}; {remedy}")]
    SocketTaken {
        /// The tenant.
        tenant: TenantId,
        /// The path.
        path: Utf8PathBuf,
        /// Who or what is there.
        by: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The disk lacks room.
    #[error(
        "{what} needs {needed} of room in {path}, and {free} are free; make room there and do \
         the same again"
    )]
    NoRoom {
        /// What was asked for: `applying acme`.
        what: String,
        /// Where.
        path: Utf8PathBuf,
        /// How much.
        needed: String,
        /// How much there is.
        free: String,
    },
    /// The host would promise more than it may.
    #[error(
        "{asked} would promise more than this host may; choose a smaller plan, or change `[capacity]` in \
         /etc/tenantd/node.toml and `tenantd reload`; nothing was changed"
    )]
    Capacity {
        /// The tenants.
        asked: String,
        /// What is exceeded, with the figures.
        figures: Vec<String>,
    },
    /// A secret lacks a value, or its value cannot be stored or asked for.
    #[error(transparent)]
    Secret(Box<SecretError>),
    /// The host cannot enforce the plan's limits.
    #[error("tenant {tenant}: {reason}")]
    Limits {
        /// The tenant.
        tenant: TenantId,
        /// Which limits, and what to do.
        reason: String,
    },
    /// The host's generator or verifier refuses the units.
    #[error(
        "tenant {tenant}: systemd or Quadlet would not accept its units; nothing was installed"
    )]
    Units {
        /// The tenant.
        tenant: TenantId,
        /// Their complaints.
        complaints: Vec<String>,
    },
    /// The units could not be checked.
    #[error("the units could not be checked")]
    Check(#[source] Arc<ValidateError>),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// systemd could not be asked.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    /// systemd has not taken in what was installed.
    #[error("tenant {tenant}: systemd did not take in {unit} as installed ({found})")]
    NotLoaded {
        /// The tenant.
        tenant: TenantId,
        /// The unit.
        unit: String,
        /// What it has instead.
        found: String,
    },
    /// A unit did not start or stop.
    #[error("tenant {tenant}: {unit} did not {verb}: {reason}")]
    Job {
        /// The tenant.
        tenant: TenantId,
        /// The unit.
        unit: String,
        /// `start`, `stop`, …
        verb: &'static str,
        /// Why, in the operator's words.
        reason: String,
        /// The unit's last log lines.
        log: Vec<String>,
    },
    /// The tenant does not stay as it was made.
    #[error(
        "tenant {0} does not stay as it is wanted: something else changes its units or its \
         agent; `journalctl -u tenantd` shows what was done"
    )]
    Unsettled(TenantId),
    /// The agent runs and does not answer its users.
    #[error("tenant {tenant}: the agent does not answer through its ingress: {reason}")]
    NotHealthy {
        /// The tenant.
        tenant: TenantId,
        /// What it answers.
        reason: String,
        /// The agent's last log lines.
        log: Vec<String>,
    },
    /// What was decided about an operation before it was cut short.
    #[error("{0}")]
    Earlier(String),
    /// Another operation is at work on the tenant.
    #[error(
        "tenant {tenant} is busy with the {} that {by} began at {since} ({operation}); --wait waits for its end",
        kind.as_str()
    )]
    Busy {
        /// The tenant.
        tenant: TenantId,
        /// The operation.
        operation: OperationId,
        /// What it does.
        kind: OperationKind,
        /// Who asked for it.
        by: String,
        /// Since when.
        since: Timestamp,
    },
    /// More operations of one tenant than may be open at a time.
    #[error(
        "tenant {tenant} has {open} operations open; wait for the ends of some; `tenantd show {tenant}` \
         lists the newest"
    )]
    Crowded {
        /// The tenant.
        tenant: TenantId,
        /// How many are open.
        open: usize,
    },
    /// The tenant is not what it was when the change was thought of.
    #[error(
        "tenant {tenant} is {}, not at revision {expected}: somebody has changed it; `tenantd diff {tenant}` shows \
         how", at_revision(*found)
    )]
    RevisionChanged {
        /// The tenant.
        tenant: TenantId,
        /// What was expected.
        expected: u64,
        /// What is installed.
        found: Option<u64>,
    },
    /// There is no earlier release.
    #[error(
        "tenant {0} has no earlier release that is kept; `tenantd history {0}` lists its revisions, and \
         `tenantd rollback {0} --to N --keep-data` goes back to any of them with the data as it is"
    )]
    NothingToReturnTo(TenantId),
    /// The state was to be cloned before an update, and could not be.
    #[error(
        "tenant {tenant}: its state could not be cloned, and node.toml says clone = \"always\" under [update]; it runs on as \
         it was"
    )]
    NotCloned {
        /// The tenant.
        tenant: TenantId,
        /// Why.
        #[source]
        error: Box<ProtectError>,
    },
    /// The data of a release was not brought back.
    #[error("tenant {tenant}: the data of that release cannot be brought back")]
    NotExchanged {
        /// The tenant.
        tenant: TenantId,
        /// Why.
        #[source]
        error: Box<ProtectError>,
    },
    /// An update failed and the previous revision is back.
    #[error("revision {failed} of tenant {tenant} failed; revision {kept} is back{}", with_data(aside.as_deref()))]
    RolledBack {
        /// The tenant.
        tenant: TenantId,
        /// The revision that failed.
        failed: u64,
        /// The revision that runs again.
        kept: u64,
        /// What the failed one has written, where the data were brought back too.
        aside: Option<Box<Release>>,
        /// Why it failed.
        #[source]
        cause: Box<OperationError>,
    },
    /// An update failed, and the previous revision could not be brought back either.
    #[error(
        "revision {failed} of tenant {tenant} failed ({why}), and revision {kept} could not be brought back; tenantd tries \
         that again, and `tenantd rollback {tenant} --to {kept}` does now"
    )]
    NotRolledBack {
        /// The tenant.
        tenant: TenantId,
        /// The revision that failed.
        failed: u64,
        /// The revision that should run again.
        kept: u64,
        /// Why it failed.
        why: String,
        /// Why the other could not be brought back.
        #[source]
        source: Box<OperationError>,
    },
    /// The node's settings are not valid.
    #[error("the node's settings are not valid; those read before stay in force")]
    Settings(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A backup failed.
    #[error("{0}")]
    Backup(String),
    /// A restore failed.
    #[error("{0}")]
    Restore(String),
    /// The state from before an earlier restore is still kept.
    #[error(
        "tenant {tenant} still keeps its state from before the restore of {since}, and there is room for one only: \
         `tenantd restore {tenant} --accept` removes it, `tenantd restore {tenant} --undo` puts it back"
    )]
    KeepsOld {
        /// The tenant.
        tenant: TenantId,
        /// When it was replaced.
        since: Timestamp,
    },
    /// The daemon ended in the middle and cannot go on by itself.
    #[error("tenantd ended in the middle of this; nothing is half done, ask again")]
    Interrupted,
    /// The state database failed.
    #[error(transparent)]
    State(StateError),
}

impl From<StateError> for OperationError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::NoTenant(tenant) => Self::NoTenant(tenant),
            error => Self::State(error),
        }
    }
}

impl OperationError {
    /// The error of a refusal.
    pub(super) fn refused(
        refusal: Refusal,
        row: &TenantRow,
        verb: OperationKind,
        erase_at: Option<Timestamp>,
    ) -> Self {
        let tenant = row.id.clone();
        match refusal {
            Refusal::Suspended => Self::Suspended {
                tenant,
                because: row
                    .held_because
                    .clone()
                    .unwrap_or_else(|| "operator".to_owned()),
            },
            Refusal::Held => Self::Held(tenant),
            Refusal::Terminated => Self::Terminated { tenant, erase_at },
            Refusal::Erasing => Self::Erasing(tenant),
            Refusal::NotTerminated => Self::NotTerminated {
                tenant,
                state: row.state,
            },
            Refusal::NoRevision => Self::NotYet {
                tenant,
                state: row.state,
                verb: verb.as_str(),
            },
        }
    }

    /// The stable code and the HTTP status of each error.
    pub fn code(&self) -> (&'static str, StatusCode) {
        match self {
            Self::Spec(_) | Self::Twice { .. } | Self::Settings(_) => {
                ("spec-invalid", StatusCode::BAD_REQUEST)
            }
            Self::NoTenant(_) => ("tenant-unknown", StatusCode::NOT_FOUND),
            Self::NoOperation(_) => ("operation-unknown", StatusCode::NOT_FOUND),
            Self::UnknownRevision { .. } => ("revision-unknown", StatusCode::NOT_FOUND),
            Self::DefinedByFile { .. } => ("defined-by-file", StatusCode::CONFLICT),
            Self::Held(_) | Self::NoRevision(_) => ("tenant-held", StatusCode::CONFLICT),
            Self::Terminated { .. } | Self::Erasing(_) => {
                ("tenant-terminated", StatusCode::CONFLICT)
            }
            Self::NotTerminated { .. } => ("tenant-not-terminated", StatusCode::CONFLICT),
            Self::NotYet { .. } | Self::State(StateError::Forbidden { .. }) => {
                ("state-forbids", StatusCode::CONFLICT)
            }
            Self::FailedBefore { .. } => ("image-failed-before", StatusCode::CONFLICT),
            Self::BreakerOpen { .. } => ("breaker-open", StatusCode::CONFLICT),
            Self::Suspended { .. } => ("tenant-suspended", StatusCode::CONFLICT),
            Self::Image { .. } => ("image-unusable", StatusCode::UNPROCESSABLE_ENTITY),
            Self::Secret(error) => error.code(),
            Self::Limits { .. } => ("limits-unenforceable", StatusCode::UNPROCESSABLE_ENTITY),
            Self::Units { .. } | Self::NotLoaded { .. } => {
                ("units-refused", StatusCode::UNPROCESSABLE_ENTITY)
            }
            Self::Capacity { .. } => ("capacity-exceeded", StatusCode::CONFLICT),
            Self::WaysIn(_) => ("host-taken", StatusCode::CONFLICT),
            Self::SocketTaken { .. } => ("socket-taken", StatusCode::CONFLICT),
            Self::NoRoom { .. } | Self::State(StateError::Full { .. }) => {
                ("disk-full", StatusCode::INSUFFICIENT_STORAGE)
            }
            Self::File(error) if error.is_full() => ("disk-full", StatusCode::INSUFFICIENT_STORAGE),
            Self::Job { .. } | Self::Earlier(_) => {
                ("start-failed", StatusCode::INTERNAL_SERVER_ERROR)
            }
            Self::NotHealthy { .. } => ("not-healthy", StatusCode::INTERNAL_SERVER_ERROR),
            Self::RolledBack { cause, .. } => cause.code(),
            Self::RevisionChanged { .. } => ("revision-changed", StatusCode::PRECONDITION_FAILED),
            Self::Busy { .. } => ("tenant-busy", StatusCode::CONFLICT),
            Self::Crowded { .. } => ("too-many-operations", StatusCode::CONFLICT),
            Self::NothingToReturnTo(_) => ("release-unknown", StatusCode::CONFLICT),
            Self::NotExchanged { error, .. }
                if matches!(**error, ProtectError::NoRelease { .. }) =>
            {
                ("release-unknown", StatusCode::CONFLICT)
            }
            Self::NotCloned { .. } => ("not-cloned", StatusCode::INSUFFICIENT_STORAGE),
            Self::NotRolledBack { .. } | Self::NotExchanged { .. } => {
                ("rollback-failed", StatusCode::INTERNAL_SERVER_ERROR)
            }
            Self::Backup(_) => ("backup-failed", StatusCode::INTERNAL_SERVER_ERROR),
            Self::KeepsOld { .. } => ("keeps-old-state", StatusCode::CONFLICT),
            Self::Restore(_) => ("restore-failed", StatusCode::INTERNAL_SERVER_ERROR),
            Self::Interrupted => ("interrupted", StatusCode::INTERNAL_SERVER_ERROR),
            Self::Systemd(_) | Self::Check(_) => ("host-unusable", StatusCode::SERVICE_UNAVAILABLE),
            Self::File(_) | Self::State(_) | Self::Unsettled(_) => {
                ("internal", StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    /// The error and its causes in one line, for records.
    pub fn chain(&self) -> String {
        chain(self)
    }

    /// The document that the API shows and the operation keeps.
    pub fn problem(&self) -> Problem {
        let (code, status) = self.code();
        let mut problem = Problem::of(code, status, self);
        match self {
            Self::Spec(documents) => {
                let faults = documents.iter().flat_map(|problems| &problems.0);
                problem.faults = faults.map(ToString::to_string).collect();
            }
            Self::Capacity { figures, .. } => problem.faults.clone_from(figures),
            Self::Busy { operation, .. } => problem.operation = Some(*operation),
            Self::Units { complaints, .. } => problem.faults.clone_from(complaints),
            Self::Job { log, .. } | Self::NotHealthy { log, .. } => problem.log.clone_from(log),
            Self::RolledBack { cause, .. } | Self::NotRolledBack { source: cause, .. } => {
                let inner = cause.problem();
                problem.faults = inner.faults;
                problem.log = inner.log;
            }
            _ => {}
        }
        problem
    }
}

/// A day, in UTC, for people.
fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

fn at_revision(found: Option<u64>) -> String {
    found.map_or_else(
        || "without a revision".to_owned(),
        |found| format!("at revision {found}"),
    )
}

fn with_data(aside: Option<&Release>) -> String {
    aside.map_or_else(String::new, |aside| {
        format!(
            " with the data that it had; what revision {} has written ({} KiB) is in {}",
            aside.revision,
            aside.bytes.div_ceil(1024),
            aside.path
        )
    })
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
