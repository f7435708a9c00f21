//! Loopback sockets: a tenant's port on the host's own 127.0.0.1. Which port is in the unit's drop-in, a part of the unit
//! set; here the sockets are opened, moved and closed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::FrontError;
use crate::front::{Sites, WaysIn};
use crate::host::systemd::ActiveState;
use crate::layout::UnitNames;
use crate::reconcile::blocking;
use crate::reconcile::engine::Engine;
use crate::tenant::TenantId;

/// What a socket needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// It is to be opened.
    Open,
    /// It listens somewhere else than it should.
    Move,
}

/// Opens those that are wanted and closes the others.
pub(super) async fn apply(
    engine: &Engine,
    ways: &[WaysIn],
    sites: &Sites,
) -> Result<(), FrontError> {
    let units = engine
        .systemd
        .list_units(&["tenantd-loopback@*.socket"])
        .await?;
    let active: BTreeSet<_> = units
        .into_iter()
        .filter(|unit| unit.active == ActiveState::Active)
        .map(|unit| unit.name)
        .collect();
    let wanted = wanted(ways, sites);
    if active.is_empty() && wanted.is_empty() {
        return Ok(());
    }
    let table = blocking(|| fs::read_to_string("/proc/net/tcp").unwrap_or_default()).await;
    let listening = listening(&table);
    let socket = |tenant: &TenantId| UnitNames(tenant).instance("loopback", "socket");
    for (tenant, port) in &wanted {
        let (name, is_open) = (socket(tenant), active.contains(&socket(tenant)));
        let Some(need) = need(is_open, listening.contains(port)) else {
            continue;
        };
        if need == Need::Move {
            close(engine, tenant).await?;
        }
        engine.systemd.reset_failed(&name).await?;
        if engine.systemd.start(&name).await?.is_done() {
            tracing::info!(%tenant, port, "is reached by the host's loopback");
        } else {
            tracing::warn!(%tenant, port, "the loopback port cannot be opened; `systemctl status {name}` tells why");
        }
    }
    let kept: BTreeSet<_> = wanted.keys().map(socket).collect();
    for name in active.difference(&kept) {
        engine.systemd.stop(name).await?;
        engine
            .systemd
            .stop(&name.replace(".socket", ".service"))
            .await?;
    }
    Ok(())
}

async fn close(engine: &Engine, tenant: &TenantId) -> Result<(), FrontError> {
    let names = UnitNames(tenant);
    // A socket whose service runs cannot be opened anew.
    engine
        .systemd
        .stop(&names.instance("loopback", "socket"))
        .await?;
    engine
        .systemd
        .stop(&names.instance("loopback", "service"))
        .await?;
    Ok(())
}

/// The ports that tenants have; one that another has as well is nobody's here but the first's.
fn wanted(ways: &[WaysIn], sites: &Sites) -> BTreeMap<TenantId, u16> {
    let clashes = |ways: &WaysIn, port| {
        let what = format!("the loopback port {port}");
        sites
            .clashes
            .iter()
            .any(|clash| clash.tenant == ways.tenant && clash.what == what)
    };
    ways.iter()
        .filter_map(|ways| Some((ways, ways.loopback_port?)))
        .filter(|(ways, port)| !clashes(ways, *port))
        .map(|(ways, port)| (ways.tenant.clone(), port))
        .collect()
}

fn need(is_open: bool, listens: bool) -> Option<Need> {
    match (is_open, listens) {
        (true, true) => None,
        (true, false) => Some(Need::Move),
        (false, _) => Some(Need::Open),
    }
}

/// The ports of 127.0.0.1 on which somebody listens, from the text of `/proc/net/tcp` (`proc_net(5)`: address and port in
/// hexadecimal, the address as the processor has it; state 0A is LISTEN).
fn listening(table: &str) -> BTreeSet<u16> {
    let port = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (address, port) = fields.next()?.split_once(':')?;
        let is_listening = fields.nth(1)? == "0A" && address == LOOPBACK;
        is_listening.then(|| u16::from_str_radix(port, 16).ok())?
    };
    table.lines().skip(1).filter_map(port).collect()
}

/// 127.0.0.1 on a little-endian processor, which all are that this runs on.
const LOOPBACK: &str = "0100007F";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_listened_on_by_who_listens_on_the_loopback() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
             0: 0100007F:46A0 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1\n\
             1: 0100007F:46A1 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 1\n\
             2: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1\n\
             3: nonsense\n";
        assert_eq!(listening(table), [18080].into());
    }

    #[test]
    fn a_socket_is_moved_only_if_it_listens_elsewhere() {
        assert_eq!(need(true, true), None);
        assert_eq!(need(true, false), Some(Need::Move));
        assert_eq!(need(false, false), Some(Need::Open));
        // Somebody else has the port: systemd says so.
        assert_eq!(need(false, true), Some(Need::Open));
    }
}
