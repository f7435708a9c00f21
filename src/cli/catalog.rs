//! `templates`, `plans`: what specs can name.

use serde_json::Value;

use super::args::CatalogArgs;
use super::client::Client;
use super::console::{Console, Paint};
use super::error::CliError;
use super::output;
use super::table::{Table, cell};
use crate::api::CatalogEntry;

/// `templates`.
pub async fn templates(
    client: &Client,
    console: Console,
    args: CatalogArgs,
) -> Result<(), CliError> {
    run(client, console, args, "template", "/v1/templates").await
}

/// `plans`.
pub async fn plans(client: &Client, console: Console, args: CatalogArgs) -> Result<(), CliError> {
    run(client, console, args, "plan", "/v1/plans").await
}

async fn run(
    client: &Client,
    console: Console,
    args: CatalogArgs,
    kind: &'static str,
    path: &str,
) -> Result<(), CliError> {
    let document: Value = client.get(path).await?;
    let entries: Vec<CatalogEntry> = output::understood(document.clone())?;
    match (args.name, args.output.json) {
        (None, true) => console.print(&output::json(&document)),
        (None, false) => console.print(&listed(&entries, console.out)),
        (Some(name), json) => {
            let entry = named(&entries, kind, name)?;
            if json {
                console.print(&output::json(entry))
            } else {
                console.print(&entry.text)
            }
        }
    }
}

fn named<'a>(
    entries: &'a [CatalogEntry],
    kind: &'static str,
    name: String,
) -> Result<&'a CatalogEntry, CliError> {
    let found = entries.iter().find(|entry| entry.name == name);
    found.ok_or_else(|| {
        let known: Vec<_> = entries.iter().map(|entry| &*entry.name).collect();
        CliError::Unknown {
            kind,
            name,
            known: known.join(", "),
        }
    })
}

fn listed(entries: &[CatalogEntry], paint: Paint) -> String {
    let mut table = Table::new(&["NAME", "DESCRIPTION"], paint);
    for entry in entries {
        table.row(vec![cell(&entry.name), cell(&entry.description)]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<CatalogEntry> {
        [
            ("openclaw", "The OpenClaw gateway."),
            ("generic", "Any container."),
        ]
        .map(|(name, description)| CatalogEntry {
            name: name.to_owned(),
            description: description.to_owned(),
            text: format!("name = {name:?}\n"),
        })
        .into()
    }

    #[test]
    fn entries_are_listed_with_a_line_each() {
        insta::assert_snapshot!(listed(&entries(), Paint(false)), @r"
        NAME      DESCRIPTION
        openclaw  The OpenClaw gateway.
        generic   Any container.
        ");
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = named(&entries(), "template", "openclav".to_owned()).unwrap_err();
        insta::assert_snapshot!(
            error,
            @r#"there is no template "openclav"; there are: openclaw, generic"#
        );
    }
}
