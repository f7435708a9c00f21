//! Integration tests in a real machine: systemd, Podman, XFS. `cargo xtask test [FILTER]` runs them, as root.
//!
//! One module per subject. Each test boots a machine of its own with `in_machine`, named after the test.

mod adapters;
mod agents;
mod bucket;
mod crashes;
mod crowd;
mod docs;
mod doctor;
mod doors;
mod drift;
mod drill;
mod egress;
mod endings;
mod endpoints;
mod environment;
mod exec;
mod failures;
mod first_boot;
mod front;
mod full_disk;
mod host;
mod isolation;
mod life;
mod machine;
mod node;
mod noisy;
mod often;
mod plans;
mod quiesce;
mod reboots;
mod refusals;
mod registry;
mod rollback;
mod s3;
mod secrets;
mod unproven;
mod virtual_machine;
mod wake;
