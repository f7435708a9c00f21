//! A tenant's life in a model: the pure decisions (`verbs`, `decide`, `judge`, `diagnose`, `policy`, the state machine)
//! drive a simulated systemd through any interleaving of verbs, crashes of the agent and of tenantd, and time.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::decide::{Agent, Desired, Observed, Step, decide};
use super::diagnose::{Symptoms, cause};
use super::judge::judge;
use super::policy::{Recovery, Standing, breaker, is_unhealthy, recovery};
use super::verbs::refusal;
use super::view::UnitView;
use crate::host::systemd::ActiveState;
use crate::node::FailureSettings;
use crate::state::{OperationKind as Verb, Retry, Rollback, Wanted};
use crate::tenant::{Edge, FailureCause, TenantId, TenantState, WakeMode};

/// Days for which the state of a terminated tenant is kept.
const RETENTION: i64 = 14;

/// What happens.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// An operator gives a revision that works, or one that does not.
    Apply { good: bool },
    /// An operator, or whoever bills, gives a verb.
    Ask(Verb),
    /// `remove --purge`.
    Purge,
    /// The agent ends; with `ill`, each of its next starts fails too, until it is cured.
    Crash { ill: bool, oom: bool },
    /// What made the agent fail has passed.
    Cure,
    /// The agent runs and does not answer.
    Silent,
    /// Time passes, and tenantd looks around.
    Wait { minutes: i64 },
    /// tenantd is killed after so many steps of what it does next; then it starts again.
    Killed { after: usize },
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one independent fact of the world"
)]
struct World {
    state: TenantState,
    wanted: Wanted,
    before_removal: Wanted,
    cause: Option<FailureCause>,
    since: Timestamp,
    current: Option<u64>,
    good: Option<u64>,
    /// Whether each revision works; the first is number 1.
    revisions: Vec<bool>,
    retry: Retry,
    rollbacks: Vec<Rollback>,
    erase_at: Option<Timestamp>,
    now: Timestamp,
    ill: bool,
    oom: bool,
    observed: Observed,
    installed: Option<u64>,
    service: UnitView,
    has_data: bool,
    asked_to_purge: bool,
    /// Steps until tenantd is killed.
    steps_left: usize,
}

/// tenantd was killed.
struct Killed;

impl World {
    fn new() -> Self {
        let now = "2026-11-21T10:00:00Z".parse().unwrap();
        let mut world = Self {
            state: TenantState::Requested,
            wanted: Wanted::Running,
            before_removal: Wanted::Running,
            cause: None,
            since: now,
            current: None,
            good: None,
            revisions: Vec::new(),
            retry: Retry::default(),
            rollbacks: Vec::new(),
            erase_at: None,
            now,
            ill: false,
            oom: false,
            observed: Observed::default(),
            installed: None,
            service: UnitView::default(),
            has_data: true,
            asked_to_purge: false,
            steps_left: usize::MAX,
        };
        world.go(&[Edge::Provision]);
        world.during(|world| world.bring_in(true));
        world
    }

    /// The only way in which the state changes here: along edges that are drawn.
    fn go(&mut self, way: &[Edge]) {
        for edge in way {
            self.state = self.state.follow(*edge).unwrap();
            self.since = self.now;
        }
    }

    fn by(&mut self, edge: Edge) {
        if self.state != edge.ends().1 {
            let way = self.state.way_by(edge).unwrap();
            self.go(&way);
        }
        self.cause = None;
    }

    fn at(&mut self, state: TenantState, cause: Option<FailureCause>) {
        let way = self.state.way_to(state).unwrap();
        self.go(&way);
        self.cause = cause;
    }

    fn step(&mut self) -> Result<(), Killed> {
        self.steps_left = self.steps_left.checked_sub(1).ok_or(Killed)?;
        Ok(())
    }

    fn works(&self) -> bool {
        let revision = self
            .installed
            .and_then(|number| usize::try_from(number).ok());
        !self.ill && revision.is_some_and(|number| self.revisions[number - 1])
    }

    fn start_agent(&mut self) -> bool {
        self.observed.agent = if self.works() {
            Agent::Active
        } else {
            Agent::Failed
        };
        self.observed.running_revision = self.works().then_some(self.installed).flatten();
        self.observed.helpers_active = true;
        let (active, result) = match self.observed.agent {
            Agent::Active => (ActiveState::Active, "success"),
            _ if self.oom => (ActiveState::Failed, "oom-kill"),
            _ => (ActiveState::Failed, "exit-code"),
        };
        self.service = UnitView {
            active,
            sub: String::new(),
            result: result.to_owned(),
            status: 3,
            restarts: 4,
        };
        self.works()
    }

