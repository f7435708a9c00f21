//! The Quadlet file of a tenant's agent.
//! Pure text, in keys that Podman 5.4 knows: an unknown one would make the whole unit vanish.

use super::egress;
use super::escape;
use super::facts::{Controller, HostFacts, IdRange};
use super::render::{RESTARTS, headline, restart_window, start_timeout, stop_timeout};
use super::secrets;
use super::unit_file::UnitText;
use crate::layout::{Layout, UnitNames};
use crate::tenant::{ImageId, ResolvedSpec, RevisionNumber};

pub fn text(
    spec: &ResolvedSpec,
    revision: RevisionNumber,
    image: &ImageId,
    ids: IdRange,
    facts: &HostFacts,
    layout: &Layout,
) -> String {
    let mut unit = UnitText::new(headline(spec, revision));
    unit_section(&mut unit, spec, facts, layout);
    unit.section("Quadlet")
        .comment("The agent's network is its own namespace: no wait for the host's.")
        .key("DefaultDependencies", false);
    unit.section("Container");
    identity(&mut unit, spec, revision, image, ids);
    process(&mut unit, spec);
    network(&mut unit, spec, layout);
    egress::variables(&mut unit, spec);
    isolation(&mut unit, spec, ids, facts);
    limits(&mut unit, spec, facts);
    files(&mut unit, spec, layout);
    secrets::mounts(&mut unit, spec, layout);
    service(&mut unit, spec, facts);
    // One that sleeps starts when somebody comes, not when the host does.
    if !spec.wake.sleeps() {
        unit.section("Install").key("WantedBy", "multi-user.target");
    }
    unit.finish()
}

fn unit_section(unit: &mut UnitText, spec: &ResolvedSpec, facts: &HostFacts, layout: &Layout) {
    let names = UnitNames(&spec.tenant);
    let mut needs = vec![
        names.instance("net", "service"),
        names.instance("restore", "service"),
    ];
    if spec.has_agent_secrets() {
        needs.push(names.instance("secrets", "service"));
    }
    if egress::is_open(spec) {
        needs.push(names.instance("egress", "socket"));
    }
    if !spec.endpoints.endpoints.is_empty() {
        needs.push(names.instance("endpoints", "socket"));
    }
    let needs = needs.join(" ");
    unit.section("Unit")
        .key(
            "Description",
            format_args!("Agent of tenant {}", spec.tenant),
        )
        .comment("A held tenant stays down whoever asks.")
        .key(
            "ConditionPathExists",
            format_args!("!{}", layout.held_file(&spec.tenant)),
        )
        .key("Requires", &needs)
        .key("After", &needs);
    if egress::is_open(spec) {
        unit.comment("Its door stays until the agent has ended.")
            .key("After", names.instance("egress", "service"));
    }
    if !spec.endpoints.endpoints.is_empty() {
        unit.comment("This one too.")
            .key("After", names.instance("endpoints", "service"));
    }
    if facts.project_quotas {
        let quota = names.instance("quota", "service");
        unit.comment(
            "Its directories may be new ones. An agent starts without a limit rather than not.",
        )
        .key("Wants", &quota)
        .key("After", &quota);
    }
    unit.comment(
        "At shutdown: a backup while the agent runs, then its end, then the final backup.",
    )
    .key("Before", "tenantd-prestop-backup.service")
    .key("After", "tenantd-final-backup.service")
    .comment("So many failed starts in a row, each as long as it may take, make it failed.")
    .key("StartLimitIntervalSec", restart_window(spec))
    .key("StartLimitBurst", RESTARTS);
}

fn identity(
    unit: &mut UnitText,
    spec: &ResolvedSpec,
    revision: RevisionNumber,
    image: &ImageId,
    ids: IdRange,
) {
    let map = format!("0:{}:{}", ids.start(), IdRange::LEN);
    unit.key("ContainerName", UnitNames(&spec.tenant).container())
        .key("HostName", &spec.tenant)
        .comment(&spec.image)
        .key("Image", image.hex())
        .key("Pull", "never")
        .key("Label", format_args!("tenantd.tenant={}", spec.tenant))
        .key("Label", format_args!("tenantd.revision={revision}"))
        .key("UIDMap", &map)
        .key("GIDMap", &map);
    if let Some(user) = spec.user {
        unit.key("User", user.uid).key("Group", user.gid);
    }
}

