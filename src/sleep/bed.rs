//! What is remembered of one tenant between two looks: its door, when it was woken, what it computed.
//! All of it may be lost: a new process sees it again, later.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::decide::Door;
use super::wire::Told;
use crate::host::clock;
use crate::tenant::TenantId;

/// Two looks at what was computed are at least so far apart.
const CPU_SPAN: Duration = Duration::from_secs(4);

/// One tenant.
#[derive(Debug)]
pub struct Bed {
    /// The tenant.
    pub tenant: TenantId,
    /// Held by whoever puts it to sleep or wakes it.
    pub turn: tokio::sync::Mutex<()>,
    memory: Mutex<Memory>,
}

/// When the egress door and the endpoints' last wrote something down.
pub type Written = [Option<Timestamp>; 2];

/// See the module.
#[derive(Debug)]
pub struct Memory {
    door: Option<Connected>,
    /// When it was last woken, or first seen.
    pub woken: Instant,
    /// When it was first seen frozen.
    pub frozen: Option<Instant>,
    /// A start of its agent is on its way.
    pub starting: bool,
    /// A stop of its agent is on its way.
    pub stopping: bool,
    /// When its doors to the outside last wrote something down, and when that was first seen.
    egress: Option<(Written, Instant)>,
    cpu: Option<(Instant, u64)>,
    share: Option<u32>,
}

/// A door that is connected.
#[derive(Debug)]
struct Connected {
    /// Tells it from one that comes after it.
    number: u64,
    told: mpsc::Sender<Told>,
    is_idle: bool,
    closing: Option<oneshot::Sender<bool>>,
}

impl Bed {
    /// A tenant that is seen for the first time.
    pub fn new(tenant: TenantId) -> Self {
        Self {
            tenant,
            turn: tokio::sync::Mutex::default(),
            memory: Mutex::new(Memory {
                door: None,
                woken: clock::monotonic(),
                frozen: None,
                starting: false,
                stopping: false,
                egress: None,
                cpu: None,
                share: None,
            }),
        }
    }

    /// What is remembered.
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the door end its connections; whether it has, and nobody came meanwhile.
    pub async fn close(&self, how: Told, patience: Duration) -> bool {
        let Some(closed) = self.memory().ask_to_close(how) else {
            return true;
        };
        let closed = tokio::time::timeout(patience, closed).await;
        closed.is_ok_and(|closed| closed.unwrap_or(false))
    }
}

impl Memory {
    /// A door has come.
    pub fn connect(&mut self, number: u64, told: mpsc::Sender<Told>) {
        self.door = Some(Connected {
            number,
            told,
            is_idle: false,
            closing: None,
        });
    }

    /// A door has gone, unless another one took its place already.
    pub fn disconnect(&mut self, number: u64) {
        self.door.take_if(|door| door.number == number);
    }

    /// A door said whether it has something to do.
    pub fn note_idle(&mut self, is_idle: bool) {
        if let Some(door) = &mut self.door {
            door.is_idle = is_idle;
        }
    }

    /// The door's answer to being asked to close, or somebody who came in between.
    pub fn closed(&mut self, is_closed: bool) {
        if let Some(closing) = self.door.as_mut().and_then(|door| door.closing.take()) {
            // Who asked may have given up.
            let _ = closing.send(is_closed);
        }
    }

    /// Tells the door something, if there is one.
    pub fn tell(&self, told: Told) {
        if let Some(door) = &self.door {
            // One that does not read for so long is broken, and its connection ends.
            let _ = door.told.try_send(told);
        }
    }

    fn ask_to_close(&mut self, how: Told) -> Option<oneshot::Receiver<bool>> {
        let door = self.door.as_mut()?;
        let (closing, closed) = oneshot::channel();
        door.closing = Some(closing);
        let _ = door.told.try_send(how);
        Some(closed)
    }

    /// What its door last said.
    pub fn door(&self) -> Door {
        match &self.door {
            None => Door::Absent,
            Some(door) if door.is_idle => Door::Idle,
            Some(_) => Door::Active,
        }
    }

