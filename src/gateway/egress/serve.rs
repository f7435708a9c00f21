//! Takes in connections and questions, each by the way that it came, for as long as somebody is there.
//! What becomes of them is decided by the ways in.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::book::Book;
use super::decision::By;
use super::door::Door;
use super::names::Names;
use super::web::{self, Aim};
use super::{Entrance, Settings, Sockets, transparent};

/// A connection, and its place among those that there may be.
type Arrival = (TcpStream, OwnedSemaphorePermit);

/// Serves a tenant until nobody is there any more or `stop` ends.
///
/// What was accepted is served, and what arrives while the door leaves stays in the sockets, where systemd sees it and
/// starts the next door.
pub async fn serve(
    door: Arc<Door>,
    book: Arc<Book>,
    sockets: Sockets,
    settings: Settings,
    stop: impl Future<Output = ()>,
) {
    let names = Arc::new(Names::new(Arc::clone(&door), Arc::clone(&book)));
    let places = Arc::new(Semaphore::new(settings.connections));
    let (sender, mut arrivals) = mpsc::unbounded_channel();
    let mut servers = JoinSet::new();
    for socket in sockets.names {
        servers.spawn(Arc::clone(&names).serve_udp(Arc::new(socket)));
    }
    for listener in sockets.streams {
        servers.spawn(accept(listener, Arc::clone(&places), sender.clone()));
    }
    let mut connections = JoinSet::new();
    let admit = |connections: &mut JoinSet<()>, (stream, place): Arrival| {
        let (door, names, book) = (Arc::clone(&door), Arc::clone(&names), Arc::clone(&book));
        connections.spawn(async move {
            admit(door, &names, &book, stream).await;
            drop(place);
        });
    };
    let mut empty_since = Instant::now();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(arrival) = arrivals.recv() => admit(&mut connections, arrival),
            Some(_) = connections.join_next(), if !connections.is_empty() => {
                empty_since = Instant::now();
            }
            () = sleep_until(empty_since + settings.idle), if connections.is_empty() => {
                if names.asked() + settings.idle <= Instant::now() {
                    break;
                }
                empty_since = names.asked();
            }
        }
    }
    servers.shutdown().await;
    while let Ok(arrival) = arrivals.try_recv() {
        admit(&mut connections, arrival);
    }
    let drained = timeout(settings.drain, async {
        while connections.join_next().await.is_some() {}
    });
    if drained.await.is_err() {
        tracing::warn!(open = connections.len(), "left with open connections");
    }
}

/// Takes in connections while there is room, without end.
async fn accept(listener: TcpListener, places: Arc<Semaphore>, arrivals: UnboundedSender<Arrival>) {
    // Never closed.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                if arrivals.send((stream, place)).is_err() {
                    return;
                }
            }
            // Descriptors or memory ran out, which passes; the door must stay.
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot accept");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Carries one connection, by the way in that it took.
async fn admit(door: Arc<Door>, names: &Names, book: &Book, stream: TcpStream) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    // Small messages go both ways; without this they would wait for each other.
    let _ = stream.set_nodelay(true);
    match Entrance::of(local) {
        Entrance::Names => {
            if let Err(error) = names.serve_tcp(stream).await {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a connection broke"
                );
            }
        }
        Entrance::Proxy => web::serve(door, By::Request, Aim::Proxy, stream).await,
        Entrance::Transparent(local) => transparent::carry(door, book, local, stream).await,
    }
}
