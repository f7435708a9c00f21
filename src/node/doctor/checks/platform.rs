//! What tenantd stands on: kernel, systemd, Podman, the programs that check units.

use super::super::Evidence;
use super::super::check::{Check, Finding, failed, ok, unknown, warning};
use crate::node::fitness::OLDEST_SYSTEMD;

/// The first kernel with idmapped mounts of overlay file systems and `memory.reclaim`.
const OLDEST_KERNEL: (u32, u32) = (5, 19);

/// The first kernel whose tmpfs has `noswap` (`tmpfs(5)`).
const NOSWAP_KERNEL: (u32, u32) = (6, 4);

pub const KERNEL: Check = Check::error(
    "kernel",
    "agents' state is mounted with their own ids and sleeping agents' memory is reclaimed, which old kernels cannot",
    kernel,
);

pub const SYSTEMD: Check = Check::error(
    "systemd",
    "the units use settings that an older systemd does not know",
    systemd,
);

pub const PODMAN: Check = Check::error(
    "podman",
    "agents are Podman's containers, written in the dialect of 5.4",
    podman,
);

pub const GENERATOR: Check = Check::error(
    "generator",
    "units are checked by the host's own programs before they are installed",
    generator,
);

fn kernel(evidence: &Evidence) -> Finding {
    let remedy = "update the kernel to 6.4 or later";
    let release = match &evidence.host.kernel {
        Ok(release) => release,
        Err(why) => return unknown(why, remedy),
    };
    match version(release) {
        None => unknown(&format!("{release:?} is no kernel version"), remedy),
        Some(found) if found < OLDEST_KERNEL => failed(format!("kernel {release}"), remedy),
        Some(found) if found < NOSWAP_KERNEL => warning(
            format!("kernel {release}: secrets are in ramfs, whose size is not limited"),
            remedy,
        ),
        Some(_) => ok(format!("kernel {release}")),
    }
}

/// The first two numbers of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn systemd(evidence: &Evidence) -> Finding {
    match evidence.systemd {
        Some(version) if version >= OLDEST_SYSTEMD => ok(format!("systemd {version}")),
        Some(version) => failed(
            format!("systemd {version}"),
            "update to systemd 255 or later",
        ),
        None => failed("systemd does not answer", "boot this host with systemd"),
    }
}

fn podman(evidence: &Evidence) -> Finding {
    match &evidence.podman {
        Ok(version) => ok(format!("Podman {version}")),
        Err(error) => failed(error, "install Podman 5.4 or later and start podman.socket"),
    }
}

fn generator(evidence: &Evidence) -> Finding {
    if evidence.absent_tools.is_empty() {
        ok("the unit generator and the verifier are there")
    } else {
        failed(
            format!("not found: {}", evidence.absent_tools.join(", ")),
            "install Podman with Quadlet, and systemd-analyze",
        )
    }
}
