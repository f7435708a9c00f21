//! Why a drill could not be made.

use std::io;

use camino::Utf8PathBuf;

use crate::host::files::FileError;
use crate::host::netns::NetnsError;
use crate::host::podman::PodmanError;
use crate::host::secret_mount::SecretMountError;
use crate::host::systemd::SystemdError;
use crate::protect::ProtectError;
use crate::quadlet::ScratchError;
use crate::secrets::SecretError;
use crate::tenant::TenantId;

/// Why a drill could not be made; what a drill finds wrong is no error.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// No identity is at hand.
    #[error(
        "no identity is on this host to read the backups with; give one with \
         `tenantd drill --identity FILE`, or as systemd credential `tenantd.identity`"
    )]
    NoIdentity,
    /// Another drill is at work.
    #[error("another drill is at work on this host; try again when it has ended")]
    Busy,
    /// This process was asked to end.
    #[error("the drill was cut short; what it had made is removed")]
    Interrupted,
    /// The lock's file cannot be used.
    #[error(
        "cannot lock {path}; is /run/tenantd there (systemd-tmpfiles --create tenantd.conf) and is this run as root?"
    )]
    Lock {
        /// The lock's file.
        path: Utf8PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The tenant has no units on this host.
    #[error("tenant {0} has no units on this host; `tenantd list` shows those that have")]
    NotInstalled(TenantId),
    /// What is known of the tenant cannot be read.
    #[error("{path} is broken; `tenantd reload` writes it anew")]
    Runtime {
        /// The file.
        path: Utf8PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// The snapshot cannot be had.
    #[error(transparent)]
    Protect(#[from] ProtectError),
    /// A file could not be read, made or removed.
    #[error("the files of the drill cannot be used")]
    File(#[from] FileError),
    /// The restored state could not be looked through.
    #[error("the restored state could not be looked through")]
    Databases(#[source] io::Error),
    /// The scratch tenant's unit.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// The tenant's secrets cannot be decrypted.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The secrets of the scratch tenant cannot be delivered or taken away.
    #[error(transparent)]
    SecretMount(#[from] SecretMountError),
    /// The scratch tenant's network namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// systemd could not be asked.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    /// Podman could not be asked.
    #[error(transparent)]
    Podman(#[from] PodmanError),
    /// The agent could not be asked.
    #[error("the agent could not be asked from inside its namespace")]
    Asking(#[source] io::Error),
    /// A thread died.
    #[error("a thread of the drill stopped unexpectedly")]
    Task(#[source] tokio::task::JoinError),
}
