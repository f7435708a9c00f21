//! Looks at what Caddy has: certificates, its log, its access log. Caddy's files are read as a stranger's: only plain ones,
//! and of each a bounded part.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use camino::{Utf8Path, Utf8PathBuf};
use jiff::SignedDuration;

use super::{UNIT, access_logs};
use crate::front::{self, AccessLine, Certificate, Facts, Wildcard, Wish};
use crate::host::{clock, files, journal};
use crate::layout::Layout;
use crate::node::FrontSettings;
use crate::reconcile::blocking;
use crate::wildcard::Store;

/// Largest chain of certificates that is read.
const CHAIN: u64 = 256 * 1024;

/// Most entries of a directory of Caddy's that are looked at.
const MOST: usize = 100_000;

/// How far back troubles are looked for: whatever fails is tried again within a day.
const RECENT: SignedDuration = SignedDuration::from_hours(24);

/// Most lines of Caddy's log that are read for it.
const LINES: usize = 5000;

/// Longest line of the access log that is read.
const LONGEST: u64 = 64 * 1024;

/// What is seen of a Caddy that should serve.
pub(super) async fn facts(
    layout: &Layout,
    settings: &FrontSettings,
    fault: Option<String>,
) -> Facts {
    let query = journal::Query {
        since: Some(clock::now() - RECENT),
        ..journal::Query::last(UNIT, LINES)
    };
    let entries = journal::read(&query).await.unwrap_or_else(|error| {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "Caddy's log cannot be read"
        );
        Vec::new()
    });
    let lines = entries
        .iter()
        .map(|entry| (entry.at, entry.message.as_str()));
    let troubles = front::troubles(lines);
    let wildcard = wildcard(layout, settings).await;
    let wildcard = wildcard.map(|(wish, seen)| seen.report(&wish, clock::now()));
    let layout = layout.clone();
    Facts {
        fault,
        wildcard,
        certificates: blocking(move || certificates(&layout)).await,
        troubles,
    }
}

/// What there is of the wildcard certificate, where there should be one.
pub(super) async fn wildcard(
    layout: &Layout,
    settings: &FrontSettings,
) -> Option<(Wish, Wildcard)> {
    let wish = Wish::of(settings)?;
    let store = Store::new(layout);
    blocking(move || {
        let seen = store.look(&wish);
        Some((wish, seen))
    })
    .await
}

/// Each host's certificate, the one that is good for longest where several authorities have issued one. In Caddy's store
/// it is `certificates/AUTHORITY/HOST/HOST.crt`.
pub(super) fn certificates(layout: &Layout) -> BTreeMap<String, Certificate> {
    let mut found = BTreeMap::<String, Certificate>::new();
    for authority in directories(&layout.front_store_dir().join("certificates")) {
        for directory in directories(&authority) {
            let Some(host) = directory.file_name() else {
                continue;
            };
            let path = directory.join(format!("{host}.crt"));
            let is_plain = path
                .symlink_metadata()
                .is_ok_and(|metadata| metadata.is_file());
            let Some(certificate) = is_plain
                .then(|| files::read(&path, CHAIN).ok())
                .flatten()
                .and_then(|chain| front::read_chain(&chain))
            else {
                continue;
            };
            let present = found.get(host);
            if present.is_none_or(|present| present.not_after < certificate.not_after) {
                found.insert(host.to_owned(), certificate);
            }
        }
    }
    found
}

fn directories(path: &Utf8Path) -> Vec<Utf8PathBuf> {
    let entries = path
        .read_dir_utf8()
        .into_iter()
        .flatten()
        .flatten()
        .take(MOST);
    let is_directory = |path: &Utf8PathBuf| {
        path.symlink_metadata()
            .is_ok_and(|metadata| metadata.is_dir())
    };
    entries
        .map(camino::Utf8DirEntry::into_path)
        .filter(is_directory)
        .collect()
}

/// The last requests for any of `hosts`, oldest first.
pub fn access_log(layout: &Layout, hosts: &[String], most: usize) -> Vec<AccessLine> {
    let mut last = VecDeque::new();
    for path in access_logs(layout) {
        let is_plain = path
            .symlink_metadata()
            .is_ok_and(|metadata| metadata.is_file());
        let Some(file) = is_plain.then(|| File::open(&path).ok()).flatten() else {
            continue;
        };
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        while (&mut reader)
            .take(LONGEST)
            .read_until(b'\n', &mut line)
            .is_ok_and(|read| read > 0)
        {
            // A part of an over-long line is no line.
            if let Some(read) = AccessLine::parse(&line).filter(|read| hosts.contains(&read.host)) {
                if last.len() == most {
                    last.pop_front();
                }
                last.push_back(read);
            }
            line.clear();
        }
    }
    last.truncate(most);
    last.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = include_str!("../../front/certificate_test.pem");

    fn layout() -> (tempfile::TempDir, Layout) {
        let guard = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(guard.path().to_owned()).unwrap();
        (guard, Layout::rooted(root))
    }

    #[test]
    fn certificates_are_found_and_what_is_no_plain_file_is_passed_over() {
        let (_guard, layout) = layout();
        let authority = layout
            .front_store_dir()
            .join("certificates/acme.test-directory");
        for host in ["a.test", "b.test", "c.test"] {
            std::fs::create_dir_all(authority.join(host)).unwrap();
        }
        std::fs::write(authority.join("a.test/a.test.crt"), CERTIFICATE).unwrap();
        std::fs::write(authority.join("b.test/b.test.crt"), "no certificate").unwrap();
        let link = authority.join("c.test/c.test.crt");
        std::os::unix::fs::symlink(authority.join("a.test/a.test.crt"), link).unwrap();
        let found: Vec<_> = certificates(&layout).into_keys().collect();
        assert_eq!(found, ["a.test"]);
    }

    #[test]
    fn the_access_log_of_a_tenant_is_that_of_its_hosts_over_all_files() {
        let (_guard, layout) = layout();
        let directory = layout.front_log_dir();
        std::fs::create_dir_all(&directory).unwrap();
        let line = |ts: u32, host: &str| {
            format!("{{\"ts\":{ts}.5,\"request\":{{\"host\":\"{host}\"}}}}\n")
        };
        let old = [
            line(1, "a.test"),
            line(2, "b.test"),
            "broken\n".to_owned(),
            "x".repeat(200_000) + "\n",
        ];
        std::fs::write(
            directory.join("access-2026-11-21T23-00-00.000.log"),
            old.concat(),
        )
        .unwrap();
        std::fs::write(
            directory.join("access.log"),
            line(3, "A.test:443") + &line(4, "a.test"),
        )
        .unwrap();
        std::fs::write(directory.join("other.log"), line(5, "a.test")).unwrap();
        let seconds = |most| {
            let log = access_log(&layout, &["a.test".to_owned()], most);
            log.iter()
                .map(|line| line.at.as_second())
                .collect::<Vec<_>>()
        };
        assert_eq!(seconds(10), [1, 3, 4]);
        assert_eq!(seconds(2), [3, 4]);
        assert_eq!(seconds(0), Vec::<i64>::new());
    }
}
