//! What of a tenant's units leads to its egress door: the sockets that the agent requires, and the variables by which
//! programs find the proxy. Where the agent may go is in the door's own file.

use super::escape;
use super::unit_file::UnitText;
use crate::gateway::egress::PROXY;
use crate::tenant::{EgressMode, ResolvedSpec};

/// Whether the tenant has sockets of an egress door at all.
pub fn is_open(spec: &ResolvedSpec) -> bool {
    spec.egress.mode != EgressMode::None
}

/// Names the proxy to the agent's programs, unless its spec says otherwise.
///
/// Both spellings, since programs disagree; `HTTP_PROXY` in capitals is left out where a program would take it from a
/// request's header (CGI, CVE-2016-5385), and all that read it read the small one.
pub fn variables(unit: &mut UnitText, spec: &ResolvedSpec) {
    if !is_open(spec) {
        return;
    }
    let proxy = format!("http://127.0.0.1:{PROXY}");
    let local = "localhost,127.0.0.1,::1";
    let variables = [
        ("http_proxy", proxy.as_str()),
        ("https_proxy", &proxy),
        ("HTTPS_PROXY", &proxy),
        ("no_proxy", local),
        ("NO_PROXY", local),
        // Node 24 reads the others only if this is set.
        ("NODE_USE_ENV_PROXY", "1"),
    ];
    unit.comment(
        "For programs that ask for a proxy; those that do not find their way by the name server.",
    );
    for (name, value) in variables {
        if !spec.env.contains_key(name) {
            unit.key("Environment", escape::word(&format!("{name}={value}")));
        }
    }
}
