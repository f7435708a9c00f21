//! The doctor's look at the object store: what was found out about store and key, judged. Pure.

use jiff::SignedDuration;

use super::check::{self, Finding, failed, ok, warning};
use crate::api::CheckResult;
use crate::object_store::{Conditional, Deleting, History, StoreFacts};

/// A store's clock that is off by more makes times in reports and retention hard to follow.
const MOST_SKEW: SignedDuration = SignedDuration::from_secs(60);

const KEY_REMEDY: &str = "give this host a key without the right to delete versions (B2: without `deleteFiles`; AWS: \
     without s3:DeleteObjectVersion) and keep the other key for `tenantd prune` elsewhere";
const HISTORY_REMEDY: &str = "use a bucket that keeps versions (B2 always does; elsewhere turn versioning on), so that a \
     stolen key can hide backups but not destroy them";
const ACCESS_REMEDY: &str =
    "check the rights of the store's key: list, read and write below the prefix";

/// One row of the table.
struct Check {
    name: &'static str,
    judge: fn(&StoreFacts) -> Finding,
}

const CHECKS: &[Check] = &[
    Check {
        name: "reach",
        judge: reach,
    },
    Check {
        name: "write",
        judge: |facts| done(&facts.put, "objects can be stored"),
    },
    Check {
        name: "read",
        judge: |facts| done(&facts.get, "objects can be read"),
    },
    Check {
        name: "range",
        judge: |facts| done(&facts.range, "parts of objects can be read"),
    },
    Check {
        name: "list",
        judge: |facts| done(&facts.list, "objects can be listed"),
    },
    Check {
        name: "versions",
        judge: versions,
    },
    Check {
        name: "key",
        judge: key,
    },
    Check {
        name: "object-lock",
        judge: lock,
    },
    Check {
        name: "conditional-write",
        judge: conditional,
    },
    Check {
        name: "clock",
        judge: clock,
    },
    Check {
        name: "leftovers",
        judge: leftovers,
    },
];

/// Judges what a probe found; of a store that does not answer nothing else is said.
pub fn judge(facts: &StoreFacts) -> Vec<CheckResult> {
    let tried = if facts.reached.is_ok() {
        CHECKS.len()
    } else {
        1
    };
    let results = CHECKS[..tried]
        .iter()
        .map(|check| (check.judge)(facts).result(check.name, None));
    results.collect()
}

fn reach(facts: &StoreFacts) -> Finding {
    match &facts.reached {
        Ok(median) => ok(format!(
            "{} answers within {} ms (median)",
            facts.url,
            median.as_millis().max(1)
        )),
        Err(why) => failed(
            why,
            "check [store] in node.toml, its credentials and the network",
        ),
    }
}

fn done(outcome: &Result<(), String>, finding: &str) -> Finding {
    match outcome {
        Ok(()) => ok(finding),
        Err(why) => failed(why, ACCESS_REMEDY),
    }
}

fn unknown(why: &str) -> Finding {
    check::unknown(why, ACCESS_REMEDY)
}

fn versions(facts: &StoreFacts) -> Finding {
    match &facts.history {
        Ok(History::Kept) => ok("what is overwritten or deleted stays as an older version"),
        Ok(History::Lost) if facts.url.starts_with("dir:") => warning(
            "a directory keeps no versions: whoever can write there can destroy every backup",
            "keep the backups in a bucket, or copy the directory to where this host cannot write",
        ),
        Ok(History::Lost) => warning(
            "the bucket keeps no versions: what is overwritten is gone",
            HISTORY_REMEDY,
        ),
        Err(why) => unknown(why),
    }
}

fn key(facts: &StoreFacts) -> Finding {
    let kept = facts.history == Ok(History::Kept);
    match &facts.deleting {
        Ok(Deleting::HidesOnly) if kept => {
            ok("the key can hide what is stored, but not destroy it")
        }
        Ok(Deleting::Nothing) if kept => ok("the key can neither hide nor destroy what is stored"),
        Ok(Deleting::Locked(until)) => ok(match until {
            Some(until) => format!("Object Lock holds even new objects until {until}"),
            None => "Object Lock holds even new objects back".to_owned(),
        }),
        Ok(Deleting::ForGood) if facts.url.starts_with("dir:") => warning(
            "root on this host can delete every backup",
            "keep the backups in a bucket whose key cannot delete versions",
        ),
        Ok(Deleting::ForGood) => warning("this key could destroy history", KEY_REMEDY),
        Ok(Deleting::HidesOnly | Deleting::Nothing) => {
            warning("this key can overwrite what is stored", HISTORY_REMEDY)
        }
        Err(why) => unknown(why),
    }
}

