//! `unit egress`: the egress door of a tenant, with the sockets that systemd hands over.

use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use camino::Utf8PathBuf;
use listenfd::ListenFd;
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::gateway::egress::{
    Book, Door, Files, Host, Keeper, LOOKUPS, Meter, Settings, Sockets, serve,
};
use crate::layout::Layout;
use crate::tenant::TenantId;

/// Threads that look names up and write figures, within the unit's `TasksMax=`; names never have all of them.
const THREADS: usize = LOOKUPS + 2;

/// Serves the tenant until nobody is there any more, or systemd says so.
pub(super) fn run(layout: &Layout, tenant: &TenantId) -> anyhow::Result<()> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(THREADS)
        .build()
        .context("cannot make a runtime")?
        .block_on(open(layout, tenant))
}

async fn open(layout: &Layout, tenant: &TenantId) -> anyhow::Result<()> {
    let sockets = sockets()?;
    let state = std::env::var("STATE_DIRECTORY")
        .map(Utf8PathBuf::from)
        .context("no $STATE_DIRECTORY: a door is started by its unit, tenantd-egress@.service")?;
    let book = Arc::new(Book::open(&state.join("names"))?);
    let files = Files {
        policy: layout.egress_file(tenant),
        state,
    };
    let mut keeper = Keeper::open(files, |judge, volume, usage| {
        let meter = Meter::new(volume, usage.destinations.clone());
        Door::new(judge, Box::new(Host::default()), meter)
    })?;
    let door = keeper.door();
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let stop = async move {
        terminate.recv().await;
    };
    tokio::select! {
        () = serve(door, book, sockets, Settings::default(), stop) => {}
        () = keeper.keep() => {}
    }
    keeper.flush().await;
    Ok(())
}

/// The sockets of `tenantd-egress@.socket`, each as what it is.
fn sockets() -> anyhow::Result<Sockets> {
    let mut handed = ListenFd::from_env();
    let mut sockets = Sockets {
        names: Vec::new(),
        streams: Vec::new(),
    };
    for index in 0..handed.len() {
        if let Ok(Some(socket)) = handed.take_udp_socket(index) {
            socket.set_nonblocking(true)?;
            sockets.names.push(UdpSocket::from_std(socket)?);
        } else if let Ok(Some(listener)) = handed.take_tcp_listener(index) {
            listener.set_nonblocking(true)?;
            sockets.streams.push(TcpListener::from_std(listener)?);
        } else {
            bail!("the socket with number {index} is neither TCP nor UDP");
        }
    }
    ensure!(
        !sockets.streams.is_empty(),
        "no sockets were handed over: a door is started by tenantd-egress@.socket"
    );
    Ok(sockets)
}
