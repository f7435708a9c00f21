use rstest::rstest;

use super::*;
use crate::backup::chain::choose;
use crate::backup::keys::{NodeKey, RootKey};

const ID: RepositoryId = RepositoryId([5; 16]);

fn root() -> RootKey {
    RootKey::from_seed(&[1; 32]).unwrap()
}

fn signer(epoch: u32) -> Signer {
    let key = NodeKey::from_seed(&[u8::try_from(epoch).unwrap() + 10; 32]).unwrap();
    let certificate = root().certify(&key.public(), epoch).unwrap();
    Signer { key, certificate }
}

fn commit(epoch: u32, previous: Option<&SignedCommit>) -> SignedCommit {
    at(epoch, previous, 0)
}

fn at(epoch: u32, previous: Option<&SignedCommit>, second: i64) -> SignedCommit {
    let draft = CommitDraft {
        repository: ID,
        recipient: Digest::of(b"recipient"),
        previous: previous.map(|commit| commit.name),
        time: Timestamp::from_second(second).unwrap(),
        tree: vec![ObjectRef {
            sha256: Digest::of(b"tree"),
            size: 4,
        }],
        packs: vec![],
        lists: vec![],
    };
    SignedCommit::sign(draft, &signer(epoch)).unwrap()
}

fn verify(commit: &SignedCommit) -> Result<SignedCommit, CommitError> {
    SignedCommit::verify(
        commit.name,
        commit.bytes.clone(),
        ID,
        &Trust::root(root().public()),
    )
}

/// The same bytes under the name that fits them, as an attacker would store them.
fn renamed(commit: &SignedCommit, bytes: Vec<u8>) -> SignedCommit {
    let name = CommitName {
        digest: Digest::of(&bytes),
        ..commit.name
    };
    SignedCommit {
        name,
        bytes,
        ..commit.clone()
    }
}

#[test]
fn a_signed_commit_is_accepted_and_says_the_same() {
    let made = commit(1, None);
    let read = verify(&made).unwrap();
    assert_eq!(read.commit, made.commit);
    assert_eq!((read.name.sequence, read.node), (1, signer(1).key.public()));
}

#[test]
fn every_flipped_byte_is_noticed() {
    let made = commit(1, None);
    for at in 0..made.bytes.len() {
        let mut bytes = made.bytes.clone();
        bytes[at] ^= 1;
        assert!(matches!(
            SignedCommit::verify(made.name, bytes.clone(), ID, &Trust::root(root().public())),
            Err(CommitError::Name(_))
        ));
        assert!(verify(&renamed(&made, bytes)).is_err(), "byte {at}");
    }
}

#[rstest]
#[case::truncated(|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1))]
#[case::trailing(|bytes: &mut Vec<u8>| bytes.push(b'\n'))]
#[case::leading(|bytes: &mut Vec<u8>| bytes.insert(0, b' '))]
#[case::empty(Vec::clear)]
fn other_shapes_are_refused(#[case] change: fn(&mut Vec<u8>)) {
    let made = commit(1, None);
    let mut bytes = made.bytes.clone();
    change(&mut bytes);
    assert!(verify(&renamed(&made, bytes)).is_err());
}

#[test]
fn commits_of_others_are_refused() {
    let made = commit(1, None);
    let other = SignedCommit::verify(
        made.name,
        made.bytes.clone(),
        RepositoryId([6; 16]),
        &Trust::root(root().public()),
    );
    assert!(matches!(other, Err(CommitError::Foreign { .. })));

    let stranger = RootKey::from_seed(&[99; 32]).unwrap();
    let mut signer = signer(1);
    signer.certificate = stranger.certify(&signer.key.public(), 1).unwrap();
    let draft = CommitDraft {
        repository: ID,
        recipient: Digest::of(b"recipient"),
        previous: None,
        time: Timestamp::UNIX_EPOCH,
        tree: vec![],
        packs: vec![],
        lists: vec![],
    };
    let forged = SignedCommit::sign(draft, &signer).unwrap();
    assert!(matches!(
        verify(&forged),
        Err(CommitError::Key(KeyError::Untrusted { .. }))
    ));
}

#[test]
fn an_epoch_that_was_not_certified_is_refused() {
    let made = commit(1, None);
    let text = String::from_utf8(made.bytes.clone()).unwrap();
    let payload = text
        .lines()
        .next()
        .unwrap()
        .replace("\"epoch\":1", "\"epoch\":2")
        + "\n";
    let signer = signer(1);
    let signature = signer
        .key
        .sign(COMMIT_NAMESPACE, payload.as_bytes())
        .unwrap();
    let bytes = format!("{payload}{signature}{}", signer.certificate.to_text()).into_bytes();
    let name = CommitName {
        epoch: 2,
        sequence: 1,
        digest: Digest::of(&bytes),
    };
    let result = SignedCommit::verify(name, bytes, ID, &Trust::root(root().public()));
    assert!(matches!(
        result,
        Err(CommitError::Epoch { certified: 1, .. })
    ));
}

