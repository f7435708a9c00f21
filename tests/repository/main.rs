//! The repository as a whole: from files through a store and back, with real tools, damage and crashes.

mod crash;
mod damage;
mod round_trip;
mod scale;
mod sequence;
mod tools;
mod vectors;
mod world;
