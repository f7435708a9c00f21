//! What tenantd knows about a kind of agent, as data.
//! Four come with the program; the operator's files override and add.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check;
use super::source::Source;
use super::tables::{Backup, Container, Env, Ingress, Mounts, Probes, Stop};
use super::{Egress, Endpoints, ImageRef, Problems, Secrets};

/// A kind of agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(title = "tenantd template")]
pub struct Template {
    /// The name by which specs ask for it.
    pub name: String,
    /// One sentence for the operator who chooses.
    pub description: String,
    /// The image of tenants that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageRef>,
    /// Environment variables.
    #[serde(default)]
    pub env: Env,
    /// Secrets: files below `/run/secrets`, and variables for agents that read no files.
    #[serde(default)]
    pub secrets: Secrets,
    /// Offers of base URLs that lead to providers; a spec takes one up by naming its key.
    #[serde(default)]
    pub endpoints: Endpoints,
    /// What is run, and as what. Capabilities and a writable root are granted here, never in a spec.
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

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// Every problem of the text, each with its line and column.
    pub fn parse(source: &Source) -> Result<Self, Problems> {
        source.parse(|template: &Self| {
            let mut findings = check::name(&template.name);
            findings.extend(check::tables(&check::Tables {
                env: &template.env,
                secrets: &template.secrets,
                endpoints: &template.endpoints,
                container: &template.container,
                ingress: &template.ingress,
                egress: &template.egress,
                probes: &template.probes,
                state: &template.state,
                cache: &template.cache,
                backup: &template.backup,
                stop: &template.stop,
            }));
            findings
        })
    }
}
