//! The clock: the only place where the product asks what time it is.
//! Deciding code takes times as arguments.

use std::time::Instant;

use jiff::Timestamp;

/// The time of day, for records and for people.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// A clock that never jumps, for measuring how long something takes.
pub fn monotonic() -> Instant {
    Instant::now()
}
