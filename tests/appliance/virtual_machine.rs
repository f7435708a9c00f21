//! What only a kernel with all cgroup controllers, quotas and swap shows. In a virtual machine, which has a kernel of
//! its own; in one, because a boot costs more than anything here.

use anyhow::{Context as _, ensure};
use serde_json::json;
use xtask::progress::step;

use crate::host::{Host, LIMIT, fake_with, on_virtual_host};
use crate::{noisy, secrets};

/// A plan whose limits are soon reached and are nobody else's.
const SMALL: &str = r#"
name = "small"
description = "limits that are soon reached"
[limits]
cpus = 0.5
memory = "64MiB"
storage = "64MiB"
pids = 80
io-weight = 50
log-size = "4MiB"
log-retention = "7d"
egress = "1GiB"
retention = "14d"
"#;

const MIB: u64 = 1 << 20;

/// Who reaches the limits; a dash is a level in a slice's name.
const GREEDY: &str = "foo-bar";
/// Who must not notice.
const CALM: &str = "calm";

#[test]
fn the_kernel_holds_a_tenant_to_its_plan_and_the_power_button_loses_nothing() {
    on_virtual_host("limits", |host| {
        ensure!(host.machine.state()? == "running");
        host.machine
            .write("/etc/tenantd/plans.d/small.toml", SMALL)?;
        host.tenantd(["reload"])?;
        for tenant in [CALM, GREEDY] {
            // One processor, and everything slow that asks the kernel: the container's times do not hold.
            let spec = fake_with(tenant, "plan = \"small\"").replace("15s", "2min");
            host.apply(&spec)?;
        }

        step("limits_are_in_the_kernel_twice", || {
            limits_are_in_the_kernel_twice(host)
        })?;
        step("processor_time_is_rationed", || {
            processor_time_is_rationed(host)
        })?;
        step("memory_that_is_not_there_ends_only_who_wants_it", || {
            memory_that_is_not_there_ends_only_who_wants_it(host)
        })?;
        step("what_is_written_is_found_on_the_disk", || {
            what_is_written_is_found_on_the_disk(host)
        })?;
        host.tenantd(["remove", GREEDY, "--purge", "--yes"])?;
        step("what_a_rollback_sets_aside_does_not_count", || {
            what_a_rollback_sets_aside_does_not_count(host)
        })?;
        step("no_disk_has_a_value", || secrets::no_disk_has_a_value(host))?;
        step("noisy", || noisy::noisy(host))?;
        // One processor starts after the power button what it must.
        for tenant in [GREEDY, "quiet", "noisy"] {
            host.tenantd(["remove", tenant, "--purge", "--yes"])?;
        }
        step("the_power_button_keeps_the_last_write", || {
            the_power_button_keeps_the_last_write(host)
        })
    });
}

/// A tenant's slice, and within it the cgroup that its agent takes for the root.
fn cgroups(host: &Host<'_>, tenant: &str) -> anyhow::Result<(String, String)> {
    let unit = format!("tenant-{}.slice", tenant.replace('-', r"\x2d"));
    let slice = host.property(&unit, "ControlGroup")?;
    let service = host.property(&format!("tenant-{tenant}.service"), "ControlGroup")?;
    ensure!(
        service.starts_with(&format!("{slice}/")),
        "{service} is not in {slice}"
    );
    let payload = host.machine.run([
        "find",
        &format!("/sys/fs/cgroup{service}"),
        "-name",
        "libpod-payload-*",
    ])?;
    let payload = payload.trim().to_owned();
    ensure!(payload.lines().count() == 1, "{payload}");
    Ok((format!("/sys/fs/cgroup{slice}"), payload))
}

fn read(host: &Host<'_>, cgroup: &str, file: &str) -> anyhow::Result<String> {
    let text = host.machine.read(&format!("{cgroup}/{file}"))?;
    Ok(text.trim().to_owned())
}

