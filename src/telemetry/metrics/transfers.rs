//! List of the responses in progress that had to wait for their client or for the disk.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::outcome::Protocol;
use crate::http::client_key::ClientKey;
use crate::http::target::SitePath;

/// Transfers of one worker. Only that worker adds and removes them; readers hold the lock for a few entries at a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transfers {
    slots: Arc<Mutex<Slots>>,
}

#[derive(Debug, Default)]
struct Slots {
    entries: Vec<Option<Arc<Entry>>>,
    free: Vec<usize>,
}

/// Facts about a transfer that do not change.
#[derive(Debug)]
pub(crate) struct TransferStart {
    pub(crate) client: ClientKey,
    /// `None` for listings and archives.
    pub(crate) path: Option<SitePath<'static>>,
    /// Bytes of the response including its head. `None` if unknown before the end.
    pub(crate) total: Option<u64>,
    /// When the request head was complete.
    pub(crate) at: Instant,
    pub(crate) protocol: Protocol,
}

#[derive(Debug)]
struct Entry {
    start: TransferStart,
    sent: AtomicU64,
}

/// Entry of a transfer in the list, removed when dropped.
#[derive(Debug)]
pub(crate) struct ListedTransfer {
    slots: Arc<Mutex<Slots>>,
    slot: usize,
    entry: Arc<Entry>,
}

/// State of a transfer at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    pub(crate) client: ClientKey,
    /// `None` for listings and archives.
    pub(crate) path: Option<SitePath<'static>>,
    /// Bytes of the response including its head. `None` if unknown before the end.
    pub(crate) total: Option<u64>,
    /// Bytes accepted by the kernel.
    pub(crate) sent: u64,
    pub(crate) started: Instant,
    pub(crate) protocol: Protocol,
}

impl Transfers {
    /// Adds a transfer of which `sent` bytes have been sent.
    pub(crate) fn add(&self, start: TransferStart, sent: u64) -> ListedTransfer {
        let entry = Arc::new(Entry { start, sent: AtomicU64::new(sent) });
        let mut slots = self.slots.lock();
        let slot = slots.free.pop().unwrap_or(slots.entries.len());
        match slots.entries.get_mut(slot) {
            Some(place) => *place = Some(Arc::clone(&entry)),
            None => slots.entries.push(Some(Arc::clone(&entry))),
        }
        ListedTransfer { slots: Arc::clone(&self.slots), slot, entry }
    }

    /// Number of transfers in progress.
    pub(crate) fn len(&self) -> usize {
        let slots = self.slots.lock();
        slots.entries.len() - slots.free.len()
    }

    /// Adds the transfers to `slowest` that are slower than those it has.
    pub(super) fn add_slowest_to(&self, slowest: &mut SlowestTransfers) {
        let mut start = 0;
        loop {
            // In chunks, so that the worker waits for the lock no longer than one chunk takes.
            let slots = self.slots.lock();
            let Some(piece) = slots.entries.get(start..).filter(|rest| !rest.is_empty()) else { return };
            for entry in piece.iter().take(CHUNK).flatten() {
                slowest.offer(entry);
            }
            start += CHUNK;
        }
    }
}

impl ListedTransfer {
    /// Sets the number of bytes accepted by the kernel.
    pub(crate) fn set_sent(&self, sent: u64) {
        self.entry.sent.store(sent, Ordering::Relaxed);
    }
}

impl Drop for ListedTransfer {
    fn drop(&mut self) {
        let mut slots = self.slots.lock();
        let gone = slots.entries.get_mut(self.slot).and_then(Option::take);
        if gone.is_some() {
            slots.free.push(self.slot);
        }
        if slots.free.len() == slots.entries.len() {
            *slots = Slots::default();
        }
        drop(slots);
        drop(gone);
    }
}

/// Selection of the slowest transfers. Transfers younger than [`SETTLED`] come last.
pub(super) struct SlowestTransfers {
    now: Instant,
    max: usize,
    found: BinaryHeap<Ranked>,
}

/// A transfer with its rank: the greater, the later it is listed.
struct Ranked {
    order: (bool, u64, Reverse<Duration>),
    entry: Arc<Entry>,
}

impl SlowestTransfers {
    pub(super) fn new(now: Instant, max: usize) -> Self {
        Self { now, max, found: BinaryHeap::new() }
    }

    fn offer(&mut self, entry: &Arc<Entry>) {
        let age = self.now.saturating_duration_since(entry.start.at);
        let sent = entry.sent.load(Ordering::Relaxed);
        let rate = (u128::from(sent) * 1000 / age.as_millis().max(1)).try_into().unwrap_or(u64::MAX);
        let order = (age < SETTLED, rate, Reverse(age));
        let is_selected =
            self.found.len() < self.max || self.found.peek().is_some_and(|last| order < last.order);
        if is_selected {
            self.found.push(Ranked { order, entry: Arc::clone(entry) });
            if self.found.len() > self.max {
                self.found.pop();
            }
        }
    }

    /// Returns the transfers, slowest first.
    pub(super) fn into_transfers(self) -> Vec<Transfer> {
        let state = |Ranked { entry, .. }: Ranked| {
            let TransferStart { client, path, total, at, protocol } = &entry.start;
            Transfer {
                client: *client,
                path: path.clone(),
                total: *total,
                sent: entry.sent.load(Ordering::Relaxed),
                started: *at,
                protocol: *protocol,
            }
        };
        self.found.into_sorted_vec().into_iter().map(state).collect()
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

/// Minimum age at which the rate of a transfer is meaningful.
const SETTLED: Duration = Duration::from_secs(1);

/// Entries read under one lock.
const CHUNK: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::registry::Metrics;

    fn start(client: u32, at: Instant) -> TransferStart {
        let path = Some(SitePath::root().entry(b"a").entry(b"b.bin"));
        TransferStart {
            client: ClientKey::V4(client),
            path,
            total: Some(1000),
            at,
            protocol: Protocol::Http11,
        }
    }

    #[test]
    fn the_slowest_transfers_come_first_and_new_ones_last() {
        let (metrics, now) = (Metrics::default(), Instant::now());
        let Some(then) = now.checked_sub(Duration::from_secs(10)) else { return };
        let workers = [metrics.worker(), metrics.worker()];
        let _shown = [
            workers[0].transfers.add(start(1, then), 100),
            workers[1].transfers.add(start(2, then), 10),
            workers[0].transfers.add(start(3, now), 0),
            workers[1].transfers.add(start(4, then), 1000),
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
            (worker.transfers.add(start(1, now), 0), worker.transfers.add(start(2, now), 5));
        second.set_sent(700);
        drop(first);
        let [transfer] = <[Transfer; 1]>::try_from(metrics.transfers()).unwrap();
        assert_eq!((transfer.client, transfer.sent, transfer.total), (ClientKey::V4(2), 700, Some(1000)));
        assert_eq!(transfer.path.map(|path| path.to_string()).as_deref(), Some("a/b.bin"));
        drop(second);
        assert!(metrics.transfers().is_empty());
    }

    #[test]
    fn the_number_of_listed_transfers_is_bounded() {
        let (metrics, now) = (Metrics::default(), Instant::now());
        let worker = metrics.worker();
        let _shown: Vec<_> = (0..3000).map(|client| worker.transfers.add(start(client, now), 0)).collect();
        assert_eq!(metrics.transfers().len(), crate::telemetry::metrics::registry::TRANSFERS_SHOWN);
        assert_eq!(metrics.transfer_count(), 3000);
    }
}
