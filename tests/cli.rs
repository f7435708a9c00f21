//! The command line as its users see it: the real binary, without a daemon and against a fake
//! one on a Unix socket of its own.

#[path = "cli/against_a_daemon.rs"]
mod against_a_daemon;
#[path = "cli/alone.rs"]
mod alone;
#[path = "cli/butane.rs"]
mod butane;
#[path = "cli/fake.rs"]
mod fake;
#[path = "cli/terminal.rs"]
mod terminal;
