//! Addresses that stand for names: the name server gives one out, the connection to it tells which name was meant.
//! Pure bookkeeping with its bounds; serving names and keeping the book on disk is others' business.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::tenant::HostName;

/// First address that stands for a name: those of 198.18.0.0/15 (RFC 2544) never leave the tenant's namespace.
/// The first 256 are left out, for what the gateway may need itself.
const FIRST: u32 = u32::from_be_bytes([198, 18, 1, 0]);

/// How many names one tenant may have at a time: an agent knows some hundred, and 16 384 entries are 2 MB.
pub const CAPACITY: usize = 16_384;

/// How exactly it is known when an address was last of use: what is written down is written once a day.
const EXACT: SignedDuration = SignedDuration::from_hours(24);

/// An address stands for its name a week after it was last asked for or dialled, and [`EXACT`] more: agents keep
/// addresses, and sleep for days.
const KEPT: SignedDuration = SignedDuration::from_hours(8 * 24);

/// One name and when it was last of use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Counted from the first address.
    pub index: u32,
    /// Whom it stands for.
    pub name: HostName,
    /// When it was last asked for or dialled, give or take a day.
    pub used: Timestamp,
}

/// Every address is given to somebody else within the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{CAPACITY} names were asked for within a week")]
pub struct Full;

/// Which address stands for which name.
#[derive(Debug, Clone, Default)]
pub struct StandIns {
    by_name: HashMap<HostName, u32>,
    by_index: HashMap<u32, Entry>,
    /// The order in which addresses were given out, and so, roughly, that in which they come free.
    given: VecDeque<u32>,
    /// No address comes free before then.
    full_until: Option<Timestamp>,
}

impl StandIns {
    /// The book as it was written down: what came later counts.
    pub fn from_entries(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut book = Self::default();
        for entry in entries {
            if (entry.index as usize) < CAPACITY {
                book.put(entry);
            }
        }
        book
    }

    /// What has to be written down, in the order in which it was given out.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.given
            .iter()
            .filter_map(|index| self.by_index.get(index))
    }

    /// The address that stands for `name`, and what has to be written down before it is used.
    ///
    /// # Errors
    /// As many names as there may be are in use.
    pub fn address_of(
        &mut self,
        name: &HostName,
        now: Timestamp,
    ) -> Result<(Ipv4Addr, Option<Entry>), Full> {
        if let Some(index) = self.by_name.get(name).copied() {
            return Ok((address(index), self.touch(index, now)));
        }
        let index = self.free_index(now).ok_or(Full)?;
        let entry = Entry {
            index,
            name: name.clone(),
            used: now,
        };
        self.put(entry.clone());
        Ok((address(index), Some(entry)))
    }

    /// The name for which `address` stands, and what has to be written down.
    pub fn name_of(
        &mut self,
        address: Ipv4Addr,
        now: Timestamp,
    ) -> Option<(HostName, Option<Entry>)> {
        let index = u32::from(address).checked_sub(FIRST)?;
        let name = self.by_index.get(&index)?.name.clone();
        Some((name, self.touch(index, now)))
    }

    /// Takes an address back that nobody has been told.
    pub fn take_back(&mut self, index: u32) {
        if let Some(entry) = self.by_index.remove(&index) {
            self.by_name.remove(&entry.name);
            self.given.retain(|given| *given != index);
        }
    }

    /// Notes that an address is of use; gives what has to be written down, once a day.
    fn touch(&mut self, index: u32, now: Timestamp) -> Option<Entry> {
        let entry = self.by_index.get_mut(&index)?;
        // A clock that jumped back takes nothing away.
        let is_due = now.duration_since(entry.used) >= EXACT;
        is_due.then(|| {
            entry.used = now;
            entry.clone()
        })
    }

    fn put(&mut self, entry: Entry) {
        if let Some(known) = self.by_index.get_mut(&entry.index)
            && known.name == entry.name
        {
            known.used = entry.used;
            return;
        }
        self.take_back(entry.index);
        if let Some(other) = self.by_name.get(&entry.name).copied() {
            self.take_back(other);
        }
        self.by_name.insert(entry.name.clone(), entry.index);
        self.given.push_back(entry.index);
        self.by_index.insert(entry.index, entry);
    }

    /// An address that nobody has, or that has been of no use for so long that nobody remembers it.
    fn free_index(&mut self, now: Timestamp) -> Option<u32> {
        let next = u32::try_from(self.by_index.len()).ok()?;
        if (next as usize) < CAPACITY {
            // Usually the next one: a book that was read may have gaps.
            return (0..=next)
                .rev()
                .find(|index| !self.by_index.contains_key(index));
        }
        if self.full_until.is_some_and(|until| now < until) {
            return None;
        }
        // One look at each, at most: those in use go to the end of the line.
        let mut first_free: Option<Timestamp> = None;
        for _ in 0..self.given.len() {
            let index = self.given.pop_front()?;
            self.given.push_back(index);
            let Some(entry) = self.by_index.get(&index) else {
                continue;
            };
            if now.duration_since(entry.used) >= KEPT {
                self.take_back(index);
                return Some(index);
            }
            let free = entry.used.saturating_add(KEPT).unwrap_or(Timestamp::MAX);
            first_free = Some(first_free.map_or(free, |first| first.min(free)));
        }
        // Until then a flood of new names costs one look each.
        self.full_until = first_free;
        None
    }
}

