//! Whose turn it is: pure, from the times of a clock that never jumps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::tenant::TenantId;

/// When each tenant was last asked, and who has not answered yet.
#[derive(Debug, Default)]
pub(super) struct Wheel {
    asked: BTreeMap<TenantId, Instant>,
    silent: BTreeSet<TenantId>,
}

impl Wheel {
    /// Whether `tenant` is to be asked now, at this interval. It counts as asked then. One that was never
    /// heard of is asked an interval later, since it has just started or the prober has; one that has not answered yet,
    /// once it has.
    pub fn is_due(&mut self, tenant: &TenantId, now: Instant, interval: Duration) -> bool {
        if self.silent.contains(tenant) {
            return false;
        }
        match self.asked.get(tenant) {
            Some(asked) if now.duration_since(*asked) < interval => false,
            known => {
                let is_known = known.is_some();
                self.asked.insert(tenant.clone(), now);
                is_known
            }
        }
    }

    /// Notes that `tenant` is being asked.
    pub fn asks(&mut self, tenant: &TenantId) {
        self.silent.insert(tenant.clone());
    }

    /// Notes that `tenant` has answered, or not within its time; says whether that is still of interest.
    pub fn answered(&mut self, tenant: &TenantId) -> bool {
        self.silent.remove(tenant)
    }

    /// Forgets all others, and returns them.
    pub fn keep_only<'a>(&mut self, tenants: impl Iterator<Item = &'a TenantId>) -> Vec<TenantId> {
        let there: BTreeSet<_> = tenants.collect();
        let known = self.asked.keys();
        let gone: Vec<_> = known.filter(|id| !there.contains(id)).cloned().collect();
        for tenant in &gone {
            self.silent.remove(tenant);
            self.asked.remove(tenant);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::clock;

    #[test]
    fn each_is_asked_at_its_own_pace_and_first_after_an_interval() {
        let [fast, slow] = ["fast", "slow"].map(|id| id.parse::<TenantId>().unwrap());
        let begin = clock::monotonic();
        let mut wheel = Wheel::default();
        let mut asked = Vec::new();
        for second in (0..=60).step_by(5) {
            let now = begin + Duration::from_secs(second);
            for (tenant, interval) in [(&fast, 10), (&slow, 30)] {
                if wheel.is_due(tenant, now, Duration::from_secs(interval)) {
                    asked.push((second, tenant.as_str()));
                }
            }
        }
        let fasts = [10, 20, 30, 40, 50, 60].map(|second| (second, "fast"));
        let mut expected: Vec<_> = fasts
            .into_iter()
            .chain([(30, "slow"), (60, "slow")])
            .collect();
        expected.sort_unstable();
        assert_eq!(asked, expected);
        assert_eq!(wheel.keep_only([&fast].into_iter()), [slow]);
    }

    #[test]
    fn nobody_is_asked_twice_at_a_time() {
        let tenant: TenantId = "acme".parse().unwrap();
        let begin = clock::monotonic();
        let mut wheel = Wheel::default();
        let is_due = |wheel: &mut Wheel, second: u64| {
            let now = begin + Duration::from_secs(second);
            wheel.is_due(&tenant, now, Duration::from_secs(10))
        };
        assert!(!is_due(&mut wheel, 0));
        assert!(is_due(&mut wheel, 10));
        wheel.asks(&tenant);
        assert!(!is_due(&mut wheel, 20));
        assert!(wheel.answered(&tenant));
        assert!(is_due(&mut wheel, 21));
        // The answer of one that has gone says nothing.
        wheel.asks(&tenant);
        wheel.keep_only([].into_iter());
        assert!(!wheel.answered(&tenant));
    }
}
