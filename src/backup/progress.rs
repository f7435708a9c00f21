//! How far a backup or restore is; whoever shows it implements one trait.

/// Told about progress, from several threads.
pub trait Progress: Send + Sync {
    /// What is being done now, and how much of it there is if that is known.
    fn stage(&self, stage: Stage, total_bytes: Option<u64>, total_files: Option<u64>);
    /// More bytes are done in this stage.
    fn bytes(&self, bytes: u64);
    /// More files are done in this stage.
    fn files(&self, files: u64);
}

/// The stages of a snapshot or restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Looking at all files.
    Scan,
    /// Reading what changed, while the agent runs.
    Read,
    /// Cloning what changed since, while the agent is paused.
    Clone,
    /// Reading the clones.
    ReadClones,
    /// Storing the tree and the commit.
    Commit,
    /// Reading and checking commits and trees.
    Verify,
    /// Fetching packs and writing files.
    Restore,
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _: Stage, _: Option<u64>, _: Option<u64>) {}
    fn bytes(&self, _: u64) {}
    fn files(&self, _: u64) {}
}
