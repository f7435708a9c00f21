//! Who is on the way to the installer, so that a round can wait for those who are nearly there.
//! It counts; who comes and how long to wait is known elsewhere.

use std::sync::Arc;

use tokio::sync::watch;

/// The count of those on their way. Cheap to clone.
#[derive(Clone, Default)]
pub struct Approaches {
    count: Arc<watch::Sender<usize>>,
}

/// One on its way, until it is dropped.
pub struct Approach {
    count: Arc<watch::Sender<usize>>,
}

impl Approaches {
    /// Counts one more.
    pub fn announce(&self) -> Approach {
        self.count.send_modify(|count| *count += 1);
        Approach {
            count: Arc::clone(&self.count),
        }
    }

    /// Waits until nobody is on the way.
    pub async fn none_left(&self) {
        let mut count = self.count.subscribe();
        // An error would mean that the sender is gone, which this holds.
        let _ = count.wait_for(|count| *count == 0).await;
    }
}

impl Drop for Approach {
    fn drop(&mut self) {
        self.count.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_round_waits_for_the_last_one_on_the_way() {
        let approaches = Approaches::default();
        approaches.none_left().await;
        let (first, second) = (approaches.announce(), approaches.announce());
        let left = approaches.none_left();
        tokio::pin!(left);
        drop(first);
        assert!(futures_util::poll!(&mut left).is_pending());
        drop(second);
        left.await;
    }
}
