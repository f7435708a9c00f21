//! What a tenant's own helper processes (doors, wake, restore, backup) need to know.
//! It is written beside the units and read without the daemon; it holds no secret.

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{
    EndpointSettings, LiveProbe, SecretName, SecretVersion, SleepTimes, TenantId, WakeMode,
};

/// The facts of one tenant's current revision that its helper processes read.
///
/// Part of the unit set, so that it always belongs to the installed units; stored as
/// JSON at [`crate::layout::Layout::runtime_file`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Runtime {
    /// The tenant.
    pub tenant: TenantId,
    /// The revision these facts belong to.
    pub revision: u64,
    /// TCP port on 127.0.0.1 inside the tenant's namespace that the ingress leads to.
    pub port: u16,
    /// Answers once the agent can serve; the start job waits for it.
    pub start_probe: HttpProbe,
    /// Longest wait for the start probe, in seconds.
    pub start_timeout_seconds: u32,
    /// Says whether the running agent is alive; none where nobody asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_probe: Option<LiveProbe>,
    /// When the agent runs.
    pub wake: WakeMode,
    /// How it sleeps; none where it never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleep: Option<SleepTimes>,
    /// Says whether the agent has nothing to do; none where it never sleeps, or is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_probe: Option<HttpProbe>,
    /// Directories below `state/` that are backed up and mounted.
    pub state: Vec<StateMount>,
    /// What the agent is asked around the pause of a backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiesce: Option<QuiesceCalls>,
    /// What `state/` may hold, where this host can keep it to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageLimit>,
    /// The secrets that are delivered before the agent starts; none where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<SecretDelivery>,
    /// Base URLs that lead to providers, and what they may use; none where the tenant has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<EndpointSettings>,
}

/// What an agent is asked with, so that it puts its files in order for a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(
    untagged,
    expecting = "the path of a URL, or the words of a command, such as [\"agent\", \"flush\"]"
)]
pub enum QuiesceCall {
    /// A request (POST, through the tenant's ingress), by its path and query.
    Request(String),
    /// A command in the agent's container, by its words.
    Command(Vec<String>),
}

/// The requests or commands by which an agent puts its files in order for a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct QuiesceCalls {
    /// The one before the pause.
    pub begin: QuiesceCall,
    /// The one after it, if there is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<QuiesceCall>,
    /// Longest wait for either, in seconds.
    pub timeout_seconds: u32,
    /// Whether there is no backup without the agent's consent.
    pub required: bool,
}

/// A limit on what a tenant's `state/` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StorageLimit {
    /// The project of the file system that is the tenant's own for life: the first id of its range.
    pub project: u32,
    /// The plan's limit.
    pub bytes: u64,
}

/// Which secrets the agent gets, and whose files they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SecretDelivery {
    /// The agent's user, as the host numbers it.
    pub uid: u32,
    /// The agent's group, as the host numbers it.
    pub gid: u32,
    /// Each secret.
    pub files: Vec<DeliveredSecret>,
}

/// One secret and the file that it becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DeliveredSecret {
    /// Its name, to which its credential is bound.
    pub name: SecretName,
    /// Its version.
    pub version: SecretVersion,
    /// The file's name below [`super::SECRETS_PATH`].
    pub file: String,
}

/// An HTTP request whose answer says how the agent is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HttpProbe {
    /// Path and query, starting with `/`.
    pub path: String,
    /// The body must be JSON: some agents answer 200 with their web page to every path.
    #[serde(default)]
    pub json: bool,
}

/// One state directory and where the agent finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StateMount {
    /// Name of the directory below the tenant's `state/`.
    pub name: String,
    /// Absolute path inside the container.
    pub path: Utf8PathBuf,
}
