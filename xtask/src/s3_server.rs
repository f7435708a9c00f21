//! A real S3 server for the tests: versitygw, which checks signatures and keeps each object as a file.
//!
//! Built once with Debian's Go from the module proxy, into one static program that runs in any test machine.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::{cache, debian, host, process};

const MODULE: &str = "github.com/versity/versitygw";
/// A release that Debian 13's Go 1.24 builds.
const VERSION: &str = "v1.0.14";
/// The module's hash as in a go.sum. Its own go.sum pins all that it is built from, so no checksum database is asked.
const SUM: &str = "h1:AuocjbPE+UevtEYaHNnb3y4/ypPWQttO2ME8//Tx76I=";

/// The program's name, and where in the module it is.
const PROGRAM: &str = "versitygw";
const PACKAGE: &str = "./cmd/versitygw";

const PACKAGES: &[&str] = &["ca-certificates", "golang-go"];

/// For Go in the root: no C compiler, no other toolchain than Debian's, everything below one directory.
const GO: &[&str] = &[
    "HOME=/build",
    "GOPATH=/build/go",
    "GOCACHE=/build/cache",
    "CGO_ENABLED=0",
    "GOTOOLCHAIN=local",
    "GOSUMDB=off",
    "GOTELEMETRY=off",
];

/// How this host reaches the module proxy, where it has to be told.
const NETWORK: &[&str] = &[
    "GOPROXY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// The host's certificate authorities: a proxy may have one of its own.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The program's path on this host; built if this recipe has not been built yet.
pub fn ensure() -> anyhow::Result<PathBuf> {
    let key = cache::Key::new("s3-server", [include_str!("s3_server.rs"), debian::RECIPE]);
    if !key.path().exists() {
        host::provide(host::MACHINE)?;
    }
    let entry = cache::entry(&key, build).context("could not build the S3 server")?;
    Ok(entry.join(PROGRAM))
}

/// What `go mod download -json` says.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Downloaded {
    dir: String,
    sum: String,
}

fn build(entry: &Path) -> anyhow::Result<()> {
    let root = entry.join("root");
    debian::debootstrap(&root, PACKAGES, "s3-server-root")?;
    fs::create_dir(root.join("build"))?;

    let module = format!("{MODULE}@{VERSION}");
    let said = process::output(go(&root).args(["mod", "download", "-json", &module]))?;
    let downloaded: Downloaded =
        serde_json::from_str(&said).with_context(|| format!("go said of {module}: {said}"))?;
    ensure!(
        downloaded.sum == SUM,
        "{module} has the hash {}, not {SUM}",
        downloaded.sum
    );

    // Without optimisation it is built in three quarters of the time, and is fast enough: hashes are in assembler.
    let output = format!("/build/{PROGRAM}");
    let mut build = go(&root);
    build
        .args(["build", "-C", &downloaded.dir, "-o", &output])
        .args(["-trimpath", "-gcflags=all=-N -l", "-ldflags=-s -w", PACKAGE]);
    process::run_logged(&mut build, "go-s3-server")?;

    fs::rename(root.join("build").join(PROGRAM), entry.join(PROGRAM))
        .context("go built no program")?;
    fs::remove_dir_all(&root).context("could not remove the root that it was built in")
}

/// Debian's Go in the root, with this host's network.
fn go(root: &Path) -> Command {
    let mut command = Command::new("systemd-nspawn");
    command
        .env("SYSTEMD_SECCOMP", "0")
        .args([
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--as-pid2",
            "--pipe",
        ])
        .arg("--resolv-conf=copy-host")
        .arg(format!("--machine=s3-server-{}", std::process::id()))
        .arg(format!("--directory={}", root.display()))
        .args(GO.iter().map(|setting| format!("--setenv={setting}")));
    for name in NETWORK {
        if let Ok(value) = env::var(name) {
            command.arg(format!("--setenv={name}={value}"));
        }
    }
    if Path::new(AUTHORITIES).exists() {
        command.arg(format!("--bind-ro={AUTHORITIES}"));
    }
    command.arg("go");
    command
}
