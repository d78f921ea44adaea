//! Responses under way that had to wait for their clients or for a disk: what is worth showing of the many that are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::outcome::Protocol;
use crate::http::client_key::ClientKey;
use crate::http::target::SitePath;

/// The transfers of one worker. It enters and leaves; others only look, a few at a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transfers {
    slots: Arc<Mutex<Slots>>,
}

#[derive(Debug, Default)]
struct Slots {
    entries: Vec<Option<Arc<Entry>>>,
    free: Vec<usize>,
}

/// What a transfer is, from its beginning.
#[derive(Debug)]
pub(crate) struct TransferStart {
    pub(crate) client: ClientKey,
    /// None where no file is sent, as with listings and archives.
    pub(crate) path: Option<SitePath<'static>>,
    /// Bytes of the response with its head; none where that is not known before its end.
    pub(crate) total: Option<u64>,
    /// When the request's head was whole.
    pub(crate) at: Instant,
    pub(crate) protocol: Protocol,
}

#[derive(Debug)]
struct Entry {
    begun: TransferStart,
    sent: AtomicU64,
}

/// A transfer that is shown; no longer once it is dropped.
#[derive(Debug)]
pub(crate) struct ListedTransfer {
    slots: Arc<Mutex<Slots>>,
    slot: usize,
    entry: Arc<Entry>,
}

/// A transfer at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    pub(crate) client: ClientKey,
    /// None where no file is sent, as with listings and archives.
    pub(crate) path: Option<SitePath<'static>>,
    /// Bytes of the response with its head; none where that is not known before its end.
    pub(crate) total: Option<u64>,
    /// Bytes that were handed to the kernel.
    pub(crate) sent: u64,
    pub(crate) begun: Instant,
    pub(crate) protocol: Protocol,
}

impl Transfers {
    /// From now on the transfer is shown, of which so much was `sent`.
    pub(crate) fn enter(&self, begun: TransferStart, sent: u64) -> ListedTransfer {
        let entry = Arc::new(Entry { begun, sent: AtomicU64::new(sent) });
        let mut slots = self.slots.lock();
        let slot = slots.free.pop().unwrap_or(slots.entries.len());
        match slots.entries.get_mut(slot) {
            Some(place) => *place = Some(Arc::clone(&entry)),
            None => slots.entries.push(Some(Arc::clone(&entry))),
        }
        ListedTransfer { slots: Arc::clone(&self.slots), slot, entry }
    }

    /// Transfers under way.
    pub(crate) fn len(&self) -> usize {
        let slots = self.slots.lock();
        slots.entries.len() - slots.free.len()
    }

    /// Adds those to `slowest` that are slower than what it has.
    pub(super) fn look(&self, slowest: &mut SlowestTransfers) {
        let mut start = 0;
        loop {
            // Piece by piece: the worker waits for no more than one of them.
            let slots = self.slots.lock();
            let Some(piece) = slots.entries.get(start..).filter(|rest| !rest.is_empty()) else { return };
            for entry in piece.iter().take(LOOKED_AT).flatten() {
                slowest.offer(entry);
            }
            start += LOOKED_AT;
        }
    }
}

impl ListedTransfer {
    /// So many bytes of it have been handed to the kernel.
    pub(crate) fn has_sent(&self, sent: u64) {
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

/// The slowest transfers, of those that have gone on for a second; then others.
pub(super) struct SlowestTransfers {
    now: Instant,
    most: usize,
    found: BinaryHeap<Ranked>,
}

/// Greater is of less interest.
struct Ranked {
    order: (bool, u64, Reverse<Duration>),
    entry: Arc<Entry>,
}

impl SlowestTransfers {
    pub(super) fn new(now: Instant, most: usize) -> Self {
        Self { now, most, found: BinaryHeap::new() }
    }

    fn offer(&mut self, entry: &Arc<Entry>) {
        let age = self.now.saturating_duration_since(entry.begun.at);
        let sent = entry.sent.load(Ordering::Relaxed);
        let rate = (u128::from(sent) * 1000 / age.as_millis().max(1)).try_into().unwrap_or(u64::MAX);
        let order = (age < SETTLED, rate, Reverse(age));
        let is_among =
            self.found.len() < self.most || self.found.peek().is_some_and(|last| order < last.order);
        if is_among {
            self.found.push(Ranked { order, entry: Arc::clone(entry) });
            if self.found.len() > self.most {
                self.found.pop();
            }
        }
    }

    /// The slowest first.
    pub(super) fn into_transfers(self) -> Vec<Transfer> {
        let shown = |Ranked { entry, .. }: Ranked| {
            let TransferStart { client, path, total, at, protocol } = &entry.begun;
            Transfer {
                client: *client,
                path: path.clone(),
                total: *total,
                sent: entry.sent.load(Ordering::Relaxed),
                begun: *at,
                protocol: *protocol,
            }
        };
        self.found.into_sorted_vec().into_iter().map(shown).collect()
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

/// Before that a rate says little.
const SETTLED: Duration = Duration::from_secs(1);

/// Entries that are looked at under one lock.
const LOOKED_AT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::registry::Metrics;

    fn begun(client: u32, at: Instant) -> TransferStart {
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
    fn the_slowest_come_first_and_those_that_just_began_last() {
        let (ledger, now) = (Metrics::default(), Instant::now());
        let Some(then) = now.checked_sub(Duration::from_secs(10)) else { return };
        let sheets = [ledger.sheet(), ledger.sheet()];
        let _shown = [
            sheets[0].transfers.enter(begun(1, then), 100),
            sheets[1].transfers.enter(begun(2, then), 10),
            sheets[0].transfers.enter(begun(3, now), 0),
            sheets[1].transfers.enter(begun(4, then), 1000),
        ];
        let clients: Vec<_> = ledger.transfers().into_iter().map(|transfer| transfer.client).collect();
        assert_eq!(clients, [2, 1, 4, 3].map(ClientKey::V4));
        assert_eq!(ledger.transfers_under_way(), 4);
    }

    #[test]
    fn what_has_ended_is_shown_no_longer_and_what_goes_on_is_told_as_it_is() {
        let (ledger, now) = (Metrics::default(), Instant::now());
        let sheet = ledger.sheet();
        let (first, second) =
            (sheet.transfers.enter(begun(1, now), 0), sheet.transfers.enter(begun(2, now), 5));
        second.has_sent(700);
        drop(first);
        let [transfer] = <[Transfer; 1]>::try_from(ledger.transfers()).unwrap();
        assert_eq!((transfer.client, transfer.sent, transfer.total), (ClientKey::V4(2), 700, Some(1000)));
        assert_eq!(transfer.path.map(|path| path.to_string()).as_deref(), Some("a/b.bin"));
        drop(second);
        assert!(ledger.transfers().is_empty());
    }

    #[test]
    fn so_many_are_shown_and_no_more() {
        let (ledger, now) = (Metrics::default(), Instant::now());
        let sheet = ledger.sheet();
        let _shown: Vec<_> = (0..3000).map(|client| sheet.transfers.enter(begun(client, now), 0)).collect();
        assert_eq!(ledger.transfers().len(), crate::telemetry::metrics::registry::TRANSFERS_SHOWN);
        assert_eq!(ledger.transfers_under_way(), 3000);
    }
}
