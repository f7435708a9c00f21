//! `exec`: a command inside a tenant, with this process's terminal or pipes as its own.

use std::convert::Infallible;
use std::io::{self, Read};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::codec::{FramedRead, FramedWrite};

use super::args::ExecArgs;
use super::client::{Client, ClientError};
use super::error::CliError;
use super::terminal::{self, RawMode};
use crate::api::ExecRequest;
use crate::api::frames::{Frame, FrameError, Frames, PROTOCOL};

/// Bytes read from standard input at a time.
const PIECE: usize = 16 * 1024;

/// What the shell shows for a process that a signal ended: this and the signal's number.
const SIGNALLED: u8 = 128;

/// Longest wait for standard output to take what is left at the end.
const FLUSH: Duration = Duration::from_secs(1);

/// Runs the command; its exit code becomes ours.
pub async fn run(client: &Client, args: ExecArgs) -> Result<ExitCode, CliError> {
    let terminal = if args.tty {
        let terminal = terminal::of_stdin().map_err(CliError::Terminal)?;
        Some(terminal.ok_or_else(|| {
            let text = "standard input is no terminal; leave out -t, or run this in one";
            CliError::Usage(text.to_owned())
        })?)
    } else {
        None
    };
    let tty = terminal.is_some();
    let request = ExecRequest {
        command: args.command,
        interactive: args.interactive,
        terminal,
    };
    let path = format!("/v1/tenants/{}/exec", args.tenant);
    let connection = client.upgrade(&path, &request, PROTOCOL).await?;
    // Not before the daemon has agreed: its refusal is to be readable.
    let _raw = tty
        .then(RawMode::enter)
        .transpose()
        .map_err(CliError::Terminal)?;
    let input = args.interactive.then(read_stdin);
    let ended = carry(
        TokioIo::new(connection),
        input,
        tty.then(window_changes)
            .transpose()
            .map_err(CliError::Terminal)?,
        tokio::io::stdout(),
        tokio::io::stderr(),
    );
    // A signal ends us only after the terminal is as it was.
    let code = tokio::select! {
        ended = ended => ended?,
        signal = until(SignalKind::terminate()) => SIGNALLED + signal,
        signal = until(SignalKind::hangup()) => SIGNALLED + signal,
    };
    Ok(code.into())
}

/// Resolves with the signal's number when it comes; never if it cannot be watched.
async fn until(kind: SignalKind) -> u8 {
    match signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
    u8::try_from(kind.as_raw_value()).unwrap_or_default()
}

fn window_changes() -> io::Result<Signal> {
    signal(SignalKind::window_change())
}

