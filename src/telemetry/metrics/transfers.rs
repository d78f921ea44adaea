//! List of the responses in progress that had to wait for their client or for the disk.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::counter::Counter;
use super::kind::Protocol;
use crate::http::client_key::ClientKey;
use crate::http::target::SitePath;

/// Transfers of one worker. Only that worker adds and removes them; readers hold the lock for a few entries at a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transfers(Arc<Mutex<BTreeMap<u64, Arc<Transfer>>>>);

/// A transfer. Only the bytes sent change.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) client: ClientKey,
    /// `None` for listings and archives.
    pub(crate) path: Option<SitePath<'static>>,
    /// Bytes of the response including its head. `None` if unknown before the end.
    pub(crate) total: Option<u64>,
    /// When the request head was complete.
    pub(crate) started: Instant,
    pub(crate) protocol: Protocol,
    /// Bytes accepted by the kernel.
    pub(crate) sent: Counter,
}

/// Entry of a transfer in the list, removed when dropped.
#[derive(Debug)]
pub(crate) struct ListedTransfer {
    list: Transfers,
    key: u64,
    pub(crate) transfer: Arc<Transfer>,
}

impl Transfers {
    /// Adds a transfer.
    pub(crate) fn add(&self, transfer: Transfer) -> ListedTransfer {
        let transfer = Arc::new(transfer);
        let mut transfers = self.0.lock();
        let key = transfers.last_key_value().map_or(0, |(last, _)| last + 1);
        transfers.insert(key, Arc::clone(&transfer));
        ListedTransfer { list: self.clone(), key, transfer }
    }

    /// Number of transfers in progress.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Adds the transfers to `slowest` that are slower than those it has.
    pub(super) fn add_slowest_to(&self, slowest: &mut SlowestTransfers) {
        let mut next = 0;
        loop {
            // In chunks, so that the worker waits for the lock no longer than one chunk takes.
            let transfers = self.0.lock();
            let chunk = transfers.range(next..).take(CHUNK);
            let Some(last) = chunk.inspect(|(_, transfer)| slowest.offer(transfer)).last() else { break };
            next = last.0 + 1;
        }
    }
}

impl Drop for ListedTransfer {
    fn drop(&mut self) {
        self.list.0.lock().remove(&self.key);
    }
}

/// Selection of the slowest transfers, the slowest first. Transfers younger than [`RATE_MIN_AGE`] come last.
pub(super) struct SlowestTransfers {
    pub(super) now: Instant,
    pub(super) found: BTreeMap<(bool, u64, Reverse<Duration>, usize), Arc<Transfer>>,
}

impl SlowestTransfers {
    fn offer(&mut self, transfer: &Arc<Transfer>) {
        let age = self.now.saturating_duration_since(transfer.started);
        let rate = u128::from(transfer.sent.get()) * 1000 / age.as_millis().max(1);
        let rate = rate.try_into().unwrap_or(u64::MAX);
        // The address makes a difference between equal ones.
        let rank = (age < RATE_MIN_AGE, rate, Reverse(age), Arc::as_ptr(transfer).addr());
        if self.found.len() < TRANSFERS_SHOWN
            || self.found.last_key_value().is_some_and(|(last, _)| rank < *last)
        {
            self.found.insert(rank, Arc::clone(transfer));
            if self.found.len() > TRANSFERS_SHOWN {
                self.found.pop_last();
            }
        }
    }
}

/// Maximum number of transfers listed at once.
const TRANSFERS_SHOWN: usize = 100;

/// Minimum age at which the rate of a transfer is meaningful.
const RATE_MIN_AGE: Duration = Duration::from_secs(1);

/// Entries read under one lock.
const CHUNK: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::registry::Metrics;

    fn transfer(client: u32, started: Instant, sent: u64) -> Transfer {
        let path = Some(SitePath::root().entry(b"a").entry(b"b.bin"));
        let (client, protocol) = (ClientKey::V4(client), Protocol::Http11);
        Transfer { client, path, total: Some(1000), started, protocol, sent: sent.into() }
    }

    #[test]
    fn the_slowest_transfers_come_first_and_new_ones_last() {
        let (metrics, now) = (Metrics::default(), Instant::now());
        let Some(then) = now.checked_sub(Duration::from_secs(10)) else { return };
        let workers = [metrics.worker(), metrics.worker()];
        let _shown = [
            workers[0].transfers.add(transfer(1, then, 100)),
            workers[1].transfers.add(transfer(2, then, 10)),
            workers[0].transfers.add(transfer(3, now, 0)),
            workers[1].transfers.add(transfer(4, then, 1000)),
        ];
        let clients: Vec<_> = metrics.transfers().into_iter().map(|transfer| transfer.client).collect();
        assert_eq!(clients, [2, 1, 4, 3].map(ClientKey::V4));
        assert_eq!(metrics.transfer_count(), 4);
    }

    #[test]
    fn ended_transfers_are_removed_and_others_are_up_to_date() {
        let (metrics, now) = (Metrics::default(), Instant::now());
        let worker = metrics.worker();
        let (first, second) =
            (worker.transfers.add(transfer(1, now, 0)), worker.transfers.add(transfer(2, now, 5)));
        second.transfer.sent.set(700);
        drop(first);
        let [transfer] = <[Arc<Transfer>; 1]>::try_from(metrics.transfers()).unwrap();
        assert_eq!(
            (transfer.client, transfer.sent.get(), transfer.total),
            (ClientKey::V4(2), 700, Some(1000))
        );
        assert_eq!(transfer.path.as_ref().map(|path| path.to_string()).as_deref(), Some("a/b.bin"));
        drop(second);
        assert!(metrics.transfers().is_empty());
    }

    #[test]
    fn the_number_of_listed_transfers_is_bounded() {
        let (metrics, now) = (Metrics::default(), Instant::now());
        let worker = metrics.worker();
        let _shown: Vec<_> = (0..3000).map(|client| worker.transfers.add(transfer(client, now, 0))).collect();
        assert_eq!(metrics.transfers().len(), TRANSFERS_SHOWN);
        assert_eq!(metrics.transfer_count(), 3000);
    }
}
