//! Bandwidth of all clients together, divided fairly among those that want more.

use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::http::client_key::ClientKey;
use crate::limits::byte_rate::{LATE, chunk, nanoseconds};
use crate::sys::fair_queue::FairQueue;
use crate::sys::gcra::Gcra;

/// The total rate. A response that finds some of it unused takes it at once; otherwise clients take turns, however many
/// connections each has.
pub(crate) struct TotalRate {
    state: Mutex<State>,
    /// Notified when the queue was empty and is not any more, when bytes were returned, and when the rate changed.
    changed: Notify,
}

struct State {
    /// Bytes per second; `None`: no limit.
    rate: Option<u64>,
    bucket: Gcra,
    queue: FairQueue<ClientKey, Arc<Ticket>>,
    /// Cancelled tickets that are still in the queue.
    cancelled: usize,
}

/// A request for bytes in the queue.
pub(crate) struct Ticket {
    bytes: u64,
    state: Mutex<TicketState>,
}

enum TicketState {
    Waiting(Waker),
    Granted,
    Cancelled,
}

/// The answer to a request for bytes.
pub(crate) enum RateGrant {
    /// This many may be sent now.
    Granted(u64),
    /// The task is woken when they are granted.
    Waiting(Arc<Ticket>),
}

impl TotalRate {
    pub(crate) fn new() -> Self {
        let state = State { rate: None, bucket: Gcra::default(), queue: FairQueue::new(TURN), cancelled: 0 };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// Sets the rate in bytes per second; `None`: no limit.
    pub(crate) fn set_rate(&self, rate: Option<u64>) {
        self.state.lock().rate = rate;
        self.changed.notify_one();
    }

    /// Requests `wanted` bytes for `client`. At most one turn is granted: now, or when `waker` is woken.
    pub(crate) fn request(&self, now: u64, client: ClientKey, wanted: u64, waker: &Waker) -> RateGrant {
        let mut state = self.state.lock();
        let Some(rate) = state.rate else { return RateGrant::Granted(wanted) };
        let turn = chunk(rate, TURNS_PER_SECOND, TURN_MAX);
        let bytes = wanted.min(turn);
        if state.queue.is_empty() && state.bucket.take(now, nanoseconds(bytes, rate), CREDIT).is_ok() {
            return RateGrant::Granted(bytes);
        }
        let ticket = Arc::new(Ticket { bytes, state: Mutex::new(TicketState::Waiting(waker.clone())) });
        let is_first = state.queue.is_empty();
        state.queue.push(client, (bytes.saturating_mul(TURN) / turn).max(1), Arc::clone(&ticket));
        drop(state);
        if is_first {
            self.changed.notify_one();
        }
        RateGrant::Waiting(ticket)
    }

    /// Grants what is due at `now` to waiting clients. Returns the time of the next grant, if any client still waits.
    pub(crate) fn grant(&self, now: u64) -> Option<u64> {
        let mut wakers = Vec::new();
        let next = self.state.lock().grant(now, &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
        next
    }

    /// Waits until there may be more to grant.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Returns granted bytes that were not sent.
    pub(crate) fn give_back(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.return_bytes(bytes);
        let has_waiting = !state.queue.is_empty();
        drop(state);
        if has_waiting {
            self.changed.notify_one();
        }
    }

    /// Cancels a request. Bytes that it was granted are returned.
    pub(crate) fn cancel(&self, ticket: &Ticket) {
        let mut state = self.state.lock();
        let before = std::mem::replace(&mut *ticket.state.lock(), TicketState::Cancelled);
        match before {
            TicketState::Granted => state.return_bytes(ticket.bytes),
            TicketState::Waiting(_) => {
                state.cancelled += 1;
                state.sweep();
            }
            TicketState::Cancelled => {}
        }
    }

    /// Requests that wait.
    pub(crate) fn waiting(&self) -> usize {
        let state = self.state.lock();
        state.queue.len().saturating_sub(state.cancelled)
    }
}

impl State {
    fn grant(&mut self, now: u64, wakers: &mut Vec<Waker>) -> Option<u64> {
        while !self.queue.is_empty() {
            let wait = self.bucket.wait(now);
            if self.rate.is_some() && wait > 0 {
                return Some(now.saturating_add(wait));
            }
            let Some(ticket) = self.queue.pop() else { break };
            let mut held = ticket.state.lock();
            match std::mem::replace(&mut *held, TicketState::Granted) {
                TicketState::Waiting(waker) => {
                    wakers.push(waker);
                    let cost = self.rate.map_or(0, |rate| nanoseconds(ticket.bytes, rate));
                    self.bucket.reserve(now, cost, CREDIT);
                }
                other => {
                    *held = other;
                    self.cancelled = self.cancelled.saturating_sub(1);
                }
            }
        }
        None
    }

    fn return_bytes(&mut self, bytes: u64) {
        let cost = self.rate.map_or(0, |rate| nanoseconds(bytes, rate));
        self.bucket.give_back(cost);
    }

    /// Removes cancelled tickets once they are the majority.
    fn sweep(&mut self) {
        if self.cancelled <= CANCELLED_KEPT || self.cancelled * 2 <= self.queue.len() {
            return;
        }
        self.queue.retain(|ticket| !matches!(*ticket.state.lock(), TicketState::Cancelled));
        self.cancelled = 0;
    }
}

impl Ticket {
    /// The bytes if they are granted; otherwise `waker` is woken when they are.
    pub(crate) fn granted(&self, waker: &Waker) -> Option<u64> {
        match &mut *self.state.lock() {
            TicketState::Waiting(known) => {
                known.clone_from(waker);
                None
            }
            TicketState::Granted => Some(self.bytes),
            TicketState::Cancelled => None,
        }
    }
}

/// Cost of a whole turn in the queue, which is independent of the rate.
const TURN: u64 = 1024;

/// Turns per second that a rate is divided into.
const TURNS_PER_SECOND: u64 = 100;

/// Upper limit of one grant in bytes.
const TURN_MAX: u64 = 4 << 20;

/// Idle time that is made up for, in nanoseconds. It keeps late timers from lowering the rate.
const CREDIT: u64 = 5 * LATE;

/// Cancelled tickets that may stay in the queue in any case.
const CANCELLED_KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::gcra::SECOND;

    const MIB: u64 = 1 << 20;
    const CLIENTS: [ClientKey; 2] = [ClientKey::V4(1), ClientKey::V4(2)];

    /// A rate that is used up, with one request waiting.
    fn total() -> TotalRate {
        let total = TotalRate::new();
        total.set_rate(Some(MIB));
        while let RateGrant::Granted(_) = total.request(3 * SECOND, ClientKey::Local, MIB, Waker::noop()) {}
        total
    }

    fn wait(total: &TotalRate, now: u64, client: ClientKey) -> Arc<Ticket> {
        match total.request(now, client, MIB, Waker::noop()) {
            RateGrant::Waiting(ticket) => ticket,
            RateGrant::Granted(bytes) => panic!("{bytes} at once"),
        }
    }

    #[test]
    fn without_a_rate_all_bytes_are_granted_at_once() {
        let total = TotalRate::new();
        assert!(matches!(total.request(0, CLIENTS[0], MIB, Waker::noop()), RateGrant::Granted(MIB)));
    }

    #[test]
    fn a_client_with_many_connections_gets_no_more_than_one_with_a_single_connection() {
        let total = TotalRate::new();
        total.set_rate(Some(MIB));
        let mut now = SECOND;
        let mut sent = [0_u64; 2];
        let mut tickets: Vec<(usize, Option<Arc<Ticket>>)> =
            (0..51).map(|number| (usize::from(number == 0), None)).collect();
        let end = now + 10 * SECOND;
        while now < end {
            for (client, ticket) in &mut tickets {
                if let Some(granted) = ticket.as_ref().and_then(|ticket| ticket.granted(Waker::noop())) {
                    sent[*client] += granted;
                    *ticket = None;
                }
                if ticket.is_none() {
                    match total.request(now, CLIENTS[*client], MIB, Waker::noop()) {
                        RateGrant::Granted(bytes) => sent[*client] += bytes,
                        RateGrant::Waiting(place) => *ticket = Some(place),
                    }
                }
            }
            now = total.grant(now).unwrap_or(now).max(now + SECOND / 1000);
        }
        let all = sent[0] + sent[1];
        assert!(all.abs_diff(10 * MIB) < MIB / 5, "{all}");
        assert!(sent[0].abs_diff(sent[1]) < MIB / 5, "{sent:?}");
    }

    #[test]
    fn cancelled_requests_get_nothing_and_return_their_grant() {
        let total = total();
        let now = 3 * SECOND;
        let (gone, stays) = (wait(&total, now, CLIENTS[0]), wait(&total, now, CLIENTS[1]));
        assert_eq!(total.waiting(), 3);
        total.cancel(&gone);
        assert_eq!(total.waiting(), 2);
        // One request waited before these two.
        assert_eq!(total.grant(now + SECOND), None);
        assert!(gone.granted(Waker::noop()).is_none());
        assert!(stays.granted(Waker::noop()).is_some());
        let before = total.state.lock().bucket;
        total.cancel(&stays);
        assert!(total.state.lock().bucket < before);
        total.cancel(&stays);
        assert_eq!(total.waiting(), 0);
    }

    #[test]
    fn cancelled_tickets_do_not_accumulate() {
        let total = total();
        for _ in 0..10_000 {
            let ticket = wait(&total, 3 * SECOND, CLIENTS[0]);
            total.cancel(&ticket);
        }
        assert!(total.state.lock().queue.len() <= 2 * CANCELLED_KEPT + 2);
    }

    #[test]
    fn waiting_requests_are_granted_when_the_limit_is_removed() {
        let total = total();
        let ticket = wait(&total, 3 * SECOND, CLIENTS[0]);
        total.set_rate(None);
        assert_eq!(total.grant(3 * SECOND), None);
        assert!(ticket.granted(Waker::noop()).is_some());
    }
}
