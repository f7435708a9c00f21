//! Tables for what lines are, and properties for what no forger can do.

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::backup::record::CaptureReport;

const HOUR: i64 = 3600;

fn at(hours: i64) -> Timestamp {
    let start: Timestamp = "2026-01-05T00:00:00Z".parse().unwrap();
    start + SignedDuration::from_hours(hours)
}

fn digest(number: u64) -> Digest {
    Digest::of(&number.to_le_bytes())
}

/// Commit `number` of the line of honest writers: stored and signed at `hour`.
fn commit(number: u32, hour: i64) -> Known {
    Known {
        name: CommitName {
            epoch: 1,
            sequence: number,
            digest: digest(number.into()),
        },
        repository: RepositoryId([1; 16]),
        writer: "a".to_owned(),
        previous: (number > 1).then(|| digest(u64::from(number) - 1)),
        stored: at(hour),
        touched: at(hour),
        signed: at(hour),
    }
}

fn rules(hourly: u32, daily: u32) -> KeepRules {
    KeepRules {
        within: SignedDuration::ZERO,
        hourly,
        daily,
        weekly: 0,
        monthly: 0,
        yearly: 0,
    }
}

fn policy(hourly: u32, daily: u32) -> Policy {
    Policy {
        rules: rules(hourly, daily),
        grace: SignedDuration::from_hours(48),
    }
}

/// `epoch.sequence: reasons` of what is kept, long after the last one was stored.
fn judged(policy: Policy, commits: &[Known]) -> Vec<String> {
    let kept = judge(&policy, at(10_000), commits).unwrap();
    kept.iter()
        .filter(|(_, reasons)| !reasons.is_empty())
        .map(|(name, reasons)| {
            let reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
            format!("{}.{}: {}", name.epoch, name.sequence, reasons.join(","))
        })
        .collect()
}

#[test]
fn a_plain_line_is_thinned_out() {
    let commits: Vec<Known> = (1..=50).map(|n| commit(n, i64::from(n) - 1)).collect();
    assert_eq!(
        judged(policy(2, 2), &commits),
        ["1.25: daily", "1.49: hourly,daily", "1.50: newest,hourly"]
    );
}

#[test]
fn a_gap_that_a_collection_left_does_not_make_a_new_line() {
    let commits = [commit(1, 0), commit(25, 24), commit(49, 48), commit(50, 49)];
    assert_eq!(
        judged(policy(1, 1), &commits),
        ["1.49: daily", "1.50: newest,hourly"]
    );
}

#[test]
fn a_node_that_took_over_goes_on_with_the_line_and_the_last_of_the_old_one_stays() {
    let mut second = commit(3, 50);
    second.name.epoch = 2;
    second.writer = "b".to_owned();
    let commits = [commit(1, 0), commit(2, 1), second];
    assert_eq!(
        judged(policy(1, 0), &commits),
        ["1.2: newest", "2.3: newest,hourly"]
    );
}

#[test]
fn a_fork_keeps_its_newest_and_takes_nothing_from_the_line() {
    let fork = Known {
        name: CommitName {
            digest: digest(900),
            ..commit(3, 0).name
        },
        stored: at(99),
        touched: at(99),
        ..commit(3, 99)
    };
    let line: Vec<Known> = (1..=4).map(|n| commit(n, i64::from(n))).collect();
    let before = judged(policy(2, 0), &line);
    assert_eq!(before, ["1.3: hourly", "1.4: newest,hourly"]);
    let mut forked = line.clone();
    forked.push(fork.clone());
    let kept = judge(&policy(2, 0), at(10_000), &forked).unwrap();
    assert!(kept[&fork.name].contains(&Reason::Newest));
    assert!(kept[&line[2].name].contains(&Reason::Hourly));
    assert!(kept[&line[3].name].contains(&Reason::Newest));
}

#[test]
fn what_the_newest_took_the_place_of_is_kept_for_a_grace_period() {
    let commits = [commit(1, 0), commit(2, 500)];
    let kept = |hour| {
        let kept = judge(&policy(0, 0), at(hour), &commits).unwrap();
        kept[&commits[0].name].contains(&Reason::Grace)
    };
    assert!(kept(501), "its writer may have only just looked away");
    assert!(!kept(549));
}

#[test]
fn a_copied_store_is_judged_by_the_signed_times() {
    let copied = |n: u32| Known {
        stored: at(5000),
        touched: at(5000),
        ..commit(n, i64::from(n) * 24)
    };
    let commits: Vec<Known> = (1..=9).map(copied).collect();
    let kept = judged(policy(0, 7), &commits);
    assert_eq!(
        kept.len(),
        8,
        "seven days, and what the store's time keeps: {kept:?}"
    );
}

