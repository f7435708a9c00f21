//! `ls`: what is in a snapshot, read in this process, without the daemon.

use std::fmt::Write as _;

use super::args::LsArgs;
use super::console::Console;
use super::error::CliError;
use super::human::bytes;
use super::output;
use crate::daemon;
use crate::layout::Layout;
use crate::protect::{ListedFile, Listing, Wanted, list_files};

/// Runs the command.
pub async fn run(console: Console, layout: &Layout, args: LsArgs) -> Result<(), CliError> {
    let identity = args.identity.read()?;
    let settings = daemon::read_settings(layout)?;
    // To look at what is old harms nobody; it is told.
    let wanted = Wanted {
        snapshot: args.snapshot,
        identity: identity.as_ref(),
        allow_old: true,
    };
    let path = args.path.as_deref().unwrap_or_default();
    let listing = list_files(
        layout,
        &settings,
        &args.tenant,
        wanted,
        path,
        args.recursive,
    )
    .await?;
    if let Some(doubt) = &listing.doubt {
        console.tell(&format!("{}: {doubt}\n", console.err.warn("warning")));
    }
    if args.output.json {
        return console.print(&output::json(&listing));
    }
    console.print(&shown(&listing, args.long))
}

fn shown(listing: &Listing, long: bool) -> String {
    let mut text = String::new();
    for file in &listing.files {
        let _ = if long {
            writeln!(text, "{}", long_line(file))
        } else {
            writeln!(text, "{}", harmless(&file.path))
        };
    }
    text
}

fn long_line(file: &ListedFile) -> String {
    let size = file.size.map_or_else(|| "-".to_owned(), bytes);
    let target = match (&file.target, file.kind) {
        (None, _) => String::new(),
        (Some(target), "symlink") => format!(" -> {}", harmless(target)),
        (Some(first), _) => format!(" = {}", harmless(first)),
    };
    format!(
        "{} {:>5} {:>5} {size:>10} {} {}{target}",
        mode(file),
        file.uid,
        file.gid,
        file.modified.strftime("%Y-%m-%d %H:%M:%S"),
        harmless(&file.path),
    )
}

/// A mode as `ls -l` writes it.
fn mode(file: &ListedFile) -> String {
    let kind = match file.kind {
        "directory" => 'd',
        "symlink" => 'l',
        _ => '-',
    };
    let mut text = String::from(kind);
    for (class, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = file.mode >> class;
        text.push(if bits & 4 == 0 { '-' } else { 'r' });
        text.push(if bits & 2 == 0 { '-' } else { 'w' });
        text.push(match (bits & 1 != 0, file.mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// A name without the signs that a terminal would obey; the tenant chose it.
fn harmless(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                let _ = write!(text, "%{byte:02X}");
            }
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    #[test]
    fn a_long_listing_reads_like_that_of_ls() {
        let file = |path: &str, kind, mode, size, target: Option<&str>| ListedFile {
            path: path.to_owned(),
            kind,
            mode,
            uid: 1000,
            gid: 100,
            size,
            modified: samples::now(),
            target: target.map(str::to_owned),
        };
        let listing = Listing {
            snapshot: 3,
            taken_at: samples::now(),
            doubt: None,
            files: vec![
                file("data", "directory", 0o1775, None, None),
                file("data/a\u{9b}31m%0A", "file", 0o4640, Some(5 << 20), None),
                file("data/b", "file", 0o600, Some(12), Some("data/a")),
                file("data/c", "symlink", 0o777, None, Some("../x")),
            ],
        };
        insta::assert_snapshot!(shown(&listing, true), @r"
        drwxrwxr-t  1000   100          - 2026-05-04 12:00:00 data
        -rwSr-----  1000   100   5.00 MiB 2026-05-04 12:00:00 data/a%C2%9B31m%0A
        -rw-------  1000   100       12 B 2026-05-04 12:00:00 data/b = data/a
        lrwxrwxrwx  1000   100          - 2026-05-04 12:00:00 data/c -> ../x
        ");
        assert_eq!(shown(&listing, false).lines().count(), 4);
    }
}
