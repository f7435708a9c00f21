//! The Podman program on the path, for when its API does not run yet.
//! It only asks for the version.

use std::time::Duration;

use tokio::process::Command;

use super::OLDEST;
use super::error::PodmanError;
use super::version::Version;
use crate::host::process;

/// Longest time for `podman --version`.
const TIME: Duration = Duration::from_secs(20);

/// Most that it may say.
const SAID: usize = 4096;

/// The version of the program that the path leads to; an error when there is none, or it is
/// too old.
pub async fn installed() -> Result<Version, PodmanError> {
    let mut command = Command::new("podman");
    command.arg("--version");
    let output = process::run(command, TIME, SAID)
        .await
        .map_err(|source| PodmanError::NoProgram { source })?;
    read(&String::from_utf8_lossy(&output.stdout))
}

/// Reads `podman version 5.4.2`.
fn read(said: &str) -> Result<Version, PodmanError> {
    let version = said.split_whitespace().last().and_then(Version::parse);
    match version {
        Some(found) if found < OLDEST => Err(PodmanError::TooOld { found }),
        Some(found) => Ok(found),
        None => Err(PodmanError::NoVersion {
            said: said.trim().to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_last_word() {
        assert!(read("podman version 5.4.2\n").is_ok());
        let old = read("podman version 4.9.4-rhel\n").unwrap_err();
        assert_eq!(
            old.to_string(),
            "Podman 4.9 is too old; tenantd needs 5.4 or newer"
        );
        let odd = read("Segmentation fault\n").unwrap_err();
        assert!(odd.to_string().contains("Segmentation fault"), "{odd}");
    }
}
