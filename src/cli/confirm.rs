//! Lets the operator say yes before something is removed.

use std::io::{self, IsTerminal as _, Write as _};

use super::error::CliError;

/// Asks on the terminal; without one there is nobody to ask, and `--yes` is wanted.
pub fn confirm(what: &str) -> Result<(), CliError> {
    let absent =
        format!("{what} Without a terminal to ask on, give --yes, or look first with --dry-run");
    confirm_by_typing("yes", what, absent)
}

/// Lets the operator type `word`; `absent` is said where there is no terminal to ask on.
pub fn confirm_by_typing(word: &str, what: &str, absent: String) -> Result<(), CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::Usage(absent));
    }
    let mut prompt = io::stderr().lock();
    write!(prompt, "{what}\nType `{word}` to go on: ")
        .and_then(|()| prompt.flush())
        .map_err(CliError::Terminal)?;
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(CliError::Input)?;
    if answer.trim() == word {
        Ok(())
    } else {
        Err(CliError::Declined)
    }
}
