//! Decides (pure) which steps bring a tenant from what is observed to what is wanted, and
//! applies them. Every step is idempotent and recorded before it runs.
//!
//! | file | what it is |
//! |---|---|
//! | `decide`, `judge` | pure: the next steps; where a tenant stands |
//! | `verbs`, `diagnose`, `policy` | pure: what may be done to it; why it failed; what follows from that |
//! | `recover` | what tenantd does by itself: tries again, erases what is due |
//! | `engine`, `run` | operations: recorded, one at a time per tenant, taken up after a crash |
//! | `operations/` | what each kind of operation does |
//! | `converge`, `observe`, `installer`, `starts` | taking the steps: files, systemd, the agent |
//! | `front/` | the public front: hosts, Caddy, loopback ports |
//! | `limits` | the limits of an agent that runs, changed under it |
//! | `trial`, `trials` | pure: what becomes of a revision on trial; who watches them |
//! | `attempts`, `evidence` | what is kept of failed attempts |
//! | `supervisor`, `containers`, `view` | what systemd and Podman tell, and what follows for the records |
//! | `specs_dir` | specs placed as files |
//! | `queries`, `revisions`, `egress` | what the API shows |
//! | `secrets` | which version of each secret a spec leads to, and who uses which |

mod admission;
mod approach;
mod attempts;
pub mod backup_timer;
mod capacity;
pub mod containers;
mod converge;
mod decide;
mod diagnose;
pub mod drift;
mod egress;
mod endpoints;
mod engine;
mod error;
mod evidence;
pub mod front;
mod image;
mod ingress;
mod installer;
mod judge;
mod limits;
#[cfg(test)]
mod model_tests;
mod observe;
mod operations;
mod policy;
mod progress;
mod pull;
mod queries;
mod recover;
mod revisions;
mod room;
mod run;
mod secrets;
mod sleep;
pub mod specs_dir;
mod starts;
pub mod supervisor;
mod tenant_locks;
mod trial;
pub mod trials;
mod usage;
mod verbs;
mod view;
mod watched;

pub use admission::Bound;
pub use engine::{Engine, asked};
pub use error::OperationError;
pub use image::Images;
pub use operations::{
    ApplyJob, Identity, RollbackJob, check_revision, plan, preview, refuse, resolve_all,
    settle_rollback,
};
pub use recover::tend;

/// Runs work that blocks (files, processes) away from the tasks that must not wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        // The work panicked: so does the caller, with the same message.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
