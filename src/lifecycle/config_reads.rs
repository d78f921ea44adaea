//! Reads the configuration and the files that it names while the server runs, each read within a deadline.

use std::fmt;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::sys::blocking_pool::{BlockingPool, JobLost};

/// One thread for reads, apart from the other pools.
pub(crate) struct ConfigReads {
    pool: BlockingPool,
    /// Referenced by the read that missed the deadline last, until it returns.
    overdue: Mutex<Weak<()>>,
}

/// Why a read has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadLost {
    /// It has missed the deadline.
    TimedOut,
    /// It was not started: one that has missed the deadline is still running.
    Blocked,
    /// The panic hook has logged the panic.
    Panicked,
}

impl fmt::Display for ReadLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => {
                write!(f, "a file of the configuration could not be read within {READ_TIMEOUT:?}")
            }
            Self::Blocked => {
                f.write_str("an earlier read of a file of the configuration has not returned yet")
            }
            Self::Panicked => f.write_str("a file of the configuration could not be read"),
        }
    }
}

impl ConfigReads {
    /// Creates the pool; its thread is started when needed.
    ///
    /// # Errors
    /// If the system lacks descriptors or memory for it.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { pool: BlockingPool::new("pagecast-load", 1, 0)?, overdue: Mutex::default() })
    }

    /// Runs `read` and returns its result. If it takes longer than [`READ_TIMEOUT`], it goes on without a waiter, and no other one
    /// is started until it returns.
    ///
    /// # Errors
    /// Why there is no result.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ReadLost> {
        self.run_within(READ_TIMEOUT, read).await
    }

    async fn run_within<T: Send + 'static>(
        &self,
        limit: Duration,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ReadLost> {
        if self.overdue.lock().strong_count() > 0 {
            return Err(ReadLost::Blocked);
        }
        let running = Arc::new(());
        let overdue = Arc::downgrade(&running);
        let guarded = move || {
            let _running = running;
            read()
        };
        self.pool.run_within(limit, guarded).await.map_err(|lost| match lost {
            JobLost::Panicked => ReadLost::Panicked,
            JobLost::TimedOut => {
                *self.overdue.lock() = overdue;
                ReadLost::TimedOut
            }
        })
    }
}

/// How long a reload, or a look at the certificates, waits for its files. Disks that work answer within a second.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    /// Starts a read that hangs until the sender is dropped, and lets its deadline pass.
    pub(crate) async fn hang(reads: &ConfigReads) -> Sender<()> {
        let (free, hung) = channel::<()>();
        let lost = reads.run_within(Duration::from_millis(10), move || hung.recv().is_ok()).await;
        assert_eq!(lost, Err(ReadLost::TimedOut));
        free
    }

    #[tokio::test]
    async fn while_an_overdue_read_runs_others_are_refused_at_once_and_not_started() {
        let reads = ConfigReads::new().unwrap();
        let free = hang(&reads).await;
        for _ in 0..3 {
            assert_eq!(reads.run(|| unreachable!("it is not started")).await, Err(ReadLost::Blocked));
        }
        drop(free);
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while reads.run(|| 7).await != Ok(7) {
            assert!(std::time::Instant::now() < deadline, "still refused");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(reads.run(|| panic!("a read that panics")).await, Err::<(), _>(ReadLost::Panicked));
        assert_eq!(reads.run(|| 8).await, Ok(8));
    }
}
