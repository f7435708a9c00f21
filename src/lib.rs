//! tenantd: a single-host home for AI agents.
//!
//! The map of the rooms; `docs/ARCHITECTURE.md` says how they work together.
//! Deciding is pure and lives in [`tenant`], [`quadlet`] and [`reconcile`];
//! everything that touches the world lives in [`host`], [`object_store`] and [`state`].

pub mod access;
pub mod api;
pub mod backup;
pub mod cli;
pub mod daemon;
pub mod drill;
pub mod failpoint;
pub mod front;
#[cfg(test)]
mod fuzz;
pub mod gateway;
pub mod health;
pub mod host;
pub mod layout;
pub mod node;
pub mod object_store;
pub mod protect;
pub mod quadlet;
pub mod reconcile;
pub mod secrets;
pub mod sleep;
pub mod state;
pub mod tenant;
pub mod wildcard;
