//! What all ways out share: policy, addresses, meter and log of one tenant, and the connections that are open.
//! It reaches a destination or says why not; the ways in turn that into answers of their own protocol.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::decision::{By, Log};
use super::judge::{Allowed, Judge, Refusal};
use super::meter::{Flow, Meter};
use super::outside::{Outside, Unreached, dial, lookup, resolve};
use crate::tenant::{EgressMode, HostName};

/// Where a connection is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// To a name.
    Name(HostName, u16),
    /// To a bare address.
    Address(IpAddr, u16),
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Address(address, port) => {
                write!(f, "{}", std::net::SocketAddr::new(*address, *port))
            }
        }
    }
}

/// A connection to a goal.
#[derive(Debug)]
pub struct Reached {
    /// The connection.
    pub stream: TcpStream,
    /// Counts what it carries.
    pub flow: Flow,
    /// Ends when it must be cut.
    pub cut: CancellationToken,
    /// The list names the goal with its port, so whatever is spoken there is the operator's choice.
    pub any_protocol: bool,
    pub(super) open: Open,
}

/// One tenant's egress door.
#[derive(Debug)]
pub struct Door {
    judge: RwLock<Arc<Judge>>,
    outside: Box<dyn Outside>,
    /// The meter.
    pub meter: Arc<Meter>,
    /// The log.
    pub log: Log,
    open: Arc<OpenConnections>,
}

impl Door {
    /// A door under the judgement of `judge`.
    pub fn new(judge: Judge, outside: Box<dyn Outside>, meter: Meter) -> Self {
        Self {
            judge: RwLock::new(Arc::new(judge)),
            outside,
            meter: Arc::new(meter),
            log: Log::default(),
            open: Arc::default(),
        }
    }

    /// The judge of now.
    pub fn judge(&self) -> Arc<Judge> {
        Arc::clone(&self.judge.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Judges by another policy from now on, and cuts what it does not allow any more. What it allows goes on.
    pub fn change(&self, judge: Judge) {
        let judge = Arc::new(judge);
        *self.judge.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&judge);
        self.open
            .retain(|connection| connection.is_allowed_by(&judge));
    }

    /// Whether a name has an address that some connection may go to.
    ///
    /// # Errors
    /// It is not allowed, or not to be found.
    pub async fn look_up(&self, name: &HostName) -> Result<(), Unreached> {
        let judge = self.judge();
        let looked = async {
            judge.lookup(name)?;
            // Which port is meant shows when it is dialled; exceptions may cover some ports only.
            lookup(&*self.outside, name).await
        };
        match looked.await {
            Ok(addresses) if addresses.is_empty() => Err(Refusal::NoAddress.into()),
            Ok(_) => Ok(()),
            Err(Unreached::Refused(refusal)) => {
                self.log.refused(By::Name, name.as_str(), refusal);
                self.meter.refusal(name.as_str());
                Err(refusal.into())
            }
            Err(error) => Err(error),
        }
    }

    /// Connects to a goal, if that is allowed.
    ///
    /// # Errors
    /// It is not, or nobody answers there.
    pub async fn reach(&self, by: By, goal: Goal) -> Result<Reached, Unreached> {
        let reached = self.try_reach(by, &goal).await;
        if let Err(Unreached::Refused(refusal)) = &reached {
            self.refuse(by, &goal.to_string(), *refusal);
        }
        reached
    }

    /// Logs and counts a refusal.
    pub fn refuse(&self, by: By, destination: &str, refusal: Refusal) {
        self.log.refused(by, destination, refusal);
        self.meter.refusal(destination);
    }

    fn judge_again(&self, goal: &Goal, address: IpAddr) -> Result<(), Refusal> {
        let judge = self.judge();
        judged(&judge, goal)?;
        judge.address(address, goal.port())
    }

    async fn try_reach(&self, by: By, goal: &Goal) -> Result<Reached, Unreached> {
        let judge = self.judge();
        let allowed = judged(&judge, goal)?;
        if self.meter.used_up().is_cancelled() {
            return Err(Refusal::Volume.into());
        }
        let addresses = match goal {
            Goal::Name(name, port) => resolve(&*self.outside, &judge, name, *port).await?,
            Goal::Address(address, _) => vec![*address],
        };
        let (stream, address) = dial(&*self.outside, &addresses, goal.port()).await?;
        let destination = goal.to_string();
        let reported = judge.is_reported(&allowed);
        self.log.allowed(by, &destination, Some(address), reported);
        let cut = self.meter.used_up().child_token();
        let reached = Reached {
            stream,
            flow: self.meter.connection(&destination),
            any_protocol: allowed.is_any_protocol(),
            open: self.open.enter(goal.clone(), address, cut.clone()),
            cut,
        };
        // Another policy may have come while this was looked up and dialled, and did not see it among what is open.
        self.judge_again(goal, address)?;
        Ok(reached)
    }
}

impl Goal {
    /// The port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Name(_, port) | Self::Address(_, port) => *port,
        }
    }
}

pub(super) fn judged(judge: &Judge, goal: &Goal) -> Result<Allowed, Refusal> {
    match goal {
        Goal::Name(name, port) => judge.name(name, *port),
        Goal::Address(address, port) => judge.literal(*address, *port),
    }
}

