//! `egress allowlist`: what an agent was seen to need becomes the list of its spec.
//! Doors saw it; a person decides.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;
use toml_edit::{Array, DocumentMut, Item, Table, TomlError, value};

use crate::api::{ApplyPlan, ApplyRequest, Document, EgressReport, TenantDetail};
use crate::cli::apply::carry_out;
use crate::cli::args::AllowlistArgs;
use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::error::CliError;
use crate::cli::output;
use crate::tenant::{Destination, EgressMode, HostName, WEB_PORTS};

/// Runs the command.
pub async fn run(client: &Client, console: Console, args: AllowlistArgs) -> Result<(), CliError> {
    let reports = super::reports(client, Some(&args.tenant), args.period).await?;
    if !args.apply {
        let text: String = reports.iter().map(table_of).collect();
        return console.print(&text);
    }
    for report in reports {
        apply(client, console, &args, &report).await?;
    }
    Ok(())
}

async fn apply(
    client: &Client,
    console: Console,
    args: &AllowlistArgs,
    report: &EgressReport,
) -> Result<(), CliError> {
    let tenant = &args.tenant;
    // First the number, so that a spec that changes after it is not overwritten.
    let detail: TenantDetail = client.get(&format!("/v1/tenants/{tenant}")).await?;
    let spec: Document = client.get(&format!("/v1/tenants/{tenant}/spec")).await?;
    let seen = Seen::of(report);
    console.tell(&seen.told());
    let text = seen
        .written_into(&spec.text)
        .map_err(|error| CliError::SpecNotChanged(tenant.clone(), error))?;
    let message = args
        .message
        .clone()
        .unwrap_or_else(|| format!("allow what was seen in {}", report.month));
    let request = ApplyRequest {
        documents: vec![Document { text, ..spec }],
        dry_run: false,
        pull: false,
        message: Some(message),
        force: false,
    };
    let client = &client.expecting(detail.summary.revision);
    let answer: Value = client.post("/v1/apply", &request).await?;
    let plans: Vec<ApplyPlan> = output::understood(answer)?;
    carry_out(client, console, plans, false).await
}

/// What an agent did in a month, beside what its list names already.
#[derive(Debug, Default)]
struct Seen {
    /// Entries that the list lacks.
    missing: BTreeSet<String>,
    /// Destinations that cannot be in a list, since no name was said.
    nameless: Vec<String>,
}

impl Seen {
    fn of(report: &EgressReport) -> Self {
        let parsed = report.allow.iter().filter_map(|text| text.parse().ok());
        let listed: Vec<Destination> = parsed.collect();
        let mut seen = Self::default();
        for (destination, figures) in &report.destinations {
            if figures.connections == 0 {
                continue;
            }
            let parts = destination.rsplit_once(':').and_then(|(host, port)| {
                let name: HostName = host.parse().ok()?;
                Some((name, port.parse::<u16>().ok()?))
            });
            let Some((name, port)) = parts else {
                seen.nameless.push(destination.clone());
                continue;
            };
            if listed
                .iter()
                .any(|entry| entry.covers(&name, port, &report.ports))
            {
                continue;
            }
            seen.missing.insert(if report.ports.contains(&port) {
                name.to_string()
            } else {
                format!("{name}:{port}")
            });
        }
        seen
    }

    fn told(&self) -> String {
        let mut text = String::new();
        for destination in &self.nameless {
            let _ = writeln!(text, "not by a name, so in no list: {destination}");
        }
        for entry in &self.missing {
            let _ = writeln!(text, "added to the list: {entry}");
        }
        text
    }

    /// A spec with mode `allowlist` and these entries beside its own; the rest of it, comments too, stays as it is.
    fn written_into(&self, spec: &str) -> Result<String, TomlError> {
        let mut spec: DocumentMut = spec.parse()?;
        let table = spec.entry("egress").or_insert(Item::Table(Table::new()));
        // A spec was checked before it was stored, so both are what they must be.
        if let Some(table) = table.as_table_like_mut() {
            table.insert("mode", value(EgressMode::Allowlist.to_string()));
            let list = table.entry("allow").or_insert(value(Array::new()));
            if let Some(list) = list.as_array_mut() {
                for entry in &self.missing {
                    list.push(entry);
                }
            }
        }
        Ok(spec.to_string())
    }
}

/// The table `[egress]` that allows what was done.
fn table_of(report: &EgressReport) -> String {
    let seen = Seen::of(report);
    let mut text = String::new();
    for destination in &seen.nameless {
        let _ = writeln!(text, "# Not by a name, so in no list: {destination}");
    }
    text.push_str("[egress]\nmode = \"allowlist\"\nallow = [\n");
    let entries: BTreeSet<_> = report.allow.iter().chain(&seen.missing).collect();
    for entry in entries {
        let _ = writeln!(text, "    \"{entry}\",");
    }
    text.push_str("]\n");
    if report.ports != WEB_PORTS {
        let _ = writeln!(text, "ports = {:?}", report.ports);
    }
    if !report.private_networks.is_empty() {
        let _ = writeln!(text, "private-networks = {:?}", report.private_networks);
    }
    text
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::tests::report;
    use super::*;
    use crate::tenant::{Source, Spec};

    #[test]
    fn what_was_done_becomes_a_list_that_reads_back() {
        let text = table_of(&report());
        insta::assert_snapshot!(text, @r#"
        # Not by a name, so in no list: 203.0.114.9:443
        [egress]
        mode = "allowlist"
        allow = [
            "*.example.org",
            "git.example.net:22",
            "odd.example:8443",
            "pypi.example",
        ]
        private-networks = ["192.168.1.10:11434"]
        "#);
        toml::from_str::<toml::Table>(&text).unwrap()["egress"]
            .clone()
            .try_into::<crate::tenant::Egress>()
            .unwrap();
    }

    #[rstest]
    #[case::without_a_table("")]
    #[case::a_table("\n[egress]\nmode = \"observe\"\nallow = [\n    \"own.example\", # ours\n]\n")]
    #[case::an_inline_table("egress = { allow = [\"own.example\"] }\n")]
    #[case::a_dotted_key("egress.allow = [\"own.example\"]\n")]
    fn it_is_written_into_a_spec_of_whatever_form(#[case] table: &str) {
        let head = "# Who pays: Acme.\nid = \"acme\"\nimage = \"localhost/agent:1\"\n";
        let text = Seen::of(&report())
            .written_into(&format!("{head}{table}"))
            .unwrap();
        assert!(text.starts_with(head), "{text}");
        let spec = Spec::parse(&Source::new("acme.toml", text.clone())).unwrap();
        assert_eq!(spec.egress.mode, Some(EgressMode::Allowlist), "{text}");
        let allow = spec.egress.allow.unwrap();
        let allow: Vec<String> = allow.iter().map(ToString::to_string).collect();
        let own = (!table.is_empty()).then_some("own.example");
        let expected: Vec<_> = own
            .into_iter()
            .chain(["odd.example:8443", "pypi.example"])
            .collect();
        assert_eq!(allow, expected, "{text}");
        assert!(
            !table.contains("# ours") || text.contains("# ours"),
            "{text}"
        );
        // Once more changes nothing: what is listed is not added.
        let listed = EgressReport {
            allow,
            destinations: [("pypi.example:443".to_owned(), report().total)].into(),
            ..report()
        };
        assert_eq!(Seen::of(&listed).written_into(&text).unwrap(), text);
    }
}
