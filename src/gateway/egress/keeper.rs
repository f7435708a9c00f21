//! What a door keeps in order while it serves: its policy as installed, the host's addresses, the month's figures.
//! It looks every second and decides nothing: judging and counting are others' business.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use jiff::Timestamp;
use tokio::time::sleep;

use super::door::Door;
use super::judge::Judge;
use super::tally::Tally;
use super::usage::{Month, Usage};
use crate::host::files::{self, FileError};
use crate::host::{addresses, clock};
use crate::tenant::EgressRuntime;

/// Time between two looks, and so the longest until a changed policy is in force.
const LOOK: Duration = Duration::from_secs(1);

/// The host's addresses are asked for every so many looks.
const ADDRESSES: u32 = 30;

/// Largest policy that is read.
const LIMIT: u64 = 1024 * 1024;

/// Where a door's files are.
#[derive(Debug, Clone)]
pub struct Files {
    /// [`EgressRuntime`], installed with the tenant's units.
    pub policy: Utf8PathBuf,
    /// The directory of what survives the door.
    pub state: Utf8PathBuf,
}

/// Why a door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The policy does not read.
    #[error("{0} is broken; `tenantd apply` writes it anew")]
    Policy(Utf8PathBuf, #[source] serde_json::Error),
    /// The host's addresses are not known, and without them the host would not be safe from its tenants.
    #[error("cannot list this host's addresses")]
    Addresses(#[source] io::Error),
}

/// Keeps one door in order.
#[derive(Debug)]
pub struct Keeper {
    watch: Watch,
    tally: Tally,
}

/// Keeps a door under the policy that is installed.
#[derive(Debug)]
struct Watch {
    files: Files,
    door: Arc<Door>,
    /// What is in force, and when its file was written.
    runtime: EgressRuntime,
    installed: Option<Timestamp>,
    /// How much of the volume was used up at the last look, in steps that are told.
    told: Told,
}

/// How far a volume is used up, as far as somebody wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Below,
    /// 80 %.
    Nearly,
    /// All of it.
    UsedUp,
}

impl Told {
    fn of((passed, volume): (u64, u64)) -> Self {
        if passed >= volume {
            Self::UsedUp
        } else if u128::from(passed) * 5 >= u128::from(volume) * 4 {
            Self::Nearly
        } else {
            Self::Below
        }
    }
}

/// What is installed, read.
pub fn read(files: &Files) -> Result<(EgressRuntime, Option<Timestamp>), KeeperError> {
    // Before the file, so that a change in between is seen at the next look.
    let installed = files::modified(&files.policy);
    let bytes = files::read(&files.policy, LIMIT)?;
    let runtime = serde_json::from_slice(&bytes)
        .map_err(|error| KeeperError::Policy(files.policy.clone(), error))?;
    Ok((runtime, installed))
}

impl Keeper {
    /// Opens a door by what is installed and what was counted: `make` has the judge, the volume and the figures.
    ///
    /// # Errors
    /// The policy or the host's addresses are not known. Figures that cannot be read are begun anew.
    pub fn open(
        files: Files,
        make: impl FnOnce(Judge, u64, &Usage) -> Door,
    ) -> Result<Self, KeeperError> {
        let (runtime, installed) = read(&files)?;
        let month = Month::of(clock::now());
        let written = Usage::begin(&files.state, month);
        let judge = judge(&runtime)?;
        let door = Arc::new(make(judge, runtime.volume, &written));
        let tally = Tally::new(files.state.clone(), Arc::clone(&door.meter), written);
        let watch = Watch {
            told: Told::of(door.meter.of_volume()),
            files,
            door,
            runtime,
            installed,
        };
        Ok(Self { watch, tally })
    }

    /// The door.
    pub fn door(&self) -> Arc<Door> {
        Arc::clone(&self.watch.door)
    }

    /// Keeps the door in order, without end; can be cut anywhere. A slow disk holds up no look at the policy.
    pub async fn keep(&mut self) {
        tokio::join!(self.watch.keep(), self.tally.keep());
    }

    /// Writes the figures if they have changed, and begins a new month when it is time.
    pub async fn flush(&mut self) {
        self.tally.flush(Month::of(clock::now())).await;
    }
}

impl Watch {
    async fn keep(&mut self) {
        for look in 1_u32.. {
            sleep(LOOK).await;
            self.look_at_policy();
            if look.is_multiple_of(ADDRESSES) {
                self.change_judge();
            }
            self.look_at_volume();
        }
    }

    /// Takes in a policy that was installed meanwhile. One that does not read leaves the old one in force.
    fn look_at_policy(&mut self) {
        if files::modified(&self.files.policy) == self.installed {
            return;
        }
        match read(&self.files) {
            Ok((runtime, installed)) => {
                self.installed = installed;
                if runtime != self.runtime {
                    self.runtime = runtime;
                    self.door.meter.set_volume(self.runtime.volume);
                    self.change_judge();
                    tracing::info!(mode = %self.runtime.policy.mode, "another policy is in force");
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the old policy stays in force"
                );
            }
        }
    }

