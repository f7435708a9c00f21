//! Every check of the doctor, in the order of what depends on what. Pure: each judges what was seen.

mod backups;
mod clock;
mod ids;
mod limits;
mod memory;
mod os;
mod plans;
mod platform;
mod room;
mod security;
mod service;
mod units;

use super::check::Check;

/// The registry.
pub const CHECKS: &[Check] = &[
    service::DAEMON,
    service::SETTINGS,
    platform::KERNEL,
    platform::SYSTEMD,
    platform::PODMAN,
    platform::GENERATOR,
    limits::CGROUP,
    limits::LIMITS,
    limits::DELEGATION,
    ids::SUBORDINATE_IDS,
    memory::SWAP,
    memory::SECRETS,
    security::SELINUX,
    security::LABELS,
    security::PRIVATE,
    security::FIREWALL,
    security::OPERATOR_KEYS,
    clock::TIME,
    os::UPDATES,
    os::FAILED_UNITS,
    room::REFLINK,
    room::DISK,
    room::INODES,
    plans::LIMITS_KEPT,
    plans::STORAGE,
    plans::CAPACITY,
    units::FILES,
    units::DRIFT,
    units::UNKNOWN,
    units::NAMESPACES,
    service::FRONT,
    backups::STORE,
    backups::TIMER,
    backups::DRILL_TIMER,
    backups::SHUTDOWN,
    backups::BACKUPS,
    backups::OLD_STATES,
];
