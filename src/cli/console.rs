//! Standard output and error: what may be coloured, and writing that survives a closed pipe.
//! It knows no document; texts are made by the commands.

use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};

use super::error::CliError;

/// Where a command prints.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    /// For what goes to standard output.
    pub out: Paint,
    /// For what goes to standard error.
    pub err: Paint,
    /// Standard error is a terminal: progress may move.
    pub moving: bool,
}

impl Console {
    /// The console of this process.
    pub fn of_process() -> Self {
        // An empty variable counts as unset (no-color.org).
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let err = io::stderr().is_terminal();
        Self {
            out: Paint(!plain && io::stdout().is_terminal()),
            err: Paint(!plain && err),
            moving: err,
        }
    }

    /// Prints a text that is the command's result.
    #[expect(clippy::unused_self, reason = "who prints was given a console")]
    pub fn print(self, text: &str) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(CliError::Output)
    }

    /// Tells something beside the result. Nobody may be listening: that is no failure.
    #[expect(clippy::unused_self, reason = "who tells was given a console")]
    pub fn tell(self, text: &str) {
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

/// Colours text, or leaves it plain.
#[derive(Debug, Clone, Copy)]
pub struct Paint(pub bool);

impl Paint {
    /// What is wrong.
    pub fn bad(self, text: &str) -> String {
        self.with(AnsiColor::Red.on_default().bold(), text)
    }

    /// What wants attention.
    pub fn warn(self, text: &str) -> String {
        self.with(AnsiColor::Yellow.on_default(), text)
    }

    /// What was added.
    pub fn good(self, text: &str) -> String {
        self.with(AnsiColor::Green.on_default(), text)
    }

    /// What matters less.
    pub fn dim(self, text: &str) -> String {
        self.with(Style::new().dimmed(), text)
    }

    fn with(self, style: Style, text: &str) -> String {
        if self.0 {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}
