//! An agent is asked to put its files in order for a backup, and is told when that is over.

use anyhow::ensure;

use crate::host::{Host, LIMIT, fake_with, on_host, refused};

/// A template's words: the fake agent notes `begin` in a file of its state, and removes that file at the end.
pub fn quiesced_by(begin: &str) -> String {
    format!(
        "backup.quiesce.begin = \"{begin}\"\nbackup.quiesce.end = \"/remove?name=quiesced\"\n\
         backup.quiesce.timeout = \"5s\""
    )
}

/// The same by commands in the agent's container.
pub fn quiesced_by_commands() -> String {
    let command = |verb: &str| format!("[\"/bin/busybox\", {verb}, \"/state/quiesced\"]");
    format!(
        "backup.quiesce.begin = {}\nbackup.quiesce.end = {}",
        command("\"touch\""),
        command("\"rm\", \"-f\"")
    )
}

/// Waits until the agent of `acme` knows that no backup is at work.
pub fn is_released(host: &Host<'_>) -> anyhow::Result<()> {
    let files = [
        "/var/lib/tenantd/tenants/acme/state/data/quiesced",
        "/run/tenantd/quiesced/acme",
    ];
    host.machine
        .wait_until("the agent to be released", LIMIT, |machine| {
            for file in files {
                if machine.attempt(["test", "-e", file])?.success() {
                    return Ok(Err(format!("{file} is there")));
                }
            }
            Ok(Ok(()))
        })
}

#[test]
fn a_snapshot_holds_what_the_agent_did_for_it_and_a_refusal_is_reported() {
    on_host("quiesced", |host| {
        host.apply(&fake_with("acme", &quiesced_by("/write?name=quiesced")))?;
        host.write("acme", "note", "first")?;
        let report = host.json(["backup", "acme"])?;
        ensure!(
            report.to_string().contains("\"result\":\"done\""),
            "{report}"
        );
        is_released(host)?;
        host.tenantd(["restore", "acme", "--to", "/var/tmp/beside"])?;
        host.machine.read("/var/tmp/beside/data/quiesced")?;

        host.apply(&fake_with("acme", &quiesced_by_commands()))?;
        host.write("acme", "note", "by commands")?;
        let report = host.json(["backup", "acme"])?;
        ensure!(
            report.to_string().contains("\"result\":\"done\""),
            "{report}"
        );
        is_released(host)?;
        host.tenantd(["restore", "acme", "--to", "/var/tmp/commanded"])?;
        host.machine.read("/var/tmp/commanded/data/quiesced")?;

        let failing = r#"backup.quiesce.begin = ["/bin/sh", "-c", "echo not now >&2; exit 3"]"#;
        host.apply(&fake_with("acme", failing))?;
        host.write("acme", "note", "by a command that fails")?;
        let report = host.json(["backup", "acme"])?;
        ensure!(
            report.to_string().contains("ended with 3: not now"),
            "{report}"
        );

        let endless = r#"backup.quiesce = { begin = ["/bin/sleep", "1000"], timeout = "2s" }"#;
        host.apply(&fake_with("acme", endless))?;
        host.write("acme", "note", "by a command without end")?;
        let report = host.json(["backup", "acme"])?;
        ensure!(
            report.to_string().contains("did not end within 2 s"),
            "{report}"
        );
        let running = host.tenantd(["exec", "acme", "--", "ps"])?.stdout;
        ensure!(!running.contains("sleep 1000"), "{running}");

        host.apply(&fake_with("acme", &quiesced_by("/nothing-there")))?;
        host.write("acme", "note", "second")?;
        let report = host.json(["backup", "acme"])?;
        ensure!(
            report
                .to_string()
                .contains("answered /nothing-there with 404"),
            "{report}"
        );
        ensure!(report.to_string().contains("committed"), "{report}");

        let required = quiesced_by("/nothing-there") + "\nbackup.quiesce.required = true";
        host.apply(&fake_with("acme", &required))?;
        host.write("acme", "note", "third")?;
        let output = host.try_tenantd(["backup", "acme"])?;
        refused(&output, 1, &["did not put its files in order"])?;
        // It runs on, and has not been stopped or frozen for it.
        host.expect("acme", "note", "third")
    });
}
