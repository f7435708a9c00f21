//! What a snapshot needs from outside: stopping the agent for a moment, and a clock.
//! Who freezes and how is the host's affair.

use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;

/// Why a pause or resume failed.
pub type PauseError = Box<dyn Error + Send + Sync>;

/// Stops and continues whatever writes the files.
#[async_trait]
pub trait Pause: Send + Sync {
    /// Asks whatever writes to put its files in order, and to keep them so until [`Self::release`]. It is called before
    /// [`Self::pause`]; what it takes is no part of the pause. An error means that there is to be no snapshot.
    async fn prepare(&self) -> Result<(), PauseError> {
        Ok(())
    }

    /// Ends what [`Self::prepare`] has begun. It is called after every one of these, when all runs again, and may be called
    /// again.
    async fn release(&self) {}

    /// Returns when nothing writes any more.
    async fn pause(&self) -> Result<(), PauseError>;
    /// Lets it go on. It is called after every [`Self::pause`], also after a failed one, and
    /// may be called again.
    async fn resume(&self) -> Result<(), PauseError>;
    /// Whether nothing can have written from the last [`Self::pause`] until it was resumed, as told by the
    /// first [`Self::resume`] after it: what was cloned meanwhile is of one moment only then.
    fn has_held(&self) -> bool {
        true
    }
}

/// For files that nobody writes: a stopped tenant, a prepared directory.
#[derive(Debug, Clone, Copy, Default)]
pub struct NobodyWrites;

#[async_trait]
impl Pause for NobodyWrites {
    async fn pause(&self) -> Result<(), PauseError> {
        Ok(())
    }

    async fn resume(&self) -> Result<(), PauseError> {
        Ok(())
    }
}

/// Two clocks: the one on the wall for what is recorded, and one that never jumps.
pub trait Clock: Send + Sync {
    /// The time of day.
    fn now(&self) -> Timestamp;
    /// Time since some fixed moment.
    fn monotonic(&self) -> Duration;
}

/// The host's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
}

/// Resumes and releases when dropped, so that a cancelled or panicking backup never leaves an agent frozen.
pub(super) struct ResumeGuard(Option<Arc<dyn Pause>>);

impl ResumeGuard {
    pub(super) fn new(pause: Arc<dyn Pause>) -> Self {
        Self(Some(pause))
    }

    /// Resumes now and says how it went.
    pub(super) async fn resume(&self) -> Result<(), PauseError> {
        match &self.0 {
            Some(pause) => pause.resume().await,
            None => Ok(()),
        }
    }

    /// Releases, after a [`Self::resume`] that went well.
    pub(super) async fn release(mut self) {
        if let Some(pause) = self.0.clone() {
            pause.release().await;
            self.0 = None;
        }
    }
}

impl Drop for ResumeGuard {
    fn drop(&mut self) {
        let Some(pause) = self.0.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            if let Err(error) = pause.resume().await {
                tracing::error!(
                    error,
                    "the agent could not be resumed after a broken-off backup"
                );
            }
            pause.release().await;
        });
    }
}
