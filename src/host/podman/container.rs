//! Containers as Podman sees them.
//! systemd's view of the service decides; this tells why, and finds what was left behind.

use std::collections::BTreeMap;

use hyper::Method;
use jiff::Timestamp;
use serde::Deserialize;

use super::Podman;
use super::error::PodmanError;
use super::libpod::{Question, escape, if_there};

/// The state of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Running; also while its control group is frozen without Podman's help.
    Running,
    /// Paused by Podman.
    Paused,
    /// On its way down.
    Stopping,
    /// Ended.
    Exited,
    /// Any other state, in Podman's words.
    Other(String),
}

impl From<&str> for ContainerState {
    fn from(text: &str) -> Self {
        match text {
            "created" | "configured" | "initialized" => Self::Created,
            "running" => Self::Running,
            "paused" => Self::Paused,
            "stopping" | "removing" => Self::Stopping,
            "exited" | "stopped" => Self::Exited,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// What Podman knows about one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Podman's id.
    pub id: String,
    /// Its state.
    pub state: ContainerState,
    /// How its main process ended; meaningless while it runs.
    pub exit_code: i32,
    /// Whether it was ended for want of memory.
    pub oom_killed: bool,
    /// Its main process on the host, if it runs.
    pub pid: Option<u32>,
    /// When it was started last.
    pub started_at: Option<Timestamp>,
    /// The id of its image.
    pub image_id: String,
    /// The digest of its image's manifest.
    pub image_digest: Option<String>,
    /// Its control group, below `/sys/fs/cgroup`.
    pub cgroup: Option<String>,
    /// Its labels, which tell whose it is.
    pub labels: BTreeMap<String, String>,
}

/// One row of a list of containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSummary {
    /// Podman's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: ContainerState,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    id: String,
    state: State,
    #[serde(default)]
    image: String,
    #[serde(default)]
    image_digest: Option<String>,
    #[serde(default)]
    config: Config,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    #[serde(default)]
    status: String,
    #[serde(default)]
    exit_code: i32,
    #[serde(default, rename = "OOMKilled")]
    oom_killed: bool,
    #[serde(default)]
    pid: u32,
    #[serde(default)]
    started_at: Option<Timestamp>,
    #[serde(default)]
    cgroup_path: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    state: String,
}

impl From<Answer> for Container {
    fn from(
        Answer {
            id,
            state,
            image,
            image_digest,
            config,
        }: Answer,
    ) -> Self {
        Self {
            id,
            state: state.status.as_str().into(),
            exit_code: state.exit_code,
            oom_killed: state.oom_killed,
            pid: Some(state.pid).filter(|pid| *pid != 0),
            // Podman says "never" with Go's year 1.
            started_at: state.started_at.filter(|at| *at > Timestamp::UNIX_EPOCH),
            image_id: image,
            image_digest: image_digest.filter(|digest| !digest.is_empty()),
            cgroup: state.cgroup_path.filter(|path| !path.is_empty()),
            labels: config.labels.unwrap_or_default(),
        }
    }
}

impl Podman {
    /// The container of this name, if there is one.
    pub async fn container(&self, name: &str) -> Result<Option<Container>, PodmanError> {
        let question = Question {
            verb: "inspect the container",
            object: name,
        };
        let path = format!("/containers/{}/json", escape(name));
        let answer: Option<Answer> = if_there(self.libpod.get(&path, question).await)?;
        Ok(answer.map(Container::from))
    }

    /// All containers of the host, running or not.
    pub async fn containers(&self) -> Result<Vec<ContainerSummary>, PodmanError> {
        let question = Question {
            verb: "list",
            object: "containers",
        };
        let rows: Option<Vec<Row>> = self
            .libpod
            .get("/containers/json?all=true", question)
            .await?;
        Ok(rows
            .unwrap_or_default()
            .into_iter()
            .map(|row| ContainerSummary {
                id: row.id,
                name: row.names.into_iter().next().unwrap_or_default(),
                state: row.state.as_str().into(),
            })
            .collect())
    }

    /// Ends and removes a container that its service left behind; says whether there was one.
    pub async fn remove_container(&self, name: &str) -> Result<bool, PodmanError> {
        let question = Question {
            verb: "remove the container",
            object: name,
        };
        let path = format!("/containers/{}?force=true&v=true", escape(name));
        let answer = self.libpod.call(Method::DELETE, &path, question).await;
        Ok(if_there(answer)?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_container_in_a_state_that_is_not_known_yet() {
        let answer: Answer = serde_json::from_str(
            r#"{"Id":"99","Image":"fd","ImageDigest":"sha256:41","State":{"Status":"dreaming",
            "OOMKilled":true,"ExitCode":137,"Pid":0,"StartedAt":"0001-01-01T00:00:00Z",
            "CgroupPath":"/tenant.slice/x"}}"#,
        )
        .unwrap();
        let container = Container::from(answer);
        assert_eq!(
            container.state,
            ContainerState::Other("dreaming".to_owned())
        );
        assert_eq!((container.exit_code, container.oom_killed), (137, true));
        assert_eq!((container.pid, container.started_at), (None, None));
    }
}
