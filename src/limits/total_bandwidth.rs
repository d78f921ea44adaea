//! What all clients may send together, shared among those that want more than they get.

use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::http::client_key::ClientKey;
use crate::sys::fair_queue::FairQueue;
use crate::sys::rate_bucket::{LATE, chunk, nanoseconds};

/// The shares of one rate. Whoever finds it unused takes at once; else clients take turns, however many connections they ask by.
pub(crate) struct TotalRate {
    state: Mutex<State>,
    /// Somebody waits who did not, or something was given back.
    arrived: Notify,
}

struct State {
    /// Bytes a second; none is no limit.
    rate: Option<u64>,
    /// When the next byte is due, in nanoseconds.
    due: u64,
    queue: FairQueue<ClientKey, Arc<Ticket>>,
    /// Tickets in the queue that nobody waits for any more.
    void: usize,
}

/// A place in the queue.
pub(crate) struct Ticket {
    bytes: u64,
    state: Mutex<TicketState>,
}

enum TicketState {
    Waits(Waker),
    Granted,
    Void,
}

/// The answer to who asks for bytes.
pub(crate) enum RateGrant {
    /// So many may be sent now.
    Granted(u64),
    /// They will be granted.
    Waits(Arc<Ticket>),
}

impl TotalRate {
    pub(crate) fn new() -> Self {
        let state = State { rate: None, due: 0, queue: FairQueue::new(TURN), void: 0 };
        Self { state: Mutex::new(state), arrived: Notify::new() }
    }

    /// From now on so many bytes a second; none is no limit.
    pub(crate) fn set_rate(&self, rate: Option<u64>) {
        self.state.lock().rate = rate;
        self.arrived.notify_one();
    }

    /// Asks for `wanted` bytes of the share of `client`, of which a turn's worth is granted: now, or when `waker` wakes.
    pub(crate) fn ask(&self, now: u64, client: ClientKey, wanted: u64, waker: &Waker) -> RateGrant {
        let mut state = self.state.lock();
        let Some(rate) = state.rate else { return RateGrant::Granted(wanted) };
        let turn = chunk(rate, TURNS_A_SECOND, TURN_MAX);
        let bytes = wanted.min(turn);
        let begin = state.due.max(now.saturating_sub(CREDIT));
        if state.queue.is_empty() && begin <= now {
            state.due = begin.saturating_add(nanoseconds(bytes, rate));
            return RateGrant::Granted(bytes);
        }
        let ticket = Arc::new(Ticket { bytes, state: Mutex::new(TicketState::Waits(waker.clone())) });
        let is_first = state.queue.is_empty();
        state.queue.push(client, (bytes.saturating_mul(TURN) / turn).max(1), Arc::clone(&ticket));
        drop(state);
        if is_first {
            self.arrived.notify_one();
        }
        RateGrant::Waits(ticket)
    }

    /// Grants to those who wait what is due now; returns when the next grant is, if anybody still waits.
    pub(crate) fn grant(&self, now: u64) -> Option<u64> {
        let mut wakers = Vec::new();
        let next = self.state.lock().grant(now, &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
        next
    }

    /// Waits until there may be more to grant than there was.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// What was granted and is not sent: it goes to others.
    pub(crate) fn give_back(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.take_back(bytes);
        let somebody_waits = !state.queue.is_empty();
        drop(state);
        if somebody_waits {
            self.arrived.notify_one();
        }
    }

    /// Nobody waits for `ticket` any more.
    pub(crate) fn cancel(&self, ticket: &Ticket) {
        let mut state = self.state.lock();
        let before = std::mem::replace(&mut *ticket.state.lock(), TicketState::Void);
        match before {
            TicketState::Granted => state.take_back(ticket.bytes),
            TicketState::Waits(_) => {
                state.void += 1;
                state.sweep();
            }
            TicketState::Void => {}
        }
    }

    /// Tickets that somebody waits for.
    pub(crate) fn waiting(&self) -> usize {
        let state = self.state.lock();
        state.queue.len().saturating_sub(state.void)
    }
}

impl State {
    fn grant(&mut self, now: u64, wakers: &mut Vec<Waker>) -> Option<u64> {
        while !self.queue.is_empty() {
            let begin = self.due.max(now.saturating_sub(CREDIT));
            if self.rate.is_some() && begin > now {
                return Some(begin);
            }
            let Some(ticket) = self.queue.pop() else { break };
            let mut held = ticket.state.lock();
            match std::mem::replace(&mut *held, TicketState::Granted) {
                TicketState::Waits(waker) => {
                    wakers.push(waker);
                    let cost = self.rate.map_or(0, |rate| nanoseconds(ticket.bytes, rate));
                    self.due = begin.saturating_add(cost);
                }
                other => {
                    *held = other;
                    self.void = self.void.saturating_sub(1);
                }
            }
        }
        None
    }

