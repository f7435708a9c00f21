//! The door as a whole, before a provider with a certificate of the test's own authority: its name leads to a public
//! address, and connections to that end at a server of the test on loopback.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tenant::{HostName, Spending, SpendingPeriod};

/// Every name but the provider's leads nowhere, and every address to its server.
#[derive(Debug)]
struct Internet {
    server: SocketAddr,
    connections: Arc<AtomicUsize>,
}

#[async_trait]
impl Outside for Internet {
    async fn lookup(&self, name: &HostName) -> io::Result<Vec<IpAddr>> {
        match name.as_str() {
            "api.example.org" | "other.example" => Ok(vec![[1, 0, 0, 1].into()]),
            "inside.example.org" => Ok(vec![[1, 0, 0, 1].into(), [10, 0, 0, 1].into()]),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    async fn connect(&self, _: SocketAddr) -> io::Result<TcpStream> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        TcpStream::connect(self.server).await
    }
}

/// What the provider was asked: the head, and the body.
type Asked = (hyper::http::request::Parts, Bytes);

fn whole(status: u16, content_type: &str, text: &'static str) -> Response<Body> {
    let body = Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {});
    let response = Response::builder()
        .status(status)
        .header(CONTENT_TYPE, content_type);
    response.body(body.boxed()).unwrap()
}

/// Events that are sent when the test sends them.
fn events() -> (mpsc::Sender<&'static str>, Response<Body>) {
    let (sender, mut pieces) = mpsc::channel::<&'static str>(1);
    let frames = stream::poll_fn(move |cx| {
        let frame = |piece: &'static str| Ok(Frame::data(Bytes::from_static(piece.as_bytes())));
        pieces.poll_recv(cx).map(|piece| piece.map(frame))
    });
    let response = Response::builder().header(CONTENT_TYPE, "text/event-stream");
    (
        sender,
        response.body(StreamBody::new(frames).boxed()).unwrap(),
    )
}

/// A provider, and a tenant's door to it.
struct House {
    door: SocketAddr,
    answers: mpsc::Sender<Response<Body>>,
    asked: mpsc::Receiver<Asked>,
    /// What is written, or would be.
    books: mpsc::UnboundedReceiver<Vec<(Month, Book)>>,
    /// Whether nothing can be written.
    is_full: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<io::Result<()>>,
}

const KEY: &str = "sk-the-real-key";

const ENDPOINTS: &str = "[endpoints.acme]\nupstream = \"https://api.example.org/v1\"\nkey = \"KEY\"\nauth = \"x-api-key\"\n\
    [[endpoints.acme.prices]]\nmodel = \"large\"\ninput = \"3\"\noutput = \"15\"\n\
    [endpoints.other]\nupstream = \"https://other.example\"\nkey = \"KEY\"\nauth = \"bearer\"\n\
    [endpoints.inside]\nupstream = \"https://inside.example.org\"\nauth = \"none\"\n\
    [endpoints.metadata]\nupstream = \"http://169.254.169.254\"\nauth = \"none\"\n\
    [endpoints.host]\nupstream = \"http://10.1.2.3:80\"\nauth = \"none\"\n\
    [endpoints.home]\nupstream = \"https://10.9.9.9:8443\"\nauth = \"none\"\n";

impl House {
    async fn open(spending: &str, book: Book) -> Self {
        let settings = Settings {
            drain: Duration::ZERO,
            flush: Duration::from_millis(20),
            ..Settings::default()
        };
        Self::open_with(spending, book, settings).await
    }

