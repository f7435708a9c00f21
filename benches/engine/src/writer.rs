//! An agent that writes until the moment it is stopped, and a stop watch for how long it stands still.

use std::fs;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use tenantd::backup::{Pause, PauseError};

/// Appends to a share of the files when it is asked to stop, which counts as the last of its work.
pub struct Writer {
    files: Vec<Utf8PathBuf>,
    paused: Mutex<Paused>,
}

#[derive(Debug, Clone, Copy)]
enum Paused {
    Never,
    Since(Instant),
    For(u64),
}

impl Writer {
    /// A writer to `share` of the files below `state`, evenly chosen.
    pub fn new(state: &Utf8Path, share: f64) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        if share > 0.0 {
            list(state, &mut files)?;
            files.sort();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of one file in a few hundred"
            )]
            let step = (1.0 / share.min(1.0)).round() as usize;
            files = files.into_iter().step_by(step).collect();
        }
        Ok(Self {
            files,
            paused: Mutex::new(Paused::Never),
        })
    }

    /// How long it stood still, in microseconds; none if it never did.
    pub fn paused_us(&self) -> Option<u64> {
        match *self.paused.lock().unwrap_or_else(PoisonError::into_inner) {
            Paused::For(micros) => Some(micros),
            Paused::Never | Paused::Since(_) => None,
        }
    }

    fn set(&self, next: impl FnOnce(Paused) -> Paused) {
        let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        *paused = next(*paused);
    }
}

fn list(directory: &Utf8Path, files: &mut Vec<Utf8PathBuf>) -> anyhow::Result<()> {
    for entry in directory.read_dir_utf8()? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list(entry.path(), files)?;
        } else {
            files.push(entry.into_path());
        }
    }
    Ok(())
}

#[async_trait]
impl Pause for Writer {
    async fn pause(&self) -> Result<(), PauseError> {
        for file in &self.files {
            let mut open = fs::OpenOptions::new().append(true).open(file)?;
            open.write_all(b"one more line\n")?;
        }
        self.set(|_| Paused::Since(Instant::now()));
        Ok(())
    }

    async fn resume(&self) -> Result<(), PauseError> {
        self.set(|paused| match paused {
            Paused::Since(start) => {
                Paused::For(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX))
            }
            paused => paused,
        });
        Ok(())
    }
}