fn lock(facts: &StoreFacts) -> Finding {
    match &facts.lock {
        Ok(Some(rule)) => ok(format!("new objects are locked for {rule}")),
        Ok(None) => ok("there is no default lock: whoever has a key with every right can delete"),
        // Few keys may ask, and it says nothing about backups that are made.
        Err(why) => ok(format!("unknown: {why}")),
    }
}

fn conditional(facts: &StoreFacts) -> Finding {
    match &facts.conditional {
        Ok(Conditional::Honoured) => ok("honoured; tenantd does not need it"),
        Ok(Conditional::Ignored) => ok("ignored; tenantd does not need it"),
        Ok(Conditional::NotOffered) => ok("not offered; tenantd does not need it"),
        Err(why) => ok(format!("unknown: {why}")),
    }
}

fn clock(facts: &StoreFacts) -> Finding {
    match &facts.skew {
        Ok(None) => ok("the store has this host's clock"),
        Ok(Some(skew)) if skew.abs() <= MOST_SKEW => {
            ok("the store's clock and this host's agree to the minute")
        }
        Ok(Some(skew)) => {
            let side = if skew.is_negative() {
                "behind"
            } else {
                "ahead of"
            };
            warning(
                format!(
                    "the store's clock is {} s {side} this host's",
                    skew.abs().as_secs()
                ),
                "set this host's clock right (chronyd, systemd-timesyncd)",
            )
        }
        Err(why) => unknown(why),
    }
}

fn leftovers(facts: &StoreFacts) -> Finding {
    if facts.leftovers.is_empty() {
        return ok("nothing was left behind");
    }
    ok(format!(
        "left behind, because the key cannot delete it (a few bytes): {}",
        facts.leftovers.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::super::tests::table;
    use std::time::Duration;

    use super::*;
    use crate::api::Verdict;

    fn good() -> StoreFacts {
        StoreFacts {
            url: "s3://bucket/node".to_owned(),
            reached: Ok(Duration::from_millis(23)),
            put: Ok(()),
            get: Ok(()),
            range: Ok(()),
            list: Ok(()),
            history: Ok(History::Kept),
            lock: Ok(Some("30 days, compliance".to_owned())),
            conditional: Ok(Conditional::NotOffered),
            deleting: Ok(Deleting::HidesOnly),
            skew: Ok(Some(SignedDuration::from_millis(800))),
            leftovers: Vec::new(),
        }
    }

    #[test]
    fn a_bucket_and_key_as_they_should_be_have_no_complaint() {
        let results = judge(&good());
        assert!(
            results.iter().all(|result| result.verdict == Verdict::Ok),
            "{results:?}"
        );
        insta::assert_snapshot!(table(judge(&good())));
    }

    #[test]
    fn a_key_that_could_destroy_history_is_told_with_what_to_do() {
        let facts = StoreFacts {
            deleting: Ok(Deleting::ForGood),
            lock: Ok(None),
            skew: Ok(Some(SignedDuration::from_secs(-400))),
            leftovers: vec!["tenantd-probe/x".to_owned()],
            ..good()
        };
        insta::assert_snapshot!(table(judge(&facts)));
    }

    #[test]
    fn a_directory_says_what_protection_is_missing() {
        let facts = StoreFacts {
            url: "dir:/srv/backups".to_owned(),
            history: Ok(History::Lost),
            deleting: Ok(Deleting::ForGood),
            lock: Ok(None),
            skew: Ok(None),
            ..good()
        };
        insta::assert_snapshot!(table(judge(&facts)));
    }

    #[test]
    fn a_store_that_does_not_answer_fails() {
        let why = || Err("not tried, because the store does not answer".to_owned());
        let facts = StoreFacts {
            reached: Err("the store is out of reach".to_owned()),
            put: why(),
            get: why(),
            range: why(),
            list: why(),
            history: Err("not tried".to_owned()),
            lock: Err("not tried".to_owned()),
            conditional: Err("not tried".to_owned()),
            deleting: Err("not tried".to_owned()),
            skew: Err("not tried".to_owned()),
            ..good()
        };
        insta::assert_snapshot!(table(judge(&facts)));
    }
}
