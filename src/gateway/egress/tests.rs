//! The door as a whole, before an Internet that is a few servers on loopback: names lead to public addresses, and
//! connections to those end at a server of the test.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::web::Aim;
use super::*;
use crate::tenant::{EgressMode, EgressPolicy, HostName};

/// The Internet: each name has addresses, and each address is a server of the test.
#[derive(Debug, Default)]
struct Internet {
    names: HashMap<&'static str, Vec<IpAddr>>,
    servers: HashMap<IpAddr, SocketAddr>,
    /// Every head that a server read.
    heads: Heads,
}

type Heads = Arc<Mutex<Vec<String>>>;

impl Internet {
    /// A server that answers every request with its head, under `name` at `address`.
    async fn with(mut self, name: &'static str, address: &str) -> Self {
        let address: IpAddr = address.parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.names.entry(name).or_default().push(address);
        self.servers.insert(address, listener.local_addr().unwrap());
        let heads = Arc::clone(&self.heads);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(echo_heads(stream, Arc::clone(&heads)));
            }
        });
        self
    }

    /// A name that leads somewhere else.
    fn leading(mut self, name: &'static str, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|text| text.parse().unwrap());
        self.names.insert(name, addresses.collect());
        self
    }
}

/// Answers each head that arrives with itself, as a body. One that asks for another protocol gets every byte back.
async fn echo_heads(mut stream: TcpStream, heads: Heads) {
    let mut read = Vec::new();
    loop {
        while let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head: Vec<u8> = read.drain(..end + 4).collect();
            let text = String::from_utf8_lossy(&head).into_owned();
            let upgrades = text.contains("upgrade: echo");
            heads.lock().unwrap().push(text);
            if upgrades {
                let switched = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
                stream.write_all(switched).await.unwrap();
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                return;
            }
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", head.len());
            let answer = [answer.as_bytes(), &head].concat();
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
        match stream.read_buf(&mut read).await {
            Ok(1..) => {}
            _ => return,
        }
    }
}

#[async_trait]
impl Outside for Internet {
    async fn lookup(&self, name: &HostName) -> io::Result<Vec<IpAddr>> {
        let found = self.names.get(name.as_str()).cloned();
        found.ok_or_else(|| io::Error::other("Name or service not known"))
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let server = self.servers.get(&address.ip());
        let server = server.ok_or(io::ErrorKind::ConnectionRefused)?;
        TcpStream::connect(server).await
    }
}

/// A door with its way in.
struct House {
    door: Arc<Door>,
    book: Arc<Book>,
    proxy: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<io::Result<()>>,
}

fn judge(mode: EgressMode, allow: &[&str]) -> Judge {
    let policy = EgressPolicy {
        mode,
        allow: allow.iter().map(|text| text.parse().unwrap()).collect(),
        ports: crate::tenant::WEB_PORTS.into(),
        private_networks: Vec::new(),
    };
    Judge::new(policy, BTreeSet::new())
}