#[test]
fn more_lines_than_writers_make_are_not_judged() {
    let alone = |n: u32| Known {
        previous: None,
        name: CommitName {
            digest: digest(u64::from(n) + 1000),
            ..commit(7, 0).name
        },
        ..commit(7, 0)
    };
    let commits: Vec<Known> = (0..1025).map(alone).collect();
    assert!(judge(&policy(1, 1), at(1), &commits).is_err());
}

#[rstest]
#[case(&[], &[])]
#[case(&[0], &["newest,grace,hourly"])]
#[case(&[0, 1, 50], &["newest,grace,hourly", "grace", ""])]
fn a_host_tells_what_it_knows(#[case] ages: &[i64], #[case] expected: &[&str]) {
    let record = |(n, age): (usize, &i64)| SnapshotRecord {
        epoch: 1,
        sequence: 100 - u32::try_from(n).unwrap(),
        commit: digest(n as u64),
        time: at(1000 - age),
        files: 0,
        bytes: 0,
        stored: 0,
        added: 0,
        capture: CaptureReport::default(),
    };
    let records: Vec<SnapshotRecord> = ages.iter().enumerate().map(record).collect();
    let kept = kept_locally(&policy(1, 0), at(1000), &records);
    let shown: Vec<String> = kept
        .iter()
        .map(|reasons| {
            let names: Vec<_> = reasons.iter().map(ToString::to_string).collect();
            names.join(",")
        })
        .collect();
    // The one of 50 hours ago was superseded an hour ago.
    let expected: Vec<&str> = expected
        .iter()
        .map(|text| if text.is_empty() { "grace" } else { text })
        .collect();
    assert_eq!(shown, expected);
}

/// An honest line: hours between commits, some of which an earlier collection took away.
fn history() -> impl Strategy<Value = Vec<Known>> {
    proptest::collection::vec((0_i64..400, 0_i64..3, any::<bool>(), 0_u8..20), 1..60).prop_map(
        |steps| {
            let (mut hour, mut epoch, mut stored) = (0, 1, at(0));
            let mut commits: Vec<Known> = Vec::new();
            let last = steps.len();
            for (n, (wait, late, is_there, new_epoch)) in steps.into_iter().enumerate() {
                hour += wait;
                epoch += u32::from(new_epoch == 0);
                let number = u32::try_from(n).unwrap() + 1;
                let mut next = commit(number, hour);
                // A writer stores one commit after the other.
                stored = stored.max(at(hour) + SignedDuration::from_mins(late * 7));
                next.stored = stored;
                next.touched = next.stored;
                next.name.epoch = epoch;
                if is_there || n + 1 == last {
                    commits.push(next);
                }
            }
            commits
        },
    )
}

fn any_policy() -> impl Strategy<Value = Policy> {
    (0_i64..100, 0_u32..6, 0_u32..6, 0_u32..4, 0_u32..4, 0_u32..2).prop_map(
        |(within, hourly, daily, weekly, monthly, yearly)| Policy {
            rules: KeepRules {
                within: SignedDuration::from_hours(within),
                hourly,
                daily,
                weekly,
                monthly,
                yearly,
            },
            grace: SignedDuration::from_hours(48),
        },
    )
}

/// A commit as somebody with the stolen key can make it: all is free but the store's time.
fn forged() -> impl Strategy<Value = Vec<(u32, u32, i64, Option<u8>)>> {
    let one = (
        1_u32..4,
        1_u32..90,
        -100_000_i64..100_000,
        proptest::option::of(any::<u8>()),
    );
    proptest::collection::vec(one, 1..12)
}

fn forge(
    honest: &[Known],
    forged: &[(u32, u32, i64, Option<u8>)],
    stored: Timestamp,
) -> Vec<Known> {
    let forge =
        |(n, (epoch, sequence, signed, previous)): (usize, &(u32, u32, i64, Option<u8>))| {
            let previous = match previous {
                Some(which) => honest[usize::from(*which) % honest.len()].name.digest,
                None => digest(7_000_000),
            };
            Known {
                name: CommitName {
                    epoch: *epoch,
                    sequence: *sequence,
                    digest: digest(5_000_000 + n as u64),
                },
                previous: Some(previous),
                stored,
                touched: stored,
                signed: at(*signed),
                ..commit(1, 0)
            }
        };
    forged.iter().enumerate().map(forge).collect()
}

type Judged = BTreeMap<CommitName, BTreeSet<Reason>>;

fn names(judged: &Judged) -> BTreeSet<CommitName> {
    let kept = judged.iter().filter(|(_, reasons)| !reasons.is_empty());
    kept.map(|(name, _)| *name).collect()
}

/// The same commits as if each had been signed when it was stored.
fn by_store(commits: &[Known]) -> Vec<Known> {
    let by_store = |commit: &Known| Known {
        signed: commit.stored,
        ..commit.clone()
    };
    commits.iter().map(by_store).collect()
}

