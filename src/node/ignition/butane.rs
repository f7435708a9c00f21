//! The Butane form: YAML with its reasons, to be read and kept by people.
//!
//! Written by hand, because libraries that write YAML write no comments. Every text of others is a JSON string or a
//! literal block, in which nothing has a meaning (YAML 1.2, sections 7.3.1 and 8.1.2).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::config::{Config, Contents, DropIn, File, Spec, Unit};

/// The config as a Butane file.
pub fn to_butane(config: &Config, spec: Spec) -> String {
    let mut text = String::new();
    for line in &config.about {
        line_of(&mut text, 0, format!("# {line}").trim_end());
    }
    line_of(&mut text, 0, "variant: fcos");
    line_of(&mut text, 0, &format!("version: {}", spec.butane()));
    if !config.users.is_empty() {
        line_of(&mut text, 0, "passwd:");
        line_of(&mut text, 1, "users:");
        for user in &config.users {
            line_of(&mut text, 2, &format!("- name: {}", quoted(&user.name)));
            line_of(&mut text, 3, "ssh_authorized_keys:");
            for key in &user.ssh_keys {
                line_of(&mut text, 4, &format!("- {}", quoted(key)));
            }
        }
    }
    line_of(&mut text, 0, "storage:");
    if !config.directories.is_empty() {
        line_of(&mut text, 1, "directories:");
        for directory in &config.directories {
            line_of(
                &mut text,
                2,
                &format!("- path: {}", quoted(&directory.path)),
            );
            line_of(&mut text, 3, &format!("mode: {:#o}", Octal(directory.mode)));
        }
    }
    line_of(&mut text, 1, "files:");
    for file in &config.files {
        of_file(&mut text, file);
    }
    line_of(&mut text, 0, "systemd:");
    line_of(&mut text, 1, "units:");
    for unit in &config.units {
        of_unit(&mut text, unit);
    }
    text
}

fn of_file(text: &mut String, file: &File) {
    comment(text, 2, &file.why);
    line_of(text, 2, &format!("- path: {}", quoted(&file.path)));
    let depth = if file.append {
        line_of(text, 3, "append:");
        line_of(text, 4, "-");
        5
    } else {
        line_of(text, 3, &format!("mode: {:#o}", Octal(file.mode)));
        // A host that was made by hand before, or an image that brings one, does not stop the machine from booting.
        line_of(text, 3, "overwrite: true");
        line_of(text, 3, "contents:");
        4
    };
    match &file.contents {
        Contents::Text(_) | Contents::Secret(_) => {
            block(
                text,
                depth,
                "inline",
                file.contents.text().unwrap_or_default(),
            );
        }
        Contents::Bytes { bytes, gzip } => {
            let source = format!("data:;base64,{}", STANDARD.encode(bytes));
            line_of(text, depth, &format!("source: {}", quoted(&source)));
            compression(text, depth, *gzip);
        }
        Contents::Remote { url, hash, gzip } => {
            line_of(text, depth, &format!("source: {}", quoted(url)));
            compression(text, depth, *gzip);
            line_of(text, depth, "verification:");
            line_of(text, depth + 1, &format!("hash: {}", quoted(hash)));
        }
    }
}

fn compression(text: &mut String, depth: usize, gzip: bool) {
    if gzip {
        line_of(text, depth, "compression: gzip");
    }
}

fn of_unit(text: &mut String, unit: &Unit) {
    comment(text, 2, &unit.why);
    line_of(text, 2, &format!("- name: {}", quoted(&unit.name)));
    if let Some(enabled) = unit.enabled {
        line_of(text, 3, &format!("enabled: {enabled}"));
    }
    if let Some(contents) = &unit.contents {
        block(text, 3, "contents", contents);
    }
    if unit.drop_ins.is_empty() {
        return;
    }
    line_of(text, 3, "dropins:");
    for DropIn { name, contents } in &unit.drop_ins {
        line_of(text, 4, &format!("- name: {}", quoted(name)));
        block(text, 5, "contents", contents);
    }
}

/// A text of several lines as a literal block where that keeps every byte, else as a JSON string.
fn block(text: &mut String, depth: usize, key: &str, value: &str) {
    let is_plain = value.ends_with('\n')
        && !value.ends_with("\n\n")
        && !value.starts_with([' ', '\n'])
        && value
            .chars()
            .all(|c| c == '\n' || (c >= ' ' && !is_special(c)));
    if !is_plain {
        line_of(text, depth, &format!("{key}: {}", quoted(value)));
        return;
    }
    line_of(text, depth, &format!("{key}: |"));
    for line in value.lines() {
        line_of(text, depth + 1, line);
    }
}

/// Characters that a YAML stream may not hold, or that end its lines (YAML 1.2, sections 5.1 and 5.4).
fn is_special(c: char) -> bool {
    matches!(
        c,
        '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
    )
}

/// A JSON string, which is a YAML one too; what YAML would take for the end of a line is escaped.
fn quoted(value: &str) -> String {
    let json = serde_json::Value::from(value).to_string();
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if is_special(c) {
            let _ = write!(text, "\\u{:04x}", u32::from(c));
        } else {
            text.push(c);
        }
    }
    text
}

fn comment(text: &mut String, depth: usize, why: &str) {
    for line in why.lines() {
        line_of(text, depth, &format!("# {line}"));
    }
}

/// A mode as YAML 1.1, which Butane reads, writes it: with a leading zero.
struct Octal(u32);

impl std::fmt::Octal for Octal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "0{:o}", self.0)
    }
}

/// A line, indented; an empty one is not.
fn line_of(text: &mut String, depth: usize, line: &str) {
    let indent = if line.is_empty() { 0 } else { 2 * depth };
    let _ = writeln!(text, "{:indent$}{line}", "");
}
