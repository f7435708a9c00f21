//! Encrypted systemd credentials: what only this host, and its TPM where there is one, can decrypt.
//! It wraps the program `systemd-creds`; which credentials there are is not its business.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretBox};
use tokio::process::Command;

use super::process::{self, ProcessError};
use crate::tenant::{MAX_SECRET, SecretName};

/// A value that does not print and is wiped when it is dropped.
pub type SecretValue = SecretBox<Vec<u8>>;

/// Longest time for one credential: a TPM takes a second, and may be busy.
const TIME: Duration = Duration::from_secs(30);

/// Largest credential file that is read: the value, what binds it, and base64 over both.
pub const MAX_CREDENTIAL: u64 = 256 * 1024;

/// Why a credential could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The program did not come to its end.
    #[error("systemd-creds cannot be used; it is a part of systemd 250 and later")]
    Run(#[source] ProcessError),
    /// The program refused.
    #[error("systemd-creds could not {verb} secret {name}: {said}")]
    Refused {
        /// `encrypt` or `decrypt`.
        verb: &'static str,
        /// The credential's name.
        name: SecretName,
        /// What it said; it never says a value.
        said: String,
    },
}

/// Encrypts `value` for this host, bound to `name`: under another name it cannot be decrypted.
///
/// The key is the host's own, and the TPM's as well where the host has one.
pub async fn encrypt(name: &SecretName, value: &SecretValue) -> Result<Vec<u8>, CredentialError> {
    let mut command = Command::new("systemd-creds");
    command
        .arg("encrypt")
        .arg(format!("--name={name}"))
        .args(["--with-key=auto", "-", "-"]);
    let limit = usize::try_from(MAX_CREDENTIAL).unwrap_or(usize::MAX);
    run("encrypt", name, command, value.expose_secret(), limit).await
}

/// Decrypts a credential that [`encrypt`] made on this host.
pub async fn decrypt(name: &SecretName, credential: &[u8]) -> Result<SecretValue, CredentialError> {
    let mut command = Command::new("systemd-creds");
    command
        .arg("decrypt")
        .arg(format!("--name={name}"))
        .args(["--newline=no", "-", "-"]);
    let value = run("decrypt", name, command, credential, MAX_SECRET).await?;
    Ok(SecretBox::new(Box::new(value)))
}

async fn run(
    verb: &'static str,
    name: &SecretName,
    command: Command,
    input: &[u8],
    limit: usize,
) -> Result<Vec<u8>, CredentialError> {
    let output = process::run_with_input(command, input, TIME, limit)
        .await
        .map_err(CredentialError::Run)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(CredentialError::Refused {
        verb,
        name: name.clone(),
        said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
