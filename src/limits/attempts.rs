//! How often a client may present wrong credentials.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::http::client_key::ClientKey;
use crate::sys::gcra::{AtomicGcra, Quota, SECOND};

/// A client's wrong attempts. Right ones cost nothing, so the limit is checked first and charged afterwards.
#[derive(Debug, Default)]
pub(crate) struct FailedAttempts(AtomicGcra);

/// Wrong attempts by client, for callers without another table of clients. Bounded: beyond 1,024 clients the one whose limit
/// is restored first is forgotten.
#[derive(Debug)]
pub(crate) struct FailedAttemptTable {
    /// Wrong attempts that a client may make.
    quota: Quota,
    clients: Mutex<HashMap<ClientKey, FailedAttempts>>,
}

impl FailedAttempts {
    /// Whole seconds from `now` until another attempt may be made; `None`: it may be made now.
    pub(crate) fn wait(&self, now: u64) -> Option<u64> {
        let wait = self.0.load().wait(now);
        (wait > 0).then(|| wait.div_ceil(SECOND))
    }

    /// Counts a wrong attempt. Several under way at once delay the next one by one period at most.
    pub(crate) fn count_wrong(&self, quota: Quota, now: u64) {
        self.0.update(|gcra| gcra.charge_one(now, quota));
    }
}

impl FailedAttemptTable {
    pub(crate) fn new(quota: Quota) -> Self {
        Self { quota, clients: Mutex::default() }
    }

    /// Whole seconds from `now` until another attempt of `client` may be made; `None`: it may be made now.
    pub(crate) fn wait(&self, client: ClientKey, now: u64) -> Option<u64> {
        self.clients.lock().get(&client)?.wait(now)
    }

    /// Counts a wrong attempt of `client`.
    pub(crate) fn count_wrong(&self, client: ClientKey, now: u64) {
        let mut clients = self.clients.lock();
        if clients.len() >= CLIENTS_MAX {
            let quota = self.quota;
            clients.retain(|_, attempts| attempts.0.load().left(now, quota) < quota.burst);
        }
        if clients.len() >= CLIENTS_MAX {
            let first = clients.iter().min_by_key(|(_, attempts)| attempts.0.load()).map(|(key, _)| *key);
            first.map(|key| clients.remove(&key));
        }
        clients.entry(client).or_default().count_wrong(self.quota, now);
    }

    /// Forgets the wrong attempts of `client`, because it made a right one.
    pub(crate) fn forget(&self, client: ClientKey) {
        self.clients.lock().remove(&client);
    }
}

const CLIENTS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RequestRate;

    const NOW: u64 = u64::MAX / 3;

    fn quota(rate: &str) -> Quota {
        let rate: RequestRate = rate.parse().unwrap();
        Quota::per(rate.span, rate.requests(), rate.requests())
    }

    #[test]
    fn a_burst_of_wrong_attempts_is_allowed_and_then_one_each_period() {
        let rate = quota("30/m");
        let (attempts, at) = (FailedAttempts::default(), |seconds| NOW + seconds * SECOND);
        for number in 0..30 {
            assert_eq!(attempts.wait(at(100)), None, "{number}");
            attempts.count_wrong(rate, at(100));
        }
        assert_eq!(attempts.wait(at(100)), Some(2));
        assert_eq!(attempts.wait(at(101)), Some(1));
        assert_eq!(attempts.wait(at(102)), None);
        attempts.count_wrong(rate, at(102));
        assert_eq!(attempts.wait(at(102)), Some(2));
        assert_eq!(attempts.wait(at(162)), None);
    }

    #[test]
    fn concurrent_wrong_attempts_delay_the_next_by_one_period() {
        let rate = quota("2/h");
        let (attempts, now) = (FailedAttempts::default(), NOW);
        (0..100).for_each(|_| attempts.count_wrong(rate, now));
        assert_eq!(attempts.wait(now), Some(1800));
    }

    #[test]
    fn the_table_limits_each_client_by_itself_until_it_is_right() {
        let table = FailedAttemptTable::new(Quota::new(6 * SECOND, 10));
        let (one, other) = (ClientKey::V4(1), ClientKey::V4(2));
        for _ in 0..10 {
            assert_eq!(table.wait(one, NOW), None);
            table.count_wrong(one, NOW);
        }
        assert_eq!(table.wait(one, NOW), Some(6));
        assert_eq!((table.wait(other, NOW), table.wait(ClientKey::Local, NOW)), (None, None));
        let later = NOW + 6 * SECOND;
        assert_eq!(table.wait(one, later), None);
        table.count_wrong(one, later);
        assert_eq!(table.wait(one, later), Some(6));
        table.forget(one);
        assert_eq!(table.wait(one, later), None);
    }

    #[test]
    fn the_table_is_bounded_and_keeps_the_clients_with_most_wrong_attempts() {
        let table = FailedAttemptTable::new(Quota::new(6 * SECOND, 10));
        let worst = ClientKey::V6(1);
        (0..20).for_each(|_| table.count_wrong(worst, NOW));
        (0..3 * CLIENTS_MAX as u32).for_each(|client| table.count_wrong(ClientKey::V4(client), NOW));
        assert!(table.clients.lock().len() <= CLIENTS_MAX);
        assert_eq!(table.wait(worst, NOW), Some(6));
    }
}
