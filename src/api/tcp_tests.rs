//! Real sockets, real TLS, and a router that says who asks.

use camino::Utf8PathBuf;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::*;
use crate::node::TlsFiles;

/// Longer than any test takes that does not wait for it.
const PATIENCE: Duration = Duration::from_mins(10);

/// Serves on a port of its own; ends with the test.
async fn serving(tls: Option<Arc<Tls>>, patience: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let hello = async |ConnectInfo(peer): ConnectInfo<Peer>| format!("hello {}", peer.actor());
    let router = Router::new().route("/", axum::routing::get(hello));
    tokio::spawn(serve(listener, tls, router, patience));
    address
}

/// Says `words` and returns all that is answered until the other end has enough.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, words: &str) -> String {
    // Whoever is refused may be so before all is said.
    let _ = stream.write_all(words.as_bytes()).await;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut piece).await {
        answer.extend_from_slice(&piece[..count]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_route_hears_from_where_it_is_asked() {
    let address = serving(None, PATIENCE).await;
    let answer = answer(TcpStream::connect(address).await.unwrap(), GET).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("hello 127.0.0.1"), "{answer}");
}

#[tokio::test]
async fn who_never_ends_its_headers_is_not_waited_for() {
    let address = serving(None, Duration::from_millis(50)).await;
    let stream = TcpStream::connect(address).await.unwrap();
    // That it ends at all is what is shown.
    let answer = answer(stream, "GET / HTTP/1.1\r\nhost: ").await;
    assert!(!answer.contains("hello"), "{answer}");
}

#[tokio::test]
async fn headers_have_an_end() {
    let address = serving(None, PATIENCE).await;
    let long = "x".repeat(2 * MAX_HEADERS);
    let words = format!("GET / HTTP/1.1\r\nhost: x\r\nlong: {long}\r\n\r\n");
    let answer = answer(TcpStream::connect(address).await.unwrap(), &words).await;
    assert!(!answer.contains("hello"), "{answer}");
    let many = "a: b\r\n".repeat(MAX_FIELDS + 1);
    let words = format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n");
    let answer = self::answer(TcpStream::connect(address).await.unwrap(), &words).await;
    assert!(!answer.contains("hello"), "{answer}");
}

#[test]
fn one_network_cannot_hold_all_connections() {
    let networks = Arc::new(Networks::default());
    let enter = |address: &str| Networks::enter(&networks, address.parse().unwrap());
    let mut held: Vec<_> = (0..OF_ONE_NETWORK)
        .map(|_| enter("2001:db8::1").unwrap())
        .collect();
    assert!(enter("2001:db8::2").is_none());
    assert!(enter("192.0.2.1").is_some());
    held.pop();
    assert!(enter("2001:db8::2").is_some());
    drop(held);
    assert!(networks.0.lock().unwrap().is_empty());
}

/// A directory with a certificate, and the certificate.
struct Certified {
    _directory: tempfile::TempDir,
    files: TlsFiles,
}

impl Certified {
    fn new() -> (Self, CertificateDer<'static>) {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| Utf8PathBuf::from_path_buf(directory.path().join(name)).unwrap();
        let (cert, key) = (at("api.crt"), at("api.key"));
        let made = Self {
            _directory: directory,
            files: TlsFiles { cert, key },
        };
        let certificate = made.renew();
        (made, certificate)
    }

    fn renew(&self) -> CertificateDer<'static> {
        let names = vec!["tenantd.example".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        std::fs::write(&self.files.cert, cert.pem()).unwrap();
        std::fs::write(&self.files.key, signing_key.serialize_pem()).unwrap();
        cert.der().clone()
    }
}

/// What is answered to one who trusts this certificate only.
async fn answer_to(address: SocketAddr, trusted: &CertificateDer<'static>) -> Option<String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("tenantd.example").unwrap();
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .ok()?;
    Some(answer(stream, GET).await)
}

#[tokio::test]
async fn a_renewed_certificate_is_used_and_half_a_one_is_not() {
    let (certified, first) = Certified::new();
    let tls = Tls::read(certified.files.clone(), Duration::ZERO)
        .await
        .unwrap();
    let address = serving(Some(Arc::new(tls)), PATIENCE).await;
    let hello = answer_to(address, &first).await.unwrap();
    assert!(hello.ends_with("hello 127.0.0.1"), "{hello}");

    let second = certified.renew();
    assert!(answer_to(address, &second).await.is_some());
    assert!(answer_to(address, &first).await.is_none());

    std::fs::write(&certified.files.cert, "half").unwrap();
    assert!(answer_to(address, &second).await.is_some());
}

#[tokio::test]
async fn who_speaks_no_tls_where_there_is_tls_hears_nothing() {
    let (certified, _) = Certified::new();
    let tls = Tls::read(certified.files.clone(), PATIENCE).await.unwrap();
    let address = serving(Some(Arc::new(tls)), PATIENCE).await;
    let answer = answer(TcpStream::connect(address).await.unwrap(), GET).await;
    assert!(
        !answer.contains("hello") && !answer.contains("HTTP"),
        "{answer}"
    );
}

#[tokio::test]
async fn files_that_are_no_certificate_are_named() {
    let (certified, _) = Certified::new();
    let (other, _) = Certified::new();
    let mixed = TlsFiles {
        cert: certified.files.cert.clone(),
        key: other.files.key.clone(),
    };
    let swapped = TlsFiles {
        cert: certified.files.key.clone(),
        key: certified.files.cert.clone(),
    };
    let why = async |files| Tls::read(files, PATIENCE).await.err().unwrap().to_string();
    assert!(why(mixed).await.contains("cannot be used together"));
    assert!(why(swapped).await.contains("api.key holds no certificate"));
}
