//! Other processes: runs a program to its end, with a limit on its time and on what it may
//! say; tells whether a process still is, and signals one. What that means is the caller's business.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgid};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::Command;

/// Most memory that is taken before a program says anything, in bytes.
const MOST_AT_ONCE: usize = 256 * 1024;

/// What a program left when it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output, up to the limit.
    pub stdout: Vec<u8>,
    /// Its standard error, up to the limit.
    pub stderr: Vec<u8>,
}

/// Why a program did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("cannot run {program}; is it installed?")]
    Start {
        /// The program.
        program: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// It was ended because it took too long.
    #[error("{program} did not end within {} s and was killed", limit.as_secs_f32())]
    Timeout {
        /// The program.
        program: String,
        /// The time it was given.
        limit: Duration,
    },
    /// Its output or its end could not be read.
    #[error("cannot read what {program} says")]
    Read {
        /// The program.
        program: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

/// Runs `command` without input and kills it after `timeout`, or when this future is dropped.
///
/// Of each output stream the first `limit` bytes are kept; the rest is read and thrown away,
/// so that the program is never blocked.
pub async fn run(
    command: Command,
    timeout: Duration,
    limit: usize,
) -> Result<Output, ProcessError> {
    run_with_input(command, &[], timeout, limit).await
}

/// As [`run`], with `input` on the program's standard input. What it says is kept in memory that was taken at once, so
/// that a secret has no copies that its owner does not know.
pub async fn run_with_input(
    mut command: Command,
    input: &[u8],
    timeout: Duration,
    limit: usize,
) -> Result<Output, ProcessError> {
    let program = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    let mut child = command
        .stdin(if input.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| ProcessError::Start {
            program: program.clone(),
            source,
        })?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let end = async {
        let ended = tokio::try_join!(
            keep(stdout, limit),
            keep(stderr, limit),
            child.wait(),
            say(stdin, input)
        );
        ended.map(|(stdout, stderr, status, ())| (stdout, stderr, status))
    };
    match tokio::time::timeout(timeout, end).await {
        Ok(Ok((stdout, stderr, status))) => Ok(Output {
            status,
            stdout,
            stderr,
        }),
        Ok(Err(source)) => Err(ProcessError::Read { program, source }),
        Err(_) => Err(ProcessError::Timeout {
            program,
            limit: timeout,
        }),
    }
}

/// As [`run`], for a thread that may block; not for one that carries asynchronous tasks.
pub fn run_blocking(
    command: std::process::Command,
    timeout: Duration,
    limit: usize,
) -> Result<Output, ProcessError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| ProcessError::Start {
            program: command.get_program().to_string_lossy().into_owned(),
            source,
        })?;
    runtime.block_on(run(command.into(), timeout, limit))
}

/// One process, told apart from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since boot (`proc_pid_stat(5)`, field 22).
    pub started: u64,
}

impl ProcessId {
    /// This process.
    pub fn own() -> Self {
        let pid = std::process::id();
        // Without /proc no process has a start, and the number alone must do.
        let started = Stat::read(pid).map_or(0, |stat| stat.started);
        Self { pid, started }
    }

    /// The process that has this number now.
    pub fn of(pid: u32) -> Option<Self> {
        let started = Stat::read(pid)?.started;
        Some(Self { pid, started })
    }

    /// Sends a signal to it, and to the whole group where it leads one; nothing once it has ended.
    pub fn signal(self, signal: Signal) -> std::io::Result<()> {
        // Zero, and what has another sign, would mean other processes.
        let pid = match i32::try_from(self.pid) {
            Ok(pid) if pid > 1 && self.is_alive() => Pid::from_raw(pid),
            _ => return Ok(()),
        };
        let sent = if getpgid(Some(pid)) == Ok(pid) {
            killpg(pid, signal)
        } else {
            kill(pid, signal)
        };
        match sent {
            // It ended meanwhile.
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it still runs. A process that ended and was not waited for does not.
    pub fn is_alive(self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.started == self.started && !stat.ended)
    }
}

/// What `/proc/PID/stat` says, as far as it is of use.
struct Stat {
    started: u64,
    ended: bool,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The second field is the name in parentheses, which may itself have blanks and parentheses.
    fn parse(stat: &str) -> Option<Self> {
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let ended = matches!(fields.next()?, "Z" | "X");
        let started = fields.nth(18)?.parse().ok()?;
        Some(Self { started, ended })
    }
}

/// Writes `input` and closes the pipe; a program that does not listen is its own business.
async fn say(stream: Option<impl AsyncWrite + Unpin>, input: &[u8]) -> std::io::Result<()> {
    let Some(mut stream) = stream else {
        return Ok(());
    };
    match stream.write_all(input).await {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

async fn keep(stream: Option<impl AsyncRead + Unpin>, limit: usize) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::with_capacity(limit.min(MOST_AT_ONCE));
    let Some(mut stream) = stream else {
        return Ok(kept);
    };
    (&mut stream)
        .take(limit as u64)
        .read_to_end(&mut kept)
        .await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn output_is_bounded_and_does_not_block() {
        let output = run(
            sh("head -c 300000 /dev/zero; echo no >&2; exit 3"),
            Duration::from_secs(20),
            1000,
        )
        .await
        .unwrap();
        assert_eq!(output.stdout.len(), 1000);
        assert_eq!(output.stderr, b"no\n");
        assert_eq!(output.status.code(), Some(3));
    }

    #[test]
    fn a_process_is_told_apart_from_a_later_one_of_its_number() {
        let own = ProcessId::own();
        assert!(own.is_alive());
        let earlier = ProcessId {
            started: own.started - 1,
            ..own
        };
        assert!(!earlier.is_alive());
    }

    #[test]
    fn a_signal_reaches_the_group_that_a_process_leads() {
        use std::os::unix::process::CommandExt;
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sleep 600; true"])
            .process_group(0)
            .spawn()
            .unwrap();
        let leader = ProcessId::of(child.id()).unwrap();
        leader.signal(Signal::SIGKILL).unwrap();
        assert!(!child.wait().unwrap().success());
        leader.signal(Signal::SIGKILL).unwrap();
    }

    #[test]
    fn an_ended_process_that_nobody_waited_for_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let started = Stat::read(child.id()).unwrap().started;
        let id = ProcessId {
            pid: child.id(),
            started,
        };
        while id.is_alive() {
            std::thread::yield_now();
        }
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn a_name_may_look_like_the_rest() {
        let fields = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        let stat = Stat::parse(&format!("9 (a) R (b) S {fields}")).unwrap();
        assert_eq!((stat.started, stat.ended), (4711, false));
        assert!(Stat::parse("9 (a").is_none());
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed() {
        let error = run(sh("exec sleep 600"), Duration::from_millis(50), 10)
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "sh did not end within 0.05 s and was killed"
        );
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let error = run(Command::new("/absent/podman"), Duration::from_secs(1), 10)
            .await
            .unwrap_err();
        assert!(
            matches!(error, ProcessError::Start { program, .. } if program == "/absent/podman")
        );
    }
}
