//! Podman's events about containers: hints that something changed, never the truth about it.
//! Health events come once per probe; they are passed on like any other.

use std::collections::HashMap;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;

use super::Podman;
use super::error::{self, PodmanError};

/// Something that happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerEvent {
    /// The container's name.
    pub container: String,
    /// What happened, in the words of Docker's API: `create`, `start`, `die`, `oom`, `pause`,
    /// `unpause`, `remove`, `exec_died`, …
    pub action: String,
    /// How the main process ended, with `die`.
    pub exit_code: Option<i32>,
    /// When.
    pub at: Option<Timestamp>,
}

impl ContainerEvent {
    fn read(message: EventMessage) -> Option<Self> {
        let actor = message.actor?;
        let mut attributes = actor.attributes.unwrap_or_default();
        Some(Self {
            container: attributes.remove("name").or(actor.id)?,
            action: message.action?,
            exit_code: ["containerExitCode", "exitCode"]
                .iter()
                .find_map(|key| attributes.get(*key)?.parse().ok()),
            at: message
                .time_nano
                .and_then(|nanos| Timestamp::from_nanosecond(nanos.into()).ok()),
        })
    }
}

impl Podman {
    /// Events about containers after `since`, past and to come. After an error the stream ends: what was known must
    /// be asked for again, and events be listened to anew.
    pub fn events(
        &self,
        since: Timestamp,
    ) -> impl Stream<Item = Result<ContainerEvent, PodmanError>> + Unpin + Send + use<> {
        let filters = HashMap::from([("type", vec!["container"])]);
        let since = format!("{}.{:09}", since.as_second(), since.subsec_nanosecond());
        let options = EventsOptionsBuilder::default()
            .filters(&filters)
            .since(&since)
            .build();
        self.docker
            .events(Some(options))
            .filter_map(|message| async {
                match message {
                    Ok(message) => ContainerEvent::read(message).map(Ok),
                    Err(error) => Some(Err(error::docker("report", "events", error))),
                }
            })
            .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_end_of_a_container() {
        let message: EventMessage = serde_json::from_str(
            r#"{"status":"die","id":"99","from":"localhost/bb:1","Type":"container","Action":"die",
            "Actor":{"ID":"99","Attributes":{"containerExitCode":"137","name":"tenant-a"}},
            "scope":"local","time":1,"timeNano":1000000001}"#,
        )
        .unwrap();
        assert_eq!(
            ContainerEvent::read(message),
            Some(ContainerEvent {
                container: "tenant-a".to_owned(),
                action: "die".to_owned(),
                exit_code: Some(137),
                at: Some("1970-01-01T00:00:01.000000001Z".parse().unwrap()),
            })
        );
    }
}
