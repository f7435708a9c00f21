//! What the operator wants of one tenant: `tenant.toml`.
//! It holds the text's meaning as written; defaults and templates come in with resolving.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check;
use super::source::Source;
use super::tables::{Backup, Container, Env, Ingress, Mounts, Probes, Sleep, Stop};
use super::wake;
use super::{
    Egress, Endpoints, ImageRef, Problems, PublicHost, Secrets, Spending, TenantId, WakeMode,
};

/// One tenant, as its operator wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(title = "tenantd tenant")]
pub struct Spec {
    /// The tenant's id: lower-case letters, digits and dashes, at most 31.
    pub id: TenantId,
    /// The kind of agent.
    #[serde(default = "default_template")]
    pub template: String,
    /// The limits it gets.
    #[serde(default = "default_plan")]
    pub plan: String,
    /// The image; the template's when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageRef>,
    /// When the agent runs; the plan's choice when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake: Option<WakeMode>,
    /// How soon it sleeps, where it is not always on.
    #[serde(default)]
    pub sleep: Sleep,
    /// Host names under which the public finds it, beside the one below the node's domain.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub hosts: BTreeSet<PublicHost>,
    /// A port of this host's loopback, 1024 or higher, that leads to the agent as well: for proxies that cannot speak
    /// to a Unix socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024))]
    pub loopback_port: Option<u16>,
    /// Environment variables, added to the template's. No secrets: those go into `secrets`.
    #[serde(default)]
    pub env: Env,
    /// Secrets: files below `/run/secrets`, and variables for agents that read no files.
    #[serde(default)]
    pub secrets: Secrets,
    /// Base URLs on the agent's own loopback that lead to providers, with keys that it never sees.
    #[serde(default)]
    pub endpoints: Endpoints,
    /// What all endpoints together may use; what is not said here, the plan says.
    #[serde(default)]
    pub spending: Spending,
    /// What is run, and as what.
    #[serde(default)]
    pub container: Container,
    /// How requests reach the agent.
    #[serde(default)]
    pub ingress: Ingress,
    /// Where the agent may go.
    #[serde(default)]
    pub egress: Egress,
    /// HTTP requests whose answers say how the agent is.
    #[serde(default)]
    pub probes: Probes,
    /// Directories that are kept and backed up, by name.
    #[serde(default)]
    pub state: Mounts,
    /// Directories that are kept on this host but can be rebuilt, by name.
    #[serde(default)]
    pub cache: Mounts,
    /// What a backup asks of the agent.
    #[serde(default)]
    pub backup: Backup,
    /// How the agent ends.
    #[serde(default)]
    pub stop: Stop,
}

fn default_template() -> String {
    "generic".to_owned()
}

fn default_plan() -> String {
    "starter".to_owned()
}

impl Spec {
    /// Reads a spec and checks all that can be checked without its template and plan.
    ///
    /// # Errors
    /// Every problem of the text, each with its line and column.
    pub fn parse(source: &Source) -> Result<Self, Problems> {
        source.parse(|spec: &Self| {
            let mut findings = wake::check(&spec.sleep);
            findings.extend(check::ways_in(&spec.hosts, spec.loopback_port));
            findings.extend(check::tables(&check::Tables {
                env: &spec.env,
                secrets: &spec.secrets,
                endpoints: &spec.endpoints,
                container: &spec.container,
                ingress: &spec.ingress,
                egress: &spec.egress,
                probes: &spec.probes,
                state: &spec.state,
                cache: &spec.cache,
                backup: &spec.backup,
                stop: &spec.stop,
            }));
            findings
        })
    }
}
