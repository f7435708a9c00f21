//! A door whose agent sleeps, before a sleep service that the test plays.

use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio_util::codec::{Framed, LinesCodec};

use super::*;

/// A sleep service: what the door says comes out, what it is to hear goes in.
struct Played {
    said: mpsc::UnboundedReceiver<String>,
    tell: mpsc::UnboundedSender<&'static str>,
    house: House,
}

/// An agent that answers every request of a connection, and switches to WebSocket where it is asked.
async fn agent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                while let Ok(read) = stream.read(&mut request).await
                    && read > 0
                {
                    let text = String::from_utf8_lossy(&request[..read]);
                    let answer: &[u8] = if text.contains("pgrade: websocket") {
                        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
                    } else if text.starts_with("GET ") {
                        READY
                    } else {
                        continue;
                    };
                    stream.write_all(answer).await.unwrap();
                    if answer == READY {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Opens a door that has had nothing to do for `after` when it says so.
async fn play(after: Duration, change: impl FnOnce(&mut Settings)) -> Played {
    let address = agent().await;
    let (said_in, said) = mpsc::unbounded_channel();
    let (tell, mut to_tell) = mpsc::unbounded_channel::<&'static str>();
    let dir = tempfile::tempdir().unwrap();
    let socket = camino::Utf8PathBuf::from_path_buf(dir.path().join("sleep.sock")).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        let _dir = dir;
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut lines = Framed::new(stream, LinesCodec::new());
            let mut is_awake = false;
            loop {
                tokio::select! {
                    line = lines.next() => match line {
                        // Asked again by those who came before the door knew.
                        Some(Ok(line)) if is_awake && line == "wake" => {
                            lines.send("awake").await.unwrap();
                        }
                        Some(Ok(line)) => { let _ = said_in.send(line); }
                        _ => break,
                    },
                    told = to_tell.recv() => match told {
                        // The service dies.
                        Some("die") => break,
                        Some(told) => {
                            is_awake = told == "awake";
                            lines.send(told).await.unwrap();
                        }
                        None => return,
                    },
                }
            }
        }
    });
    let house = House::open(|settings| {
        settings.agent = address;
        settings.sleeping = Some(Sleeping {
            socket,
            after,
            idle_probe: None,
            probes: vec!["/healthz".to_owned()],
        });
        change(settings);
    });
    let mut played = Played { said, tell, house };
    assert_eq!(played.heard().await, "look");
    played
}

impl Played {
    async fn heard(&mut self) -> String {
        let heard = timeout(Duration::from_secs(20), self.said.recv()).await;
        heard.expect("the door says something").unwrap()
    }

    /// What the door says next that is no word of having nothing to do.
    async fn hears(&mut self, word: &str) {
        loop {
            let heard = self.heard().await;
            if heard == word {
                return;
            }
            assert!(
                matches!(heard.as_str(), "idle" | "active"),
                "{heard} before {word}"
            );
        }
    }

    fn tells(&self, word: &'static str) {
        self.tell.send(word).unwrap();
    }
}

const LONG: Duration = Duration::from_hours(1);

async fn request(house: &House, text: &str) -> String {
    let mut client = house.connect().await;
    client.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn a_thousand_first_connections_are_one_waking_and_all_are_answered() {
    let mut played = play(LONG, |settings| settings.waiting = 2000).await;
    played.tells("frozen");
    let mut clients = Vec::new();
    for _ in 0..1000 {
        let mut client = played.house.connect().await;
        client.write_all(GET.as_bytes()).await.unwrap();
        clients.push(client);
    }
    played.hears("wake").await;
    played.tells("awake");
    for mut client in clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    while let Ok(word) = played.said.try_recv() {
        assert_ne!(word, "wake");
    }
}

#[tokio::test]
async fn probes_and_half_open_connections_and_endless_heads_wake_nobody() {
    let mut played = play(LONG, |_| ()).await;
    played.tells("frozen");
    for probe in [
        "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /healthz?deep=1 HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let answer = tokio::spawn({
            let mut client = played.house.connect().await;
            async move {
                client.write_all(probe.as_bytes()).await.unwrap();
                let mut answer = String::new();
                client.read_to_string(&mut answer).await.unwrap();
                answer
            }
        });
        played.hears("look").await;
        played.tells("frozen");
        let answer = answer.await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("Retry-After: 60"), "{answer}");
    }
    // One that says nothing, one that never ends its head, and one whose head has no end.
    let silent = played.house.connect().await;
    let mut slow = played.house.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
    let huge = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(20_000));
    let answer = request(&played.house, &huge).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    drop((silent, slow));
    // Only now somebody wants the agent; nobody did before.
    let mut client = played.house.connect().await;
    client.write_all(GET.as_bytes()).await.unwrap();
    played.hears("wake").await;
    played.tells("awake");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_probe_of_an_agent_that_is_awake_is_the_agents() {
    let mut played = play(LONG, |_| ()).await;
    played.tells("awake");
    let answer = tokio::spawn({
        let mut client = played.house.connect().await;
        async move { ask(&mut client).await }
    });
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // It was not necessarily known to be awake when the first one came.
    while let Ok(word) = played.said.try_recv() {
        assert_ne!(word, "closed");
    }
}