    fn symptoms(&self) -> Symptoms {
        Symptoms {
            service: self.service.clone(),
            ..Symptoms::default()
        }
    }

    /// As `converge` does it; says whether the agent came up where it was started.
    fn converge(&mut self) -> Result<bool, Killed> {
        let mut came_up = true;
        for _ in 0..4 {
            let desired = match self.current.filter(|_| self.wanted != Wanted::Removed) {
                None => Desired::Absent,
                Some(_) if self.wanted.is_held() => Desired::Held,
                Some(revision) => Desired::Running {
                    revision,
                    wake: WakeMode::AlwaysOn,
                },
            };
            let wanted = match desired {
                Desired::Absent => None,
                _ => self.current,
            };
            let differs = self.installed != wanted;
            self.observed.differing = differs.then(|| "/unit".into()).into_iter().collect();
            for step in decide(&desired, &self.observed) {
                self.step()?;
                match step {
                    Step::Hold => self.observed.held = true,
                    Step::Release => self.observed.held = false,
                    Step::StopAgent => {
                        self.observed.agent = Agent::Inactive;
                        self.observed.running_revision = None;
                        self.service = UnitView::default();
                    }
                    Step::StopHelpers => {
                        self.observed.helpers_active = false;
                        self.observed.socket_listening = false;
                    }
                    Step::Install { .. } | Step::Reload => self.installed = wanted,
                    Step::Listen => self.observed.socket_listening = true,
                    // Nothing in this world has limits, and nobody sleeps.
                    Step::AdjustLimits
                    | Step::CloseEgress
                    | Step::LimitStorage
                    | Step::RenewEndpoints
                    | Step::RestartJournal
                    | Step::StartTimer
                    | Step::StopTimer => {}
                    Step::StartAgent | Step::RestartAgent => {
                        assert!(
                            !self.observed.held && !self.wanted.is_held(),
                            "a held agent is started"
                        );
                        came_up = self.start_agent();
                        if !came_up {
                            return Ok(false);
                        }
                    }
                }
            }
        }
        Ok(came_up)
    }

    fn bring_in(&mut self, good: bool) -> Result<(), Killed> {
        self.revisions.push(good);
        let number = self.revisions.len() as u64;
        self.current = Some(number);
        self.step()?;
        let came_up = self.converge()?;
        // A bad one that comes up beside an agent which is already ill shows nothing.
        let is_up = came_up
            && (self.wanted.is_held()
                || self.observed.agent == Agent::Active
                || self.start_agent());
        if is_up {
            if self.wanted == Wanted::Running {
                self.good = Some(number);
                self.retry = Retry::default();
                for rollback in &mut self.rollbacks {
                    rollback.counts = false;
                }
            }
            self.settle();
            return Ok(());
        }
        let why = Some(cause(&self.symptoms()));
        self.rollbacks.push(Rollback {
            revision: number,
            at: self.now,
            image: None,
            cause: why,
            counts: true,
        });
        self.current = self.good;
        self.step()?;
        // As asking it through its ingress does, which wakes it.
        let back = self.converge()? && (self.wanted.is_held() || self.start_agent());
        match (self.current, back) {
            (Some(_), true) => self.settle(),
            _ => self.at(TenantState::Failed, why),
        }
        Ok(())
    }

    fn settle(&mut self) {
        let state = match self.wanted {
            Wanted::Running => TenantState::Running,
            Wanted::Suspended => TenantState::Suspended,
            Wanted::Stopped | Wanted::Removed => TenantState::Stopped,
        };
        self.at(state, None);
    }

    fn bring_up(&mut self) -> Result<(), Killed> {
        if self.current.is_none() {
            return Ok(());
        }
        self.wanted = Wanted::Running;
        if self.state != TenantState::Running {
            self.by(Edge::Start);
        }
        self.step()?;
        if self.converge()? && self.start_agent() {
            self.settle();
        } else {
            let why = cause(&self.symptoms());
            self.at(TenantState::Failed, Some(why));
        }
        Ok(())
    }

    fn hold(&mut self, wanted: Wanted, edge: Edge) -> Result<(), Killed> {
        self.wanted = wanted;
        self.step()?;
        self.converge()?;
        self.by(edge);
        Ok(())
    }

