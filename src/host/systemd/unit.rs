//! Units as plain values: what systemd says about them, and no D-Bus type.
//! Reading is lenient: a state that this version does not know is kept as text.

use std::collections::HashMap;

use camino::Utf8PathBuf;
use jiff::Timestamp;
use zbus::{OwnedVariant, Variant};

use super::proxies::UnitRow;

/// Whether a unit's file was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadState {
    /// Read and understood.
    Loaded,
    /// There is no file.
    NotFound,
    /// The file has a setting that makes the unit unusable.
    BadSetting,
    /// The file could not be read.
    Error,
    /// The unit is a link to /dev/null.
    Masked,
    /// Something that systemd has learnt since.
    Other(String),
}

impl From<&str> for LoadState {
    fn from(text: &str) -> Self {
        match text {
            "loaded" => Self::Loaded,
            "not-found" => Self::NotFound,
            "bad-setting" => Self::BadSetting,
            "error" => Self::Error,
            "masked" => Self::Masked,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// Whether a unit is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActiveState {
    /// Up.
    Active,
    /// Reading its configuration again.
    Reloading,
    /// Down.
    Inactive,
    /// Down after an error.
    Failed,
    /// Coming up, or waiting to be restarted.
    Activating,
    /// Going down.
    Deactivating,
    /// Something that systemd has learnt since.
    Other(String),
}

impl ActiveState {
    /// systemd's word for it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Active => "active",
            Self::Reloading => "reloading",
            Self::Inactive => "inactive",
            Self::Failed => "failed",
            Self::Activating => "activating",
            Self::Deactivating => "deactivating",
            Self::Other(other) => other,
        }
    }
}

impl From<&str> for ActiveState {
    fn from(text: &str) -> Self {
        match text {
            "active" => Self::Active,
            "reloading" => Self::Reloading,
            "inactive" => Self::Inactive,
            "failed" => Self::Failed,
            "activating" => Self::Activating,
            "deactivating" => Self::Deactivating,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// One row of a list of units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitStatus {
    /// The unit's name.
    pub name: String,
    /// Whether its file was read.
    pub load: LoadState,
    /// Whether it is up.
    pub active: ActiveState,
    /// The finer state of its type, for example `running` or `auto-restart`.
    pub sub: String,
}

impl From<UnitRow> for UnitStatus {
    fn from((name, _, load, active, sub, ..): UnitRow) -> Self {
        Self {
            name,
            load: load.as_str().into(),
            active: active.as_str().into(),
            sub,
        }
    }
}

/// What systemd knows about one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitDetails {
    /// The unit's name.
    pub name: String,
    /// Whether its file was read.
    pub load: LoadState,
    /// Whether it is up.
    pub active: ActiveState,
    /// The finer state of its type.
    pub sub: String,
    /// The file it was read from.
    pub fragment_path: Option<Utf8PathBuf>,
    /// The file that a generator made it from: Quadlet's `.container`.
    pub source_path: Option<Utf8PathBuf>,
    /// Whether a file changed since systemd read it.
    pub need_daemon_reload: bool,
    /// When it last became active.
    pub active_since: Option<Timestamp>,
    /// When it last became inactive.
    pub inactive_since: Option<Timestamp>,
    /// When it last changed its state.
    pub changed_at: Option<Timestamp>,
    /// What only a service has.
    pub service: Option<ServiceDetails>,
}

/// What systemd knows about a service's processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceDetails {
    /// Why it last stopped: `success`, `exit-code`, `signal`, `timeout`, `oom-kill`, …
    pub result: String,
    /// How the main process ended: a `CLD_…` code of waitid(2), 0 while it runs.
    pub exec_main_code: i32,
    /// Its exit status or the signal that ended it.
    pub exec_main_status: i32,
    /// How often systemd has restarted it by itself.
    pub restarts: u32,
    /// The main process, if one runs.
    pub main_pid: Option<u32>,
    /// Its control group, below `/sys/fs/cgroup`; none while nothing runs.
    pub control_group: Option<Utf8PathBuf>,
}

/// The properties of one interface of a unit.
#[derive(Debug)]
pub(super) struct Properties(HashMap<String, OwnedVariant>);

impl From<HashMap<String, OwnedVariant>> for Properties {
    fn from(properties: HashMap<String, OwnedVariant>) -> Self {
        Self(properties)
    }
}

impl Properties {
    /// Whether a condition kept the unit from starting when it was last asked to.
    /// A unit that was never asked has no time.
    pub(super) fn condition_failed(&self) -> bool {
        self.time("ConditionTimestamp").is_some() && self.get("ConditionResult") == Some(false)
    }

    fn get<'a, T: TryFrom<&'a Variant<'static>>>(&'a self, key: &str) -> Option<T> {
        let value: &Variant<'static> = self.0.get(key)?;
        T::try_from(value).ok()
    }

    fn text(&self, key: &str) -> String {
        self.get::<&str>(key).unwrap_or_default().to_owned()
    }

    /// systemd says "none" with an empty path.
    fn path(&self, key: &str) -> Option<Utf8PathBuf> {
        self.get::<&str>(key)
            .filter(|path| !path.is_empty())
            .map(Utf8PathBuf::from)
    }

    /// systemd gives microseconds since 1970 and says "never" with zero.
    fn time(&self, key: &str) -> Option<Timestamp> {
        let micros = self.get::<u64>(key).filter(|micros| *micros != 0)?;
        Timestamp::from_microsecond(i64::try_from(micros).ok()?).ok()
    }
}

impl UnitDetails {
    pub(super) fn from_properties(
        name: &str,
        general: &Properties,
        service: Option<&Properties>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            load: general.text("LoadState").as_str().into(),
            active: general.text("ActiveState").as_str().into(),
            sub: general.text("SubState"),
            fragment_path: general.path("FragmentPath"),
            source_path: general.path("SourcePath"),
            need_daemon_reload: general.get("NeedDaemonReload").unwrap_or(false),
            active_since: general.time("ActiveEnterTimestamp"),
            inactive_since: general.time("InactiveEnterTimestamp"),
            changed_at: general.time("StateChangeTimestamp"),
            service: service.map(ServiceDetails::from_properties),
        }
    }
}

impl ServiceDetails {
    fn from_properties(service: &Properties) -> Self {
        Self {
            result: service.text("Result"),
            exec_main_code: service.get("ExecMainCode").unwrap_or(0),
            exec_main_status: service.get("ExecMainStatus").unwrap_or(0),
            restarts: service.get("NRestarts").unwrap_or(0),
            main_pid: service.get("MainPID").filter(|pid: &u32| *pid != 0),
            control_group: service.path("ControlGroup"),
        }
    }
}
