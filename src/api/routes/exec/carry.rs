//! Carries a running command over a connection, both ways, until one of the two has ended.
//! The protocol is [`crate::api::frames`]; what runs is Podman's business.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use nix::sys::signal::Signal;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::codec::{FramedRead, FramedWrite};

use crate::api::Problem;
use crate::api::frames::{Frame, FrameError, Frames, MAX_CONTENT};
use crate::host::podman::{ExecControl, ExecOutput, PodmanError};

/// How long Podman may take to know the exit code after the output has ended.
const CODE_PATIENCE: Duration = Duration::from_secs(5);

/// Pause between two questions for the exit code.
const CODE_PAUSE: Duration = Duration::from_millis(20);

/// How long a command may take to end once its user has gone: enough to write a file, and too
/// short to be forgotten.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// Pause between two looks whether it has ended.
const END_PAUSE: Duration = Duration::from_millis(200);

/// What a running command can be asked, beside its streams. Tests have one of their own.
pub(super) trait Control: Send + Sync {
    /// Tells its terminal the size.
    fn resize(
        &self,
        rows: u16,
        columns: u16,
    ) -> impl Future<Output = Result<(), PodmanError>> + Send;

    /// Signals it and what it has started.
    fn signal(&self, signal: Signal) -> impl Future<Output = Result<(), PodmanError>> + Send;

    /// How it ended; none while it runs.
    fn exit_code(&self) -> impl Future<Output = Result<Option<i64>, PodmanError>> + Send;
}

impl Control for ExecControl {
    async fn resize(&self, rows: u16, columns: u16) -> Result<(), PodmanError> {
        Self::resize(self, rows, columns).await
    }

    async fn signal(&self, signal: Signal) -> Result<(), PodmanError> {
        Self::signal(self, signal).await
    }

    async fn exit_code(&self) -> Result<Option<i64>, PodmanError> {
        Self::exit_code(self).await
    }
}

pub(super) type Output = Pin<Box<dyn Stream<Item = Result<ExecOutput, PodmanError>> + Send>>;
pub(super) type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// Carries a command until it has ended or its user has gone.
pub(super) async fn carry(
    connection: impl AsyncRead + AsyncWrite + Send,
    output: Output,
    input: Input,
    control: &impl Control,
) {
    let (read, write) = tokio::io::split(connection);
    let mut frames = FramedWrite::new(write, Frames);
    let ended = tokio::select! {
        Gone = take_in(FramedRead::new(read, Frames), input, control) => {
            tracing::info!("exec: its user has gone; ending the command");
            return see_off(control, GRACE).await;
        }
        ended = give_out(output, &mut frames) => ended,
    };
    let last = match ended {
        Ok(()) => end(control, CODE_PATIENCE).await,
        Err(Broken::Command(error)) => Frame::Problem(Box::new(Problem::of(
            "exec-failed",
            StatusCode::BAD_GATEWAY,
            &error,
        ))),
        Err(Broken::Connection) => return see_off(control, GRACE).await,
    };
    // Nobody may be listening any more; there is nobody to tell.
    let _ = frames.send(last).await;
    let _ = frames.into_inner().shutdown().await;
}

/// Ends a command that nobody listens to any more, as a terminal that is closed does; one that
/// ignores that is killed after `grace`.
pub(super) async fn see_off(control: &impl Control, grace: Duration) {
    for signal in [Signal::SIGHUP, Signal::SIGKILL] {
        if let Err(error) = control.signal(signal).await {
            let error = &error as &dyn std::error::Error;
            return tracing::warn!(error, "exec: the command cannot be ended");
        }
        let ended = tokio::time::timeout(grace, code(control, END_PAUSE));
        if let Ok(Ok(_)) = ended.await {
            return;
        }
    }
    tracing::warn!("exec: the command does not end");
}

/// The exit code, as soon as Podman knows it.
async fn code(control: &impl Control, pause: Duration) -> Result<i64, PodmanError> {
    loop {
        match control.exit_code().await? {
            Some(code) => return Ok(code),
            None => tokio::time::sleep(pause).await,
        }
    }
}

/// The user's side of the connection has closed, or is not to be understood.
struct Gone;