/// Standard input in pieces. A thread of its own: a read of a terminal cannot be given up, and
/// must not keep the process when the command has ended.
fn read_stdin() -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut piece = vec![0; PIECE];
        loop {
            match io::stdin().read(&mut piece) {
                Ok(0) => return,
                Ok(read) => {
                    if sender
                        .blocking_send(Bytes::copy_from_slice(&piece[..read]))
                        .is_err()
                    {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    receiver
}

/// Carries bytes both ways until the daemon says how the command ended.
async fn carry(
    connection: impl AsyncRead + AsyncWrite,
    input: Option<mpsc::Receiver<Bytes>>,
    resized: Option<Signal>,
    stdout: impl AsyncWrite + Unpin,
    stderr: impl AsyncWrite + Unpin,
) -> Result<u8, CliError> {
    let (read, write) = tokio::io::split(connection);
    let sending = send(FramedWrite::new(write, Frames), input, resized);
    tokio::select! {
        ended = receive(FramedRead::new(read, Frames), stdout, stderr) => ended,
        never = sending => match never {},
    }
}

/// Sends input and sizes. Never ends: the command has ended when the daemon says so, and a
/// broken connection shows at the receiving half, with its reason.
async fn send(
    mut frames: FramedWrite<impl AsyncWrite + Unpin, Frames>,
    mut input: Option<mpsc::Receiver<Bytes>>,
    mut resized: Option<Signal>,
) -> Infallible {
    loop {
        let frame = tokio::select! {
            piece = next_piece(&mut input) => piece.map_or_else(
                || {
                    input = None;
                    Frame::StdinEnd
                },
                Frame::Stdin,
            ),
            () = next_change(&mut resized) => match terminal::size() {
                Ok((rows, columns)) => Frame::Resize { rows, columns },
                Err(_) => continue,
            },
        };
        if frames.send(frame).await.is_err() {
            return std::future::pending().await;
        }
    }
}

async fn next_piece(input: &mut Option<mpsc::Receiver<Bytes>>) -> Option<Bytes> {
    match input {
        Some(input) => input.recv().await,
        None => std::future::pending().await,
    }
}

async fn next_change(resized: &mut Option<Signal>) {
    match resized {
        Some(resized) => {
            resized.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Prints what the command says, until its exit code comes.
async fn receive(
    mut frames: FramedRead<impl AsyncRead + Unpin, Frames>,
    mut stdout: impl AsyncWrite + Unpin,
    mut stderr: impl AsyncWrite + Unpin,
) -> Result<u8, CliError> {
    while let Some(frame) = frames.next().await {
        match frame.map_err(broken)? {
            Frame::Stdout(bytes) => print(&mut stdout, &bytes).await?,
            Frame::Stderr(bytes) => print(&mut stderr, &bytes).await?,
            Frame::Exit(code) => {
                let _ = tokio::time::timeout(FLUSH, stdout.flush()).await;
                // The shell knows codes up to 255 only.
                return Ok(u8::try_from(code).unwrap_or(u8::MAX));
            }
            Frame::Problem(problem) => return Err(ClientError::Refused(problem).into()),
            other @ (Frame::Stdin(_) | Frame::StdinEnd | Frame::Resize { .. }) => {
                let what = format!("the daemon sent what only a client sends: {other:?}");
                return Err(broken(io::Error::other(what).into()));
            }
        }
    }
    Err(broken(io::Error::from(io::ErrorKind::UnexpectedEof).into()))
}

async fn print(out: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), CliError> {
    out.write_all(bytes).await.map_err(CliError::Output)?;
    out.flush().await.map_err(CliError::Output)
}

fn broken(error: FrameError) -> CliError {
    CliError::Session(match error {
        FrameError::Io(error) => error,
        other => io::Error::other(other),
    })
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;

    async fn against(
        daemon: impl AsyncFnOnce(UnixStream),
        input: Option<mpsc::Receiver<Bytes>>,
    ) -> (Result<u8, CliError>, Vec<u8>, Vec<u8>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let (ended, ()) = tokio::join!(
            carry(ours, input, None, &mut stdout, &mut stderr),
            daemon(theirs)
        );
        (ended, stdout, stderr)
    }

    #[tokio::test]
    async fn output_and_errors_stay_apart_and_the_code_is_passed_on() {
        let daemon = async |connection: UnixStream| {
            let mut frames = FramedWrite::new(connection, Frames);
            for frame in [
                Frame::Stdout("out".into()),
                Frame::Stderr("err".into()),
                Frame::Stdout("put".into()),
                Frame::Exit(42),
            ] {
                frames.send(frame).await.unwrap();
            }
        };
        let (ended, stdout, stderr) = against(daemon, None).await;
        assert_eq!(ended.unwrap(), 42);
        assert_eq!(stdout, b"output");
        assert_eq!(stderr, b"err");
    }

    #[tokio::test]
    async fn input_arrives_with_its_end() {
        let (sender, input) = mpsc::channel(4);
        sender.try_send("one".into()).unwrap();
        sender.try_send("two".into()).unwrap();
        drop(sender);
        let daemon = async |connection: UnixStream| {
            let (read, write) = connection.into_split();
            let mut received = FramedRead::new(read, Frames);
            let mut frames = FramedWrite::new(write, Frames);
            let mut echo = Vec::new();
            while let Some(Ok(Frame::Stdin(bytes))) = received.next().await {
                echo.extend_from_slice(&bytes);
            }
            frames.send(Frame::Stdout(echo.into())).await.unwrap();
            frames.send(Frame::Exit(0)).await.unwrap();
        };
        let (ended, stdout, _) = against(daemon, Some(input)).await;
        assert_eq!(ended.unwrap(), 0);
        assert_eq!(stdout, b"onetwo");
    }

    #[tokio::test]
    async fn a_daemon_that_goes_away_is_an_error() {
        let (ended, ..) = against(async |connection| drop(connection), None).await;
        assert!(matches!(ended, Err(CliError::Session(_))));
    }
}
