//! What doors and the sleep service tell each other: one word a line, so that a person can read along.
//! Nobody names a tenant but root: a door's is known by the control group that it runs in.

use std::fmt;
use std::str::FromStr;

use crate::tenant::TenantId;

/// Longest line that either side reads.
pub const LONGEST: usize = 256;

/// What the sleep service is told or asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// By a door: how does my agent stand?
    Look,
    /// By a door: somebody wants my agent.
    Wake,
    /// By a door: my agent has had nothing to do for as long as its spec says.
    Idle,
    /// By a door: it has again, or somebody came while I closed.
    Active,
    /// By a door: nobody is connected any more, and whoever comes will ask for waking first.
    Closed,
    /// By root: wake this tenant.
    WakeTenant(TenantId),
    /// By root: put this tenant to sleep.
    SleepTenant(TenantId),
}

/// What the sleep service answers or orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The agent may be talked to; it may still be starting.
    Awake,
    /// The agent is frozen.
    Frozen,
    /// The agent does not run.
    Stopped,
    /// Unasked: if there is still nothing to do, end all connections politely and answer `closed`; else `active`.
    Close,
    /// Unasked: the same, whatever is carried; only somebody who waits for the agent is `active`.
    CloseNow,
    /// Unasked: the agent was stopped, and the door is not needed.
    Leave,
    /// To root: it cannot be done, and why.
    Refused(String),
}

/// A line that is none of these words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no word between a door and the sleep service: {0:?}")]
pub struct Unknown(String);

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Look => f.write_str("look"),
            Self::Wake => f.write_str("wake"),
            Self::Idle => f.write_str("idle"),
            Self::Active => f.write_str("active"),
            Self::Closed => f.write_str("closed"),
            Self::WakeTenant(tenant) => write!(f, "wake {tenant}"),
            Self::SleepTenant(tenant) => write!(f, "sleep {tenant}"),
        }
    }
}

impl FromStr for Asked {
    type Err = Unknown;

    fn from_str(line: &str) -> Result<Self, Unknown> {
        let unknown = || Unknown(line.to_owned());
        let tenant = |text: &str| text.parse::<TenantId>().map_err(|_| unknown());
        Ok(match line.split_once(' ') {
            None => match line {
                "look" => Self::Look,
                "wake" => Self::Wake,
                "idle" => Self::Idle,
                "active" => Self::Active,
                "closed" => Self::Closed,
                _ => return Err(unknown()),
            },
            Some(("wake", id)) => Self::WakeTenant(tenant(id)?),
            Some(("sleep", id)) => Self::SleepTenant(tenant(id)?),
            Some(_) => return Err(unknown()),
        })
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Awake => f.write_str("awake"),
            Self::Frozen => f.write_str("frozen"),
            Self::Stopped => f.write_str("stopped"),
            Self::Close => f.write_str("close"),
            Self::CloseNow => f.write_str("close-now"),
            Self::Leave => f.write_str("leave"),
            Self::Refused(why) => write!(f, "refused {}", why.replace(['\n', '\r'], " ")),
        }
    }
}

impl FromStr for Told {
    type Err = Unknown;

    fn from_str(line: &str) -> Result<Self, Unknown> {
        Ok(match line {
            "awake" => Self::Awake,
            "frozen" => Self::Frozen,
            "stopped" => Self::Stopped,
            "close" => Self::Close,
            "close-now" => Self::CloseNow,
            "leave" => Self::Leave,
            _ => match line.strip_prefix("refused ") {
                Some(why) => Self::Refused(why.to_owned()),
                None => return Err(Unknown(line.to_owned())),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_word_is_read_as_it_was_written() {
        let acme: TenantId = "acme".parse().unwrap();
        for asked in [
            Asked::Look,
            Asked::Wake,
            Asked::Idle,
            Asked::Active,
            Asked::Closed,
            Asked::WakeTenant(acme.clone()),
            Asked::SleepTenant(acme),
        ] {
            assert_eq!(asked.to_string().parse(), Ok(asked));
        }
        for told in [
            Told::Awake,
            Told::Frozen,
            Told::Stopped,
            Told::Close,
            Told::CloseNow,
            Told::Leave,
            Told::Refused("it is held".to_owned()),
        ] {
            assert_eq!(told.to_string().parse(), Ok(told));
        }
    }

    proptest! {
        #[test]
        fn strange_lines_are_refused(line in ".*") {
            let _ = line.parse::<Asked>();
            let _ = line.parse::<Told>();
        }
    }
}
