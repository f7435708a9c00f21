//! Agents' images without a registry: Debian roots and what npm and PyPI have, imported into image stores.
//!
//! One store per image, cached by content, mounted read-only into every machine as an additional image store. Containers
//! with a user namespace of their own start from it at once: the layers are mapped by the kernel, not copied.

pub mod fake_agent;
pub mod nanobot;
pub mod openclaw;

use std::{
    fs::{self, Permissions},
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, bail};

use super::root;
use crate::{cache, debian, host, process};

/// A built image.
#[derive(Debug, Clone)]
pub struct Image {
    /// As Podman calls it, `localhost/openclaw:2026.9.6`.
    pub reference: String,
    /// Its store on the host.
    pub store: PathBuf,
    kind: &'static str,
}

impl Image {
    /// Where the store is in the machine.
    fn mount_point(&self) -> String {
        format!("{}/{}", root::IMAGE_STORES, self.kind)
    }

    /// The `systemd-nspawn` option that mounts the store.
    pub(super) fn bind(&self) -> String {
        format!("--bind-ro={}:{}", self.store.display(), self.mount_point())
    }
}

/// How an image is made.
struct Recipe {
    kind: &'static str,
    reference: String,
    /// What decides the content: sources, versions.
    inputs: Vec<Vec<u8>>,
    /// `podman import --change`: instructions of a Containerfile.
    config: &'static [&'static str],
    /// Fills the image's root.
    fill: fn(&Path) -> anyhow::Result<()>,
}

impl Recipe {
    fn key(&self) -> cache::Key {
        let own: [&[u8]; 3] = [
            include_bytes!("mod.rs"),
            self.reference.as_bytes(),
            self.kind.as_bytes(),
        ];
        let inputs = own.into_iter().chain(self.inputs.iter().map(Vec::as_slice));
        cache::Key::new(format!("image-{}", self.kind), inputs)
    }

    fn ensure(&self) -> anyhow::Result<Image> {
        let store = cache::entry(&self.key(), |entry| {
            let root = entry.join("root");
            fs::create_dir(&root)?;
            (self.fill)(&root)?;
            let store = entry.join("store");
            fs::create_dir(&store)?;
            import(&root, &store, &self.reference, self.config)?;
            fs::remove_dir_all(&root)?;
            Ok(())
        })
        .with_context(|| format!("could not build the image {}", self.reference))?;
        Ok(Image {
            reference: self.reference.clone(),
            store: store.join("store"),
            kind: self.kind,
        })
    }
}

/// All images, built side by side where they are missing.
pub fn ensure_all() -> anyhow::Result<Vec<Image>> {
    let recipes = [fake_agent::recipe()?, nanobot::recipe(), openclaw::recipe()];
    if recipes.iter().any(|recipe| !recipe.key().path().exists()) {
        host::provide(host::IMAGES)?;
    }
    thread::scope(|scope| {
        let builds: Vec<_> = recipes
            .iter()
            .map(|recipe| scope.spawn(|| recipe.ensure()))
            .collect();
        builds
            .into_iter()
            .map(|build| match build.join() {
                Ok(image) => image,
                Err(_) => bail!("building an image panicked"),
            })
            .collect()
    })
}

/// The `storage.conf` that makes Podman see the images.
pub(super) fn storage_conf(images: &[Image]) -> String {
    let stores: Vec<String> = images
        .iter()
        .map(|image| format!("{:?}", image.mount_point()))
        .collect();
    format!(
        "[storage]\ndriver = \"overlay\"\nrunroot = \"/run/containers/storage\"\n\
         graphroot = \"/var/lib/containers/storage\"\n\n\
         [storage.options]\nadditionalimagestores = [{}]\n",
        stores.join(", ")
    )
}

/// Copies a Debian root with what both real agents need, which their recipes share.
fn copy_debian(into: &Path) -> anyhow::Result<()> {
    const PACKAGES: &[&str] = &["ca-certificates", "libstdc++6", "python3"];
    let key = cache::Key::new("agent-root", [debian::RECIPE, &PACKAGES.join(" ")]);
    let root = cache::entry(&key, |directory| {
        debian::debootstrap(directory, PACKAGES, "agent-root")
    })?;
    let mut copy = Command::new("cp");
    process::run(
        copy.args(["--archive", "--reflink=auto", "--no-target-directory"])
            .args([&root, into]),
    )
}

/// Adds the one user, uid and gid 1000, with an empty home and an empty state directory in it.
fn add_user(root: &Path, name: &str, state: &str) -> anyhow::Result<()> {
    let append = |file: &str, line: String| -> anyhow::Result<()> {
        let path = root.join(file);
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)?;
        writeln!(file, "{line}").with_context(|| format!("could not write {}", path.display()))
    };
    append(
        "etc/passwd",
        format!("{name}:x:1000:1000::/home/{name}:/bin/sh"),
    )?;
    append("etc/group", format!("{name}:x:1000:"))?;
    let home = root.join("home").join(name);
    for directory in [home.clone(), home.join(state)] {
        fs::create_dir_all(&directory)?;
        fs::set_permissions(&directory, Permissions::from_mode(0o700))?;
        chown(&directory, Some(1000), Some(1000))?;
    }
    Ok(())
}

/// Packs the root and lets the machine's own Podman import it into the store.
fn import(root: &Path, store: &Path, reference: &str, config: &[&str]) -> anyhow::Result<()> {
    let machine = root::ensure()?;
    let mut podman = Command::new("systemd-nspawn");
    podman
        .env("SYSTEMD_SECCOMP", "0")
        .args([
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--private-network",
            "--capability=all",
            "--pipe",
        ])
        .args([
            "--read-only",
            "--tmpfs=/var/tmp",
            "--tmpfs=/var/lib/containers",
        ])
        .arg(format!("--machine=import-{}", std::process::id()))
        .arg(format!("--directory={}", machine.display()))
        .arg(format!("--bind={}:/mnt", store.display()))
        .args(["env", "PODMAN_IGNORE_CGROUPSV1_WARNING=1"])
        .args([
            "podman",
            "--root=/mnt",
            "--runroot=/run/import",
            "--storage-driver=overlay",
            "import",
            "--quiet",
        ])
        .args(
            config
                .iter()
                .map(|instruction| format!("--change={instruction}")),
        )
        .args(["-", reference])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());

    let mut tar = Command::new("tar")
        .args(["--create", "--numeric-owner", "--sort=name", "--directory"])
        .arg(root)
        .arg(".")
        .stdout(Stdio::piped())
        .spawn()
        .context("could not start tar")?;
    let output = podman
        .stdin(tar.stdout.take().context("tar has no stdout")?)
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .context("could not start systemd-nspawn")?;
    let packed = tar.wait().context("could not wait for tar")?;
    if !output.status.success() || !packed.success() {
        bail!(
            "importing {reference} failed: tar {packed}, podman {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(())
}