impl House {
    async fn open(internet: Internet, judge: Judge, volume: u64) -> Self {
        let door = Arc::new(Door::new(
            judge,
            Box::new(internet),
            Meter::new(volume, Destinations::new()),
        ));
        let book = Arc::default();
        // Not port 3128: several tests run at a time, so the entrance is served by itself.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let carrying = Arc::clone(&door);
        let served = tokio::spawn(async move {
            let accept = async {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let door = Arc::clone(&carrying);
                    tokio::spawn(web::serve(door, By::Request, Aim::Proxy, stream));
                }
            };
            tokio::select! {
                () = accept => {}
                _ = stopped => {}
            }
            Ok(())
        });
        Self {
            door,
            book,
            proxy,
            stop,
            served,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.proxy).await.unwrap()
    }

    /// What the proxy answers to a request, until it closes.
    async fn ask(&self, request: &str) -> String {
        let mut client = self.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

fn get(url: &str) -> String {
    format!("GET {url} HTTP/1.1\r\nHost: ignored.example\r\nConnection: close\r\n\r\n")
}

async fn internet() -> Internet {
    Internet::default()
        .with("api.example.org", "1.0.0.1")
        .await
        .with("other.example", "1.0.0.2")
        .await
        .leading("rebind.example.org", &["1.0.0.1", "10.0.0.1"])
        .leading("metadata.example.org", &["169.254.169.254"])
        .leading("mapped.example.org", &["::ffff:169.254.169.254"])
}

async fn listing() -> House {
    House::open(
        internet().await,
        judge(EgressMode::Allowlist, &["*.example.org"]),
        u64::MAX,
    )
    .await
}

#[tokio::test]
async fn a_plain_request_reaches_a_listed_host_under_that_hosts_name() {
    let house = listing().await;
    let answer = house.ask(&get("http://api.example.org/a?b")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("GET /a?b HTTP/1.1\r\n"), "{answer}");
    assert!(answer.contains("host: api.example.org\r\n"), "{answer}");
    assert!(!answer.contains("ignored.example"), "{answer}");
}

#[tokio::test]
async fn what_the_list_does_not_name_is_refused_with_a_reason() {
    let house = listing().await;
    let answer = house.ask(&get("http://other.example/")).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(
        answer.contains("proxy-status: tenantd; error=http_request_denied"),
        "{answer}"
    );
    assert!(answer.contains("(not-listed)"), "{answer}");
    assert_eq!(house.door.meter.figures()["other.example:80"].refused, 1);
}

#[tokio::test]
async fn no_spelling_of_an_inner_address_gets_through() {
    let house = House::open(internet().await, judge(EgressMode::Open, &[]), u64::MAX).await;
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0251.0376.0251.0376",
        "169.254.169.254",
        "[::1]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "rebind.example.org",
        "metadata.example.org",
        "mapped.example.org",
    ] {
        let plain = house.ask(&get(&format!("http://{host}/"))).await;
        assert!(!plain.starts_with("HTTP/1.1 200"), "{host}: {plain}");
        let tunnel = house
            .ask(&format!(
                "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            ))
            .await;
        assert!(!tunnel.starts_with("HTTP/1.1 200"), "{host}: {tunnel}");
    }
}

#[tokio::test]
async fn a_tunnel_to_port_80_is_judged_request_by_request() {
    let house = listing().await;
    let mut client = house.connect().await;
    client
        .write_all(b"CONNECT api.example.org:80 HTTP/1.1\r\nHost: api.example.org:80\r\n\r\n")
        .await
        .unwrap();
    let mut answer = vec![0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 200");
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("HTTP/1.1 421 "), "{answer}");
}

#[tokio::test]
async fn of_a_request_that_two_could_read_differently_the_server_sees_one_or_none() {
    let inner = "GET /smuggled HTTP/1.1\r\nHost: api.example.org\r\n\r\n";
    let lengths = [
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Content-Length: +0\r\n\r\n",
        "Content-Length : 0\r\n\r\n",
    ];
    for length in lengths {
        let internet = internet().await;
        let heads = Arc::clone(&internet.heads);
        let house = House::open(internet, judge(EgressMode::Open, &[]), u64::MAX).await;
        let request =
            format!("POST http://api.example.org/ HTTP/1.1\r\nHost: a\r\n{length}{inner}");
        let mut client = house.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // Whether it is answered or cut is the parser's choice.
        let _ = client.read_to_end(&mut answer).await;
        // The end of a chunked body looks like a head to this server.
        let is_request = |head: &&String| !head.starts_with("0\r\n");
        let heads = heads.lock().unwrap();
        let heads: Vec<String> = heads.iter().filter(is_request).cloned().collect();
        assert!(heads.len() <= 1, "{length}: {heads:?}");
        assert!(!heads.concat().contains("smuggled"), "{length}: {heads:?}");
    }
}

#[tokio::test]
async fn what_is_no_request_for_a_proxy_is_refused() {
    let house = listing().await;
    for line in [
        "GET http://user@api.example.org/",
        "GET /",
        "GET https://api.example.org/",
        "CONNECT api.example.org",
        "CONNECT user@api.example.org:443",
    ] {
        let request =
            format!("{line} HTTP/1.1\r\nHost: api.example.org\r\nConnection: close\r\n\r\n");
        let answer = house.ask(&request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{line}: {answer}");
    }
}

#[tokio::test]
async fn another_protocol_is_carried_and_cut_like_a_tunnel() {
    let house = listing().await;
    let mut client = house.connect().await;
    let request = "GET http://api.example.org/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert_ne!(client.read_buf(&mut head).await.unwrap(), 0);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    client.write_all(b"hello").await.unwrap();
    let mut answer = [0; 5];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"hello");
    house.door.change(judge(EgressMode::Allowlist, &[]));
    let mut rest = Vec::new();
    // Ends, because it was cut.
    let _ = client.read_to_end(&mut rest).await;
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn a_connection_is_cut_when_the_volume_is_used_up() {
    let house = House::open(
        internet().await,
        judge(EgressMode::Open, &["api.example.org:9000"]),
        1000,
    )
    .await;
    let mut client = house.connect().await;
    client
        .write_all(b"CONNECT api.example.org:9000 HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut head = [0; 12];
    client.read_exact(&mut head).await.unwrap();
    // A head that has no end, so nothing comes back.
    let sent = async { while client.write_all(&[b'x'; 100]).await.is_ok() {} };
    sent.await;
    let answer = house.ask(&get("http://api.example.org/")).await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert!(answer.contains("(volume)"), "{answer}");
}

#[tokio::test]
async fn a_changed_policy_cuts_what_it_forbids_and_nothing_else() {
    let allow = ["api.example.org:9000", "other.example:9000"];
    let house = House::open(
        internet().await,
        judge(EgressMode::Allowlist, &allow),
        u64::MAX,
    )
    .await;
    let mut kept = tunnel_to(&house, "api.example.org:9000").await;
    let mut lost = tunnel_to(&house, "other.example:9000").await;
    house.door.change(judge(EgressMode::Allowlist, &allow[..1]));
    let mut rest = Vec::new();
    // Ends, because it was cut.
    let _ = lost.read_to_end(&mut rest).await;
    kept.write_all(b"still here\r\n\r\n").await.unwrap();
    let mut answer = [0; 15];
    kept.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

/// A tunnel that carries.
async fn tunnel_to(house: &House, goal: &str) -> TcpStream {
    let mut client = house.connect().await;
    let request = format!("CONNECT {goal} HTTP/1.1\r\nHost: {goal}\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert_ne!(client.read_buf(&mut head).await.unwrap(), 0);
    }
    assert!(head.starts_with(b"HTTP/1.1 200"));
    client.write_all(b"a\r\n\r\n").await.unwrap();
    let mut answer = vec![0; b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\na\r\n\r\n".len()];
    client.read_exact(&mut answer).await.unwrap();
    client
}

#[tokio::test]
async fn an_address_that_stands_for_a_name_leads_there() {
    let house = listing().await;
    let name: HostName = "api.example.org".parse().unwrap();
    let address = house.book.address_of(&name).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(
        TcpStream::connect(listener.local_addr().unwrap()),
        listener.accept()
    );
    let local = SocketAddr::from((address, 80));
    let (door, book) = (Arc::clone(&house.door), Arc::clone(&house.book));
    tokio::spawn(async move { transparent::carry(door, &book, local, far.unwrap().0).await });
    let mut client = near.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: api.example.org\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_thousand_connections_that_say_nothing_leave_the_door_open_for_others() {
    let house = listing().await;
    let mut silent = Vec::new();
    for _ in 0..500 {
        silent.push(house.connect().await);
    }
    let answer = house.ask(&get("http://api.example.org/")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(silent);
    house.stop.send(()).unwrap();
    house.served.await.unwrap().unwrap();
}

#[test]
fn entrances_are_told_apart_by_address() {
    let at = |ip: Ipv4Addr, port| Entrance::of(SocketAddr::from((ip, port)));
    let stand_in = Ipv4Addr::new(198, 18, 1, 0);
    assert_eq!(at(Ipv4Addr::LOCALHOST, 53), Entrance::Names);
    assert_eq!(at(Ipv4Addr::LOCALHOST, 3128), Entrance::Proxy);
    assert!(matches!(at(stand_in, 53), Entrance::Transparent(_)));
    assert!(matches!(at(stand_in, 443), Entrance::Transparent(_)));
}
