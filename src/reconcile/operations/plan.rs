//! What an apply would do: specs are resolved, compared with what is there and rendered.
//! It changes nothing; `apply` does.

use std::collections::BTreeMap;

use crate::api::{ApplyPlan, Change, Document, Impact};
use crate::host::cgroup::Standing;
use crate::host::files;
use crate::quadlet::{HostFacts, IdRange, UnitSet, render};
use crate::reconcile::blocking;
use crate::reconcile::engine::Engine;
use crate::reconcile::error::OperationError;
use crate::reconcile::image::{self, Images};
use crate::reconcile::limits;
use crate::reconcile::observe::drift;
use crate::reconcile::secrets::{self, Planned};
use crate::tenant::{
    Catalog, ImageId, LiveChange, Problems, ResolvedSpec, Revision, RevisionNumber, SecretName,
    SecretVersions, Source, TenantId, live_change,
};

/// Reads and resolves all documents before anything is touched.
pub fn resolve_all(
    catalog: &Catalog,
    documents: &[Document],
) -> Result<Vec<ResolvedSpec>, OperationError> {
    let mut resolved = Vec::new();
    let mut faulty: Vec<Problems> = Vec::new();
    let mut seen = BTreeMap::<TenantId, &str>::new();
    for document in documents {
        let source = Source::new(&document.name, &document.text);
        match catalog.resolve(&source) {
            Ok((_, spec)) => {
                if let Some(first) = seen.insert(spec.tenant.clone(), &document.name) {
                    return Err(OperationError::Twice {
                        tenant: spec.tenant,
                        first: first.to_owned(),
                        second: document.name.clone(),
                    });
                }
                resolved.push(spec);
            }
            Err(problems) => faulty.push(problems),
        }
    }
    if faulty.is_empty() {
        Ok(resolved)
    } else {
        Err(OperationError::Spec(faulty))
    }
}

/// Whether applying `spec` changes the tenant; touches nothing.
///
/// An image that is not on the host yet cannot be compared: it counts as a change. So does one
/// that is to be asked for again, with `pull`.
pub async fn plan(
    engine: &Engine,
    images: &mut Images,
    document: &Document,
    spec: &ResolvedSpec,
    pull: bool,
) -> Result<ApplyPlan, OperationError> {
    let row = engine.database.find_tenant(spec.tenant.clone()).await?;
    let stored = match row
        .as_ref()
        .and_then(|row| row.current_revision.map(|n| (row, n)))
    {
        Some((row, number)) => engine.database.revision(row.id.clone(), number).await?,
        None => None,
    };
    let mut plan = ApplyPlan {
        tenant: spec.tenant.to_string(),
        change: if stored.is_some() {
            Change::Update
        } else {
            Change::Create
        },
        files: Vec::new(),
        impact: None,
        warnings: Vec::new(),
        pinned: None,
        operation: None,
    };
    let can_move = spec.image.can_move();
    let secrets = secrets::planned(engine, spec).await?;
    let image = match (images.local(engine, spec).await?, &stored) {
        // The host has lost the name: the tenant keeps the image that it is pinned to.
        (None, Some(stored)) => image::pinned(engine, spec, &stored.revision.image).await?,
        (found, _) => found,
    };
    if let (Some(stored), Some(image)) = (&stored, &image)
        && is_same(&stored.revision, spec, &document.text, image, &secrets)
        && !(pull && can_move)
    {
        plan.change = Change::None;
        plan.pinned = can_move.then(|| image.to_string());
    }
    if let (Some(stored), Change::Update) = (&stored, plan.change) {
        let is_same_image = image.as_ref() == Some(&stored.revision.image) && !(pull && can_move);
        plan.impact = Some(impact(engine, &stored.revision, spec, is_same_image, &secrets).await);
    }
    if plan.change != Change::None {
        plan.warnings = limit_warnings(engine);
    }
    Ok(plan)
}

