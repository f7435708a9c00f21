//! Apply: a spec becomes a new revision, its units are installed, its agent runs and answers;
//! otherwise the previous revision is back.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::back::{decided_before, roll_back};
use super::gate;
use super::plan::{is_same, render_for};
use super::release;
use crate::failpoint;
use crate::host::{clock, dirs, files};
use crate::reconcile::blocking;
use crate::reconcile::converge::{converge, wait_healthy};
use crate::reconcile::engine::Engine;
use crate::reconcile::error::{OperationError, chain};
use crate::reconcile::image;
use crate::reconcile::ingress;
use crate::reconcile::limits;
use crate::reconcile::run::Run;
use crate::reconcile::secrets::{self, Planned};
use crate::reconcile::trials;
use crate::state::{StoredRevision, TenantRow, Wanted};
use crate::tenant::{
    Edge, ResolvedSpec, Revision, RevisionNumber, SecretVersions, Source, TenantState, User,
};

/// What an apply operation records of its request: enough to be run again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ApplyJob {
    /// The spec's name, for messages.
    pub name: String,
    /// The spec.
    pub spec: String,
    /// Kept with the revision.
    #[serde(default)]
    pub message: String,
    /// The file under `tenants.d` that the spec comes from.
    #[serde(default)]
    pub source: Option<String>,
    /// Ask the image's registry again, although an image of that name is here.
    #[serde(default)]
    pub pull: bool,
    /// Try it although its image has failed this tenant before, or its breaker is open.
    #[serde(default)]
    pub force: bool,
}

/// Applies one spec. Run again after a crash, it goes on with the revision it had made.
pub(super) async fn run(run: &Run) -> Result<Value, OperationError> {
    let engine = &run.engine;
    let job: ApplyJob = serde_json::from_value(run.operation.request.clone())
        .map_err(|_| OperationError::Interrupted)?;
    let tenant = run.tenant()?.clone();
    let row = engine
        .database
        .create_tenant(
            tenant.clone(),
            job.source.clone(),
            run.operation.actor.clone(),
            clock::now(),
        )
        .await?;
    if row.source != job.source {
        engine
            .database
            .set_source(tenant.clone(), job.source.clone())
            .await?;
    }
    failpoint::hit("apply.row");
    if let Some((failed, why)) = decided_before(run).await? {
        return Err(roll_back(run, &row, failed, OperationError::Earlier(why)).await?);
    }
    let made = engine
        .database
        .revision_of_operation(tenant.clone(), run.operation.id)
        .await?;
    let prepared = match made {
        Some(number) => Ok(Prepared::New(number)),
        None => prepare(run, &row, &job).await,
    };
    let number = match prepared {
        Ok(Prepared::New(number)) => number,
        Ok(Prepared::Same(number)) => {
            stand_as_before(run, &row).await?;
            return Ok(json!({ "tenant": tenant, "revision": number, "unchanged": true }));
        }
        Err(error) => {
            abandon(run, &row, &error).await?;
            return Err(error);
        }
    };
    failpoint::hit("apply.revision");
    let clone = match row.current_revision.filter(|current| *current != number) {
        None => None,
        Some(present) => match leave(run, &row, (present, number)).await {
            Ok(clone) => clone,
            Err(error) => {
                converge(run).await?;
                stand_as_before(run, &row).await?;
                return Err(error);
            }
        },
    };
    match bring_in(run, number).await {
        Ok(()) => Ok(json!({ "tenant": tenant, "revision": number, "clone": clone })),
        Err(error) => Err(roll_back(run, &row, number, error).await?),
    }
}

/// Keeps the data as the present revision leaves them; an agent that runs on leaves nothing.
async fn leave(
    run: &Run,
    row: &TenantRow,
    (present, next): (u64, u64),
) -> Result<Option<Value>, OperationError> {
    let stored = async |number| run.engine.database.revision(row.id.clone(), number).await;
    if let (Some(old), Some(new)) = (stored(present).await?, stored(next).await?)
        && limits::is_live(&old.revision, &new.revision)
    {
        release::forget(run, present).await?;
        return Ok(None);
    }
    release::take(run, row, present).await.map(Some)
}

/// What a spec led to.
enum Prepared {
    /// A revision that was stored and is to be brought in.
    New(u64),
    /// The current revision: the registry has no other image.
    Same(u64),
}

