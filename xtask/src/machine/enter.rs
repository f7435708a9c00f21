//! Commands inside a running machine: by `nsenter` on its systemd, or by ssh where it is a virtual one.

use std::{
    io::{self, IsTerminal as _, Read, Write as _},
    path::{Path, PathBuf},
    process::{self, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};
use serde::de::DeserializeOwned;

/// Puts itself into a cgroup below the machine's own root before it enters: processes from outside that root confuse
/// Podman and systemd. Arguments: the cgroup, then the command.
const ENTER: &str = r#"mkdir -p "$0" && echo $$ >"$0/cgroup.procs" && exec "$@""#;

/// What programs inside see; nothing of the host's environment.
const ENVIRONMENT: &[&str] = &[
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LANG=C.UTF-8",
];

/// How long the output of an ended command may still be held by what it started.
const HELD_OUTPUT_LIMIT: Duration = Duration::from_secs(10);

/// The way into a machine.
#[derive(Debug, Clone)]
pub enum Inside {
    /// Through namespaces of this kernel.
    Namespaces {
        /// The machine's systemd, as the host sees it.
        leader: i32,
        /// The root of its cgroups, as the host sees it.
        cgroup: PathBuf,
    },
    /// Over the cable to a kernel of its own.
    Ssh {
        /// A process at this end of the cable, as the host sees it.
        launcher: i32,
        /// Where the secret key is that the machine knows.
        directory: PathBuf,
    },
}

impl Inside {
    /// The host's command that runs `argv` inside.
    pub fn command<I, S>(&self, argv: I) -> process::Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        match self {
            Self::Namespaces { leader, cgroup } => enter_namespaces(*leader, cgroup, argv),
            Self::Ssh {
                launcher,
                directory,
            } => ssh(*launcher, directory, false, argv),
        }
    }

    /// The same for a person: with this process's terminal, if it has one.
    pub fn command_for_a_person<I, S>(&self, argv: I) -> process::Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        match self {
            Self::Namespaces { leader, cgroup } => enter_namespaces(*leader, cgroup, argv),
            Self::Ssh {
                launcher,
                directory,
            } => ssh(*launcher, directory, io::stdin().is_terminal(), argv),
        }
    }

    /// Whether this exit code is ssh's own: there was no connection, or it broke, or a signal ended the command.
    fn is_lost(&self, code: i32) -> bool {
        matches!(self, Self::Ssh { .. }) && code == 255
    }

    /// Runs a command to its end, whatever it is; an error only when it could not run or took longer than allowed.
    pub fn output(&self, argv: &[String], stdin: &[u8], limit: Duration) -> anyhow::Result<Output> {
        let seconds = limit.as_secs().max(1).to_string();
        let bounded = ["timeout", "--kill-after=5", &seconds]
            .into_iter()
            .chain(argv.iter().map(String::as_str));
        let mut child = self
            .command(bounded)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("could not start the way into the machine")?;
        let mut pipe = child.stdin.take().context("the child has no stdin")?;
        let stdout = Reader::of(child.stdout.take().context("the child has no stdout")?);
        let stderr = Reader::of(child.stderr.take().context("the child has no stderr")?);
        let way = Pid::from_raw(i32::try_from(child.id()).context("a process id")?);
        let status = thread::scope(|scope| {
            scope.spawn(move || keep_awake(way));
            // A command that does not read its input closes the pipe early; that is its right.
            scope.spawn(move || drop(pipe.write_all(stdin)));
            child.wait()
        })
        .context("could not wait for the way into the machine")?;
        let ((stdout, is_whole), (stderr, _)) = (stdout.finish(), stderr.finish());
        let output = Output {
            command: argv.join(" "),
            code: status.code().filter(|code| !self.is_lost(*code)),
            stdout,
            stderr,
        };
        if !is_whole {
            bail!(
                "`{}` has ended, but something that it started holds its output\n{}{}",
                output.command,
                output.stdout,
                output.stderr
            );
        }
        // What `timeout` exits with when it had to end the command.
        if output.code == Some(124) {
            bail!(
                "`{}` did not end within {seconds} s\n{}{}",
                output.command,
                output.stdout,
                output.stderr
            );
        }
        Ok(output)
    }
}