/// A counter of a cgroup's file of names and numbers.
fn count(host: &Host<'_>, cgroup: &str, file: &str, name: &str) -> anyhow::Result<u64> {
    let text = read(host, cgroup, file)?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let number = line.with_context(|| format!("no {name} in {file} of {cgroup}: {text}"))?;
    Ok(number.parse()?)
}

/// The slice has room for what is beside the agent; the agent sees its plan.
fn limits_are_in_the_kernel_twice(host: &Host<'_>) -> anyhow::Result<()> {
    let shown = host.json(["show", GREEDY])?;
    ensure!(shown["unenforced"] == json!([]), "{shown:#}");
    let doctor = host.try_tenantd(["doctor"])?.stdout;
    ensure!(
        doctor.contains("every limit of the plans is enforced"),
        "{doctor}"
    );
    let (slice, payload) = cgroups(host, GREEDY)?;
    for (file, outer, inner) in [
        (
            "memory.max",
            (128 * MIB).to_string(),
            (64 * MIB).to_string(),
        ),
        ("pids.max", "144".to_owned(), "80".to_owned()),
        (
            "cpu.max",
            "50000 100000".to_owned(),
            "50000 100000".to_owned(),
        ),
    ] {
        let found = (read(host, &slice, file)?, read(host, &payload, file)?);
        ensure!(found == (outer, inner), "{file} is {found:?}");
    }
    let seen = host.tenantd(["exec", GREEDY, "--", "cat", "/sys/fs/cgroup/memory.max"])?;
    ensure!(
        seen.trim() == (64 * MIB).to_string(),
        "the agent sees {seen:?}"
    );
    // This kernel weighs no disk (no blk-iocost); that systemd was told is all that can be seen.
    let unit = format!("tenant-{}.slice", GREEDY.replace('-', r"\x2d"));
    ensure!(host.property(&unit, "IOWeight")? == "50");
    Ok(())
}

/// An agent that computes without end is stopped again and again, and its neighbour answers meanwhile.
fn processor_time_is_rationed(host: &Host<'_>) -> anyhow::Result<()> {
    let (slice, _) = cgroups(host, GREEDY)?;
    let before = count(host, &slice, "cpu.stat", "nr_throttled")?;
    host.machine.run([
        "systemd-run",
        "--quiet",
        "--unit=spin",
        "tenantd",
        "exec",
        GREEDY,
        "--",
        "sh",
        "-c",
        "while :; do :; done",
    ])?;
    host.machine
        .wait_until("the slice to be throttled", LIMIT, |_| {
            let throttled = count(host, &slice, "cpu.stat", "nr_throttled")?;
            Ok(if throttled > before + 3 {
                Ok(())
            } else {
                Err(format!("{throttled} times, {before} before"))
            })
        })?;
    ensure!(host.get(CALM, "/healthz")? == "ok\n");
    host.machine.run(["systemctl", "stop", "spin"])?;
    Ok(())
}

/// The agent that wants more than its plan is killed, the kernel says whose it was, and it starts again.
fn memory_that_is_not_there_ends_only_who_wants_it(host: &Host<'_>) -> anyhow::Result<()> {
    let (slice, _) = cgroups(host, GREEDY)?;
    let runs = (host.run_of(GREEDY)?, host.run_of(CALM)?);
    // As much again may go to swap; this is more than both.
    host.machine
        .script("truncate --size=200M /var/tmp/too-much")?;
    let upload = ["--request", "POST", "--header", "Expect:", "--upload-file"];
    let upload: Vec<&str> = upload.into_iter().chain(["/var/tmp/too-much"]).collect();
    let answer = host.request(GREEDY, "/sink", &upload)?;
    ensure!(
        !answer.success(),
        "the agent took 200 MiB into 64: {answer:?}"
    );

    host.machine
        .wait_until("another run of the agent", LIMIT, |_| {
            let run = host.run_of(GREEDY)?;
            Ok(if run != runs.0 && !run.is_empty() {
                Ok(())
            } else {
                Err(run)
            })
        })?;
    host.wait_for_state(GREEDY, "running")?;
    ensure!(count(host, &slice, "memory.events", "oom_kill")? >= 1);
    let shown = host.json(["show", GREEDY])?["transitions"].to_string();
    ensure!(shown.contains("\"cause\":\"out-of-memory\""), "{shown}");
    let said = host
        .machine
        .journal(["--dmesg", "--grep", "oom-kill:constraint"])?;
    ensure!(
        said.contains("CONSTRAINT_MEMCG") && said.contains("tenant-foo-bar.service"),
        "{said}"
    );
    ensure!(host.run_of(CALM)? == runs.1, "the neighbour was restarted");
    ensure!(host.get(CALM, "/healthz")? == "ok\n");
    Ok(())
}

