use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

use super::*;

const IMAGE: &str = "localhost/tenantd-selftest:1";
const CONTAINER: &str = "tenantd-selftest";

fn podman(arguments: &[&str]) {
    let status = Command::new("podman")
        .args(arguments)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "podman {arguments:?}");
}

/// An image of one static program, and a container that runs it.
fn set_up() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("bin")).unwrap();
    std::fs::copy("/bin/busybox", dir.path().join("bin/busybox")).unwrap();
    let tar = dir.path().join("root.tar");
    let made = Command::new("tar")
        .arg("-C")
        .arg(dir.path())
        .arg("-cf")
        .arg(&tar)
        .arg("bin")
        .status()
        .unwrap();
    assert!(made.success());
    let changes = [
        "USER 1000:1000",
        "EXPOSE 8080/tcp",
        "VOLUME /data",
        "STOPSIGNAL SIGINT",
    ];
    let mut arguments = vec!["import", "--quiet"];
    for change in changes {
        arguments.extend(["--change", change]);
    }
    arguments.extend([tar.to_str().unwrap(), IMAGE]);
    podman(&arguments);
}

/// The adapter against the real thing.
#[tokio::test]
#[ignore = "needs root, Podman with its socket and a static busybox: runs in the test machine"]
async fn the_real_podman_is_understood() {
    set_up();
    let client = Podman::connect(Utf8Path::new(SOCKET)).await.unwrap();
    assert!(client.version() >= OLDEST);

    let image = client.image(IMAGE).await.unwrap().unwrap();
    assert_eq!(image.user, "1000:1000");
    assert_eq!(image.ports.len(), 1);
    assert_eq!(image.ports[0].number, 8080);
    assert_eq!(image.volumes, ["/data"]);
    assert!(image.stop_signal.is_some());
    assert!(image.digest.unwrap().starts_with("sha256:"));
    assert_eq!(client.image("localhost/absent:1").await.unwrap(), None);

    let mut events = client.events(crate::host::clock::now());
    podman(&[
        "run",
        "--detach",
        "--name",
        CONTAINER,
        "--network=none",
        IMAGE,
        "/bin/busybox",
        "sleep",
        "600",
    ]);
    wait_for(&mut events, "start").await;
    let container = client.container(CONTAINER).await.unwrap().unwrap();
    assert_eq!(container.state, ContainerState::Running);
    assert!(container.pid.is_some() && container.started_at.is_some());
    assert_eq!(container.image_id, image.id);

    client.pause(CONTAINER).await.unwrap();
    let paused = client.container(CONTAINER).await.unwrap().unwrap();
    assert_eq!(paused.state, ContainerState::Paused);
    client.unpause(CONTAINER).await.unwrap();

    let stats = client.stats(CONTAINER).await.unwrap().unwrap();
    assert!(stats.cpu_nanoseconds.is_some());

    streams(&client).await;
    terminal(&client).await;

    podman(&["kill", CONTAINER]);
    assert_eq!(wait_for(&mut events, "die").await.exit_code, Some(137));
    let listed = client.containers().await.unwrap();
    let row = listed.iter().find(|row| row.name == CONTAINER).unwrap();
    assert_eq!(row.state, ContainerState::Exited);

    let used = client.remove_image(IMAGE).await.unwrap_err();
    assert!(matches!(used, PodmanError::Refused { .. }), "{used}");
    assert!(client.remove_container(CONTAINER).await.unwrap());
    assert!(!client.remove_container(CONTAINER).await.unwrap());
    assert!(client.remove_image(IMAGE).await.unwrap());
    assert!(!client.remove_image(IMAGE).await.unwrap());
    assert_eq!(client.container(CONTAINER).await.unwrap(), None);
    assert_eq!(client.stats(CONTAINER).await.unwrap(), None);

    let mut pull = client.pull("localhost:1/absent:1");
    let mut outcome = Ok(());
    while let Some(step) = pull.next().await {
        outcome = step.map(|_| ());
    }
    let refused = outcome.unwrap_err().to_string();
    assert!(refused.contains("localhost:1/absent:1"), "{refused}");
}

async fn wait_for(
    events: &mut (impl futures_util::Stream<Item = Result<ContainerEvent, PodmanError>> + Unpin),
    action: &str,
) -> ContainerEvent {
    loop {
        let event = tokio::time::timeout(Duration::from_secs(30), events.next())
            .await
            .unwrap_or_else(|_| panic!("no {action}"))
            .unwrap()
            .unwrap();
        if event.container == CONTAINER && event.action == action {
            return event;
        }
    }
}

fn shell(script: &str) -> Vec<String> {
    ["/bin/busybox", "sh", "-c", script]
        .map(str::to_owned)
        .into()
}

async fn streams(client: &Podman) {
    let request = ExecRequest {
        command: shell("echo out; echo err >&2; exit 3"),
        ..ExecRequest::default()
    };
    let mut exec = client.exec(CONTAINER, request).await.unwrap();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(piece) = exec.output.next().await {
        match piece.unwrap() {
            ExecOutput::Stdout(bytes) => stdout.extend_from_slice(&bytes),
            ExecOutput::Stderr(bytes) => stderr.extend_from_slice(&bytes),
            ExecOutput::Terminal(bytes) => panic!("{bytes:?}"),
        }
    }
    assert_eq!(
        (stdout.as_slice(), stderr.as_slice()),
        (&b"out\n"[..], &b"err\n"[..])
    );
    assert_eq!(exec.control.exit_code().await.unwrap(), Some(3));
}

async fn terminal(client: &Podman) {
    let request = ExecRequest {
        command: shell("read a; /bin/busybox stty size; echo got $a"),
        terminal: true,
        input: true,
        ..ExecRequest::default()
    };
    let mut exec = client.exec(CONTAINER, request).await.unwrap();
    exec.control.resize(33, 99).await.unwrap();
    assert_eq!(exec.control.exit_code().await.unwrap(), None);
    exec.input.write_all(b"hello\n").await.unwrap();
    exec.input.flush().await.unwrap();
    let mut said = Vec::new();
    while let Some(piece) = exec.output.next().await {
        match piece.unwrap() {
            ExecOutput::Terminal(bytes) => said.extend_from_slice(&bytes),
            other => panic!("{other:?}"),
        }
    }
    let said = String::from_utf8(said).unwrap();
    assert!(
        said.contains("33 99") && said.contains("got hello"),
        "{said:?}"
    );
    assert_eq!(exec.control.exit_code().await.unwrap(), Some(0));
}
