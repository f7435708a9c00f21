//! What the machine needs from the host: root, and a few Debian packages.

use std::{
    process::Command,
    sync::{Mutex, PoisonError},
};

use anyhow::{bail, ensure};

use crate::{process, progress};

/// A program the tasks call, the Debian package that brings it, and why it is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    program: &'static str,
    package: &'static str,
    why: &'static str,
}

impl Need {
    /// A program of a package.
    pub const fn new(program: &'static str, package: &'static str, why: &'static str) -> Self {
        Self {
            program,
            package,
            why,
        }
    }
}

/// For building and booting the machine.
pub const MACHINE: &[Need] = &[
    Need {
        program: "mmdebstrap",
        package: "mmdebstrap",
        why: "makes the Debian root of the test machine",
    },
    Need {
        program: "systemd-nspawn",
        package: "systemd-container",
        why: "boots the test machine",
    },
    Need {
        program: "mkfs.xfs",
        package: "xfsprogs",
        why: "makes the test machine's disk",
    },
    Need {
        program: "nsenter",
        package: "util-linux",
        why: "enters the test machine",
    },
];

/// For a virtual machine, beside what the container needs.
pub const VIRTUAL_MACHINE: &[Need] = &[
    Need {
        program: "ssh",
        package: "openssh-client",
        why: "enters the virtual machine",
    },
    Need {
        program: "ip",
        package: "iproute2",
        why: "makes the cable to the virtual machine",
    },
];

/// For the unit tests: a repository must be readable by these alone.
pub const UNIT_TESTS: &[Need] = &[
    Need {
        program: "age",
        package: "age",
        why: "decrypts a repository in a test, without tenantd",
    },
    Need {
        program: "setfattr",
        package: "attr",
        why: "restores extended attributes in a test, without tenantd",
    },
    Need {
        program: "zstd",
        package: "zstd",
        why: "decompresses a repository in a test, without tenantd",
    },
    Need {
        program: "jq",
        package: "jq",
        why: "reads a repository's documents in a test, without tenantd",
    },
    Need {
        program: "strace",
        package: "strace",
        why: "writes down what a backup does to the disk, for a test that cuts the power",
    },
    Need {
        program: "ssh-keygen",
        package: "openssh-client",
        why: "checks a repository's signatures in a test, without tenantd",
    },
];

/// For building the agents' images.
pub const IMAGES: &[Need] = &[
    Need {
        program: "npm",
        package: "npm",
        why: "fetches OpenClaw and its Node.js",
    },
    Need {
        program: "pip3",
        package: "python3-pip",
        why: "fetches nanobot",
    },
    Need {
        program: "tar",
        package: "tar",
        why: "packs images",
    },
];

/// Installs the packages of what is missing, and says so; does nothing when all is there.
pub fn provide(needs: &[Need]) -> anyhow::Result<()> {
    // Builds side by side ask for packages side by side; apt lets only one update its lists.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the test machine needs root: mounts, namespaces, loop devices"
    );
    let missing: Vec<&Need> = needs
        .iter()
        .filter(|need| find(need.program).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        progress::note(format!(
            "{} is missing; installing {}: {}",
            need.program, need.package, need.why
        ));
    }
    if find("apt-get").is_none() {
        let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
        bail!(
            "this host has no apt-get; install what Debian calls {}",
            packages.join(", ")
        );
    }
    progress::step("Installing packages on this host", || {
        process::run_logged(apt_get().arg("update"), "apt-update")?;
        let mut install = apt_get();
        install.args(["install", "--yes", "--no-install-recommends"]);
        process::run_logged(
            install.args(missing.iter().map(|need| need.package)),
            "apt-install",
        )
    })?;
    match missing.iter().find(|need| find(need.program).is_none()) {
        Some(need) => bail!(
            "{} is still missing after installing {}",
            need.program,
            need.package
        ),
        None => Ok(()),
    }
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args([
        "--quiet",
        "-o",
        "DPkg::Lock::Timeout=300",
    ]);
    command
}

/// A program's path, as the shell would find it.
pub fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}
