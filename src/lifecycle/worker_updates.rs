//! Sends new settings to the workers and waits until they have applied them.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Sends updates to all workers.
///
/// There is one place for an update: a newer one replaces one that a worker has not come to yet.
pub(crate) struct WorkerUpdates<T> {
    newest: watch::Sender<Option<Update<T>>>,
    /// For each worker, the number of the update that it applied last; 0 before the first.
    applied: Vec<watch::Receiver<u64>>,
}

/// One worker's end: receives the updates that it has to apply.
pub(crate) struct UpdateReceiver<T> {
    newest: watch::Receiver<Option<Update<T>>>,
    applied: watch::Sender<u64>,
}

#[derive(Clone)]
pub(crate) struct Update<T> {
    number: u64,
    sent: Instant,
    value: T,
}

impl<T: Clone> WorkerUpdates<T> {
    /// Creates the channels to `workers` workers.
    pub(crate) fn new(workers: usize) -> (Self, Vec<UpdateReceiver<T>>) {
        let newest = watch::Sender::new(None);
        let channels = (0..workers).map(|_| {
            let (applied, last) = watch::channel(0);
            (last, UpdateReceiver { newest: newest.subscribe(), applied })
        });
        let (applied, receivers) = channels.unzip();
        (Self { newest, applied }, receivers)
    }

    /// Sends `value` to every worker and waits until each has applied it, for `within` in total. Returns a sentence for each
    /// worker that has not: its task has ended, or its event loop does not run, and it applies the newest update when it does.
    pub(crate) async fn send(&self, value: T, within: Duration) -> Vec<String> {
        let (mut number, sent) = (1, Instant::now());
        self.newest.send_modify(|newest| {
            number += newest.as_ref().map_or(0, |before| before.number);
            *newest = Some(Update { number, sent, value });
        });
        let mut failures = Vec::new();
        for (worker, applied) in (1..).zip(&self.applied) {
            let mut applied = applied.clone();
            let is_applied = applied.wait_for(|applied| *applied >= number);
            failures.extend(match tokio::time::timeout_at(sent + within, is_applied).await {
                Ok(Ok(_)) => None,
                Ok(Err(_)) => {
                    Some(format!("worker {worker} has ended and cannot take the new configuration"))
                }
                Err(_) => {
                    Some(format!("worker {worker} did not take the new configuration within {within:?}"))
                }
            });
        }
        failures
    }
}

impl<T: Clone> UpdateReceiver<T> {
    /// Calls `apply` with each update, or the newest of several, until the sender is gone. `apply` also gets the time since the
    /// update was sent.
    pub(crate) async fn apply_with(mut self, mut apply: impl FnMut(T, Duration)) {
        while self.newest.changed().await.is_ok() {
            let update = self.newest.borrow_and_update().clone();
            if let Some(Update { number, sent, value }) = update {
                apply(value, sent.elapsed());
                self.applied.send_replace(number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// A worker that records what it applies, until its task is aborted.
    fn start(receiver: UpdateReceiver<u32>) -> (Arc<Mutex<Vec<u32>>>, tokio::task::JoinHandle<()>) {
        let applied = Arc::<Mutex<Vec<u32>>>::default();
        let log = Arc::clone(&applied);
        let task = tokio::spawn(receiver.apply_with(move |value, _| log.lock().unwrap().push(value)));
        (applied, task)
    }

    #[tokio::test]
    async fn every_worker_has_applied_an_update_when_sending_returns() {
        let (updates, receivers) = WorkerUpdates::new(3);
        let workers: Vec<_> = receivers.into_iter().map(start).collect();
        assert!(updates.send(1, LONG).await.is_empty());
        assert!(updates.send(2, LONG).await.is_empty());
        for (applied, _) in &workers {
            assert_eq!(*applied.lock().unwrap(), [1, 2]);
        }
    }

    #[tokio::test]
    async fn a_stuck_worker_is_reported_and_takes_the_newest_update_when_it_wakes() {
        let (updates, receivers) = WorkerUpdates::new(2);
        let mut receivers = receivers.into_iter();
        let (first, _) = start(receivers.next().unwrap());
        let stuck = receivers.next().unwrap();
        for value in [1, 2] {
            let failures = updates.send(value, SHORT).await;
            assert_eq!(failures, ["worker 2 did not take the new configuration within 20ms"]);
        }
        assert_eq!(*first.lock().unwrap(), [1, 2], "the other worker is not held up");
        let (second, _) = start(stuck);
        assert!(updates.send(3, LONG).await.is_empty());
        let applied = second.lock().unwrap().clone();
        assert!(applied.ends_with(&[3]) && !applied.contains(&1), "{applied:?}");
    }

    #[tokio::test]
    async fn a_worker_that_has_ended_is_reported_at_once() {
        let (updates, receivers) = WorkerUpdates::new(2);
        let mut workers = receivers.into_iter().map(start);
        let (_, ended) = workers.next().unwrap();
        let (applied, _) = workers.next().unwrap();
        ended.abort();
        assert!(ended.await.is_err());
        let failures = updates.send(1, LONG).await;
        assert_eq!(failures, ["worker 1 has ended and cannot take the new configuration"]);
        assert_eq!(*applied.lock().unwrap(), [1]);
    }

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(20);
}
