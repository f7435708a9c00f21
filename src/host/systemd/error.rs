//! What can go wrong with systemd, in the operator's words.
//! It maps D-Bus errors and decides nothing.

/// Why systemd could not be asked, or refused.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// The system bus is not there or does not let us in.
    #[error(
        "cannot reach systemd over the system bus; tenantd needs root and a host booted by systemd (is dbus.socket running?)"
    )]
    Connect(#[source] Box<zbus::Error>),
    /// The connection ended while a job was awaited; the job itself goes on.
    #[error("lost the connection to systemd while waiting for {verb} of {unit}; the job goes on")]
    Lost {
        /// What was asked.
        verb: &'static str,
        /// Of which unit.
        unit: String,
    },
    /// There is no such unit.
    #[error(
        "cannot {verb} {unit}: systemd has no such unit (`tenantd units` shows what is installed)"
    )]
    NoSuchUnit {
        /// What was asked.
        verb: &'static str,
        /// Of which unit.
        unit: String,
    },
    /// The caller is not allowed to do this.
    #[error("cannot {verb} {unit}: systemd refused it to this user; run it as root")]
    Denied {
        /// What was asked.
        verb: &'static str,
        /// Of which unit.
        unit: String,
    },
    /// systemd answered with another error.
    #[error("systemd did not {verb} {unit}")]
    Call {
        /// What was asked.
        verb: &'static str,
        /// Of which unit.
        unit: String,
        /// Its answer.
        #[source]
        source: Box<zbus::Error>,
    },
}

/// Sorts the answer to a failed call by its D-Bus error name.
pub(super) fn call_failed(verb: &'static str, unit: &str, error: zbus::Error) -> SystemdError {
    let unit = unit.to_owned();
    let name = match &error {
        zbus::Error::MethodError(name, _, _) => name.as_str(),
        _ => "",
    };
    match name {
        "org.freedesktop.systemd1.NoSuchUnit" => SystemdError::NoSuchUnit { verb, unit },
        "org.freedesktop.DBus.Error.AccessDenied"
        | "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired" => {
            SystemdError::Denied { verb, unit }
        }
        _ => SystemdError::Call {
            verb,
            unit,
            source: Box::new(error),
        },
    }
}
