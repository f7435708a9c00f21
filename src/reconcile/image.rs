//! Admission of an image: it is there (or pulled), and an agent can run from it as specified.
//! What the rules are is pure and at the end; what is asked of Podman comes first.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use super::engine::Engine;
use super::error::OperationError;
use super::pull::pull;
use super::run::Run;
use crate::host::podman::Image;
use crate::tenant::{ImageId, ResolvedSpec, User};

/// An admitted image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// What the units name.
    pub id: ImageId,
    /// The user inside the container, by number.
    pub user: User,
}

/// What Podman says of images, each asked about once: for specs that are looked at together.
#[derive(Default)]
pub struct Images {
    known: BTreeMap<String, Option<Image>>,
}

impl Images {
    /// The id of a tenant's image if it is on the host; nothing is pulled.
    pub async fn local(
        &mut self,
        engine: &Engine,
        spec: &ResolvedSpec,
    ) -> Result<Option<ImageId>, OperationError> {
        let name = spec.image.as_str();
        if !self.known.contains_key(name) {
            let image = engine.podman.image(name).await;
            let image = image.map_err(|error| refuse(spec, error))?;
            self.known.insert(name.to_owned(), image);
        }
        let image = self.known.get(name).and_then(Option::as_ref);
        image.map(|image| image_id(spec, image)).transpose()
    }
}

/// The image `id` if it is still on the host, whatever it is called.
pub async fn pinned(
    engine: &Engine,
    spec: &ResolvedSpec,
    id: &ImageId,
) -> Result<Option<ImageId>, OperationError> {
    let image = engine
        .podman
        .image(id.hex())
        .await
        .map_err(|error| refuse(spec, error))?;
    Ok(image.map(|_| id.clone()))
}

/// Finds or pulls a tenant's image and checks that the agent can run from it. With `again`,
/// a name that can mean another image by now is pulled although one is here.
pub async fn resolve(
    run: &Run,
    spec: &ResolvedSpec,
    again: bool,
) -> Result<Admitted, OperationError> {
    let podman = &run.engine.podman;
    let name = spec.image.as_str();
    let mut image = podman
        .image(name)
        .await
        .map_err(|error| refuse(spec, error))?;
    let is_wanted = image.is_none() && !spec.image.is_local();
    if is_wanted || again && spec.image.can_move() {
        // It may take minutes: nobody waits for that.
        drop(run.take_approach());
        pull(run, spec).await?;
        image = podman
            .image(name)
            .await
            .map_err(|error| refuse(spec, error))?;
    }
    let Some(image) = image else {
        return Err(unusable(
            spec,
            "it is not on this host, and a localhost image is never pulled; build it or \
             `podman load` it",
        ));
    };
    let user = admit(spec, &image).map_err(|reason| unusable(spec, reason))?;
    Ok(Admitted {
        id: image_id(spec, &image)?,
        user,
    })
}

/// Podman writes ids with or without their algorithm, depending on the call.
fn image_id(spec: &ResolvedSpec, image: &Image) -> Result<ImageId, OperationError> {
    let digits = image.id.trim_start_matches("sha256:");
    format!("sha256:{digits}")
        .parse()
        .map_err(|error| refuse(spec, error))
}

fn refuse(
    spec: &ResolvedSpec,
    source: impl std::error::Error + Send + Sync + 'static,
) -> OperationError {
    OperationError::Image {
        tenant: spec.tenant.clone(),
        image: spec.image.clone(),
        reason: "Podman does not give it".to_owned(),
        source: Some(Box::new(source)),
    }
}

fn unusable(spec: &ResolvedSpec, reason: impl Into<String>) -> OperationError {
    OperationError::Image {
        tenant: spec.tenant.clone(),
        image: spec.image.clone(),
        reason: reason.into(),
        source: None,
    }
}

/// The user that the agent runs as, or why the image cannot be used as specified.
///
/// A volume of the image that nothing is mounted on would be an anonymous volume, and those
/// go with every stop of the container: data would be lost.
fn admit(spec: &ResolvedSpec, image: &Image) -> Result<User, String> {
    let mounted: BTreeSet<&Utf8Path> = spec
        .state
        .iter()
        .chain(&spec.cache)
        .map(|mount| mount.path.as_path())
        .chain(spec.tmpfs.iter().map(Utf8PathBuf::as_path))
        .collect();
    for volume in &image.volumes {
        let volume = Utf8Path::new(volume.trim_end_matches('/'));
        if !mounted.iter().any(|mount| volume.starts_with(mount)) {
            let name = volume.file_name().unwrap_or("data");
            return Err(format!(
                "it keeps data in {volume}, which the spec does not mount and which would be \
                 lost with every restart; add `[state.{name}]` with `path = \"{volume}\"`, or \
                 `[cache.{name}]` when it can be rebuilt"
            ));
        }
    }
    match (spec.user, image.user.as_str()) {
        (Some(user), _) => Ok(user),
        (None, "") => Ok(User { uid: 0, gid: 0 }),
        (None, user) => numeric(user).ok_or_else(|| {
            format!(
                "it runs as user {user:?}, a name whose number only the image knows; give the \
                 number as `user = {{ uid = …, gid = … }}` under `[container]`"
            )
        }),
    }
}

/// `1000` or `1000:1000`; a lone uid has the gid 0, as Podman does it.
fn numeric(user: &str) -> Option<User> {
    let (uid, gid) = user.split_once(':').unwrap_or((user, "0"));
    Some(User {
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::{Catalog, Source};

    fn spec(text: &str) -> ResolvedSpec {
        let text = format!(
            "id = \"a\"\nimage = \"localhost/a:1\"\n{text}\n[ingress]\nport = 8080\n\
             [probes.start]\npath = \"/\"\n[state.data]\npath = \"/data\"\n"
        );
        Catalog::builtin()
            .resolve(&Source::new("a.toml", text))
            .unwrap()
            .1
    }

    fn image(user: &str, volumes: &[&str]) -> Image {
        Image {
            id: "0".repeat(64),
            digest: None,
            repo_digests: Vec::new(),
            repo_tags: Vec::new(),
            user: user.to_owned(),
            ports: Vec::new(),
            volumes: volumes.iter().map(|&volume| volume.to_owned()).collect(),
            stop_signal: None,
            size: 0,
        }
    }

    #[test]
    fn a_volume_that_nothing_keeps_is_refused_with_the_remedy() {
        let error = admit(&spec(""), &image("", &["/data/inner", "/root/.config"])).unwrap_err();
        insta::assert_snapshot!(error, @r#"it keeps data in /root/.config, which the spec does not mount and which would be lost with every restart; add `[state..config]` with `path = "/root/.config"`, or `[cache..config]` when it can be rebuilt"#);
    }

    #[test]
    fn the_user_is_the_specs_or_a_number_of_the_image() {
        let user = |spec_text: &str, of_image: &str| admit(&spec(spec_text), &image(of_image, &[]));
        assert_eq!(user("", ""), Ok(User { uid: 0, gid: 0 }));
        assert_eq!(
            user("", "1000:1001"),
            Ok(User {
                uid: 1000,
                gid: 1001
            })
        );
        assert_eq!(
            user("container.user = { uid = 5, gid = 6 }", "node"),
            Ok(User { uid: 5, gid: 6 })
        );
        assert!(user("", "node").unwrap_err().contains("node"));
    }
}
