//! The documents are executed: the guide's `sh` blocks, and the README's commands, as an operator would type them.
//! A `toml` block whose first line is `# NAME.toml` is that file; other blocks are only to be read.

use std::{fs, time::Duration};

use anyhow::{Context as _, bail, ensure};
use xtask::{
    machine::{Machine, REPOSITORY, in_machine},
    paths,
};

const BINARY: &str = env!("CARGO_BIN_EXE_tenantd");

/// Where the commands are typed: like a source tree with a build in it.
const DIRECTORY: &str = "/root/tenantd";

/// For one block; real agents are started in them.
const LIMIT: Duration = Duration::from_mins(5);

/// A fenced block: the word after its fence, and its lines.
struct Block {
    line: usize,
    kind: String,
    text: String,
}

fn blocks(document: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (index, line) in document.lines().enumerate() {
        if let Some(kind) = line.strip_prefix("```") {
            open = !open;
            if open {
                blocks.push(Block {
                    line: index + 1,
                    kind: kind.to_owned(),
                    text: String::new(),
                });
            }
        } else if let Some(block) = blocks.last_mut().filter(|_| open) {
            block.text.push_str(line);
            block.text.push('\n');
        }
    }
    blocks
}

fn prepare(machine: &Machine) -> anyhow::Result<()> {
    machine.copy_in(BINARY, &format!("{DIRECTORY}/tenantd"))?;
    machine.run([
        "ln",
        "-s",
        &format!("{REPOSITORY}/packaging"),
        &format!("{DIRECTORY}/packaging"),
    ])?;
    Ok(())
}

/// Executes a document; `adapt` makes of a line of shell what this machine can do, or nothing.
fn execute(
    machine: &Machine,
    name: &str,
    adapt: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<usize> {
    let path = paths::repository().join(name);
    let document = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut executed = 0;
    for block in blocks(&document) {
        let file = block
            .text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("# "));
        match (block.kind.as_str(), file) {
            ("toml", Some(file)) => machine.write(&format!("{DIRECTORY}/{file}"), &block.text)?,
            ("sh", _) => {
                let lines: Vec<_> = block.text.lines().filter_map(&adapt).collect();
                let script = format!("cd {DIRECTORY}\n{}\n", lines.join("\n"));
                let bash = ["bash", "-euo", "pipefail", "-s"];
                machine
                    .attempt_with(bash, script.as_bytes(), LIMIT)?
                    .check()
                    .with_context(|| format!("{name}:{}:\n{}", block.line, block.text))?;
                executed += lines.len();
            }
            ("toml", None) => bail!(
                "{name}:{}: a `toml` block must name its file in its first line, or be `text`",
                block.line
            ),
            _ => {}
        }
    }
    Ok(executed)
}

/// The machine's kernel gives systemd no cgroup controllers; a real host would refuse to go on without them.
fn without_controllers(line: &str) -> String {
    let init = line.contains("tenantd init") && !line.contains("--certificate");
    if init {
        line.replace("tenantd init", "tenantd init --allow-missing-controllers")
    } else {
        line.to_owned()
    }
}

#[test]
fn the_guide_can_be_followed_word_by_word() {
    in_machine("docs-guide", |machine| {
        prepare(machine)?;
        let executed = execute(machine, "docs/guide.md", |line| {
            Some(without_controllers(line))
        })?;
        ensure!(
            executed > 50,
            "only {executed} lines of the guide were executed"
        );
        Ok(())
    });
}

#[test]
fn the_readme_says_what_works() {
    in_machine("docs-readme", |machine| {
        prepare(machine)?;
        let executed = execute(machine, "README.md", |line| {
            // Cargo is not in the machine; a terminal and a person are not either.
            let skipped = line.starts_with("cargo ") || line.contains("exec -it");
            let line = line.replace(
                "packaging/install.sh",
                "packaging/install.sh --binary ./tenantd",
            );
            (!skipped).then(|| without_controllers(&line))
        })?;
        ensure!(
            executed >= 7,
            "only {executed} lines of the README were executed"
        );
        Ok(())
    });
}