    fn take_back(&mut self, bytes: u64) {
        let cost = self.rate.map_or(0, |rate| nanoseconds(bytes, rate));
        self.due = self.due.saturating_sub(cost);
    }

    /// Throws void tickets away once they are more than the others.
    fn sweep(&mut self) {
        if self.void <= VOID_KEPT || self.void * 2 <= self.queue.len() {
            return;
        }
        self.queue.retain(|ticket| !matches!(*ticket.state.lock(), TicketState::Void));
        self.void = 0;
    }
}

impl Ticket {
    /// The bytes, once they are granted; until then `waker` is told.
    pub(crate) fn granted(&self, waker: &Waker) -> Option<u64> {
        match &mut *self.state.lock() {
            TicketState::Waits(known) => {
                known.clone_from(waker);
                None
            }
            TicketState::Granted => Some(self.bytes),
            TicketState::Void => None,
        }
    }
}

/// A turn as the queue counts it: shares are of bytes, whatever the rate.
const TURN: u64 = 1024;

/// Grants a second that a rate is cut into.
const TURNS_A_SECOND: u64 = 100;

/// The most that is granted at once.
const TURN_MAX: u64 = 4 << 20;

/// What was not sent is made up for within this time, which takes the lateness of timers out of the rate.
const CREDIT: u64 = 5 * LATE;

/// Void tickets that may lie in the queue in any case.
const VOID_KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::rate_bucket::SECOND;

    const MIB: u64 = 1 << 20;
    const CLIENTS: [ClientKey; 2] = [ClientKey::V4(1), ClientKey::V4(2)];

    /// One whose rate is used up, so that somebody waits already, and whoever asks has to.
    fn total() -> TotalRate {
        let total = TotalRate::new();
        total.set_rate(Some(MIB));
        while let RateGrant::Granted(_) = total.ask(3 * SECOND, ClientKey::Local, MIB, Waker::noop()) {}
        total
    }

    fn wait(total: &TotalRate, now: u64, client: ClientKey) -> Arc<Ticket> {
        match total.ask(now, client, MIB, Waker::noop()) {
            RateGrant::Waits(ticket) => ticket,
            RateGrant::Granted(bytes) => panic!("{bytes} at once"),
        }
    }

    #[test]
    fn without_a_rate_everything_is_granted_at_once() {
        let total = TotalRate::new();
        assert!(matches!(total.ask(0, CLIENTS[0], MIB, Waker::noop()), RateGrant::Granted(MIB)));
    }

    #[test]
    fn a_client_of_many_connections_gets_no_more_than_a_client_of_one() {
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
                    match total.ask(now, CLIENTS[*client], MIB, Waker::noop()) {
                        RateGrant::Granted(bytes) => sent[*client] += bytes,
                        RateGrant::Waits(place) => *ticket = Some(place),
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
    fn who_has_gone_is_granted_nothing_and_what_they_were_granted_goes_to_others() {
        let total = total();
        let now = 3 * SECOND;
        let (gone, stays) = (wait(&total, now, CLIENTS[0]), wait(&total, now, CLIENTS[1]));
        assert_eq!(total.waiting(), 3);
        total.cancel(&gone);
        assert_eq!(total.waiting(), 2);
        // The first one waited before these two.
        assert_eq!(total.grant(now + SECOND), None);
        assert!(gone.granted(Waker::noop()).is_none());
        assert!(stays.granted(Waker::noop()).is_some());
        let before = total.state.lock().due;
        total.cancel(&stays);
        assert!(total.state.lock().due < before);
        total.cancel(&stays);
        assert_eq!(total.waiting(), 0);
    }

    #[test]
    fn tickets_of_those_who_have_gone_do_not_pile_up() {
        let total = total();
        for _ in 0..10_000 {
            let ticket = wait(&total, 3 * SECOND, CLIENTS[0]);
            total.cancel(&ticket);
        }
        assert!(total.state.lock().queue.len() <= 2 * VOID_KEPT + 2);
    }

    #[test]
    fn those_who_wait_are_let_go_when_the_limit_is() {
        let total = total();
        let ticket = wait(&total, 3 * SECOND, CLIENTS[0]);
        total.set_rate(None);
        assert_eq!(total.grant(3 * SECOND), None);
        assert!(ticket.granted(Waker::noop()).is_some());
    }
}
