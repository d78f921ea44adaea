//! Limits how often one client may present a wrong token: ten at once, then one each six seconds.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::http::client_key::{ClientKey, ClientPrefixes};
use crate::sys::gcra::{Gcra, Quota, RateClock, SECOND};

/// Clients with wrong tokens. Bounded: beyond 1,024 the client whose limit is restored first is forgotten.
#[derive(Debug, Default)]
pub(crate) struct FailedTokenAttempts {
    clients: Mutex<HashMap<ClientKey, Gcra>>,
    clock: RateClock,
}

impl FailedTokenAttempts {
    /// Whether a token from `peer` is checked now.
    ///
    /// # Errors
    /// The time after which one is.
    pub(crate) fn check(&self, peer: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let gcra = self.clients.lock().get(&key_of(peer)).copied().unwrap_or_default();
        match gcra.wait(self.clock.at(now)) {
            0 => Ok(()),
            wait => Err(Duration::from_nanos(wait)),
        }
    }

    /// Counts a wrong token from `peer`.
    pub(crate) fn failed(&self, peer: Option<IpAddr>, now: Instant) {
        let (now, mut clients) = (self.clock.at(now), self.clients.lock());
        if clients.len() >= CLIENTS_MAX {
            clients.retain(|_, gcra| gcra.left(now, ALLOWED) < ALLOWED.burst());
        }
        if clients.len() >= CLIENTS_MAX {
            let first = clients.iter().min_by_key(|(_, gcra)| **gcra).map(|(key, _)| *key);
            first.map(|key| clients.remove(&key));
        }
        clients.entry(key_of(peer)).or_default().charge_one(now, ALLOWED);
    }

    /// Forgets the wrong tokens of `peer`: it presented the right one.
    pub(crate) fn succeeded(&self, peer: Option<IpAddr>) {
        self.clients.lock().remove(&key_of(peer));
    }
}

fn key_of(peer: Option<IpAddr>) -> ClientKey {
    ClientKey::of(peer, ClientPrefixes { v4: 32, v6: 64 })
}

/// Wrong tokens of one client.
const ALLOWED: Quota = Quota::new(6 * SECOND, 10);

const CLIENTS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_ten_wrong_ones_there_is_a_pause_for_that_client_alone() {
        let attempts = FailedTokenAttempts::default();
        let (now, one, other) = (Instant::now(), "192.0.2.1".parse().ok(), "192.0.2.2".parse().ok());
        for _ in 0..10 {
            assert_eq!(attempts.check(one, now), Ok(()));
            attempts.failed(one, now);
        }
        let wait = attempts.check(one, now).unwrap_err();
        assert_eq!(wait, Duration::from_secs(6));
        assert_eq!(attempts.check(other, now), Ok(()));
        assert_eq!(attempts.check(None, now), Ok(()));
        assert_eq!(attempts.check(one, now + wait), Ok(()));
        attempts.failed(one, now + wait);
        assert!(attempts.check(one, now + wait).is_err());
        attempts.succeeded(one);
        assert_eq!(attempts.check(one, now + wait), Ok(()));
    }

    #[test]
    fn those_who_are_remembered_are_bounded_and_the_worst_stay() {
        let (attempts, now) = (FailedTokenAttempts::default(), Instant::now());
        let worst = "192.0.2.1".parse().ok();
        (0..20).for_each(|_| attempts.failed(worst, now));
        for number in 0..3 * CLIENTS_MAX as u32 {
            attempts.failed(Some(IpAddr::V4(number.into())), now);
        }
        assert!(attempts.clients.lock().len() <= CLIENTS_MAX);
        assert!(attempts.check(worst, now).is_err());
    }
}
