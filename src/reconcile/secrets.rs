//! What operations and the API do with secrets: the versions that a spec leads to, values that are given, made or asked
//! for, and who uses which. A value passes through and is in no record.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8PathBuf;

use super::blocking;
use super::engine::Engine;
use super::error::OperationError;
use crate::api::{SecretDetail, SecretVersionDetail};
use crate::host::clock;
use crate::host::credentials::SecretValue;
use crate::secrets::{self, Need, SecretError, StoredSecret};
use crate::state::AuditEntry;
use crate::tenant::{
    ResolvedSpec, Revision, SecretName, SecretSource, SecretVersion, SecretVersions, TenantId,
};

/// The versions that applying `spec` would use; none of them is made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// A version for each secret; for one that is yet to be made, the number that it would get.
    pub versions: SecretVersions,
    /// Those that are yet to be made.
    pub to_make: BTreeSet<SecretName>,
}

/// Looks which versions there are for a spec.
///
/// # Errors
/// A secret has no value and none can be made; or all of them together are too long.
pub async fn planned(engine: &Engine, spec: &ResolvedSpec) -> Result<Planned, OperationError> {
    let mut planned = Planned {
        versions: SecretVersions::new(),
        to_make: BTreeSet::new(),
    };
    if spec.secrets.is_empty() {
        return Ok(planned);
    }
    let stored = stored(engine, &spec.tenant).await?;
    for (name, secret) in &spec.secrets {
        let newest = stored.get(name).and_then(|versions| versions.last());
        let version = match secrets::need(&secret.source, newest) {
            Need::Have(version) => version,
            Need::Make => {
                planned.to_make.insert(name.clone());
                SecretVersion(newest.map_or(0, |newest| newest.number.0) + 1)
            }
            Need::Missing => {
                return Err(refused(SecretError::Missing {
                    tenant: spec.tenant.clone(),
                    name: name.clone(),
                }));
            }
        };
        planned.versions.insert(name.clone(), version);
    }
    let lengths = secrets::lengths(&planned.versions, &stored);
    secrets::fits(&spec.tenant, lengths).map_err(refused)?;
    Ok(planned)
}

/// As [`planned`], and what is missing is made or asked for.
///
/// # Errors
/// A value cannot be made, asked for or stored; or all of them, now that their lengths are known, are too long together.
pub async fn settled(
    engine: &Engine,
    spec: &ResolvedSpec,
    planned: Planned,
    actor: &str,
) -> Result<SecretVersions, OperationError> {
    let mut versions = planned.versions;
    if planned.to_make.is_empty() {
        return Ok(versions);
    }
    for name in planned.to_make {
        let Some(secret) = spec.secrets.get(&name) else {
            continue;
        };
        let version = renew(engine, &spec.tenant, &name, &secret.source, actor).await?;
        versions.insert(name, version);
    }
    let stored = stored(engine, &spec.tenant).await?;
    let lengths = secrets::lengths(&versions, &stored);
    secrets::fits(&spec.tenant, lengths).map_err(refused)?;
    Ok(versions)
}

/// Makes or asks for a new value, and stores it.
async fn renew(
    engine: &Engine,
    tenant: &TenantId,
    name: &SecretName,
    source: &SecretSource,
    actor: &str,
) -> Result<SecretVersion, OperationError> {
    let value = match source {
        SecretSource::Given => {
            return Err(refused(SecretError::NoValue {
                tenant: tenant.clone(),
                name: name.clone(),
            }));
        }
        SecretSource::Generated(kind) => secrets::generate(*kind).map_err(refused)?,
        SecretSource::Reference(reference) => {
            let settings = engine.settings();
            let credentials = std::env::var("CREDENTIALS_DIRECTORY").unwrap_or_default();
            secrets::ask(
                name,
                reference,
                &settings.secrets.references,
                std::env::var_os("PATH"),
                &Utf8PathBuf::from(credentials),
            )
            .await
            .map_err(refused)?
        }
    };
    store(engine, tenant, name, source.clone(), value, actor).await
}

async fn store(
    engine: &Engine,
    tenant: &TenantId,
    name: &SecretName,
    source: SecretSource,
    value: SecretValue,
    actor: &str,
) -> Result<SecretVersion, OperationError> {
    let settings = engine.settings();
    let detail = source.to_string();
    let version = secrets::put(
        &engine.layout,
        &settings.keys.recipients,
        (tenant, name),
        (source, actor.to_owned()),
        value,
    )
    .await
    .map_err(refused)?;
    let action = format!("secret {name}: version {version} stored");
    engine.note(tenant, actor, action, Some(detail)).await?;
    Ok(version)
}

