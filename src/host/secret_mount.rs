//! Files that exist in memory only, and never reach swap: what an agent's secrets are while it runs.
//! It mounts, writes and takes down; which secrets they are is not its business.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, fchown};

use camino::{Utf8Path, Utf8PathBuf};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::credentials::SecretValue;
use super::dirs;
use super::files::FileError;
use crate::tenant::{MAX_SECRETS, MAX_SECRETS_TOTAL};
use secrecy::ExposeSecret;

/// Why secrets could not be delivered or taken away.
#[derive(Debug, thiserror::Error)]
pub enum SecretMountError {
    /// The file system cannot be mounted or unmounted.
    #[error("cannot {verb} {path}; this needs root and the host's own mount namespace")]
    Mount {
        /// What was tried.
        verb: &'static str,
        /// Where.
        path: Utf8PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Whose the files are, as the host numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Mounts a file system at `path` that has these files and no others; what was there before is taken down.
pub fn deliver<'a>(
    path: &Utf8Path,
    owner: Owner,
    mut files: impl Iterator<Item = (&'a str, &'a SecretValue)>,
) -> Result<(), SecretMountError> {
    take_down(path)?;
    dirs::make(parent(path), 0o700)?;
    dirs::make(path, 0o700)?;
    mount_memory(path, owner)?;
    let filled = files.try_for_each(|(name, value)| write(&path.join(name), owner, value));
    if filled.is_err() {
        // Half of the secrets are worse than none: the agent would start with them.
        take_down(path)?;
    }
    Ok(filled?)
}

/// Removes the files and their file system; nothing there is fine.
pub fn take_down(path: &Utf8Path) -> Result<(), SecretMountError> {
    let failed = |verb| {
        move |source: io::Error| SecretMountError::Mount {
            verb,
            path: path.to_owned(),
            source,
        }
    };
    loop {
        // Gone from memory now, whoever else still has the file system mounted.
        let entries = match path.read_dir_utf8() {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("look into")(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failed("look into"))?;
            fs::remove_file(entry.path()).map_err(failed("empty"))?;
        }
        match umount2(path.as_std_path(), MntFlags::MNT_DETACH) {
            Ok(()) => {}
            // It is a mount point no more.
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(errno) => return Err(failed("unmount")(errno.into())),
        }
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove")(error)),
        _ => Ok(()),
    }
}

/// tmpfs that is never swapped out (Linux 6.4 and later), else ramfs, which never is but knows no limit: only root
/// writes here, and no more than a tenant's secrets.
fn mount_memory(path: &Utf8Path, owner: Owner) -> Result<(), SecretMountError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let size = 2 * MAX_SECRETS_TOTAL;
    let inodes = MAX_SECRETS + 1;
    let Owner { uid, gid } = owner;
    let options = format!("mode=0500,uid={uid},gid={gid},size={size},nr_inodes={inodes},noswap");
    let attempt = |kind: &str, options: &str| {
        mount(
            Some(kind),
            path.as_std_path(),
            Some(kind),
            flags,
            Some(options),
        )
    };
    let mounted = match attempt("tmpfs", &options) {
        Err(Errno::EINVAL) => attempt("ramfs", "mode=0500").and_then(|()| {
            nix::unistd::chown(path.as_std_path(), Some(uid.into()), Some(gid.into()))
        }),
        other => other,
    };
    mounted.map_err(|errno| SecretMountError::Mount {
        verb: "mount a file system in memory at",
        path: path.to_owned(),
        source: errno.into(),
    })
}

fn write(path: &Utf8Path, owner: Owner, value: &SecretValue) -> Result<(), FileError> {
    let failed = |source| FileError::Io {
        verb: "write",
        path: path.to_owned(),
        source,
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(path)
        .map_err(failed)?;
    file.write_all(value.expose_secret()).map_err(failed)?;
    fchown(&file, Some(owner.uid), Some(owner.gid)).map_err(failed)
}

fn parent(path: &Utf8Path) -> &Utf8Path {
    path.parent().unwrap_or(path)
}
