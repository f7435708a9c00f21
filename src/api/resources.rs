//! What the API shows: plain documents, made from rows and observations.
//! They hold no secret and no behaviour.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::sleep::SleepSummary;
use super::usage::{Promised, StorageUsage};
use crate::node::doctor::Fix;
use crate::protect::{Checks, Kept, Release};
use crate::state::{Operation, OperationId, Wanted};
use crate::tenant::FailureCause;

/// One tenant in a list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TenantSummary {
    /// The tenant's id.
    pub id: String,
    /// Where it stands.
    pub state: String,
    /// Why, where that needs saying.
    pub reason: Option<String>,
    /// The cause of a failure.
    #[serde(default)]
    pub cause: Option<FailureCause>,
    /// When tenantd tries by itself to start it again.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_try: Option<Timestamp>,
    /// Since when nothing new is tried, for too many rollbacks; `start` or `apply --force` ends that.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub breaker_open_since: Option<Timestamp>,
    /// From when a terminated tenant is erased.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub erase_at: Option<Timestamp>,
    /// What the operator wants of it.
    pub wanted: Wanted,
    /// Its template.
    pub template: Option<String>,
    /// Its plan.
    pub plan: Option<String>,
    /// Its image, as the spec names it.
    pub image: Option<String>,
    /// The installed revision.
    pub revision: Option<u64>,
    /// Since when it stands there.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// When its last good backup was: what there was then is in the store, whether it was new or not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_backup: Option<Timestamp>,
    /// The state from before a restore, while it is kept.
    #[serde(default)]
    pub kept: Option<Kept>,
    /// How it sleeps; none while it is awake, or held.
    #[serde(default)]
    pub sleep: Option<SleepSummary>,
    /// What of its data is kept beside its state: clones that rollbacks bring back, and what rollbacks have set aside.
    #[serde(default)]
    pub releases: Vec<Release>,
    /// The installed revision, while it has still to show that it is good.
    #[serde(default)]
    pub trial: Option<TrialSummary>,
    /// What the last verification and the last drill of its backups found.
    #[serde(default)]
    pub checks: Checks,
    /// What its state holds; none without a revision.
    #[serde(default)]
    pub storage: Option<StorageUsage>,
    /// Limits of its plan that this host does not enforce.
    pub unenforced: Vec<String>,
}

/// Everything about one tenant.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TenantDetail {
    /// What the list shows.
    #[serde(flatten)]
    pub summary: TenantSummary,
    /// The last revision that was healthy.
    pub good_revision: Option<u64>,
    /// The file under `tenants.d` that defines it.
    pub source: Option<String>,
    /// The image's id, which is what runs.
    pub image_id: Option<String>,
    /// Where its users reach it.
    pub ingress_socket: String,
    /// Its state directory.
    pub state_directory: String,
    /// First host user id of its range of 65 536.
    pub first_uid: u32,
    /// Its units and how they stand.
    pub units: BTreeMap<String, String>,
    /// What the container uses now; none when it does not run.
    pub usage: Option<Usage>,
    /// How the container last ended, in Podman's words; none while it runs.
    pub container_ending: Option<String>,
    /// Newest operations first.
    pub operations: Vec<Operation>,
    /// Newest last.
    pub history: Vec<HistoryLine>,
    /// The last changes of its state, newest first.
    #[serde(default)]
    pub transitions: Vec<TransitionLine>,
}

impl TenantDetail {
    /// What its owner is shown: nothing of the host that it is on.
    #[must_use]
    pub fn without_the_host(self) -> Self {
        Self {
            source: None,
            ingress_socket: String::new(),
            state_directory: String::new(),
            first_uid: 0,
            units: BTreeMap::new(),
            history: self
                .history
                .into_iter()
                .map(HistoryLine::without_the_host)
                .collect(),
            ..self
        }
    }

    /// What is told of the tenant since `at`: whoever had its name before was another one.
    #[must_use]
    pub fn since(mut self, at: Timestamp) -> Self {
        self.operations
            .retain(|operation| operation.started_at >= at);
        self.history.retain(|line| line.at >= at);
        self.transitions.retain(|line| line.at >= at);
        self
    }

    /// What is shown to those who may only read: what operations were asked and have answered names secrets and has
    /// the agent's log.
    #[must_use]
    pub fn without_words(mut self) -> Self {
        self.operations = without_words(self.operations);
        self.history
            .retain(|line| !line.action.starts_with("secret "));
        for line in &mut self.history {
            line.detail = None;
        }
        self
    }
}

/// Operations as those see them who may only read: without what was asked and answered.
pub fn without_words(mut operations: Vec<Operation>) -> Vec<Operation> {
    for operation in &mut operations {
        operation.request = serde_json::Value::Null;
        operation.outcome = None;
    }
    operations
}

/// One change of a tenant's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TransitionLine {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What happened: the edge's word in the diagram of states.
    pub edge: String,
    /// The state before.
    pub from: String,
    /// The state after.
    pub to: String,
    /// The cause of a failure.
    pub cause: Option<String>,
    /// Why, in words.
    pub reason: Option<String>,
}

