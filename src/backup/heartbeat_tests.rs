use rstest::rstest;

use super::*;
use crate::backup::keys::{NodeKey, RootKey};

const NODE: RepositoryId = RepositoryId([5; 16]);

fn root() -> RootKey {
    RootKey::from_seed(&[1; 32]).unwrap()
}

fn trust() -> Trust {
    Trust::root(root().public())
}

fn signer(epoch: u32) -> Signer {
    let key = NodeKey::from_seed(&[u8::try_from(epoch).unwrap() + 10; 32]).unwrap();
    let certificate = root().certify(&key.public(), epoch).unwrap();
    Signer { key, certificate }
}

fn head(repository: u16) -> Head {
    let mut id = [0; 16];
    id[..2].copy_from_slice(&repository.to_be_bytes());
    Head {
        repository: RepositoryId(id),
        epoch: 1_900_000_000,
        sequence: 4_000_000_000,
        commit: Digest::of(&id),
    }
}

fn beat(heads: Vec<Head>) -> SignedHeartbeat {
    let now = "2026-11-21T10:00:00Z".parse().unwrap();
    SignedHeartbeat::sign(NODE, 7, now, heads, &signer(1)).unwrap()
}

#[test]
fn a_signed_heartbeat_is_accepted_and_says_the_same() {
    let made = beat(vec![head(9), head(2)]);
    let read = SignedHeartbeat::verify(made.name, made.bytes.clone(), NODE, &trust()).unwrap();
    assert_eq!(read.heartbeat, made.heartbeat);
    assert_eq!(read.heartbeat.head_of(head(9).repository), Some(head(9)));
    assert_eq!(read.heartbeat.head_of(head(3).repository), None);
}

#[test]
fn every_flipped_byte_is_noticed() {
    let made = beat(vec![head(1)]);
    for at in 0..made.bytes.len() {
        let mut bytes = made.bytes.clone();
        bytes[at] ^= 1;
        let renamed = HeartbeatName {
            digest: Digest::of(&bytes),
            ..made.name
        };
        for name in [made.name, renamed] {
            let read = SignedHeartbeat::verify(name, bytes.clone(), NODE, &trust());
            assert!(read.is_err(), "byte {at}");
        }
    }
}

#[test]
fn heartbeats_of_others_are_refused() {
    let made = beat(vec![]);
    let elsewhere = RepositoryId([6; 16]);
    let read = SignedHeartbeat::verify(made.name, made.bytes.clone(), elsewhere, &trust());
    assert!(matches!(read, Err(HeartbeatError::Refused(_))));
    let stranger = Trust::root(RootKey::from_seed(&[9; 32]).unwrap().public());
    let read = SignedHeartbeat::verify(made.name, made.bytes.clone(), NODE, &stranger);
    assert!(matches!(read, Err(HeartbeatError::Envelope(_))));
    let later = HeartbeatName {
        sequence: 8,
        ..made.name
    };
    let read = SignedHeartbeat::verify(later, made.bytes, NODE, &trust());
    assert!(matches!(read, Err(HeartbeatError::Refused(_))));
}

#[test]
fn a_commit_is_no_heartbeat_and_a_heartbeat_no_commit() {
    use crate::backup::commit::{CommitDraft, SignedCommit};

    let draft = CommitDraft {
        repository: NODE,
        recipient: Digest::of(b"recipient"),
        previous: None,
        time: Timestamp::UNIX_EPOCH,
        tree: vec![],
        packs: vec![],
        lists: vec![],
    };
    let commit = SignedCommit::sign(draft, &signer(1)).unwrap();
    let read = SignedHeartbeat::verify(commit.name, commit.bytes, NODE, &trust());
    assert!(matches!(read, Err(HeartbeatError::Envelope(_))));
    let beat = beat(vec![]);
    assert!(SignedCommit::verify(beat.name, beat.bytes, NODE, &trust()).is_err());
}

#[test]
fn one_repository_has_one_head() {
    let now = Timestamp::UNIX_EPOCH;
    let twice = SignedHeartbeat::sign(NODE, 1, now, vec![head(1), head(1)], &signer(1));
    assert!(matches!(twice, Err(HeartbeatError::Refused(_))));
}

#[test]
fn a_full_heartbeat_fits_and_a_thousand_tenants_are_small() {
    let heads = |count| (0..count).map(head).collect::<Vec<_>>();
    let full = beat(heads(4096));
    assert!(full.bytes.len() as u64 <= MAX_HEARTBEAT);
    SignedHeartbeat::verify(full.name, full.bytes, NODE, &trust()).unwrap();
    assert!(beat(heads(1000)).bytes.len() < 180 << 10);
    let now = Timestamp::UNIX_EPOCH;
    let more = SignedHeartbeat::sign(NODE, 1, now, heads(4097), &signer(1));
    assert!(matches!(more, Err(HeartbeatError::TooMany(4097))));
}

#[rstest]
#[case::first(None, 1_000, Some(1_000))]
#[case::later(Some((1, 900)), 1_000, Some(1_000))]
#[case::same_second(Some((1, 1_000)), 1_000, Some(1_001))]
#[case::clock_set_back(Some((1, 5_000)), 1_000, Some(5_001))]
#[case::before_1970(None, -5, Some(1))]
#[case::earlier_epoch(Some((0, 5_000)), 1_000, Some(1_000))]
#[case::full(Some((1, u32::MAX)), 1_000, None)]
fn a_place_is_never_used_twice(
    #[case] last: Option<(u32, u32)>,
    #[case] now: i64,
    #[case] next: Option<u32>,
) {
    let last = last.map(|(epoch, sequence)| HeartbeatName {
        epoch,
        sequence,
        digest: Digest::of(b""),
    });
    let now = Timestamp::from_second(now).unwrap();
    assert_eq!(next_sequence(last, 1, now), next);
}
