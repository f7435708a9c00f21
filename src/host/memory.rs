//! The host's memory: whether it is short, and whether there is swap.
//! It reads two small files; what follows from them is decided elsewhere.

use super::cgroup;
use super::files;
use crate::layout::Layout;

/// Longest file that is read.
const LIMIT: u64 = 64 * 1024;

/// Whether memory can go to swap (`/proc/swaps` has a line for each, below its headline).
pub fn has_swap(layout: &Layout) -> bool {
    let swaps = files::read(&layout.root().join("proc/swaps"), LIMIT);
    swaps.is_ok_and(|swaps| String::from_utf8_lossy(&swaps).lines().count() > 1)
}

/// The share of the last ten seconds in which something waited for memory, in hundredths of a percent; none where
/// the kernel does not measure it.
pub fn pressure(layout: &Layout) -> Option<u32> {
    let pressure = files::read(&layout.root().join("proc/pressure/memory"), LIMIT).ok()?;
    cgroup::some_avg10(&String::from_utf8_lossy(&pressure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_says_whether_it_has_swap_and_is_short_of_memory() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::rooted(dir.path().to_str().unwrap());
        assert_eq!((has_swap(&layout), pressure(&layout)), (false, None));
        let proc = dir.path().join("proc");
        std::fs::create_dir_all(proc.join("pressure")).unwrap();
        std::fs::write(proc.join("swaps"), "Filename Type Size Used Priority\n").unwrap();
        assert!(!has_swap(&layout));
        let used = "Filename Type Size Used Priority\n/dev/zram0 partition 1048572 0 100\n";
        std::fs::write(proc.join("swaps"), used).unwrap();
        let short = "some avg10=12.30 avg60=1.00 avg300=0.00 total=5\nfull avg10=1.00\n";
        std::fs::write(proc.join("pressure/memory"), short).unwrap();
        assert_eq!((has_swap(&layout), pressure(&layout)), (true, Some(1230)));
    }
}
