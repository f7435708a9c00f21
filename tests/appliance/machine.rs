//! The machine itself keeps what the other tests rely on.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use xtask::machine::{Machine, in_machine};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn it_boots_clean_and_is_the_host_that_tenantd_asks_for() {
    in_machine("boot", |machine| {
        ensure!(
            machine.state()? == "running",
            "{}",
            machine.run(["systemctl", "--failed"])?.stdout
        );
        let systemd = machine.run(["systemctl", "--version"])?;
        ensure!(
            systemd.stdout.starts_with("systemd 257"),
            "{}",
            systemd.stdout
        );
        let podman: serde_json::Value = machine
            .run(["podman", "version", "--format=json"])?
            .json()?;
        let version = podman["Client"]["Version"].as_str().unwrap_or_default();
        ensure!(version.starts_with("5.4."), "Podman {version}");

        let links = machine.run(["ip", "-brief", "link"])?;
        ensure!(
            links.stdout.lines().all(|line| line.starts_with("lo")),
            "not only a loopback: {}",
            links.stdout
        );
        let journal = machine.journal([])?;
        ensure!(!journal.contains("ordering cycle"), "{journal}");
        Ok(())
    });
}

#[test]
fn commands_keep_their_input_output_exit_code_and_time_limit() {
    in_machine("commands", |machine| {
        let odd = "a \"quoted\" $HOME % \\ word";
        ensure!(machine.run(["printf", "%s", odd])?.stdout == odd);
        let failed = machine.attempt(["sh", "-c", "echo out; echo err >&2; exit 7"])?;
        ensure!(
            (failed.code, failed.trim(), failed.stderr.trim()) == (Some(7), "out", "err"),
            "{failed:?}"
        );
        ensure!(machine.run(["false"]).is_err());
        let late = machine.attempt_with(["sleep", "60"], &[], Duration::from_secs(1));
        ensure!(late.is_err_and(|error| error.to_string().contains("did not end within 1 s")));
        // What a command leaves behind must not keep the test waiting for the end of its output.
        let left = machine.attempt(["sh", "-c", "echo before; sleep 300 &"]);
        ensure!(left.is_err_and(|error| {
            let error = error.to_string();
            error.contains("holds its output") && error.contains("before")
        }));

        let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        machine.write("/var/tmp/deep/er/file", &bytes)?;
        let copy = std::env::temp_dir().join(format!("tenantd-copy-out-{}", std::process::id()));
        machine.copy_out("/var/tmp/deep/er/file", &copy)?;
        let same = std::fs::read(&copy)? == bytes;
        std::fs::remove_file(&copy)?;
        ensure!(same, "the copy differs");
        Ok(())
    });
}

#[test]
fn files_below_var_lib_tenantd_can_be_cloned() {
    in_machine("clone", |machine| {
        machine.script(
            "mkdir -p /var/lib/tenantd/a
             head -c 4M /dev/urandom >/var/lib/tenantd/a/file
             cp --reflink=always /var/lib/tenantd/a/file /var/lib/tenantd/clone
             cmp /var/lib/tenantd/a/file /var/lib/tenantd/clone",
        )?;
        let cloned = machine.run(["xfs_io", "-r", "-c", "fiemap -v", "/var/lib/tenantd/clone"])?;
        // FIEMAP_EXTENT_SHARED, from linux/fiemap.h.
        ensure!(
            cloned.stdout.contains("0x2"),
            "no shared extent: {}",
            cloned.stdout
        );
        Ok(())
    });
}

