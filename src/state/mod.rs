//! The state database (`SQLite`): tenants, revisions, operations, audit, tokens.
//! It stores and finds; what a row means is decided elsewhere.
//!
//! One file, written by the daemon alone, on one thread of its own: a call waits for
//! its turn there and never blocks the runtime. Every write is durable when it returns
//! (`synchronous=FULL`), because an effect may follow it.

mod audit;
mod database;
mod endings;
mod error;
mod failures;
mod id_ranges;
mod in_force;
mod operations;
mod overview;
mod restored;
mod revisions;
mod schema;
mod tenant_changes;
mod tenants;
mod tokens;
mod transitions;
mod trials;

pub use audit::AuditEntry;
pub use database::{Database, copy_database};
pub use endings::Ending;
pub use error::StateError;
pub use failures::{Retry, Rollback};
pub use operations::{Operation, OperationId, OperationKind, OperationProgress, OperationStatus};
pub use overview::Overview;
pub use restored::{limits_in, put_off_erasures};
pub use revisions::{MadeRevision, StoredRevision};
pub use tenants::{TenantRow, Wanted};
pub use tokens::TokenRow;
pub use transitions::{Goal, Transition, Why};
pub use trials::Trial;