proptest! {
    #[test]
    fn the_newest_of_every_line_and_of_every_writer_is_kept(
        honest in history(), forged in forged(), policy in any_policy(), later in 0_i64..2000,
    ) {
        let now = honest.last().unwrap().stored + SignedDuration::from_hours(later);
        let mut commits = honest.clone();
        commits.extend(forge(&honest, &forged, now));
        let kept = names(&judge(&policy, now, &commits).unwrap());
        for commit in &commits {
            let is_named = commits.iter().any(|other| other.previous == Some(commit.name.digest));
            let is_last = commits.iter().all(|other| {
                other.name.epoch != commit.name.epoch || other.name.sequence <= commit.name.sequence
            });
            let gaps = commits.iter().any(|other| other.name.sequence > commit.name.sequence);
            prop_assert!(!is_last || kept.contains(&commit.name));
            prop_assert!(is_named || gaps || kept.contains(&commit.name));
        }
    }

    #[test]
    fn nothing_forged_drops_what_the_rules_keep(
        honest in history(), forged in forged(), policy in any_policy(), later in 0_i64..2000,
    ) {
        // Whoever comes later is later by the store's clock; who was there in the same instant wrote the
        // honest commit as well.
        let stolen = honest.last().unwrap().stored + SignedDuration::from_secs(1);
        let now = stolen + SignedDuration::from_hours(later);
        let before = judge(&policy, now, &by_store(&honest)).unwrap();
        let mut commits = honest.clone();
        commits.extend(forge(&honest, &forged, stolen));
        let after = names(&judge(&policy, now, &commits).unwrap());
        for (name, reasons) in before {
            let by_rule = reasons.iter().any(|reason| !matches!(reason, Reason::Newest | Reason::Grace));
            prop_assert!(!by_rule || after.contains(&name), "{name} was kept by {reasons:?}");
        }
    }

    #[test]
    fn the_signed_time_never_drops_anything(
        honest in history(), times in proptest::collection::vec(-100_000_i64..100_000, 60),
        policy in any_policy(), later in 0_i64..2000,
    ) {
        let now = honest.last().unwrap().stored + SignedDuration::from_hours(later);
        let before = names(&judge(&policy, now, &by_store(&honest)).unwrap());
        let mut commits = honest;
        for (commit, time) in commits.iter_mut().zip(times) {
            commit.signed = at(time);
        }
        prop_assert!(names(&judge(&policy, now, &commits).unwrap()).is_superset(&before));
    }

    #[test]
    fn collecting_twice_collects_nothing_more(
        honest in history(), policy in any_policy(), later in 0_i64..2000,
    ) {
        let now = honest.last().unwrap().stored + SignedDuration::from_hours(later);
        let kept = names(&judge(&policy, now, &honest).unwrap());
        let rest: Vec<Known> = honest.into_iter().filter(|c| kept.contains(&c.name)).collect();
        prop_assert_eq!(names(&judge(&policy, now, &rest).unwrap()), kept);
    }

    #[test]
    fn a_more_generous_rule_keeps_at_least_as_much(
        honest in history(), policy in any_policy(), more in any_policy(), later in 0_i64..2000,
    ) {
        let now = honest.last().unwrap().stored + SignedDuration::from_hours(later);
        let (a, b) = (policy.rules, more.rules);
        let both = KeepRules {
            within: a.within.max(b.within),
            hourly: a.hourly.max(b.hourly),
            daily: a.daily.max(b.daily),
            weekly: a.weekly.max(b.weekly),
            monthly: a.monthly.max(b.monthly),
            yearly: a.yearly.max(b.yearly),
        };
        let generous = Policy { rules: both, ..policy };
        let less = names(&judge(&policy, now, &honest).unwrap());
        prop_assert!(names(&judge(&generous, now, &honest).unwrap()).is_superset(&less));
    }

    #[test]
    fn nothing_younger_than_the_grace_period_is_dropped(
        honest in history(), policy in any_policy(), later in 0_i64..100,
    ) {
        let now = honest.last().unwrap().stored + SignedDuration::from_hours(later);
        let kept = names(&judge(&policy, now, &honest).unwrap());
        for commit in honest {
            let age = now.duration_since(commit.stored);
            prop_assert!(age.as_secs() >= 48 * HOUR || kept.contains(&commit.name));
        }
    }
}

proptest! {
    /// What a restore is judged by: a heartbeat names a commit, and the head that is left must not be lower.
    #[test]
    fn what_stays_is_never_older_than_any_commit_that_a_heartbeat_may_name(
        commits in history(), policy in any_policy(), later in 0_i64..100_000, named in any::<proptest::sample::Index>(),
    ) {
        let now = commits.last().map_or(at(0), |last| last.stored) + SignedDuration::from_hours(later);
        let named = named.get(&commits).name;
        let kept = judge(&policy, now, &commits).unwrap();
        let head = kept.iter().filter(|(_, why)| !why.is_empty()).map(|(name, _)| *name).max();
        let rank = |name: CommitName| (name.epoch, name.sequence);
        prop_assert!(head.is_some_and(|head| rank(head) >= rank(named)));
    }
}
