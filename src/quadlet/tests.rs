//! Complete unit sets, as they are installed.

use std::fmt::Write;

use super::{Controller, HostFacts, IdRange, RenderError, UnitFile, UnitSet, render};
use crate::layout::Layout;
use crate::tenant::{
    Catalog, ImageId, ResolvedSpec, RevisionNumber, SecretVersion, SecretVersions, Source,
    live_change,
};

pub(super) fn resolved(spec: &str) -> ResolvedSpec {
    let source = Source::new("test.toml", spec);
    match Catalog::builtin().resolve(&source) {
        Ok((_, resolved)) => resolved,
        Err(problems) => panic!("{problems}"),
    }
}

pub(super) fn image() -> ImageId {
    "0123456789abcdef".repeat(4).parse().unwrap()
}

/// A version of every secret that the specs of these tests have.
pub(super) fn versions() -> SecretVersions {
    let versions = [("DATABASE", 1), ("DISCORD", 12), ("GATEWAY_TOKEN", 3)];
    let versions = versions.map(|(name, version)| (name.parse().unwrap(), SecretVersion(version)));
    versions.into()
}

pub(super) fn rendered(spec: &str, facts: &HostFacts) -> Result<UnitSet, RenderError> {
    render(
        &resolved(spec),
        RevisionNumber(3),
        &image(),
        &versions(),
        IdRange::nth(1).unwrap(),
        facts,
        &Layout::default(),
    )
}

fn shown(set: &UnitSet) -> String {
    let mut out = String::new();
    for (path, file) in set.iter() {
        match file {
            UnitFile::Text(text) => write!(out, "==> {path}\n{text}\n").unwrap(),
            UnitFile::Link(target) => write!(out, "==> {path} -> {target}\n\n").unwrap(),
        }
    }
    out
}

pub(super) const OPENCLAW: &str = r#"
    id = "acme"
    template = "openclaw"
    [env]
    TZ = "Europe/Berlin"
"#;

pub(super) const GENERIC: &str = r#"
    id = "foo-bar"
    plan = "pro"
    image = "localhost/agent:1"
    [container]
    args = ["--verbose"]
    workdir = "/srv"
    tmpfs = ["/scratch"]
    shm-size = "256MiB"
    [ingress]
    port = 8080
    [probes.start]
    path = "/health"
    [state.data]
    path = "/data"
    [cache.models]
    path = "/models"
    [stop]
    signal = "SIGINT"
"#;

pub(super) const SECRETS: &str = r#"
    id = "with-secrets"
    image = "localhost/agent:1"
    container.command = ["/bin/agent", "$HOME"]
    container.user = { uid = 1000, gid = 100 }
    ingress.port = 8080
    probes.start.path = "/health"
    secrets.DATABASE = { file = "database.conf" }
    secrets.DISCORD = { env = "DISCORD_TOKEN" }
"#;

pub(super) const BACKUP: &str = "id = \"backup\"\ntemplate = \"nanobot\"\nplan = \"team\"\n";

pub(super) const SPACEBOT: &str = "id = \"space\"\ntemplate = \"spacebot\"\nplan = \"pro\"\n";

pub(super) const HOSTILE: &str = r#"
    id = "hostile"
    image = "localhost/agent:1"
    [container]
    command = ["/bin/sh", "-c", "echo \"$HOME\" '%h' ; exit \\$?", "", ";"]
    args = ["%n", "$$", "a\tb", "'", "\"", "\\", "-x ;", "ünï"]
    [env]
    DOLLAR = "$PATH ${PATH} $$"
    PERCENT = "100%% of %h"
    QUOTES = "'single' \"double\" \\back\\slash\\"
    SPACES = "  leading and trailing  "
    EMPTY = ""
    [ingress]
    port = 8080
    [probes.start]
    path = "/%7Euser?q=$1"
"#;

/// What is rendered is what `live_change` must know of: where it says that the agent runs on, the container's
/// file differs in limits only.
#[test]
fn a_change_without_a_restart_leaves_the_container_as_it_is_but_for_its_limits() {
    let container = |plan: &str| {
        let spec = GENERIC.replace("\"pro\"", &format!("\"{plan}\""));
        let spec = resolved(&spec);
        let path = Layout::default()
            .quadlet_dir(&spec.tenant)
            .join("tenant-foo-bar.container");
        let set = render(
            &spec,
            RevisionNumber(3),
            &image(),
            &SecretVersions::default(),
            IdRange::nth(1).unwrap(),
            &HostFacts::complete(),
            &Layout::default(),
        );
        let Some(UnitFile::Text(text)) = set.unwrap().get(&path).cloned() else {
            panic!("no {path}");
        };
        let is_limit = |line: &&str| {
            let limits = ["PodmanArgs=--cpus=", "PodmanArgs=--memory", "PidsLimit="];
            limits.iter().any(|limit| line.starts_with(limit))
        };
        let (limits, rest): (Vec<_>, Vec<_>) = text.lines().partition(is_limit);
        (spec.clone(), limits.join("\n"), rest.join("\n"))
    };
    let (pro, pro_limits, pro_rest) = container("pro");
    let (team, team_limits, team_rest) = container("team");
    assert!(live_change(&pro, &team).is_live());
    assert_ne!(pro_limits, team_limits);
    assert_eq!(pro_rest, team_rest);
}

