//! The tenants' user and group ids: nobody else on this host may be given one.

use super::super::Evidence;
use super::super::check::{Check, Finding, failed, ok, unknown, warning};
use super::super::fix::Fix;
use crate::node::subordinate_ids::{Reservation, reservation};

pub const SUBORDINATE_IDS: Check = Check::error(
    "subordinate-ids",
    "an id that two containers share lets one read the other's files",
    subordinate_ids,
)
.fixable();

fn subordinate_ids(evidence: &Evidence) -> Finding {
    let remedy = "give the tenants' range 1879048192:268435456 to `tenantd` alone in /etc/subuid and /etc/subgid";
    let mut missing = Vec::new();
    for (path, text) in &evidence.host.subordinate_ids {
        let text = match text {
            Ok(text) => text,
            Err(why) => return unknown(why, remedy),
        };
        match reservation(text) {
            Reservation::Taken(by) => {
                return failed(format!("{path} gives ids of the tenants to {by}"), remedy);
            }
            Reservation::Missing => missing.push(path.as_str()),
            Reservation::Made => {}
        }
    }
    if missing.is_empty() {
        return ok("the tenants' ids are reserved");
    }
    warning(
        format!(
            "the tenants' ids are not reserved in {}",
            missing.join(" and ")
        ),
        "`tenantd doctor --fix` reserves them",
    )
    .mended_by([Fix::ReserveIds])
}
