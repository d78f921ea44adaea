//! Wrong tokens, by who showed them: after a few at once, one is looked at every few seconds.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::http::client_key::{ClientKey, ClientPrefixes};

/// What is remembered of those who failed. Bounded: of too many at once, those whose time is up soonest are forgotten.
#[derive(Debug, Default)]
pub(crate) struct FailedTokenAttempts {
    /// Until when each of them is paying for what failed.
    clients: Mutex<HashMap<ClientKey, Instant>>,
}

impl FailedTokenAttempts {
    /// Whether a token of whoever is at `peer` is looked at now; otherwise, after which time one is.
    pub(crate) fn may(&self, peer: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let paid = self.clients.lock().get(&key_of(peer)).copied().unwrap_or(now);
        match paid.saturating_duration_since(now).checked_sub(EACH * (AT_ONCE - 1)) {
            None | Some(Duration::ZERO) => Ok(()),
            Some(wait) => Err(wait),
        }
    }

    /// Whoever is at `peer` has shown a wrong one.
    pub(crate) fn failed(&self, peer: Option<IpAddr>, now: Instant) {
        let mut clients = self.clients.lock();
        if clients.len() >= CLIENTS_MAX {
            clients.retain(|_, paid| *paid > now);
        }
        if clients.len() >= CLIENTS_MAX {
            let first = clients.iter().min_by_key(|(_, paid)| **paid).map(|(key, _)| *key);
            first.map(|key| clients.remove(&key));
        }
        let paid = clients.entry(key_of(peer)).or_insert(now);
        *paid = (*paid).max(now) + EACH;
    }

    /// Whoever is at `peer` has shown the right one.
    pub(crate) fn succeeded(&self, peer: Option<IpAddr>) {
        self.clients.lock().remove(&key_of(peer));
    }
}

fn key_of(peer: Option<IpAddr>) -> ClientKey {
    ClientKey::of(peer, ClientPrefixes { v4: 32, v6: 64 })
}

/// Wrong tokens of one client that are looked at without a pause.
const AT_ONCE: u32 = 10;

/// What each of them costs.
const EACH: Duration = Duration::from_secs(6);

const CLIENTS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_ten_wrong_ones_there_is_a_pause_for_that_client_alone() {
        let attempts = FailedTokenAttempts::default();
        let (now, one, other) = (Instant::now(), "192.0.2.1".parse().ok(), "192.0.2.2".parse().ok());
        for _ in 0..10 {
            assert_eq!(attempts.may(one, now), Ok(()));
            attempts.failed(one, now);
        }
        let wait = attempts.may(one, now).unwrap_err();
        assert_eq!(wait, EACH);
        assert_eq!(attempts.may(other, now), Ok(()));
        assert_eq!(attempts.may(None, now), Ok(()));
        assert_eq!(attempts.may(one, now + wait), Ok(()));
        attempts.failed(one, now + wait);
        assert!(attempts.may(one, now + wait).is_err());
        attempts.succeeded(one);
        assert_eq!(attempts.may(one, now + wait), Ok(()));
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
        assert!(attempts.may(worst, now).is_err());
    }
}