/// Passes on what the user sends. Ends only when the user has gone.
async fn take_in(
    mut frames: FramedRead<impl AsyncRead + Unpin, Frames>,
    input: Input,
    control: &impl Control,
) -> Gone {
    let mut input = Some(input);
    while let Some(Ok(frame)) = frames.next().await {
        match frame {
            Frame::Stdin(bytes) => {
                // A command that reads no more is no reason to end: it may still have to say.
                if let Some(open) = &mut input
                    && (open.write_all(&bytes).await.is_err() || open.flush().await.is_err())
                {
                    input = None;
                }
            }
            Frame::StdinEnd => {
                if let Some(mut open) = input.take() {
                    let _ = open.shutdown().await;
                }
            }
            Frame::Resize { rows, columns } => {
                if let Err(error) = control.resize(rows, columns).await {
                    tracing::debug!(error = &error as &dyn std::error::Error, "no resize");
                }
            }
            Frame::Stdout(_) | Frame::Stderr(_) | Frame::Exit(_) | Frame::Problem(_) => break,
        }
    }
    Gone
}

/// Why the output did not come to its end.
enum Broken {
    /// Podman broke off.
    Command(PodmanError),
    /// The user's connection broke off.
    Connection,
}

/// Passes on what the command says; each piece waits until the user's side has room.
async fn give_out(
    mut output: Output,
    frames: &mut (impl Sink<Frame, Error = FrameError> + Unpin),
) -> Result<(), Broken> {
    while let Some(piece) = output.next().await {
        let (kind, mut bytes): (fn(Bytes) -> Frame, _) = match piece.map_err(Broken::Command)? {
            ExecOutput::Terminal(bytes) | ExecOutput::Stdout(bytes) => (Frame::Stdout, bytes),
            ExecOutput::Stderr(bytes) => (Frame::Stderr, bytes),
        };
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(MAX_CONTENT));
            let sent = frames.send(kind(part)).await;
            sent.map_err(|_| Broken::Connection)?;
        }
    }
    Ok(())
}

