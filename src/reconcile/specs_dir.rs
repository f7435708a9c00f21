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
use super::operations::{ApplyJob, plan, refuse, resolve_all};
use crate::api::{ApplyPlan, Change, Document};
use crate::host::files::{self, FileError};
use crate::state::OperationKind;
use crate::tenant::{Catalog, MAX_BYTES, ResolvedSpec, Source};

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

/// The built-in templates and plans with the operator's laid over them.
pub fn load_catalog(templates: &Utf8Path, plans: &Utf8Path) -> Result<Catalog, OperationError> {
    let mut catalog = Catalog::builtin();
    let mut faulty = Vec::new();
    for document in read_documents(templates)? {
        let added = catalog.add_template(&Source::new(document.name, document.text));
        faulty.extend(added.err());
    }
    for document in read_documents(plans)? {
        let added = catalog.add_plan(&Source::new(document.name, document.text));
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
    let mut plans = Vec::new();
    let mut faults = Vec::new();
    let mut ruled = BTreeSet::new();
    let (mut images, mut specs) = (Images::default(), Vec::new());
    for document in documents {
        match look_at_file(engine, &mut images, &document, &mut ruled, &mut specs, pull).await {
            Ok(plan) => plans.push(plan),
            Err(error) => {
                tracing::error!(file = document.name, problem = ?error.problem().faults, "{error}");
                faults.push(error);
            }
        }
    }
    // Told once for all of them.
    let exceeded = engine.check_capacity(&specs).await?;
    if let Some(plan) = plans.first_mut() {
        plan.warnings.extend(exceeded);
    }
    let operations = plans.iter().filter_map(|plan| plan.operation.clone());
    engine.submit_all(operations.collect()).await?;
    for row in engine.database.tenants().await? {
        if row.source.is_some() && !ruled.contains(&row.id) && faults.is_empty() {
            tracing::info!(tenant = %row.id, "its file is gone; it is ruled by hand from now on");
            engine.database.set_source(row.id, None).await?;
        }
    }
    Ok((plans, faults))
}

/// What a file leads to, with the operation that is still to be submitted.
async fn look_at_file(
    engine: &Arc<Engine>,
    images: &mut Images,
    document: &Document,
    ruled: &mut BTreeSet<crate::tenant::TenantId>,
    asked_before: &mut Vec<ResolvedSpec>,
    pull: bool,
) -> Result<ApplyPlan, OperationError> {
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
    if let Some(row) = engine.database.find_tenant(spec.tenant.clone()).await? {
        refuse(engine, OperationKind::Apply, &Value::Null, &row).await?;
    }
    let mut plan = plan(engine, images, document, &spec, pull).await?;
    if plan.change == Change::None {
        let row = engine.database.tenant(spec.tenant.clone()).await?;
        let source = Some(document.name.clone());
        if row.source != source {
            engine.database.set_source(spec.tenant, source).await?;
        }
        return Ok(plan);
    }
    // Together with what other files ask for in the same go. One that is too much stops no other.
    let together = asked_before.iter().chain([&spec]);
    engine.check_capacity(together).await?;
    asked_before.push(spec.clone());
    let job = ApplyJob {
        name: document.name.clone(),
        spec: document.text.clone(),
        message: String::new(),
        source: Some(document.name.clone()),
        pull,
        force: false,
    };
    let request = serde_json::to_value(job).unwrap_or_default();
    let actor = format!("file {}", document.name);
    let operation = asked(OperationKind::Apply, Some(spec.tenant), request, actor);
    plan.operation = Some(operation);
    Ok(plan)
}