fn address(index: u32) -> Ipv4Addr {
    Ipv4Addr::from(FIRST + index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn name(number: usize) -> HostName {
        format!("n{number}.example").parse().unwrap()
    }

    fn full() -> StandIns {
        let mut book = StandIns::default();
        for number in 0..CAPACITY {
            book.address_of(&name(number), NOW).unwrap();
        }
        book
    }

    #[test]
    fn a_name_keeps_its_address_and_the_address_its_name() {
        let mut book = StandIns::default();
        let (first, written) = book.address_of(&name(1), NOW).unwrap();
        assert_eq!(first.to_string(), "198.18.1.0");
        assert!(written.is_some());
        let (second, _) = book.address_of(&name(2), NOW).unwrap();
        assert_ne!(first, second);
        assert_eq!(book.address_of(&name(1), NOW), Ok((first, None)));
        assert_eq!(book.name_of(first, NOW), Some((name(1), None)));
        assert_eq!(book.name_of("198.19.255.255".parse().unwrap(), NOW), None);
        assert_eq!(book.name_of("8.8.8.8".parse().unwrap(), NOW), None);
    }

    #[test]
    fn a_million_names_are_refused_until_a_week_has_passed() {
        let mut book = full();
        let almost = NOW + KEPT - SignedDuration::from_secs(1);
        assert_eq!(book.address_of(&name(CAPACITY), almost), Err(Full));
        // What was dialled meanwhile stays.
        let kept = book.address_of(&name(0), almost).unwrap().0;
        let (address, written) = book.address_of(&name(CAPACITY), NOW + KEPT).unwrap();
        assert!(written.is_some());
        assert_ne!(address, kept);
        assert_eq!(book.name_of(kept, NOW + KEPT).unwrap().0, name(0));
        assert_eq!(book.entries().count(), CAPACITY);
    }

    #[test]
    fn what_was_used_within_the_last_week_is_never_given_to_another() {
        let mut book = full();
        // Not a day later, so it is not written down again.
        let used = NOW + EXACT - SignedDuration::from_secs(1);
        let first = book.address_of(&name(0), used).unwrap();
        assert_eq!(first.1, None);
        let mut book = StandIns::from_entries(book.entries().cloned().collect::<Vec<_>>());
        let within = used + SignedDuration::from_hours(7 * 24);
        assert_eq!(book.address_of(&name(CAPACITY), within), Err(Full));
    }

    #[test]
    fn an_address_taken_back_is_free_again() {
        let mut book = StandIns::default();
        let (address, entry) = book.address_of(&name(1), NOW).unwrap();
        book.take_back(entry.unwrap().index);
        assert_eq!(book.name_of(address, NOW), None);
        assert_eq!(book.address_of(&name(2), NOW).unwrap().0, address);
    }

    #[test]
    fn every_address_is_one_of_those_that_never_leave() {
        let last = address(u32::try_from(CAPACITY).unwrap() - 1);
        let net: ipnet::Ipv4Net = "198.18.0.0/15".parse().unwrap();
        assert!(net.contains(&address(0)) && net.contains(&last));
    }

    proptest! {
        #[test]
        fn a_book_that_was_written_down_reads_the_same(
            asked in prop::collection::vec((0_usize..40, 0_i64..2_000_000), 0..120),
        ) {
            let mut book = StandIns::default();
            let mut given: HashMap<usize, Ipv4Addr> = HashMap::new();
            for (number, at) in asked {
                let now = Timestamp::from_second(at).unwrap();
                let (address, written) = book.address_of(&name(number), now).unwrap();
                prop_assert!(given.insert(number, address).is_some() || written.is_some());
                book = StandIns::from_entries(book.entries().cloned().collect::<Vec<_>>());
                for (number, address) in &given {
                    prop_assert_eq!(book.name_of(*address, now).unwrap().0, name(*number));
                }
            }
        }

        #[test]
        fn no_book_however_damaged_gives_one_address_to_two(
            entries in prop::collection::vec((0_u32..20_000, 0_usize..30), 0..60),
            asked in prop::collection::vec(0_usize..60, 0..60),
        ) {
            let entries = entries.into_iter().map(|(index, number)| Entry { index, name: name(number), used: NOW });
            let mut book = StandIns::from_entries(entries);
            for number in asked {
                let (address, _) = book.address_of(&name(number), NOW).unwrap();
                prop_assert_eq!(book.name_of(address, NOW).unwrap().0, name(number));
            }
            let mut seen: Vec<u32> = book.entries().map(|entry| entry.index).collect();
            let count = seen.len();
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(seen.len(), count);
        }
    }
}