    async fn open_with(spending: &str, book: Book, serving: Settings) -> Self {
        let (answers, given) = mpsc::channel(4);
        let (asks, asked) = mpsc::channel(16);
        let (server, roots) = provider(given, asks).await;
        let settings: EndpointSettings =
            toml::from_str(&format!("{ENDPOINTS}[spending]\n{spending}")).unwrap();
        let ledger = Arc::new(Ledger::new(settings.spending.clone(), book, clock::now()));
        let keys = BTreeMap::from([("KEY".parse().unwrap(), KEY.to_owned().into())]);
        let host = || Ok(BTreeSet::from([[10, 1, 2, 3].into()]));
        let connections = Arc::<AtomicUsize>::default();
        let outside = Arc::new(Internet {
            server,
            connections: Arc::clone(&connections),
        });
        let door = Endpoints::new(settings, keys, (outside, roots, host), ledger);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (written, books) = mpsc::unbounded_channel();
        let is_full = Arc::<AtomicBool>::default();
        let full = Arc::clone(&is_full);
        let write: Write = Arc::new(move |books| {
            let _ = written.send(books.to_vec());
            if full.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(())
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = serve(listener, Arc::new(door), serving, write, async {
            let _ = stopped.await;
        });
        Self {
            door: address,
            answers,
            asked,
            books,
            is_full,
            connections,
            stop,
            served: tokio::spawn(serving),
        }
    }

    async fn free() -> Self {
        Self::open("", Book::default()).await
    }

    /// Sends a request and returns the connection.
    async fn send(&self, head: &str, body: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.door).await.unwrap();
        let length = body.len();
        let request = format!(
            "{head}\r\nHost: 127.0.0.1:3130\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        client.write_all(request.as_bytes()).await.unwrap();
        client
    }

    /// What the door answers to a request, until it closes.
    async fn ask(&self, head: &str, body: &str) -> String {
        let mut client = self.send(head, body).await;
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// The figures of all, once they fulfil a condition.
    async fn figures(&mut self, is_wanted: impl Fn(&Figures) -> bool) -> Figures {
        loop {
            let books = self.books.recv().await.expect("the door has ended");
            let figures = books[0].1.total(SpendingPeriod::Month, date(clock::now()));
            if is_wanted(&figures) {
                return figures;
            }
        }
    }
}

/// Starts the provider's server; its certificate is for its name and one address.
async fn provider(
    answers: mpsc::Receiver<Response<Body>>,
    asks: mpsc::Sender<Asked>,
) -> (SocketAddr, RootCertStore) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = ["api.example.org".to_owned(), "10.9.9.9".to_owned()];
    let certificate = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let answers = Arc::new(tokio::sync::Mutex::new(answers));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answers, asks) = (acceptor.clone(), Arc::clone(&answers), asks.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let answer = service_fn(move |request: Request<Incoming>| {
                    let (answers, asks) = (Arc::clone(&answers), asks.clone());
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await?.to_bytes();
                        let _ = asks.send((head, body)).await;
                        let answer = answers.lock().await.recv().await;
                        Ok::<_, hyper::Error>(answer.expect("the test gives an answer"))
                    }
                });
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), answer)
                    .await;
            });
        }
    });
    (address, roots)
}

const ANSWER: &str = r#"{"model":"large","content":[{"text":"hi"}],"usage":{"input_tokens":1000,"output_tokens":100}}"#;

#[tokio::test]
async fn the_provider_sees_the_key_and_the_agent_does_not() {
    let mut house = House::free().await;
    house
        .answers
        .send(whole(200, "application/json", ANSWER))
        .await
        .unwrap();
    let answer = house
        .ask("POST /acme/messages?beta=1 HTTP/1.1\r\nX-Api-Key: held-by-tenantd\r\nAuthorization: Bearer mine", "{}")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.ends_with(ANSWER), "{answer}");
    assert!(!answer.contains(KEY), "{answer}");
    let (head, body) = house.asked.recv().await.unwrap();
    assert_eq!(head.uri, "/v1/messages?beta=1");
    assert_eq!(head.headers["host"], "api.example.org");
    assert_eq!(head.headers["x-api-key"], KEY);
    assert!(!head.headers.contains_key("authorization"));
    assert_eq!(head.headers["accept-encoding"], "identity");
    // Not in chunks, which many servers do not take.
    assert_eq!(head.headers["content-length"], "2");
    assert!(!head.headers.contains_key("transfer-encoding"));
    assert_eq!(body, "{}");
}

#[tokio::test]
async fn tokens_and_money_of_an_answer_are_written_down() {
    let mut house = House::free().await;
    house
        .answers
        .send(whole(200, "application/json", ANSWER))
        .await
        .unwrap();
    house.ask("POST /acme/messages HTTP/1.1", "{}").await;
    let figures = house
        .figures(|figures| figures.broken == 0 && figures.requests == 1)
        .await;
    assert_eq!((figures.tokens.input, figures.tokens.output), (1000, 100));
    assert_eq!(figures.money.to_string(), "0.0045");
    assert_eq!((figures.sent, figures.received), (2, ANSWER.len() as u64));
    house.stop.send(()).unwrap();
    house.served.await.unwrap().unwrap();
}

