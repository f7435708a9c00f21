//! tenantd itself: the daemon, its settings, the public front.

use super::super::Evidence;
use super::super::check::{Check, Finding, failed, ok, unknown, warning};

pub const DAEMON: Check = Check::error(
    "daemon",
    "tenants run on without it, but nothing is decided, watched or put right",
    daemon,
);

pub const SETTINGS: Check = Check::error(
    "settings",
    "without node.toml nobody knows where backups go and who can read them",
    settings,
);

pub const FRONT: Check = Check::error(
    "front",
    "the public does not reach a host without its front and a good certificate",
    front,
);

fn daemon(evidence: &Evidence) -> Finding {
    match &evidence.daemon {
        Ok(()) => ok("tenantd runs"),
        Err(why) => failed(
            format!("tenantd is not running: {why}"),
            "systemctl start tenantd; journalctl -u tenantd tells why it ended",
        ),
    }
}

fn settings(evidence: &Evidence) -> Finding {
    match &evidence.settings {
        Ok(()) => ok("node.toml can be read"),
        Err(why) => failed(why, "run `tenantd init` on a new node, else mend node.toml"),
    }
}

fn front(evidence: &Evidence) -> Finding {
    let Some(front) = &evidence.front else {
        return unknown(
            "the daemon was not asked",
            "start tenantd: it knows the hosts",
        );
    };
    let warnings = front.warnings();
    match (warnings.is_empty(), front.mode.as_str(), front.hosts.len()) {
        (true, "none", _) => ok("none: tenants are reached by their sockets and loopback ports"),
        (true, mode, hosts) => ok(format!("{mode}, {hosts} hosts")),
        (false, ..) if !front.serves => failed(
            warnings.join("; "),
            "`tenantd front` shows how each host is; journalctl -u tenantd-front tells what Caddy wrote",
        ),
        (false, ..) => warning(
            warnings.join("; "),
            "`tenantd front` shows how each host is",
        ),
    }
}
