//! The agents' images start the way tenantd will start them: no network, no capabilities, read-only root, a user
//! namespace of their own and state on an idmapped volume.

use std::time::Duration;

use anyhow::ensure;
use xtask::machine::{Machine, images, in_machine};

/// How each is started: the image, its state's place, a path that answers, and how long that may take here.
struct Agent {
    name: &'static str,
    image: fn() -> String,
    state: &'static str,
    probe: &'static str,
    limit: Duration,
}

const FAKE: Agent = Agent {
    name: "fake",
    image: images::fake_agent::reference,
    state: "/state",
    probe: "http://127.0.0.1:8080/healthz",
    limit: Duration::from_secs(10),
};
const NANOBOT: Agent = Agent {
    name: "nanobot",
    image: images::nanobot::reference,
    state: "/home/nanobot/.nanobot",
    probe: "http://127.0.0.1:18790/health",
    limit: Duration::from_mins(1),
};
const OPENCLAW: Agent = Agent {
    name: "openclaw",
    image: images::openclaw::reference,
    state: "/home/node/.openclaw",
    probe: "http://127.0.0.1:18789/startupz",
    limit: Duration::from_mins(2),
};

impl Agent {
    fn start(&self, machine: &Machine, options: &[&str]) -> anyhow::Result<()> {
        let directory = self.directory();
        machine.script(&format!(
            "mkdir -p {directory}; chown 1000:1000 {directory}"
        ))?;
        let volume = format!("--volume={directory}:{}:idmap", self.state);
        let confined = [
            "podman",
            "run",
            "--detach",
            "--name",
            self.name,
            "--network=none",
            "--cap-drop=all",
            "--read-only",
            "--security-opt=no-new-privileges",
            "--tmpfs=/tmp",
            &volume,
            "--uidmap=0:1879048192:65536",
            "--gidmap=0:1879048192:65536",
        ];
        machine.run(
            confined
                .into_iter()
                .chain(options.iter().copied())
                .chain([(self.image)().as_str()]),
        )?;
        Ok(())
    }

    fn directory(&self) -> String {
        format!("/var/lib/tenantd/tenants/{}", self.name)
    }

    /// A command in the agent's network namespace.
    fn beside(&self, machine: &Machine, argv: &[&str]) -> anyhow::Result<Vec<String>> {
        let pid = machine
            .run(["podman", "inspect", "--format={{.State.Pid}}", self.name])?
            .trim()
            .to_owned();
        let enter = [
            "nsenter".to_owned(),
            "--net".to_owned(),
            format!("--target={pid}"),
        ];
        Ok(enter
            .into_iter()
            .chain(argv.iter().map(|&word| word.to_owned()))
            .collect())
    }

    fn wait_healthy(&self, machine: &Machine) -> anyhow::Result<()> {
        let curl = self.beside(
            machine,
            &[
                "curl",
                "--silent",
                "--fail-with-body",
                "--max-time",
                "5",
                self.probe,
            ],
        )?;
        machine.wait_for(curl, self.limit)?;
        Ok(())
    }

    fn get(&self, machine: &Machine, url: &str) -> anyhow::Result<String> {
        let url = format!("http://127.0.0.1:8080{url}");
        Ok(machine
            .run(self.beside(machine, &["curl", "--silent", "--fail-with-body", &url])?)?
            .trim()
            .to_owned())
    }

    /// Stops it, and returns its exit code.
    fn stop(&self, machine: &Machine) -> anyhow::Result<String> {
        machine.run(["podman", "stop", "--time=60", self.name])?;
        Ok(machine
            .run([
                "podman",
                "inspect",
                "--format={{.State.ExitCode}}",
                self.name,
            ])?
            .trim()
            .to_owned())
    }
}

#[test]
fn the_fake_agent_keeps_its_state_and_has_no_way_out() {
    in_machine("fake-agent", |machine| {
        FAKE.start(machine, &[])?;
        FAKE.wait_healthy(machine)?;
        ensure!(FAKE.get(machine, "/counter")? == "1" && FAKE.get(machine, "/counter")? == "2");
        ensure!(
            FAKE.get(machine, "/connect?to=198.51.100.1:80")?
                .starts_with("unreachable")
        );
        let status = FAKE.get(machine, "/status")?;
        ensure!(
            status.contains("CapEff:\t0000000000000000") && status.contains("NoNewPrivs:\t1"),
            "{status}"
        );

        // On disk, the ids are the container's own; the process itself has another.
        let owner = machine.run([
            "stat",
            "--format=%u:%g",
            &format!("{}/counter", FAKE.directory()),
        ])?;
        ensure!(owner.trim() == "1000:1000", "{}", owner.stdout);
        let user = machine.run(["podman", "top", FAKE.name, "huser"])?;
        ensure!(user.stdout.contains("1879049192"), "{}", user.stdout);

        ensure!(FAKE.stop(machine)? == "0");
        ensure!(machine.read(&format!("{}/last-shutdown", FAKE.directory()))? == "1\n");
        // The image was mapped by the kernel: nothing of it came into the machine's own storage.
        let layers = machine.run([
            "sh",
            "-c",
            "ls /var/lib/containers/storage/overlay | grep -cE '^[0-9a-f]{64}$'",
        ])?;
        ensure!(
            layers.trim() == "1",
            "{} layers, not only the container's",
            layers.trim()
        );
        Ok(())
    });
}

#[test]
fn the_fake_agent_misbehaves_on_demand() {
    in_machine("fake-modes", |machine| {
        // As PID 1 it cannot raise SIGABRT against itself; abort() then ends by SIGSEGV.
        for (mode, code) in [
            ("exit:78", "78"),
            ("crash", "139"),
            ("crash-after:0.1", "139"),
        ] {
            FAKE.start(machine, &["--env", &format!("FAKE_AGENT_MODE={mode}")])?;
            let ended = machine.run(["podman", "wait", FAKE.name])?;
            ensure!(ended.trim() == code, "{mode} ended with {}", ended.trim());
            machine.run(["podman", "rm", FAKE.name])?;
        }
        FAKE.start(machine, &["--env", "FAKE_AGENT_MODE=never-healthy"])?;
        machine.wait_until("an answer", FAKE.limit, |machine| {
            let probe = [
                "curl",
                "--silent",
                "--output",
                "/dev/null",
                "--write-out",
                "%{http_code}",
                FAKE.probe,
            ];
            let code = machine.attempt(FAKE.beside(machine, &probe)?)?.stdout;
            Ok(if code == "503" { Ok(()) } else { Err(code) })
        })?;
        Ok(())
    });
}

#[test]
fn nanobot_answers_without_configuration_and_without_network() {
    in_machine("nanobot", |machine| {
        NANOBOT.start(machine, &[])?;
        NANOBOT.wait_healthy(machine)?;
        ensure!(NANOBOT.stop(machine)? == "0");
        machine.run(["test", "-d", &format!("{}/workspace", NANOBOT.directory())])?;
        Ok(())
    });
}

#[test]
fn openclaw_answers_without_configuration_and_without_network() {
    in_machine("openclaw", |machine| {
        OPENCLAW.start(machine, &[])?;
        OPENCLAW.wait_healthy(machine)?;
        ensure!(OPENCLAW.stop(machine)? == "0");
        machine.run([
            "test",
            "-f",
            &format!("{}/state/openclaw.sqlite", OPENCLAW.directory()),
        ])?;
        Ok(())
    });
}
