//! Updates that turn out bad, and rollbacks: revision, image and data return together, and nothing is lost.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::crashes::{Drill, cut_short, ends_as, points};
use crate::host::{Host, LIMIT, fake, fake_with, on_host, refused};

/// A spec of another edition; exit code 78 means that a restart is useless.
fn edition(number: u64) -> String {
    fake_with(
        "acme",
        &format!("env.EDITION = \"{number}\"\nstop.fatal-exit-codes = [78]"),
    )
}

/// One whose agent writes to the state and then never becomes healthy.
fn bad() -> String {
    fake_with("acme", "env.FAKE_AGENT_MODE = \"never-healthy\"").replace("\"15s\"", "\"1s\"")
}

/// What revision and data are there, through the door.
fn stands(host: &Host<'_>, revision: u64, note: &str) -> anyhow::Result<()> {
    let shown = host.json(["show", "acme"])?;
    ensure!(
        shown["state"] == "running" && shown["revision"] == revision,
        "not running at {revision}: {shown}"
    );
    host.expect("acme", "note", note)?;
    ensure!(host.get("acme", "/healthz")? == "ok\n");
    ensure!(host.property("tenantd-ingress@acme.socket", "ActiveState")? == "active");
    // The door that has just answered keeps its tenant awake.
    ensure!(host.property("tenantd-awake@acme.service", "ActiveState")? == "active");
    ensure!(
        !host.machine.attempt(["test", "-e", HELD])?.success(),
        "still held"
    );
    Ok(())
}

const HELD: &str = "/var/lib/tenantd/tenants/acme/held";

/// The newest state that was set aside.
fn set_aside(host: &Host<'_>) -> anyhow::Result<Value> {
    let shown = host.json(["show", "acme"])?;
    let releases = shown["releases"].as_array().cloned().unwrap_or_default();
    releases
        .into_iter()
        .find(|release| release["set-aside"] == true)
        .with_context(|| format!("nothing is set aside: {shown}"))
}

#[test]
fn an_update_that_fails_gives_revision_image_and_data_back() {
    on_host("bad-update", |host| {
        host.many_rollbacks()?;
        host.apply(&fake("acme"))?;
        host.write("acme", "note", "before")?;
        // The failing agent counts its start in the state: that is its migration.
        let output = host.try_apply(&bad())?;
        refused(
            &output,
            7,
            &[
                "revision 2 of tenant acme failed; revision 1 is back with the data that it had",
                "what revision 2 has written",
                "/var/lib/tenantd/tenants/acme/set-aside/",
            ],
        )?;
        stands(host, 1, "before")?;
        ensure!(
            host.get("acme", "/starts")? == "2\n",
            "the data are not those of revision 1"
        );
        let aside = set_aside(host)?;
        ensure!(aside["revision"] == 2, "{aside}");
        let path = aside["path"].as_str().unwrap_or_default();
        ensure!(host.machine.read(&format!("{path}/data/starts"))?.trim() == "2");
        ensure!(host.machine.read(&format!("{path}/data/note"))? == "before");

        // The evidence is readable, for people and for programs.
        let attempt = host.json(["show", "acme", "--operation", "last"])?;
        let evidence = &attempt["evidence"];
        ensure!(
            attempt["operation"]["kind"] == "apply" && evidence["revision"] == 2,
            "{attempt}"
        );
        let journal = evidence["journal"].to_string();
        ensure!(journal.contains("mode NeverHealthy"), "{journal}");
        ensure!(
            evidence["job"]["unit"] == "tenant-acme.service",
            "{evidence}"
        );
        ensure!(
            evidence["files"]
                .to_string()
                .contains("FAKE_AGENT_MODE=never-healthy"),
            "{evidence}"
        );
        let id = attempt["operation"]["id"].as_str().unwrap_or_default();
        let shown = host.tenantd(["show", "acme", "--operation", id])?;
        ensure!(
            shown.stdout.contains("mode NeverHealthy"),
            "{}",
            shown.stdout
        );
        refused(
            &host.try_tenantd(["show", "nobody", "--operation", "last"])?,
            4,
            &["no operation of tenant nobody has failed lately"],
        )?;

        // What was set aside is given up by hand only.
        ensure!(
            host.tenantd(["status"])?
                .stdout
                .contains("what its revision 2 has written")
        );
        host.tenantd(["restore", "acme", "--accept"])?;
        ensure!(set_aside(host).is_err());
        stands(host, 1, "before")
    });
}

