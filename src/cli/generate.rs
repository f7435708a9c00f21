//! `generate`: completions, manual pages, schemas and the API's document, from the code itself.
//! Packaging calls it; the same code gives the same bytes.

use std::io::{self, Write};

use camino::{Utf8Path, Utf8PathBuf};
use clap::{CommandFactory, Subcommand, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::args::Cli;
use super::console::Console;
use super::error::CliError;
use super::exit;
use super::output::json;
use crate::api;
use crate::backup::without_us;
use crate::node::NodeSettings;
use crate::tenant::schema;

/// What to generate.
#[derive(Debug, Subcommand)]
pub enum GenerateCommand {
    /// Print completions for a shell.
    #[command(after_help = "Example:\n  tenantd generate completions bash > tenantd.bash")]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write a manual page for every command into a directory.
    #[command(after_help = "Example:\n  tenantd generate man /usr/local/share/man/man1")]
    Man {
        /// The directory, which must exist.
        #[arg(value_name = "DIR")]
        directory: Utf8PathBuf,
    },
    /// Write the guide and the script that restore a repository without this program.
    ///
    /// Every repository holds them too, but unsigned: these are the ones to trust.
    #[command(after_help = "Example:\n  tenantd generate restore /usr/local/share/tenantd")]
    Restore {
        /// The directory, which must exist.
        #[arg(value_name = "DIR")]
        directory: Utf8PathBuf,
    },
    /// Print the `OpenAPI` document of the HTTP API.
    #[command(after_help = "Example:\n  tenantd generate openapi > openapi.json")]
    Openapi,
    /// Print the JSON Schema of a document that operators write.
    #[command(after_help = "Example:\n  tenantd generate schema spec > tenant.schema.json")]
    Schema {
        /// The document.
        document: SchemaOf,
    },
}

/// A document with a schema.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SchemaOf {
    /// `tenant.toml`.
    Spec,
    /// A template.
    Template,
    /// A plan.
    Plan,
    /// A price table.
    Prices,
    /// `node.toml`.
    Node,
}

/// Files that the manual pages name, with what they are.
const FILES: [(&str, &str); 7] = [
    (
        "/etc/tenantd/node.toml",
        "The node's settings; `tenantd init` makes them.",
    ),
    (
        "/etc/tenantd/tenants.d/*.toml",
        "Specs that are applied at start and on reload.",
    ),
    (
        "/etc/tenantd/templates.d/*.toml",
        "Templates in place of, or beside, the built-in ones.",
    ),
    (
        "/etc/tenantd/plans.d/*.toml",
        "Plans in place of, or beside, the built-in ones.",
    ),
    (
        "/var/lib/tenantd/tenants/",
        "State of the tenants, one directory each.",
    ),
    (
        "/var/lib/tenantd/backups/",
        "Snapshots, unless node.toml names another store.",
    ),
    (
        "/run/tenantd/api.sock",
        "Where the daemon listens, for root and group tenantd.",
    ),
];

/// Runs the command.
pub fn run(console: Console, command: GenerateCommand) -> Result<(), CliError> {
    match command {
        GenerateCommand::Completions { shell } => {
            console.print(&String::from_utf8_lossy(&completions(shell)))
        }
        GenerateCommand::Man { directory } => write_pages(&directory),
        GenerateCommand::Restore { directory } => without_us::FILES
            .iter()
            .try_for_each(|(name, text)| write(&directory.join(name), text.as_bytes())),
        GenerateCommand::Openapi => console.print(&json(&api::openapi())),
        GenerateCommand::Schema { document } => console.print(&json(&match document {
            SchemaOf::Spec => schema::spec(),
            SchemaOf::Template => schema::template(),
            SchemaOf::Plan => schema::plan(),
            SchemaOf::Prices => schema::prices(),
            SchemaOf::Node => schemars::schema_for!(NodeSettings).to_value(),
        })),
    }
}

/// A shell's completions.
pub(super) fn completions(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tenantd", &mut text);
    text
}

/// Name and text of every manual page.
pub(super) fn manual() -> Result<Vec<(String, Vec<u8>)>, CliError> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    pages(&root).map_err(CliError::Output)
}

fn write_pages(directory: &Utf8Path) -> Result<(), CliError> {
    for (name, text) in manual()? {
        write(&directory.join(name), &text)?;
    }
    Ok(())
}

fn write(path: &Utf8Path, text: &[u8]) -> Result<(), CliError> {
    std::fs::write(path, text).map_err(|source| CliError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Name and text of each page: `command` and all below it that are not hidden.
fn pages(command: &clap::Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    let man = Man::new(command.clone())
        .manual("tenantd manual")
        .source("tenantd")
        // The build's date would make two builds of one source differ.
        .date("");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    examples(command, &mut text)?;
    exit_codes(&mut text)?;
    files(&mut text)?;
    let mut all = vec![(man.get_filename(), text)];
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        all.extend(pages(sub)?);
    }
    Ok(all)
}

/// The indented lines of the help's end.
fn examples(command: &clap::Command, text: &mut Vec<u8>) -> io::Result<()> {
    let help = command.get_after_help().map(ToString::to_string);
    let help = help.unwrap_or_default();
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]);
    roff.control("nf", []);
    for line in help.lines().filter_map(|line| line.strip_prefix("  ")) {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff.to_writer(text)
}

fn exit_codes(text: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in exit::MEANINGS {
        roff.control("TP", []);
        roff.text([bold(code.to_string())]);
        roff.text([roman(meaning)]);
    }
    roff.control("PP", []);
    roff.text([
        bold("tenantd exec"),
        roman(" ends with the exit code of what it ran."),
    ]);
    roff.to_writer(text)
}

fn files(text: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["FILES"]);
    for (path, meaning) in FILES {
        roff.control("TP", []);
        roff.text([bold(path)]);
        roff.text([roman(meaning)]);
    }
    roff.to_writer(text)?;
    text.flush()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn all_pages() -> BTreeMap<String, String> {
        let mut root = Cli::command().disable_help_subcommand(true);
        root.build();
        let pages = pages(&root).unwrap().into_iter();
        pages
            .map(|(name, text)| (name, String::from_utf8(text).unwrap()))
            .collect()
    }

    #[test]
    fn every_command_has_a_page_with_codes_and_files() {
        let pages = all_pages();
        for name in [
            "tenantd.1",
            "tenantd-apply.1",
            "tenantd-exec.1",
            "tenantd-doctor.1",
        ] {
            assert!(pages.contains_key(name), "{name} is missing");
        }
        assert!(!pages.contains_key("tenantd-unit.1"));
        for (name, text) in &pages {
            for section in ["EXAMPLES", "EXIT STATUS", "FILES"] {
                let quoted = format!(".SH \"{section}\"");
                let plain = format!(".SH {section}");
                assert!(
                    text.contains(&quoted) || text.contains(&plain),
                    "{name} has no section {section}"
                );
            }
        }
    }

    #[test]
    fn a_page_reads_well() {
        insta::assert_snapshot!(all_pages()["tenantd-apply.1"]);
    }
}
