//! systemd over D-Bus: jobs that are awaited, units as plain values, changes as events.
//! It owns the connection and its renewal; what to start and when is decided elsewhere.

mod error;
mod events;
#[cfg(test)]
mod fake;
mod job;
mod label;
mod proxies;
mod session;
mod unit;

use std::sync::Arc;

use tokio::sync::broadcast;

pub use error::SystemdError;
pub use events::{UnitChange, UnitEvent, UnitEvents};
pub use job::JobResult;
pub use unit::{ActiveState, LoadState, ServiceDetails, UnitDetails, UnitStatus};

use error::call_failed;
use session::{Connector, Shared};
use unit::Properties;

/// Only units with these prefixes are reported by [`Systemd::events`].
const PREFIXES: [&str; 2] = ["tenant-", "tenantd-"];

/// The D-Bus interface of the properties that every unit has.
const UNIT_INTERFACE: &str = "org.freedesktop.systemd1.Unit";
/// The D-Bus interface of the properties that only services have.
const SERVICE_INTERFACE: &str = "org.freedesktop.systemd1.Service";

/// The system's service manager. Cheap to clone; all clones share one connection.
///
/// A lost connection is made anew by the next call, or by itself while someone
/// listens to [`Systemd::events`].
#[derive(Debug, Clone)]
pub struct Systemd {
    shared: Arc<Shared>,
}

impl Systemd {
    /// Connects to the system bus and subscribes to systemd's signals.
    pub async fn connect() -> Result<Self, SystemdError> {
        Self::with_connector(Connector::system()).await
    }

    async fn with_connector(connector: Connector) -> Result<Self, SystemdError> {
        let shared = Shared::new(connector);
        shared.session().await?;
        Ok(Self { shared })
    }

    /// Has systemd read all unit files again; returns when it has.
    ///
    /// Reloads are expensive (a third of a second with a hundred tenants): the caller
    /// serialises and coalesces them.
    pub async fn reload(&self) -> Result<(), SystemdError> {
        let session = self.shared.session().await?;
        session
            .manager()
            .reload()
            .await
            .map_err(|error| call_failed("reload", "", error))
    }

    /// Starts `unit` and waits for the job's end. Dropping the future leaves the job running.
    ///
    /// [`JobResult::Skipped`] tells that a condition of the unit was not met.
    pub async fn start(&self, unit: &str) -> Result<JobResult, SystemdError> {
        let session = self.shared.session().await?;
        let manager = session.manager();
        // A unit that nothing refers to is unloaded when its job ends, and forgets that its
        // condition was not met.
        manager
            .ref_unit(unit)
            .await
            .map_err(|error| call_failed("start", unit, error))?;
        let result = self.start_and_judge(unit).await;
        // If this fails, the unit stays loaded until the connection ends.
        let _ = manager.unref_unit(unit).await;
        result
    }

    async fn start_and_judge(&self, unit: &str) -> Result<JobResult, SystemdError> {
        let result = self
            .job("start", unit, |manager| async move {
                manager.start_unit(unit, MODE).await
            })
            .await?;
        // The job of a unit whose condition was not met only says `done`.
        if result.is_done() && self.properties(unit).await?.condition_failed() {
            return Ok(JobResult::Skipped);
        }
        Ok(result)
    }

    /// Stops `unit` and waits for the job's end.
    pub async fn stop(&self, unit: &str) -> Result<JobResult, SystemdError> {
        self.job("stop", unit, |manager| async move {
            manager.stop_unit(unit, MODE).await
        })
        .await
    }

    /// Restarts `unit`, or starts it when it does not run, and waits for the job's end.
    pub async fn restart(&self, unit: &str) -> Result<JobResult, SystemdError> {
        self.job("restart", unit, |manager| async move {
            manager.restart_unit(unit, MODE).await
        })
        .await
    }

    /// Restarts `unit` only if it runs, and waits for the job's end.
    pub async fn try_restart(&self, unit: &str) -> Result<JobResult, SystemdError> {
        self.job("restart", unit, |manager| async move {
            manager.try_restart_unit(unit, MODE).await
        })
        .await
    }

