//! Places for agents that start: only so many at a time, so that the host stays answerable while many want to.
//! It knows neither tenants nor units; who needs a place, and when it is done with it, is the run's business.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;

/// Starts at a time per processor: about half of its time, a start waits for the disk and for its agent.
const PER_PROCESSOR: usize = 2;

/// Fewest starts at a time, so that one slow agent on a small host does not make all others wait.
const FEWEST: usize = 4;

/// Longest time for which a start keeps its place: what is not healthy by then must not block all others.
/// More than the slowest agent that we know takes on an idle host (OpenClaw, 9.5 s).
const HOLD: Duration = Duration::from_secs(15);

/// The places of one host.
pub struct Starts {
    places: Arc<Semaphore>,
    hold: Duration,
}

/// A place; given back when it is dropped, or before that when it was kept too long.
pub struct Place {
    _kept: AbortOnDropHandle<()>,
}

impl Starts {
    /// As many places as a host with so many processors can take.
    pub fn on(processors: usize) -> Self {
        Self::new((PER_PROCESSOR * processors).max(FEWEST), HOLD)
    }

    fn new(places: usize, hold: Duration) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            hold,
        }
    }

    /// A place, if one is free and nobody waits for it.
    pub fn free_place(&self) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(self.place(permit))
    }

    /// A place when it is the caller's turn; fair, in order of asking.
    pub async fn next_place(&self) -> Place {
        let permit = Arc::clone(&self.places).acquire_owned().await;
        self.place(permit.expect("nobody closes the semaphore"))
    }

    fn place(&self, permit: OwnedSemaphorePermit) -> Place {
        let hold = self.hold;
        let keep = async move {
            tokio::time::sleep(hold).await;
            drop(permit);
        };
        Place {
            _kept: AbortOnDropHandle::new(tokio::spawn(keep)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOREVER: Duration = Duration::from_hours(1);

    #[tokio::test]
    async fn the_next_starts_when_one_is_done() {
        let starts = Starts::new(1, FOREVER);
        let first = starts.free_place();
        assert!(first.is_some() && starts.free_place().is_none());
        let next = starts.next_place();
        tokio::pin!(next);
        assert!(futures_util::poll!(&mut next).is_pending());
        drop(first);
        next.await;
    }

    #[tokio::test]
    async fn one_that_is_never_healthy_does_not_block_the_others() {
        let starts = Starts::new(1, Duration::from_millis(1));
        let _stuck = starts.free_place();
        starts.next_place().await;
    }

    #[test]
    fn a_small_host_has_places_too() {
        for (processors, places) in [(1, 4), (2, 4), (8, 16)] {
            assert_eq!(Starts::on(processors).places.available_permits(), places);
        }
    }
}
