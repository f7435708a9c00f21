//! nanobot, from PyPI: the light real agent.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::Context as _;

use super::Recipe;
use crate::process;

const NANOBOT: &str = "0.3.5";
/// Debian 13's Python. The host's may be another: only wheels are taken, and those for this one.
const PYTHON: &str = "3.13";

/// Starts it as an installed package would.
const LAUNCHER: &str = "#!/bin/sh\nexec python3 -m nanobot \"$@\"\n";

/// The image, as Podman calls it.
pub fn reference() -> String {
    format!("localhost/nanobot:{NANOBOT}")
}

pub(super) fn recipe() -> Recipe {
    Recipe {
        kind: "nanobot",
        reference: reference(),
        inputs: vec![include_bytes!("nanobot.rs").to_vec()],
        config: &[
            "USER 1000:1000",
            "WORKDIR /home/nanobot",
            "ENV PATH=/usr/local/bin:/usr/bin:/bin",
            "ENV HOME=/home/nanobot",
            "ENV PYTHONPATH=/opt/nanobot",
            "ENV PYTHONDONTWRITEBYTECODE=1",
            "ENV PYTHONUNBUFFERED=1",
            "EXPOSE 18790/tcp",
            "EXPOSE 8765/tcp",
            "ENTRYPOINT [\"nanobot\"]",
            "CMD [\"gateway\",\"--foreground\"]",
        ],
        fill,
    }
}

fn fill(root: &Path) -> anyhow::Result<()> {
    super::copy_debian(root)?;
    super::add_user(root, "nanobot", ".nanobot")?;

    let site = root.join("opt/nanobot");
    let mut pip = Command::new("pip3");
    pip.args([
        "install",
        "--no-compile",
        "--disable-pip-version-check",
        "--root-user-action=ignore",
    ])
    .args(["--implementation=cp", "--only-binary=:all:"])
    .arg(format!("--python-version={PYTHON}"));
    for tag in [
        "manylinux2014",
        "manylinux_2_17",
        "manylinux_2_28",
        "manylinux_2_34",
    ] {
        pip.arg(format!("--platform={tag}_{}", std::env::consts::ARCH));
    }
    pip.arg("--target")
        .arg(&site)
        .arg(format!("nanobot-ai=={NANOBOT}"));
    process::run_logged(&mut pip, "pip-nanobot")?;
    // Written by the host's Python; the launcher does their work.
    fs::remove_dir_all(site.join("bin")).context("could not drop the host's scripts")?;

    let launcher = root.join("usr/local/bin/nanobot");
    fs::write(&launcher, LAUNCHER)?;
    fs::set_permissions(&launcher, fs::Permissions::from_mode(0o755))?;

    // The root is read-only at run time: without bytecode in it, every start would compile all modules.
    let mut compile = Command::new("chroot");
    compile
        .arg(root)
        .args(["python3", "-m", "compileall", "-q", "-j0", "/opt/nanobot"]);
    // Some packages ship templates that are no valid Python; that is not our concern.
    process::run_logged(&mut compile, "compile-nanobot").or_else(|_| anyhow::Ok(()))
}
