//! `--identity`: the option of every command that reads backups, and the file that it names.

use camino::Utf8PathBuf;
use clap::Args;
use secrecy::SecretString;

use super::error::CliError;
use crate::host::files;

/// Longest identity file that is read: a few keys with comments.
const LIMIT: u64 = 64 * 1024;

/// With what to read the backups.
#[derive(Debug, Args)]
pub struct IdentityArg {
    /// A file with the age identity that can read the backups (`AGE-SECRET-KEY-1…`); default: the
    /// one on this host, if the operator left it there.
    #[arg(long, value_name = "FILE")]
    pub identity: Option<Utf8PathBuf>,
}

impl IdentityArg {
    /// The identity in the file; none where none was named.
    pub fn read(&self) -> Result<Option<SecretString>, CliError> {
        let Some(path) = &self.identity else {
            return Ok(None);
        };
        let bytes = files::read(path, LIMIT)?;
        let text = String::from_utf8(bytes).map_err(|_| CliError::NotText(path.to_string()))?;
        Ok(Some(text.into()))
    }
}
