//! Pulls images and tells how far it is.
//! Which digest the name then has is asked of the image.

use std::time::Duration;

use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::{Stream, StreamExt, stream};

use super::error::{self, PodmanError};
use super::{Podman, libpod};

/// Longest silence in the middle of a pull: while bytes come Podman tells every second, but it
/// says nothing while it unpacks a large layer on a slow disk.
const SILENCE: Duration = Duration::from_mins(10);

/// How far a pull is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullProgress {
    /// What happens now, in Podman's words.
    pub status: String,
    /// The layer it is about, shortened by Podman.
    pub layer: Option<String>,
    /// Bytes that are here, where Podman tells.
    pub current: Option<u64>,
    /// Bytes of all, where Podman tells.
    pub total: Option<u64>,
}

impl Podman {
    /// Pulls `name` from its registry. The image is here when the stream ends without an error;
    /// the pull ends when the stream is dropped. A registry that is silent ends it with
    /// [`PodmanError::Stalled`]: after a minute at first, after ten in the middle.
    pub fn pull(
        &self,
        name: &str,
    ) -> impl Stream<Item = Result<PullProgress, PodmanError>> + Unpin + Send + use<> {
        let options = CreateImageOptionsBuilder::default()
            .from_image(name)
            .build();
        let (image, name) = (name.to_owned(), name.to_owned());
        let steps = self
            .docker
            .create_image(Some(options), None, None)
            .map(move |step| {
                // Podman answers when the registry has: the limit on its answer is the registry's.
                let step = step.map_err(|error| match error {
                    bollard::errors::Error::RequestTimeoutError => PodmanError::Stalled {
                        image: name.clone(),
                        silence: libpod::TIMEOUT,
                    },
                    error => error::docker("pull", &name, error),
                })?;
                let progress = step.progress_detail.unwrap_or_default();
                let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
                Ok(PullProgress {
                    status: step.status.unwrap_or_default(),
                    layer: step.id,
                    current: bytes(progress.current),
                    total: bytes(progress.total),
                })
            });
        bounded(steps, image, SILENCE).boxed()
    }
}

/// `steps`, ended by an error once nothing has come for `silence`.
fn bounded(
    steps: impl Stream<Item = Result<PullProgress, PodmanError>> + Unpin,
    image: String,
    silence: Duration,
) -> impl Stream<Item = Result<PullProgress, PodmanError>> {
    stream::unfold(Some((steps, image)), move |state| async move {
        let (mut steps, image) = state?;
        match tokio::time::timeout(silence, steps.next()).await {
            Ok(step) => Some((step?, Some((steps, image)))),
            // Dropping the steps ends the pull.
            Err(_) => Some((Err(PodmanError::Stalled { image, silence }), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pull_that_falls_silent_ends() {
        let step = PullProgress {
            status: "Downloading".to_owned(),
            layer: None,
            current: None,
            total: None,
        };
        let steps = stream::iter([Ok(step)]).chain(stream::pending()).boxed();
        let silence = Duration::from_millis(10);
        let told: Vec<_> = bounded(steps, "r.example/a:1".to_owned(), silence)
            .collect()
            .await;
        assert!(told[0].is_ok());
        assert_eq!(
            told[1].as_ref().unwrap_err().to_string(),
            "nothing came from the registry of r.example/a:1 for 0 s"
        );
        assert_eq!(told.len(), 2);
    }
}
