//! What other programs there are, and how each is had: built from its registry, or Debian's own.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use serde::Deserialize;

use crate::{cache, host, process};

/// Another backup program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// <https://restic.net>, by the host's Go.
    Restic,
    /// <https://rustic.cli.rs>, by cargo.
    Rustic,
    /// <https://kopia.io>, by the host's Go.
    Kopia,
    /// <https://www.borgbackup.org>, Debian's; only for directories.
    Borg,
}

/// Modules with their versions, and the packages of the commands in them.
const RESTIC: (&str, &str) = ("github.com/restic/restic@v0.19.1", "./cmd/restic");
const KOPIA: (&str, &str) = ("github.com/kopia/kopia@v0.21.1", ".");
const RUSTIC: &str = "0.11.4";

const BORG: &[host::Need] = &[host::Need::new(
    "borg",
    "borgbackup",
    "is what the backups are compared with",
)];

impl Peer {
    /// The program's path; it is built if it is not in the cache.
    pub fn provide(self) -> anyhow::Result<PathBuf> {
        match self {
            Self::Restic => go("restic", RESTIC),
            Self::Kopia => go("kopia", KOPIA),
            Self::Rustic => cargo("rustic", "rustic-rs", RUSTIC),
            Self::Borg => {
                host::provide(BORG)?;
                host::find("borg").context("there is no borg")
            }
        }
    }
}

/// Builds a Go program with the host's Go, which checks it against the checksum database.
fn go(program: &str, (module, command): (&str, &str)) -> anyhow::Result<PathBuf> {
    if host::find("go").is_none() {
        bail!("{module} needs Go, as new as its go.mod says");
    }
    let key = cache::Key::new(format!("peer-{program}"), [module, command]);
    let entry = cache::entry(&key, |entry| {
        let said = process::output(Command::new("go").args(["mod", "download", "-json", module]))?;
        let downloaded: Downloaded =
            serde_json::from_str(&said).with_context(|| format!("go said of {module}: {said}"))?;
        let mut build = Command::new("go");
        build
            .env("CGO_ENABLED", "0")
            .args(["build", "-C", &downloaded.dir, "-trimpath", "-o"])
            .arg(entry.join(program))
            .args(["-ldflags=-s -w", command]);
        process::run_logged(&mut build, &format!("go-{program}"))
    })?;
    Ok(entry.join(program))
}

/// What `go mod download -json` says.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Downloaded {
    dir: String,
}

fn cargo(program: &str, package: &str, version: &str) -> anyhow::Result<PathBuf> {
    let key = cache::Key::new(format!("peer-{program}"), [package, version]);
    let entry = cache::entry(&key, |entry| {
        let mut install = process::cargo();
        install
            .args([
                "install",
                "--locked",
                "--version",
                version,
                package,
                "--root",
            ])
            .arg(entry);
        process::run_logged(&mut install, &format!("cargo-{program}"))
    })?;
    Ok(entry.join("bin").join(program))
}
