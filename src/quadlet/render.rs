//! Turns a resolved spec into the files of its unit set.
//! Pure: the same arguments give the same bytes.

use crate::layout::{Layout, UnitNames};
use crate::tenant::{
    EgressRuntime, ImageId, Period, ResolvedSpec, RevisionNumber, Runtime, SecretVersions,
    StorageLimit, TenantId, WakeMode,
};

use super::facts::{Controller, HostFacts, IdRange};
use super::unit_file::UnitText;
use super::unit_set::{UnitFile, UnitSet};
use super::{container, endpoints, secrets, slice};

/// Failed starts in a row before systemd gives up on an agent.
pub(super) const RESTARTS: u32 = 5;
/// Longest pause between two starts; the pauses grow from one second to it.
pub(super) const RESTART_MAX_DELAY: Period = Period::from_seconds(30);
/// What Podman needs beside the agent: to make a container, or to remove it.
const PODMAN_MARGIN: Period = Period::from_seconds(15);

/// Why a tenant cannot be rendered for this host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A limit could not be enforced.
    #[error(
        "tenant {tenant}: this host has no {} controller for cgroups, so its limits cannot be kept; \
         enable it, or write `allow-missing-controllers = true` into /etc/tenantd/node.toml to go without",
        list(controllers)
    )]
    MissingControllers {
        /// The tenant.
        tenant: TenantId,
        /// What the host lacks.
        controllers: Vec<Controller>,
    },
}

