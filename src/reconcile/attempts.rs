//! What is kept of attempts that failed, bounded in size and number: enough to see weeks later why. It holds what the
//! agent itself wrote to its log, and nothing of secrets.
//! It gathers, keeps and finds; what becomes of a failed attempt is decided elsewhere.

use camino::{Utf8Path, Utf8PathBuf};

use super::blocking;
use super::engine::Engine;
use super::error::OperationError;
use super::evidence;
use super::run::Run;
use crate::api::{Evidence, JobEvidence};
use crate::health::starts;
use crate::host::{clock, dirs, files};
use crate::layout::UnitNames;
use crate::quadlet::UnitFile;
use crate::state::{Operation, OperationId};

/// Attempts that are kept of one tenant.
const KEPT: usize = 10;

/// Longest file of one.
const LIMIT: u64 = 4 << 20;

/// Gathers what there is to see of a failed attempt with `revision`, and keeps it. Best effort: a failure is not hidden
/// behind evidence that cannot be kept.
pub async fn keep(run: &Run, revision: Option<u64>, error: &OperationError) {
    if run.is_evidence_kept() || was_kept(run).await {
        return;
    }
    if let Err(failure) = gather(run, revision, error).await {
        tracing::warn!(
            error = &failure as &dyn std::error::Error,
            "the evidence of a failure is not kept"
        );
    }
}

/// Whether this operation has kept its evidence before it was cut short: what there is to see by now is less.
async fn was_kept(run: &Run) -> bool {
    let (true, Ok(tenant)) = (run.is_taken_up(), run.tenant()) else {
        return false;
    };
    let path = file(&run.engine.layout.attempts_dir(tenant), run.operation.id);
    blocking(move || path.exists()).await
}

async fn gather(
    run: &Run,
    revision: Option<u64>,
    error: &OperationError,
) -> Result<(), OperationError> {
    let engine = &run.engine;
    let row = run.row().await?;
    let names = UnitNames(&row.id);
    let unit = names.service();
    let details = engine.systemd.details(&unit).await?;
    let service = details.service;
    let stored = match revision {
        Some(number) => engine.database.revision(row.id.clone(), number).await?,
        None => None,
    };
    let (layout, tenant, since) = (engine.layout.clone(), row.id.clone(), run.since());
    let mut probes = blocking(move || starts::left(&layout, &tenant, since)).await;
    probes.extend(run.probes());
    let files = stored.iter().flat_map(|stored| stored.unit_set.iter());
    let files = files.map(|(path, file)| {
        let text = match file {
            UnitFile::Text(text) => text.clone(),
            UnitFile::Link(target) => format!("link to {target}\n"),
        };
        (path.to_string(), text)
    });
    let document = Evidence {
        operation: run.operation.id,
        kind: run.operation.kind,
        tenant: row.id.to_string(),
        revision,
        gathered_at: clock::now(),
        problem: error.problem(),
        job: JobEvidence {
            unit,
            active: details.active.as_str().to_owned(),
            sub: details.sub,
            result: service.as_ref().map(|service| service.result.clone()),
            status: service.as_ref().map(|service| service.exec_main_status),
            restarts: service.as_ref().map(|service| service.restarts),
        },
        probes,
        journal: evidence::whole_story(&row.id, row.id_range, run.since()).await,
        unit_set_hash: stored
            .as_ref()
            .map(|stored| stored.revision.unit_set_hash.clone()),
        files: files.collect(),
    };
    let bytes = serde_json::to_vec(&document).unwrap_or_default();
    let directory = engine.layout.attempts_dir(&row.id);
    let path = file(&directory, run.operation.id);
    blocking(move || {
        dirs::make(&directory, 0o700)?;
        files::write(&path, &bytes, 0o600)?;
        for name in surplus(names_in(&directory)) {
            files::remove(&directory.join(name))?;
        }
        Ok::<_, files::FileError>(())
    })
    .await?;
    run.evidence_is_kept();
    Ok(())
}

/// What is kept of an operation, if anything.
pub async fn find(
    engine: &Engine,
    operation: &Operation,
) -> Result<Option<Evidence>, OperationError> {
    let Some(tenant) = &operation.tenant else {
        return Ok(None);
    };
    let path = file(&engine.layout.attempts_dir(tenant), operation.id);
    let found = blocking(move || match files::read(&path, LIMIT) {
        Err(error) if error.is_absent() => Ok(None),
        read => read.map(Some),
    });
    // What another version has written is as good as nothing.
    Ok(found
        .await?
        .and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

fn file(directory: &Utf8Path, operation: OperationId) -> Utf8PathBuf {
    directory.join(format!("{operation}.json"))
}

fn names_in(directory: &Utf8Path) -> Vec<String> {
    let entries = directory.read_dir_utf8().into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_owned());
    names.filter(|name| name.ends_with(".json")).collect()
}

/// Which files go: all but the newest. Operations' ids sort by time.
fn surplus(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable_by(|a, b| b.cmp(a));
    names.split_off(KEPT.min(names.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_attempts_are_kept() {
        assert_eq!(surplus(vec!["a".to_owned()]), Vec::<String>::new());
        let names: Vec<_> = (0..KEPT + 2).map(|number| format!("{number:02}")).collect();
        assert_eq!(surplus(names), ["01", "00"]);
    }
}
