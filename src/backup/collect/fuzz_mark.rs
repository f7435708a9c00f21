//! The parser of marks, for `backup::fuzz`.

use super::marks;
use crate::backup::id::BucketPrefix;
use crate::backup::names::ObjectNames;

/// A good mark.
pub fn good() -> Vec<u8> {
    let names = ObjectNames(BucketPrefix([7; 16]));
    let marked = format!("{}packs/00", names.all());
    marks::make(names, &[&marked]).1.to_vec()
}

/// Reads one.
pub fn parse(bytes: &[u8]) {
    let _ = marks::parse(bytes);
}