/// What a container uses.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Usage {
    /// Bytes of memory, when the host counts them.
    pub memory_bytes: Option<u64>,
    /// Processor time since the container started, in nanoseconds.
    pub cpu_nanoseconds: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// One line of a tenant's history.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct HistoryLine {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// Why.
    pub detail: Option<String>,
}

impl HistoryLine {
    /// What the tenant's owner is shown: not the file that it is defined by, nor where the host asks for a secret.
    fn without_the_host(mut self) -> Self {
        let is_reference =
            |detail: &String| self.action.starts_with("secret ") && detail.contains(':');
        if self.action == "create" || self.detail.as_ref().is_some_and(is_reference) {
            self.detail = None;
        }
        self
    }
}

/// One revision of a tenant.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct RevisionSummary {
    /// Its number.
    pub revision: u64,
    /// Where it stands among the others.
    pub standing: Standing,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Who made it.
    pub actor: String,
    /// Why, in the actor's words.
    pub message: String,
    /// The template it was made with.
    pub template: String,
    /// The plan it was made with.
    pub plan: String,
    /// The image, as the spec names it.
    pub image: String,
    /// The image that this meant then.
    pub image_id: String,
    /// Over the files rendered for it.
    pub unit_set_hash: String,
    /// The operation that made it.
    #[schema(value_type = String, format = "uuid")]
    pub operation: OperationId,
}

/// Where a revision stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It is being brought in.
    Applying,
    /// It is installed.
    Current,
    /// It is not installed, and the last that was healthy.
    LastKnownGood,
    /// It was never healthy.
    Failed,
    /// Others have taken its place.
    Past,
}

/// One revision whole.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct RevisionDetail {
    /// What the list shows.
    #[serde(flatten)]
    pub summary: RevisionSummary,
    /// The spec as it was written.
    pub spec: String,
    /// What the spec meant with template and plan of that time.
    #[schema(value_type = Object)]
    pub resolved: serde_json::Value,
    /// The files rendered for it by path; `link to …` for a symbolic link.
    pub files: BTreeMap<String, String>,
}

/// A tenant's rendered files.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TenantUnits {
    /// The revision they were rendered for.
    pub revision: u64,
    /// In order of path.
    pub files: Vec<RenderedFile>,
}

/// One rendered file, and what is installed in its place.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct RenderedFile {
    /// Absolute path.
    pub path: String,
    /// What it should be; `link to …` for a symbolic link.
    pub rendered: String,
    /// What is there; none when nothing is.
    pub installed: Option<String>,
}

/// Specs to apply.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ApplyRequest {
    /// The documents; all are checked before anything is touched.
    pub documents: Vec<Document>,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
    /// Ask the images' registries again, also for names that are on the host. Not in a dry run.
    #[serde(default)]
    pub pull: bool,
    /// Kept with the revisions.
    #[serde(default)]
    pub message: Option<String>,
    /// Try images that have failed before, and although the breaker is open.
    #[serde(default)]
    pub force: bool,
}

/// A document and where it came from.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Document {
    /// For messages: a file's name.
    pub name: String,
    /// The TOML text.
    pub text: String,
}

/// What applying does, or would do, to one tenant.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ApplyPlan {
    /// The tenant.
    pub tenant: String,
    /// What happens to it.
    pub change: Change,
    /// Files that are written.
    pub files: Vec<String>,
    /// How an update comes into force; none for a tenant that is new or does not change.
    #[serde(default)]
    pub impact: Option<Impact>,
    /// What the operator should know before it is done: `capacity`, limits that are not kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Where nothing changes but the image's name could mean another image by now: the image
    /// that the tenant keeps.
    #[serde(default)]
    pub pinned: Option<String>,
    /// The operation that does it; none in a dry run or when nothing changes.
    pub operation: Option<Operation>,
}

impl ApplyPlan {
    /// What the tenant's owner is shown: no paths of the host, and nothing of what it promises to all.
    #[must_use]
    pub fn without_the_host(self) -> Self {
        Self {
            files: Vec::new(),
            warnings: Vec::new(),
            ..self
        }
    }
}

/// How an update comes into force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Impact {
    /// What changes under an agent that runs: `memory from 2GiB to 3GiB`.
    pub live: Vec<String>,
    /// What the agent is restarted for, by the spec's names; it runs on when there is nothing.
    pub restart: Vec<String>,
}

/// What an apply does to a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is new.
    Create,
    /// It gets a new revision and is restarted.
    Update,
    /// Its units or its agent were not as recorded and are put right.
    Repair,
    /// The very same has failed before and is not tried again by itself.
    Skip,
    /// It is as the spec says.
    None,
}

