//! The service of a drill's scratch tenant, made from the Quadlet file that is installed for the tenant itself: the
//! same image, user, mounts and isolation, with other places and names and nothing that leads to other units.
//! It installs nothing.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};

use super::unit_file::UnitText;
use super::validate::{LIMIT, Tools, ValidateError, run, stage_error, text};
use crate::layout::{Layout, UnitNames};
use crate::tenant::{Period, TenantId};

/// What the agent of a scratch tenant is given to end by itself before it is killed: nobody needs what it would save.
const STOP: Period = Period::from_seconds(5);

/// What Podman needs beside that to remove the container.
const PODMAN_MARGIN: Period = Period::from_seconds(25);

/// What a drill needs beside the agent's start before systemd ends a scratch tenant that nobody has ended.
const RUN_MARGIN: Period = Period::from_seconds(120);

/// Keys of `[Container]` that mean the same for the scratch tenant.
const KEPT: &[&str] = &[
    "AddCapability",
    "DNS",
    "DropCapability",
    "Entrypoint",
    "Environment",
    "Exec",
    "GIDMap",
    "Group",
    "HostName",
    "Image",
    "LogDriver",
    "NoNewPrivileges",
    "PidsLimit",
    "Pull",
    "ReadOnly",
    "ReadOnlyTmpfs",
    "RunInit",
    "SecurityLabelLevel",
    "ShmSize",
    "StopSignal",
    "Tmpfs",
    "UIDMap",
    "Ulimit",
    "User",
    "WorkingDir",
];

/// How arguments to Podman begin that mean the same for the scratch tenant.
const KEPT_ARGUMENTS: &[&str] = &["--no-healthcheck", "--cpus=", "--memory=", "--memory-swap="];

/// Why there is no scratch tenant for a Quadlet file.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// The file has a line that this version does not write.
    #[error(
        "the Quadlet file of {tenant} has a line that a drill does not understand: {line:?}; \
         `tenantd reload` writes the file anew"
    )]
    Line {
        /// The tenant.
        tenant: TenantId,
        /// The line.
        line: String,
    },
    /// The generator could not be run.
    #[error("the service of a drill cannot be made")]
    Generate(#[from] ValidateError),
}

/// The Quadlet file of the scratch tenant of `tenant`, from the text of the one that is installed for it.
///
/// `start_timeout` is the longest time until its start probe is answered. Every line is either known to mean no
/// place of the tenant itself, or written anew, or refused.
///
/// # Errors
/// A line is not known.
pub fn scratch_quadlet(
    installed: &str,
    tenant: &TenantId,
    start_timeout: Period,
    layout: &Layout,
) -> Result<String, ScratchError> {
    let names = UnitNames(tenant);
    let mut unit = UnitText::new(format_args!("tenantd wrote this for a drill of {tenant}."));
    unit.section("Unit").key(
        "Description",
        format_args!("Drill of tenant {tenant}: its newest snapshot, with no way out"),
    );
    unit.section("Quadlet")
        .comment("Its network is its own namespace: no wait for the host's.")
        .key("DefaultDependencies", false);
    unit.section("Container")
        .key("ContainerName", names.drill())
        .key("Label", format_args!("tenantd.drill={tenant}"))
        .key("Network", format_args!("ns:{}", layout.drill_netns(tenant)))
        .key("StopTimeout", STOP.seconds());
    for (key, value) in section(installed, "Container") {
        let unknown = || ScratchError::Line {
            tenant: tenant.clone(),
            line: format!("{key}={value}"),
        };
        match key {
            "ContainerName" | "Label" | "Network" | "StopTimeout" => {}
            "Volume" => {
                let moved = moved(value, tenant, layout).ok_or_else(unknown)?;
                unit.key("Volume", moved);
            }
            "PodmanArgs" if KEPT_ARGUMENTS.iter().any(|kept| value.starts_with(kept)) => {
                unit.key(key, value);
            }
            key if KEPT.contains(&key) => {
                unit.key(key, value);
            }
            _ => return Err(unknown()),
        }
    }
    unit.section("Service")
        .comment("Behind everything else, as backups are; its own limits are the container's.")
        .key("Slice", "tenantd-backup.slice")
        .key("OOMScoreAdjust", "500")
        .key("Restart", "no")
        .key("TimeoutStartSec", "60s")
        .key("TimeoutStopSec", STOP.plus(PODMAN_MARGIN))
        .comment("Ends by itself when whoever started it cannot end it any more.")
        .key("RuntimeMaxSec", start_timeout.plus(RUN_MARGIN))
        .key("KillMode", "mixed");
    Ok(unit.finish())
}