    async fn job<'a, F, R>(
        &self,
        verb: &'static str,
        unit: &str,
        call: F,
    ) -> Result<JobResult, SystemdError>
    where
        F: FnOnce(proxies::ManagerProxy<'a>) -> R,
        R: Future<Output = zbus::Result<zbus::OwnedObjectPath>>,
    {
        let session = self.shared.session().await?;
        // The job may end before the answer to our call has been read, so the table
        // keeps results from here on.
        let ticket = session.jobs().expect_job();
        let path = call(session.manager().clone())
            .await
            .map_err(|error| call_failed(verb, unit, error))?;
        ticket
            .result_of(path.as_str())
            .await
            .ok_or_else(|| SystemdError::Lost {
                verb,
                unit: unit.to_owned(),
            })
    }

    /// Sends `signal` to all processes of `unit`.
    pub async fn kill(&self, unit: &str, signal: i32) -> Result<(), SystemdError> {
        let session = self.shared.session().await?;
        session
            .manager()
            .kill_unit(unit, "all", signal)
            .await
            .map_err(|error| call_failed("kill", unit, error))
    }

    /// Forgets that `unit` failed and how often it was restarted. A unit that is not
    /// loaded has nothing to forget.
    pub async fn reset_failed(&self, unit: &str) -> Result<(), SystemdError> {
        let session = self.shared.session().await?;
        match session
            .manager()
            .reset_failed_unit(unit)
            .await
            .map_err(|error| call_failed("reset-failed", unit, error))
        {
            Err(SystemdError::NoSuchUnit { .. }) => Ok(()),
            other => other,
        }
    }

    /// The loaded units whose names match any of the glob `patterns`, in one call.
    ///
    /// systemd unloads units that are inactive and that nothing refers to: such a unit
    /// is missing here though its file exists. [`Systemd::units`] shows it.
    pub async fn list_units(&self, patterns: &[&str]) -> Result<Vec<UnitStatus>, SystemdError> {
        let session = self.shared.session().await?;
        let rows = session
            .manager()
            .list_units_by_patterns(&[], patterns)
            .await
            .map_err(|error| call_failed("list", &patterns.join(" "), error))?;
        Ok(rows.into_iter().map(UnitStatus::from).collect())
    }

    /// The units of exactly these names, loaded for this when necessary, in one call.
    pub async fn units(&self, names: &[&str]) -> Result<Vec<UnitStatus>, SystemdError> {
        let session = self.shared.session().await?;
        let rows = session
            .manager()
            .list_units_by_names(names)
            .await
            .map_err(|error| call_failed("list", &names.join(" "), error))?;
        Ok(rows.into_iter().map(UnitStatus::from).collect())
    }

    /// As [`Systemd::details`], without what only a service has: for that systemd reads the
    /// service's control group, which takes longer than all else.
    pub async fn general(&self, unit: &str) -> Result<UnitDetails, SystemdError> {
        let general = self.properties(unit).await?;
        Ok(UnitDetails::from_properties(unit, &general, None))
    }

    /// What systemd knows about `unit`; a unit without a file has `LoadState::NotFound`.
    pub async fn details(&self, unit: &str) -> Result<UnitDetails, SystemdError> {
        let general = self.properties(unit).await?;
        let service = if unit.ends_with(".service") {
            Some(self.interface(unit, SERVICE_INTERFACE).await?)
        } else {
            None
        };
        Ok(UnitDetails::from_properties(
            unit,
            &general,
            service.as_ref(),
        ))
    }

    async fn properties(&self, unit: &str) -> Result<Properties, SystemdError> {
        self.interface(unit, UNIT_INTERFACE).await
    }

    async fn interface(&self, unit: &str, interface: &str) -> Result<Properties, SystemdError> {
        let session = self.shared.session().await?;
        let failed = |error| call_failed("inspect", unit, error);
        proxies::PropertiesProxy::builder(session.connection())
            .path(label::unit_path(unit))
            .build()
            .await
            .map_err(failed)?
            .get_all(interface)
            .await
            .map(Properties::from)
            .map_err(failed)
    }

    /// Changes of tenants' units from now on.
    pub fn events(&self) -> UnitEvents {
        UnitEvents::new(self.shared.subscribe())
    }

    /// The version of the running systemd, as it names itself (`257.13-1~deb13u1`).
    pub async fn version(&self) -> Result<String, SystemdError> {
        let session = self.shared.session().await?;
        session
            .manager()
            .version()
            .await
            .map_err(|error| call_failed("ask the version of", "systemd", error))
    }
}

/// A new job replaces a conflicting queued one, as `systemctl` does by default.
const MODE: &str = "replace";

/// Events that a slow listener may lag behind before it is told that it missed some.
const EVENT_QUEUE: usize = 1024;

type EventSender = broadcast::Sender<UnitEvent>;

#[cfg(test)]
mod tests;