    fn remove(&mut self, purge: bool) -> Result<(), Killed> {
        if self.state != TenantState::Terminated {
            if self.wanted != Wanted::Removed {
                self.before_removal = self.wanted;
            }
            self.wanted = Wanted::Removed;
            self.step()?;
            self.converge()?;
            self.by(Edge::Terminate);
            let later = self.now + SignedDuration::from_hours(24 * RETENTION);
            self.erase_at.get_or_insert(later);
        }
        self.step()?;
        if purge {
            let is_due = self.erase_at.is_some_and(|at| at <= self.now);
            assert!(self.asked_to_purge || is_due, "erased before its time");
            self.has_data = false;
        }
        Ok(())
    }

    fn reclaim(&mut self) -> Result<(), Killed> {
        self.by(Edge::Reclaim);
        self.wanted = self.before_removal;
        self.erase_at = None;
        self.step()?;
        if self.wanted == Wanted::Running {
            return self.bring_up();
        }
        self.converge()?;
        self.settle();
        Ok(())
    }

    fn ask(&mut self, verb: Verb, purge: bool) -> Result<(), Killed> {
        if refusal(verb, purge, false, self.state, self.wanted).is_some() {
            return Ok(());
        }
        match verb {
            Verb::Start => {
                self.retry = Retry::default();
                for rollback in &mut self.rollbacks {
                    rollback.counts = false;
                }
                self.bring_up()
            }
            Verb::Resume => self.bring_up(),
            Verb::Stop => self.hold(Wanted::Stopped, Edge::Stop),
            Verb::Suspend => self.hold(Wanted::Suspended, Edge::Suspend),
            Verb::Restart if self.current.is_some() => {
                self.by(Edge::Restart);
                self.step()?;
                self.converge()?;
                if self.start_agent() {
                    self.settle();
                } else {
                    let why = cause(&self.symptoms());
                    self.at(TenantState::Failed, Some(why));
                }
                Ok(())
            }
            Verb::Remove => self.remove(purge),
            Verb::Reclaim => self.reclaim(),
            _ => Ok(()),
        }
    }

    /// What the supervisor records when nothing is at work.
    fn look(&mut self) {
        if self.current.is_none() || !self.has_data {
            return;
        }
        let judged = judge(
            self.state,
            self.wanted,
            None,
            &self.service,
            false,
            false,
            false,
        );
        if let Some((state, _)) = judged
            && state != self.state
        {
            let why = matches!(state, TenantState::Failed | TenantState::Restarting)
                .then(|| cause(&self.symptoms()));
            self.at(state, why);
        }
    }

    /// What tenantd does by itself.
    fn tend(&mut self) -> Result<(), Killed> {
        self.look();
        let settings = FailureSettings::default();
        if self.state == TenantState::Terminated {
            return match self.erase_at {
                Some(at) if at <= self.now => self.remove(true),
                _ => Ok(()),
            };
        }
        let tenant: TenantId = "acme".parse().unwrap();
        let standing = Standing {
            tenant: &tenant,
            state: self.state,
            wanted: self.wanted,
            cause: self.cause,
            since: self.since,
            is_installed: self.current.is_some(),
            retry: self.retry,
            is_broken: breaker(&self.rollbacks, &settings).is_some(),
        };
        match recovery(&standing, &settings, self.now) {
            Recovery::Nothing => Ok(()),
            Recovery::Settled => {
                self.retry = Retry::default();
                Ok(())
            }
            Recovery::Plan(at) => {
                self.retry.next_try = Some(at);
                Ok(())
            }
            Recovery::Try => {
                self.retry.attempts += 1;
                self.retry.next_try = None;
                self.step()?;
                self.bring_up()
            }
        }
    }

