//! How much data each measure takes.

use super::Size;

/// Amounts of data.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// D1: files.
    pub files: u64,
    /// D2: bytes.
    pub database: u64,
    /// D3: bytes.
    pub mixed: u64,
    /// The state that gets many increments: bytes.
    pub aged: u64,
    /// How many increments.
    pub increments: u64,
    /// Files of the agent that is paused.
    pub paused_files: u64,
    /// How often it is paused.
    pub pauses: u64,
    /// Runs of what is long.
    pub runs: usize,
}

const SMALL: Scale = Scale {
    files: 10_000,
    database: 192 << 20,
    mixed: 400_000_000,
    aged: 40_000_000,
    increments: 60,
    paused_files: 100_000,
    pauses: 20,
    runs: 2,
};

const FULL: Scale = Scale {
    files: 100_000,
    database: 2 << 30,
    mixed: 5_000_000_000,
    aged: 400_000_000,
    increments: 300,
    paused_files: 100_000,
    pauses: 100,
    runs: 3,
};

impl Scale {
    /// The amounts of a size.
    pub fn of(size: Size) -> Self {
        match size {
            Size::Small => SMALL,
            Size::Full => FULL,
        }
    }
}
