//! Who asks: the peer of the Unix socket, as the kernel names it.
//! Who may ask at all is settled by the socket's owner and mode (root and group tenantd).

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use nix::unistd::{Uid, User};
use tokio::net::UnixListener;

/// The peer of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self {
            uid: stream.io().peer_cred().ok().map(|peer| peer.uid()),
        }
    }
}

impl Peer {
    /// The peer's name for the audit log: a user's name, else `uid N`.
    pub fn actor(&self) -> String {
        let Some(uid) = self.uid else {
            return "unknown".to_owned();
        };
        match User::from_uid(Uid::from_raw(uid)) {
            Ok(Some(user)) => user.name,
            _ => format!("uid {uid}"),
        }
    }
}
