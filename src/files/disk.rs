//! Threads that may wait for a disk, so that workers never do.

use std::io;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// A bounded pool of threads for calls that block. What exceeds the threads waits its turn.
pub(crate) struct Disk {
    runtime: Option<Runtime>,
}

impl Disk {
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

    /// Runs `job` on a thread of the pool. A job whose handle is dropped still runs to its end.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        match &self.runtime {
            Some(runtime) => runtime.spawn_blocking(job),
            None => unreachable!("the runtime is taken only by drop"),
        }
    }
}

/// On Linux each thread has a priority of its own, and may always lower it.
fn step_back(niceness: i32) {
    if niceness > 0 {
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), niceness);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
