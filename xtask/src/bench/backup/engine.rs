//! The program `engine`, by which everything is made and measured; it says what it did in JSON.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use serde::{Deserialize, de::DeserializeOwned};

use crate::process;

/// What one run of a program cost.
#[derive(Debug, Clone, Deserialize)]
pub struct Usage {
    /// Seconds on the clock.
    pub seconds: f64,
    /// Seconds of all processors.
    pub cpu: f64,
    /// The most memory at once.
    pub peak_mib: f64,
    /// What it printed.
    pub output: String,
}

/// The program.
#[derive(Debug, Clone)]
pub struct Engine(PathBuf);

impl Engine {
    /// Builds it.
    pub fn build() -> anyhow::Result<Self> {
        super::build("engine").map(Self)
    }

    /// One that was built before.
    pub fn at(program: &Path) -> anyhow::Result<Self> {
        let program = program.canonicalize();
        program.map(Self).context("there is no such engine")
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// One of its commands; gives what it printed.
    pub fn run<I: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = I>,
    ) -> anyhow::Result<String> {
        process::output(Command::new(&self.0).args(arguments))
    }

    /// Runs a command and measures it.
    pub fn measure(&self, command: &Command) -> anyhow::Result<Usage> {
        let mut measured = Command::new(&self.0);
        measured
            .args(["measure", "--"])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => measured.env(name, value),
                None => measured.env_remove(name),
            };
        }
        json(&process::output(&mut measured)?)
    }
}

/// The last line of what a program printed, as JSON.
pub fn json<T: DeserializeOwned>(output: &str) -> anyhow::Result<T> {
    let line = output.lines().last().context("it printed nothing")?;
    serde_json::from_str(line).with_context(|| format!("it printed {line}"))
}
