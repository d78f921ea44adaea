//! A thread for one job that may block for long.

use std::time::Duration;

use tokio::sync::oneshot;

/// Runs `job` on a thread of its own, which a stop of the server does not wait for: it may wait for a disk. Returns `None` if no
/// thread is available or the job panicked, after a pause: callers that try again at once must not keep their event loop busy.
pub(crate) async fn run_on_own_thread<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (result, received) = oneshot::channel();
    let thread = std::thread::Builder::new().name("pagecast-job".to_owned());
    // If the thread does not start, the sender is dropped with the closure.
    let _ = thread.spawn(move || result.send(job()).is_ok());
    let done = received.await.ok();
    if done.is_none() {
        tokio::time::sleep(FAILURE_PAUSE).await;
    }
    done
}

const FAILURE_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn a_caller_that_retries_failures_without_a_pause_leaves_time_to_others() {
        let failures = Cell::new(0);
        let retrying = async {
            loop {
                assert!(run_on_own_thread(|| panic!("a job that always fails")).await.is_none());
                failures.set(failures.get() + 1);
            }
        };
        assert!(tokio::time::timeout(FAILURE_PAUSE * 5, retrying).await.is_err());
        assert!((1..=5).contains(&failures.get()), "{} attempts", failures.get());
        assert_eq!(run_on_own_thread(|| 7).await, Some(7));
    }
}
