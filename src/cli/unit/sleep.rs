//! The sleep service, as its unit runs it.

use tokio::net::UnixStream;

use super::listener_on_stdin;
use crate::host::facts;
use crate::host::peer;
use crate::host::systemd::Systemd;
use crate::layout::Layout;
use crate::sleep::{Peer, Service};
use crate::tenant::TenantId;

/// Agents that start at a time for each processor, and at least.
const STARTS: (usize, usize) = (2, 4);

/// Serves until it is ended.
pub(super) async fn serve(layout: &Layout) -> anyhow::Result<()> {
    let listener = listener_on_stdin()?;
    let systemd = Systemd::connect().await?;
    let starts = (STARTS.0 * facts::processors()).max(STARTS.1);
    let service = Service::new(layout.clone(), Box::new(systemd), starts);
    service.run(listener, who).await;
    Ok(())
}

/// A door is known by its unit; anybody else must be root.
fn who(stream: &UnixStream) -> Option<Peer> {
    let credentials = stream.peer_cred().ok()?;
    let unit = credentials.pid().and_then(peer::unit_of);
    if let Some(tenant) = unit.as_deref().and_then(tenant_of) {
        return Some(Peer::Door(tenant));
    }
    (credentials.uid() == 0).then_some(Peer::Root)
}

/// The tenant of a door's unit. An id has no other sign that systemd escapes than the dash.
fn tenant_of(unit: &str) -> Option<TenantId> {
    let instance = unit.strip_prefix("tenantd-ingress@")?;
    let instance = instance.strip_suffix(".service")?;
    instance.replace("\\x2d", "-").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::UnitNames;

    #[test]
    fn a_door_speaks_for_the_tenant_of_its_unit() {
        for id in ["acme", "foo-bar"] {
            let tenant: TenantId = id.parse().unwrap();
            let unit = UnitNames(&tenant).instance("ingress", "service");
            assert_eq!(tenant_of(&unit), Some(tenant));
        }
        assert_eq!(tenant_of("tenantd-egress@acme.service"), None);
    }
}
