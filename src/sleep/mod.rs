//! Puts idle agents to sleep and wakes those that are wanted: one small process for all tenants, beside the daemon
//! and without it. It owns when an agent is frozen, paged out and stopped; it carries no traffic, which is the doors',
//! and never wakes a held tenant.
//!
//! Doors talk to it over a Unix socket (`wire`), which systemd opens and by which it starts. It looks at all tenants
//! every few seconds and believes what it sees, so that one that was killed anywhere goes on where it was.

mod acts;
mod bed;
mod client;
mod decide;
mod look;
mod service;
mod wire;

#[cfg(test)]
mod tests;

pub use client::{ClientError, tell};
pub use service::{Peer, Service, Units};
pub use wire::{Asked, LONGEST, Told};
