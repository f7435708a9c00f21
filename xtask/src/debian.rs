//! Debian 13 roots by `mmdebstrap`, from the mirror and with the proxies that the host's own apt uses.

use std::{fs, path::Path, process::Command};

use anyhow::Context as _;

use crate::process;

/// This recipe, for the keys of what is built with it.
pub const RECIPE: &str = include_str!("debian.rs");

/// Makes a Debian 13 root at `root` from the host's own mirror, with the host's own apt settings.
///
/// Manuals and translations stay away; dependencies come, recommendations do not.
pub fn debootstrap(root: &Path, packages: &[&str], log: &str) -> anyhow::Result<()> {
    mmdebstrap("minbase", root, packages, log).context("could not make the Debian root")
}

/// Unpacks Debian 13 packages, and what they depend on, at `root`: their files as they are, nothing set up.
pub fn unpack(root: &Path, packages: &[&str], log: &str) -> anyhow::Result<()> {
    mmdebstrap("extract", root, packages, log).context("could not unpack Debian packages")
}

fn mmdebstrap(variant: &str, root: &Path, packages: &[&str], log: &str) -> anyhow::Result<()> {
    let mut command = Command::new("mmdebstrap");
    command.arg(format!("--variant={variant}"));
    command.arg("--aptopt=Acquire::Languages \"none\"");
    for unwanted in ["man", "locale", "doc", "info", "lintian", "bug"] {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{unwanted}/*"));
    }
    for option in apt_network_options()? {
        command.arg(format!("--aptopt={option}"));
    }
    command.arg(format!("--include={}", packages.join(",")));
    command.arg("trixie").arg(root);
    command.args(mirror()?);
    process::run_logged(&mut command, log)
}

/// The mirror that the host's apt uses for Debian itself; `None` leaves the choice to `mmdebstrap`.
fn mirror() -> anyhow::Result<Option<String>> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let Some(codename) = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
    else {
        return Ok(None);
    };
    let mut command = Command::new("apt-get");
    command.args([
        "indextargets",
        "--format",
        "$(RELEASE) $(COMPONENT) $(SITE)",
        "Created-By: Packages",
    ]);
    Ok(mirror_of(codename, &process::output(&mut command)?))
}

fn mirror_of(codename: &str, targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut words = line.split(' ');
        (words.next() == Some(codename) && words.next() == Some("main"))
            .then(|| words.next().map(str::to_owned))?
    })
}

/// Proxies and date checks of the host's apt, in apt's own words.
fn apt_network_options() -> anyhow::Result<Vec<String>> {
    let dump = process::output(Command::new("apt-config").args(["dump", "Acquire"]))?;
    let wanted = |line: &&str| {
        let name = line.split(' ').next().unwrap_or_default();
        name.starts_with("Acquire::http") || name.starts_with("Acquire::Check-")
    };
    let has_value = |line: &&str| !line.ends_with("\"\";");
    Ok(dump
        .lines()
        .filter(wanted)
        .filter(has_value)
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::mirror_of;

    #[test]
    fn the_mirror_is_that_of_the_release_and_not_of_its_updates_or_strangers() {
        let targets = "bookworm-security main http://security.test/debian-security\n\
                       nodistro main https://vendor.test/node\n\
                       bookworm contrib http://other.test/debian\n\
                       bookworm main http://mirror.test/debian";
        assert_eq!(
            mirror_of("bookworm", targets).as_deref(),
            Some("http://mirror.test/debian")
        );
        assert_eq!(mirror_of("trixie", targets), None);
    }
}
