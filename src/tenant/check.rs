//! The rules that a document's values must keep, beyond their types.
//! Every function gives all its findings; none stops at the first.

use std::collections::BTreeSet;

use camino::Utf8Path;

use super::plan::Limits;
use super::tables::{Backup, Container, Env, Ingress, Mounts, Probes, Quiesce, Stop};
use super::{Egress, Endpoints, Problem, PublicHost, QuiesceCall, Secrets, Size, endpoint, secret};

/// The tables of a spec, of a template, or of one over the other.
pub struct Tables<'a> {
    pub env: &'a Env,
    pub secrets: &'a Secrets,
    pub endpoints: &'a Endpoints,
    pub container: &'a Container,
    pub ingress: &'a Ingress,
    pub egress: &'a Egress,
    pub probes: &'a Probes,
    pub state: &'a Mounts,
    pub cache: &'a Mounts,
    pub backup: &'a Backup,
    pub stop: &'a Stop,
}

/// All rules that hold for the tables by themselves.
pub fn tables(tables: &Tables<'_>) -> Vec<Problem> {
    let mut findings = environment(tables.env);
    findings.extend(secret::check(tables.secrets, |name| {
        is_reserved(name) || tables.env.contains_key(name)
    }));
    findings.extend(endpoint::check(tables.endpoints, |name| {
        is_reserved(name) || tables.env.contains_key(name)
    }));
    findings.extend(container(tables.container));
    findings.extend(port(tables.ingress));
    findings.extend(tables.egress.check());
    findings.extend(probes(tables.probes));
    findings.extend(mounts(tables));
    findings.extend(quiesce(&tables.backup.quiesce));
    findings.extend(stop(tables.stop));
    findings
}

/// Most host names of one tenant: certificate authorities limit how many they issue in a week.
const MOST_HOSTS: usize = 50;

/// The ways from outside to the agent, beside its socket.
pub fn ways_in(hosts: &BTreeSet<PublicHost>, loopback_port: Option<u16>) -> Vec<Problem> {
    let mut findings = Vec::new();
    if hosts.len() > MOST_HOSTS {
        findings.push(Problem::at(
            ["hosts"],
            format!(
                "{} names are more than the {MOST_HOSTS} that one tenant may have",
                hosts.len()
            ),
        ));
    }
    if loopback_port.is_some_and(|port| port < 1024) {
        findings.push(
            Problem::at(
                ["loopback-port"],
                "ports below 1024 are the host's own services'",
            )
            .help("choose one from 1024 to 65535"),
        );
    }
    findings
}

/// A template's or plan's own name.
pub fn name(name: &str) -> Vec<Problem> {
    if is_name(name) {
        return Vec::new();
    }
    vec![Problem::at(
        ["name"],
        format!(
            "{name:?} is not a name: lower-case letters, digits and dashes, starting with a letter"
        ),
    )]
}

/// A plan's limits.
pub fn limits(limits: &Limits) -> Vec<Problem> {
    let mut findings = Vec::new();
    let mut refuse = |field: &str, message: &str| {
        findings.push(Problem::at(["limits", field], message));
    };
    // Below these an agent, its init and Podman's monitor cannot even start.
    if limits.memory < Size::from_mib(16) {
        refuse("memory", "less than 16MiB starts nothing");
    }
    if !(16..=65_536).contains(&limits.pids) {
        refuse("pids", "must be from 16 to 65536");
    }
    if !(1..=10_000).contains(&limits.io_weight) {
        refuse(
            "io-weight",
            "must be from 1 to 10000; 100 is the usual share",
        );
    }
    // journald rounds smaller limits up to its smallest file of 512 KiB, and keeps several.
    if limits.log_size < Size::from_mib(4) {
        refuse("log-size", "less than 4MiB holds no useful log");
    }
    findings
}

/// Whether a mount may have this name: it becomes that of a directory, and a word of commands.
pub fn is_mount_name(name: &str) -> bool {
    is_name(name)
}

pub(super) fn is_name(text: &str) -> bool {
    text.len() <= 31
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text
            .chars()
            .all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-'))
}

/// The control character that makes a value unfit for a unit file, if there is one.
fn control_character(value: &str) -> Option<String> {
    value
        .chars()
        .find(|c| c.is_control() && *c != '\t')
        .map(|c| match c {
            '\n' => "a newline".to_owned(),
            '\0' => "a NUL".to_owned(),
            other => format!("the control character U+{:04X}", u32::from(other)),
        })
}

