//! Who may see and reach what: SELinux, modes, the firewall, the operator's keys.

use super::super::Evidence;
use super::super::check::{Check, Finding, failed, ok, unknown, warning};
use super::super::fix::Fix;
use super::super::look::host::Firewall;

pub const SELINUX: Check = Check::warning(
    "selinux",
    "it keeps an agent that broke out of its container from the rest of the host",
    selinux,
);

pub const LABELS: Check = Check::warning(
    "selinux-labels",
    "where SELinux enforces, what has the wrong label cannot be used",
    labels,
);

pub const PRIVATE: Check = Check::error(
    "private",
    "keys, secrets and states are for root alone",
    private,
)
.fixable();

pub const FIREWALL: Check = Check::warning(
    "firewall",
    "the front is not reached through a firewall that is closed to HTTP and HTTPS",
    firewall,
);

pub const OPERATOR_KEYS: Check = Check::warning(
    "operator-keys",
    "whoever takes a host with them can read and forge every backup",
    operator_keys,
);

/// Types of files that nobody has labelled.
const NO_LABELS: [&str; 2] = ["unlabeled_t", "default_t"];

fn selinux(evidence: &Evidence) -> Finding {
    let found = format!("SELinux is {}", evidence.selinux);
    if evidence.selinux == "permissive" {
        warning(
            found,
            "setenforce 1, and SELINUX=enforcing in /etc/selinux/config",
        )
    } else {
        ok(found)
    }
}

fn labels(evidence: &Evidence) -> Finding {
    if evidence.selinux != "enforcing" {
        return ok("nothing depends on labels: SELinux does not enforce");
    }
    let remedy = "restorecon -RF the places named";
    let labels = match &evidence.host.labels {
        Ok(labels) => labels,
        Err(why) => return unknown(why, remedy),
    };
    let is_bad = |label: &str| {
        let kind = label.split(':').nth(2).unwrap_or_default();
        kind.is_empty() || NO_LABELS.contains(&kind)
    };
    let bad: Vec<_> = labels
        .iter()
        .filter(|(_, label)| is_bad(label))
        .map(|(path, _)| path.as_str())
        .collect();
    if bad.is_empty() {
        ok(format!("{} places are labelled", labels.len()))
    } else {
        warning(format!("without a label: {}", bad.join(", ")), remedy)
    }
}

fn private(evidence: &Evidence) -> Finding {
    let remedy = "`tenantd doctor --fix` takes access from everybody but root";
    match &evidence.units.open_places {
        Err(why) => unknown(why, remedy),
        Ok(open) if open.is_empty() => ok("keys, secrets and states are for root alone"),
        Ok(open) => failed(
            format!("others than root may enter or read {}", open.join(", ")),
            remedy,
        )
        .mended_by(
            open.iter()
                .map(|path| Fix::MakePrivate { path: path.clone() }),
        ),
    }
}

fn firewall(evidence: &Evidence) -> Finding {
    let remedy =
        "firewall-cmd --permanent --add-service=http --add-service=https && firewall-cmd --reload";
    let services = match &evidence.host.firewall {
        Err(why) => return unknown(why, remedy),
        Ok(Firewall::Absent) => return ok("firewalld does not run"),
        Ok(Firewall::Lets(services)) => services,
    };
    if evidence
        .front
        .as_ref()
        .is_none_or(|front| front.mode == "none")
    {
        return ok("firewalld runs, and there is no front to reach");
    }
    let closed: Vec<_> = ["http", "https"]
        .into_iter()
        .filter(|service| !services.contains(*service))
        .collect();
    if closed.is_empty() {
        ok("firewalld lets HTTP and HTTPS in")
    } else {
        warning(
            format!("firewalld does not let {} in", closed.join(" and ")),
            remedy,
        )
    }
}

fn operator_keys(evidence: &Evidence) -> Finding {
    if evidence.operator_keys_on_host {
        warning(
            "the operator's keys are on this host: whoever takes it can read and forge all backups",
            crate::node::OPERATOR_KEYS_REMEDY,
        )
    } else {
        ok("the operator's keys are not on this host")
    }
}
