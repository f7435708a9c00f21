//! The host's clock.

use super::super::Evidence;
use super::super::check::{Check, Finding, ok, unknown, warning};

pub const TIME: Check = Check::warning(
    "time-sync",
    "certificates, retention and the freshness of backups are judged by this host's clock",
    time,
);

fn time(evidence: &Evidence) -> Finding {
    let remedy =
        "systemctl enable --now chronyd (or systemd-timesyncd); a container has its host's clock";
    match &evidence.host.clock_is_set {
        Ok(true) => ok("the clock is kept by a time server"),
        Ok(false) => warning("no time server keeps the clock", remedy),
        Err(why) => unknown(why, remedy),
    }
}
