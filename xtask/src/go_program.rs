//! Programs of others that are written in Go: each built once with Debian's Go from the module proxy, into one static
//! program that runs anywhere.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::{cache, debian, host, process};

/// A program, and all that decides what is built.
#[derive(Debug, Clone, Copy)]
pub struct GoProgram {
    /// Its name.
    name: &'static str,
    /// The module that it is part of.
    module: &'static str,
    /// A release that Debian 13's Go 1.24 builds.
    version: &'static str,
    /// The module's hash as in a go.sum. Its own go.sum pins all that it is built from, so no checksum database is asked.
    sum: &'static str,
    /// Where in the module it is.
    package: &'static str,
}

/// A real S3 server, which checks signatures and keeps each object as a file.
pub const VERSITYGW: GoProgram = GoProgram {
    name: "versitygw",
    module: "github.com/versity/versitygw",
    version: "v1.0.14",
    sum: "h1:AuocjbPE+UevtEYaHNnb3y4/ypPWQttO2ME8//Tx76I=",
    package: "./cmd/versitygw",
};

/// Turns Butane into Ignition.
pub const BUTANE: GoProgram = GoProgram {
    name: "butane",
    module: "github.com/coreos/butane",
    version: "v0.24.0",
    sum: "h1:sput//CnGz1ZUNT3TaSpbgjAjlefGC+/Ikiiwl5wO9Q=",
    package: "./internal",
};

/// Says whether Ignition would take a config.
pub const IGNITION_VALIDATE: GoProgram = GoProgram {
    name: "ignition-validate",
    module: "github.com/coreos/ignition/v2",
    version: "v2.21.0",
    sum: "h1:2q44zldXRuBXOJl/6Z6xBshZzi2muQuXRZBGGpvNbsk=",
    package: "./validate",
};

/// What Go needs of Debian.
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

impl GoProgram {
    /// The program's path on this host; built if this recipe has not been built yet.
    pub fn ensure(&self) -> anyhow::Result<PathBuf> {
        let Self {
            name,
            module,
            version,
            sum,
            package,
        } = self;
        let root = root_key();
        let inputs = [root.hash(), module, version, sum, package];
        let key = cache::Key::new(format!("go-{name}"), inputs);
        if !key.path().exists() {
            host::provide(host::MACHINE)?;
        }
        let entry = cache::entry(&key, |entry| {
            let root = cache::entry(&root, |root| debian::debootstrap(root, PACKAGES, "go-root"))?;
            self.build(&root, entry)
        });
        Ok(entry
            .with_context(|| format!("could not build {name}"))?
            .join(name))
    }

    fn build(&self, root: &Path, entry: &Path) -> anyhow::Result<()> {
        let build = entry.join("build");
        fs::create_dir(&build)?;
        let module = format!("{}@{}", self.module, self.version);
        let said = process::output(
            self.go(root, &build)
                .args(["mod", "download", "-json", &module]),
        )?;
        let downloaded: Downloaded =
            serde_json::from_str(&said).with_context(|| format!("go said of {module}: {said}"))?;
        ensure!(
            downloaded.sum == self.sum,
            "{module} has the hash {}, not {}",
            downloaded.sum,
            self.sum
        );
        // Without optimisation it is built in three quarters of the time, and is fast enough: hashes are in assembler.
        let mut compile = self.go(root, &build);
        compile
            .args([
                "build",
                "-C",
                &downloaded.dir,
                "-o",
                &format!("/build/{}", self.name),
            ])
            .args([
                "-trimpath",
                // Not from a `vendor` directory, of which the module proxy has but the list. Butane's own go.mod is not
                // tidy, and may be completed; what it names keeps its hash.
                "-mod=mod",
                "-gcflags=all=-N -l",
                "-ldflags=-s -w",
                self.package,
            ]);
        process::run_logged(&mut compile, &format!("go-{}", self.name))?;
        fs::rename(build.join(self.name), entry.join(self.name)).context("go built no program")?;
        // Go makes what it has downloaded read-only; root does not mind.
        fs::remove_dir_all(&build).context("could not remove the directory that it was built in")
    }

    /// Debian's Go in the root, with this host's network. It writes to `build` alone.
    fn go(&self, root: &Path, build: &Path) -> Command {
        let mut command = Command::new("systemd-nspawn");
        command
            .env("SYSTEMD_SECCOMP", "0")
            .args([
                "--quiet",
                "--register=no",
                "--keep-unit",
                "--as-pid2",
                "--pipe",
                // Several programs may be built in it at the same time.
                "--volatile=overlay",
            ])
            .arg("--resolv-conf=copy-host")
            .arg(format!("--machine=go-{}-{}", self.name, std::process::id()))
            .arg(format!("--directory={}", root.display()))
            .arg(format!("--bind={}:/build", build.display()))
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
}

/// What `go mod download -json` says.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Downloaded {
    dir: String,
    sum: String,
}

/// Debian with Go.
fn root_key() -> cache::Key {
    let packages = PACKAGES.join(" ");
    cache::Key::new(
        "go-root",
        [packages.as_str(), &GO.join(" "), debian::RECIPE],
    )
}
