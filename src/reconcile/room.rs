//! Whether the disk of the data directory has room for what is asked.
//! Asked before anything is touched: a disk that fills up in the middle costs more than a refusal.

use super::blocking;
use super::engine::Engine;
use super::error::OperationError;
use crate::host::space;

/// Kept free for records, units and repositories' indexes, which must be writable for an
/// operation to end well or to be taken back.
pub(super) const RESERVE: u64 = 16 * 1024 * 1024;

/// Refuses when the data directory lacks room for `bytes` and the reserve. `what` says what
/// needs it: `applying acme`.
pub async fn check(engine: &Engine, what: &str, bytes: u64) -> Result<(), OperationError> {
    let path = engine.layout.data_dir();
    let asked = path.clone();
    let free = blocking(move || space::of(&asked)).await?.free;
    match lacking(free, bytes) {
        None => Ok(()),
        Some(needed) => Err(OperationError::NoRoom {
            what: what.to_owned(),
            path,
            needed: mebibytes(needed),
            free: mebibytes(free),
        }),
    }
}

/// How much is needed in all, when that is more than there is.
fn lacking(free: u64, bytes: u64) -> Option<u64> {
    let needed = bytes.saturating_add(RESERVE);
    (needed > free).then_some(needed)
}

fn mebibytes(bytes: u64) -> String {
    // One digit is enough to compare by.
    let tenths = bytes.saturating_mul(10) / (1024 * 1024);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0, 0, Some(RESERVE))]
    #[case(RESERVE - 1, 0, Some(RESERVE))]
    #[case(RESERVE, 0, None)]
    #[case(RESERVE, 1, Some(RESERVE + 1))]
    #[case(1 << 40, 1 << 30, None)]
    #[case(1 << 40, u64::MAX, Some(u64::MAX))]
    fn the_reserve_comes_on_top(
        #[case] free: u64,
        #[case] bytes: u64,
        #[case] expected: Option<u64>,
    ) {
        assert_eq!(lacking(free, bytes), expected);
    }

    #[test]
    fn sizes_are_written_in_mebibytes() {
        assert_eq!(mebibytes(0), "0.0 MiB");
        assert_eq!(mebibytes(1_600_000), "1.5 MiB");
        assert_eq!(mebibytes(3 << 30), "3072.0 MiB");
    }
}