/// The command that enters the namespaces of a machine's systemd.
fn enter_namespaces<I, S>(leader: i32, cgroup: &Path, argv: I) -> process::Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<str>,
{
    let mut command = process::Command::new("sh");
    command.arg("-c").arg(ENTER).arg(cgroup.join("harness"));
    command.args(["nsenter", "--target", &leader.to_string()]);
    let namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"];
    command
        .args(namespaces)
        .args(["--root", "--wd", "--", "/usr/bin/env", "-i"])
        .args(ENVIRONMENT);
    if let Ok(term) = std::env::var("TERM") {
        command.arg(format!("TERM={term}"));
    }
    for word in argv {
        command.arg(word.as_ref());
    }
    command
}

/// The command that asks a virtual machine's ssh server, over the one connection of this boot: a new one takes the
/// machine a good part of a second.
fn ssh<I, S>(launcher: i32, directory: &Path, on_terminal: bool, argv: I) -> process::Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<str>,
{
    let mut command = process::Command::new("nsenter");
    // The key and the connection's socket are named in here: a socket's whole path might be too long.
    command.current_dir(directory);
    command.args(["--net", "--target", &launcher.to_string()]);
    command.args(["--", "ssh", "-F", "none", "-i", "key"]);
    command.args(["-S", &format!("ssh-{launcher}")]);
    for option in [
        // Nobody else is at the other end.
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "BatchMode=yes",
        "ConnectTimeout=10",
        "ControlMaster=auto",
        "ControlPersist=60",
        // A machine whose power was cut answers nothing any more.
        "ServerAliveInterval=10",
        "ServerAliveCountMax=6",
    ] {
        command.args(["-o", option]);
    }
    if on_terminal {
        command.arg("-t");
    }
    command
        .args(["root@192.0.2.2", "--", "env"])
        .args(ENVIRONMENT);
    // The other side's shell takes the words apart again.
    for word in argv {
        command.arg(quoted(word.as_ref()));
    }
    command
}

/// A word that a POSIX shell takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Until it ends: continues nsenter whenever it stops itself because its command was stopped, as job control would.
/// systemd stops all processes before it kills them at shutdown; a stopped nsenter would never reap its command, and
/// without that the machine's PID namespace does not end.
fn keep_awake(nsenter: Pid) {
    let events = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    while let Ok(WaitStatus::Stopped(..)) = waitid(Id::Pid(nsenter), events) {
        if kill(nsenter, Signal::SIGCONT).is_err() {
            return;
        }
    }
}

/// What a command inside said.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command, for messages.
    pub command: String,
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output, as text.
    pub stdout: String,
    /// Its standard error, as text.
    pub stderr: String,
}

impl Output {
    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Itself, or an error that shows what it printed.
    pub fn check(self) -> anyhow::Result<Self> {
        if self.success() {
            return Ok(self);
        }
        let code = self
            .code
            .map_or_else(|| "a signal".to_owned(), |code| code.to_string());
        bail!(
            "in the machine, `{}` failed with {code}\n{}{}",
            self.command,
            self.stdout,
            self.stderr
        )
    }

    /// Standard output without the white space at its ends.
    pub fn trim(&self) -> &str {
        self.stdout.trim()
    }

    /// Standard output read as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_str(&self.stdout).with_context(|| {
            format!(
                "`{}` did not print the JSON expected, but: {}",
                self.command, self.stdout
            )
        })
    }
}

/// Collects a command's output beside it.
struct Reader {
    bytes: Arc<Mutex<Vec<u8>>>,
    end: mpsc::Receiver<()>,
}

impl Reader {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (ended, end) = mpsc::channel();
        let collected = Arc::clone(&bytes);
        thread::spawn(move || {
            let mut piece = [0; 8 * 1024];
            while let Ok(read @ 1..) = pipe.read(&mut piece) {
                let mut collected = collected.lock().unwrap_or_else(PoisonError::into_inner);
                collected.extend_from_slice(&piece[..read]);
            }
            // Whoever waited may have given up.
            ended.send(()).ok();
        });
        Self { bytes, end }
    }

    /// The output of a command that has ended, and whether that is all: a process that it left behind may hold the pipe.
    fn finish(self) -> (String, bool) {
        let is_whole = self.end.recv_timeout(HELD_OUTPUT_LIMIT).is_ok();
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        (String::from_utf8_lossy(&bytes).into_owned(), is_whole)
    }
}