/// A commit whose payload was changed by whoever has the node's key.
fn resigned(made: &SignedCommit, signer: &Signer, from: &str, to: &str) -> SignedCommit {
    let text = String::from_utf8(made.bytes.clone()).unwrap();
    let payload = text.lines().next().unwrap().replace(from, to) + "\n";
    let signature = signer
        .key
        .sign(COMMIT_NAMESPACE, payload.as_bytes())
        .unwrap();
    let bytes = format!("{payload}{signature}{}", signer.certificate.to_text()).into_bytes();
    renamed(made, bytes)
}

#[test]
fn a_later_version_is_told_from_a_forgery() {
    let made = commit(1, None);
    let (now, later) = ("\"version\":3", "\"version\":4,\"new\":true");
    let signed = verify(&resigned(&made, &signer(1), now, later));
    assert!(matches!(
        signed,
        Err(CommitError::Version { version: 4, .. })
    ));
    // A node that was replaced cannot pass for its successor by it.
    let mut higher = resigned(&made, &signer(1), now, later);
    higher.name.epoch = 9;
    assert!(matches!(
        verify(&higher),
        Err(CommitError::Epoch { certified: 1, .. })
    ));
    let stranger = Signer {
        key: NodeKey::from_seed(&[99; 32]).unwrap(),
        ..signer(1)
    };
    let forged = resigned(&made, &stranger, now, later);
    assert!(matches!(verify(&forged), Err(CommitError::Key(_))));
    for commit in [&forged, &resigned(&made, &signer(1), now, later)] {
        assert!(Commit::is_of_another_version(&commit.bytes));
        assert!(Commit::claimed(&commit.bytes).is_none());
    }
    assert!(!Commit::is_of_another_version(&made.bytes));
}

#[test]
fn after_the_last_number_nothing_is_signed() {
    let last = CommitName {
        sequence: u32::MAX,
        ..commit(1, None).name
    };
    let draft = CommitDraft {
        repository: ID,
        recipient: Digest::of(b"recipient"),
        previous: Some(last),
        time: Timestamp::UNIX_EPOCH,
        tree: vec![],
        packs: vec![],
        lists: vec![],
    };
    let result = SignedCommit::sign(draft, &signer(2));
    assert!(matches!(result, Err(CommitError::LastSequence)));
}

#[test]
fn a_replaced_node_cannot_go_on() {
    let new = commit(2, Some(&commit(1, None)));
    let draft = CommitDraft {
        repository: ID,
        recipient: Digest::of(b"recipient"),
        previous: Some(new.name),
        time: Timestamp::UNIX_EPOCH,
        tree: vec![],
        packs: vec![],
        lists: vec![],
    };
    let result = SignedCommit::sign(draft, &signer(1));
    assert!(matches!(
        result,
        Err(CommitError::Superseded { ours: 1, chain: 2 })
    ));
}

#[test]
fn the_highest_epoch_wins_and_a_revived_node_is_a_fork() {
    let one = commit(1, None);
    let two = commit(1, Some(&one));
    let new = commit(2, Some(&two));
    let revived = at(1, Some(&two), 1);
    let revived_more = at(1, Some(&revived), 2);
    let all = [&one, &two, &new, &revived, &revived_more];
    let chain = choose(all.into_iter()).unwrap().unwrap();
    assert_eq!(chain.line, vec![new.name, two.name, one.name]);
    assert_eq!(chain.forks, vec![revived.name, revived_more.name]);
    assert_eq!(chain.missing, vec![]);
}

#[test]
fn two_heads_of_one_rank_are_not_chosen_between() {
    let one = commit(1, None);
    let (a, b) = (at(1, Some(&one), 1), at(1, Some(&one), 2));
    assert!(choose([&one, &a, &b].into_iter()).is_err());
}

#[test]
fn what_retention_left_below_a_gap_is_on_the_chain() {
    let one = commit(1, None);
    let two = commit(1, Some(&one));
    let three = commit(1, Some(&two));
    let chain = choose([&one, &three].into_iter()).unwrap().unwrap();
    assert_eq!(chain.line, vec![three.name, one.name]);
    assert_eq!(chain.missing, vec![two.name.digest]);
    assert_eq!(choose(std::iter::empty()), Ok(None));
}

#[test]
fn a_chain_that_contradicts_itself_is_told_and_not_taken_for_one_with_a_gap() {
    let one = commit(1, None);
    let two = commit(1, Some(&one));
    let mut far = commit(1, Some(&two));
    far.name.sequence = 7;
    let chain = choose([&one, &two, &far].into_iter()).unwrap().unwrap();
    let broken = chain.broken.unwrap();
    assert_eq!((broken.commit, broken.previous), (far.name, two.name));
    assert_eq!(chain.missing, vec![]);
    let honest = choose([&one, &two].into_iter()).unwrap().unwrap();
    assert_eq!(honest.broken, None);
}