/// Everything that can be refused, before anything is touched; ends with the stored revision.
async fn prepare(run: &Run, row: &TenantRow, job: &ApplyJob) -> Result<Prepared, OperationError> {
    let engine = &run.engine;
    let source = Source::new(&job.name, &job.spec);
    let (_, spec) = engine
        .catalog()
        .resolve(&source)
        .map_err(|problems| OperationError::Spec(vec![problems]))?;
    let edge = if row.current_revision.is_some() {
        Edge::Update
    } else {
        Edge::Provision
    };
    run.follow(edge, None).await?;
    ingress::check(engine, &spec.tenant).await?;
    run.announce(engine.installer.approach());
    run.step(&format!("look at image {}", spec.image)).await?;
    let image = image::resolve(run, &spec, job.pull).await?;
    gate::check(run, row, &image.id, job.force).await?;
    let planned = secrets::planned(engine, &spec).await?;
    if let Some(current) = row.current_revision
        && let Some(stored) = engine.database.revision(row.id.clone(), current).await?
        && is_same(&stored.revision, &spec, &job.spec, &image.id, &planned)
    {
        return Ok(Prepared::Same(current));
    }
    let versions = settle(run, &spec, planned).await?;
    let number = engine.database.next_revision(spec.tenant.clone()).await?;
    let unit_set = render_for(
        engine,
        &spec,
        RevisionNumber(number),
        &image.id,
        &versions,
        row.id_range,
    )?;
    run.step("check the units").await?;
    let approach = engine
        .installer
        .check(spec.tenant.clone(), unit_set.clone(), run.take_approach())
        .await?;
    run.announce(approach);
    run.step("make directories").await?;
    make_directories(engine, &spec, image.user).await?;
    crate::protect::create_repository(&engine.layout, &engine.settings(), &spec.tenant)
        .await
        .map_err(|error| OperationError::Backup(chain(&error)))?;
    failpoint::hit("apply.directories");
    let revision = Revision {
        number: RevisionNumber(number),
        created_at: clock::now(),
        actor: run.operation.actor.clone(),
        message: job.message.clone(),
        spec_text: job.spec.clone(),
        resolved: spec,
        image: image.id,
        secrets: versions,
        unit_set_hash: unit_set.hash(),
    };
    let stored = StoredRevision { revision, unit_set };
    engine
        .database
        .store_revision(row.id.clone(), run.operation.id, stored)
        .await?;
    Ok(Prepared::New(number))
}

/// Makes or asks for the secrets that have no value yet. What is refused later leaves them for the next attempt.
async fn settle(
    run: &Run,
    spec: &ResolvedSpec,
    planned: Planned,
) -> Result<SecretVersions, OperationError> {
    if !planned.to_make.is_empty() {
        run.step("make new secrets").await?;
        // A service on the network may be asked: nobody waits for that.
        drop(run.take_approach());
    }
    secrets::settled(&run.engine, spec, planned, &run.operation.actor).await
}

/// The directories that the units mount, owned by the agent's user inside the container.
async fn make_directories(
    engine: &Engine,
    spec: &ResolvedSpec,
    user: User,
) -> Result<(), OperationError> {
    let layout = engine.layout.clone();
    let spec = spec.clone();
    blocking(move || {
        dirs::make(&layout.tenants_dir(), 0o700)?;
        dirs::make(&layout.tenant_dir(&spec.tenant), 0o700)?;
        for (base, mounts) in [
            (layout.state_dir(&spec.tenant), &spec.state),
            (layout.cache_dir(&spec.tenant), &spec.cache),
        ] {
            dirs::make(&base, 0o700)?;
            for mount in mounts {
                dirs::make_owned(
                    &base.join(&mount.name),
                    0o700,
                    user.uid.into(),
                    user.gid.into(),
                )?;
            }
        }
        Ok::<_, files::FileError>(())
    })
    .await?;
    Ok(())
}

async fn bring_in(run: &Run, number: u64) -> Result<(), OperationError> {
    let row = run.row().await?;
    let database = &run.engine.database;
    if matches!(row.state, TenantState::Provisioning) {
        run.follow(Edge::Configure, None).await?;
    }
    database
        .set_current_revision(row.id.clone(), Some(number), false)
        .await?;
    failpoint::hit("apply.current");
    if matches!(
        row.state,
        TenantState::Provisioning | TenantState::Configuring
    ) && row.wanted == Wanted::Running
    {
        run.follow(Edge::Start, None).await?;
    }
    converge(run).await?;
    match row.wanted {
        Wanted::Running => {
            wait_healthy(run).await?;
            trials::arrived(run, number).await?;
            run.reach(TenantState::Running, None).await
        }
        // A held tenant gets its units and stays down; whether they are good shows later.
        Wanted::Suspended => run.reach(TenantState::Suspended, row.held_because).await,
        Wanted::Stopped | Wanted::Removed => {
            run.reach(TenantState::Stopped, row.held_because).await
        }
    }
}

/// Nothing was installed: the tenant stands where it stood, and one that was not there is not.
async fn abandon(
    run: &Run,
    before: &TenantRow,
    error: &OperationError,
) -> Result<(), OperationError> {
    if matches!(
        before.state,
        TenantState::Requested | TenantState::Provisioning
    ) {
        // Only the operation that makes a tenant finds it here, also when it was cut short
        // and taken up again.
        let actor = run.operation.actor.clone();
        let database = &run.engine.database;
        database
            .forget_tenant(before.id.clone(), actor, Some(error.chain()), clock::now())
            .await?;
        return Ok(());
    }
    stand_as_before(run, before).await
}

async fn stand_as_before(run: &Run, before: &TenantRow) -> Result<(), OperationError> {
    match before.state {
        TenantState::Failed => run.fail_as(before).await,
        // The operation was cut short before; what the agent does, the supervisor sees.
        TenantState::Updating | TenantState::Restoring | TenantState::Configuring => {
            run.reach(TenantState::Running, before.reason.clone()).await
        }
        state => run.reach(state, before.reason.clone()).await,
    }
}
