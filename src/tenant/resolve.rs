//! Lays a spec over its template, adds its plan and the defaults, and checks the result.
//! The only place where a default is chosen.

use std::collections::BTreeSet;

use super::check;
use super::resolved::{LiveProbe, ResolvedSpec, ResolvedStop, StartProbe};
use super::tables::{Container, Mounts, Over, Probe, Quiesce};
use super::{
    EndpointSettings, HttpProbe, ModelPrice, Period, Plan, Problem, QuiesceCalls, Secrets,
    SleepTimes, Spec, StateMount, Template,
};
use super::{endpoint, secret};

/// Longest wait for the start probe, where the template says nothing.
const START_TIMEOUT: Period = Period::from_seconds(120);
/// Pace of the live probe; each run is one small HTTP request from outside the container.
const LIVE_INTERVAL: Period = Period::from_seconds(30);
/// Longest wait for one answer of the live probe.
const LIVE_TIMEOUT: Period = Period::from_seconds(10);
/// Longest wait for the answer of an agent that is to put its files in order.
const QUIESCE_TIMEOUT: Period = Period::from_seconds(10);
/// Time to end; with the margin for Podman it stays below Fedora's 45 s.
const STOP_TIMEOUT: Period = Period::from_seconds(30);

/// Fills in everything that `spec` leaves open. `prices` has the models of a price table.
///
/// # Errors
/// All problems that only show with template and plan at hand; their fields name keys of the
/// spec, so that [`super::Source::locate`] can place them.
#[expect(
    clippy::too_many_lines,
    reason = "one table after the other, and then one field"
)]
pub fn resolve(
    spec: &Spec,
    template: &Template,
    plan: &Plan,
    prices: impl Fn(&str) -> Option<Vec<ModelPrice>>,
) -> Result<ResolvedSpec, Vec<Problem>> {
    let container = spec.container.clone().over(template.container.clone());
    let ingress = spec.ingress.clone().over(template.ingress.clone());
    let of_plan = plan.egress.clone().over(template.egress.clone());
    let egress = spec.egress.clone().over(of_plan);
    let probes = spec.probes.clone().over(template.probes.clone());
    let state = spec.state.clone().over(template.state.clone());
    let cache = spec.cache.clone().over(template.cache.clone());
    let backup = spec.backup.clone().over(template.backup.clone());
    let stop = spec.stop.clone().over(template.stop.clone());
    let mut env = spec.env.clone().over(template.env.clone());
    let secrets = spec.secrets.clone().over(template.secrets.clone());
    let endpoints = spec.endpoints.clone().over(template.endpoints.clone());
    let spending = spec.spending.clone().over(plan.spending.clone());

    let mut problems = grants(spec, template);
    problems.extend(check::tables(&check::Tables {
        env: &env,
        secrets: &secrets,
        endpoints: &endpoints,
        container: &container,
        ingress: &ingress,
        egress: &egress,
        probes: &probes,
        state: &state,
        cache: &cache,
        backup: &backup,
        stop: &stop,
    }));
    let endpoints = endpoint::resolve(&endpoints, spending, &secrets, prices);
    let endpoints = endpoints.unwrap_or_else(|found| {
        problems.extend(found);
        EndpointSettings::default()
    });
    let is_agents = |name: &str| name.parse().is_ok_and(|name| !endpoints.has_key(&name));
    let agents = secrets.iter().filter(|(name, _)| is_agents(name));
    let agents = agents
        .map(|(name, secret)| (name.clone(), secret.clone()))
        .collect();
    problems.extend(needs_of_secrets(&agents, &container, &template.name));
    let mut missing = |field: &[&str], what: &str, example: &str| {
        problems.push(
            Problem::at(
                field.iter().copied(),
                format!(
                    "template `{}` has no {what}, so the spec must name one",
                    template.name
                ),
            )
            .help(format!("such as `{} = {example}`", field.join("."))),
        );
    };
    let image = spec.image.clone().or_else(|| template.image.clone());
    if image.is_none() {
        missing(&["image"], "image", "\"localhost/agent:1\"");
    }
    if ingress.port.is_none() {
        missing(&["ingress", "port"], "port", "8080");
    }
    if probes.start.path.is_none() {
        missing(&["probes", "start", "path"], "start probe", "\"/health\"");
    }
    for (table, mounts) in [("state", &state), ("cache", &cache)] {
        for (name, _) in mounts.iter().filter(|(_, mount)| mount.path.is_none()) {
            missing(&[table, name, "path"], "path for it", "\"/data\"");
        }
    }
    let (Some(image), Some(port), Some(start), true) = (
        image,
        ingress.port,
        http(&probes.start),
        problems.is_empty(),
    ) else {
        return Err(problems);
    };
    let secrets = secret::resolve(secrets);
    env.extend(endpoints.variables(&secrets));
    Ok(ResolvedSpec {
        tenant: spec.id.clone(),
        template: template.name.clone(),
        plan: plan.name.clone(),
        image,
        wake: spec.wake.unwrap_or(plan.wake),
        sleep: SleepTimes::of(&spec.sleep.over(plan.sleep)),
        env,
        secrets,
        endpoints,
        command: container.command,
        args: container.args,
        user: container.user,
        capabilities: container.capabilities.into_iter().flatten().collect(),
        read_only: container.read_only.unwrap_or(true),
        init: container.init.unwrap_or(true),
        tmpfs: container.tmpfs.unwrap_or_default(),
        workdir: container.workdir,
        shm_size: container.shm_size,
        port,
        hosts: spec.hosts.clone(),
        loopback_port: spec.loopback_port,
        egress: egress.resolved(),
        start_probe: StartProbe {
            http: start,
            timeout: probes.start.timeout.unwrap_or(START_TIMEOUT),
        },
        live_probe: live(&probes.live),
        idle_probe: http(&probes.idle),
        state: named(state),
        cache: named(cache),
        quiesce: quiesce(backup.quiesce),
        stop: ResolvedStop {
            timeout: stop.timeout.unwrap_or(STOP_TIMEOUT),
            signal: stop.signal,
            kill_mode: stop.kill_mode.unwrap_or_default(),
            fatal_exit_codes: stop.fatal_exit_codes.into_iter().flatten().collect(),
        },
        limits: plan.limits.clone(),
    })
}

