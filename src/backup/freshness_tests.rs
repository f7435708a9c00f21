use rstest::rstest;

use super::*;
use crate::backup::id::Digest;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn commit(epoch: u32, sequence: u32) -> CommitName {
    CommitName {
        epoch,
        sequence,
        digest: Digest::of(&[1]),
    }
}

/// Another commit that claims the same place.
fn rival(epoch: u32, sequence: u32) -> CommitName {
    CommitName {
        digest: Digest::of(&[2]),
        ..commit(epoch, sequence)
    }
}

/// Snapshot 7 of epoch 3, of the morning; it is noon.
fn evidence() -> Evidence {
    Evidence {
        head: commit(3, 7),
        time: at("2026-11-21T06:00:00Z"),
        unreadable: None,
        seen: None,
        word: None,
        now: at("2026-11-21T12:00:00Z"),
    }
}

fn word(time: &str, head: Option<CommitName>) -> Word {
    let time = at(time);
    Word { time, head }
}

#[rstest]
#[case::nothing_known(evidence(), true)]
#[case::the_same_seen(Evidence { seen: Some(commit(3, 7)), ..evidence() }, true)]
#[case::older_seen(Evidence { seen: Some(commit(3, 6)), ..evidence() }, true)]
#[case::newer_seen(Evidence { seen: Some(commit(3, 8)), ..evidence() }, false)]
#[case::rival_seen(Evidence { seen: Some(rival(3, 7)), ..evidence() }, false)]
#[case::longer_chain_of_the_node_before(Evidence { seen: Some(commit(2, 99)), ..evidence() }, true)]
#[case::shorter_chain_of_a_later_node(Evidence { seen: Some(commit(4, 1)), ..evidence() }, false)]
#[case::the_same_named(Evidence { word: Some(word("2026-11-21T11:00:00Z", Some(commit(3, 7)))), ..evidence() }, true)]
#[case::older_named(Evidence { word: Some(word("2026-11-21T05:00:00Z", Some(commit(3, 6)))), ..evidence() }, true)]
#[case::newer_named(Evidence { word: Some(word("2026-11-21T11:00:00Z", Some(commit(3, 8)))), ..evidence() }, false)]
#[case::none_named(Evidence { word: Some(word("2026-11-21T11:00:00Z", None)), ..evidence() }, true)]
#[case::revived_node_before_names_its_fork(Evidence { word: Some(word("2026-11-21T11:00:00Z", Some(commit(2, 99)))), ..evidence() }, true)]
#[case::older_unreadable(Evidence { unreadable: Some(commit(3, 6)), ..evidence() }, true)]
#[case::newer_unreadable(Evidence { unreadable: Some(commit(3, 8)), ..evidence() }, false)]
#[case::dated_ahead_without_demands(Evidence { time: at("2036-01-01T00:00:00Z"), ..evidence() }, true)]
fn a_head_behind_what_is_known_is_refused(#[case] evidence: Evidence, #[case] is_taken: bool) {
    assert_eq!(judge(&Demands::default(), &evidence).is_ok(), is_taken);
}

#[rstest]
#[case::young_enough(Some("7h"), None, evidence(), true)]
#[case::too_old(Some("5h"), None, evidence(), false)]
#[case::the_heartbeat_speaks_for_it(Some("5h"), None, Evidence { word: Some(word("2026-11-21T11:00:00Z", Some(commit(3, 7)))), ..evidence() }, true)]
#[case::the_heartbeat_is_old_too(Some("5h"), None, Evidence { word: Some(word("2026-11-21T06:30:00Z", Some(commit(3, 7)))), ..evidence() }, false)]
#[case::the_heartbeat_speaks_for_an_older_one(Some("5h"), None, Evidence { word: Some(word("2026-11-21T11:00:00Z", Some(commit(3, 6)))), ..evidence() }, false)]
#[case::since_then(None, Some("2026-11-21T06:00:00Z"), evidence(), true)]
#[case::before_then(None, Some("2026-11-21T06:00:01Z"), evidence(), false)]
#[case::the_heartbeat_was_since_then(None, Some("2026-11-21T10:00:00Z"), Evidence { word: Some(word("2026-11-21T11:00:00Z", Some(commit(3, 7)))), ..evidence() }, true)]
#[case::a_little_ahead(Some("5h"), None, Evidence { time: at("2026-11-21T12:59:00Z"), ..evidence() }, true)]
#[case::dated_in_the_future(Some("5h"), None, Evidence { time: at("2036-01-01T00:00:00Z"), ..evidence() }, false)]
#[case::heartbeat_dated_in_the_future(None, Some("2026-11-21T10:00:00Z"), Evidence { word: Some(word("2036-01-01T00:00:00Z", Some(commit(3, 7)))), ..evidence() }, false)]
fn what_the_operator_demands_is_kept(
    #[case] max_age: Option<&str>,
    #[case] not_before: Option<&str>,
    #[case] evidence: Evidence,
    #[case] is_taken: bool,
) {
    let demands = Demands {
        not_before: not_before.map(at),
        max_age: max_age.map(|text| text.parse().unwrap()),
    };
    assert_eq!(judge(&demands, &evidence).is_ok(), is_taken);
}

#[test]
fn every_refusal_says_what_was_found_and_what_was_expected() {
    let found = commit(3, 7);
    let time = at("2026-11-21T06:00:00Z");
    let told = [
        Stale::Unreadable {
            found,
            newer: commit(3, 8),
        },
        Stale::Seen {
            found,
            seen: commit(3, 9),
        },
        Stale::Named {
            found,
            named: commit(4, 1),
            time,
        },
        Stale::Future {
            found,
            time: at("2036-01-01T00:00:00Z"),
            now: time,
        },
        Stale::Before {
            found,
            time,
            not_before: at("2026-11-22T00:00:00Z"),
        },
        Stale::Old {
            found,
            time,
            age: SignedDuration::from_hours(100),
            max_age: SignedDuration::from_hours(72),
        },
    ]
    .map(|stale| stale.to_string());
    insta::assert_snapshot!(told.join("\n"));
}
