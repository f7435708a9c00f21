//! `history`, `diff`: what a tenant was, and what changed from one revision to another.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

use super::args::{DiffArgs, HistoryArgs};
use super::client::Client;
use super::console::{Console, Paint};
use super::error::CliError;
use super::human::age;
use super::output::{json, show};
use super::patch::{coloured, patch};
use super::table::{Table, cell};
use crate::api::{RevisionDetail, RevisionSummary, Standing};
use crate::host::clock;
use crate::tenant::TenantId;

/// `history`.
pub async fn history(client: &Client, console: Console, args: HistoryArgs) -> Result<(), CliError> {
    let path = format!("/v1/tenants/{}/revisions", args.tenant);
    show(client, console, &path, args.output.json, |revisions| {
        listed(revisions, clock::now(), console.out)
    })
    .await
}

/// `diff`.
pub async fn diff(client: &Client, console: Console, args: DiffArgs) -> Result<(), CliError> {
    let tenant = &args.tenant;
    let revisions: Vec<RevisionSummary> = client
        .get(&format!("/v1/tenants/{tenant}/revisions"))
        .await?;
    let (from, to) = ends(&revisions, args.from, args.to)
        .ok_or_else(|| CliError::NothingToCompare(tenant.clone()))?;
    let one = async |number| client.get(&revision_path(tenant, number)).await;
    let (from, to): (RevisionDetail, RevisionDetail) = (one(from).await?, one(to).await?);
    let difference = Difference::between(&from, &to);
    if args.output.json {
        return console.print(&json(&difference));
    }
    console.print(&difference.shown(args.spec, args.units, console.out))
}

fn revision_path(tenant: &TenantId, number: u64) -> String {
    format!("/v1/tenants/{tenant}/revisions/{number}")
}

/// Which two revisions to compare; those named, else the installed one with the one before it.
///
/// `None` where there is no such pair: nothing is installed, or nothing came before.
fn ends(revisions: &[RevisionSummary], from: Option<u64>, to: Option<u64>) -> Option<(u64, u64)> {
    let to = to.or_else(|| {
        let current = revisions
            .iter()
            .find(|revision| revision.standing == Standing::Current);
        current.map(|revision| revision.revision)
    })?;
    let before = || {
        let earlier = revisions.iter().filter(|revision| revision.revision < to);
        let ran = earlier.filter(|revision| revision.standing != Standing::Failed);
        ran.map(|revision| revision.revision).max()
    };
    Some((from.or_else(before)?, to))
}

fn listed(revisions: Vec<RevisionSummary>, now: Timestamp, paint: Paint) -> String {
    if revisions.is_empty() {
        return "There are no revisions yet.\n".to_owned();
    }
    let header = [
        "REVISION", "MADE", "BY", "STANDING", "IMAGE", "PLAN", "MESSAGE",
    ];
    let mut table = Table::new(&header, paint);
    for revision in revisions {
        // Twelve digits of an image's id tell it from others, as Podman shows it.
        let id = revision.image_id.trim_start_matches("sha256:");
        let id: String = id.chars().take(12).collect();
        table.row(vec![
            cell(revision.revision),
            cell(age(now, revision.created_at)),
            cell(revision.actor),
            cell(standing(revision.standing)),
            cell(format!("{} ({id})", revision.image)),
            cell(revision.plan),
            cell(revision.message),
        ]);
    }
    table.render()
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Applying => "applying",
        Standing::Current => "current",
        Standing::LastKnownGood => "last known good",
        Standing::Failed => "failed",
        Standing::Past => "",
    }
}

/// What leads from one revision to another.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Difference {
    from: u64,
    to: u64,
    /// The image's ids, where they differ.
    image_id: Option<(String, String)>,
    /// A patch of the spec as it was written.
    spec: String,
    /// A patch of what the spec meant: changes of template or plan show here alone.
    resolved: String,
    /// Patches of the rendered files that differ.
    units: Vec<String>,
}

impl Difference {
    fn between(from: &RevisionDetail, to: &RevisionDetail) -> Self {
        let (a, b) = (from.summary.revision, to.summary.revision);
        let compare = |name: &str, old: &str, new: &str| {
            patch((&format!("{a}/{name}"), old), (&format!("{b}/{name}"), new))
        };
        let paths: BTreeSet<&String> = from.files.keys().chain(to.files.keys()).collect();
        let file =
            |files: &RevisionDetail, path| files.files.get(path).cloned().unwrap_or_default();
        let (old, new) = (&from.summary.image_id, &to.summary.image_id);
        Self {
            from: a,
            to: b,
            image_id: (old != new).then(|| (old.clone(), new.clone())),
            spec: compare("spec.toml", &from.spec, &to.spec),
            resolved: compare("resolved.json", &json(&from.resolved), &json(&to.resolved)),
            units: paths
                .into_iter()
                .map(|path| {
                    let name = path.trim_start_matches('/');
                    compare(name, &file(from, path), &file(to, path))
                })
                .filter(|patch| !patch.is_empty())
                .collect(),
        }
    }

