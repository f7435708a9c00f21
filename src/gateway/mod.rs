//! The per-tenant doors: unprivileged, socket-activated processes that carry a tenant's traffic.
//! They work without the control daemon and never read the state database.

pub mod egress;
pub mod endpoints;
mod hop_by_hop;
pub mod ingress;
