//! `node install`: puts the files that belong to this binary on the host, and switches its units on.
//! It can be repeated: each file is replaced whole, and what is on stays on.

use std::time::Duration;

use camino::Utf8Path;
use clap_complete::Shell;
use tokio::process::Command;

use super::args::InstallArgs;
use super::console::Console;
use super::error::CliError;
use super::generate;
use crate::backup::without_us;
use crate::host::{dirs, files, process};
use crate::layout::Layout;
use crate::node::{enabled_units, host_files};

/// How long systemd's tools may take.
const LIMIT: Duration = Duration::from_mins(2);
/// What they may say.
const SAID: usize = 16 * 1024;

/// Runs the command.
pub async fn run(console: Console, layout: &Layout, args: InstallArgs) -> Result<(), CliError> {
    let root = args.root.as_deref().unwrap_or(Utf8Path::new("/"));
    let placed = place(root)?;
    if args.root.is_some() {
        // Another machine's files, or a package's: nothing of this one is to be told.
        return console.print(&format!("{placed} files are below {root}\n"));
    }
    call("systemd-sysusers", &["/etc/sysusers.d/tenantd.conf"]).await?;
    let tmpfiles = ["--create", "/etc/tmpfiles.d/tenantd.conf"];
    call("systemd-tmpfiles", &tmpfiles).await?;
    if args.no_start {
        return console.print("tenantd is installed; nothing was started\n");
    }
    call("systemctl", &["daemon-reload"]).await?;
    if layout.node_toml().exists() {
        enable(true).await?;
        // One that runs already is of the binary before.
        call("systemctl", &["restart", "tenantd.service"]).await?;
        // It goes on where its predecessor was.
        call("systemctl", &["try-restart", "tenantd-sleep.service"]).await?;
        console.print("tenantd is installed and running; 'tenantd status' says how it is\n")
    } else {
        enable(false).await?;
        let ours = enabled_units()
            .into_iter()
            .filter(|name| name.starts_with("tenantd"));
        let ours: Vec<_> = ours.collect();
        console.print(&format!(
            "tenantd is installed; now run: tenantd init && systemctl start {}\n",
            ours.join(" ")
        ))
    }
}

/// Switches the units on, and starts them now too, or only Podman's socket.
pub async fn enable(now: bool) -> Result<(), CliError> {
    let units = enabled_units();
    let mut arguments = vec!["enable", "--quiet"];
    arguments.extend(units.iter().map(String::as_str));
    call("systemctl", &arguments).await?;
    let mut arguments = vec!["start", "podman.socket"];
    if now {
        arguments.extend(units.iter().map(String::as_str));
    }
    call("systemctl", &arguments).await
}

/// Writes every file below `root`; how many there are.
fn place(root: &Utf8Path) -> Result<usize, CliError> {
    let mut placed = 0;
    let mut put = |path: &str, contents: &[u8], mode: u32| {
        let path = root.join(path.trim_start_matches('/'));
        if let Some(parent) = path.parent() {
            dirs::make(parent, 0o755)?;
        }
        placed += 1;
        files::write(&path, contents, mode)
    };
    for file in host_files() {
        put(&file.path, &file.contents, 0o644)?;
    }
    for (shell, path) in [
        (
            Shell::Bash,
            "/usr/local/share/bash-completion/completions/tenantd",
        ),
        (Shell::Zsh, "/usr/local/share/zsh/site-functions/_tenantd"),
        (
            Shell::Fish,
            "/usr/local/share/fish/vendor_completions.d/tenantd.fish",
        ),
    ] {
        put(path, &generate::completions(shell), 0o644)?;
    }
    for (name, text) in generate::manual()? {
        put(&format!("/usr/local/share/man/man1/{name}"), &text, 0o644)?;
    }
    for (name, text) in without_us::FILES {
        put(
            &format!("/usr/local/share/tenantd/{name}"),
            text.as_bytes(),
            0o644,
        )?;
    }
    Ok(placed)
}

/// Runs one of systemd's tools.
async fn call(program: &'static str, arguments: &[&str]) -> Result<(), CliError> {
    let mut command = Command::new(program);
    command.args(arguments);
    let output = process::run(command, LIMIT, SAID).await?;
    if output.status.success() {
        return Ok(());
    }
    Err(CliError::Tool {
        line: format!("{program} {}", arguments.join(" ")),
        said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
