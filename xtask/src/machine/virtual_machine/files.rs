//! What a virtual machine has of its own in `/etc` and `/root`, written beside its disk and copied in when it boots.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command,
};

use anyhow::Context as _;

use crate::process;

const INIT: &str = include_str!("init");

/// Nothing here caps limits, unlike the container. With a network namespace and a user namespace of its own,
/// `ping_group_range` cannot be set.
const CONTAINERS_CONF: &str = "[containers]\ndefault_sysctls = []\n";

/// Who reaches it has the key: there is one other end of its cable. Sessions share a connection.
const SSHD_CONFIG: &str = "HostKey /etc/ssh/host_key\nUsePAM no\nPermitRootLogin prohibit-password\nUseDNS no\nMaxSessions 100\n";

/// Units linked to what they do here: the way in, and a power button that ends the machine.
const LINKS: &[(&str, &str)] = &[
    (
        "multi-user.target.wants/ssh.service",
        "/usr/lib/systemd/system/ssh.service",
    ),
    (
        "ctrl-alt-del.target",
        "/usr/lib/systemd/system/poweroff.target",
    ),
];

/// Writes them to `init`, `key` and `files/` in the machine's directory. Keys are kept.
pub(super) fn write(directory: &Path, storage_conf: &str) -> anyhow::Result<()> {
    write_file(&directory.join("init"), INIT, 0o755)?;
    let files = directory.join("files");
    let (key, host_key) = (directory.join("key"), files.join("etc/ssh/host_key"));
    for key in [&key, &host_key] {
        make_key(key)?;
    }
    let public = fs::read_to_string(key.with_extension("pub"))?;
    for (path, content) in [
        (
            "etc/containers/containers.conf.d/50-machine.conf",
            CONTAINERS_CONF,
        ),
        ("etc/containers/storage.conf", storage_conf),
        ("etc/ssh/sshd_config", SSHD_CONFIG),
        ("root/.ssh/authorized_keys", &public),
    ] {
        write_file(&files.join(path), content, 0o644)?;
    }
    for private in ["root", "root/.ssh"] {
        fs::set_permissions(files.join(private), Permissions::from_mode(0o700))?;
    }
    for (link, target) in LINKS {
        let link = files.join("etc/systemd/system").join(link);
        make_parent(&link)?;
        if !link.is_symlink() {
            symlink(target, &link).with_context(|| link.display().to_string())?;
        }
    }
    Ok(())
}

fn make_key(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    make_parent(path)?;
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "machine", "-f"]);
    process::run(keygen.arg(path))
}

fn write_file(path: &Path, content: &str, mode: u32) -> anyhow::Result<()> {
    make_parent(path)?;
    fs::write(path, content).with_context(|| path.display().to_string())?;
    Ok(fs::set_permissions(path, Permissions::from_mode(mode))?)
}

fn make_parent(path: &Path) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    }
    Ok(())
}
