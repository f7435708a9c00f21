//! What a noisy tenant does to its neighbours, on request. Each ends by itself, or by the tenant's limits.

use std::{
    hint,
    io::{self, BufWriter, Write as _},
    thread,
    time::Duration,
};

/// A page of memory: one byte of each must be written for it to be there.
const PAGE: usize = 4096;

/// How long threads and memory are held.
const HELD: Duration = Duration::from_mins(1);

/// Writes this many lines to the log, as fast as it takes them.
pub fn flood(lines: u64) -> io::Result<String> {
    let mut out = BufWriter::new(io::stdout().lock());
    for line in 0..lines {
        writeln!(out, "noise {line:09} {}", "x".repeat(100))?;
    }
    out.flush()?;
    Ok(format!("{lines}\n"))
}

/// Takes this much memory and touches all of it, in the background.
pub fn hog(mib: usize) -> String {
    thread::spawn(move || {
        let mut held = Vec::new();
        for _ in 0..mib {
            let mut block = vec![0_u8; 1 << 20];
            for byte in block.iter_mut().step_by(PAGE) {
                *byte = 1;
            }
            held.push(hint::black_box(block));
        }
        thread::sleep(HELD);
        drop(held);
    });
    format!("{mib}\n")
}

/// Starts threads that never rest, as many of these as it may; how many it got.
pub fn spread(threads: u64) -> String {
    let mut got = 0;
    for _ in 0..threads {
        let spin = || {
            let begin = std::time::Instant::now();
            while begin.elapsed() < HELD {
                hint::spin_loop();
            }
        };
        // Refused from the limit on: that is what the limit is for.
        if thread::Builder::new()
            .stack_size(64 * 1024)
            .spawn(spin)
            .is_err()
        {
            break;
        }
        got += 1;
    }
    format!("{got}\n")
}
