//! An agent for tests: starts in milliseconds, keeps its state on disk, and misbehaves on demand.
//!
//! `FAKE_AGENT_LISTEN` (default `127.0.0.1:8080`), `FAKE_AGENT_STATE` (default `/state`) and `FAKE_AGENT_MODE`:
//! `ok`, `slow-start:SECONDS`, `never-healthy`, `crash`, `crash-after:SECONDS`, `exit:CODE`, `ignore-term`.
//! What it answers is in `routes.rs`.

mod http;
mod mode;
mod noise;
mod routes;
mod state;

use std::{env, net::TcpListener, process, sync::Arc, thread};

use nix::sys::signal::{SigSet, Signal};

use crate::{mode::Mode, routes::Agent, state::State};

fn main() {
    // As PID 1 it has no default action for SIGTERM; blocked here, before any thread, and waited for below.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals
        .thread_block()
        .unwrap_or_else(|error| fail(&format!("cannot block signals: {error}")));

    let mode = env::var("FAKE_AGENT_MODE").unwrap_or_default();
    let mode: Mode = mode.parse().unwrap_or_else(|error: String| fail(&error));
    mode.at_start();

    let state = State::open(env::var("FAKE_AGENT_STATE").unwrap_or_else(|_| "/state".to_owned()));
    let starts = state
        .bump("starts")
        .unwrap_or_else(|error| fail(&format!("cannot write the state: {error}")));
    let listen = env::var("FAKE_AGENT_LISTEN").unwrap_or_else(|_| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(&listen)
        .unwrap_or_else(|error| fail(&format!("cannot bind {listen}: {error}")));
    println!("fake-agent: start {starts}, mode {mode:?}, listening on {listen}");

    let agent = Arc::new(Agent::new(mode, state));
    let server = Arc::clone(&agent);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let agent = Arc::clone(&server);
            thread::spawn(move || agent.serve(stream));
        }
    });

    loop {
        match signals.wait() {
            Ok(Signal::SIGTERM) if agent.ignores_term() => println!("fake-agent: ignoring SIGTERM"),
            Ok(signal) => {
                let count = agent.shut_down();
                println!("fake-agent: {signal}, clean shutdown {count}");
                process::exit(0);
            }
            Err(error) => fail(&format!("cannot wait for signals: {error}")),
        }
    }
}

fn fail(message: &str) -> ! {
    eprintln!("fake-agent: {message}");
    process::exit(1)
}
