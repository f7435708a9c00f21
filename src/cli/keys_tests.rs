use super::*;
use crate::backup::{NodeCertificate, NodeKey, Trust};
use crate::cli::samples;
use crate::protect::{NodeKeyReport, RepositoryReport};

fn prefix() -> crate::backup::BucketPrefix {
    "00112233445566778899aabbccddeeff".parse().unwrap()
}

fn pending() -> Erasure {
    Erasure {
        tenant: "gone".parse().unwrap(),
        repository: prefix(),
        was_stored: true,
        asked_at: samples::at("2026-05-04T11:15:00Z"),
        status: ErasureStatus::Pending,
        last: Some(Removal {
            removed: 1,
            left: 2,
            denied: true,
            locked_until: Some(samples::at("2026-06-01T00:00:00Z")),
        }),
    }
}

#[test]
fn keys_are_shown_with_what_is_left_to_do() {
    let repository = |tenant: &str, recipients: Option<&[&str]>, is_current| RepositoryReport {
        tenant: tenant.to_owned(),
        repository: prefix(),
        recipients: recipients.map(|all| all.iter().map(|&one| one.to_owned()).collect()),
        is_current,
    };
    let report = KeyReport {
        root: "ssh-ed25519 AAAAroot".to_owned(),
        node: Some(NodeKeyReport {
            key: "ssh-ed25519 AAAAnode".to_owned(),
            fingerprint: "SHA256:abc".to_owned(),
            epoch: 1_800_000_000,
        }),
        fault: None,
        recipients: vec!["age1operator".to_owned(), "age1escrow".to_owned()],
        identity_on_host: true,
        operators_keys_on_host: vec!["/var/lib/tenantd/keys/identity.txt".into()],
        repositories: vec![
            repository("acme", Some(&["age1operator", "age1escrow"]), true),
            repository("bob", Some(&["age1former"]), false),
            repository("(node)", None, false),
        ],
        erasures: vec![pending()],
    };
    let uncertified = KeyReport {
        node: None,
        fault: Some("this node's key is not certified".to_owned()),
        identity_on_host: false,
        operators_keys_on_host: vec![],
        repositories: vec![],
        erasures: vec![],
        ..report.clone()
    };
    let both = [report, uncertified].map(|report| shown(&report, Paint(false)));
    insta::assert_snapshot!(both.join("────\n"));
}

#[test]
fn what_became_of_keys_is_told_as_it_is() {
    let rotated = |is_new, old| Rotated {
        tenant: "acme".to_owned(),
        repository: prefix(),
        is_new,
        old,
    };
    let removed = Removal {
        removed: 1,
        ..Removal::default()
    };
    let rotated = [
        rotated(false, Removal::default()),
        rotated(true, removed),
        rotated(true, pending().last.unwrap()),
    ];
    let done = Erasure {
        status: ErasureStatus::Erased,
        last: Some(removed),
        ..pending()
    };
    let texts = [
        rotated_shown(&rotated, true, Paint(false)),
        erased(&done, false),
        erased(&pending(), false),
        erased(&done, true),
    ];
    insta::assert_snapshot!(texts.join("────\n"));
}

#[test]
fn a_statement_brings_its_epoch_and_a_bare_key_gets_the_next() {
    let key = NodeKey::from_seed(&[2; 32]).unwrap().public();
    let guard = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(guard.path().join("node.json")).unwrap();
    std::fs::write(&path, NodeStatement::new(key.clone(), 7).to_line()).unwrap();
    let now = samples::at("2026-05-04T11:15:00Z");
    let of = |given: &str, epoch| node(given, epoch, now).unwrap();
    assert_eq!(of(path.as_str(), None), (key.clone(), 7));
    assert_eq!(of(path.as_str(), Some(9)), (key.clone(), 9));
    let next = u32::try_from(now.as_second()).unwrap();
    assert_eq!(of(&key.to_string(), None), (key.clone(), next));
    assert!(node("/does/not/exist", None, now).is_err());

    let root = RootKey::from_seed(&[1; 32]).unwrap();
    let text = root.certify(&key, 7).unwrap().to_text();
    let certificate = NodeCertificate::from_text(&text).unwrap();
    assert!(Trust::root(root.public()).certified(&certificate).is_ok());
}
