//! Specs placed as files, by Ignition or by hand: `/etc/tenantd/tenants.d/*.toml`.
//!
//! A file rules its tenant: what it says is applied at start and on reload, and an apply by
//! hand is refused. A file that is gone leaves its tenant as it is, to be ruled by hand:
//! data must not hang on a file's absence.

use std::collections::BTreeSet;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use super::blocking;
use super::engine::{Engine, asked};
use super::error::OperationError;
use super::image::Images;
use super::operations::{ApplyJob, failed_alike, plan, refuse, resolve_all};
use crate::api::{ApplyPlan, Change, Document};
use crate::host::files::{self, FileError};
use crate::layout::Layout;
use crate::state::{Operation, OperationKind};
use crate::tenant::{Catalog, MAX_BYTES, ResolvedSpec, Source, TenantId};

/// Reads every `*.toml` of a directory, in order of name; an absent directory has none.
pub fn read_documents(directory: &Utf8Path) -> Result<Vec<Document>, FileError> {
    let mut documents = Vec::new();
    for path in toml_files(directory)? {
        let bytes = files::read(&path, MAX_BYTES as u64 + 1)?;
        documents.push(Document {
            name: path.into_string(),
            // What is not UTF-8 is refused by the parser, with its place.
            text: String::from_utf8_lossy(&bytes).into_owned(),
        });
    }
    Ok(documents)
}

fn toml_files(directory: &Utf8Path) -> Result<Vec<Utf8PathBuf>, FileError> {
    let failed = |source| FileError::Io {
        verb: "read",
        path: directory.to_owned(),
        source,
    };
    let entries = match directory.read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.into_path();
        if path.extension() == Some("toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The built-in templates and plans with the operator's laid over them, and the operator's price tables.
pub fn load_catalog(layout: &Layout) -> Result<Catalog, OperationError> {
    let mut catalog = Catalog::builtin();
    let mut faulty = Vec::new();
    for document in read_documents(&layout.templates_dir())? {
        let added = catalog.add_template(&Source::new(document.name, document.text));
        faulty.extend(added.err());
    }
    for document in read_documents(&layout.plans_dir())? {
        let added = catalog.add_plan(&Source::new(document.name, document.text));
        faulty.extend(added.err());
    }
    for document in read_documents(&layout.prices_dir())? {
        let added = catalog.add_prices(&Source::new(document.name, document.text));
        faulty.extend(added.err());
    }
    if faulty.is_empty() {
        Ok(catalog)
    } else {
        Err(OperationError::Spec(faulty))
    }
}

/// Applies what the directory says; a faulty file is reported and stops no other. With `pull`,
/// images' registries are asked again.
pub async fn apply_directory(
    engine: &Arc<Engine>,
    pull: bool,
) -> Result<(Vec<ApplyPlan>, Vec<OperationError>), OperationError> {
    let directory = engine.layout.specs_dir();
    let documents = blocking(move || read_documents(&directory)).await?;
    let mut faults = Vec::new();
    let mut fault = |file: &str, error: OperationError| {
        tracing::error!(file, problem = ?error.problem().faults, "{error}");
        faults.push(error);
    };
    let mut ruled = BTreeSet::new();
    let (mut images, mut found) = (Images::default(), Vec::new());
    for document in documents {
        match look_at_file(engine, &mut images, &document, &mut ruled, pull).await {
            Ok((plan, spec)) => found.push((document, plan, spec)),
            Err(error) => fault(&document.name, error),
        }
    }
    let (mut plans, mut specs) = (Vec::new(), Vec::new());
    let turn = engine.turn_to_promise().await;
    for (document, mut plan, spec) in found {
        if let Some(spec) = spec {
            // Together with what other files ask for in the same go. One that is too much stops no other.
            let together = specs.iter().chain([&spec]);
            if let Err(error) = turn.check(together.clone()).await {
                fault(&document.name, error);
                continue;
            }
            if let Err(error) = engine.check_ways_in(together).await {
                fault(&document.name, error);
                continue;
            }
            plan.operation = Some(operation(document, spec.tenant.clone(), pull));
            specs.push(spec);
        }
        plans.push(plan);
    }
    // Told once for all of them.
    let exceeded = turn.check(&specs).await?;
    if let Some(plan) = plans.first_mut() {
        plan.warnings.extend(exceeded);
    }
    let operations = plans.iter().filter_map(|plan| plan.operation.clone());
    engine.submit_all(operations.collect()).await?;
    drop(turn);
    for row in engine.database.tenants().await? {
        if row.source.is_some() && !ruled.contains(&row.id) && faults.is_empty() {
            tracing::info!(tenant = %row.id, "its file is gone; it is ruled by hand from now on");
            engine.database.set_source(row.id, None).await?;
        }
    }
    Ok((plans, faults))
}

/// What a file leads to, and the spec that is to be applied, where one is.
async fn look_at_file(
    engine: &Arc<Engine>,
    images: &mut Images,
    document: &Document,
    ruled: &mut BTreeSet<TenantId>,
    pull: bool,
) -> Result<(ApplyPlan, Option<ResolvedSpec>), OperationError> {
    let resolved = resolve_all(&engine.catalog(), std::slice::from_ref(document))?;
    let Some(spec) = resolved.into_iter().next() else {
        return Err(OperationError::Interrupted);
    };
    if !ruled.insert(spec.tenant.clone()) {
        return Err(OperationError::Twice {
            tenant: spec.tenant,
            first: "another file of the directory".to_owned(),
            second: document.name.clone(),
        });
    }
    let row = engine.database.find_tenant(spec.tenant.clone()).await?;
    if let Some(row) = &row {
        refuse(engine, OperationKind::Apply, &Value::Null, row).await?;
    }
    let mut plan = plan(engine, images, document, &spec, pull).await?;
    if plan.change == Change::None {
        let row = engine.database.tenant(spec.tenant.clone()).await?;
        let source = Some(document.name.clone());
        if row.source != source {
            engine.database.set_source(spec.tenant, source).await?;
        }
        return Ok((plan, None));
    }
    if let (Some(row), false) = (&row, pull)
        && let Some(failed) = failed_alike(engine, images, row, document, &spec).await?
    {
        let tenant = &spec.tenant;
        tracing::warn!(%tenant, revision = failed, "the same failed before and is not tried again");
        plan.change = Change::Skip;
        plan.warnings = vec![format!(
            "{tenant}: revision {failed} was made of the very same and failed; it is not tried again until its file, image, plan or \
             secrets change, or by `tenantd reload --pull`"
        )];
        return Ok((plan, None));
    }
    Ok((plan, Some(spec)))
}

/// The operation that brings a file's spec in.
fn operation(document: Document, tenant: TenantId, pull: bool) -> Operation {
    let actor = format!("file {}", document.name);
    let job = ApplyJob {
        source: Some(document.name.clone()),
        name: document.name,
        spec: document.text,
        message: String::new(),
        pull,
        force: false,
    };
    let request = serde_json::to_value(job).unwrap_or_default();
    asked(OperationKind::Apply, Some(tenant), request, actor)
}
