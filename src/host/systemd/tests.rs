use std::collections::HashMap;

use rstest::rstest;
use zbus::{OwnedObjectPath, Variant};

use super::fake::{Fake, When};
use super::*;

#[rstest]
#[case(When::BeforeAnswer)]
#[case(When::AfterAnswer)]
#[tokio::test]
async fn a_job_ends_when_its_signal_says_so(
    #[case] when: When,
    #[values(
        ("done", JobResult::Done),
        ("failed", JobResult::Failed),
        ("dependency", JobResult::Dependency)
    )]
    (text, expected): (&'static str, JobResult),
) {
    let fake = Fake::new(when, text);
    let systemd = fake.systemd().await;
    assert_eq!(systemd.start("tenant-a.service").await.unwrap(), expected);
    assert_eq!(
        fake.calls(),
        [
            "Subscribe",
            "Ref tenant-a.service",
            "Start tenant-a.service replace",
            "Unref tenant-a.service"
        ]
    );
}

#[tokio::test]
async fn a_start_whose_condition_was_not_met_is_skipped_though_its_job_is_done() {
    let fake = Fake::new(When::AfterAnswer, "done");
    fake.script.lock().unwrap().condition = false;
    let systemd = fake.systemd().await;
    assert_eq!(systemd.start(fake::UNIT).await.unwrap(), JobResult::Skipped);
}

#[tokio::test]
async fn many_jobs_at_once_each_get_their_own_end() {
    let fake = Fake::new(When::AfterAnswer, "done");
    let systemd = fake.systemd().await;
    let jobs = (0..50).map(|i| {
        let systemd = systemd.clone();
        async move { systemd.stop(&format!("tenant-t{i}.service")).await.unwrap() }
    });
    let results = futures_util::future::join_all(jobs).await;
    assert!(results.iter().all(JobResult::is_done));
    assert_eq!(results.len(), 50);
}

#[tokio::test]
async fn a_lost_connection_ends_the_wait_and_the_next_call_connects_again() {
    let fake = Fake::new(When::Never, "done");
    let systemd = fake.systemd().await;
    let error = systemd.start("tenant-a.service").await.unwrap_err();
    assert!(matches!(error, SystemdError::Lost { .. }), "{error}");

    fake.script.lock().unwrap().when = When::AfterAnswer;
    assert_eq!(
        systemd.start("tenant-a.service").await.unwrap(),
        JobResult::Done
    );
    let subscriptions = fake.calls().iter().filter(|c| *c == "Subscribe").count();
    assert_eq!(subscriptions, 2);
}

#[tokio::test]
async fn a_listener_hears_of_tenants_and_of_a_loss() {
    let fake = Fake::new(When::AfterAnswer, "done");
    let systemd = fake.systemd().await;
    let mut events = systemd.events();

    let connection = fake.connection();
    for unit in ["ssh.service", r"tenant-foo\x2dbar.service"] {
        let changed: HashMap<&str, Variant<'_>> = HashMap::from([
            ("ActiveState", "active".into()),
            ("SubState", "running".into()),
            ("NRestarts", 3_u32.into()),
        ]);
        connection
            .emit_signal(
                None::<&str>,
                label::unit_path(unit),
                "org.freedesktop.DBus.Properties",
                "PropertiesChanged",
                &(UNIT_INTERFACE, changed, Vec::<&str>::new()),
            )
            .await
            .unwrap();
    }
    assert_eq!(
        events.next().await,
        Some(UnitEvent::Changed(UnitChange {
            unit: r"tenant-foo\x2dbar.service".to_owned(),
            active: Some(ActiveState::Active),
            sub: Some("running".to_owned()),
            restarts: Some(3),
            ..UnitChange::default()
        }))
    );

    // Nobody calls: the listener's interest alone brings the connection back.
    fake.hang_up().await;
    assert_eq!(events.next().await, Some(UnitEvent::Missed));

    systemd.start("tenant-a.service").await.unwrap();
    assert_eq!(
        events.next().await,
        Some(UnitEvent::JobEnded {
            unit: "tenant-a.service".to_owned(),
            result: JobResult::Done
        })
    );
}

