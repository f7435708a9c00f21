//! How a tenant's secrets reach its agent: which credentials systemd decrypts, where their files are mounted,
//! and the program that makes variables of them. Names and versions only; no value comes near a unit file.

use super::facts::IdRange;
use super::render::headline;
use super::unit_file::UnitText;
use crate::layout::Layout;
use crate::tenant::{
    DeliveredSecret, ENTRY_PATH, ResolvedSpec, RevisionNumber, SECRETS_PATH, SecretDelivery,
    SecretName, SecretVersion, SecretVersions,
};

/// The drop-in of `tenantd-secrets@` that names the credentials of one revision.
pub fn drop_in(
    spec: &ResolvedSpec,
    revision: RevisionNumber,
    versions: &SecretVersions,
    layout: &Layout,
) -> String {
    let mut unit = UnitText::new(headline(spec, revision));
    unit.section("Service");
    for (name, version) in of(spec, versions) {
        let path = layout.secret_credential(&spec.tenant, name, version);
        unit.key("LoadCredentialEncrypted", format_args!("{name}:{path}"));
    }
    unit.finish()
}

/// What `tenantd-secrets@` delivers; none where the agent has no secrets.
///
/// Resolving makes sure that a spec with secrets names its user.
pub fn delivery(
    spec: &ResolvedSpec,
    versions: &SecretVersions,
    ids: IdRange,
) -> Option<SecretDelivery> {
    let user = spec.user.filter(|_| spec.has_agent_secrets())?;
    let files = of(spec, versions).filter_map(|(name, version)| {
        Some(DeliveredSecret {
            name: name.clone(),
            version,
            file: spec.secrets.get(name)?.file.clone(),
        })
    });
    Some(SecretDelivery {
        uid: ids.start() + u32::from(user.uid),
        gid: ids.start() + u32::from(user.gid),
        files: files.collect(),
    })
}

/// The versions of the secrets that the agent gets.
fn of<'a>(
    spec: &'a ResolvedSpec,
    versions: &'a SecretVersions,
) -> impl Iterator<Item = (&'a SecretName, SecretVersion)> {
    let secrets = spec.agent_secrets();
    secrets.filter_map(|(name, _)| Some((name, *versions.get(name)?)))
}

/// Whether the agent gets secrets as variables.
fn has_variables(spec: &ResolvedSpec) -> bool {
    spec.agent_secrets().any(|(_, secret)| secret.env.is_some())
}

/// The entry point: the agent's own command, behind the program that reads its variables from their files.
pub fn command(spec: &ResolvedSpec) -> Option<Vec<String>> {
    let command = spec.command.clone()?;
    if !has_variables(spec) {
        return Some(command);
    }
    let variables = spec.agent_secrets().filter_map(|(_, secret)| {
        let variable = secret.env.as_ref()?;
        Some(format!("{variable}={SECRETS_PATH}/{}", secret.file))
    });
    let mut words = vec![ENTRY_PATH.to_owned()];
    words.extend(variables);
    words.push("--".to_owned());
    words.extend(command);
    Some(words)
}

/// The mounts of `[Container]`, and no core dumps of whoever has read them.
pub fn mounts(unit: &mut UnitText, spec: &ResolvedSpec, layout: &Layout) {
    if !spec.has_agent_secrets() {
        return;
    }
    let source = layout.secret_mount(&spec.tenant);
    unit.key(
        "Volume",
        format_args!("{source}:{SECRETS_PATH}:ro,nodev,nosuid,noexec"),
    );
    if has_variables(spec) {
        let entry = layout.entry_program();
        unit.key(
            "Volume",
            format_args!("{entry}:{ENTRY_PATH}:ro,nodev,nosuid"),
        );
    }
    unit.comment("One byte, not none: only with it the kernel hands a dump to no program either.")
        .key("Ulimit", "core=1:1");
}
