//! Podman over its API socket: images, containers, events, exec. Lenient in what it reads.
//! Containers are made by Quadlet and run by systemd; this adapter never creates or starts one.
//!
//! What streams goes through bollard and Podman's Docker dialect; what must be complete or
//! lenient goes to Podman's own API (`/libpod`) over the same socket.

mod container;
mod error;
mod event;
mod exec;
mod image;
mod libpod;
mod program;
mod pull;
mod stats;
mod version;

use std::sync::Arc;

use bollard::Docker;
use camino::Utf8Path;

pub use container::{Container, ContainerState, ContainerSummary};
pub use error::PodmanError;
pub use event::ContainerEvent;
pub use exec::{Exec, ExecControl, ExecOutput, ExecRequest};
pub use image::{Image, Port};
pub use program::installed;
pub use pull::PullProgress;
pub use stats::Stats;
pub use version::Version;

use libpod::Libpod;

/// Where the rootful service listens (podman-system-service(1)).
pub const SOCKET: &str = "/run/podman/podman.sock";

/// The oldest Podman whose Quadlet understands what tenantd renders.
pub const OLDEST: Version = Version { major: 5, minor: 4 };

/// The host's Podman. Cheap to clone; every call is a connection of its own, so that a
/// service that left after its idle time is started again by its socket.
#[derive(Debug, Clone)]
pub struct Podman {
    docker: Docker,
    libpod: Arc<Libpod>,
    version: Version,
}

impl Podman {
    /// Finds out whether Podman is there and new enough.
    pub async fn connect(socket: &Utf8Path) -> Result<Self, PodmanError> {
        let libpod = Libpod::new(socket);
        let version = version::ask(&libpod).await?;
        if version < OLDEST {
            return Err(PodmanError::TooOld { found: version });
        }
        let docker = Docker::connect_with_unix(
            socket.as_str(),
            libpod::TIMEOUT.as_secs(),
            bollard::API_DEFAULT_VERSION,
        )
        .map_err(|error| error::docker("connect to", "Podman", error))?;
        Ok(Self {
            docker,
            libpod: Arc::new(libpod),
            version,
        })
    }

    /// The version that was found.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Stops all processes of a container and remembers it as paused.
    pub async fn pause(&self, container: &str) -> Result<(), PodmanError> {
        self.docker
            .pause_container(container)
            .await
            .map_err(|error| error::docker("pause", container, error))
    }

    /// Lets a paused container run on.
    pub async fn unpause(&self, container: &str) -> Result<(), PodmanError> {
        self.docker
            .unpause_container(container)
            .await
            .map_err(|error| error::docker("unpause", container, error))
    }
}

#[cfg(test)]
mod tests;
