//! What systemd last told about the tenants' units, kept current by events.
//! A picture, not a truth: missing an event costs time until the next full look.

use std::collections::BTreeMap;

use crate::host::systemd::{ActiveState, UnitChange, UnitStatus};
use crate::tenant::TenantId;

/// One unit, as last heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitView {
    /// Whether it is up.
    pub active: ActiveState,
    /// The finer state.
    pub sub: String,
    /// Why a service last stopped; `success` when nothing was heard.
    pub result: String,
    /// Exit status or signal of the last main process.
    pub status: i32,
    /// How often systemd restarted it.
    pub restarts: u32,
}

impl Default for UnitView {
    fn default() -> Self {
        Self {
            active: ActiveState::Inactive,
            sub: "dead".to_owned(),
            result: "success".to_owned(),
            status: 0,
            restarts: 0,
        }
    }
}

impl UnitView {
    /// Whether systemd shows the service as down for a moment only, on its way to the next start.
    pub fn is_about_to_restart(&self) -> bool {
        is_about_to_restart(&self.sub)
    }
}

/// Whether this state of a service is one through which systemd (since 254) passes between an
/// agent's end and its next start: it reads `failed` or `inactive`, and is not.
pub fn is_about_to_restart(sub: &str) -> bool {
    matches!(
        sub,
        "failed-before-auto-restart" | "dead-before-auto-restart"
    )
}

/// The units of all tenants, by name.
#[derive(Debug, Clone, Default)]
pub struct Views {
    units: BTreeMap<String, UnitView>,
    /// How each tenant's container last ended, in Podman's words; none while it runs.
    endings: BTreeMap<TenantId, String>,
    /// How many processes of each tenant the kernel had killed for lack of memory when it was last asked.
    kills: BTreeMap<TenantId, u64>,
}

impl Views {
    /// Replaces the picture by a full list.
    pub fn replace(&mut self, units: Vec<UnitStatus>) {
        let mut known = std::mem::take(&mut self.units);
        for unit in units {
            let mut view = known.remove(&unit.name).unwrap_or_default();
            view.active = unit.active;
            view.sub = unit.sub;
            self.units.insert(unit.name, view);
        }
    }

    /// Takes in one change.
    pub fn take(&mut self, change: UnitChange) {
        let view = self.units.entry(change.unit).or_default();
        if let Some(active) = change.active {
            view.active = active;
        }
        if let Some(sub) = change.sub {
            view.sub = sub;
        }
        if let Some(result) = change.result {
            view.result = result;
        }
        if let Some(status) = change.exec_main_status {
            view.status = status;
        }
        if let Some(restarts) = change.restarts {
            view.restarts = restarts;
        }
    }

    /// Notes how a container ended, or with `None` that it started.
    pub fn note_container(&mut self, tenant: &TenantId, ending: Option<String>) {
        match ending {
            Some(ending) => self.endings.insert(tenant.clone(), ending),
            None => self.endings.remove(tenant),
        };
    }

    /// Notes how many processes of a tenant the kernel has killed for lack of memory since its slice was made. Says
    /// whether there are new ones.
    pub fn note_kills(&mut self, tenant: &TenantId, kills: u64) -> bool {
        let before = self.kills.insert(tenant.clone(), kills).unwrap_or(0);
        // A slice that was made anew counts from nothing.
        kills > 0 && kills != before
    }

    /// Whether the tenant's container was killed for lack of memory and has not started since.
    pub fn is_out_of_memory(&self, tenant: &TenantId) -> bool {
        self.endings
            .get(tenant)
            .is_some_and(|ending| ending.contains("memory"))
    }

    /// How a tenant's container last ended, unless it runs.
    pub fn ending(&self, tenant: &TenantId) -> Option<&str> {
        self.endings.get(tenant).map(String::as_str)
    }

    /// One unit; a unit that was never heard of is inactive.
    pub fn get(&self, unit: &str) -> UnitView {
        self.units.get(unit).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_is_new_once() {
        let tenant: TenantId = "acme".parse().unwrap();
        let mut views = Views::default();
        let counts = [0, 1, 1, 3, 0, 3].map(|count| views.note_kills(&tenant, count));
        assert_eq!(counts, [false, true, false, true, false, true]);
    }
}