#[test]
fn a_rollback_needs_no_store_and_can_be_taken_back() {
    on_host("rollback", |host| {
        host.apply(&edition(1))?;
        host.write("acme", "note", "of 1")?;
        host.apply(&edition(2))?;
        host.write("acme", "note", "of 2")?;
        // Neither the store nor an identity.
        host.machine.script(
            "mv /var/lib/tenantd/backups /var/lib/tenantd/away
             mv /var/lib/tenantd/keys/identity.txt /var/lib/tenantd/keys/away",
        )?;

        let told = host.tenantd(["rollback", "acme", "--message", "2 loses messages"])?;
        ensure!(
            told.stdout
                .contains("acme is back at revision 1, with the data that it had left"),
            "{}",
            told.stdout
        );
        stands(host, 1, "of 1")?;
        ensure!(host.get("acme", "/env")?.contains("EDITION=1\n"));
        let aside = set_aside(host)?;
        let path = aside["path"].as_str().unwrap_or_default();
        ensure!(
            told.stdout.contains(path),
            "{path} is not named in {}",
            told.stdout
        );
        ensure!(host.machine.read(&format!("{path}/data/note"))? == "of 2");
        let history = host.json(["show", "acme"])?["history"].to_string();
        ensure!(history.contains("2 loses messages"), "{history}");

        host.tenantd(["rollback", "acme", "--to", "2"])?;
        stands(host, 2, "of 2")?;
        host.tenantd(["rollback", "acme", "--to", "1", "--keep-data"])?;
        stands(host, 1, "of 2")?;
        ensure!(host.get("acme", "/env")?.contains("EDITION=1\n"));

        refused(
            &host.try_tenantd(["rollback", "acme", "--to", "7"])?,
            4,
            &["history"],
        )?;
        refused(
            &host.try_tenantd(["rollback", "acme", "--to", "2"])?,
            5,
            &["--to 2 --keep-data", "tenantd snapshots acme"],
        )?;

        // A held one returns too, and stays down.
        host.apply(&edition(3))?;
        host.write("acme", "note", "of 3")?;
        host.tenantd(["stop", "acme"])?;
        host.tenantd(["rollback", "acme", "--to", "1"])?;
        ensure!(host.state("acme")? == "stopped");
        ensure!(host.property("tenant-acme.service", "ActiveState")? == "inactive");
        host.tenantd(["start", "acme"])?;
        stands(host, 1, "of 2")
    });
}