#[test]
fn a_reboot_and_a_clean_stop_keep_the_disk_and_a_power_cut_keeps_what_was_synced() {
    in_machine("reboot", |machine| {
        let first = machine.boot_id()?;
        machine.script(
            "mkdir -p /var/lib/tenantd; echo kept >/var/lib/tenantd/plain; echo etc >/etc/kept",
        )?;
        machine.reboot()?;
        ensure!(machine.boot_id()? != first);
        ensure!(kept(machine)? == ("kept".to_owned(), "etc".to_owned()));

        machine.poweroff()?;
        ensure!(!machine.is_up()? && machine.state()? == "off");
        ensure!(machine.run(["true"]).is_err());
        machine.boot()?;
        ensure!(kept(machine)? == ("kept".to_owned(), "etc".to_owned()));

        machine.script(
            "cd /var/lib/tenantd; echo synced >synced; sync synced .; echo lost >never-synced",
        )?;
        machine.kill()?;
        ensure!(!machine.is_up()?);
        machine.boot()?;
        ensure!(kept(machine)? == ("kept".to_owned(), "etc".to_owned()));
        ensure!(machine.read("/var/lib/tenantd/synced")? == "synced\n");
        let lost = machine.attempt(["cat", "/var/lib/tenantd/never-synced"])?;
        ensure!(
            lost.stdout.is_empty(),
            "what was never synced survived the power cut: the cut is too gentle"
        );
        Ok(())
    });
}

fn kept(machine: &Machine) -> anyhow::Result<(String, String)> {
    let read = |path| Ok::<_, anyhow::Error>(machine.read(path)?.trim().to_owned());
    Ok((read("/var/lib/tenantd/plain")?, read("/etc/kept")?))
}

#[test]
fn two_machines_run_side_by_side_and_do_not_see_each_other() {
    in_machine("left", |left| {
        in_machine("right", |right| {
            for (machine, other) in [(left, right), (right, left)] {
                let name = machine.name();
                ensure!(machine.run(["hostname"])?.trim() == name);
                let server = "import http.server as s; s.HTTPServer(('127.0.0.1', 8000), s.SimpleHTTPRequestHandler).serve_forever()";
                machine.run(["systemd-run", "--unit=mark", "python3", "-c", server])?;
                machine.wait_for(
                    [
                        "curl",
                        "--silent",
                        "--fail",
                        "--output",
                        "/dev/null",
                        "http://127.0.0.1:8000",
                    ],
                    SOON,
                )?;
                machine.run(["systemctl", "stop", "mark"])?;
                machine.write("/var/tmp/only-here", name)?;
                ensure!(machine.read("/var/tmp/only-here")? == name);
                ensure!(other.state()? == "running");
            }
            left.kill()?;
            right
                .run(["true"])
                .context("the other machine fell with its neighbour")?;
            Ok(())
        });
        Ok(())
    });
}

#[test]
fn a_machine_that_cannot_boot_says_why_at_once() -> anyhow::Result<()> {
    let machine = Machine::named("test-broken")?;
    machine.reset()?;
    let disk = xtask::paths::machine(machine.name()).join("disk.xfs");
    std::fs::create_dir_all(disk.parent().context("the disk is in a directory")?)?;
    std::fs::write(&disk, vec![b'x'; 1 << 20])?;
    let start = std::time::Instant::now();
    let error = machine
        .boot()
        .err()
        .context("a machine without a file system booted")?;
    ensure!(start.elapsed() < SOON, "it took {:?}", start.elapsed());
    ensure!(error.to_string().contains("mount: "), "{error:#}");
    machine.reset()
}

#[test]
fn the_remains_of_a_killed_launcher_are_cleared_by_the_next_boot() {
    in_machine("killed-launcher", |machine| {
        let first = machine.boot_id()?;
        // Only the launcher: the machine's own processes live on, unwatched.
        let pid = xtask::paths::machine(machine.name()).join("launcher.pid");
        let pid = std::fs::read_to_string(pid)?.trim().to_owned();
        ensure!(
            std::process::Command::new("kill")
                .args(["-KILL", &pid])
                .status()?
                .success()
        );
        machine.wait_until("the launcher's end", SOON, |machine| {
            Ok(if machine.is_up()? {
                Err("still there".to_owned())
            } else {
                Ok(())
            })
        })?;
        machine.boot()?;
        ensure!(machine.boot_id()? != first);
        ensure!(machine.state()? == "running");
        Ok(())
    });
}
