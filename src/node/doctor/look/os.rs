//! A look at the operating system, where it is an image: which one runs, and which one comes next.
//! Reading what `rpm-ostree` and `bootc` say is pure.

use camino::Utf8Path;
use jiff::Timestamp;
use serde::Deserialize;

use super::{Look, said};

/// What the operating system is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Os {
    /// Packages.
    Packages,
    /// An image.
    Image(Image),
}

/// The image that runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Image {
    /// Its version.
    pub version: Option<String>,
    /// When it was built.
    pub built: Option<Timestamp>,
    /// How it was made writable, if it was.
    pub unlocked: Option<String>,
    /// The version that the next boot takes.
    pub staged: Option<String>,
}

/// Looks; only at hosts that ostree booted, and `bootc`'s are among them.
pub(super) async fn look(root: &Utf8Path) -> Look<Os> {
    if !root.join("run/ostree-booted").exists() {
        return Ok(Os::Packages);
    }
    let found = match said("rpm-ostree", &["status", "--json"]).await {
        Ok(text) => of_rpm_ostree(&text),
        Err(first) => match said("bootc", &["status", "--json"]).await {
            Ok(text) => of_bootc(&text),
            Err(second) => return Err(format!("{first}; {second}")),
        },
    };
    found.map(Os::Image)
}

#[derive(Deserialize)]
struct RpmOstree {
    #[serde(default)]
    deployments: Vec<Deployment>,
}

#[derive(Deserialize)]
struct Deployment {
    #[serde(default)]
    booted: bool,
    #[serde(default)]
    staged: bool,
    version: Option<String>,
    /// Seconds since 1970.
    timestamp: Option<i64>,
    /// `none`, or how.
    unlocked: Option<String>,
}

/// Reads `rpm-ostree status --json`.
fn of_rpm_ostree(text: &str) -> Look<Image> {
    let status: RpmOstree = serde_json::from_str(text)
        .map_err(|error| format!("rpm-ostree says what is not understood: {error}"))?;
    let named = |deployment: &Deployment| {
        let version = deployment.version.clone();
        version.unwrap_or_else(|| "a new image".to_owned())
    };
    let staged = status.deployments.iter().find(|found| found.staged);
    let staged = staged.map(named);
    let booted = status.deployments.into_iter().find(|found| found.booted);
    let booted = booted.ok_or("rpm-ostree names no deployment that is booted")?;
    Ok(Image {
        version: booted.version,
        built: booted
            .timestamp
            .and_then(|seconds| Timestamp::from_second(seconds).ok()),
        unlocked: booted.unlocked.filter(|how| how != "none"),
        staged,
    })
}

#[derive(Deserialize)]
struct Bootc {
    status: BootcStatus,
}

#[derive(Deserialize)]
struct BootcStatus {
    booted: Option<BootcEntry>,
    staged: Option<BootcEntry>,
}

#[derive(Deserialize)]
struct BootcEntry {
    image: Option<BootcImage>,
}

#[derive(Deserialize)]
struct BootcImage {
    version: Option<String>,
    timestamp: Option<Timestamp>,
}

/// Reads `bootc status --json`.
fn of_bootc(text: &str) -> Look<Image> {
    let found: Bootc = serde_json::from_str(text)
        .map_err(|error| format!("bootc says what is not understood: {error}"))?;
    let booted = found
        .status
        .booted
        .ok_or("bootc names no image that is booted")?;
    let staged = found.status.staged.map(|entry| {
        let version = entry.image.and_then(|image| image.version);
        version.unwrap_or_else(|| "a new image".to_owned())
    });
    let image = booted.image;
    Ok(Image {
        built: image.as_ref().and_then(|image| image.timestamp),
        version: image.and_then(|image| image.version),
        unlocked: None,
        staged,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rpm_ostree_says_is_read() {
        let text = r#"{"deployments": [
            {"booted": false, "staged": true, "version": "44.2", "timestamp": 1795000000},
            {"booted": true, "staged": false, "version": "44.1", "timestamp": 1790000000, "unlocked": "none", "more": 1}
        ], "transaction": null}"#;
        let expected = Image {
            version: Some("44.1".to_owned()),
            built: Timestamp::from_second(1_790_000_000).ok(),
            unlocked: None,
            staged: Some("44.2".to_owned()),
        };
        assert_eq!(of_rpm_ostree(text), Ok(expected));
        let unlocked = r#"{"deployments": [{"booted": true, "unlocked": "hotfix"}]}"#;
        assert_eq!(
            of_rpm_ostree(unlocked).unwrap().unlocked.as_deref(),
            Some("hotfix")
        );
    }

    #[test]
    fn what_bootc_says_is_read() {
        let text = r#"{"kind": "BootcHost", "status": {
            "staged": {"image": {"version": "44.2", "timestamp": null}},
            "booted": {"image": {"version": "44.1", "timestamp": "2026-11-01T00:00:00Z"}}}}"#;
        let expected = Image {
            version: Some("44.1".to_owned()),
            built: "2026-11-01T00:00:00Z".parse().ok(),
            unlocked: None,
            staged: Some("44.2".to_owned()),
        };
        assert_eq!(of_bootc(text), Ok(expected));
    }

    #[test]
    fn what_is_not_understood_is_not_taken_for_good() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"deployments": []}"#,
            r#"{"status": {}}"#,
        ] {
            assert!(of_rpm_ostree(text).is_err(), "{text}");
            assert!(of_bootc(text).is_err(), "{text}");
        }
    }
}