/// Variables that systemd, Podman or tenantd set; a tenant that could set them could
/// pretend to be its own supervisor or lead its proxy elsewhere.
const RESERVED_ENV: [&str; 14] = [
    "container",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "PODMAN_SYSTEMD_UNIT",
    "ALL_PROXY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

fn is_reserved(variable: &str) -> bool {
    RESERVED_ENV.contains(&variable) || variable.starts_with("TENANTD_")
}

fn environment(env: &Env) -> Vec<Problem> {
    let mut findings = Vec::new();
    for (name, value) in env {
        let mut refuse = |message: String| findings.push(Problem::at(["env", name], message));
        let starts_right = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts_right || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            refuse(format!(
                "{name:?} is not the name of a variable: letters, digits and `_`, not starting with a digit"
            ));
        }
        if is_reserved(name) {
            refuse(format!(
                "`{name}` is reserved: systemd, Podman or tenantd sets it; leave it out"
            ));
        }
        if let Some(what) = control_character(value) {
            refuse(format!(
                "the value contains {what}, which cannot reach a unit file; give the agent a file in its state instead"
            ));
        }
    }
    findings
}

fn container(container: &Container) -> Vec<Problem> {
    let mut findings = Vec::new();
    if container
        .command
        .as_ref()
        .is_some_and(|words| words.first().is_none_or(String::is_empty))
    {
        findings.push(
            Problem::at(["container", "command"], "names no program")
                .help("leave it out to run what the image says"),
        );
    }
    for (key, words) in [("command", &container.command), ("args", &container.args)] {
        for (index, word) in words.iter().flatten().enumerate() {
            let index = index.to_string();
            if let Some(what) = control_character(word) {
                findings.push(Problem::at(
                    ["container", key, &index],
                    format!("the argument contains {what}, which cannot reach a unit file"),
                ));
            }
            // Tried with Podman 5.4: Quadlet drops an empty word and all after it, and cannot
            // escape the lone `;` that ends a command in systemd. In an entry point both are safe.
            if key == "args" && matches!(word.as_str(), "" | ";") {
                findings.push(
                    Problem::at(
                        ["container", key, &index],
                        format!("the argument {word:?} gets lost between Podman and systemd"),
                    )
                    .help("write the whole command line in `container.command`"),
                );
            }
        }
    }
    if let Some(workdir) = &container.workdir {
        findings.extend(path_grammar(&["container", "workdir"], workdir));
    }
    findings
}

fn port(ingress: &Ingress) -> Vec<Problem> {
    match ingress.port {
        Some(port @ 0..1024) => vec![
            Problem::at(
                ["ingress", "port"],
                format!("the agent cannot listen on port {port}: ports below 1024 need a capability that tenants do not have"),
            )
            .help("let the agent listen on a higher one, such as 8080; what the outside sees does not depend on it"),
        ],
        _ => Vec::new(),
    }
}

fn probes(probes: &Probes) -> Vec<Problem> {
    let mut findings = Vec::new();
    for (key, probe) in [
        ("start", &probes.start),
        ("live", &probes.live),
        ("idle", &probes.idle),
    ] {
        findings.extend(url_path(&["probes", key, "path"], probe.path.as_ref()));
        for (what, period) in [("timeout", probe.timeout), ("interval", probe.interval)] {
            if period.is_some_and(|period| period.seconds() == 0 || period.seconds() > 86_400) {
                findings.push(Problem::at(["probes", key, what], "must be from 1s to 1d"));
            }
        }
        // A live probe is one question; the start probe's time is that of the whole start.
        if key == "live" && probe.timeout.is_some_and(|timeout| timeout.seconds() > 60) {
            let at = ["probes", key, "timeout"];
            findings.push(Problem::at(at, "must be from 1s to 1min"));
        }
    }
    findings
}

fn url_path(field: &[&str], path: Option<&String>) -> Option<Problem> {
    let path = path?;
    let is_path = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic());
    (!is_path).then(|| {
        Problem::at(
            field.iter().copied(),
            format!("{path:?} is not the path of a URL: it must start with `/` and have no spaces"),
        )
    })
}

fn command(field: &[&str], words: &[String]) -> Option<Problem> {
    let is_command = words.first().is_some_and(|program| !program.is_empty())
        && words.iter().all(|word| !word.contains('\0'));
    (!is_command).then(|| {
        let field = field.iter().copied();
        Problem::at(field, "must have a program as its first word, and no NUL")
    })
}

fn quiesce(quiesce: &Quiesce) -> Vec<Problem> {
    let at = |key| ["backup", "quiesce", key];
    let calls = [("begin", &quiesce.begin), ("end", &quiesce.end)];
    let mut findings: Vec<Problem> = calls
        .into_iter()
        .filter_map(|(key, call)| match call.as_ref()? {
            QuiesceCall::Request(path) => url_path(&at(key), Some(path)),
            QuiesceCall::Command(words) => command(&at(key), words),
        })
        .collect();
    if quiesce
        .timeout
        .is_some_and(|timeout| !(1..=60).contains(&timeout.seconds()))
    {
        findings.push(Problem::at(at("timeout"), "must be from 1s to 1min"));
    }
    findings
}