#[tokio::test]
async fn each_event_arrives_before_the_next_one_is_sent() {
    let mut house = House::free().await;
    let (events, answer) = events();
    house.answers.send(answer).await.unwrap();
    let mut client = house
        .send("POST /acme/chat/completions HTTP/1.1", r#"{"stream":true}"#)
        .await;
    let mut read = Vec::new();
    for piece in [
        "data: {\"n\":1}\n\n",
        "data: {\"n\":2}\n\n",
        "data: {\"n\":3}\n\n",
    ] {
        events.send(piece).await.unwrap();
        while !String::from_utf8_lossy(&read).contains(piece) {
            assert_ne!(client.read_buf(&mut read).await.unwrap(), 0);
        }
    }
    let (head, body) = house.asked.recv().await.unwrap();
    assert_eq!(
        body,
        r#"{"stream_options":{"include_usage":true},"stream":true}"#
    );
    assert_eq!(head.headers["content-length"], body.len().to_string());
}

#[tokio::test]
async fn a_door_that_stops_ends_its_answers_and_serves_no_further_request_of_their_connections() {
    let settings = Settings {
        drain: Duration::from_hours(1),
        ..Settings::default()
    };
    let mut house = House::open_with("", Book::default(), settings).await;
    let (events, answer) = events();
    house.answers.send(answer).await.unwrap();
    let mut client = TcpStream::connect(house.door).await.unwrap();
    let request = "POST /acme/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
    client.write_all(request.as_bytes()).await.unwrap();
    house.asked.recv().await.unwrap();
    house.stop.send(()).unwrap();
    // The door has stopped once it takes no connection any more.
    while TcpStream::connect(house.door).await.is_ok() {
        tokio::task::yield_now().await;
    }
    events.send("data: {\"last\":1}\n\n").await.unwrap();
    drop(events);
    // It is a connection that is kept, so only the door ends it.
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("{\"last\":1}"), "{answer}");
    house.served.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_agent_that_hangs_up_pays_for_what_it_has_heard() {
    let mut house = House::free().await;
    let (events, answer) = events();
    house.answers.send(answer).await.unwrap();
    let client = house.send("POST /acme/messages HTTP/1.1", "{}").await;
    let start = "data: {\"message\":{\"model\":\"large\",\"usage\":{\"input_tokens\":50,\"output_tokens\":1}}}\n\n";
    events.send(start).await.unwrap();
    events
        .send("data: {\"delta\":{\"text\":\"sixteen bytes ok\"}}\n\n")
        .await
        .unwrap();
    // While it goes on, it is written down already.
    let figures = house.figures(|figures| figures.tokens.output == 4).await;
    assert_eq!((figures.tokens.input, figures.broken), (50, 1));
    drop(client);
    // The provider is hung up on as well.
    events.closed().await;
    house.stop.send(()).unwrap();
    house.served.await.unwrap().unwrap();
    let mut last = None;
    while let Ok(books) = house.books.try_recv() {
        last = Some(books);
    }
    let last = last.map(|books| books[0].1.total(SpendingPeriod::Month, date(clock::now())));
    assert!(
        last.is_none_or(|last| last.tokens == figures.tokens),
        "{last:?}"
    );
}

#[tokio::test]
async fn at_the_limit_requests_are_refused_in_words_that_clients_understand() {
    let mut house = House::open("tokens = 1000\nperiod = \"day\"", Book::default()).await;
    house
        .answers
        .send(whole(200, "application/json", ANSWER))
        .await
        .unwrap();
    assert!(
        house
            .ask("POST /acme/messages HTTP/1.1", "{}")
            .await
            .starts_with("HTTP/1.1 200")
    );
    let answer = house.ask("POST /acme/messages HTTP/1.1", "{}").await;
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    assert!(answer.contains("x-should-retry: false"), "{answer}");
    assert!(answer.contains("retry-after: "), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["error"]["type"], "spending_limit");
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("1000 tokens for the day")
    );
    house.asked.recv().await.unwrap();
    assert!(house.asked.try_recv().is_err(), "the provider is not asked");
}

