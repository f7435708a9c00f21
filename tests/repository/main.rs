//! The repository as a whole: from files through a store and back, with real tools, damage and crashes.

mod archive;
mod bucket;
mod bucket_faults;
mod collect;
mod crash;
mod damage;
mod heartbeats;
mod hostile;
mod increments;
mod interleaved;
mod keys;
mod meanwhile;
mod part;
mod prune_command;
mod ranged;
mod round_trip;
mod scale;
mod sequence;
mod shelf;
mod stolen_key;
mod store_probe;
mod tools;
mod torture;
mod vectors;
mod world;
