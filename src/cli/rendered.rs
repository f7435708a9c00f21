//! `units`: the files that a tenant was rendered into, and how what is installed differs from them.
//! Both are the API's; nothing is read from the disk here.

use std::fmt::Write;

use super::args::UnitsArgs;
use super::client::Client;
use super::console::{Console, Paint};
use super::error::CliError;
use super::output::show as print;
use super::patch::{coloured, ended, patch};
use crate::api::{RenderedFile, TenantUnits};

/// `units`.
pub async fn run(client: &Client, console: Console, args: UnitsArgs) -> Result<(), CliError> {
    let path = format!("/v1/tenants/{}/units", args.tenant);
    print(client, console, &path, args.output.json, |units| {
        if args.diff {
            differences(&units, console.out)
        } else {
            files(&units, console.out)
        }
    })
    .await
}

/// The rendered files, one after the other, each under its name.
fn files(units: &TenantUnits, paint: Paint) -> String {
    let mut text = String::new();
    for file in &units.files {
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = writeln!(text, "{}", paint.dim(&format!("# {}", file.path)));
        text.push_str(&ended(&file.rendered));
    }
    text
}

/// What is installed against what was rendered; nothing when they are the same.
fn differences(units: &TenantUnits, paint: Paint) -> String {
    let changed = units
        .files
        .iter()
        .filter(|file| file.installed.as_deref() != Some(&*file.rendered));
    changed.map(|file| difference(file, paint)).collect()
}

fn difference(file: &RenderedFile, paint: Paint) -> String {
    let installed = file.installed.as_deref().unwrap_or_default();
    let from = match file.installed {
        Some(_) => format!("installed{}", file.path),
        None => "/dev/null".to_owned(),
    };
    let to = format!("rendered{}", file.path);
    coloured(&patch((&from, installed), (&to, &file.rendered)), paint)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Paint = Paint(false);

    fn some_units() -> TenantUnits {
        let file = |name: &str, rendered: &str, installed: Option<&str>| RenderedFile {
            path: format!("/etc/systemd/system/{name}"),
            rendered: rendered.to_owned(),
            installed: installed.map(str::to_owned),
        };
        TenantUnits {
            revision: 3,
            files: vec![
                file("same.slice", "[Slice]\nA=1\n", Some("[Slice]\nA=1\n")),
                file(
                    "edited.slice",
                    "[Slice]\nA=1\nB=2\n",
                    Some("[Slice]\nA=9\nB=2\n"),
                ),
                file("link.service", "link to /x", None),
            ],
        }
    }

    #[test]
    fn units_are_printed_under_their_names() {
        insta::assert_snapshot!(files(&some_units(), PLAIN));
    }

    #[test]
    fn a_difference_is_a_patch_from_installed_to_rendered() {
        insta::assert_snapshot!(differences(&some_units(), PLAIN));
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let coloured = differences(&some_units(), Paint(true));
        assert!(coloured.contains("\u{1b}["));
        let mut plain = coloured;
        for code in [
            "\u{1b}[0m",
            "\u{1b}[1m",
            "\u{1b}[2m",
            "\u{1b}[31m",
            "\u{1b}[32m",
        ] {
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, differences(&some_units(), PLAIN));
    }
}