/// What is open, so that a changed policy can cut it.
#[derive(Debug, Default)]
struct OpenConnections {
    next: AtomicU64,
    all: Mutex<HashMap<u64, Connection>>,
}

#[derive(Debug)]
struct Connection {
    goal: Goal,
    address: IpAddr,
    cut: CancellationToken,
    /// It goes to a name, and nobody has read the same name inside.
    is_unread: bool,
}

impl Connection {
    fn is_allowed_by(&self, judge: &Judge) -> bool {
        let Ok(allowed) = judged(judge, &self.goal) else {
            return false;
        };
        let may_be_unread = judge.mode() != EgressMode::Allowlist || allowed.is_any_protocol();
        (may_be_unread || !self.is_unread) && judge.address(self.address, self.goal.port()).is_ok()
    }
}

/// Takes its connection off the list when it ends.
#[derive(Debug)]
pub(super) struct Open {
    id: u64,
    list: Arc<OpenConnections>,
}

impl OpenConnections {
    fn enter(self: &Arc<Self>, goal: Goal, address: IpAddr, cut: CancellationToken) -> Open {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let connection = Connection {
            goal,
            address,
            cut,
            is_unread: false,
        };
        self.lock().insert(id, connection);
        Open {
            id,
            list: Arc::clone(self),
        }
    }

    fn retain(&self, is_allowed: impl Fn(&Connection) -> bool) {
        for connection in self.lock().values() {
            if !is_allowed(connection) {
                connection.cut.cancel();
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Connection>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// The connection carries what says no name, so a list of names would not allow it.
    pub(super) fn mark_unread(&self) {
        if let Some(connection) = self.list.lock().get_mut(&self.id) {
            connection.is_unread = matches!(connection.goal, Goal::Name(..));
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.list.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io;
    use std::net::SocketAddr;
    use std::sync::OnceLock;

    use async_trait::async_trait;
    use tokio::net::TcpListener;

    use super::*;
    use crate::gateway::egress::Destinations;
    use crate::tenant::EgressPolicy;

    fn judge(mode: EgressMode) -> Judge {
        let policy = EgressPolicy {
            mode,
            ..EgressPolicy::default()
        };
        Judge::new(policy, BTreeSet::new())
    }

    /// While it connects, another policy is installed.
    #[derive(Debug)]
    struct Meanwhile(Arc<OnceLock<Arc<Door>>>);

    #[async_trait]
    impl Outside for Meanwhile {
        async fn lookup(&self, _: &HostName) -> io::Result<Vec<IpAddr>> {
            Ok(vec!["93.184.215.14".parse().unwrap()])
        }

        async fn connect(&self, _: SocketAddr) -> io::Result<TcpStream> {
            self.0.get().unwrap().change(judge(EgressMode::Allowlist));
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            TcpStream::connect(listener.local_addr()?).await
        }
    }

    #[tokio::test]
    async fn a_policy_that_comes_while_a_connection_is_made_counts() {
        let place = Arc::new(OnceLock::new());
        let door = Arc::new(Door::new(
            judge(EgressMode::Open),
            Box::new(Meanwhile(Arc::clone(&place))),
            Meter::new(u64::MAX, Destinations::new()),
        ));
        place.set(Arc::clone(&door)).unwrap();
        let goal = Goal::Name("a.example".parse().unwrap(), 443);
        let reached = door.reach(By::Connect, goal).await.map(drop);
        assert!(
            matches!(reached, Err(Unreached::Refused(Refusal::NotListed))),
            "{reached:?}"
        );
    }

    /// An Internet of one server that takes connections and says nothing.
    #[derive(Debug)]
    struct Silent(TcpListener);

    #[async_trait]
    impl Outside for Silent {
        async fn lookup(&self, _: &HostName) -> io::Result<Vec<IpAddr>> {
            Ok(vec!["93.184.215.14".parse().unwrap()])
        }

        async fn connect(&self, _: SocketAddr) -> io::Result<TcpStream> {
            TcpStream::connect(self.0.local_addr()?).await
        }
    }

    fn listing(entry: &str) -> Judge {
        let policy = EgressPolicy {
            mode: EgressMode::Allowlist,
            allow: vec![entry.parse().unwrap()],
            ..EgressPolicy::default()
        };
        Judge::new(policy, BTreeSet::new())
    }

    #[rstest::rstest]
    #[case("a.example", false, false)]
    #[case("a.example", true, true)]
    #[case("a.example:443", true, false)]
    #[tokio::test]
    async fn a_list_of_names_cuts_what_says_no_name(
        #[case] entry: &str,
        #[case] is_unread: bool,
        #[case] is_cut: bool,
    ) {
        let silent = Silent(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let meter = Meter::new(u64::MAX, Destinations::new());
        let observing = judge(EgressMode::Observe);
        let door = Door::new(observing, Box::new(silent), meter);
        let goal = Goal::Name("a.example".parse().unwrap(), 443);
        let reached = door.reach(By::Connect, goal).await.unwrap();
        if is_unread {
            reached.open.mark_unread();
        }
        door.change(listing(entry));
        assert_eq!(reached.cut.is_cancelled(), is_cut);
    }
}
