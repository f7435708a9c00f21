//! What Podman tells about the tenants' containers: hints that a unit's state does not hold,
//! such as that it was memory that an agent was killed for.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;

use super::engine::Engine;
use super::supervisor::judge_one;
use crate::host::clock;
use crate::host::podman::ContainerEvent;
use crate::tenant::TenantId;

/// First and longest pause before Podman is listened to again.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// Follows Podman's events for as long as the process lives. Without Podman the tenants run
/// on, and systemd still tells most of it.
pub async fn watch(engine: Arc<Engine>) {
    let mut since = clock::now();
    let mut pause = PAUSE.0;
    loop {
        let mut events = engine.podman.events(since);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    pause = PAUSE.0;
                    since = event.at.unwrap_or(since);
                    take(&engine, event).await;
                }
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "no events");
                    break;
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

async fn take(engine: &Engine, event: ContainerEvent) {
    let Some(tenant) = tenant_of(&event.container) else {
        return;
    };
    let tells = match event.action.as_str() {
        // Comes before `die`; the kernel's word for it.
        "oom" => Some("killed for lack of memory".to_owned()),
        "die" => event
            .exit_code
            .map(|code| format!("ended with exit code {code}")),
        "start" => None,
        // The rest (exec, health, pause, …) says nothing about how it ended.
        _ => return,
    };
    {
        let mut views = engine.views();
        // An exit code after the lack of memory is its consequence.
        let keeps = event.action == "die" && views.is_out_of_memory(&tenant);
        if !keeps {
            views.note_container(&tenant, tells);
        }
    }
    if let Err(error) = judge_one(engine, &tenant).await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "cannot record a change"
        );
    }
}

fn tenant_of(container: &str) -> Option<TenantId> {
    container.strip_prefix("tenant-")?.parse().ok()
}
