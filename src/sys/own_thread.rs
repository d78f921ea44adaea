//! A thread for one job that may block for long.

use tokio::sync::oneshot;

/// Runs `job` on a thread of its own, which a stop of the server does not wait for: it may wait for a disk. Returns `None` if no
/// thread is available or the job panicked.
pub(crate) async fn run_on_own_thread<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (result, received) = oneshot::channel();
    let thread = std::thread::Builder::new().name("pagecast-state".to_owned());
    thread.spawn(move || result.send(job()).is_ok()).ok()?;
    received.await.ok()
}