fn list(controllers: &[Controller]) -> String {
    controllers
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The files of one revision of a tenant.
///
/// `image` is the id that the spec's image has now, `versions` has a version of each of its secrets; `ids` is the
/// tenant's own range for life.
///
/// # Errors
/// The host lacks a controller that a limit needs, and nobody allowed that.
pub fn render(
    spec: &ResolvedSpec,
    revision: RevisionNumber,
    image: &ImageId,
    versions: &SecretVersions,
    ids: IdRange,
    facts: &HostFacts,
    layout: &Layout,
) -> Result<UnitSet, RenderError> {
    let missing = facts.missing_controllers();
    if !missing.is_empty() && !facts.allow_missing_controllers {
        return Err(RenderError::MissingControllers {
            tenant: spec.tenant.clone(),
            controllers: missing,
        });
    }
    let tenant = &spec.tenant;
    let names = UnitNames(tenant);
    let units = layout.unit_dir();
    let socket = names.instance("ingress", "socket");
    let mut set = UnitSet::default();
    set.add(
        layout.quadlet_dir(tenant).join(names.quadlet_file()),
        UnitFile::Text(container::text(spec, revision, image, ids, facts, layout)),
    );
    set.add(
        units.join(names.slice()),
        UnitFile::Text(slice::text(spec, revision, facts)),
    );
    set.add(
        units.join("sockets.target.wants").join(socket),
        UnitFile::Link(units.join("tenantd-ingress@.socket")),
    );
    if spec.wake == WakeMode::Scheduled {
        let timer = names.instance("wake", "timer");
        set.add(
            units.join("timers.target.wants").join(&timer),
            UnitFile::Link(units.join("tenantd-wake@.timer")),
        );
        set.add(
            units.join(format!("{timer}.d")).join("50-tenantd.conf"),
            UnitFile::Text(wake_timer(spec, revision)),
        );
    }
    if let Some(port) = spec.loopback_port {
        let socket = names.instance("loopback", "socket");
        set.add(
            units.join("sockets.target.wants").join(socket),
            UnitFile::Link(units.join("tenantd-loopback@.socket")),
        );
        set.add(
            layout.loopback_drop_in(tenant),
            UnitFile::Text(loopback(spec, revision, port)),
        );
    }
    set.add(layout.journal_conf(tenant), UnitFile::Text(journal(spec)));
    set.add(
        layout.runtime_file(tenant),
        UnitFile::Text(runtime_json(spec, revision, versions, ids, facts)),
    );
    set.add(
        layout.egress_file(tenant),
        UnitFile::Text(egress_json(spec)),
    );
    if !spec.endpoints.endpoints.is_empty() {
        let socket = names.instance("endpoints", "socket");
        set.add(
            units.join("sockets.target.wants").join(socket),
            UnitFile::Link(units.join("tenantd-endpoints@.socket")),
        );
        set.add(
            layout.endpoints_drop_in(tenant),
            UnitFile::Text(endpoints::drop_in(spec, versions, layout)),
        );
    }
    if spec.has_agent_secrets() {
        set.add(
            layout.secrets_drop_in(tenant),
            UnitFile::Text(secrets::drop_in(spec, revision, versions, layout)),
        );
    }
    Ok(set)
}

/// The comment that every rendered file begins with.
pub(super) fn headline(spec: &ResolvedSpec, revision: RevisionNumber) -> String {
    format!(
        "tenantd wrote this for tenant {}, revision {revision}. Change the spec, not this file.",
        spec.tenant
    )
}

/// Longest time from the start of the container to its first answer.
pub(super) fn start_timeout(spec: &ResolvedSpec) -> Period {
    spec.start_probe.timeout.plus(PODMAN_MARGIN)
}

/// Longest time from asking the agent to end until its container is gone.
pub(super) fn stop_timeout(spec: &ResolvedSpec) -> Period {
    spec.stop.timeout.plus(PODMAN_MARGIN)
}

/// The time in which [`RESTARTS`] starts count as a crash loop, even if each takes as long as
/// it may: a shorter one would let an agent that never answers try for ever. Stopping is not
/// counted in, since agents also restart themselves and a long window would punish them.
pub(super) fn restart_window(spec: &ResolvedSpec) -> Period {
    start_timeout(spec).plus(RESTART_MAX_DELAY).times(RESTARTS)
}

/// The drop-in of `tenantd-loopback@` that names its port.
fn loopback(spec: &ResolvedSpec, revision: RevisionNumber, port: u16) -> String {
    let mut unit = UnitText::new(headline(spec, revision));
    unit.section("Socket")
        .key("ListenStream", format_args!("127.0.0.1:{port}"));
    unit.finish()
}

/// Settings of the tenant's own journal. They name no revision: the journal is restarted when
/// they change, and only then.
fn journal(spec: &ResolvedSpec) -> String {
    let mut conf = UnitText::new(format_args!(
        "tenantd wrote this for tenant {}. Change the spec, not this file.",
        spec.tenant
    ));
    conf.section("Journal")
        .key("Storage", "persistent")
        .key("SystemMaxUse", spec.limits.log_size.bytes())
        .key("MaxRetentionSec", spec.limits.log_retention);
    conf.finish()
}

/// When a scheduled agent is woken: after a boot, and again so long after it was last.
fn wake_timer(spec: &ResolvedSpec, revision: RevisionNumber) -> String {
    let mut conf = UnitText::new(headline(spec, revision));
    conf.section("Timer")
        .key("OnActiveSec", spec.sleep.every)
        .key("OnUnitInactiveSec", spec.sleep.every);
    conf.finish()
}

/// What the egress door reads. It names no revision: the door looks at it again when it changes, and only then.
fn egress_json(spec: &ResolvedSpec) -> String {
    let egress = EgressRuntime {
        tenant: spec.tenant.clone(),
        policy: spec.egress.clone(),
        volume: spec.limits.egress.bytes(),
    };
    // Strings, numbers and lists always serialise.
    let json = serde_json::to_string_pretty(&egress);
    format!("{}\n", json.expect("EgressRuntime has no map"))
}

fn runtime_json(
    spec: &ResolvedSpec,
    revision: RevisionNumber,
    versions: &SecretVersions,
    ids: IdRange,
    facts: &HostFacts,
) -> String {
    let runtime = Runtime {
        tenant: spec.tenant.clone(),
        revision: revision.0,
        port: spec.port,
        start_probe: spec.start_probe.http.clone(),
        start_timeout_seconds: spec.start_probe.timeout.seconds(),
        live_probe: spec.live_probe.clone(),
        wake: spec.wake,
        sleep: spec.wake.sleeps().then_some(spec.sleep),
        idle_probe: spec.idle_probe.clone().filter(|_| spec.wake.sleeps()),
        state: spec.state.clone(),
        quiesce: spec.quiesce.clone(),
        storage: facts.project_quotas.then(|| StorageLimit {
            project: ids.start(),
            bytes: spec.limits.storage.bytes(),
        }),
        secrets: secrets::delivery(spec, versions, ids),
        endpoints: (!spec.endpoints.is_empty()).then(|| spec.endpoints.clone()),
    };
    let json = serde_json::to_string_pretty(&runtime);
    // Strings, numbers and lists always serialise.
    format!(
        "{}\n",
        json.expect("Runtime has no map with other keys than strings")
    )
}