    /// Runs one operation; where tenantd is killed in it, the next one takes up what is wanted.
    fn during(&mut self, work: impl FnOnce(&mut Self) -> Result<(), Killed>) {
        if work(self).is_err() {
            self.steps_left = usize::MAX;
            self.look();
            // Operations are taken up from their record: the model's are known by what is wanted.
            let taken_up = match self.wanted {
                Wanted::Removed => self.remove(false),
                Wanted::Stopped => self.hold(Wanted::Stopped, Edge::Stop),
                Wanted::Suspended => self.hold(Wanted::Suspended, Edge::Suspend),
                Wanted::Running if self.current != self.good && self.good.is_some() => {
                    self.current = self.good;
                    self.bring_up()
                }
                Wanted::Running => self.bring_up(),
            };
            assert!(taken_up.is_ok());
        }
        self.steps_left = usize::MAX;
        self.look();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Apply { good } => {
                let open = breaker(&self.rollbacks, &FailureSettings::default()).is_some();
                let refused = refusal(Verb::Apply, false, false, self.state, self.wanted).is_some();
                if !open && !refused && self.wanted != Wanted::Removed {
                    let first = if self.current.is_some() {
                        Edge::Update
                    } else {
                        Edge::Provision
                    };
                    self.by(first);
                    self.during(|world| world.bring_in(good));
                }
            }
            Event::Ask(verb) => self.during(|world| world.ask(verb, false)),
            Event::Purge => {
                self.asked_to_purge = true;
                self.during(|world| world.ask(Verb::Remove, true));
            }
            Event::Crash { ill, oom } => {
                (self.ill, self.oom) = (ill, oom);
                if self.observed.agent == Agent::Active {
                    self.start_agent();
                    self.look();
                }
            }
            Event::Cure => self.ill = false,
            Event::Silent => {
                let failures =
                    [1, 2, 3].map(|minute| self.since + SignedDuration::from_mins(minute));
                let settings = FailureSettings::default();
                let is_silent = is_unhealthy(&failures, Some(self.since), &settings);
                if is_silent && self.state == TenantState::Running {
                    self.during(|world| world.ask(Verb::Restart, false));
                }
            }
            Event::Wait { minutes } => {
                self.now += SignedDuration::from_mins(minutes);
                self.during(Self::tend);
            }
            Event::Killed { after } => self.steps_left = after,
        }
    }

    /// What must hold whenever nothing is at work.
    fn is_sound(&self) -> Result<(), String> {
        let runs = self.observed.running_revision;
        let fault = if !self.has_data {
            None
        } else if self.wanted.is_held() && runs.is_some() {
            Some("a held or removed tenant runs")
        } else if runs.is_some() && runs != self.current {
            Some("another revision runs than the one that is current")
        } else if runs.is_some_and(|n| usize::try_from(n).is_ok_and(|n| !self.revisions[n - 1])) {
            Some("a revision runs that never worked")
        } else {
            match self.state {
                TenantState::Running if runs.is_none() => Some("running, and nothing runs"),
                TenantState::Failed if self.cause.is_none() => Some("failed without a cause"),
                TenantState::Running
                | TenantState::Failed
                | TenantState::Stopped
                | TenantState::Suspended
                | TenantState::Terminated => None,
                _ => Some("between two states, and nobody is at work"),
            }
        };
        fault.map_or(Ok(()), |fault| {
            Err(format!(
                "{fault}: {}, wanted {:?}, runs {runs:?}",
                self.state, self.wanted
            ))
        })
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    let verbs = [
        Verb::Start,
        Verb::Stop,
        Verb::Restart,
        Verb::Suspend,
        Verb::Resume,
        Verb::Remove,
        Verb::Reclaim,
    ];
    prop_oneof![
        3 => any::<bool>().prop_map(|good| Event::Apply { good }),
        6 => prop::sample::select(verbs.to_vec()).prop_map(Event::Ask),
        1 => Just(Event::Purge),
        3 => any::<(bool, bool)>().prop_map(|(ill, oom)| Event::Crash { ill, oom }),
        2 => Just(Event::Cure),
        1 => Just(Event::Silent),
        4 => (0_i64..120).prop_map(|minutes| Event::Wait { minutes }),
        1 => Just(Event::Wait { minutes: (RETENTION + 1) * 24 * 60 }),
        3 => (0_usize..6).prop_map(|after| Event::Killed { after }),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_a_tenant_runs_a_good_release_or_says_why_not_and_keeps_its_data(
        events in prop::collection::vec(any_event(), 0..40),
    ) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
            if !world.has_data {
                return Ok(());
            }
            if let Err(fault) = world.is_sound() {
                prop_assert!(false, "after {event:?}: {fault}");
            }
        }
        // Once all is well again and time passes, whoever is wanted to run runs, unless the breaker is open.
        world.ill = false;
        for _ in 0..4 {
            world.happen(Event::Wait { minutes: 61 });
        }
        let is_broken = breaker(&world.rollbacks, &FailureSettings::default()).is_some();
        // One that was applied to a held tenant shows only at its start that it does not work.
        let works = world.works();
        let should_run = world.wanted == Wanted::Running && works && !is_broken;
        prop_assert!(!should_run || world.state == TenantState::Running, "{} stays down", world.state);
    }
}
