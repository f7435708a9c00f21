//! Many at once: a host that is asked for a crowd of tenants brings all of them up and stays answerable.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::host::{fake, on_host};

/// Several times as many as start side by side on a small host.
const CROWD: usize = 30;

/// Longest time for an answer on a machine whose processors the tests beside this one use too.
const ANSWER: Duration = Duration::from_secs(5);

#[test]
fn a_crowd_of_tenants_applied_at_once_all_run_and_the_daemon_answers_meanwhile() {
    on_host("crowd", |host| {
        for number in 0..CROWD {
            let spec = fake(&format!("crowd-{number}"));
            host.machine
                .write(&format!("/root/crowd/{number}.toml"), spec)?;
        }
        std::thread::scope(|scope| {
            let applied = scope.spawn(|| host.tenantd(["apply", "/root/crowd"]));
            while !applied.is_finished() {
                let begin = Instant::now();
                host.tenantd(["list"])?;
                let took = begin.elapsed();
                ensure!(took < ANSWER, "`tenantd list` took {took:?}");
            }
            let summary = applied.join().expect("no panic")?;
            let expected = format!("{CROWD} tenants: {CROWD} applied, 0 unchanged, 0 failed");
            ensure!(summary.stdout.contains(&expected), "{}", summary.stdout);
            anyhow::Ok(())
        })?;
        let tenants = host.json(["list"])?;
        let tenants = tenants.as_array().into_iter().flatten();
        let states: Vec<_> = tenants.map(|tenant| &tenant["state"]).collect();
        ensure!(
            states.len() == CROWD && states.iter().all(|state| *state == "running"),
            "{states:?}"
        );
        host.get("crowd-0", "/healthz")?;
        host.get(&format!("crowd-{}", CROWD - 1), "/healthz")?;
        Ok(())
    });
}
