//! Whether a tenant's ingress socket can be where its users look for it.
//! systemd would take the path over from whoever has it, without a word.

use super::engine::Engine;
use super::error::OperationError;
use crate::host::files::FileError;
use crate::host::occupant::{self, Occupant};
use crate::host::systemd::ActiveState;
use crate::layout::UnitNames;
use crate::tenant::TenantId;

/// Refuses when something else than the tenant's own socket is at its path.
pub async fn check(engine: &Engine, tenant: &TenantId) -> Result<(), OperationError> {
    let unit = UnitNames(tenant).instance("ingress", "socket");
    let units = engine.systemd.units(&[unit.as_str()]).await?;
    if units.iter().any(|unit| unit.active == ActiveState::Active) {
        return Ok(());
    }
    let path = engine.layout.ingress_socket(tenant);
    let found = occupant::look(&path)
        .await
        .map_err(|source| FileError::Io {
            verb: "look at",
            path: path.clone(),
            source,
        })?;
    let (by, remedy) = match found {
        Occupant::Nobody | Occupant::Leftover => return Ok(()),
        Occupant::Listener(listener) => (listener.to_string(), "end it and apply again"),
        Occupant::NoSocket(what) => (what.to_owned(), "move it away and apply again"),
    };
    Err(OperationError::SocketTaken {
        tenant: tenant.clone(),
        path,
        by,
        remedy,
    })
}