async fn stored(
    engine: &Engine,
    tenant: &TenantId,
) -> Result<BTreeMap<SecretName, StoredSecret>, OperationError> {
    let (layout, tenant) = (engine.layout.clone(), tenant.clone());
    blocking(move || secrets::stored(&layout, &tenant))
        .await
        .map_err(refused)
}

fn refused(error: SecretError) -> OperationError {
    OperationError::Secret(Box::new(error))
}

/// The versions that some revision of a tenant runs with, and those of the installed one.
struct Used {
    current: Option<Revision>,
    good: Option<u64>,
    by_revisions: BTreeMap<SecretName, BTreeSet<SecretVersion>>,
}

impl Engine {
    /// All versions of a tenant's secrets, or those of every tenant.
    pub async fn secrets(
        &self,
        tenant: Option<&TenantId>,
    ) -> Result<Vec<SecretDetail>, OperationError> {
        let tenants = if let Some(tenant) = tenant {
            vec![tenant.clone()]
        } else {
            let layout = self.layout.clone();
            blocking(move || secrets::stored_tenants(&layout))
                .await
                .map_err(refused)?
        };
        let mut details = Vec::new();
        for tenant in tenants {
            let used = self.used(&tenant).await?;
            for (name, versions) in stored(self, &tenant).await? {
                details.push(detail(&tenant, &name, &versions, &used));
            }
        }
        Ok(details)
    }

    /// Stores a value that somebody gives.
    pub async fn set_secret(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        value: SecretValue,
        actor: &str,
    ) -> Result<SecretDetail, OperationError> {
        let used = self.used(tenant).await?;
        if let Some(SecretSource::Reference(from)) = source_of(&used, name) {
            return Err(refused(SecretError::NotGiven {
                tenant: tenant.clone(),
                name: name.clone(),
                from: from.clone(),
            }));
        }
        store(self, tenant, name, SecretSource::Given, value, actor).await?;
        self.tidy(tenant, name).await?;
        self.secret(tenant, name).await
    }

    /// Stores a new value: of the one given, or made or asked for once more.
    pub async fn rotate_secret(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        value: Option<SecretValue>,
        actor: &str,
    ) -> Result<SecretDetail, OperationError> {
        if let Some(value) = value {
            return self.set_secret(tenant, name, value, actor).await;
        }
        let used = self.used(tenant).await?;
        let source = match source_of(&used, name) {
            Some(source) => source.clone(),
            None => self.newest_source(tenant, name).await?,
        };
        renew(self, tenant, name, &source, actor).await?;
        self.tidy(tenant, name).await?;
        self.secret(tenant, name).await
    }

    /// Removes a secret with all its versions; refused while the installed revision, or the one that would be gone back
    /// to, runs with it.
    pub async fn remove_secret(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        actor: &str,
    ) -> Result<(), OperationError> {
        self.secret(tenant, name).await?;
        let used = self.used(tenant).await?;
        let mut revisions = used.current.iter().collect::<Vec<_>>();
        let good = match used.good {
            Some(number) => self.database.revision(tenant.clone(), number).await?,
            None => None,
        };
        revisions.extend(good.as_ref().map(|stored| &stored.revision));
        let runs_with_it = revisions
            .into_iter()
            .find(|revision| revision.secrets.contains_key(name));
        if let Some(revision) = runs_with_it {
            return Err(refused(SecretError::InUse {
                tenant: tenant.clone(),
                name: name.clone(),
                revision: revision.number.0,
            }));
        }
        secrets::forget(&self.layout, tenant, name, &BTreeSet::new())
            .await
            .map_err(refused)?;
        let action = format!("secret {name}: removed");
        self.note(tenant, actor, action, None).await
    }

    /// Records that the value of a secret is shown to somebody, and says which version that is: the one in use, else the
    /// newest.
    pub async fn reveal_secret(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        actor: &str,
    ) -> Result<SecretVersion, OperationError> {
        let detail = self.secret(tenant, name).await?;
        let version = detail.in_use.unwrap_or(detail.newest);
        let action = format!("secret {name}: version {version} revealed");
        self.note(tenant, actor, action, None).await?;
        Ok(SecretVersion(version))
    }