/// How an update comes into force.
async fn impact(
    engine: &Engine,
    old: &Revision,
    new: &ResolvedSpec,
    is_same_image: bool,
    secrets: &Planned,
) -> Impact {
    let LiveChange { live, restart } = live_change(&old.resolved, new);
    let mut impact = Impact {
        live: live.iter().map(ToString::to_string).collect(),
        restart: restart.into_iter().map(str::to_owned).collect(),
    };
    if !is_same_image && !impact.restart.iter().any(|name| name == "image") {
        impact.restart.push("image".to_owned());
    }
    let is_agents = |name: &SecretName| !new.endpoints.has_key(name);
    let versions = secrets.versions.iter().filter(|(name, _)| is_agents(name));
    let has_other_secrets =
        !old.agent_secrets().eq(versions) || secrets.to_make.iter().any(is_agents);
    let has_other_keys = secrets.versions.iter().any(|(name, version)| {
        !is_agents(name) && old.secrets.get(name).is_some_and(|old| old != version)
    });
    if has_other_keys {
        impact.live.push("keys of endpoints".to_owned());
    }
    if has_other_secrets && !impact.restart.iter().any(|name| name == "secrets") {
        impact.restart.push("secrets".to_owned());
    }
    let standing = limits::standing(engine, &new.tenant, &new.limits).await;
    if impact.restart.is_empty() && standing == Some(Standing::TooLarge) {
        let why = format!("memory (it holds more than {} now)", new.limits.memory);
        impact.restart.push(why);
    }
    impact
}

/// Limits of plans that this host does not keep.
fn limit_warnings(engine: &Engine) -> Vec<String> {
    let storage = (!engine.facts.project_quotas)
        .then(|| format!("storage limits are not kept: {}", crate::node::NO_QUOTAS));
    storage.into_iter().collect()
}

/// Whether a revision is what a spec leads to.
pub(super) fn is_same(
    revision: &Revision,
    spec: &ResolvedSpec,
    text: &str,
    image: &ImageId,
    secrets: &Planned,
) -> bool {
    revision.resolved == *spec
        && revision.spec_text == text
        && revision.image == *image
        && revision.secrets == secrets.versions
        && secrets.to_make.is_empty()
}

/// The files that applying `spec` would write, once the host has checked them; installs nothing.
/// None when the image is not on the host yet, since units name it by its id.
pub async fn preview(engine: &Engine, spec: &ResolvedSpec) -> Result<Vec<String>, OperationError> {
    let Some(image) = Images::default().local(engine, spec).await? else {
        return Ok(Vec::new());
    };
    let range = match engine.database.find_tenant(spec.tenant.clone()).await? {
        Some(row) => row.id_range,
        None => engine.database.next_id_range(spec.tenant.clone()).await?,
    };
    let number = engine.database.next_revision(spec.tenant.clone()).await?;
    let versions = secrets::planned(engine, spec).await?.versions;
    let number = RevisionNumber(number);
    let set = render_for(engine, spec, number, &image, &versions, range)?;
    engine
        .installer
        .check(spec.tenant.clone(), set.clone(), None)
        .await?;
    let (layout, tenant) = (engine.layout.clone(), spec.tenant.clone());
    let drift = blocking(move || drift(&layout, &tenant, Some(&set)))
        .await
        .map_err(|source| compare_failed(engine, source))?;
    Ok(drift.differing.iter().map(ToString::to_string).collect())
}

fn compare_failed(engine: &Engine, source: std::io::Error) -> OperationError {
    let path = engine.layout.unit_dir();
    files::FileError::Io {
        verb: "compare the installed units in",
        path,
        source,
    }
    .into()
}

/// The unit set of a revision on this host.
pub(super) fn render_for(
    engine: &Engine,
    spec: &ResolvedSpec,
    number: RevisionNumber,
    image: &ImageId,
    versions: &SecretVersions,
    range: IdRange,
) -> Result<UnitSet, OperationError> {
    let facts = HostFacts {
        allow_missing_controllers: engine.settings().allow_missing_controllers,
        ..engine.facts.clone()
    };
    let layout = &engine.layout;
    render(spec, number, image, versions, range, &facts, layout).map_err(|error| {
        OperationError::Limits {
            tenant: spec.tenant.clone(),
            reason: error.to_string(),
        }
    })
}
