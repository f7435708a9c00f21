//! The real OpenClaw gateway, from npm, on the Node.js that npm ships too.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, bail};

use super::Recipe;
use crate::process;

const OPENCLAW: &str = "2026.9.6";
/// OpenClaw asks for >=24.16 <25 or >=26.1; Debian's own is older.
const NODE: &str = "24.21.0";

/// The image, as Podman calls it.
pub fn reference() -> String {
    format!("localhost/openclaw:{OPENCLAW}")
}

pub(super) fn recipe() -> Recipe {
    Recipe {
        kind: "openclaw",
        reference: reference(),
        inputs: vec![include_bytes!("openclaw.rs").to_vec()],
        config: &[
            "USER 1000:1000",
            "WORKDIR /home/node",
            "ENV PATH=/usr/local/bin:/usr/bin:/bin",
            "ENV HOME=/home/node",
            "ENV NODE_ENV=production",
            // With a read-only root, only /tmp and the state can be written.
            "ENV XDG_CACHE_HOME=/tmp/.cache",
            "EXPOSE 18789/tcp",
            "ENTRYPOINT [\"openclaw\"]",
            "CMD [\"gateway\",\"--port\",\"18789\",\"--bind\",\"loopback\",\"--allow-unconfigured\"]",
        ],
        fill,
    }
}

fn fill(root: &Path) -> anyhow::Result<()> {
    super::copy_debian(root)?;
    super::add_user(root, "node", ".openclaw")?;

    let architecture = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => bail!("npm has no Node.js for {other}"),
    };
    let node = format!("node-linux-{architecture}");
    let prefix = root.join("usr/local");
    npm(&prefix, &format!("{node}@{NODE}"), None)?;
    let node = prefix.join("lib/node_modules").join(node);
    fs::remove_dir_all(node.join("include")).context("could not drop Node's headers")?;
    // Packages look at the Node.js that installs them: let it be the one that will run them.
    npm(
        &prefix,
        &format!("openclaw@{OPENCLAW}"),
        Some(&node.join("bin")),
    )
}

/// Installs with the packages' own scripts: without them OpenClaw refuses to start ("lifecycle is incomplete").
fn npm(prefix: &Path, package: &str, node: Option<&Path>) -> anyhow::Result<()> {
    let mut command = Command::new("npm");
    command.args([
        "install",
        "--global",
        "--no-audit",
        "--no-fund",
        "--no-update-notifier",
        "--prefix",
    ]);
    command.arg(prefix).arg(package);
    if let Some(node) = node {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let directories = std::iter::once(node.to_path_buf()).chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(directories)?);
    }
    process::run_logged(
        &mut command,
        &format!("npm-{}", package.split('@').next().unwrap_or_default()),
    )
}