    async fn secret(
        &self,
        tenant: &TenantId,
        name: &SecretName,
    ) -> Result<SecretDetail, OperationError> {
        let used = self.used(tenant).await?;
        let stored = stored(self, tenant).await?;
        let versions = stored.get(name).ok_or_else(|| unknown(tenant, name))?;
        Ok(detail(tenant, name, versions, &used))
    }

    async fn newest_source(
        &self,
        tenant: &TenantId,
        name: &SecretName,
    ) -> Result<SecretSource, OperationError> {
        let stored = stored(self, tenant).await?;
        let newest = stored.get(name).and_then(|versions| versions.last());
        let newest = newest.ok_or_else(|| unknown(tenant, name))?;
        Ok(newest.record.source.clone())
    }

    /// Removes versions that no revision has run with, but not the newest.
    async fn tidy(&self, tenant: &TenantId, name: &SecretName) -> Result<(), OperationError> {
        // An apply may have chosen a version, and not yet recorded that its revision runs with it; none begins meanwhile.
        let Some(_turn) = self.locks.try_lock(tenant) else {
            return Ok(());
        };
        let used = self.used(tenant).await?;
        let stored = stored(self, tenant).await?;
        let newest = stored.get(name).and_then(|versions| versions.last());
        let mut keep = used.by_revisions.get(name).cloned().unwrap_or_default();
        keep.extend(newest.map(|newest| newest.number));
        secrets::forget(&self.layout, tenant, name, &keep)
            .await
            .map_err(refused)
    }

    async fn used(&self, tenant: &TenantId) -> Result<Used, OperationError> {
        let row = self.database.find_tenant(tenant.clone()).await?;
        let mut used = Used {
            current: None,
            good: row.as_ref().and_then(|row| row.good_revision),
            by_revisions: BTreeMap::new(),
        };
        let current = row.and_then(|row| row.current_revision);
        for made in self.database.revisions(tenant.clone()).await? {
            for (name, version) in &made.revision.secrets {
                let versions = used.by_revisions.entry(name.clone()).or_default();
                versions.insert(*version);
            }
            if Some(made.revision.number.0) == current {
                used.current = Some(made.revision);
            }
        }
        Ok(used)
    }

    async fn note(
        &self,
        tenant: &TenantId,
        actor: &str,
        action: String,
        detail: Option<String>,
    ) -> Result<(), OperationError> {
        let (tenant, actor) = (tenant.clone(), actor.to_owned());
        let entry = AuditEntry::of_tenant(tenant, actor, clock::now(), action, detail);
        Ok(self.database.audit(entry).await?)
    }
}

fn unknown(tenant: &TenantId, name: &SecretName) -> OperationError {
    refused(SecretError::Unknown {
        tenant: tenant.clone(),
        name: name.clone(),
    })
}

/// Where the installed revision says that the value comes from.
fn source_of<'a>(used: &'a Used, name: &SecretName) -> Option<&'a SecretSource> {
    let secret = used.current.as_ref()?.resolved.secrets.get(name)?;
    Some(&secret.source)
}

fn detail(
    tenant: &TenantId,
    name: &SecretName,
    versions: &StoredSecret,
    used: &Used,
) -> SecretDetail {
    let current = used.current.as_ref();
    let secret = current.and_then(|revision| revision.resolved.secrets.get(name));
    // A key of an endpoint is no file and no variable of the agent.
    let is_key = current.is_some_and(|revision| revision.resolved.endpoints.has_key(name));
    let delivered = secret.filter(|_| !is_key);
    let kept = used.by_revisions.get(name);
    SecretDetail {
        tenant: tenant.to_string(),
        name: name.to_string(),
        newest: versions.last().map_or(0, |version| version.number.0),
        in_use: current
            .and_then(|revision| revision.secrets.get(name))
            .map(|version| version.0),
        revision: secret.and(current).map(|revision| revision.number.0),
        file: delivered.map(|secret| secret.file.clone()),
        env: delivered.and_then(|secret| secret.env.clone()),
        versions: versions
            .iter()
            .map(|version| SecretVersionDetail {
                version: version.number.0,
                made_at: version.record.made_at,
                actor: version.record.actor.clone(),
                source: version.record.source.to_string(),
                of_a_revision: kept.is_some_and(|kept| kept.contains(&version.number)),
            })
            .collect(),
    }
}
