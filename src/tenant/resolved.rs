//! A spec with everything filled in: what is stored with a revision and rendered into units.
//! There is nothing left to look up; templates and plans may change without changing it.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::tables::{Env, KillMode, User};
use super::{
    Capability, EgressPolicy, EndpointSettings, HttpProbe, ImageRef, Limits, Period, PublicHost,
    QuiesceCalls, ResolvedSecret, SecretName, Size, SleepTimes, StateMount, TenantId, WakeMode,
};

/// One tenant, completely described. Made by [`super::resolve`] only, so that its values keep
/// the rules (ports, paths, names, no control characters) that rendering relies on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ResolvedSpec {
    /// The tenant.
    pub tenant: TenantId,
    /// The template it was made with; for people, nothing is looked up by it.
    pub template: String,
    /// The plan it was made with; for people, nothing is looked up by it.
    pub plan: String,
    /// The image as the operator names it. Units name the [`super::ImageId`] that it had.
    pub image: ImageRef,
    /// When the agent runs.
    pub wake: WakeMode,
    /// How it sleeps, where it is not always on.
    #[serde(default)]
    pub sleep: SleepTimes,
    /// Environment variables.
    pub env: Env,
    /// Secrets, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<SecretName, ResolvedSecret>,
    /// Base URLs that lead to providers, and what they may use.
    #[serde(default, skip_serializing_if = "EndpointSettings::is_empty")]
    pub endpoints: EndpointSettings,
    /// Replaces the image's entry point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Replaces the image's command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// User and group inside the container; the image's own when none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// Capabilities that are not dropped.
    pub capabilities: BTreeSet<Capability>,
    /// The image's files cannot be changed.
    pub read_only: bool,
    /// An init process runs as the first of the container.
    pub init: bool,
    /// Further directories in memory.
    pub tmpfs: Vec<Utf8PathBuf>,
    /// Directory in which the program starts; the image's own when none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<Utf8PathBuf>,
    /// Size of `/dev/shm`; Podman's own when none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<Size>,
    /// TCP port on 127.0.0.1 in the tenant's namespace where the agent listens.
    pub port: u16,
    /// Host names beside the one below the node's domain.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub hosts: BTreeSet<PublicHost>,
    /// TCP port on the host's own 127.0.0.1 that leads to the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loopback_port: Option<u16>,
    /// Where the agent may go.
    #[serde(default)]
    pub egress: EgressPolicy,
    /// Says when a start is done.
    pub start_probe: StartProbe,
    /// Says whether the agent is alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_probe: Option<LiveProbe>,
    /// Says whether the agent has nothing to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_probe: Option<HttpProbe>,
    /// Kept and backed up, sorted by name; the name is the directory's below `state/`.
    pub state: Vec<StateMount>,
    /// Kept but not backed up, sorted by name; the name is the directory's below `cache/`.
    pub cache: Vec<StateMount>,
    /// What the agent is asked around the pause of a backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiesce: Option<QuiesceCalls>,
    /// How the agent ends.
    pub stop: ResolvedStop,
    /// What it may use.
    pub limits: Limits,
}

impl ResolvedSpec {
    /// The secrets that the agent gets: all but the keys of its endpoints.
    pub fn agent_secrets(&self) -> impl Iterator<Item = (&SecretName, &ResolvedSecret)> {
        let secrets = self.secrets.iter();
        secrets.filter(|(name, _)| !self.endpoints.has_key(name))
    }

    /// Whether the agent gets any secret.
    pub fn has_agent_secrets(&self) -> bool {
        self.agent_secrets().next().is_some()
    }
}

/// The start probe and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StartProbe {
    /// The request.
    pub http: HttpProbe,
    /// Longest wait until it is answered.
    pub timeout: Period,
}

/// The live probe and its pace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LiveProbe {
    /// The request.
    pub http: HttpProbe,
    /// Time between two requests.
    pub interval: Period,
    /// Longest wait for one answer.
    pub timeout: Period,
}

/// How the agent ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ResolvedStop {
    /// Time the agent has to end by itself.
    pub timeout: Period,
    /// The signal that asks it; the image's own when none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Who is killed when the time is over.
    pub kill_mode: KillMode,
    /// Exit codes after which a restart is useless.
    pub fatal_exit_codes: BTreeSet<u8>,
}