fn stop(stop: &Stop) -> Vec<Problem> {
    let mut findings = Vec::new();
    if let Some(signal) = &stop.signal
        && !(signal.starts_with("SIG")
            && signal
                .chars()
                .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '+'))
    {
        findings.push(Problem::at(
            ["stop", "signal"],
            format!("{signal:?} is not the name of a signal, such as `SIGTERM` or `SIGINT`"),
        ));
    }
    if stop
        .timeout
        .is_some_and(|timeout| timeout.seconds() == 0 || timeout.seconds() > 3600)
    {
        findings.push(Problem::at(["stop", "timeout"], "must be from 1s to 1h"));
    }
    if stop
        .fatal_exit_codes
        .iter()
        .flatten()
        .any(|code| *code == 0)
    {
        findings.push(Problem::at(
            ["stop", "fatal-exit-codes"],
            "0 is success and cannot be fatal",
        ));
    }
    findings
}

/// Kernel and run-time trees: nothing may be mounted on or below them.
const KERNEL_TREES: [&str; 4] = ["/dev", "/proc", "/run", "/sys"];

/// Directories of the image that a mount of the whole would hide.
const IMAGE_TREES: [&str; 9] = [
    "/bin", "/boot", "/etc", "/lib", "/lib64", "/sbin", "/tmp", "/usr", "/var",
];

fn mounts(tables: &Tables<'_>) -> Vec<Problem> {
    let mut findings = Vec::new();
    let mut seen: Vec<(String, &Utf8Path)> = Vec::new();
    let kept = [("state", tables.state), ("cache", tables.cache)];
    for (table, (name, mount)) in kept
        .into_iter()
        .flat_map(|(t, m)| m.iter().map(move |e| (t, e)))
    {
        if !is_mount_name(name) {
            findings.push(Problem::at(
                [table, name],
                format!("{name:?} is not a name: lower-case letters, digits and dashes, starting with a letter"),
            ));
        }
        let Some(path) = &mount.path else { continue };
        let field = [table, name.as_str(), "path"];
        findings.extend(path_grammar(&field, path));
        findings.extend(mount_point(&field, path));
        for (other, taken) in &seen {
            if path.starts_with(taken) || taken.starts_with(path) {
                findings.push(Problem::at(
                    field,
                    format!("`{path}` and `{taken}` of `{other}` overlap"),
                ).help("every file must belong to one mount; give them separate directories, or one that holds both"));
            }
        }
        seen.push((format!("{table}.{name}"), path));
    }
    for (index, path) in tables.container.tmpfs.iter().flatten().enumerate() {
        let index = index.to_string();
        let field = ["container", "tmpfs", index.as_str()];
        findings.extend(path_grammar(&field, path));
        if path != "/tmp" && path != "/run" {
            findings.extend(mount_point(&field, path));
        }
        for (other, taken) in &seen {
            if path.starts_with(taken) {
                findings.push(Problem::at(
                    field,
                    format!("`{path}` lies in `{taken}` of `{other}`, which is kept"),
                ));
            }
        }
    }
    findings
}

/// Absolute, plain, and made of characters that mean nothing to Podman, Quadlet or systemd.
fn path_grammar(field: &[&str], path: &Utf8Path) -> Vec<Problem> {
    let text = path.as_str();
    let refuse = |message: String| vec![Problem::at(field.iter().copied(), message)];
    if !text.starts_with('/') {
        return refuse(format!(
            "{text:?} is not an absolute path inside the container"
        ));
    }
    if let Some(bad) = text
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || "/._+@-".contains(*c)))
    {
        return refuse(format!("{bad:?} is not allowed in a path that is mounted"));
    }
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    if text != "/" && !text[1..].split('/').all(plain) {
        return refuse(format!(
            "{text:?} is not plain: write it without `.`, `..`, `//` and a slash at its end"
        ));
    }
    Vec::new()
}

fn mount_point(field: &[&str], path: &Utf8Path) -> Vec<Problem> {
    let refuse = |message: String| vec![Problem::at(field.iter().copied(), message)];
    if path == "/" {
        return refuse("a mount cannot cover the whole image".to_owned());
    }
    if let Some(tree) = KERNEL_TREES.iter().find(|tree| path.starts_with(tree)) {
        return refuse(format!(
            "`{path}` is in `{tree}`, which belongs to the kernel and to Podman"
        ));
    }
    if IMAGE_TREES.iter().any(|tree| path == *tree) {
        return refuse(format!(
            "a mount on `{path}` would hide the image's own files; name a directory below it"
        ));
    }
    Vec::new()
}
