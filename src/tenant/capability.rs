//! Linux capabilities by name.
//! It knows which exist, not who may have them.

use std::fmt;
use std::str::FromStr;

use super::suggest::closest;
use super::text::text_value;

/// A Linux capability, written without `CAP_`: `NET_BIND_SERVICE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(&'static str);

/// The capabilities of `capabilities(7)`, Linux 6.x, in the kernel's order.
const ALL: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl Capability {
    /// The name without `CAP_`.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl FromStr for Capability {
    type Err = CapabilityError;

    /// Takes the name with or without `CAP_`.
    fn from_str(text: &str) -> Result<Self, CapabilityError> {
        let name = text.strip_prefix("CAP_").unwrap_or(text);
        ALL.into_iter()
            .find(|known| *known == name)
            .map(Self)
            .ok_or_else(|| CapabilityError {
                text: text.to_owned(),
                hint: closest(name, ALL)
                    .map(|known| format!("; did you mean `{known}`?"))
                    .unwrap_or_default(),
            })
    }
}

/// A text that is no capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a Linux capability{hint}")]
pub struct CapabilityError {
    text: String,
    hint: String,
}

text_value!(
    Capability,
    "a Linux capability such as \"NET_BIND_SERVICE\"",
    "^(CAP_)?[A-Z_]+$",
    "A Linux capability, such as NET_BIND_SERVICE."
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_taken_and_dropped() {
        let capability: Capability = "CAP_CHOWN".parse().unwrap();
        assert_eq!(capability.name(), "CHOWN");
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest() {
        let error = "NET_BIND_SERVIC".parse::<Capability>().unwrap_err();
        insta::assert_snapshot!(error, @r#""NET_BIND_SERVIC" is not a Linux capability; did you mean `NET_BIND_SERVICE`?"#);
    }
}
