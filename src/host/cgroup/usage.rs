//! What a tenant's slice uses: its agent, doors and helpers together. A handful of small files, no process.

use camino::Utf8Path;

use super::{keyed, number, text};

/// One look at a slice. What the kernel does not count here is absent, never zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SliceUsage {
    /// Processor time since the slice was made, in microseconds.
    pub cpu_us: Option<u64>,
    /// Bytes of memory, with what files it has cached.
    pub memory: Option<u64>,
    /// Bytes of swap.
    pub swap: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Bytes read from disks since the slice was made.
    pub read: Option<u64>,
    /// Bytes written to disks since the slice was made.
    pub written: Option<u64>,
    /// How much of the last ten seconds it waited.
    pub pressure: Pressure,
}

/// Shares of the last ten seconds in which some process of the slice waited, in hundredths of a percent
/// (`Documentation/accounting/psi.rst`, `some avg10`). Absent where the kernel does not measure it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// For a processor.
    pub cpu: Option<u32>,
    /// For memory.
    pub memory: Option<u32>,
    /// For a disk.
    pub io: Option<u32>,
}

impl SliceUsage {
    /// Looks at `group`; `None` when there is no such group: nothing of the tenant runs.
    pub fn of(group: &Utf8Path) -> Option<Self> {
        let cpu = text(group, "cpu.stat")?;
        let io = text(group, "io.stat");
        let pressure = |name| some_avg10(&text(group, name)?);
        Some(Self {
            cpu_us: keyed(&cpu, "usage_usec"),
            memory: number(group, "memory.current"),
            swap: number(group, "memory.swap.current"),
            pids: number(group, "pids.current"),
            read: io.as_deref().map(|stat| summed(stat, "rbytes=")),
            written: io.as_deref().map(|stat| summed(stat, "wbytes=")),
            pressure: Pressure {
                cpu: pressure("cpu.pressure"),
                memory: pressure("memory.pressure"),
                io: pressure("io.pressure"),
            },
        })
    }
}

/// The numbers behind `key` in the lines of `io.stat`, one line per disk, added up.
fn summed(stat: &str, key: &str) -> u64 {
    let words = stat.split_whitespace();
    let numbers = words.filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
    numbers.fold(0, u64::saturating_add)
}

/// The `avg10` of the line `some avg10=1.23 avg60=… …`, in hundredths.
pub fn some_avg10(text: &str) -> Option<u32> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let value = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("avg10="))?;
    let (whole, hundredths) = value.split_once('.')?;
    let whole: u32 = whole.parse().ok()?;
    (hundredths.len() == 2).then_some(())?;
    whole
        .checked_mul(100)?
        .checked_add(hundredths.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_slice_is_read_from_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let group = Utf8Path::from_path(dir.path()).unwrap();
        assert_eq!(SliceUsage::of(group), None);
        let files = [
            ("cpu.stat", "usage_usec 1234567\nuser_usec 1\n"),
            ("memory.current", "7000\n"),
            ("memory.swap.current", "0\n"),
            ("pids.current", "12\n"),
            (
                "io.stat",
                "8:0 rbytes=100 wbytes=7 rios=1\n253:0 rbytes=20 wbytes=1\n",
            ),
            (
                "cpu.pressure",
                "some avg10=1.23 avg60=0.00 avg300=0.00 total=5\n",
            ),
            (
                "memory.pressure",
                "some avg10=100.00 avg60=0.00\nfull avg10=9.99 avg60=0.00\n",
            ),
        ];
        for (name, content) in files {
            fs::write(group.join(name), content).unwrap();
        }
        let expected = SliceUsage {
            cpu_us: Some(1_234_567),
            memory: Some(7000),
            swap: Some(0),
            pids: Some(12),
            read: Some(120),
            written: Some(8),
            pressure: Pressure {
                cpu: Some(123),
                memory: Some(10_000),
                io: None,
            },
        };
        assert_eq!(SliceUsage::of(group), Some(expected));
    }

    #[test]
    fn what_is_no_pressure_is_absent() {
        for text in ["", "full avg10=1.00", "some avg10=x.00", "some avg10=1.5"] {
            assert_eq!(some_avg10(text), None, "{text:?}");
        }
    }
}
