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