/// What was written is found where a test looks for what must not be there, and nowhere else. The swap is seen.
fn what_is_written_is_found_on_the_disk(host: &Host<'_>) -> anyhow::Result<()> {
    let swap = host.machine.read("/proc/swaps")?;
    ensure!(swap.lines().count() == 2, "{swap}");
    let doctor = host.try_tenantd(["doctor"])?.stdout;
    ensure!(doctor.contains("swap on /dev/ubdb keeps"), "{doctor}");
    let mark = format!("mark {}", host.machine.boot_id()?);
    host.write(CALM, "mark", &mark)?;
    host.machine.run(["sync"])?;
    let found = host.machine.disks_with(&mark)?;
    ensure!(
        matches!(found.as_slice(), [disk] if disk.ends_with("disk.xfs")),
        "{mark:?} is in {found:?}"
    );
    Ok(())
}

/// A state of more than half of what the plan allows is there twice after a rollback, and the agent still writes.
fn what_a_rollback_sets_aside_does_not_count(host: &Host<'_>) -> anyhow::Result<()> {
    let used = || -> anyhow::Result<u64> {
        let storage = &host.json(["show", CALM])?["storage"];
        ensure!(storage["kept"] == true, "{storage}");
        storage["used-bytes"].as_u64().context("no used-bytes")
    };
    let write = |number: u64, content: &str| {
        let path = format!("/write?name=large-{number}");
        host.request(CALM, &path, &["--data-binary", content])
    };
    host.machine
        .script("head -c 8M /dev/urandom >/root/large")?;
    for number in 0..5 {
        write(number, "@/root/large")?.check()?;
    }
    let before = used()?;
    ensure!(before >= 40 * MIB, "{before}");
    let next = fake_with(CALM, "plan = \"small\"\nenv.EDITION = \"2\"");
    host.apply(&next.replace("15s", "2min"))?;
    host.tenantd(["rollback", CALM])?;
    ensure!(host.json(["show", CALM])?["revision"] == 1);
    let after = used()?;
    ensure!(
        after.abs_diff(before) < 16 * MIB,
        "{before} bytes before, {after} after the rollback"
    );
    host.write(CALM, "after", "the rollback")?;
    // What came back counts, as what was there before did.
    let is_full = (5..10).any(|number| {
        let written = write(number, "@/root/large");
        written.is_ok_and(|output| !output.success())
    });
    ensure!(is_full, "80 MiB fit into 64 MiB");
    for number in 0..10 {
        write(number, "")?.check()?;
    }
    host.tenantd(["restore", CALM, "--accept"])?;
    Ok(())
}

/// Nobody says goodbye: the button is pressed, and what an agent wrote last is in the store. (What it writes when it is
/// told to end is backed up if time is left, which in here is nobody's promise; `reboots` has that.)
fn the_power_button_keeps_the_last_write(host: &Host<'_>) -> anyhow::Result<()> {
    host.write(CALM, "note", "written right before the end")?;
    host.machine.press_power_button()?;
    host.machine.boot()?;
    host.wait_for_state(CALM, "running")?;
    host.tenantd(["restore", CALM, "--to", "/var/tmp/final"])?;
    let note = host.machine.read("/var/tmp/final/data/note")?;
    ensure!(note == "written right before the end", "{note:?}");
    Ok(())
}
