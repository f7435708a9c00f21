//! Noisy neighbours: what one tenant does within its plan, another does not feel, and loses nothing by.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::host::{Host, LIMIT, fake_with, on_host};

/// Requests that make one measure of the well-behaved tenant.
const REQUESTS: usize = 40;

/// What the noisy tenant may do, and what it does about it.
#[derive(Debug, Clone, Copy)]
pub enum Noise {
    /// Many busy threads: `cpus` and `pids`.
    Threads,
    /// More memory than it may have: `memory`.
    Memory,
    /// More state than it may have: `storage`.
    Storage,
    /// More log than it may keep: `log-size`.
    Log,
}

/// Every kind of noise, on a host whose kernel has all controllers and whose data directory is on XFS with `prjquota`:
/// the neighbour goes on answering, and nothing of it is lost. How much later it answers is printed beside the promise
/// (twice as late at most): seconds of a machine that shares its processors prove nothing.
pub fn noisy(host: &Host<'_>) -> anyhow::Result<()> {
    prepare(host)?;
    let alone = median(host)?;
    for noise in [Noise::Threads, Noise::Memory, Noise::Storage, Noise::Log] {
        make(host, noise)?;
        let beside = median(host)?;
        println!(
            "{noise:?}: the neighbour answers in {beside:?}, alone in {alone:?}; promised: twice that"
        );
        is_untouched(host)?;
    }
    let shown = host.json(["show", "noisy"])?;
    ensure!(shown["storage"]["kept"] == true, "{shown:#}");
    Ok(())
}

/// What the test machine can show of it: it counts no processor, memory or storage.
#[test]
fn a_log_flooder_loses_only_its_own_old_lines() {
    on_host("noisy", |host| {
        prepare(host)?;
        make(host, Noise::Log)?;
        is_untouched(host)?;
        let neighbour = host.tenantd(["logs", "quiet", "-n", "1000"])?.stdout;
        ensure!(!neighbour.contains("noise "), "the flood is in another log");
        // Its own newest lines are there, within the plan's size and one file more than that.
        let newest = host.tenantd(["logs", "noisy", "-n", "5"])?.stdout;
        ensure!(newest.contains("noise "), "{newest}");
        let usage = host
            .machine
            .script("du --summarize --bytes /var/log/journal/*.tenant-noisy | cut -f1")?;
        let kept: u64 = usage.trim().parse()?;
        ensure!(kept <= 16 << 20, "the flooder keeps {kept} bytes of log");
        Ok(())
    });
}

/// A well-behaved tenant with something to lose, and one with a small plan.
fn prepare(host: &Host<'_>) -> anyhow::Result<()> {
    host.machine.write(
        "/etc/tenantd/plans.d/small.toml",
        "name = \"small\"\ndescription = \"for noise\"\n[limits]\ncpus = 0.5\nmemory = \"128MiB\"\n\
         swap = \"0B\"\nstorage = \"64MiB\"\npids = 64\nio-weight = 10\nlog-size = \"8MiB\"\n\
         log-retention = \"1d\"\negress = \"1GiB\"\nretention = \"1d\"\n",
    )?;
    host.tenantd(["reload"])?;
    // Long enough for a machine of one slow processor.
    let patient = |spec: String| spec.replace("15s", "2min");
    host.apply(&patient(fake_with("quiet", "")))?;
    host.apply(&patient(fake_with("noisy", "plan = \"small\"")))?;
    host.write("quiet", "note", "kept")
}

fn make(host: &Host<'_>, noise: Noise) -> anyhow::Result<()> {
    let post = |path: &str| host.request("noisy", path, &["--request", "POST"]);
    match noise {
        Noise::Threads => {
            let got = post("/spread?threads=100000")?.check()?.stdout;
            let got: u64 = got.trim().parse()?;
            ensure!(got <= 64, "{got} threads beside a limit of 64");
        }
        Noise::Memory => {
            let before = host.run_of("noisy")?;
            // Its answer may be lost: it can be killed before it has written it.
            let answer = post("/hog?mib=1024")?;
            host.machine.wait_until(
                "the agent to be killed for it and to be back",
                LIMIT,
                |_| {
                    let run = host.run_of("noisy")?;
                    let is_back = !run.is_empty() && run != before;
                    Ok(if is_back && host.get("noisy", "/healthz").is_ok() {
                        Ok(())
                    } else {
                        Err(format!("{run} after {before}: {answer:?}"))
                    })
                },
            )?;
        }
        Noise::Storage => {
            host.machine.script("head -c 8M /dev/zero >/root/block")?;
            let full = (0..16).any(|number| {
                let path = format!("/write?name=fill-{number}");
                let sent = host.request("noisy", &path, &["--data-binary", "@/root/block"]);
                sent.is_ok_and(|output| !output.success())
            });
            ensure!(full, "128 MiB fit into 64 MiB");
        }
        Noise::Log => {
            post("/flood?lines=200000")?.check()?;
        }
    }
    Ok(())
}

/// The median time of an answer of the well-behaved tenant.
fn median(host: &Host<'_>) -> anyhow::Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..REQUESTS {
        let begin = Instant::now();
        host.get("quiet", "/healthz")?;
        times.push(begin.elapsed());
    }
    times.sort();
    Ok(times[REQUESTS / 2])
}

fn is_untouched(host: &Host<'_>) -> anyhow::Result<()> {
    ensure!(host.state("quiet")? == "running");
    ensure!(host.get("quiet", "/starts")?.trim() == "1");
    host.expect("quiet", "note", "kept")?;
    host.write("quiet", "after", "noise")?;
    host.expect("quiet", "after", "noise")
}
