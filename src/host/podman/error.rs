//! What can go wrong with Podman, with the remedy.
//! It maps errors and decides nothing.

use std::io;

use camino::Utf8PathBuf;

use super::version::Version;
use super::{OLDEST, libpod};
use crate::host::process::ProcessError;

/// Why Podman could not be asked, or refused.
#[derive(Debug, thiserror::Error)]
pub enum PodmanError {
    /// The socket is not there.
    #[error(
        "there is no Podman at {socket}; install podman and run `systemctl enable --now podman.socket`"
    )]
    Absent {
        /// The socket.
        socket: Utf8PathBuf,
    },
    /// Nobody listens on the socket.
    #[error("Podman does not listen at {socket}; run `systemctl restart podman.socket`")]
    NotListening {
        /// The socket.
        socket: Utf8PathBuf,
    },
    /// The socket is not for this user.
    #[error("this user may not use Podman at {socket}; run it as root")]
    Denied {
        /// The socket.
        socket: Utf8PathBuf,
    },
    /// The program is not on the path, or does not run.
    #[error("there is no Podman on this host; install version {OLDEST} or newer")]
    NoProgram {
        /// The cause.
        #[source]
        source: ProcessError,
    },
    /// The program does not tell its version.
    #[error("`podman --version` tells no version, but: {said}")]
    NoVersion {
        /// What it said.
        said: String,
    },
    /// Podman is too old for the units that tenantd renders.
    #[error("Podman {found} is too old; tenantd needs {OLDEST} or newer")]
    TooOld {
        /// The version that was found.
        found: Version,
    },
    /// Podman did not answer in time.
    #[error("Podman did not answer within {} s when asked to {verb} {object}", libpod::TIMEOUT.as_secs())]
    Silent {
        /// What was asked.
        verb: &'static str,
        /// Of which object.
        object: String,
    },
    /// Nothing has come from a registry for too long.
    #[error("nothing came from the registry of {image} for {} s", silence.as_secs())]
    Stalled {
        /// The image that was pulled.
        image: String,
        /// How long it was waited for.
        silence: std::time::Duration,
    },
    /// Podman refused.
    #[error("Podman cannot {verb} {object}: {said}")]
    Refused {
        /// What was asked.
        verb: &'static str,
        /// Of which object.
        object: String,
        /// The HTTP status of its answer; none when it came in the middle of a stream.
        status: Option<u16>,
        /// Its own words.
        said: String,
    },
    /// The connection broke, or the answer was not understood.
    #[error("asking Podman to {verb} {object} broke off")]
    Broken {
        /// What was asked.
        verb: &'static str,
        /// Of which object.
        object: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl PodmanError {
    /// Whether Podman knows no such object.
    pub fn is_absent(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                status: Some(404),
                ..
            }
        )
    }
}

/// Why the socket at `socket` could not be connected to.
pub(super) fn connecting(socket: Utf8PathBuf, verb: &'static str, error: io::Error) -> PodmanError {
    match error.kind() {
        io::ErrorKind::NotFound => PodmanError::Absent { socket },
        io::ErrorKind::ConnectionRefused => PodmanError::NotListening { socket },
        io::ErrorKind::PermissionDenied => PodmanError::Denied { socket },
        _ => PodmanError::Broken {
            verb,
            object: socket.into_string(),
            source: error.into(),
        },
    }
}

/// What bollard says.
pub(super) fn docker(
    verb: &'static str,
    object: &str,
    error: bollard::errors::Error,
) -> PodmanError {
    use bollard::errors::Error;
    let object = object.to_owned();
    match error {
        Error::DockerResponseServerError {
            status_code,
            message,
        } => PodmanError::Refused {
            verb,
            object,
            status: Some(status_code),
            said: message,
        },
        Error::DockerStreamError { error } => PodmanError::Refused {
            verb,
            object,
            status: None,
            said: error,
        },
        Error::RequestTimeoutError => PodmanError::Silent { verb, object },
        Error::SocketNotFoundError(socket) => PodmanError::Absent {
            socket: socket.into(),
        },
        other => PodmanError::Broken {
            verb,
            object,
            source: Box::new(other),
        },
    }
}