#[test]
fn an_agent_that_sleeps_is_not_started_at_boot_and_one_that_polls_has_a_timer() {
    let set = |wake: &str| {
        let spec = format!("wake = \"{wake}\"\nsleep.every = \"5min\"\n{GENERIC}");
        rendered(&spec, &HostFacts::complete()).unwrap()
    };
    assert!(shown(&set("always-on")).contains("WantedBy=multi-user.target"));
    let on_demand = shown(&set("on-demand"));
    assert!(!on_demand.contains("WantedBy="), "{on_demand}");
    assert!(!on_demand.contains("tenantd-wake@"), "{on_demand}");
    let scheduled = set("scheduled");
    let units = Layout::default().unit_dir();
    let timer = units.join("tenantd-wake@foo\\x2dbar.timer.d/50-tenantd.conf");
    let Some(UnitFile::Text(text)) = scheduled.get(&timer) else {
        panic!("no {timer}");
    };
    assert!(text.contains("OnUnitInactiveSec=5min\n"), "{text}");
    let link = units.join("timers.target.wants/tenantd-wake@foo\\x2dbar.timer");
    assert!(scheduled.get(&link).is_some());
}

#[test]
fn openclaw() {
    insta::assert_snapshot!(shown(&rendered(OPENCLAW, &HostFacts::complete()).unwrap()));
}

#[test]
fn nanobot_of_a_tenant_called_backup() {
    insta::assert_snapshot!(shown(&rendered(BACKUP, &HostFacts::complete()).unwrap()));
}

#[test]
fn spacebot() {
    insta::assert_snapshot!(shown(&rendered(SPACEBOT, &HostFacts::complete()).unwrap()));
}

#[test]
fn generic_with_a_dash_in_its_id_under_selinux() {
    let facts = HostFacts {
        selinux: true,
        ..HostFacts::complete()
    };
    insta::assert_snapshot!(shown(&rendered(GENERIC, &facts).unwrap()));
}

#[test]
fn secrets_are_files_and_variables_and_no_values() {
    insta::assert_snapshot!(shown(&rendered(SECRETS, &HostFacts::complete()).unwrap()));
}

#[test]
fn a_key_goes_to_the_endpoints_door_and_not_to_the_agent() {
    let spec = format!(
        "{GENERIC}\n[secrets.DISCORD]\nenv = \"API_KEY\"\n[endpoints.anthropic]\nkey = \"DISCORD\"\n"
    );
    let set = rendered(&spec, &HostFacts::complete()).unwrap();
    let text = |path: &str| match set.get(path.into()) {
        Some(UnitFile::Text(text)) => text.clone(),
        other => panic!("{path}: {other:?}"),
    };
    let drop_in = "/etc/systemd/system/tenantd-endpoints@foo\\x2dbar.service.d/50-tenantd.conf";
    let key = "LoadCredentialEncrypted=DISCORD:/var/lib/tenantd/secrets/foo-bar/DISCORD/12.cred\n";
    assert!(text(drop_in).contains(key), "{}", text(drop_in));
    let container = text("/etc/containers/systemd/tenantd/foo-bar/tenant-foo-bar.container");
    for line in [
        "Environment=ANTHROPIC_BASE_URL=http://127.0.0.1:3130/anthropic\n",
        "Environment=API_KEY=held-by-tenantd\n",
        " tenantd-endpoints@foo\\x2dbar.socket\n",
    ] {
        assert!(container.contains(line), "{line} is not in {container}");
    }
    for word in ["DISCORD", "tenantd-secrets@", "/run/secrets"] {
        assert!(!container.contains(word), "{word} is in {container}");
    }
    let link = "/etc/systemd/system/sockets.target.wants/tenantd-endpoints@foo\\x2dbar.socket";
    assert!(set.get(link.into()).is_some());
}

#[test]
fn values_full_of_signs() {
    insta::assert_snapshot!(shown(&rendered(HOSTILE, &HostFacts::complete()).unwrap()));
}

#[test]
fn a_host_without_controllers_is_refused_unless_allowed() {
    let mut facts = HostFacts {
        controllers: [Controller::Cpu].into(),
        ..HostFacts::complete()
    };
    let error = rendered(OPENCLAW, &facts).unwrap_err();
    insta::assert_snapshot!(error);
    facts.allow_missing_controllers = true;
    let set = rendered(OPENCLAW, &facts).unwrap();
    let text = shown(&set);
    assert!(
        !text.contains("--memory") && !text.contains("PidsLimit"),
        "{text}"
    );
    assert!(
        text.contains("--cpus=0.5") && text.contains("no memory controller"),
        "{text}"
    );
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let render = || rendered(GENERIC, &HostFacts::complete()).unwrap();
    assert_eq!(render().hash(), render().hash());
    let other = rendered(BACKUP, &HostFacts::complete()).unwrap();
    assert_ne!(render().hash(), other.hash());
}
