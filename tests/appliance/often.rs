//! Backups as often as the operator wants: the interval reaches systemd, and what has not changed costs nothing.

use anyhow::ensure;

use crate::host::{Host, fake, on_host};

const TIMER: &str = "tenantd-backup.timer";

/// All objects of the node's store, by name.
fn objects(host: &Host<'_>) -> anyhow::Result<Vec<String>> {
    let found = host
        .machine
        .script("find /var/lib/tenantd/backups -type f | sort")?;
    Ok(found.stdout.lines().map(str::to_owned).collect())
}

#[test]
fn an_interval_of_five_minutes_reaches_the_timer_and_costs_one_object_when_nothing_changes() {
    on_host("often", |host| {
        host.apply(&fake("foo-bar"))?;
        host.machine.script(
            "systemctl start tenantd-backup.timer
             sed -i 's/^interval = .*/interval = \"7min\"/' /etc/tenantd/node.toml",
        )?;
        let refused = host.try_tenantd(["reload"])?;
        ensure!(
            refused.stderr.contains("must divide an hour or a day"),
            "{refused:?}"
        );
        host.machine
            .script("sed -i 's/^interval = .*/interval = \"5min\"/' /etc/tenantd/node.toml")?;
        host.tenantd(["reload"])?;
        let calendar = host.property(TIMER, "TimersCalendar")?;
        ensure!(calendar.contains("*:00/5:00"), "{calendar}");
        ensure!(calendar.matches("OnCalendar").count() == 1, "{calendar}");
        ensure!(host.property(TIMER, "ActiveState")? == "active");
        host.machine
            .script("systemd-analyze verify tenantd-backup.timer")?;
        // From here on only this test makes backups.
        host.machine.script("systemctl stop tenantd-backup.timer")?;

        host.tenantd(["stop", "foo-bar"])?;
        host.machine
            .script("systemctl start tenantd-backup.service")?;
        let before = objects(host)?;
        for round in 1..=2 {
            host.machine
                .script("systemctl start tenantd-backup.service")?;
            let mut new = objects(host)?;
            new.retain(|object| !before.contains(object));
            ensure!(new.len() == round, "{new:#?}");
            ensure!(new.iter().all(|object| object.contains("/heartbeats/")));
        }
        let shown = host.tenantd(["keys", "show"])?.stdout;
        ensure!(
            shown.contains("foo-bar") && shown.contains("the recipients"),
            "{shown}"
        );
        Ok(())
    });
}
