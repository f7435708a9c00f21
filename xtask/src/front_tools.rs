//! What the public front is tested with: Debian's Caddy, Pebble (an ACME server for tests, with a DNS server of its own),
//! and nginx to judge a snippet. Programs alone, which run in any test machine.

use std::{fs, path::Path, path::PathBuf};

use anyhow::Context as _;

use crate::{cache, debian, host};

const PACKAGES: &[&str] = &["caddy", "pebble", "nginx"];

/// The programs that are kept of them.
const PROGRAMS: &[&str] = &[
    "usr/bin/caddy",
    "usr/bin/pebble",
    "usr/bin/pebble-challtestsrv",
    "usr/sbin/nginx",
];

/// The directory with the programs; filled if this recipe has not been built yet.
pub fn ensure() -> anyhow::Result<PathBuf> {
    let key = cache::Key::new(
        "front-tools",
        [include_str!("front_tools.rs"), debian::RECIPE],
    );
    if !key.path().exists() {
        host::provide(host::MACHINE)?;
    }
    cache::entry(&key, build).context("could not fetch what the front is tested with")
}

/// The programs' names.
pub fn programs() -> impl Iterator<Item = &'static str> {
    PROGRAMS
        .iter()
        .filter_map(|path| path.rsplit_once('/').map(|(_, name)| name))
}

fn build(entry: &Path) -> anyhow::Result<()> {
    let root = entry.join("root");
    debian::unpack(&root, PACKAGES, "front-tools")?;
    for program in PROGRAMS {
        let name = Path::new(program).file_name().context("a program")?;
        fs::rename(root.join(program), entry.join(name))
            .with_context(|| format!("the packages have no /{program}"))?;
    }
    fs::remove_dir_all(&root).context("could not remove the rest of the packages")
}
