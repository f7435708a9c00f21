//! The secrets of tenants: their versions, encrypted on this host's disk, and where new values come from.
//! Nothing here starts an agent or reads a spec; a value is never printed, logged or stored in the database.

mod error;
mod need;
mod reference;
mod vault;
#[cfg(test)]
mod vault_tests;

pub use error::SecretError;
pub use need::{Need, fits, lengths, need};
pub use reference::{allows, ask};
pub use vault::{
    StoredSecret, StoredVersion, VersionRecord, accept, forget, generate, put, reseal, restore,
    sealed_files, stored, stored_tenants, value,
};