    /// For people: the spec, what it meant where only that changed, and the files.
    fn shown(&self, only_spec: bool, only_units: bool, paint: Paint) -> String {
        let mut text = String::new();
        if !only_units {
            text.push_str(&coloured(&self.spec, paint));
            if self.spec.is_empty() {
                text.push_str(&coloured(&self.resolved, paint));
            }
            if let Some((old, new)) = &self.image_id {
                let patch = format!(
                    "--- {}/image\n+++ {}/image\n-{old}\n+{new}\n",
                    self.from, self.to
                );
                text.push_str(&coloured(&patch, paint));
            }
        }
        if !only_spec {
            text.extend(self.units.iter().map(|patch| coloured(patch, paint)));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::cli::samples;
    use crate::state::OperationId;

    const PLAIN: Paint = Paint(false);

    fn revision(number: u64, standing: Standing) -> RevisionSummary {
        RevisionSummary {
            revision: number,
            standing,
            created_at: samples::at("2026-05-04T11:00:00Z"),
            actor: "root".to_owned(),
            message: if number == 3 {
                "more memory".to_owned()
            } else {
                String::new()
            },
            template: "openclaw".to_owned(),
            plan: "pro".to_owned(),
            image: "localhost/openclaw:1".to_owned(),
            image_id: "sha256:0f1e2d3c4b5a69788796a5b4c3d2e1f0".to_owned(),
            unit_set_hash: "ab".to_owned(),
            operation: OperationId::nil(),
        }
    }

    fn detail(number: u64, memory: &str, image: &str) -> RevisionDetail {
        let mut summary = revision(number, Standing::Past);
        image.clone_into(&mut summary.image_id);
        RevisionDetail {
            summary,
            spec: format!("tenant = \"acme\"\nmemory = \"{memory}\""),
            resolved: serde_json::json!({ "memory": memory }),
            files: [
                (
                    "/etc/a.slice".to_owned(),
                    "[Slice]\nTasksMax=9\n".to_owned(),
                ),
                (
                    "/etc/b.slice".to_owned(),
                    format!("[Slice]\nMemoryMax={memory}\n"),
                ),
            ]
            .into(),
        }
    }

    #[test]
    fn a_history_shows_what_stands_where() {
        let revisions = vec![
            revision(4, Standing::Failed),
            revision(3, Standing::Current),
            revision(2, Standing::Past),
        ];
        insta::assert_snapshot!(listed(revisions, samples::now(), PLAIN));
    }

    #[rstest]
    #[case::installed_and_before(None, None, Some((2, 4)))]
    #[case::named_and_installed(Some(1), None, Some((1, 4)))]
    #[case::both_named(Some(4), Some(1), Some((4, 1)))]
    #[case::nothing_before(None, Some(1), None)]
    fn the_installed_one_is_compared_with_what_ran_before(
        #[case] from: Option<u64>,
        #[case] to: Option<u64>,
        #[case] expected: Option<(u64, u64)>,
    ) {
        let revisions = [
            revision(5, Standing::Applying),
            revision(4, Standing::Current),
            revision(3, Standing::Failed),
            revision(2, Standing::Past),
            revision(1, Standing::Past),
        ];
        assert_eq!(ends(&revisions, from, to), expected);
    }

    #[test]
    fn a_difference_names_spec_image_and_files() {
        let difference =
            Difference::between(&detail(2, "2G", "sha256:aa"), &detail(3, "4G", "sha256:bb"));
        insta::assert_snapshot!(difference.shown(false, false, PLAIN));
    }

    #[test]
    fn a_change_of_the_plan_alone_shows_in_what_the_spec_meant() {
        let (old, mut new) = (detail(2, "2G", "sha256:aa"), detail(3, "4G", "sha256:aa"));
        new.spec.clone_from(&old.spec);
        let shown = Difference::between(&old, &new).shown(true, false, PLAIN);
        assert!(shown.contains("+  \"memory\": \"4G\""), "{shown}");
        assert!(!shown.contains("MemoryMax"), "{shown}");
    }
}
