//! The tables that a spec and a template share, every field optional.
//! A spec's tables are laid over its template's, field by field; nothing is checked here.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Capability, Period, QuiesceCall, Size};

/// Lays a value over a base, field by field: what the value does not say, the base says.
pub trait Over {
    /// The value with its gaps filled from `base`.
    #[must_use]
    fn over(self, base: Self) -> Self;
}

/// Implements [`Over`]: `leaf` fields are `Option`s, `deep` ones implement [`Over`].
macro_rules! over {
    ($type:ident { leaf: $($leaf:ident),*; deep: $($deep:ident),* }) => {
        impl Over for $type {
            fn over(self, base: Self) -> Self {
                Self {
                    $($leaf: self.$leaf.or(base.$leaf),)*
                    $($deep: self.$deep.over(base.$deep),)*
                }
            }
        }
    };
}

/// Environment variables of the agent. No secrets: they end up in plain text on disk.
pub type Env = BTreeMap<String, String>;

/// Mounted directories by name; the name is that of the directory on the host.
pub type Mounts = BTreeMap<String, Mount>;

/// `[container]`: what is run, and as what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Container {
    /// Program and its arguments, in place of the image's entry point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Arguments, in place of the image's command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// User and group inside the container; the image's own when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// Linux capabilities that the agent keeps; all others are dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<Capability>>,
    /// The image's files cannot be changed (default true).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// A small init process reaps orphans and passes signals on (default true).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    /// Directories in memory, beside the usual `/tmp`, `/var/tmp`, `/run` and `/dev/shm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>")]
    pub tmpfs: Option<Vec<Utf8PathBuf>>,
    /// Directory in which the program starts; the image's own when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub workdir: Option<Utf8PathBuf>,
    /// Size of `/dev/shm`; browsers need more than the usual 64 MB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<Size>,
}

impl Over for Container {
    /// Arguments belong to their command: a new command does not inherit the base's.
    fn over(self, base: Self) -> Self {
        let base_args = if self.command.is_some() {
            None
        } else {
            base.args
        };
        Self {
            command: self.command.or(base.command),
            args: self.args.or(base_args),
            user: self.user.or(base.user),
            capabilities: self.capabilities.or(base.capabilities),
            read_only: self.read_only.or(base.read_only),
            init: self.init.or(base.init),
            tmpfs: self.tmpfs.or(base.tmpfs),
            workdir: self.workdir.or(base.workdir),
            shm_size: self.shm_size.or(base.shm_size),
        }
    }
}

/// User and group ids inside the container; never those of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct User {
    /// User id, 0 to 65535.
    pub uid: u16,
    /// Group id, 0 to 65535.
    pub gid: u16,
}

/// `[ingress]`: how requests reach the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Ingress {
    /// TCP port on 127.0.0.1 where the agent listens, 1024 or higher.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024))]
    pub port: Option<u16>,
}

over!(Ingress { leaf: port; deep: });

/// `[probes]`: HTTP requests whose answers say how the agent is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Probes {
    /// Answers once the agent can serve; a start is done when it does.
    pub start: Probe,
    /// Answers while the agent is alive.
    pub live: Probe,
    /// Tells whether the agent has nothing to do.
    pub idle: Probe,
}

over!(Probes { leaf: ; deep: start, live, idle });

/// One probe.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Probe {
    /// Path and query, starting with `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The answer's body must be JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<bool>,
    /// Start: longest wait until it answers. Live and idle: longest wait for one answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// Time between two requests. A start probe has its own pace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Period>,
}

over!(Probe { leaf: path, json, timeout, interval; deep: });

/// `[state.<name>]` or `[cache.<name>]`: a directory of the tenant that the agent sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Mount {
    /// Absolute path inside the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub path: Option<Utf8PathBuf>,
}

over!(Mount { leaf: path; deep: });

/// `[backup]`: what a backup asks of the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Backup {
    /// What is asked of the agent before it is paused and after it runs again.
    pub quiesce: Quiesce,
}

over!(Backup { leaf: ; deep: quiesce });

/// `[backup.quiesce]`: by what the agent puts its files in order for a backup: HTTP requests (POST), by path and query, or
/// commands in its container, by their words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Quiesce {
    /// The one before the pause; nothing is asked when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begin: Option<QuiesceCall>,
    /// The one after it, whatever became of the backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<QuiesceCall>,
    /// Longest wait for either, at most a minute (default 10s).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// No backup is made unless the agent agrees (default false: it is made as after a power cut).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
}

over!(Quiesce { leaf: begin, end, timeout, required; deep: });

/// `[sleep]`: how soon an agent sleeps that is not always on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Sleep {
    /// Idle for so long, it is frozen (default 10min): nobody asks it anything, it computes nothing, and its idle
    /// probe agrees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Period>,
    /// Frozen for so long, it is stopped (default 12h); sooner when the host is short of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_after: Option<Period>,
    /// An agent with `wake = "scheduled"` is woken so long after it was last (default 30min).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Period>,
}

over!(Sleep { leaf: after, stop_after, every; deep: });

/// `[stop]`: how the agent ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Stop {
    /// Time the agent has to end by itself (default 30s).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// Signal that asks it to end, such as `SIGTERM`; the image's own when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Who is killed when the time is over (default `mixed`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kill_mode: Option<KillMode>,
    /// Exit codes after which a restart is useless.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fatal_exit_codes: Option<Vec<u8>>,
}

over!(Stop { leaf: timeout, signal, kill_mode, fatal_exit_codes; deep: });

/// systemd's `KillMode=`, as far as Quadlet accepts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KillMode {
    /// The main process is asked, all others are killed with it.
    #[default]
    Mixed,
    /// All processes are asked.
    ControlGroup,
}

impl KillMode {
    /// systemd's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mixed => "mixed",
            Self::ControlGroup => "control-group",
        }
    }
}

impl<T: Over + Default> Over for BTreeMap<String, T> {
    fn over(self, base: Self) -> Self {
        let mut merged = base;
        for (name, value) in self {
            let below = merged.remove(&name).unwrap_or_default();
            merged.insert(name, value.over(below));
        }
        merged
    }
}

impl Over for String {
    fn over(self, _base: Self) -> Self {
        self
    }
}