#[tokio::test]
async fn a_browser_gets_a_page_that_waits_and_a_program_waits_itself() {
    let mut played = play(LONG, |settings| {
        settings.browser_patience = Duration::from_millis(20);
        settings.patience = Duration::from_millis(300);
    })
    .await;
    played.tells("stopped");
    let page = "GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n";
    let answer = request(&played.house, page).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("http-equiv=\"refresh\""), "{answer}");
    assert!(answer.contains("Content-Type: text/html"), "{answer}");
    // Nobody answers the waking: a program is told when to come again.
    let answer = request(&played.house, GET).await;
    assert!(answer.contains("\r\nRetry-After: 5\r\n"), "{answer}");
    played.hears("wake").await;
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_takes_nobodys_place() {
    let mut played = play(LONG, |settings| settings.waiting = 1).await;
    played.tells("frozen");
    let mut left = played.house.connect().await;
    left.write_all(GET.as_bytes()).await.unwrap();
    played.hears("wake").await;
    drop(left);
    let mut next = played.house.connect().await;
    loop {
        next.write_all(GET.as_bytes()).await.unwrap();
        played.tells("awake");
        let mut answer = String::new();
        next.read_to_string(&mut answer).await.unwrap();
        if answer.starts_with("HTTP/1.1 200 ") {
            break;
        }
        // It came before the door had noticed.
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        next = played.house.connect().await;
    }
}

const UPGRADE: &str = "GET /socket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n";
const PING: [u8; 6] = [0x89, 0x80, 0, 0, 0, 0];

#[tokio::test]
async fn a_websocket_that_only_pings_is_closed_politely_before_its_agent_is_frozen() {
    let mut played = play(Duration::from_millis(50), |settings| {
        settings.idle_without_agent = Duration::ZERO;
    })
    .await;
    played.tells("awake");
    let mut client = played.house.connect().await;
    client.write_all(UPGRADE.as_bytes()).await.unwrap();
    let mut head = vec![0; 4096];
    let read = client.read(&mut head).await.unwrap();
    assert!(head[..read].starts_with(b"HTTP/1.1 101 "));
    // It pings on, and is idle all the same.
    loop {
        client.write_all(&PING).await.unwrap();
        if let Ok(heard) = timeout(Duration::from_millis(10), played.said.recv()).await
            && heard.as_deref() == Some("idle")
        {
            break;
        }
    }
    played.tells("close");
    let mut farewell = Vec::new();
    client.read_to_end(&mut farewell).await.unwrap();
    assert_eq!(farewell, [0x88, 2, 0x03, 0xE9], "1001, going away");
    drop(client);
    played.hears("closed").await;
    // The door stays while the agent is frozen, and leaves when it is stopped.
    assert!(!played.house.door.is_finished());
    played.tells("leave");
    assert_eq!(played.house.door.await.unwrap().0, Left::Idle);
}

#[tokio::test]
async fn who_has_something_to_do_is_not_closed_unless_an_operator_says_so() {
    let mut played = play(LONG, |_| ()).await;
    played.tells("awake");
    let mut client = played.house.connect().await;
    client.write_all(UPGRADE.as_bytes()).await.unwrap();
    let mut head = vec![0; 4096];
    assert!(client.read(&mut head).await.unwrap() > 0);
    played.tells("close");
    played.hears("active").await;
    played.tells("close-now");
    let mut farewell = Vec::new();
    client.read_to_end(&mut farewell).await.unwrap();
    assert_eq!(farewell, [0x88, 2, 0x03, 0xE9]);
    drop(client);
    played.hears("closed").await;
    // Who comes now has it woken.
    let mut client = played.house.connect().await;
    client.write_all(GET.as_bytes()).await.unwrap();
    played.hears("wake").await;
    // And a close that was on its way is refused for him.
    played.tells("close");
    played.hears("active").await;
    played.tells("awake");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_sleep_service_that_dies_is_asked_again_by_those_who_wait() {
    let mut played = play(LONG, |_| ()).await;
    played.tells("frozen");
    let mut client = played.house.connect().await;
    client.write_all(GET.as_bytes()).await.unwrap();
    played.hears("wake").await;
    played.tells("die");
    played.hears("wake").await;
    played.tells("awake");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
