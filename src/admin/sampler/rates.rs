//! How fast each download is, and how often each file is asked for: by what it was a while before.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::figures::per;
use crate::files::inventory::BusyName;
use crate::telemetry::metrics::transfers::Transfer;

/// The downloads that were seen in the last second.
#[derive(Default)]
pub(super) struct Downloads {
    seen: HashMap<Key, LastCount>,
}

/// What tells a transfer from another one.
type Key = (Instant, String, String);

struct LastCount {
    at: Instant,
    sent: u64,
    rate: f64,
}

/// A long response under way.
#[derive(Debug, Serialize)]
pub(super) struct Download {
    client: String,
    /// None for what is made as it is sent: listings and archives.
    path: Option<String>,
    protocol: &'static str,
    sent: u64,
    /// None where that is not known before its end.
    total: Option<u64>,
    seconds: u64,
    bytes_per_second: f64,
    /// None where it is not known, or nothing is moving.
    seconds_left: Option<u64>,
}

impl Downloads {
    /// What is to be told of `transfers`, the slowest of them first.
    pub(super) fn look(&mut self, transfers: Vec<Transfer>, now: Instant) -> Vec<Download> {
        let mut seen = HashMap::with_capacity(transfers.len());
        let mut told = Vec::with_capacity(transfers.len());
        for transfer in transfers {
            let client = transfer.client.to_string();
            let path = transfer.path.as_ref();
            let path = path.map(|path| format!("/{}", String::from_utf8_lossy(path.as_bytes())));
            let key = (transfer.started, client.clone(), path.clone().unwrap_or_default());
            let age = now.saturating_duration_since(transfer.started);
            let rate = match self.seen.get(&key) {
                Some(before) => before.rate_until(now, transfer.sent),
                None => per(transfer.sent, age.max(LEAST_AGE).as_secs_f64()),
            };
            let left = transfer.total.map(|total| total.saturating_sub(transfer.sent));
            told.push(Download {
                client,
                path,
                protocol: transfer.protocol.name(),
                sent: transfer.sent,
                total: transfer.total,
                seconds: age.as_secs(),
                bytes_per_second: rate,
                seconds_left: left.and_then(|left| seconds(left, rate)),
            });
            seen.insert(key, LastCount { at: now, sent: transfer.sent, rate });
        }
        self.seen = seen;
        told
    }
}

impl LastCount {
    /// Of the last seconds, the latest weighing most: bytes leave in bursts.
    fn rate_until(&self, now: Instant, sent: u64) -> f64 {
        let latest =
            per(sent.saturating_sub(self.sent), now.saturating_duration_since(self.at).as_secs_f64());
        ((self.rate * 2.0 + latest) / 3.0).floor()
    }
}

/// How long `left` bytes take at `rate`.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "for people"
)]
fn seconds(left: u64, rate: f64) -> Option<u64> {
    (rate >= 1.0).then(|| (left as f64 / rate).ceil() as u64)
}

/// The files that are asked for most.
#[derive(Default)]
pub(super) struct BusyFiles {
    shown: Vec<BusyFile>,
    looked: Option<Instant>,
}

/// A name that is asked for often.
#[derive(Clone, Debug, Serialize)]
pub(super) struct BusyFile {
    path: String,
    /// `file`, `missing`, `directory`, …
    outcome: &'static str,
    bytes: Option<u64>,
    requests_per_second: f64,
}

impl BusyFiles {
    /// They were counted from the last time to `now`.
    pub(super) fn put(&mut self, busiest: Vec<BusyName>, now: Instant) {
        let before = self.looked.replace(now);
        // The first time they were counted from the start, whenever each was.
        let Some(before) = before else { return };
        let seconds = now.saturating_duration_since(before).as_secs_f64();
        let told = |busy: BusyName| BusyFile {
            requests_per_second: per(busy.requests, seconds),
            path: busy.path,
            outcome: busy.outcome,
            bytes: busy.bytes,
        };
        self.shown = busiest.into_iter().map(told).collect();
    }

    pub(super) fn shown(&self) -> Vec<BusyFile> {
        self.shown.clone()
    }
}

/// A transfer that has just begun has sent what the socket took at once.
const LEAST_AGE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::client_key::ClientKey;
    use crate::http::target::SitePath;
    use crate::telemetry::metrics::exchange::Protocol;

    fn transfer(sent: u64, begun: Instant) -> Transfer {
        let path = Some(SitePath::root().entry(b"a.iso"));
        Transfer {
            client: ClientKey::V4(1),
            path,
            total: Some(10_000),
            sent,
            started: begun,
            protocol: Protocol::Http11,
        }
    }

    #[test]
    fn a_download_is_as_fast_as_it_was_lately() {
        let (mut downloads, begun) = (Downloads::default(), Instant::now());
        let mut look = |seconds: u64, sent| {
            let told = downloads.look(vec![transfer(sent, begun)], begun + Duration::from_secs(seconds));
            (told[0].bytes_per_second, told[0].seconds_left)
        };
        assert_eq!(look(4, 4000), (1000.0, Some(6)), "at first its mean from the beginning");
        assert_eq!(look(5, 5000), (1000.0, Some(5)));
        assert_eq!(look(6, 5000), (666.0, Some(8)), "then less and less where nothing moves");
        let stands_still = (7..40).map(|second| look(second, 5000)).last();
        assert_eq!(stands_still, Some((0.0, None)));
    }

    #[test]
    fn busy_files_have_rates_from_the_second_look_on() {
        let (mut busy, now) = (BusyFiles::default(), Instant::now());
        let found = || {
            let (path, outcome) = ("/a".to_owned(), "file");
            vec![BusyName { path, outcome, bytes: Some(1), requests: 30 }]
        };
        busy.put(found(), now);
        assert!(busy.shown().is_empty());
        busy.put(found(), now + Duration::from_secs(3));
        assert_eq!(busy.shown()[0].requests_per_second, 10.0);
    }
}