/// Why something is done.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SuspendRequest {
    /// The reason, for those who look later.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Which release to return to.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RollbackRequest {
    /// The revision; default: the last known good one, or else the one that was left last.
    #[serde(default)]
    pub to: Option<u64>,
    /// Leave the data as it is.
    #[serde(default)]
    pub keep_data: bool,
    /// Why; kept in the tenant's history.
    #[serde(default)]
    pub message: Option<String>,
}

/// A revision on trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TrialSummary {
    /// The revision.
    pub revision: u64,
    /// When it is good, if nothing happens.
    #[schema(value_type = String, format = DateTime)]
    pub ends_at: Timestamp,
    /// How often its agent has crashed since it is on trial.
    pub crashes: u32,
}

/// Which snapshot to bring back.
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RestoreRequest {
    /// The snapshot's number; default: the newest.
    #[serde(default)]
    pub snapshot: Option<u64>,
    /// The age identity to read it with; default: the one on the host. Never stored.
    #[serde(default)]
    pub identity: Option<String>,
    /// Take the newest though it is older than it should be.
    #[serde(default)]
    pub allow_old: bool,
}

/// One snapshot.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotSummary {
    /// The tenant, or `(node)`.
    pub tenant: String,
    /// Its number in the repository.
    pub snapshot: u64,
    /// When it was taken.
    #[schema(value_type = String, format = DateTime)]
    pub taken_at: Timestamp,
    /// Files in it.
    pub files: u64,
    /// Their sizes added up.
    pub bytes: u64,
    /// Bytes that it sent to the store.
    pub sent_bytes: u64,
    /// How long the agent was paused for it, in microseconds.
    pub pause_us: u64,
    /// The rules of `[retention]` that keep it, as far as this host knows; `prune` deletes it when there
    /// are none.
    #[serde(default)]
    pub kept_by: Vec<String>,
    /// Where another node wrote it, off the chain that a restore takes: the fingerprint of that node's key and
    /// its epoch, as the last restore has seen it. Its size is not known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<String>,
}

/// How the node is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct NodeStatus {
    /// The node's name.
    pub name: String,
    /// This tenantd's version.
    pub version: String,
    /// How many tenants stand in which state.
    pub tenants: BTreeMap<String, usize>,
    /// Where snapshots go.
    pub store: String,
    /// What all plans together promise of the host.
    #[serde(default)]
    pub promised: Vec<Promised>,
    /// What the operator should know or mend.
    pub warnings: Vec<String>,
    /// Operations at work now.
    pub operations: Vec<Operation>,
}

/// A template or a plan.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CatalogEntry {
    /// Its name.
    pub name: String,
    /// One line about it.
    pub description: String,
    /// The whole document.
    pub text: String,
}

/// What one check of the doctor found.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CheckResult {
    /// The check's stable name.
    pub check: String,
    /// How it went.
    pub verdict: Verdict,
    /// What was found.
    pub finding: String,
    /// What goes wrong where a host is not as it should be.
    #[serde(default)]
    pub reason: Option<String>,
    /// What to do about it.
    pub remedy: Option<String>,
    /// What `tenantd doctor --fix` would do about it.
    #[serde(default)]
    pub fixes: Vec<Fix>,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It could not be looked at.
    Unknown,
    /// Works, but should be mended.
    Warning,
    /// Tenants will not run well, or at all.
    Failed,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::reconcile::asked;
    use crate::state::OperationKind;

    #[test]
    fn an_owner_sees_nothing_of_the_host_in_a_plan_or_in_history() {
        let plan = ApplyPlan {
            tenant: "acme".to_owned(),
            change: Change::Update,
            files: vec!["/etc/containers/systemd/tenant-acme.container".to_owned()],
            impact: None,
            warnings: vec!["memory: 90 of 64 GiB are promised".to_owned()],
            pinned: None,
            operation: None,
        };
        let plan = plan.without_the_host();
        assert!(plan.files.is_empty() && plan.warnings.is_empty());
        let shown = |action: &str, detail: &str| {
            let line = HistoryLine {
                at: Timestamp::UNIX_EPOCH,
                actor: "root".to_owned(),
                action: action.to_owned(),
                detail: Some(detail.to_owned()),
            };
            line.without_the_host().detail
        };
        assert_eq!(shown("secret A: version 1 stored", "op://agents/key"), None);
        assert_eq!(shown("create", "/etc/tenantd/tenants.d/acme.toml"), None);
        assert_eq!(shown("apply", "for: all").as_deref(), Some("for: all"));
    }

    #[test]
    fn those_who_may_only_read_see_no_secrets_names_and_no_log_in_operations() {
        let request = json!({ "spec": "[secrets.API_KEY]" });
        let mut operation = asked(OperationKind::Apply, None, request, "root".to_owned());
        operation.outcome = Some(json!({ "log": ["a word of the agent's"] }));
        let shown = without_words(vec![operation.clone()]);
        assert_eq!(shown[0].id, operation.id);
        let text = serde_json::to_string(&shown).unwrap();
        assert!(
            !text.contains("API_KEY") && !text.contains("word"),
            "{text}"
        );
    }
}
