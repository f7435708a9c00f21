use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

mod sleep;

const READY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A door on a socket in a directory of its own.
struct House {
    _dir: tempfile::TempDir,
    socket: std::path::PathBuf,
    stop: oneshot::Sender<()>,
    door: JoinHandle<(Left, Totals)>,
}

impl House {
    fn open(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            // The discard port: nobody listens there.
            agent: SocketAddr::from((Ipv4Addr::LOCALHOST, 9)),
            start_probe: HttpProbe {
                path: "/startupz".to_owned(),
                json: true,
            },
            held: None,
            sleeping: None,
            browser_patience: Duration::from_mins(1),
            patience: Duration::from_mins(1),
            waiting: 256,
            connections: 1500,
            idle: Duration::from_mins(1),
            idle_without_agent: Duration::from_mins(1),
            drain: Duration::from_secs(5),
        };
        change(&mut settings);
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("ingress.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (stop, stopped) = oneshot::channel();
        let door = tokio::spawn(serve(listener, settings, async {
            let _ = stopped.await;
        }));
        Self {
            _dir: dir,
            socket,
            stop,
            door,
        }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.unwrap()
    }

    async fn close(self) -> (Left, Totals) {
        self.stop.send(()).unwrap();
        self.door.await.unwrap()
    }
}

async fn ask(client: &mut UnixStream) -> String {
    client.write_all(REQUEST).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

/// An agent that answers probes and sends everything else back, once its client has ended.
async fn echo(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut request = vec![0; 16];
            let read = stream.read(&mut request).await.unwrap();
            request.truncate(read);
            if request.starts_with(b"GET /startupz") {
                stream.write_all(READY).await.unwrap();
            } else {
                stream.read_to_end(&mut request).await.unwrap();
                stream.write_all(&request).await.unwrap();
            }
        });
    }
}

#[tokio::test]
async fn carries_both_ways_and_keeps_a_half_closed_connection_open() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(echo(listener));
    let house = House::open(|settings| settings.agent = address);

    let sent: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut client = house.connect().await;
    client.write_all(&sent).await.unwrap();
    client.shutdown().await.unwrap();
    let mut received = Vec::new();
    client.read_to_end(&mut received).await.unwrap();
    assert!(received == sent, "the bytes came back changed");

    let (left, totals) = house.close().await;
    assert_eq!(left, Left::Told);
    assert_eq!(
        totals,
        Totals {
            connections: 1,
            refused: 0,
            bytes_in: sent.len() as u64,
            bytes_out: sent.len() as u64,
        }
    );
}

#[tokio::test]
async fn waits_for_an_agent_that_comes_late() {
    // The port is taken first, so that nobody else gets it, and listened on later.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let house = House::open(|settings| settings.agent = address);
    let mut client = house.connect().await;
    client.write_all(b"hello").await.unwrap();
    client.shutdown().await.unwrap();

    let (mut early, mut received) = (house.connect().await, Vec::new());
    early.write_all(b"x").await.unwrap();
    tokio::spawn(echo(socket.listen(16).unwrap()));
    client.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"hello");
    early.shutdown().await.unwrap();
    early.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"hellox");
}

#[tokio::test]
async fn refuses_when_the_agent_does_not_come() {
    let house = House::open(|settings| settings.patience = Duration::from_millis(50));
    let answer = ask(&mut house.connect().await).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\r\nRetry-After: 5\r\n"), "{answer}");
    assert_eq!(house.close().await.1.refused, 1);
}

#[tokio::test]
async fn leaves_soon_when_the_agent_did_not_come_so_that_the_next_door_wakes_it() {
    let house = House::open(|settings| {
        settings.patience = Duration::from_millis(20);
        settings.idle_without_agent = Duration::from_millis(20);
    });
    let answer = ask(&mut house.connect().await).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(house.door.await.unwrap().0, Left::Idle);
}

#[tokio::test]
async fn a_hundred_clients_of_a_broken_agent_all_get_an_answer() {
    let house = House::open(|settings| {
        settings.patience = Duration::from_millis(50);
        settings.waiting = 60;
    });
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = house.connect().await;
        client.write_all(REQUEST).await.unwrap();
        clients.push(client);
    }
    for client in &mut clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
    let (left, totals) = house.close().await;
    assert_eq!(
        (left, totals.connections, totals.refused),
        (Left::Told, 100, 100)
    );
}

#[tokio::test]
async fn a_client_that_hangs_up_frees_its_place() {
    let house = House::open(|settings| {
        settings.waiting = 1;
        settings.drain = Duration::from_mins(1);
    });
    let (mut one, mut other) = (house.connect().await, house.connect().await);
    // Whoever of the two is refused, the other one waits.
    let refused = tokio::select! {
        answer = ask(&mut one) => answer,
        answer = ask(&mut other) => answer,
    };
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(!house.door.is_finished());
    drop((one, other));
    // A door with somebody before it would stay for the minute that is left.
    let (left, totals) = timeout(Duration::from_secs(20), house.close())
        .await
        .unwrap();
    assert_eq!((left, totals.connections), (Left::Told, 2));
}

#[tokio::test]
async fn a_held_tenant_is_refused() {
    let house = House::open(|settings| settings.held = Some(Held::Suspended));
    let answer = ask(&mut house.connect().await).await;
    assert!(answer.ends_with("its operator can say more.\n"), "{answer}");
}

#[tokio::test]
async fn leaves_when_nobody_is_there_but_not_before() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(echo(listener));
    let house = House::open(|settings| {
        settings.agent = address;
        settings.idle = Duration::from_millis(30);
    });
    let mut client = house.connect().await;
    client.write_all(b"hello").await.unwrap();
    // Another door with the same patience and nobody before it tells when the idle time is over.
    let lonely = House::open(|settings| settings.idle = Duration::from_millis(60));
    assert_eq!(lonely.door.await.unwrap().0, Left::Idle);
    assert!(
        !house.door.is_finished(),
        "it stays while a connection is open"
    );

    client.shutdown().await.unwrap();
    let mut received = Vec::new();
    client.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"hello");
    let (left, totals) = house.door.await.unwrap();
    assert_eq!((left, totals.connections), (Left::Idle, 1));
}