fn process(unit: &mut UnitText, spec: &ResolvedSpec) {
    unit.key_if(
        "Entrypoint",
        secrets::command(spec).as_deref().map(escape::json_words),
    );
    if let Some(args) = spec.args.as_ref().filter(|args| !args.is_empty()) {
        let words: Vec<_> = args.iter().map(|arg| escape::word(arg)).collect();
        unit.key("Exec", words.join(" "));
    }
    unit.key_if("WorkingDir", spec.workdir.as_ref());
    for (name, value) in &spec.env {
        unit.key("Environment", escape::word(&format!("{name}={value}")));
    }
    unit.key("RunInit", spec.init)
        .key_if("StopSignal", spec.stop.signal.as_ref())
        .key("StopTimeout", spec.stop.timeout.seconds())
        .comment(
            "tenantd asks from outside; an image's own health check would be an exec each time.",
        )
        .comment("HealthCmd=none would still make a timer, by one more process at each start.")
        .key("PodmanArgs", "--no-healthcheck")
        .comment("Straight to the tenant's journal, without a copy by Podman's monitor.")
        .key("LogDriver", "passthrough");
}

fn network(unit: &mut UnitText, spec: &ResolvedSpec, layout: &Layout) {
    unit.key("Network", format_args!("ns:{}", layout.netns(&spec.tenant)))
        .key("DNS", "127.0.0.1");
}

fn isolation(unit: &mut UnitText, spec: &ResolvedSpec, ids: IdRange, facts: &HostFacts) {
    unit.key("DropCapability", "all");
    for capability in &spec.capabilities {
        unit.key("AddCapability", format_args!("CAP_{capability}"));
    }
    unit.key("NoNewPrivileges", true)
        .key("ReadOnly", spec.read_only)
        .key("ReadOnlyTmpfs", true)
        .key_if(
            "SecurityLabelLevel",
            facts.selinux.then(|| ids.selinux_level()),
        );
}

/// The limits once more, on the container: the agent sees only these.
fn limits(unit: &mut UnitText, spec: &ResolvedSpec, facts: &HostFacts) {
    let limits = &spec.limits;
    let has = |controller| facts.controllers.contains(&controller);
    if has(Controller::Cpu) {
        unit.key("PodmanArgs", format_args!("--cpus={}", limits.cpus));
    }
    if has(Controller::Memory) {
        unit.key(
            "PodmanArgs",
            format_args!("--memory={}b", limits.memory.bytes()),
        );
        // Podman's name is for both together.
        unit.key(
            "PodmanArgs",
            format_args!(
                "--memory-swap={}b",
                limits.memory.plus(limits.swap()).bytes()
            ),
        );
    }
    if has(Controller::Pids) {
        unit.key("PidsLimit", limits.pids);
    }
    unit.key_if(
        "ShmSize",
        spec.shm_size.map(|size| format!("{}b", size.bytes())),
    );
}

/// `idmap` mounts a directory so that the ids on disk are the container's own.
fn files(unit: &mut UnitText, spec: &ResolvedSpec, layout: &Layout) {
    let state = layout.state_dir(&spec.tenant);
    let cache = layout.cache_dir(&spec.tenant);
    for (parent, mounts) in [(state, &spec.state), (cache, &spec.cache)] {
        for mount in mounts {
            let source = parent.join(&mount.name);
            unit.key(
                "Volume",
                format_args!("{source}:{}:idmap,nodev,nosuid", mount.path),
            );
        }
    }
    for path in &spec.tmpfs {
        unit.key("Tmpfs", path);
    }
}

fn service(unit: &mut UnitText, spec: &ResolvedSpec, facts: &HostFacts) {
    let names = UnitNames(&spec.tenant);
    let HostFacts { tenantd, .. } = facts;
    let tenant = &spec.tenant;
    unit.section("Service")
        .key("Slice", names.slice())
        .key("LogNamespace", names.journal_namespace())
        .comment("The start job is done when the agent answers.")
        .key(
            "ExecStartPost",
            format_args!("{tenantd} unit await-start {tenant}"),
        )
        .comment("A frozen process hears no signal: Podman would wait and then kill it.")
        .key("ExecStop", format_args!("-{tenantd} unit thaw {tenant}"))
        .key_if(
            "ExecStopPost",
            spec.has_agent_secrets()
                .then(|| format!("-{tenantd} unit secrets-down {tenant}")),
        )
        .key("TimeoutStartSec", start_timeout(spec))
        .key("TimeoutStopSec", stop_timeout(spec))
        .key("KillMode", spec.stop.kill_mode.as_str())
        .key("Restart", "always")
        .key("RestartSec", "1s")
        .key("RestartSteps", RESTARTS)
        .key("RestartMaxDelaySec", super::render::RESTART_MAX_DELAY)
        .comment("Ended by SIGTERM is ended well.")
        .key("SuccessExitStatus", "143");
    if !spec.stop.fatal_exit_codes.is_empty() {
        let codes: Vec<_> = spec
            .stop
            .fatal_exit_codes
            .iter()
            .map(u8::to_string)
            .collect();
        unit.key("RestartPreventExitStatus", codes.join(" "));
    }
}
