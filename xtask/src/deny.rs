//! cargo-deny, from source into the cache: licences and sources of dependencies against `deny.toml`.
//!
//! No Debian package of it exists, and the build on PyPI is too old to read today's `cargo metadata`.

use std::{fs, process::Command};

use crate::{cache, paths, process};

const VERSION: &str = "0.20.2";

/// Checks all dependencies; what it finds is on the terminal.
pub fn check() -> anyhow::Result<()> {
    let key = cache::Key::new("cargo-deny", [VERSION]);
    let installed = cache::entry(&key, |directory| {
        // Unoptimised it is built in two minutes on two cores, and checks in six seconds.
        let target = directory.join("target");
        let mut install = process::cargo();
        install
            .args([
                "install",
                "cargo-deny",
                "--locked",
                "--debug",
                "--version",
                VERSION,
            ])
            .args([
                "--root".as_ref(),
                directory.as_os_str(),
                "--target-dir".as_ref(),
                target.as_os_str(),
            ])
            .envs([("CARGO_PROFILE_DEV_DEBUG", "0"), ("CARGO_INCREMENTAL", "0")]);
        process::run_logged(&mut install, "cargo-deny")?;
        fs::remove_dir_all(target)?;
        Ok(())
    })?;
    let mut deny = Command::new(installed.join("bin/cargo-deny"));
    deny.current_dir(paths::repository());
    process::run(deny.args([
        "--locked",
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ]))
}