#[test]
fn a_revision_on_trial_is_made_good_or_rolled_back_by_itself() {
    on_host("trial", |host| {
        host.many_rollbacks()?;
        host.apply(&edition(1))?;
        host.write("acme", "note", "of 1")?;
        host.healthy_for("1h")?;
        host.apply(&edition(2))?;
        let shown = host.json(["show", "acme"])?;
        ensure!(
            shown["trial"]["revision"] == 2 && shown["good-revision"] == 1,
            "{shown}"
        );
        host.write("acme", "note", "of 2")?;
        // Its time outlives the daemon.
        host.machine
            .run(["systemctl", "restart", "tenantd.service"])?;
        ensure!(host.json(["show", "acme"])?["trial"] == shown["trial"]);

        // An exit code after which a restart is useless ends the attempt at once. Its answer never comes.
        host.request("acme", "/exit?code=78", &["--request", "POST"])?;
        returned(host, 1)?;
        stands(host, 1, "of 1")?;
        let path = set_aside(host)?["path"].clone();
        let path = path.as_str().unwrap_or_default();
        ensure!(host.machine.read(&format!("{path}/data/note"))? == "of 2");
        let attempt = host.json(["show", "acme", "--operation", "last"])?;
        ensure!(
            attempt["operation"]["kind"] == "rollback"
                && attempt["operation"]["actor"] == "tenantd",
            "{attempt}"
        );
        let evidence = &attempt["evidence"];
        ensure!(evidence["job"]["restarts"] == 0, "{evidence}");
        ensure!(evidence["job"]["status"] == 78, "{evidence}");
        ensure!(
            evidence["problem"]["title"]
                .as_str()
                .is_some_and(|title| title
                    .contains("revision 2 failed on trial: the agent ended with exit code 78")),
            "{evidence}"
        );

        // So does one at the start.
        let ends = format!("{}\nenv.FAKE_AGENT_MODE = \"exit:78\"", edition(3));
        let output = host.try_apply(&ends)?;
        refused(
            &output,
            7,
            &["the agent ended with exit code 78", "revision 1 is back"],
        )?;
        let attempt = host.json(["show", "acme", "--operation", "last"])?;
        ensure!(attempt["evidence"]["job"]["restarts"] == 0, "{attempt}");
        stands(host, 1, "of 1")?;

        // One that stops answering for good fails when its time is over: long enough for the request to come first.
        host.healthy_for("15s")?;
        host.apply(&edition(4))?;
        host.request("acme", "/healthy?set=false", &["--request", "POST"])?
            .check()?;
        returned(host, 1)?;
        stands(host, 1, "of 1")?;

        host.healthy_for("2s")?;
        let waited = ["tenantd", "apply", "--wait-good", "-"].map(str::to_owned);
        let spec = edition(5);
        host.machine
            .attempt_with(waited.clone(), spec.as_bytes(), LIMIT)?
            .check()?;
        ensure!(host.json(["show", "acme"])?["good-revision"] == 5);
        let crashes = format!("{}\nenv.FAKE_AGENT_MODE = \"crash-after:1\"", edition(6));
        host.healthy_for("1h")?;
        let output = host
            .machine
            .attempt_with(waited, crashes.as_bytes(), LIMIT)?;
        ensure!(output.code == Some(7), "{output:?}");
        returned(host, 5)
    });
}

/// Waits until a tenant is back at a revision, and answers.
fn returned(host: &Host<'_>, revision: u64) -> anyhow::Result<()> {
    let what = format!("revision {revision} to be back");
    host.machine.wait_until(&what, LIMIT, |_| {
        Ok(match host.json(["show", "acme"]) {
            Ok(shown)
                if shown["revision"] == revision
                    && shown["state"] == "running"
                    && shown["trial"].is_null() =>
            {
                Ok(())
            }
            Ok(shown) => Err(shown.to_string()),
            Err(error) => Err(format!("{error:#}")),
        })
    })
}

#[test]
fn two_who_change_a_tenant_at_a_time_are_told_of_each_other() {
    on_host("conditions", |host| {
        host.apply(&edition(1))?;
        let tag = host.machine.script(
            "curl --silent --head --request GET --unix-socket /run/tenantd/api.sock http://x/v1/tenants/acme",
        )?;
        ensure!(
            tag.stdout.to_lowercase().contains("etag: \"1\""),
            "{}",
            tag.stdout
        );
        let apply = |spec: String, revision: &str| {
            let argv = ["tenantd", "apply", "--if-revision", revision, "-"].map(str::to_owned);
            host.machine.attempt_with(argv, spec.as_bytes(), LIMIT)
        };
        apply(edition(2), "1")?.check()?;
        let told = "tenant acme is at revision 2, not at revision 1: somebody has changed it";
        refused(&apply(edition(3), "1")?, 5, &[told])?;
        let code = host.machine.script(
            "curl --silent --output /dev/null --write-out '%{http_code}' --request POST --header 'If-Match: \"1\"' \
             --unix-socket /run/tenantd/api.sock http://x/v1/tenants/acme/restart",
        )?;
        ensure!(code.trim() == "412", "{}", code.stdout);

        // It is healthy when it is told so, and not before.
        let slow = format!("{}\nenv.FAKE_AGENT_MODE = \"never-healthy\"", edition(3));
        let slow = slow.replace("15s", "2min");
        host.machine.write("/root/slow.toml", &slow)?;
        host.machine.run([
            "systemd-run",
            "--quiet",
            "--unit=slow",
            "tenantd",
            "apply",
            "/root/slow.toml",
        ])?;
        // Its door carries nothing to it before it is healthy.
        let directly = |words: &str| {
            let curl = "nsenter --net=/run/netns/tenant-acme curl --silent --fail";
            host.machine
                .attempt(["sh", "-c", &format!("{curl} {words}")])
        };
        host.machine
            .wait_until("the new agent to be asked", LIMIT, |_| {
                let variables = directly("http://127.0.0.1:8080/env")?.stdout;
                Ok(if variables.contains("EDITION=3\n") {
                    Ok(())
                } else {
                    Err(variables)
                })
            })?;
        refused(
            &host.try_tenantd(["stop", "acme"])?,
            5,
            &[
                "tenant acme is busy with the apply that root began at ",
                "--wait",
            ],
        )?;
        directly("--request POST 'http://127.0.0.1:8080/healthy?set=true'")?.check()?;
        host.tenantd(["stop", "acme", "--wait"])?;
        let shown = host.json(["show", "acme"])?;
        ensure!(
            shown["revision"] == 3 && shown["state"] == "stopped",
            "{shown}"
        );
        Ok(())
    });
}

