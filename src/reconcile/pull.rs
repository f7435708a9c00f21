//! Pulls an image as an operation, and says in one line how far it is.
//! What Podman tells of layers is added up here; when it is told again is decided here too.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt;

use super::error::OperationError;
use super::run::Run;
use crate::host::clock;
use crate::host::podman::{PodmanError, PullProgress};
use crate::tenant::ResolvedSpec;

/// Pause between two words on bytes; a layer that begins or ends is told at once.
const PAUSE: Duration = Duration::from_secs(1);

/// Pulls the spec's image, step by step.
pub async fn pull(run: &Run, spec: &ResolvedSpec) -> Result<(), OperationError> {
    let name = spec.image.as_str();
    run.step(&format!("pull {name}")).await?;
    let mut layers = Layers::default();
    let mut told: Option<(usize, usize, Instant)> = None;
    let mut progress = run.engine.podman.pull(name);
    while let Some(event) = progress.next().await {
        layers.take(event.map_err(|error| refused(spec, error))?);
        let (done, seen) = layers.counts();
        let now = clock::monotonic();
        let is_news = told.is_none_or(|(old_done, old_seen, at)| {
            (old_done, old_seen) != (done, seen) || now.duration_since(at) >= PAUSE
        });
        if is_news {
            told = Some((done, seen, now));
            run.step(&format!("pull {name}: {}", layers.text())).await?;
        }
    }
    Ok(())
}

/// Adds up what is told of an image's layers; its configuration counts as one of them.
#[derive(Debug, Default)]
struct Layers(BTreeMap<String, Layer>);

#[derive(Debug, Default)]
struct Layer {
    done: bool,
    current: u64,
    total: u64,
}

impl Layers {
    fn take(&mut self, event: PullProgress) {
        let Some(id) = event.layer else {
            return;
        };
        let layer = self.0.entry(id).or_default();
        layer.current = event.current.unwrap_or(layer.current);
        layer.total = event.total.unwrap_or(layer.total);
        // Podman's words in Docker's dialect.
        layer.done |= matches!(
            event.status.as_str(),
            "Download complete" | "Pull complete" | "Already exists"
        );
    }

    /// Layers that are here, and those heard of; more may be heard of later.
    fn counts(&self) -> (usize, usize) {
        let done = self.0.values().filter(|layer| layer.done).count();
        (done, self.0.len())
    }

    fn text(&self) -> String {
        let (done, seen) = self.counts();
        let total: u64 = self.0.values().map(|layer| layer.total).sum();
        let current: u64 = self
            .0
            .values()
            .map(|layer| {
                if layer.done {
                    layer.total
                } else {
                    layer.current
                }
            })
            .sum();
        let text = format!("{done} of {seen} layers");
        if total == 0 {
            return text;
        }
        let (current, total) = (current / 1_000_000, total.div_ceil(1_000_000));
        format!("{text}, {current} of {total} MB")
    }
}

fn refused(spec: &ResolvedSpec, error: PodmanError) -> OperationError {
    let reason = match &error {
        PodmanError::Refused { said, .. } => remedy(said),
        PodmanError::Stalled { .. } => "its registry does not answer; try again when it does",
        _ => "Podman does not give it",
    };
    OperationError::Image {
        tenant: spec.tenant.clone(),
        image: spec.image.clone(),
        reason: reason.to_owned(),
        source: Some(Box::new(error)),
    }
}

/// What to do about a refusal, by what Podman and registries are known to say.
fn remedy(said: &str) -> &'static str {
    let said = said.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if says(&[
        "unauthorized",
        "authentication required",
        "denied",
        "forbidden",
    ]) {
        "its registry wants a login or has no such image; try `podman login`, and check the name"
    } else if says(&["manifest unknown", "name unknown", "not found"]) {
        "its registry has no such image; check name and tag"
    } else if says(&["server gave http response to https client"]) {
        "its registry speaks plain HTTP; name it as `insecure` in \
         /etc/containers/registries.conf.d, then `systemctl restart podman`"
    } else if says(&["x509", "certificate"]) {
        "its registry's certificate is not trusted; put its CA under /etc/containers/certs.d"
    } else if says(&["no space left", "quota exceeded"]) {
        "the disk of /var/lib/containers is full; make room there (`podman image prune`)"
    } else if says(&[
        "timeout",
        "connection refused",
        "no such host",
        "no route",
        "unreachable",
    ]) {
        "its registry does not answer; check its name and the network"
    } else {
        "Podman cannot pull it"
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn event(layer: &str, status: &str, bytes: Option<(u64, u64)>) -> PullProgress {
        PullProgress {
            status: status.to_owned(),
            layer: Some(layer.to_owned()),
            current: bytes.map(|(current, _)| current),
            total: bytes.map(|(_, total)| total),
        }
    }

    #[test]
    fn layers_and_bytes_are_added_up() {
        let mut layers = Layers::default();
        let mut told = Vec::new();
        for event in [
            event("a", "Already exists", None),
            event("b", "Pulling fs layer", None),
            event("b", "Downloading", Some((1_000_000, 8_000_000))),
            event("c", "Downloading", Some((0, 3_500_000))),
            event("b", "Download complete", None),
            event("c", "Download complete", None),
        ] {
            layers.take(event);
            told.push(layers.text());
        }
        assert_eq!(
            told,
            [
                "1 of 1 layers",
                "1 of 2 layers",
                "1 of 2 layers, 1 of 8 MB",
                "1 of 3 layers, 1 of 12 MB",
                "2 of 3 layers, 8 of 12 MB",
                "3 of 3 layers, 11 of 12 MB",
            ]
        );
    }

    #[rstest]
    #[case("manifest unknown: manifest unknown", "has no such image")]
    #[case("unauthorized: access to the requested resource", "podman login")]
    #[case("requested access to the resource is denied", "podman login")]
    #[case("http: server gave HTTP response to HTTPS client", "registries.conf.d")]
    #[case(
        "tls: failed to verify certificate: x509: unknown authority",
        "certs.d"
    )]
    #[case("writing blob: write /var/tmp/x: no space left on device", "make room")]
    #[case("dial tcp 127.0.0.1:1: connect: connection refused", "does not answer")]
    #[case("dial tcp: lookup r.example: no such host", "does not answer")]
    #[case("something new", "Podman cannot pull it")]
    fn a_refusal_has_a_remedy(#[case] said: &str, #[case] expected: &str) {
        assert!(remedy(said).contains(expected), "{}", remedy(said));
    }
}
