//! Every parser that reads what a bucket, a server or a stranger's archive gives, fed with good objects that were
//! mutated by lot: it may refuse them, and must neither panic nor take memory without end.
//!
//! The parsers are listed by their own rooms; here is only who feeds them. They run in a process with bounded memory
//! and time, so that a bomb fails the test and not the machine.

mod mutate;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use self::mutate::mutated;

type Parse = Box<dyn Fn(&[u8])>;

/// A parser, and good inputs for it.
pub struct Target {
    pub name: &'static str,
    /// Parses, and panics where the result contradicts itself.
    pub parse: Parse,
    pub seeds: Vec<Vec<u8>>,
}

impl Target {
    pub fn new(name: &'static str, seeds: Vec<Vec<u8>>, parse: impl Fn(&[u8]) + 'static) -> Self {
        let parse = Box::new(parse);
        Self { name, parse, seeds }
    }
}

/// Mutated inputs for each parser, and from what they are drawn; `cargo xtask torture` sets both.
const INPUTS: &str = "TENANTD_FUZZ_INPUTS";
const SEED: &str = "TENANTD_FUZZ_SEED";

fn given(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
#[ignore = "run by the test below in a process of its own"]
fn child_parses() {
    let (inputs, seed) = (given(INPUTS, 20), given(SEED, 1));
    let mut targets = crate::backup::fuzz::targets();
    targets.extend(crate::object_store::fuzz::targets());
    for Target { name, parse, seeds } in &targets {
        // The last line of a process that died says where.
        println!("{name}, seed {seed}");
        for good in seeds {
            parse(good);
        }
        let mut dice = fastrand::Rng::with_seed(seed);
        for number in 0..inputs {
            let input = mutated(&mut dice, seeds);
            let parsed = catch_unwind(AssertUnwindSafe(|| parse(&input)));
            let shown = || input.escape_ascii().take(4000).collect::<Vec<u8>>();
            assert!(
                parsed.is_ok(),
                "{name}, seed {seed}, input {number}: {}",
                String::from_utf8_lossy(&shown())
            );
        }
    }
    println!("{} parsers, {inputs} inputs each", targets.len());
}

#[test]
fn no_parser_of_what_others_wrote_can_be_brought_down() {
    // Two GiB of address space, of which the program and its threads take half, and minutes of processor.
    let limited = "ulimit -v 2097152; ulimit -t 900; exec \"$0\" \"$@\"";
    let output = Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "fuzz::child_parses", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let (said, log) = (&output.stdout, &output.stderr);
    let said = String::from_utf8_lossy(said);
    assert!(
        output.status.success() && said.contains(" parsers, "),
        "{:?}: {said}{}",
        output.status,
        String::from_utf8_lossy(log)
    );
    println!("{said}");
}