/// Secrets are files of a user, and variables of a command: both must be named.
fn needs_of_secrets(secrets: &Secrets, container: &Container, template: &str) -> Vec<Problem> {
    let has_variables = secrets.values().any(|secret| secret.env.is_some());
    let needs = [
        (
            !secrets.is_empty() && container.user.is_none(),
            "user",
            "user, whose files the secrets would be",
            "{ uid = 1000, gid = 1000 }",
        ),
        (
            has_variables && container.command.is_none(),
            "command",
            "command, which could be given secrets as variables",
            "[\"/usr/bin/agent\"]",
        ),
    ];
    let missing = needs.into_iter().filter(|(is_missing, ..)| *is_missing);
    let problem = |(_, key, what, example)| {
        Problem::at(
            ["container", key],
            format!("template `{template}` has no {what}, so the spec must name one"),
        )
        .help(format!("such as `container.{key} = {example}`"))
    };
    missing.map(problem).collect()
}

/// A spec may lower what its template grants, never raise it.
fn grants(spec: &Spec, template: &Template) -> Vec<Problem> {
    let remedy = || {
        format!(
            "to grant it, put a template of your own into /etc/tenantd/templates.d (`tenantd templates {}` prints one to begin with)",
            template.name
        )
    };
    let granted: BTreeSet<_> = template.container.capabilities.iter().flatten().collect();
    let mut problems: Vec<_> = spec
        .container
        .capabilities
        .iter()
        .flatten()
        .enumerate()
        .filter(|(_, capability)| !granted.contains(capability))
        .map(|(index, capability)| {
            Problem::at(
                ["container", "capabilities", &index.to_string()],
                format!("template `{}` does not grant {capability}", template.name),
            )
            .help(remedy())
        })
        .collect();
    if spec.container.read_only == Some(false) && template.container.read_only != Some(false) {
        problems.push(
            Problem::at(
                ["container", "read-only"],
                format!(
                    "template `{}` does not grant a writable image",
                    template.name
                ),
            )
            .help(remedy()),
        );
    }
    problems
}

fn http(probe: &Probe) -> Option<HttpProbe> {
    probe.path.clone().map(|path| HttpProbe {
        path,
        json: probe.json.unwrap_or(false),
    })
}

fn live(probe: &Probe) -> Option<LiveProbe> {
    http(probe).map(|http| LiveProbe {
        http,
        interval: probe.interval.unwrap_or(LIVE_INTERVAL),
        timeout: probe.timeout.unwrap_or(LIVE_TIMEOUT),
    })
}

fn quiesce(quiesce: Quiesce) -> Option<QuiesceCalls> {
    Some(QuiesceCalls {
        begin: quiesce.begin?,
        end: quiesce.end,
        timeout_seconds: quiesce.timeout.unwrap_or(QUIESCE_TIMEOUT).seconds(),
        required: quiesce.required.unwrap_or(false),
    })
}

fn named(mounts: Mounts) -> Vec<StateMount> {
    mounts
        .into_iter()
        .filter_map(|(name, mount)| mount.path.map(|path| StateMount { name, path }))
        .collect()
}
