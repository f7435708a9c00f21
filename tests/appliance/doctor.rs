//! What is wrong with a host is found by the doctor, and what is safe is mended, while the agent does not notice.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::host::{Host, LIMIT, fake, on_host, refused};

const QUADLET: &str = "/etc/containers/systemd/tenantd/foo-bar/tenant-foo-bar.container";

/// Every kind of damage that needs nobody else: what others do at the same time does not undo it.
const DAMAGE: &str = r"
echo '# edited' >>/etc/systemd/system/tenantd-drill.service
systemctl disable --quiet --now tenantd-backup.timer tenantd-drill.timer tenantd-prestop-backup.service
chmod 0755 /var/lib/tenantd/keys
sed -i '/^tenantd:/d' /etc/subuid
touch /run/netns/tenant-gone
unshare --net=/run/netns/tenant-gone true
printf '[Service]\nExecStart=/bin/true\n' >/etc/systemd/system/tenantd-miner.service
mkdir /etc/containers/systemd/tenantd/stranger
touch /etc/containers/systemd/tenantd/stranger/note
systemd-run --quiet --wait --unit=broken /bin/false || true
";

/// What `--fix` mends of it: the check, how bad it is, and what is said.
const MENDED: &[(&str, &str, &str)] = &[
    ("own-units", "failed", "tenantd-drill.service"),
    ("backup-timer", "failed", "tenantd-backup.timer"),
    ("drill-timer", "warning", "tenantd-drill.timer"),
    ("shutdown-backup", "warning", "tenantd-prestop-backup"),
    ("private", "failed", "/var/lib/tenantd/keys"),
    ("subordinate-ids", "warning", "/etc/subuid"),
    ("namespaces", "warning", "tenant-gone"),
];

/// What it leaves to the operator.
const LEFT: &[(&str, &str, &str)] = &[
    ("unknown-units", "warning", "tenantd-miner.service"),
    ("unknown-units", "warning", "tenantd/stranger"),
    ("failed-units", "warning", "broken.service"),
];

#[test]
fn what_is_wrong_with_a_host_is_found_and_what_is_safe_is_mended() {
    on_host("doctor", |host| {
        host.apply(&fake("foo-bar"))?;
        host.write("foo-bar", "note", "kept")?;
        // Debian reserves no ids for tenants; all else is as it should be.
        host.tenantd(["doctor", "--fix"])?;
        for (check, ..) in MENDED {
            is(host, check, "ok", "")?;
        }
        let run = host.run_of("foo-bar")?;

        host.machine.script(DAMAGE)?;
        for (check, verdict, said) in MENDED.iter().chain(LEFT) {
            is(host, check, verdict, said)?;
        }
        let told = host.try_tenantd(["doctor"])?;
        refused(
            &told,
            1,
            &["3 of the checks failed; what to do is said above"],
        )?;

        // A dry run says everything and does nothing.
        let planned = host.tenantd(["doctor", "--fix", "--dry-run"])?.stdout;
        for told in [
            "would mend: write tenantd's own units anew",
            "would mend: systemctl enable --now tenantd-backup.timer",
            "would mend: chmod go= /var/lib/tenantd/keys",
            "would mend: add the range of the tenants' ids",
            "would mend: remove the network namespace tenant-gone",
        ] {
            ensure!(planned.contains(told), "{told:?} is not in {planned}");
        }
        for (check, verdict, said) in MENDED {
            is(host, check, verdict, said)?;
        }

        // The daemon puts units right by itself every few minutes, so the edit is made until it is seen.
        host.machine
            .wait_until("a changed unit to be found", LIMIT, |machine| {
                machine.script(&format!(
                    "sed -i 's/^Description=.*/Description=Edited/' '{QUADLET}'"
                ))?;
                let (verdict, finding) = found(host, "drift")?;
                let is_seen = verdict == "warning" && finding.contains("foo-bar");
                Ok(if is_seen { Ok(()) } else { Err(finding) })
            })?;

        let told = host.tenantd(["doctor", "--fix"])?.stderr;
        ensure!(
            told.contains("mending: chmod go= /var/lib/tenantd/keys"),
            "{told}"
        );
        for (check, ..) in MENDED {
            is(host, check, "ok", "")?;
        }
        is(host, "drift", "ok", "")?;
        host.machine.script(&format!(
            "test ! -e /run/netns/tenant-gone
             test \"$(stat -c %a /var/lib/tenantd/keys)\" = 700
             systemctl is-enabled --quiet tenantd-backup.timer tenantd-drill.timer
             ! grep -q edited /etc/systemd/system/tenantd-drill.service
             ! grep -q Edited '{QUADLET}'"
        ))?;
        // What may be the operator's is as it was.
        for (check, verdict, said) in LEFT {
            is(host, check, verdict, said)?;
        }
        host.machine.script(
            "rm -r /etc/systemd/system/tenantd-miner.service /etc/containers/systemd/tenantd/stranger
             systemctl reset-failed broken.service",
        )?;
        is(host, "unknown-units", "ok", "")?;
        let (_, failed) = found(host, "failed-units")?;
        ensure!(!failed.contains("broken"), "{failed}");
        let nothing = host.tenantd(["doctor", "--fix", "--dry-run"])?.stdout;
        ensure!(nothing == "nothing that `--fix` could mend\n", "{nothing}");

        ensure!(host.run_of("foo-bar")? == run, "the agent was restarted");
        host.expect("foo-bar", "note", "kept")
    });
}

/// What one check says.
fn found(host: &Host<'_>, check: &str) -> anyhow::Result<(String, String)> {
    let output = host.try_tenantd(["doctor", "--only", check, "--json"])?;
    let checks: Value = output.json()?;
    let result = checks.get(0).context("the check is not there")?;
    let text = |key: &str| result[key].as_str().unwrap_or_default().to_owned();
    Ok((text("verdict"), text("finding")))
}

fn is(host: &Host<'_>, check: &str, verdict: &str, said: &str) -> anyhow::Result<()> {
    let (found, finding) = found(host, check)?;
    ensure!(
        found == verdict && finding.contains(said),
        "{check}: {found}: {finding}"
    );
    Ok(())
}
