//! What one worker has counted. It alone writes, so that no count costs more than a load and a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::exchange::{Exchange, Outcome};
use super::note::{Note, Register};

/// The counts of one worker.
#[derive(Default)]
pub(crate) struct Sheet {
    /// Who takes the notes of exchanges that have ended.
    register: Option<Arc<dyn Register>>,
    ended: AtomicU64,
    sent: [AtomicU64; 4],
}

/// How bytes of a response reach the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// From memory of our own.
    Heap,
    /// By `writev` from a mapping.
    Writev,
    /// By `sendfile`.
    Sendfile,
    /// Read into memory of our own, and encrypted or framed there.
    Copied,
}

impl Sheet {
    /// A sheet that hands notes to `register`.
    pub(super) fn handing_to(register: Option<Arc<dyn Register>>) -> Self {
        Self { register, ..Self::default() }
    }

    /// An exchange has ended at `now`.
    pub(crate) fn end(&self, exchange: &Exchange, outcome: Outcome, now: Instant) {
        add(&self.ended, 1);
        if let Some(note) = exchange.note.take() {
            self.hand_over(note, exchange, outcome, now);
        }
    }

    #[inline(never)]
    fn hand_over(&self, mut note: Box<Note>, exchange: &Exchange, outcome: Outcome, now: Instant) {
        if let Some(register) = self.register.as_ref().filter(|_| note.is_written) {
            note.end(exchange, outcome, now);
            register.enter(note);
        }
    }

    /// So many bytes went that way.
    pub(crate) fn sent(&self, path: Path, bytes: usize) {
        add(&self.sent[path as usize], bytes as u64);
    }
}

/// Adds without a lock, since nobody else writes.
fn add(count: &AtomicU64, number: u64) {
    count.store(count.load(Ordering::Relaxed).wrapping_add(number), Ordering::Relaxed);
}
