//! The agent that tests use where no real one is needed: one static program and a shell.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::Recipe;
use crate::{machine::root, paths, process};

/// The image, as Podman calls it.
pub fn reference() -> String {
    "localhost/fake-agent:1".to_owned()
}

pub(super) fn recipe() -> anyhow::Result<Recipe> {
    let mut inputs = vec![include_bytes!("fake_agent.rs").to_vec()];
    for source in sources()? {
        inputs.push(source.as_os_str().as_encoded_bytes().to_vec());
        let path = directory().join(&source);
        inputs.push(fs::read(&path).with_context(|| format!("could not read {}", path.display()))?);
    }
    Ok(Recipe {
        kind: "fake-agent",
        reference: reference(),
        inputs,
        config: &[
            "USER 1000:1000",
            "WORKDIR /state",
            "ENV PATH=/bin",
            "ENV HOME=/state",
            "EXPOSE 8080/tcp",
            "ENTRYPOINT [\"/bin/fake-agent\"]",
        ],
        fill,
    })
}

fn directory() -> PathBuf {
    paths::repository().join("tests/images/fake-agent")
}

/// The files that the program is built from, relative to its directory, in a fixed order.
fn sources() -> anyhow::Result<Vec<PathBuf>> {
    let source = directory().join("src");
    let mut files = vec![PathBuf::from("Cargo.toml")];
    for entry in
        fs::read_dir(&source).with_context(|| format!("could not read {}", source.display()))?
    {
        files.push(Path::new("src").join(entry?.file_name()));
    }
    files.sort();
    Ok(files)
}

fn fill(root: &Path) -> anyhow::Result<()> {
    // Linked statically against the C library of the host's compiler: no other target needs to be installed.
    let triple = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let target = paths::target().join("fake-agent");
    let mut cargo = process::cargo();
    cargo
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .args([
            "build",
            "--locked",
            "--package=fake-agent",
            "--profile=fake-agent",
            "--target",
            &triple,
            "--target-dir",
        ])
        .arg(&target);
    process::run_logged(&mut cargo, "cargo-fake-agent")?;

    let program = target.join(&triple).join("fake-agent/fake-agent");
    let busybox = root::ensure()?.join("usr/bin/busybox");
    for directory in ["bin", "etc", "tmp", "state"] {
        fs::create_dir(root.join(directory))?;
    }
    for (from, to) in [(program, "bin/fake-agent"), (busybox, "bin/busybox")] {
        fs::copy(&from, root.join(to))
            .with_context(|| format!("could not copy {}", from.display()))?;
    }
    for applet in [
        "sh", "cat", "ls", "id", "env", "sleep", "stty", "tty", "touch", "dd", "ps", "mount",
        "wget",
    ] {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0::/:/bin/sh\nagent:x:1000:1000::/state:/bin/sh\n",
    )?;
    fs::write(root.join("etc/group"), "root:x:0:\nagent:x:1000:\n")?;
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    chown(root.join("state"), Some(1000), Some(1000))?;
    Ok(())
}
