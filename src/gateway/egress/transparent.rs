//! Connections of those who know no proxy: the address that they dialled says where they want to go.
//! What the address stands for, `book` knows; who may go there, `door`.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::book::Book;
use super::decision::By;
use super::door::{Door, Goal};
use super::tunnel;
use super::web::{self, Aim};

/// The alert `access_denied`, fatal, as a record of TLS 1.2 (RFC 8446, sections 5.1 and 6).
const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// Carries a connection that was made to `local`. Where that stands for no name any more, the name that the client
/// says inside counts, under the same policy.
pub async fn carry(door: Arc<Door>, book: &Book, local: SocketAddr, mut stream: TcpStream) {
    let port = local.port();
    let meant = match local {
        SocketAddr::V4(local) => book.name_of(*local.ip()),
        SocketAddr::V6(_) => None,
    };
    let by = By::Transparent;
    match (meant, port) {
        (Some(name), 80) => web::serve(door, by, Aim::Fixed(Goal::Name(name, port)), stream).await,
        (None, 80) => web::serve(door, by, Aim::Host(port), stream).await,
        (Some(name), _) => {
            let goal = Goal::Name(name, port);
            match door.reach(by, goal.clone()).await {
                Ok(reached) => tunnel::carry(door, by, goal, stream, reached).await,
                // The only word that a client of TLS takes from somebody without a certificate.
                Err(_) => drop(stream.write_all(&ACCESS_DENIED).await),
            }
        }
        (None, _) => tunnel::carry_by_hello(door, by, port, &mut stream).await,
    }
}
