//! Pulls images and tells how far it is.
//! Which digest the name then has is asked of the image.

use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::{Stream, StreamExt};

use super::Podman;
use super::error::{self, PodmanError};

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
    /// the pull ends when the stream is dropped.
    pub fn pull(
        &self,
        name: &str,
    ) -> impl Stream<Item = Result<PullProgress, PodmanError>> + Unpin + Send + use<> {
        let options = CreateImageOptionsBuilder::default()
            .from_image(name)
            .build();
        let name = name.to_owned();
        self.docker
            .create_image(Some(options), None, None)
            .map(move |step| {
                let step = step.map_err(|error| error::docker("pull", &name, error))?;
                let progress = step.progress_detail.unwrap_or_default();
                let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
                Ok(PullProgress {
                    status: step.status.unwrap_or_default(),
                    layer: step.id,
                    current: bytes(progress.current),
                    total: bytes(progress.total),
                })
            })
            .boxed()
    }
}
