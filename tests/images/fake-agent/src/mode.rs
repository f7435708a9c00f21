//! How the agent misbehaves.

use std::{
    process,
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

/// What `FAKE_AGENT_MODE` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Healthy at once.
    Ok,
    /// Answers 503 on `/healthz` for this long.
    SlowStart(Duration),
    /// Answers 503 on `/healthz` for ever.
    NeverHealthy,
    /// Aborts before it listens.
    Crash,
    /// Aborts after this long.
    CrashAfter(Duration),
    /// Exits with this code before it listens.
    Exit(i32),
    /// Healthy, and deaf to SIGTERM.
    IgnoreTerm,
}

impl Mode {
    /// Does what happens before the agent listens, or starts the clock for what happens later.
    pub fn at_start(self) {
        match self {
            Self::Crash => process::abort(),
            Self::Exit(code) => process::exit(code),
            Self::CrashAfter(time) => {
                thread::spawn(move || {
                    thread::sleep(time);
                    process::abort();
                });
            }
            Self::Ok | Self::SlowStart(_) | Self::NeverHealthy | Self::IgnoreTerm => {}
        }
    }

    /// Whether an agent started then is healthy now.
    pub fn healthy(self, started: Instant) -> bool {
        match self {
            Self::NeverHealthy => false,
            Self::SlowStart(time) => started.elapsed() >= time,
            _ => true,
        }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        let seconds = || {
            let seconds = value.parse().map_err(|_| {
                format!("FAKE_AGENT_MODE={text}: {value:?} is no number of seconds")
            })?;
            Duration::try_from_secs_f64(seconds)
                .map_err(|error| format!("FAKE_AGENT_MODE={text}: {error}"))
        };
        match name {
            "" | "ok" => Ok(Self::Ok),
            "slow-start" => Ok(Self::SlowStart(seconds()?)),
            "never-healthy" => Ok(Self::NeverHealthy),
            "crash" => Ok(Self::Crash),
            "crash-after" => Ok(Self::CrashAfter(seconds()?)),
            "exit" => value
                .parse()
                .map(Self::Exit)
                .map_err(|_| format!("FAKE_AGENT_MODE={text}: no exit code")),
            "ignore-term" => Ok(Self::IgnoreTerm),
            _ => Err(format!("FAKE_AGENT_MODE={text} is not known")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Mode;

    #[test]
    fn modes_are_read() {
        assert_eq!("".parse(), Ok(Mode::Ok));
        assert_eq!(
            "slow-start:1.5".parse(),
            Ok(Mode::SlowStart(Duration::from_millis(1500)))
        );
        assert_eq!("exit:78".parse(), Ok(Mode::Exit(78)));
        for wrong in ["slow-start", "slow-start:-1", "exit:x", "okay"] {
            assert!(wrong.parse::<Mode>().is_err(), "{wrong}");
        }
    }
}