#[tokio::test]
async fn with_a_limit_nothing_is_passed_on_while_figures_cannot_be_written() {
    let mut house = House::open("tokens = 100000", Book::default()).await;
    house.is_full.store(true, Ordering::Relaxed);
    let answer = || whole(200, "application/json", ANSWER);
    house.answers.send(answer()).await.unwrap();
    house.ask("POST /acme/messages HTTP/1.1", "{}").await;
    // It is tried again once it has failed.
    for _ in 0..3 {
        house.books.recv().await.unwrap();
    }
    let refused = house.ask("POST /acme/messages HTTP/1.1", "{}").await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("figures_not_written"), "{refused}");
    house.is_full.store(false, Ordering::Relaxed);
    house.answers.send(answer()).await.unwrap();
    loop {
        let told = house.ask("POST /acme/messages HTTP/1.1", "{}").await;
        if told.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(told.starts_with("HTTP/1.1 503"), "{told}");
    }
}

#[tokio::test]
async fn a_door_does_not_leave_while_its_figures_are_not_written() {
    let ledger = Ledger::new(Spending::default(), Book::default(), clock::now());
    let ledger = Arc::new(ledger);
    drop(ledger.charge("acme", &[], 1, clock::now()).unwrap());
    let outside = Arc::new(Internet {
        server: ([127, 0, 0, 1], 1).into(),
        connections: Arc::default(),
    });
    let host = || Ok(BTreeSet::new());
    let outside = (
        outside as Arc<dyn Outside>,
        RootCertStore::empty(),
        host as OwnAddresses,
    );
    let settings: EndpointSettings = toml::from_str(&format!("{ENDPOINTS}[spending]\n")).unwrap();
    let door = Endpoints::new(settings, BTreeMap::new(), outside, ledger);
    let tries = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&tries);
    let write: Write = Arc::new(move |_| match counted.fetch_add(1, Ordering::Relaxed) {
        0..3 => Err(io::ErrorKind::StorageFull.into()),
        _ => Ok(()),
    });
    let settings = Settings {
        idle: Duration::from_millis(1),
        flush: Duration::from_millis(20),
        ..Settings::default()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let served = serve(
        listener,
        Arc::new(door),
        settings,
        write,
        std::future::pending(),
    );
    served.await.unwrap();
    assert_eq!(tries.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn a_door_that_starts_again_goes_on_counting() {
    let mut book = Book::default();
    let used = Figures {
        tokens: crate::tenant::Tokens {
            input: 1000,
            ..Default::default()
        },
        ..Figures::default()
    };
    book.add(date(clock::now()), "acme", "large", used);
    let house = House::open("tokens = 1000", book).await;
    let answer = house.ask("GET /acme/models HTTP/1.1", "").await;
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
}

#[tokio::test]
async fn errors_of_the_provider_are_passed_on_and_cost_nothing() {
    let mut house = House::free().await;
    house
        .answers
        .send(whole(529, "application/json", r#"{"type":"error"}"#))
        .await
        .unwrap();
    let answer = house
        .ask(
            "POST /acme/messages HTTP/1.1",
            "{\"a\":\"long enough to be guessed at\"}",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 529"), "{answer}");
    let figures = house.figures(|figures| figures.broken == 0).await;
    assert_eq!(figures.tokens.total(), 0);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_guessed_by_its_length_unless_it_is_known_to_be_free() {
    for (path, content_type, input, output) in [
        ("generate", "application/x-ndjson", 25, 5),
        ("generate", "application/json", 25, 5),
        ("speech", "audio/mpeg", 25, 0),
        ("count_tokens", "application/json", 0, 0),
    ] {
        let mut house = House::free().await;
        let answer = whole(200, content_type, r#"{"a":["twelve by"]}"#);
        house.answers.send(answer).await.unwrap();
        let head = format!("POST /acme/{path} HTTP/1.1");
        house.ask(&head, &"x".repeat(100)).await;
        let figures = house.figures(|figures| figures.broken == 0).await;
        let is_estimate = u64::from(input > 0);
        assert_eq!(
            (
                figures.tokens.input,
                figures.tokens.output,
                figures.estimated
            ),
            (input, output, is_estimate),
            "{path} {content_type}"
        );
    }
}

#[rstest::rstest]
#[case("", "/acme/realtime/client_secrets", "{}", "403", "no_credentials")]
#[case("tokens = 1000", "/acme/batches", "{}", "403", "not_counted")]
#[case(
    "tokens = 1000",
    "/acme/responses",
    r#"{"background": true}"#,
    "403",
    "not_counted"
)]
#[tokio::test]
async fn keys_are_never_handed_out_and_what_is_not_counted_passes_no_limit(
    #[case] spending: &str,
    #[case] path: &str,
    #[case] body: &str,
    #[case] status: &str,
    #[case] code: &str,
) {
    let mut house = House::open(spending, Book::default()).await;
    let answer = house.ask(&format!("POST {path} HTTP/1.1"), body).await;
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{answer}"
    );
    assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{answer}");
    assert!(house.asked.try_recv().is_err(), "the provider is not asked");
}

#[tokio::test]
async fn an_agent_that_does_not_wait_pays_for_its_request() {
    let mut house = House::free().await;
    let client = house
        .send("POST /acme/messages HTTP/1.1", &"x".repeat(400))
        .await;
    house.asked.recv().await.unwrap();
    drop(client);
    let figures = house.figures(|figures| figures.sent == 400).await;
    assert_eq!(
        (figures.tokens.input, figures.estimated, figures.broken),
        (100, 1, 1)
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let mut house = House::free().await;
    let mut answer = whole(307, "text/plain", "");
    answer
        .headers_mut()
        .insert("location", "https://other.example/steal".parse().unwrap());
    house.answers.send(answer).await.unwrap();
    let answer = house.ask("POST /acme/messages HTTP/1.1", "{}").await;
    assert!(answer.starts_with("HTTP/1.1 307"), "{answer}");
    assert!(
        answer.contains("location: https://other.example/steal\r\n"),
        "{answer}"
    );
    house.asked.recv().await.unwrap();
    assert!(house.asked.try_recv().is_err());
}

#[rstest::rstest]
#[case::no_such_endpoint("GET /nobody/x", 404, "no_such_endpoint")]
#[case::upwards("GET /acme/../other/x", 400, "bad_path")]
#[case::whole_url("GET http://evil.example/acme/x", 400, "bad_path")]
#[case::a_proxy_is_next_door("CONNECT evil.example:443", 405, "bad_method")]
#[case::another_certificate("GET /other/x", 502, "provider_tls")]
#[case::a_name_that_leads_inside("GET /inside/x", 403, "provider_refused")]
#[case::the_metadata_service("GET /metadata/x", 403, "provider_refused")]
#[case::the_host_itself("GET /host/x", 403, "provider_refused")]
#[tokio::test]
async fn what_is_not_passed_on_is_answered_with_the_reason(
    #[case] request: &str,
    #[case] status: u16,
    #[case] code: &str,
) {
    let mut house = House::free().await;
    let answer = house.ask(&format!("{request} HTTP/1.1"), "").await;
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{answer}"
    );
    assert!(answer.contains(&format!("\"type\":\"{code}\"")), "{answer}");
    assert!(house.asked.try_recv().is_err());
}

#[tokio::test]
async fn an_address_that_the_operator_names_may_be_private() {
    let mut house = House::free().await;
    house
        .answers
        .send(whole(200, "application/json", "{}"))
        .await
        .unwrap();
    let answer = house.ask("GET /home/x HTTP/1.1", "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (head, _) = house.asked.recv().await.unwrap();
    assert_eq!(head.headers["host"], "10.9.9.9:8443");
}

#[tokio::test]
async fn a_websocket_is_refused_because_its_tokens_could_not_be_counted() {
    let house = House::free().await;
    let mut client = TcpStream::connect(house.door).await.unwrap();
    let request = "GET /acme/realtime HTTP/1.1\r\nHost: a\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 501");
}

#[tokio::test]
async fn two_requests_use_one_connection_to_the_provider() {
    let mut house = House::free().await;
    for _ in 0..2 {
        house
            .answers
            .send(whole(200, "application/json", "{}"))
            .await
            .unwrap();
        house.ask("GET /acme/models HTTP/1.1", "").await;
        house.asked.recv().await.unwrap();
    }
    assert_eq!(house.connections.load(Ordering::Relaxed), 1);
}
