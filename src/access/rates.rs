//! How often may be asked: so often by one address, and so often with one token, by governor's cell rate algorithm.
//! It counts and says how long to wait; what is answered then is `api`'s business.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use super::TokenId;

/// Requests a second from one address, with or without a token; five times as many at once. A script that looks at
/// every one of fifty tenants stays below it.
const OF_ADDRESS: NonZeroU32 = NonZeroU32::new(40).unwrap();

/// Requests a second with one token; five times as many at once.
const OF_TOKEN: NonZeroU32 = NonZeroU32::new(20).unwrap();

/// Keys that are remembered before those that have been quiet are forgotten.
const REMEMBERED: usize = 4096;

type Limiter<K> = RateLimiter<K, HashMapStateStore<K>, DefaultClock>;

/// What was asked, by whom.
pub struct Rates {
    addresses: Limiter<IpAddr>,
    tokens: Limiter<TokenId>,
}

/// Somebody asks too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany {
    /// How long until one more may be asked.
    pub wait: Duration,
}

impl Default for Rates {
    fn default() -> Self {
        let quota =
            |rate: NonZeroU32| Quota::per_second(rate).allow_burst(rate.saturating_mul(FIVE));
        Self {
            addresses: RateLimiter::hashmap(quota(OF_ADDRESS)),
            tokens: RateLimiter::hashmap(quota(OF_TOKEN)),
        }
    }
}

const FIVE: NonZeroU32 = NonZeroU32::new(5).unwrap();

impl Rates {
    /// Counts a request from an address.
    pub fn of_address(&self, address: IpAddr) -> Result<(), TooMany> {
        count(&self.addresses, &network(address))
    }

    /// Counts a request with a token.
    pub fn of_token(&self, token: &TokenId) -> Result<(), TooMany> {
        count(&self.tokens, token)
    }
}

fn count<K: Clone + Hash + Eq>(limiter: &Limiter<K>, key: &K) -> Result<(), TooMany> {
    if limiter.len() > REMEMBERED {
        limiter.retain_recent();
    }
    limiter.check_key(key).map_err(|not_until| TooMany {
        wait: not_until.wait_time_from(DefaultClock::default().now()),
    })
}

/// Who has one IPv6 address has 2^64 of them (RFC 6177): all of them are one.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_on_and_on_is_told_to_wait_and_nobody_else_is() {
        let rates = Rates::default();
        let noisy = "2001:db8::1".parse().unwrap();
        // Far more than one may ask in the time that this takes, however slow the machine: each round that is served
        // takes from what is left, and what comes back comes back at OF_ADDRESS a second.
        let refused = (0..1_000_000).find_map(|_| rates.of_address(noisy).err());
        assert!(refused.is_some_and(|too_many| too_many.wait <= Duration::from_secs(1)));
        assert_eq!(rates.of_address("2001:db8:0:1::1".parse().unwrap()), Ok(()));
        assert_eq!(rates.of_address("192.0.2.1".parse().unwrap()), Ok(()));
    }

    #[test]
    fn the_addresses_of_one_network_are_one() {
        let network = |text: &str| network(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:2"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