#[test]
fn a_rollback_that_is_killed_at_any_point_ends_with_the_release_running() {
    on_host("killed-rollback", |host| {
        host.many_rollbacks()?;
        host.apply(&edition(1))?;
        host.write("acme", "note", "of 1")?;
        host.apply(&edition(2))?;
        host.write("acme", "note", "of 2")?;
        let mut releases = [1_u64, 2].into_iter().cycle();
        for (point, to) in points(Drill::Rollback).zip(&mut releases) {
            let number = to.to_string();
            cut_short(host, Drill::Rollback, point, "acme", || {
                host.try_tenantd(["rollback", "acme", "--to", &number])
            })?;
            ends_as(host, "acme", "running", to)
                .with_context(|| format!("{point} in a rollback"))?;
            stands(host, to, &format!("of {to}"))
                .with_context(|| format!("{point} in a rollback"))?;
            // What the other has written is kept, once.
            let aside = set_aside(host)?;
            ensure!(aside["revision"] == 3 - to, "{point}: {aside}");
        }
        Ok(())
    });
}

#[test]
fn a_trial_ends_as_it_should_although_tenantd_is_killed_at_every_point() {
    on_host("killed-trial", |host| {
        host.many_rollbacks()?;
        host.apply(&edition(1))?;
        host.write("acme", "note", "kept")?;
        let mut revision = 1;
        let wait_good = |spec: String| {
            let argv = ["tenantd", "apply", "--wait-good", "-"].map(str::to_owned);
            host.machine.attempt_with(argv, spec.as_bytes(), LIMIT)
        };
        host.healthy_for("1s")?;
        for point in points(Drill::Trial) {
            revision += 1;
            cut_short(host, Drill::Trial, point, "acme", || {
                wait_good(edition(revision))
            })?;
            returned(host, revision).with_context(|| format!("{point} in a trial"))?;
            ends_as(host, "acme", "running", revision)
                .with_context(|| format!("{point} in a trial"))?;
            stands(host, revision, "kept")?;
        }
        host.healthy_for("1h")?;
        for (failing, point) in (revision + 1..).zip(points(Drill::BadTrial)) {
            cut_short(host, Drill::BadTrial, point, "acme", || {
                host.apply(&edition(failing))?;
                host.write("acme", "note", "later")?;
                host.request("acme", "/exit?code=78", &["--request", "POST"])?;
                host.machine
                    .wait_until(&format!("{point} to be hit"), LIMIT, |_| {
                        Ok(if host.was_hit()? {
                            Ok(())
                        } else {
                            Err("not yet".to_owned())
                        })
                    })?;
                host.machine.attempt(["true"])
            })?;
            returned(host, revision).with_context(|| format!("{point} in a bad trial"))?;
            stands(host, revision, "kept").with_context(|| format!("{point} in a bad trial"))?;
        }
        Ok(())
    });
}
