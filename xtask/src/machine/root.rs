//! The test machine's root: Debian 13 with systemd and Podman, and the few changes that life in nspawn asks for.
//!
//! Never written to once built; each machine sees it through an overlay.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{cache, debian};

const PACKAGES: &[&str] = &[
    // the host that tenantd expects
    "systemd",
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    "podman",
    "crun",
    "conmon",
    "catatonit",
    "netavark",
    "aardvark-dns",
    "uidmap",
    "nftables",
    "iproute2",
    "xfsprogs",
    "kmod",
    "ca-certificates",
    // what makes a fresh machine a node
    "ignition",
    // what a restore without tenantd needs
    "age",
    "zstd",
    "jq",
    "openssh-client",
    "sqlite3",
    // for tests and for whoever looks around
    "curl",
    "python3-minimal",
    "strace",
    "procps",
    "busybox-static",
    "less",
    "socat",
    "docker-registry",
    "bash-completion",
];

/// What makes no sense, or fails, in a container without udev, network and cgroup controllers.
const MASKED: &[&str] = &[
    "systemd-networkd-wait-online.service",
    "systemd-remount-fs.service",
    "systemd-modules-load.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "dev-hugepages.mount",
    "modprobe@.service",
    "console-getty.service",
    "getty@.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "xfs_scrub_all.timer",
    "podman-auto-update.timer",
    "ldconfig.service",
    // a test that wants it runs one of its own, on a free port
    "docker-registry.service",
];

const INIT: &str = include_str!("files/machine-init");
const CONTAINERS_CONF: &str = include_str!("files/containers.conf");

/// Where the images' stores are mounted, one directory each.
pub const IMAGE_STORES: &str = "/usr/lib/machine-images";

/// The root's directory; made if this recipe has not been built yet.
pub fn ensure() -> anyhow::Result<PathBuf> {
    let recipe = include_str!("root.rs");
    let key = cache::Key::new(
        "machine-root",
        [recipe, debian::RECIPE, INIT, CONTAINERS_CONF],
    );
    cache::entry(&key, |directory| {
        debian::debootstrap(directory, PACKAGES, "machine-root")?;
        prepare(directory).context("could not prepare the machine's root")
    })
}

fn prepare(root: &Path) -> anyhow::Result<()> {
    let units = root.join("etc/systemd/system");
    for unit in MASKED {
        let mask = units.join(unit);
        if mask.is_symlink() {
            fs::remove_file(&mask)?;
        }
        symlink("/dev/null", mask)?;
    }

    let init = root.join("usr/local/sbin/machine-init");
    fs::write(&init, INIT)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;

    let containers = root.join("etc/containers/containers.conf.d");
    fs::create_dir_all(&containers)?;
    fs::write(containers.join("50-machine.conf"), CONTAINERS_CONF)?;
    // Mount points for building images, which sees this root read-only.
    fs::create_dir_all(root.join("var/lib/containers"))?;
    fs::create_dir_all(root.join(IMAGE_STORES.trim_start_matches('/')))?;

    // Each machine gets its own at its first start. (An absent one would make that a first boot to systemd, which
    // then enables whatever its presets name.)
    fs::write(root.join("etc/machine-id"), "")?;
    fs::remove_file(root.join("etc/hostname")).ok();
    fs::write(
        root.join("etc/hosts"),
        "127.0.0.1 localhost\n::1 localhost\n",
    )?;
    Ok(())
}
