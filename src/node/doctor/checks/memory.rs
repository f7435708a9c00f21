//! Where memory may be written to.

use super::super::Evidence;
use super::super::check::{Check, Finding, failed, ok};
use super::super::evidence::Swap;

pub const SWAP: Check = Check::error(
    "swap",
    "memory of agents is full of secrets, and a disk keeps what is written to it",
    swap,
);

pub const SECRETS: Check = Check::error(
    "secrets",
    "decrypted secrets must never reach a disk",
    secrets,
);

fn swap(evidence: &Evidence) -> Finding {
    match &evidence.swap {
        Swap::None => ok("no swap: agents that sleep keep what memory they have"),
        Swap::Safe(device) => ok(format!("swap on {device} does not keep what it holds")),
        Swap::Plain(device) => failed(
            format!("swap on {device} keeps tenants' secrets in plain text"),
            "use zram, or swap encrypted with a random key per boot (crypttab option `swap`)",
        ),
    }
}

fn secrets(evidence: &Evidence) -> Finding {
    let mounts = &evidence.secret_mounts;
    let unsafe_mounts = mounts.iter().filter(|(_, stays)| !**stays);
    let unsafe_mounts: Vec<_> = unsafe_mounts.map(|(path, _)| path.as_str()).collect();
    if unsafe_mounts.is_empty() {
        return ok(format!(
            "decrypted secrets of {} agents are in memory that is never swapped out",
            mounts.len()
        ));
    }
    failed(
        format!("{} could be written to swap", unsafe_mounts.join(", ")),
        "something else has mounted it: unmount it, and `tenantd restart` those tenants",
    )
}
