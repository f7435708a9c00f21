//! One connection to systemd, its signals, and its replacement after a loss.
//! Signals are drained by one task at all times: a full queue would block every answer.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::{Mutex, broadcast};
use tokio_util::task::AbortOnDropHandle;
use zbus::message::Type;
use zbus::{Connection, MatchRule, Message, MessageStream};

use super::error::SystemdError;
use super::events::{self, UnitEvent};
use super::job::Jobs;
use super::proxies::ManagerProxy;
use super::{EVENT_QUEUE, EventSender, label};

const SERVICE: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// First and longest pause between attempts to connect again while someone listens.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

type Connecting = Pin<Box<dyn Future<Output = zbus::Result<Connection>> + Send>>;

/// Makes connections: to the system bus, or to a fake in tests.
pub(super) struct Connector(Box<dyn Fn() -> Connecting + Send + Sync>);

impl Connector {
    pub(super) fn system() -> Self {
        Self::new(Connection::system)
    }

    pub(super) fn new<F, R>(connect: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = zbus::Result<Connection>> + Send + 'static,
    {
        Self(Box::new(move || Box::pin(connect())))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

/// What all clones of [`super::Systemd`] share.
#[derive(Debug)]
pub(super) struct Shared {
    connector: Connector,
    current: Mutex<Option<Current>>,
    events: EventSender,
}

impl Shared {
    pub(super) fn new(connector: Connector) -> Arc<Self> {
        Arc::new(Self {
            connector,
            current: Mutex::new(None),
            events: broadcast::Sender::new(EVENT_QUEUE),
        })
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<UnitEvent> {
        self.events.subscribe()
    }

    /// The current session, or a new one when there is none or it was lost.
    pub(super) async fn session(self: &Arc<Self>) -> Result<Session, SystemdError> {
        let mut current = self.current.lock().await;
        if let Some(Current { session, .. }) = current.as_ref()
            && !session.connection.is_closed()
        {
            return Ok(session.clone());
        }
        let (session, signals) = self
            .open()
            .await
            .map_err(|error| SystemdError::Connect(Box::new(error)))?;
        let drain = tokio::spawn(drain(session.clone(), signals, Arc::downgrade(self)));
        let lost = current.replace(Current {
            session: session.clone(),
            _drain: AbortOnDropHandle::new(drain),
        });
        if lost.is_some() {
            // Nobody may be listening.
            let _ = self.events.send(UnitEvent::Missed);
        }
        Ok(session)
    }

    async fn open(&self) -> zbus::Result<(Session, impl Stream<Item = Message> + use<>)> {
        let connection = (self.connector.0)().await?;
        let manager = ManagerProxy::builder(&connection)
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await?;
        // Matches come before Subscribe, and both before any job, so that no end is missed.
        let rule = || MatchRule::builder().msg_type(Type::Signal).sender(SERVICE);
        let mut streams = Vec::new();
        for rule in [
            rule().interface(MANAGER).member("JobRemoved").build()?,
            rule().interface(MANAGER).member("Reloading").build()?,
            rule()
                .interface("org.freedesktop.DBus.Properties")
                .member("PropertiesChanged")
                .path_namespace(label::UNITS)
                .build()?,
        ] {
            let stream = MessageStream::for_match_rule(rule, &connection, None).await?;
            streams.push(stream.filter_map(|message| async { message.ok() }).boxed());
        }
        manager.subscribe().await?;
        let session = Session {
            connection,
            manager,
            jobs: Jobs::default(),
        };
        Ok((session, stream::select_all(streams)))
    }
}

/// One connection and what belongs to it.
#[derive(Debug, Clone)]
pub(super) struct Session {
    connection: Connection,
    manager: ManagerProxy<'static>,
    jobs: Jobs,
}

impl Session {
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn manager(&self) -> &ManagerProxy<'static> {
        &self.manager
    }

    pub(super) fn jobs(&self) -> &Jobs {
        &self.jobs
    }
}

/// The session in use and the task that drains its signals, which ends with it.
#[derive(Debug)]
struct Current {
    session: Session,
    _drain: AbortOnDropHandle<()>,
}

/// Takes signals off the connection until it is lost, then sees to a new one.
///
/// Boxed, because it leads back to [`Shared::session`], which spawns it.
fn drain(
    session: Session,
    mut signals: impl Stream<Item = Message> + Unpin + Send + 'static,
    shared: Weak<Shared>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        loop {
            let message = tokio::select! {
                message = signals.next() => message,
                () = session.connection.closed() => None,
            };
            let (Some(message), Some(shared)) = (message, shared.upgrade()) else {
                break;
            };
            if let Some(event) = take(&message, &session.jobs) {
                // Nobody may be listening; jobs are still awaited.
                let _ = shared.events.send(event);
            }
        }
        session.jobs.close();
        let mut pause = RETRY.0;
        while let Some(shared) = shared.upgrade().filter(|s| s.events.receiver_count() > 0) {
            match shared.session().await {
                Ok(_) => return,
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "no connection to systemd, trying again"
                ),
            }
            drop(shared);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
    })
}

fn take(message: &Message, jobs: &Jobs) -> Option<UnitEvent> {
    let header = message.header();
    match header.member()?.as_str() {
        "JobRemoved" => {
            let (path, unit, result) = events::job_removed(message)?;
            jobs.ended(&path, result.clone());
            events::is_ours(&unit).then_some(UnitEvent::JobEnded { unit, result })
        }
        "Reloading" => events::reloading(message).map(UnitEvent::Reloading),
        "PropertiesChanged" => events::properties_changed(message).map(UnitEvent::Changed),
        _ => None,
    }
}
