//! Doors that are killed between writing something down and acting on it, and those that come after them.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};

use super::{Book, Figures, Month, Usage};
use crate::failpoint;
use crate::tenant::HostName;

/// Tells a child where the door's files are.
const PLACE: &str = "TENANTD_TEST_EGRESS";

fn name() -> HostName {
    "api.example.org".parse().unwrap()
}

fn month() -> Month {
    "2026-11".parse().unwrap()
}

fn usage(sent: u64) -> Usage {
    let figures = Figures {
        sent,
        ..Figures::default()
    };
    Usage {
        destinations: [("api.example.org:443".to_owned(), figures)].into(),
        ..Usage::nothing(month())
    }
}

fn inherited() -> Utf8PathBuf {
    std::env::var(PLACE).unwrap().into()
}

#[test]
#[ignore = "run by the tests below in a process of its own"]
fn child_names() {
    let book = Book::open(&inherited().join("names")).unwrap();
    book.address_of(&name()).unwrap();
}

#[test]
#[ignore = "run by the tests below in a process of its own"]
fn child_counts() {
    usage(2).write(&inherited()).unwrap();
}

/// Runs a child that is killed at a point.
fn kill(place: &Utf8Path, child: &str, point: &str) {
    let child = format!("gateway::egress::crash_tests::{child}");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", child.as_str(), "--ignored"])
        .env(failpoint::VARIABLE, point)
        .env(PLACE, place)
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(9), "{point}: {output:?}");
}

#[test]
fn a_door_that_is_killed_before_it_tells_an_address_keeps_it_for_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let place = Utf8Path::from_path(dir.path()).unwrap();
    kill(place, "child_names", "egress.named");
    // Nobody was told, so what counts is that no other name gets it and that it is not lost.
    let book = Book::open(&place.join("names")).unwrap();
    let other = book.address_of(&"other.example".parse().unwrap()).unwrap();
    let address = book.address_of(&name()).unwrap();
    assert_ne!(address, other);
    assert_eq!(book.name_of(address), Some(name()));
    drop(book);
    // As it was written by the one that was killed, and once.
    let written = std::fs::read_to_string(place.join("names")).unwrap();
    assert_eq!(written.matches("api.example.org").count(), 1, "{written}");
}

#[test]
fn a_door_that_is_killed_after_it_wrote_its_figures_has_counted_them() {
    let dir = tempfile::tempdir().unwrap();
    let place = Utf8Path::from_path(dir.path()).unwrap();
    usage(1).write(place).unwrap();
    kill(place, "child_counts", "egress.counted");
    assert_eq!(Usage::read(place, month()).unwrap(), usage(2));
}
