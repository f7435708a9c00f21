//! A command inside a tenant's container belongs to the one who asked for it.

use anyhow::ensure;

use crate::host::{Host, LIMIT, fake, on_host};

#[test]
fn a_command_ends_when_its_user_has_gone() {
    on_host("exec", |host| {
        host.apply(&fake("foo-bar"))?;
        let agent = host.property("tenant-foo-bar.service", "InvocationID")?;
        for (seconds, user, command) in [
            (4711, "", "sleep 4711; true"),
            (4712, "", "trap \"\" HUP; sleep 4712; true"),
            (4713, "-t", "sleep 4713; true"),
        ] {
            let unit = format!("user-{seconds}");
            let exec = format!("tenantd exec {user} foo-bar -- sh -c '{command}'");
            // `script` gives a terminal to who wants one.
            let quoted = exec.replace('\'', r"'\''");
            host.machine.script(&format!(
                "systemd-run --quiet --unit={unit} script --quiet --command '{quoted}' /dev/null"
            ))?;
            runs(host, seconds, true)?;
            host.machine
                .run(["systemctl", "kill", "--signal=KILL", &unit])?;
            runs(host, seconds, false)?;
        }
        ensure!(host.property("tenant-foo-bar.service", "InvocationID")? == agent);
        host.get("foo-bar", "/healthz")?;
        Ok(())
    });
}

/// Waits until a process that sleeps for so many seconds is there, or is not.
fn runs(host: &Host<'_>, seconds: u32, wanted: bool) -> anyhow::Result<()> {
    let what = format!("`sleep {seconds}` to be there: {wanted}");
    let find = format!("grep --quiet --null-data --line-regexp {seconds} /proc/[0-9]*/cmdline");
    host.machine.wait_until(&what, LIMIT, |machine| {
        // The search finds itself if it names the number as it is.
        let find = find.replacen("471", "47[1]", 1);
        let found = machine.attempt(["sh", "-c", &find])?.success();
        Ok(if found == wanted {
            Ok(())
        } else {
            Err(format!("{found}"))
        })
    })
}
