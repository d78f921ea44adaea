//! Threads for calls that may block on a disk, so that workers never do.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// A bounded pool of threads for blocking calls. Jobs beyond the number of threads wait in a queue.
pub(crate) struct BlockingPool {
    runtime: Option<Runtime>,
}

impl BlockingPool {
    /// A pool of at most `threads` threads named `name`, started when needed. `niceness` is their scheduling priority, from 0
    /// (normal) to 19 (lowest).
    pub(crate) fn new(name: &str, threads: usize, niceness: i32) -> io::Result<Self> {
        // Only the blocking pool of the runtime is used; nothing is polled on it.
        let mut builder = Builder::new_current_thread();
        builder.thread_name(name).max_blocking_threads(threads);
        builder.on_thread_start(move || lower_priority(niceness));
        let runtime = builder.build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Runs `job` and returns its result if it ends within `limit`. A job that has not started by then, or when this future is
    /// dropped, is never run; one that has started runs to its end.
    ///
    /// # Errors
    /// It took too long or panicked.
    pub(crate) async fn run_within<T: Send + 'static>(
        &self,
        limit: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobLost> {
        let mut pending = CancellableJob(self.run(job));
        match tokio::time::timeout(limit, &mut pending.0).await {
            Ok(done) => done.map_err(|_| JobLost::Panicked),
            Err(_) => Err(JobLost::TimedOut),
        }
    }

    /// Runs `job` on a thread of the pool. A job whose handle is dropped still runs to its end.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        match &self.runtime {
            Some(runtime) => runtime.spawn_blocking(job),
            None => unreachable!("the runtime is taken only by drop"),
        }
    }
}

/// Why a job has no result.
#[derive(Debug)]
pub(crate) enum JobLost {
    /// It took too long.
    TimedOut,
    /// It panicked; the panic hook has logged it.
    Panicked,
}

/// A job that is not started any more once this is dropped.
struct CancellableJob<T>(JoinHandle<T>);

impl<T> Drop for CancellableJob<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Lowers the priority of the calling thread. On Linux each thread has its own and may always lower it.
pub(crate) fn lower_priority(niceness: i32) {
    if niceness > 0 {
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), niceness);
    }
}

impl Drop for BlockingPool {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::channel;

    #[tokio::test]
    async fn a_job_that_nobody_waits_for_is_not_started() {
        let pool = BlockingPool::new("disk", 1, 0).unwrap();
        let (release, held) = channel::<()>();
        let busy = pool.run(move || held.recv().is_ok());
        let has_run = Arc::new(AtomicBool::new(false));
        let job = Arc::clone(&has_run);
        let result =
            pool.run_within(Duration::from_millis(10), move || job.store(true, Ordering::Relaxed)).await;
        assert!(matches!(result, Err(JobLost::TimedOut)));
        release.send(()).unwrap();
        assert!(busy.await.unwrap());
        assert_eq!(pool.run_within(Duration::from_secs(20), || 7).await.unwrap(), 7);
        assert!(!has_run.load(Ordering::Relaxed));
    }
}