    /// Takes in when its doors to the outside last wrote something down; gives how long nothing has passed them since, as
    /// far as it was seen. The files' times only tell two writings apart: lengths are measured by the clock that never
    /// jumps.
    pub fn note_egress(&mut self, now: Instant, written: Written) -> Option<Duration> {
        if written == Written::default() {
            return None;
        }
        match self.egress {
            Some((before, since)) if before == written => Some(now.duration_since(since)),
            _ => {
                self.egress = Some((written, now));
                Some(Duration::ZERO)
            }
        }
    }

    /// Takes in how much it has computed since it started; gives thousandths of a processor over the last span.
    pub fn note_cpu(&mut self, now: Instant, used_us: Option<u64>) -> Option<u32> {
        let Some(used_us) = used_us else {
            (self.cpu, self.share) = (None, None);
            return None;
        };
        match self.cpu {
            Some((then, _)) if now.duration_since(then) < CPU_SPAN => {}
            Some((then, before)) => {
                let span = now.duration_since(then).as_micros().max(1);
                let used = u128::from(used_us.saturating_sub(before));
                self.share = Some(u32::try_from(used * 1000 / span).unwrap_or(u32::MAX));
                self.cpu = Some((now, used_us));
            }
            None => self.cpu = Some((now, used_us)),
        }
        self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_computed_is_told_per_time() {
        let bed = Bed::new("acme".parse().unwrap());
        let begin = clock::monotonic();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let mut memory = bed.memory();
        assert_eq!(memory.note_cpu(begin, Some(1_000_000)), None);
        assert_eq!(memory.note_cpu(after(1), Some(9_000_000)), None, "too soon");
        assert_eq!(memory.note_cpu(after(10), Some(6_000_000)), Some(500));
        // A container that was started anew counts from zero.
        assert_eq!(memory.note_cpu(after(20), Some(10)), Some(0));
        assert_eq!(memory.note_cpu(after(30), None), None);
    }

    #[test]
    fn what_passes_the_doors_to_the_outside_is_a_sign_of_life_whatever_the_hosts_clock_says() {
        let bed = Bed::new("acme".parse().unwrap());
        let begin = clock::monotonic();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let written = |text: &str| [Some(text.parse::<Timestamp>().unwrap()), None];
        let mut memory = bed.memory();
        assert_eq!(memory.note_egress(begin, [None; 2]), None);
        let first = written("2026-11-01T00:00:00Z");
        assert_eq!(memory.note_egress(begin, first), Some(Duration::ZERO));
        assert_eq!(
            memory.note_egress(after(60), first),
            Some(Duration::from_mins(1))
        );
        // The clock was set back.
        let second = written("2020-01-01T00:00:00Z");
        assert_eq!(memory.note_egress(after(61), second), Some(Duration::ZERO));
        assert_eq!(
            memory.note_egress(after(70), second),
            Some(Duration::from_secs(9))
        );
        let asked = [second[0], first[0]];
        assert_eq!(memory.note_egress(after(71), asked), Some(Duration::ZERO));
    }

    #[tokio::test]
    async fn a_door_that_is_gone_needs_no_closing_and_an_old_one_takes_no_new_one_along() {
        let bed = Bed::new("acme".parse().unwrap());
        assert!(bed.close(Told::Close, Duration::ZERO).await);
        let (told, _kept) = mpsc::channel(4);
        bed.memory().connect(1, told.clone());
        bed.memory().connect(2, told);
        bed.memory().disconnect(1);
        assert_eq!(bed.memory().door(), Door::Active);
        let closed = bed.close(Told::CloseNow, Duration::ZERO).await;
        assert!(!closed, "it does not answer");
        bed.memory().note_idle(true);
        assert_eq!(bed.memory().door(), Door::Idle);
        bed.memory().disconnect(2);
        assert_eq!(bed.memory().door(), Door::Absent);
    }
}
