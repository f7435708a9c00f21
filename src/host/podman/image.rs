//! Images as far as admission and pinning need them.
//! Reads Podman's answer leniently: what an image does not say is empty.

use std::collections::BTreeMap;

use hyper::Method;
use serde::Deserialize;
use serde_json::Value;

use super::Podman;
use super::error::PodmanError;
use super::libpod::{Question, escape, if_there};

/// One image on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Podman's id, the digest of the image's configuration without its prefix.
    pub id: String,
    /// The digest of the image's manifest, by which a revision is pinned.
    pub digest: Option<String>,
    /// The names under which the image is known, with their digests.
    pub repo_digests: Vec<String>,
    /// The names under which the image is known, with their tags.
    pub repo_tags: Vec<String>,
    /// The user that it runs as; empty means root.
    pub user: String,
    /// The ports that it says it listens on.
    pub ports: Vec<Port>,
    /// The paths that it declares as volumes: with no mount there, their content dies with
    /// the container.
    pub volumes: Vec<String>,
    /// The signal that stops it, as a name or a number.
    pub stop_signal: Option<String>,
    /// Its size, in bytes.
    pub size: u64,
}

/// A port of an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    id: String,
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    config: Option<Config>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    exposed_ports: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    volumes: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    stop_signal: Option<String>,
}

impl From<Answer> for Image {
    fn from(answer: Answer) -> Self {
        let config = answer.config.unwrap_or_default();
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Self {
            id: answer.id,
            digest: given(answer.digest),
            repo_digests: answer.repo_digests.unwrap_or_default(),
            repo_tags: answer.repo_tags.unwrap_or_default(),
            user: given(answer.user)
                .or(given(config.user))
                .unwrap_or_default(),
            ports: config
                .exposed_ports
                .unwrap_or_default()
                .keys()
                .filter_map(|text| Port::parse(text))
                .collect(),
            volumes: config.volumes.unwrap_or_default().into_keys().collect(),
            stop_signal: given(config.stop_signal),
            size: answer.size,
        }
    }
}

impl Port {
    /// Reads `8080/tcp` or `8080`.
    fn parse(text: &str) -> Option<Self> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        Some(Self {
            number: number.parse().ok()?,
            protocol: protocol.to_owned(),
        })
    }
}

impl Podman {
    /// The image of this name, tag, digest or id, if it is on this host.
    pub async fn image(&self, name: &str) -> Result<Option<Image>, PodmanError> {
        let question = Question {
            verb: "inspect the image",
            object: name,
        };
        let path = format!("/images/{}/json", escape(name));
        let answer: Option<Answer> = if_there(self.libpod.get(&path, question).await)?;
        Ok(answer.map(Image::from))
    }

    /// Takes a name away from an image, and the image with its last name. Says whether there
    /// was one; one that a container uses is refused.
    pub async fn remove_image(&self, name: &str) -> Result<bool, PodmanError> {
        let question = Question {
            verb: "remove the image",
            object: name,
        };
        let path = format!("/images/{}", escape(name));
        let answer = self.libpod.call(Method::DELETE, &path, question).await;
        Ok(if_there(answer)?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Image {
        serde_json::from_str::<Answer>(json).unwrap().into()
    }

    #[test]
    fn reads_what_admission_needs() {
        let image = read(
            r#"{"Id":"fd4a","Digest":"sha256:4144","RepoDigests":["localhost/bb@sha256:4144"],
            "RepoTags":["localhost/bb:1"],"User":"1000:1000","Size":12,"Config":{
            "ExposedPorts":{"18789/tcp":{},"53/udp":{},"x":{}},"Volumes":{"/data":{}},
            "StopSignal":"SIGINT"},"Fresh":["unknown"]}"#,
        );
        assert_eq!(image.user, "1000:1000");
        assert_eq!(
            image.ports,
            [
                Port {
                    number: 18789,
                    protocol: "tcp".to_owned()
                },
                Port {
                    number: 53,
                    protocol: "udp".to_owned()
                }
            ]
        );
        assert_eq!(image.volumes, ["/data"]);
        assert_eq!(image.stop_signal.as_deref(), Some("SIGINT"));
        assert_eq!(image.digest.as_deref(), Some("sha256:4144"));
    }

    #[test]
    fn an_image_that_says_nothing_is_read_too() {
        let image = read(r#"{"Id":"a","RepoDigests":null,"Config":{"Volumes":null},"Digest":""}"#);
        assert_eq!(image.digest, None);
        assert!(image.user.is_empty() && image.ports.is_empty() && image.volumes.is_empty());
    }
}
