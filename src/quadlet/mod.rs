//! From a resolved spec to the exact bytes of a tenant's units, and whether the host accepts them.
//! Rendering is pure; only [`validate`] touches the world, and it installs nothing.

mod complaint;
mod container;
mod egress;
mod endpoints;
mod escape;
mod facts;
#[cfg(test)]
mod host_tests;
#[cfg(test)]
mod reader;
mod render;
mod scratch;
mod secrets;
mod slice;
#[cfg(test)]
mod tests;
mod unit_file;
mod unit_set;
pub mod validate;

pub use complaint::{Complaint, Gate};
pub use facts::{Controller, HostFacts, IdRange, IdRangeError};
pub use render::{RenderError, render};
pub use scratch::{ScratchError, scratch_quadlet, scratch_service};
pub use unit_set::{UnitFile, UnitSet};
