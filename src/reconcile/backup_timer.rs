//! Keeps the backup timer's interval at what `node.toml` says, by a drop-in of its own.
//! systemd does the waiting; the text is `node`'s.

use std::sync::Arc;

use camino::Utf8PathBuf;

use super::Engine;
use crate::host::dirs;
use crate::host::files::{self, FileError};
use crate::host::systemd::SystemdError;
use crate::layout::Layout;
use crate::node::BackupSettings;

const TIMER: &str = "tenantd-backup.timer";

/// Why the timer is not as the settings say.
#[derive(Debug, thiserror::Error)]
pub enum TimerError {
    /// The drop-in.
    #[error("the drop-in of {TIMER} cannot be written")]
    File(#[from] FileError),
    /// systemd.
    #[error("{TIMER} cannot be loaded anew")]
    Systemd(#[from] SystemdError),
}

/// Brings the timer to the settings; where it is so already, nothing is touched.
pub async fn apply(engine: &Arc<Engine>) {
    let settings = engine.settings().backup;
    if let Err(error) = try_apply(engine, settings).await {
        let error = &error as &dyn std::error::Error;
        tracing::error!(error, "backups are not made at the interval of node.toml");
    }
}

async fn try_apply(engine: &Arc<Engine>, settings: BackupSettings) -> Result<(), TimerError> {
    if write(&engine.layout, settings)? {
        engine.systemd.reload().await?;
        engine.systemd.try_restart(TIMER).await?;
        tracing::info!("backups are made every {}", settings.interval);
    }
    Ok(())
}

/// Writes the drop-in, and says whether anything changed. The unit's own interval needs none.
fn write(layout: &Layout, settings: BackupSettings) -> Result<bool, FileError> {
    let path = drop_in(layout);
    let is_default = settings == BackupSettings::default();
    let present = match files::read(&path, 64 * 1024) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.is_absent() => None,
        Err(error) => return Err(error),
    };
    let wanted = (!is_default).then(|| settings.timer_drop_in().into_bytes());
    if present == wanted {
        return Ok(false);
    }
    match wanted {
        Some(text) => {
            if let Some(parent) = path.parent() {
                dirs::make(parent, 0o755)?;
            }
            files::write(&path, &text, 0o644)?;
        }
        None => {
            files::remove(&path)?;
        }
    }
    Ok(true)
}

fn drop_in(layout: &Layout) -> Utf8PathBuf {
    layout
        .unit_dir()
        .join(format!("{TIMER}.d/50-interval.conf"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drop_in_is_there_only_while_the_interval_is_another() {
        let guard = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(guard.path().to_owned()).unwrap();
        let layout = Layout::rooted(root);
        let hourly = BackupSettings::default();
        let often = BackupSettings {
            interval: "5min".parse().unwrap(),
        };
        assert!(!write(&layout, hourly).unwrap());
        assert!(write(&layout, often).unwrap());
        let text = std::fs::read_to_string(drop_in(&layout)).unwrap();
        assert_eq!(text, often.timer_drop_in());
        assert!(!write(&layout, often).unwrap(), "nothing to reload for");
        assert!(write(&layout, hourly).unwrap());
        assert!(!drop_in(&layout).exists());
    }
}
