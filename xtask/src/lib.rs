//! The tasks of this repository, and the test machine that the integration tests drive.
//!
//! Owns what is needed to build, boot and enter a machine and to run the tests; knows nothing of tenantd's insides.

pub mod bench;
pub mod cache;
pub mod cli;
pub mod debian;
mod demo;
mod deny;
pub mod front_tools;
pub mod go_program;
pub mod host;
pub mod machine;
pub mod paths;
pub mod process;
pub mod progress;
mod second_try;
pub mod test;
mod torture;
