//! Which host a TLS client names in its first message (SNI), read without answering it.
//! What was read is kept, because it is the server's.

use std::io;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::tenant::HostName;

/// Longest first message that is waited for. With post-quantum keys they have some 2 KiB; a record has 16 KiB at most.
const MAX: usize = 20 * 1024;

/// What a client said first.
#[derive(Debug, PartialEq, Eq)]
pub enum Hello {
    /// It names a host.
    Named(HostName),
    /// It speaks TLS and names none.
    Nameless,
    /// It does not speak TLS, or none that can be read.
    NotTls,
}

/// The first message, and every byte that was read.
#[derive(Debug)]
pub struct First {
    /// What it says.
    pub hello: Hello,
    /// What has to be passed on.
    pub bytes: Vec<u8>,
}

/// Reads until the first message is whole or cannot become one.
///
/// # Errors
/// The connection broke.
pub async fn read(client: &mut (impl AsyncRead + Unpin)) -> io::Result<First> {
    let mut bytes = Vec::with_capacity(2048);
    let mut acceptor = Acceptor::default();
    let mut seen = 0;
    loop {
        let before = bytes.len();
        let ended = client.read_buf(&mut bytes).await? == 0;
        debug_assert!(ended || bytes.len() > before);
        let mut rest = bytes.get(seen..).unwrap_or_default();
        while !rest.is_empty() {
            seen += acceptor.read_tls(&mut rest)?;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let hello = match accepted.client_hello().server_name().map(str::parse) {
                    Some(Ok(name)) => Hello::Named(name),
                    // A name that is none is as good as none.
                    Some(Err(_)) | None => Hello::Nameless,
                };
                return Ok(First { hello, bytes });
            }
            Ok(None) if !ended && bytes.len() < MAX => {}
            Ok(None) | Err(_) => {
                return Ok(First {
                    hello: Hello::NotTls,
                    bytes,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    fn hello_to(server: &'static str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = ServerName::try_from(server).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    async fn first_of(bytes: &[u8]) -> First {
        read(&mut &bytes[..]).await.unwrap()
    }

    #[tokio::test]
    async fn the_name_is_read_and_every_byte_is_kept() {
        let bytes = hello_to("api.example.org");
        let first = first_of(&bytes).await;
        assert_eq!(
            first.hello,
            Hello::Named("api.example.org".parse().unwrap())
        );
        assert_eq!(first.bytes, bytes);
    }

    #[tokio::test]
    async fn a_message_in_single_bytes_is_read_too() {
        let bytes = hello_to("api.example.org");
        let mut client = tokio_test::io::Builder::new();
        for byte in &bytes {
            client.read(std::slice::from_ref(byte));
        }
        let first = read(&mut client.build()).await.unwrap();
        assert_eq!(
            first.hello,
            Hello::Named("api.example.org".parse().unwrap())
        );
    }

    #[tokio::test]
    async fn an_address_is_no_name() {
        let first = first_of(&hello_to("192.0.2.1")).await;
        assert_eq!(first.hello, Hello::Nameless);
    }

    #[tokio::test]
    async fn what_is_no_tls_is_passed_on_unread() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"",
            b"\x16\x03\x01",
            &[0; 64],
        ] {
            let first = first_of(bytes).await;
            assert_eq!(
                (first.hello, first.bytes.as_slice()),
                (Hello::NotTls, bytes)
            );
        }
    }

    #[tokio::test]
    async fn what_never_becomes_a_message_is_not_waited_for() {
        // One record after the other, each with a part of a message that would have 16 MiB.
        let mut bytes = vec![0x16, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff];
        while bytes.len() < 2 * MAX {
            bytes.extend([0x16, 3, 1, 0, 4, 0, 0, 0, 0]);
        }
        let first = first_of(&bytes).await;
        assert_eq!(first.hello, Hello::NotTls);
        assert!(first.bytes.len() <= 2 * MAX);
    }
}