    fn change_judge(&self) {
        match judge(&self.runtime) {
            Ok(judge) => self.door.change(judge),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the old judgement stays in force"
                );
            }
        }
    }

    fn look_at_volume(&mut self) {
        let (passed, volume) = self.door.meter.of_volume();
        let now = Told::of((passed, volume));
        if now > self.told {
            let percent = if now == Told::UsedUp { 100 } else { 80 };
            tracing::warn!(
                passed,
                volume,
                percent,
                "{percent} % of the month's egress volume are used up"
            );
        }
        self.told = now;
    }
}

fn judge(runtime: &EgressRuntime) -> Result<Judge, KeeperError> {
    let host = addresses::own().map_err(KeeperError::Addresses)?;
    Ok(Judge::new(runtime.policy.clone(), host))
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;
    use rstest::rstest;

    use super::*;
    use crate::gateway::egress::judge::Refusal;
    use crate::gateway::egress::meter::{Meter, Way};
    use crate::gateway::egress::outside::Host;
    use crate::tenant::{EgressMode, EgressPolicy};

    #[rstest]
    #[case(0, 100, Told::Below)]
    #[case(79, 100, Told::Below)]
    #[case(80, 100, Told::Nearly)]
    #[case(100, 100, Told::UsedUp)]
    #[case(0, 0, Told::UsedUp)]
    #[case(u64::MAX - 1, u64::MAX, Told::Nearly)]
    fn volumes(#[case] passed: u64, #[case] volume: u64, #[case] expected: Told) {
        assert_eq!(Told::of((passed, volume)), expected);
    }

    fn files(dir: &Utf8Path) -> Files {
        Files {
            policy: dir.join("policy.json"),
            state: dir.to_owned(),
        }
    }

    /// Installs a policy, as something that was written at another time than the last.
    fn install(files: &Files, allow: &[&str], volume: u64) {
        let runtime = EgressRuntime {
            tenant: "foo-bar".parse().unwrap(),
            policy: EgressPolicy {
                mode: EgressMode::Allowlist,
                allow: allow.iter().map(|text| text.parse().unwrap()).collect(),
                ports: crate::tenant::WEB_PORTS.into(),
                private_networks: Vec::new(),
            },
            volume,
        };
        let before = files::modified(&files.policy);
        while files::modified(&files.policy) == before {
            std::fs::write(&files.policy, serde_json::to_vec(&runtime).unwrap()).unwrap();
        }
    }

    fn open(files: &Files) -> Keeper {
        Keeper::open(files.clone(), |judge, volume, usage| {
            let meter = Meter::new(volume, usage.destinations.clone());
            Door::new(judge, Box::new(Host::default()), meter)
        })
        .unwrap()
    }

    #[tokio::test]
    async fn a_policy_that_is_installed_comes_into_force_and_a_broken_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(Utf8Path::from_path(dir.path()).unwrap());
        install(&files, &["a.example"], 100);
        let mut keeper = open(&files);
        let judged = |keeper: &Keeper| {
            let name = "b.example".parse().unwrap();
            keeper.door().judge().name(&name, 443).map(drop)
        };
        assert_eq!(judged(&keeper), Err(Refusal::NotListed));
        install(&files, &["b.example"], 200);
        keeper.watch.look_at_policy();
        assert_eq!(judged(&keeper), Ok(()));
        assert_eq!(keeper.door().meter.of_volume(), (0, 200));
        std::fs::write(&files.policy, "{").unwrap();
        keeper.watch.look_at_policy();
        assert_eq!(judged(&keeper), Ok(()));
    }

    #[tokio::test]
    async fn figures_go_on_in_the_next_door() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(Utf8Path::from_path(dir.path()).unwrap());
        install(&files, &[], 100);
        let mut keeper = open(&files);
        keeper
            .door()
            .meter
            .connection("a.example:443")
            .count(Way::In, 99);
        keeper.flush().await;
        let keeper = open(&files);
        assert_eq!(keeper.door().meter.of_volume(), (99, 100));
        assert_eq!(keeper.watch.told, Told::Nearly);
    }

    #[test]
    fn a_policy_comes_into_force_while_no_thread_is_free_to_write_figures() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(Utf8Path::from_path(dir.path()).unwrap());
        install(&files, &[], 100);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        runtime.spawn_blocking(move || ends.recv());
        runtime.block_on(async {
            let mut keeper = open(&files);
            let door = keeper.door();
            door.meter.connection("a.example:443").count(Way::In, 1);
            let driver = async {
                // Until the figures are due, and longer.
                for _ in 0..20 {
                    tokio::time::advance(LOOK).await;
                }
                install(&files, &["b.example"], 200);
                for _ in 0..3 {
                    tokio::time::advance(LOOK).await;
                }
            };
            tokio::select! {
                () = keeper.keep() => {}
                () = driver => {}
            }
            assert_eq!(door.meter.of_volume(), (1, 200));
        });
        end.send(()).unwrap();
    }
}