/// The last frame of a command whose output has ended.
async fn end(control: &impl Control, patience: Duration) -> Frame {
    // The output ends a moment before Podman knows the code.
    match tokio::time::timeout(patience, code(control, CODE_PAUSE)).await {
        Ok(Ok(code)) => Frame::Exit(i32::try_from(code).unwrap_or(i32::MAX)),
        Ok(Err(error)) => Frame::Problem(Box::new(Problem::of(
            "exec-failed",
            StatusCode::BAD_GATEWAY,
            &error,
        ))),
        Err(_) => Frame::Problem(Box::new(Problem::new(
            "exec-failed",
            StatusCode::BAD_GATEWAY,
            "the command's output has ended, but Podman does not say with which code",
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use futures_util::stream;
    use tokio::io::{AsyncReadExt, DuplexStream, ReadHalf, WriteHalf, duplex};

    use super::*;

    /// Answers the questions for the code in turn, and remembers sizes and signals.
    struct Fake {
        codes: Mutex<VecDeque<Option<i64>>>,
        sizes: Mutex<Vec<(u16, u16)>>,
        signals: Mutex<Vec<Signal>>,
    }

    impl Fake {
        fn ending(codes: impl Into<VecDeque<Option<i64>>>) -> Self {
            Self {
                codes: Mutex::new(codes.into()),
                sizes: Mutex::default(),
                signals: Mutex::default(),
            }
        }
    }

    impl Control for Fake {
        async fn resize(&self, rows: u16, columns: u16) -> Result<(), PodmanError> {
            self.sizes.lock().unwrap().push((rows, columns));
            Ok(())
        }

        async fn signal(&self, signal: Signal) -> Result<(), PodmanError> {
            self.signals.lock().unwrap().push(signal);
            Ok(())
        }

        async fn exit_code(&self) -> Result<Option<i64>, PodmanError> {
            Ok(self.codes.lock().unwrap().pop_front().flatten())
        }
    }

    type Sent = FramedWrite<WriteHalf<DuplexStream>, Frames>;
    type Received = FramedRead<ReadHalf<DuplexStream>, Frames>;

    /// The user's two halves of a connection, and the daemon's end.
    fn connected() -> (Sent, Received, DuplexStream) {
        let (user, daemon) = duplex(1024);
        let (read, write) = tokio::io::split(user);
        let sent = FramedWrite::new(write, Frames);
        (sent, FramedRead::new(read, Frames), daemon)
    }

    async fn all(mut received: Received) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = received.next().await {
            frames.push(frame.unwrap());
        }
        frames
    }

    /// What the user of a command that takes no input receives.
    async fn told(
        output: impl Stream<Item = Result<ExecOutput, PodmanError>> + Send + 'static,
        control: Fake,
    ) -> Vec<Frame> {
        let (_sent, received, daemon) = connected();
        let input = Box::pin(tokio::io::sink());
        let carried = carry(daemon, output.boxed(), input, &control);
        let (frames, ()) = tokio::join!(all(received), carried);
        frames
    }

    #[tokio::test]
    async fn output_is_carried_apart_and_the_code_is_waited_for() {
        let output = stream::iter([
            Ok(ExecOutput::Stdout("out".into())),
            Ok(ExecOutput::Stderr("err".into())),
        ]);
        assert_eq!(
            told(output, Fake::ending([None, None, Some(3)])).await,
            [
                Frame::Stdout("out".into()),
                Frame::Stderr("err".into()),
                Frame::Exit(3)
            ]
        );
    }

    #[tokio::test]
    async fn a_code_that_nobody_knows_is_a_problem() {
        let last = end(&Fake::ending([]), Duration::ZERO).await;
        assert!(matches!(last, Frame::Problem(problem) if problem.code == "exec-failed"));
    }

    #[tokio::test]
    async fn long_output_is_cut_into_frames() {
        let long = Bytes::from(vec![1; MAX_CONTENT + 1]);
        let output = stream::iter([Ok(ExecOutput::Stdout(long))]);
        let length = |frame: &Frame| match frame {
            Frame::Stdout(bytes) => bytes.len(),
            _ => 0,
        };
        let frames = told(output, Fake::ending([Some(0)])).await;
        let lengths: Vec<_> = frames.iter().map(length).collect();
        assert_eq!(lengths, [MAX_CONTENT, 1, 0]);
    }

    #[tokio::test]
    async fn input_its_end_and_sizes_arrive() {
        let (mut sent, received, daemon) = connected();
        let (input, mut at_command) = duplex(16);
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        // The command ends once it has read all its input.
        let output = stream::once(async move {
            let _ = end.await;
            Ok(ExecOutput::Terminal("bye".into()))
        });
        let control = Fake::ending([Some(0)]);
        let carried = carry(daemon, output.boxed(), Box::pin(input), &control);
        let sending = async {
            let size = Frame::Resize {
                rows: 50,
                columns: 200,
            };
            // More than the command's pipe takes at once.
            let long = Frame::Stdin(vec![b'x'; 100].into());
            for frame in [size, long, Frame::StdinEnd] {
                sent.send(frame).await.unwrap();
            }
        };
        let command = async {
            let mut read = Vec::new();
            at_command.read_to_end(&mut read).await.unwrap();
            ended.send(()).unwrap();
            read
        };
        let ((), frames, read, ()) = tokio::join!(sending, all(received), command, carried);
        assert_eq!(read, [b'x'; 100]);
        assert_eq!(control.sizes.lock().unwrap()[..], [(50, 200)]);
        assert_eq!(frames, [Frame::Stdout("bye".into()), Frame::Exit(0)]);
    }

    #[tokio::test]
    async fn a_user_who_leaves_ends_the_command() {
        let (sent, received, daemon) = connected();
        drop((sent, received));
        let silent = stream::pending().boxed();
        let input = Box::pin(tokio::io::sink());
        let control = Fake::ending([Some(129)]);
        carry(daemon, silent, input, &control).await;
        assert_eq!(control.signals.lock().unwrap()[..], [Signal::SIGHUP]);
    }

    #[tokio::test]
    async fn a_command_that_does_not_mind_that_its_user_has_gone_is_killed() {
        let control = Fake::ending([]);
        see_off(&control, Duration::ZERO).await;
        let signals = control.signals.lock().unwrap();
        assert_eq!(signals[..], [Signal::SIGHUP, Signal::SIGKILL]);
    }
}
