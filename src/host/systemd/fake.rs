//! A systemd for tests: it answers on a socket pair and does as its script says.
//! It knows jobs and lists of units, nothing about processes.

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use zbus::object_server::SignalEmitter;
use zbus::{Connection, OwnedObjectPath, connection, fdo, interface};

use super::Systemd;
use super::label;
use super::proxies::UnitRow;
use super::session::Connector;

/// The only unit whose properties the fake has.
pub(super) const UNIT: &str = "tenant-a.service";

/// When the fake sends the end of a job.
#[derive(Debug, Clone, Copy)]
pub(super) enum When {
    /// Before the call is answered, the worst order for the caller.
    BeforeAnswer,
    /// Right after the call is answered.
    AfterAnswer,
    /// Never: the connection is closed instead.
    Never,
}

/// What the fake did and shall do; shared by all its connections.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) when: When,
    pub(super) result: &'static str,
    /// Whether the conditions of [`UNIT`] were met at its last start.
    pub(super) condition: bool,
    pub(super) units: Vec<UnitRow>,
    pub(super) calls: Vec<String>,
    connections: Vec<Connection>,
}

#[derive(Debug, Clone)]
pub(super) struct Fake {
    pub(super) script: Arc<Mutex<Script>>,
    next_job: Arc<AtomicU32>,
}

impl Fake {
    pub(super) fn new(when: When, result: &'static str) -> Self {
        Self {
            script: Arc::new(Mutex::new(Script {
                when,
                result,
                condition: true,
                units: Vec::new(),
                calls: Vec::new(),
                connections: Vec::new(),
            })),
            next_job: Arc::new(AtomicU32::new(1)),
        }
    }

    /// The adapter under test, connected to this fake; each reconnection makes a new pair.
    pub(super) async fn systemd(&self) -> Systemd {
        let fake = self.clone();
        let connector = Connector::new(move || {
            let fake = fake.clone();
            async move { fake.connect().await }
        });
        Systemd::with_connector(connector).await.unwrap()
    }

    async fn connect(&self) -> zbus::Result<Connection> {
        let (ours, theirs) = UnixStream::pair()?;
        let server = connection::Builder::unix_stream(ours)
            .server(zbus::Guid::generate())
            .p2p()
            .serve_at("/org/freedesktop/systemd1", Manager(self.clone()))
            .serve_at(label::unit_path(UNIT), Unit(self.clone()))
            .build();
        let client = connection::Builder::unix_stream(theirs).p2p().build();
        let (server, client) = tokio::try_join!(server, client)?;
        self.script.lock().unwrap().connections.push(server);
        Ok(client)
    }

    pub(super) fn calls(&self) -> Vec<String> {
        self.script.lock().unwrap().calls.clone()
    }

    /// Breaks every connection.
    pub(super) async fn hang_up(&self) {
        let connections = std::mem::take(&mut self.script.lock().unwrap().connections);
        for connection in connections {
            connection.close().await.unwrap();
        }
    }

    /// The newest connection, to send signals on.
    pub(super) fn connection(&self) -> Connection {
        self.script
            .lock()
            .unwrap()
            .connections
            .last()
            .unwrap()
            .clone()
    }

    async fn job(&self, call: String, emitter: SignalEmitter<'_>) -> fdo::Result<OwnedObjectPath> {
        let id = self.next_job.fetch_add(1, Ordering::Relaxed);
        let path = OwnedObjectPath::try_from(format!("/org/freedesktop/systemd1/job/{id}"))
            .map_err(|error| fdo::Error::Failed(error.to_string()))?;
        let unit = call.split(' ').nth(1).unwrap_or_default().to_owned();
        let (when, result) = {
            let mut script = self.script.lock().unwrap();
            script.calls.push(call);
            (script.when, script.result)
        };
        let emitter = emitter.to_owned();
        let job = path.clone();
        let end = async move { Manager::job_removed(&emitter, id, job, &unit, result).await };
        match when {
            When::BeforeAnswer => end.await?,
            When::AfterAnswer => {
                tokio::spawn(end);
            }
            When::Never => {
                let fake = self.clone();
                tokio::spawn(async move { fake.hang_up().await });
            }
        }
        Ok(path)
    }
}

struct Manager(Fake);

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    fn subscribe(&self) {
        self.0
            .script
            .lock()
            .unwrap()
            .calls
            .push("Subscribe".to_owned());
    }

    fn ref_unit(&self, name: &str) {
        self.0
            .script
            .lock()
            .unwrap()
            .calls
            .push(format!("Ref {name}"));
    }

    fn unref_unit(&self, name: &str) {
        self.0
            .script
            .lock()
            .unwrap()
            .calls
            .push(format!("Unref {name}"));
    }

    async fn start_unit(
        &self,
        name: &str,
        mode: &str,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> fdo::Result<OwnedObjectPath> {
        self.0.job(format!("Start {name} {mode}"), emitter).await
    }

    async fn stop_unit(
        &self,
        name: &str,
        mode: &str,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> fdo::Result<OwnedObjectPath> {
        self.0.job(format!("Stop {name} {mode}"), emitter).await
    }

    fn list_units_by_patterns(&self, states: Vec<String>, patterns: Vec<String>) -> Vec<UnitRow> {
        let mut script = self.0.script.lock().unwrap();
        script
            .calls
            .push(format!("List {}", [states, patterns].concat().join(" ")));
        script.units.clone()
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: OwnedObjectPath,
        unit: &str,
        result: &str,
    ) -> zbus::Result<()>;
}

struct Unit(Fake);

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl Unit {
    #[zbus(property)]
    fn condition_result(&self) -> bool {
        self.0.script.lock().unwrap().condition
    }

    #[zbus(property)]
    fn condition_timestamp(&self) -> u64 {
        u64::from(!self.0.calls().is_empty())
    }
}
