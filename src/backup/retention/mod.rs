//! Which snapshots are kept, and why: pure rules over what was signed and when the store took it.
//! It reads no clock and no store, and deletes nothing.

mod history;
mod rules;

pub use history::{JudgeError, Known, Policy, judge, kept_locally};
pub use rules::{KeepRules, Reason};
