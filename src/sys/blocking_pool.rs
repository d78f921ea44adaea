//! Threads that may wait for a disk, so that workers never do.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// A bounded pool of threads for calls that block. What exceeds the threads waits its turn.
pub(crate) struct BlockingPool {
    runtime: Option<Runtime>,
}

impl BlockingPool {
    /// A pool of at most `threads` threads, started as they are needed and named `name`.
    /// `niceness` is how far they stand back when the processor is short (0: not at all, 19: entirely).
    pub(crate) fn new(name: &str, threads: usize, niceness: i32) -> io::Result<Self> {
        // Only the runtime's blocking pool is used: nothing is ever polled on it.
        let mut builder = Builder::new_current_thread();
        builder.thread_name(name).max_blocking_threads(threads);
        builder.on_thread_start(move || step_back(niceness));
        let runtime = builder.build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// What `job` brings, if it does within `limit`. A job that has not begun by then, or when its asker goes, is never run; one
    /// that has runs to its end.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        limit: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobLost> {
        let mut wanted = CancellableJob(self.run(job));
        match tokio::time::timeout(limit, &mut wanted.0).await {
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

/// Why a job that was asked for brought nothing.
#[derive(Debug)]
pub(crate) enum JobLost {
    /// Its time was up.
    TimedOut,
    /// It panicked; the panic hook has said why.
    Panicked,
}

/// A job of which nobody hears any more is not begun.
struct CancellableJob<T>(JoinHandle<T>);

impl<T> Drop for CancellableJob<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// On Linux each thread has a priority of its own, and may always lower it.
pub(crate) fn step_back(niceness: i32) {
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
    async fn a_job_that_nobody_waits_for_is_not_begun() {
        let disk = BlockingPool::new("disk", 1, 0).unwrap();
        let (release, held) = channel::<()>();
        let busy = disk.run(move || held.recv().is_ok());
        let has_run = Arc::new(AtomicBool::new(false));
        let job = Arc::clone(&has_run);
        let asked = disk.ask(Duration::from_millis(10), move || job.store(true, Ordering::Relaxed)).await;
        assert!(matches!(asked, Err(JobLost::TimedOut)));
        release.send(()).unwrap();
        assert!(busy.await.unwrap());
        assert_eq!(disk.ask(Duration::from_secs(20), || 7).await.unwrap(), 7);
        assert!(!has_run.load(Ordering::Relaxed));
    }
}