#[tokio::test]
async fn a_list_is_one_call() {
    let fake = Fake::new(When::AfterAnswer, "done");
    let none = OwnedObjectPath::try_from("/").unwrap();
    fake.script.lock().unwrap().units = vec![(
        "tenant-a.service".to_owned(),
        String::new(),
        "loaded".to_owned(),
        "maintenance".to_owned(),
        "odd".to_owned(),
        String::new(),
        none.clone(),
        0,
        String::new(),
        none,
    )];
    let systemd = fake.systemd().await;
    assert_eq!(
        systemd
            .list_units(&["tenant-*", "tenantd-*"])
            .await
            .unwrap(),
        [UnitStatus {
            name: "tenant-a.service".to_owned(),
            load: LoadState::Loaded,
            active: ActiveState::Other("maintenance".to_owned()),
            sub: "odd".to_owned(),
        }]
    );
    assert_eq!(fake.calls(), ["Subscribe", "List tenant-* tenantd-*"]);
}

/// The adapter against the real thing, on units of its own in `/run`.
#[tokio::test]
#[ignore = "needs root and a host that systemd booted: runs in the test machine"]
async fn the_real_systemd_runs_refuses_skips_and_fails() {
    let dir = camino::Utf8Path::new("/run/systemd/system");
    let units = [
        ("tenant-selftest-ok", "", "sleep 600"),
        ("tenant-selftest-bad", "", "sh -c 'exit 7'"),
        (
            "tenant-selftest-cond",
            "ConditionPathExists=/absent",
            "true",
        ),
    ];
    for (name, condition, command) in units {
        let text = format!("[Unit]\n{condition}\n[Service]\nType=exec\nExecStart={command}\n");
        std::fs::write(dir.join(format!("{name}.service")), text).unwrap();
    }
    let systemd = Systemd::connect().await.unwrap();
    systemd.reload().await.unwrap();
    let mut events = systemd.events();

    let ok = "tenant-selftest-ok.service";
    assert_eq!(systemd.start(ok).await.unwrap(), JobResult::Done);
    let details = systemd.details(ok).await.unwrap();
    assert_eq!(details.load, LoadState::Loaded);
    assert_eq!(details.active, ActiveState::Active);
    assert!(!details.need_daemon_reload && details.active_since.is_some());
    assert_eq!(details.fragment_path, Some(dir.join(ok)));
    let service = details.service.unwrap();
    assert!(service.main_pid.is_some());
    assert_eq!(
        service.control_group,
        Some(format!("/system.slice/{ok}").into())
    );
    loop {
        let event = events.next().await.unwrap();
        if event
            == (UnitEvent::JobEnded {
                unit: ok.to_owned(),
                result: JobResult::Done,
            })
        {
            break;
        }
    }
    systemd.kill(ok, 9).await.unwrap();
    loop {
        if let UnitEvent::Changed(change) = events.next().await.unwrap()
            && change.unit == ok
            && change.active == Some(ActiveState::Failed)
        {
            break;
        }
    }
    let service = systemd.details(ok).await.unwrap().service.unwrap();
    assert_eq!(
        (service.result.as_str(), service.exec_main_status),
        ("signal", 9)
    );
    systemd.reset_failed(ok).await.unwrap();

    let cond = "tenant-selftest-cond.service";
    assert_eq!(systemd.start(cond).await.unwrap(), JobResult::Skipped);
    // Type=exec: the start is done when the program runs; its end shows in the unit.
    assert_eq!(
        systemd.start("tenant-selftest-bad.service").await.unwrap(),
        JobResult::Done
    );
    let absent = systemd.start("tenant-selftest-absent.service").await;
    assert!(
        matches!(absent, Err(SystemdError::NoSuchUnit { .. })),
        "{absent:?}"
    );
    systemd
        .reset_failed("tenant-selftest-absent.service")
        .await
        .unwrap();

    let listed = systemd
        .units(&[ok, "tenant-selftest-absent.service"])
        .await
        .unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[1].load, LoadState::NotFound);

    systemd.start(ok).await.unwrap();
    std::fs::write(dir.join(ok), "[Service]\nExecStart=true\n").unwrap();
    assert!(systemd.details(ok).await.unwrap().need_daemon_reload);
    assert!(
        systemd
            .version()
            .await
            .unwrap()
            .starts_with(|c: char| c.is_ascii_digit())
    );

    for (name, ..) in units {
        let unit = format!("{name}.service");
        systemd.stop(&unit).await.unwrap();
        systemd.reset_failed(&unit).await.unwrap();
        std::fs::remove_file(dir.join(unit)).unwrap();
    }
    systemd.reload().await.unwrap();
}
