//! Threads that open files and look them up.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Fault, Faults, FileSettings};
use crate::http::target::SitePath;
use crate::sys::blocking_pool::{BlockingPool, JobLost};

/// Runs jobs that may wait for the disk, each for a bounded time. Clones share the threads and the count of timeouts.
#[derive(Clone)]
pub(crate) struct OpenPool {
    pool: Arc<BlockingPool>,
    timeout: Duration,
    timeouts: Arc<AtomicU64>,
    faults: Arc<Faults>,
}

impl OpenPool {
    /// # Errors
    /// If the pool can't be made.
    pub(crate) fn new(settings: &FileSettings, faults: Arc<Faults>) -> io::Result<Self> {
        let pool = Arc::new(BlockingPool::new("pagecast-open", settings.disk_threads, 0)?);
        Ok(Self { pool, timeout: settings.disk_timeout, timeouts: Arc::default(), faults })
    }

    /// The same threads with another timeout.
    pub(crate) fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// Time that a request waits for the disk.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Number of requests that the disk did not answer in time.
    pub(crate) fn timeouts(&self) -> u64 {
        self.timeouts.load(Ordering::Relaxed)
    }

    pub(crate) fn count_timeout(&self) {
        self.timeouts.fetch_add(1, Ordering::Relaxed);
    }

    /// Result of `job`, if it has one within the timeout.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobLost> {
        let done = self.pool.run_within(self.timeout, job).await;
        if matches!(done, Err(JobLost::TimedOut)) {
            self.count_timeout();
        }
        done
    }

    /// As [`Self::run`]; reports a timeout as a fault of `path`.
    pub(crate) async fn run_for<T: Send + 'static>(
        &self,
        path: &SitePath<'_>,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobLost> {
        let done = self.run(job).await;
        if matches!(done, Err(JobLost::TimedOut)) {
            self.faults.report(Fault::Open, path, format_args!("/{path}: the disk does not answer"));
        }
        done
    }

    /// Runs `job` to its end, without waiting for it.
    pub(crate) fn run_detached(&self, job: impl FnOnce() + Send + 'static) {
        self.pool.run(job);
    }
}
