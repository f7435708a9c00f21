//! Listens on the Unix socket and serves the router until told to stop.
//! It owns the socket's file, owner and mode, and no route.

use std::os::unix::fs::PermissionsExt;

use axum::Router;
use camino::{Utf8Path, Utf8PathBuf};
use nix::unistd::{Group, chown};
use tokio::net::UnixListener;

use super::auth::Peer;
use crate::host::occupant::{self, Listener, Occupant};

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A process listens there.
    #[error(
        "{by} already listens on {path}; end it first (`systemctl stop tenantd` if it is tenantd)"
    )]
    Taken {
        /// The socket.
        path: Utf8PathBuf,
        /// Who.
        by: Listener,
    },
    /// Something that is no socket is there.
    #[error("{path} is taken by {what}; move it away")]
    InTheWay {
        /// The socket's path.
        path: Utf8PathBuf,
        /// What is there: `a directory`.
        what: &'static str,
    },
    /// The socket cannot be made.
    #[error("cannot listen on {path}; is {path} in a directory that root may write?")]
    Listen {
        /// The socket.
        path: Utf8PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// Serving ended with an error.
    #[error("the API ended unexpectedly")]
    Serve(#[source] std::io::Error),
}

/// Binds the API's socket for root and, where it exists, group `tenantd`.
///
/// A socket that nobody answers on is left over from a killed daemon and is replaced.
pub async fn listen(path: &Utf8Path) -> Result<UnixListener, ServeError> {
    let failed = |source| ServeError::Listen {
        path: path.to_owned(),
        source,
    };
    let owned = || path.to_owned();
    match occupant::look(path).await.map_err(failed)? {
        Occupant::Nobody => {}
        Occupant::Leftover => tokio::fs::remove_file(path).await.map_err(failed)?,
        Occupant::Listener(by) => {
            return Err(ServeError::Taken { path: owned(), by });
        }
        Occupant::NoSocket(what) => {
            return Err(ServeError::InTheWay {
                path: owned(),
                what,
            });
        }
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    let group = Group::from_name("tenantd").ok().flatten();
    if let Some(group) = &group {
        chown(path.as_std_path(), None, Some(group.gid)).map_err(|errno| failed(errno.into()))?;
    }
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    tokio::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .await
        .map_err(failed)?;
    Ok(listener)
}

/// Serves `router` on `listener` until `stop` resolves; requests at work are finished.
pub async fn serve(
    listener: UnixListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    axum::serve(
        listener,
        router.into_make_service_with_connect_info::<Peer>(),
    )
    .with_graceful_shutdown(stop)
    .await
    .map_err(ServeError::Serve)
}
