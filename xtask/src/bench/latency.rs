//! Exchanges with an agent, by whatever way: how long each took.

use serde::Deserialize;

/// Microseconds of each exchange.
#[derive(Debug, Default, Deserialize)]
pub struct Latency {
    /// One request on a connection of its own.
    pub new: Vec<f64>,
    /// One message there and back on an open connection.
    pub open: Vec<f64>,
}

impl Latency {
    /// Adds more of them.
    pub fn take(&mut self, more: Self) {
        self.new.extend(more.new);
        self.open.extend(more.open);
    }
}
