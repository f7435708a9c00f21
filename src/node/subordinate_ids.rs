//! The reservation of the tenants' ids in `/etc/subuid` and `/etc/subgid`, which `useradd` and rootless containers heed.
//! Pure: it reads and makes text (`subuid(5)`: a name, the first id and their number, between colons).

use crate::quadlet::IdRange;

/// The reservation of every range that tenants can have, and its line's end.
pub const LINE: &str = "tenantd:1879048192:268435456\n";

/// Whose the reservation is.
const OWNER: &str = "tenantd";

/// How many ids are reserved: all from [`IdRange::FIRST`] up to half of what there are.
const NUMBER: u64 = 0x1000_0000;

/// What a file says of the tenants' ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reservation {
    /// They are reserved.
    Made,
    /// Nothing is said of them.
    Missing,
    /// Somebody else has some of them.
    Taken(String),
}

/// Reads one of the files. A line that says nothing sensible reserves nothing, as `useradd` has it.
pub fn reservation(text: &str) -> Reservation {
    let first = u64::from(IdRange::FIRST);
    let end = first + NUMBER;
    let mut found = Reservation::Missing;
    for line in text.lines() {
        let mut fields = line.split(':');
        let (Some(name), Some(start), Some(number)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (Ok(start), Ok(number)) = (start.parse::<u64>(), number.trim().parse::<u64>()) else {
            continue;
        };
        let last = start.saturating_add(number);
        if name == OWNER && start <= first && last >= end {
            found = Reservation::Made;
        } else if name != OWNER && start < end && last > first {
            return Reservation::Taken(name.to_owned());
        }
    }
    found
}

/// The text with the reservation, or nothing where it has it.
pub fn reserved(text: &str) -> Option<String> {
    if reservation(text) != Reservation::Missing {
        return None;
    }
    let end = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    Some(format!("{text}{end}{LINE}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nothing("", Reservation::Missing)]
    #[case::others_below("core:100000:65536\n", Reservation::Missing)]
    #[case::ours("core:100000:65536\ntenantd:1879048192:268435456\n", Reservation::Made)]
    #[case::ours_is_too_small("tenantd:1879048192:65536\n", Reservation::Missing)]
    #[case::the_last_id_before("core:1879048191:1\n", Reservation::Missing)]
    #[case::the_first_id("core:1879048191:2\n", Reservation::Taken("core".to_owned()))]
    #[case::the_last_id("core:2147483647:1\n", Reservation::Taken("core".to_owned()))]
    #[case::the_first_id_after("core:2147483648:65536\n", Reservation::Missing)]
    #[case::both("tenantd:1879048192:268435456\ncontainers:0:4294967295\n", Reservation::Taken("containers".to_owned()))]
    #[case::more_than_there_are("core:18446744073709551615:2\n", Reservation::Missing)]
    #[case::no_numbers("core:many:65536\n::\n", Reservation::Missing)]
    fn who_has_the_tenants_ids_is_read(#[case] text: &str, #[case] expected: Reservation) {
        assert_eq!(reservation(text), expected);
    }

    proptest! {
        #[test]
        fn what_is_reserved_stays_so_and_takes_nothing_from_others(text in "([a-z]{1,8}:[0-9]{1,6}:[0-9]{1,6}\n?){0,5}") {
            let Some(once) = reserved(&text) else {
                return Err(TestCaseError::fail("ids below a million are nobody's of ours"));
            };
            prop_assert!(once.starts_with(&text));
            prop_assert_eq!(reservation(&once), Reservation::Made);
            prop_assert_eq!(reserved(&once), None);
        }
    }
}
