//! Running programs: loudly, quietly with a log, or for their output. Every failure names the command.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::paths;

/// How much of a log a failure shows.
const TAIL_LINES: usize = 40;

/// Runs the command on this terminal; an error when it does not exit with 0.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("could not start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", line(command));
    }
    Ok(())
}

/// Runs the command with its output in `target/xtask/<log>.log`; a failure ends with the log's last lines.
pub fn run_logged(command: &mut Command, log: &str) -> anyhow::Result<()> {
    let path = log_file(log);
    let directory = path.parent().unwrap_or(&path);
    fs::create_dir_all(directory)
        .with_context(|| format!("could not create {}", directory.display()))?;
    let file =
        File::create(&path).with_context(|| format!("could not write {}", path.display()))?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .with_context(|| format!("could not start `{}`", line(command)))?;
    if !status.success() {
        bail!(
            "`{}` failed: {status}\n{}\n(all of it: {})",
            line(command),
            tail(&path),
            path.display()
        );
    }
    Ok(())
}

fn log_file(log: &str) -> PathBuf {
    paths::target()
        .join("xtask")
        .join(log)
        .with_extension("log")
}

/// The command's standard output, trimmed.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .output()
        .with_context(|| format!("could not start `{}`", line(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{}` failed: {}\n{}",
            line(command),
            output.status,
            stderr.trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}

/// The cargo that runs this, in the repository.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(paths::repository());
    // What `cargo run` says of xtask itself. ring's build script watches it: with it, ring and all
    // that hangs on it would be built anew whenever `cargo xtask` and plain cargo take turns.
    for (name, _) in env::vars_os() {
        let of_xtask = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        });
        if of_xtask {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// The last lines of a log file.
pub fn tail(path: &Path) -> String {
    let text = fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// The program and its first arguments, as one would type them; long scripts are cut.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ");
    match line.char_indices().nth(160) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
    }
}
