//! What holds of every command: it is consistent, shows an example that is understood, and its help is reviewed.

use std::fmt::Write;

use clap::CommandFactory;

use super::*;

/// Every command that people use, with its path; those for units are left out.
fn commands() -> Vec<(String, clap::Command)> {
    fn walk(path: &str, command: &clap::Command, found: &mut Vec<(String, clap::Command)>) {
        found.push((path.to_owned(), command.clone()));
        for sub in command.get_subcommands() {
            if !matches!(sub.get_name(), "unit" | "help") {
                walk(&format!("{path} {}", sub.get_name()), sub, found);
            }
        }
    }
    let mut root = Cli::command().term_width(100);
    root.build();
    let mut found = Vec::new();
    walk("tenantd", &root, &mut found);
    found
}

fn examples(command: &clap::Command) -> Vec<String> {
    let help = command.get_after_help().map(ToString::to_string);
    let help = help.unwrap_or_default();
    let indented = help.lines().filter_map(|line| line.strip_prefix("  "));
    indented.map(str::to_owned).collect()
}

#[test]
fn the_grammar_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_an_example() {
    for (path, command) in commands() {
        assert!(!examples(&command).is_empty(), "{path} has no example");
    }
}

#[test]
fn every_example_is_understood() {
    let mut tried = 0;
    for (_, command) in commands() {
        for example in examples(&command) {
            // What follows is another program's business.
            let ours = example.split(" | ").next().unwrap_or_default();
            let ours = ours.split(" > ").next().unwrap_or_default();
            if ours.starts_with("tenantd ") {
                let words = ours.split_whitespace();
                let parsed = Cli::try_parse_from(words);
                assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
                tried += 1;
            }
        }
    }
    assert!(tried > 25, "only {tried} examples were found");
}

#[test]
fn the_help_of_every_command() {
    let mut text = String::new();
    for (path, mut command) in commands() {
        let help = command.render_long_help();
        let _ = write!(text, "──── {path} --help\n{help}\n");
    }
    insta::assert_snapshot!(text);
}
