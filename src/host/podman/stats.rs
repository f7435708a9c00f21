//! What one container uses at this moment.
//! Values that the host does not measure are absent, never zero.

use bollard::query_parameters::StatsOptionsBuilder;
use futures_util::StreamExt;

use super::Podman;
use super::error::{self, PodmanError};

/// One sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time used since the start, in nanoseconds.
    pub cpu_nanoseconds: Option<u64>,
    /// Memory in use, in bytes.
    pub memory: Option<u64>,
    /// Most memory it may use, in bytes.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub tasks: Option<u64>,
}

impl Podman {
    /// One sample of the running container `name`; `None` when there is no such container.
    pub async fn stats(&self, name: &str) -> Result<Option<Stats>, PodmanError> {
        let options = StatsOptionsBuilder::default()
            .stream(false)
            .one_shot(true)
            .build();
        let mut samples = Box::pin(self.docker.stats(name, Some(options)));
        let sample = match samples.next().await {
            Some(Ok(sample)) => sample,
            Some(Err(error)) => {
                let error = error::docker("measure", name, error);
                return if error.is_absent() {
                    Ok(None)
                } else {
                    Err(error)
                };
            }
            None => return Ok(None),
        };
        let memory = sample.memory_stats.unwrap_or_default();
        Ok(Some(Stats {
            cpu_nanoseconds: sample
                .cpu_stats
                .and_then(|cpu| cpu.cpu_usage)
                .and_then(|usage| usage.total_usage),
            memory: memory.usage,
            memory_limit: memory.limit,
            tasks: sample.pids_stats.and_then(|pids| pids.current),
        }))
    }
}