/// Has the host's own generator make the service `stem` of a Quadlet file, and gives its text.
///
/// It blocks; call it from a blocking thread.
///
/// # Errors
/// The generator cannot be run, or makes no service of the file.
pub fn scratch_service(tools: &Tools, stem: &str, quadlet: &str) -> Result<String, ScratchError> {
    let temporary = Utf8Path::new("/tmp");
    let directory = tempfile::Builder::new()
        .prefix("tenantd-drill-")
        .tempdir()
        .map_err(stage_error(temporary))?;
    let root = Utf8PathBuf::try_from(directory.path().to_owned())
        .map_err(|error| stage_error(temporary)(error.into_io_error()))?;
    let (quadlets, generated) = (root.join("quadlets"), root.join("generated"));
    for path in [&quadlets, &generated] {
        std::fs::create_dir(path).map_err(stage_error(path))?;
    }
    let file = quadlets.join(format!("{stem}.container"));
    std::fs::write(&file, quadlet).map_err(stage_error(&file))?;
    let mut generator = Command::new(&tools.generator);
    generator
        .arg("-no-kmsg-log")
        .arg(generated.as_str())
        .env("QUADLET_UNIT_DIRS", &quadlets);
    let output = run(generator, &tools.generator, LIMIT)?;
    let service = generated.join(format!("{stem}.service"));
    match std::fs::read_to_string(&service) {
        Ok(made) if output.status.success() => Ok(made),
        _ => Err(ScratchError::Generate(ValidateError::Unexplained {
            program: tools.generator.clone(),
            status: output.status,
            output: text(&output),
        })),
    }
}

/// The keys and values of one section, comments left out.
fn section<'a>(text: &'a str, name: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let header = format!("[{name}]");
    text.lines()
        .skip_while(move |line| *line != header)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once('=').unwrap_or((line, "")))
}

/// A mount of the tenant's state, caches or secrets, with its source in the scratch tenant.
fn moved(value: &str, tenant: &TenantId, layout: &Layout) -> Option<String> {
    let places = [
        (layout.state_dir(tenant), layout.drill_state_dir(tenant)),
        (layout.cache_dir(tenant), layout.drill_cache_dir(tenant)),
    ];
    let secrets = layout.secret_mount(tenant);
    if let Some(rest) = value.strip_prefix(secrets.as_str())
        && rest.starts_with(':')
    {
        return Some(format!("{}{rest}", layout.drill_secret_mount(tenant)));
    }
    let entry = layout.entry_program();
    if let Some(rest) = value.strip_prefix(entry.as_str())
        && rest.starts_with(':')
    {
        return Some(value.to_owned());
    }
    places.into_iter().find_map(|(from, to)| {
        let rest = value.strip_prefix(from.as_str())?.strip_prefix('/')?;
        Some(format!("{to}/{rest}"))
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::tests::{BACKUP, GENERIC, OPENCLAW, SECRETS, rendered, resolved};
    use super::super::{HostFacts, UnitFile};
    use super::*;

    /// The tenant of a spec, and its installed Quadlet file.
    fn installed(spec: &str) -> (TenantId, String) {
        let facts = HostFacts {
            selinux: true,
            ..HostFacts::complete()
        };
        let tenant = resolved(spec).tenant;
        let path = Layout::default()
            .quadlet_dir(&tenant)
            .join(UnitNames(&tenant).quadlet_file());
        match rendered(spec, &facts).unwrap().get(&path) {
            Some(UnitFile::Text(text)) => (tenant, text.clone()),
            other => panic!("{other:?}"),
        }
    }

    fn scratch(spec: &str) -> String {
        let (tenant, text) = installed(spec);
        let minute = Period::from_seconds(60);
        scratch_quadlet(&text, &tenant, minute, &Layout::default()).unwrap()
    }

    #[rstest]
    #[case(OPENCLAW)]
    #[case(GENERIC)]
    #[case(BACKUP)]
    #[case(SECRETS)]
    fn a_scratch_tenant_uses_no_place_or_unit_of_the_tenant(#[case] spec: &str) {
        let (tenant, _) = installed(spec);
        let scratch = scratch(spec);
        for place in [
            format!("/tenants/{tenant}/"),
            format!("tenant-{tenant}"),
            format!("tenantd.tenant={tenant}"),
            "WantedBy".to_owned(),
            "Requires".to_owned(),
            "/run/tenantd/secrets".to_owned(),
            "/run/tenantd/ingress".to_owned(),
        ] {
            assert!(!scratch.contains(&place), "{place} in {scratch}");
        }
        assert_eq!(scratch.matches("\nNetwork=").count(), 1);
    }

    #[test]
    fn a_scratch_tenant_keeps_image_ids_mounts_and_isolation() {
        insta::assert_snapshot!(scratch(GENERIC));
    }

    #[rstest]
    #[case("Volume=/etc:/etc")]
    #[case("Volume=/var/lib/tenantd/tenants/foo-bar-2/state/data:/data")]
    #[case("PublishPort=8080")]
    #[case("PodmanArgs=--volume=/etc:/etc")]
    #[case("EnvironmentFile=/etc/tenantd/node.toml")]
    fn what_is_not_known_is_refused(#[case] line: &str) {
        let (tenant, text) = installed(GENERIC);
        let text = text.replace("[Container]\n", &format!("[Container]\n{line}\n"));
        let minute = Period::from_seconds(60);
        let error = scratch_quadlet(&text, &tenant, minute, &Layout::default()).unwrap_err();
        assert!(error.to_string().contains(line), "{error}");
    }
}
