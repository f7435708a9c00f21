//! `exec -it` on a real terminal: a pseudo-terminal stands in for the operator's.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::Pid;
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::{Value, json};
use tenantd::api::frames::{Frame, Frames, PROTOCOL};
use tokio_util::codec::Framed;

use crate::fake::Fake;

/// Says what it was ordered and every frame that it gets; ends with 7 after a `q`.
async fn mirror(mut request: Request) -> Response {
    let upgrade = hyper::upgrade::on(&mut request);
    let body = axum::body::to_bytes(request.into_body(), 4096).await;
    let order: Value = serde_json::from_slice(&body.unwrap()).unwrap();
    tokio::spawn(async move {
        let mut frames = Framed::new(TokioIo::new(upgrade.await.unwrap()), Frames);
        let hello = format!("{}\n", order["terminal"]);
        frames.send(Frame::Stdout(hello.into())).await.unwrap();
        while let Some(Ok(frame)) = frames.next().await {
            if frame == Frame::Stdin("q".into()) {
                frames.send(Frame::Exit(7)).await.unwrap();
                return;
            }
            let said = format!("{frame:?}\n");
            frames.send(Frame::Stdout(said.into())).await.unwrap();
        }
    });
    let headers = [("connection", "upgrade"), ("upgrade", PROTOCOL)];
    (axum::http::StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// The operator in front of `tenantd exec -it`.
struct Operator {
    keyboard: File,
    terminal: OwnedFd,
    child: Child,
    before: Termios,
    seen: String,
}

impl Operator {
    fn at(socket: &str) -> Self {
        let pty = openpty(None, None).unwrap();
        resize(&pty.slave, 24, 80);
        let before = tcgetattr(&pty.slave).unwrap();
        let stdio = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = Command::new(env!("CARGO_BIN_EXE_tenantd"))
            .args(["--socket", socket, "exec", "-it", "acme", "--", "sh"])
            .env("TERM", "xterm")
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .spawn()
            .unwrap();
        Self {
            keyboard: File::from(pty.master),
            terminal: pty.slave,
            child,
            before,
            seen: String::new(),
        }
    }

    fn sees(&mut self, text: &str) {
        let mut piece = [0; 1024];
        while !self.seen.contains(text) {
            let read = self.keyboard.read(&mut piece).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
    }

    fn types(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    fn signals(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).unwrap();
    }

    /// The code, once the terminal was found as it had been.
    fn ends(mut self) -> Option<i32> {
        let code = self.child.wait().unwrap().code();
        assert_eq!(tcgetattr(&self.terminal).unwrap(), self.before);
        code
    }
}

fn resize(terminal: &OwnedFd, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).unwrap();
}

fn daemon() -> Fake {
    Fake::serving(Router::new().route("/v1/tenants/acme/exec", post(mirror)))
}

#[test]
fn keys_sizes_and_the_code_go_through_and_the_terminal_is_restored() {
    let fake = daemon();
    let mut operator = Operator::at(&fake.socket());
    operator.sees(&json!({ "columns": 80, "kind": "xterm", "rows": 24 }).to_string());
    // In raw mode Ctrl-C is a key for the command, not the end of tenantd.
    operator.types(b"\x03");
    operator.sees(r#"Stdin(b"\x03")"#);
    let raw = tcgetattr(&operator.terminal).unwrap();
    assert!(
        !raw.local_flags
            .intersects(LocalFlags::ECHO | LocalFlags::ICANON)
    );
    resize(&operator.terminal, 50, 200);
    operator.signals(Signal::SIGWINCH);
    operator.sees("Resize { rows: 50, columns: 200 }");
    operator.types(b"q");
    assert_eq!(operator.ends(), Some(7));
}

#[test]
fn a_signal_ends_tenantd_with_the_terminal_restored() {
    let fake = daemon();
    let mut operator = Operator::at(&fake.socket());
    operator.sees("xterm");
    operator.types(b"x");
    operator.sees("Stdin");
    operator.signals(Signal::SIGTERM);
    assert_eq!(operator.ends(), Some(128 + 15));
}

#[test]
fn a_daemon_that_goes_away_leaves_the_terminal_restored() {
    let fake = daemon();
    let mut operator = Operator::at(&fake.socket());
    operator.sees("xterm");
    operator.types(b"x");
    operator.sees("Stdin");
    drop(fake);
    operator.sees("the connection to the command broke");
    assert_eq!(operator.ends(), Some(1));
}
