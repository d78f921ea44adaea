//! Rates of downloads and of busy files, computed from earlier counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::figures::per;
use crate::files::inventory::BusyName;
use crate::telemetry::metrics::transfers::Transfer;

/// Downloads seen in the last second.
#[derive(Default)]
pub(super) struct Downloads {
    /// By the address of the transfer.
    seen: HashMap<usize, LastCount>,
}

struct LastCount {
    /// Keeps the address from being used again.
    _transfer: Arc<Transfer>,
    at: Instant,
    sent: u64,
    rate: f64,
}

/// A long response in progress.
#[derive(Debug, Serialize)]
pub(super) struct Download {
    client: String,
    /// `None` for listings and archives.
    path: Option<String>,
    protocol: &'static str,
    sent: u64,
    /// `None` if unknown before the end.
    total: Option<u64>,
    seconds: u64,
    bytes_per_second: f64,
    /// `None` if unknown, or if no bytes are sent.
    seconds_left: Option<u64>,
}

impl Downloads {
    /// Computes the rates of `transfers` and keeps their counts for the next call.
    pub(super) fn update(&mut self, transfers: Vec<Arc<Transfer>>, now: Instant) -> Vec<Download> {
        let mut seen = HashMap::with_capacity(transfers.len());
        let mut downloads = Vec::with_capacity(transfers.len());
        for transfer in transfers {
            let path = transfer.path.as_ref();
            let path = path.map(|path| format!("/{}", String::from_utf8_lossy(path.as_bytes())));
            let key = Arc::as_ptr(&transfer).addr();
            let (age, sent) = (now.saturating_duration_since(transfer.started), transfer.sent.get());
            let rate = match self.seen.get(&key) {
                Some(before) => before.rate_until(now, sent),
                None => per(sent, age.max(AGE_MIN).as_secs_f64()),
            };
            let left = transfer.total.map(|total| total.saturating_sub(sent));
            downloads.push(Download {
                client: transfer.client.to_string(),
                path,
                protocol: transfer.protocol.name(),
                sent,
                total: transfer.total,
                seconds: age.as_secs(),
                bytes_per_second: rate,
                seconds_left: left.and_then(|left| seconds(left, rate)),
            });
            seen.insert(key, LastCount { _transfer: transfer, at: now, sent, rate });
        }
        self.seen = seen;
        downloads
    }
}

impl LastCount {
    /// Moving average of the rate, because bytes leave in bursts.
    fn rate_until(&self, now: Instant, sent: u64) -> f64 {
        let latest =
            per(sent.saturating_sub(self.sent), now.saturating_duration_since(self.at).as_secs_f64());
        ((self.rate * 2.0 + latest) / 3.0).floor()
    }
}

/// Seconds that `left` bytes take at `rate`.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "for people"
)]
fn seconds(left: u64, rate: f64) -> Option<u64> {
    (rate >= 1.0).then(|| (left as f64 / rate).ceil() as u64)
}

/// The files with the most requests.
#[derive(Default)]
pub(super) struct BusyFiles {
    files: Vec<BusyFile>,
    counted_at: Option<Instant>,
}

/// A name with many requests.
#[derive(Clone, Debug, Serialize)]
pub(super) struct BusyFile {
    #[serde(flatten)]
    name: BusyName,
    requests_per_second: f64,
}

impl BusyFiles {
    /// Stores counts of requests between the last call and `now`.
    pub(super) fn put(&mut self, busiest: Vec<BusyName>, now: Instant) {
        let before = self.counted_at.replace(now);
        // The first counts have no known period.
        let Some(before) = before else { return };
        let seconds = now.saturating_duration_since(before).as_secs_f64();
        let file = |name: BusyName| BusyFile { requests_per_second: per(name.requests, seconds), name };
        self.files = busiest.into_iter().map(file).collect();
    }

    pub(super) fn files(&self) -> Vec<BusyFile> {
        self.files.clone()
    }
}

/// Minimum age for the rate of a new transfer, whose first bytes fill the socket buffer at once.
const AGE_MIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::client_key::ClientKey;
    use crate::http::target::SitePath;
    use crate::telemetry::metrics::exchange::Protocol;

    fn transfer(sent: u64, begun: Instant) -> Arc<Transfer> {
        let path = Some(SitePath::root().entry(b"a.iso"));
        Arc::new(Transfer {
            client: ClientKey::V4(1),
            path,
            total: Some(10_000),
            sent: sent.into(),
            started: begun,
            protocol: Protocol::Http11,
        })
    }

    #[test]
    fn the_rate_of_a_download_is_a_moving_average() {
        let (mut downloads, begun) = (Downloads::default(), Instant::now());
        let transfer = transfer(0, begun);
        let mut rate = |seconds: u64, sent| {
            transfer.sent.set(sent);
            let listed = downloads.update(vec![Arc::clone(&transfer)], begun + Duration::from_secs(seconds));
            (listed[0].bytes_per_second, listed[0].seconds_left)
        };
        assert_eq!(rate(4, 4000), (1000.0, Some(6)), "at first the mean since the start");
        assert_eq!(rate(5, 5000), (1000.0, Some(5)));
        assert_eq!(rate(6, 5000), (666.0, Some(8)), "then less and less while nothing is sent");
        let stalled = (7..40).map(|second| rate(second, 5000)).last();
        assert_eq!(stalled, Some((0.0, None)));
    }

    #[test]
    fn busy_files_have_rates_from_the_second_count_on() {
        let (mut busy, now) = (BusyFiles::default(), Instant::now());
        let found = || {
            let (path, outcome) = ("/a".to_owned(), "file");
            vec![BusyName { path, outcome, bytes: Some(1), requests: 30 }]
        };
        busy.put(found(), now);
        assert!(busy.files().is_empty());
        busy.put(found(), now + Duration::from_secs(3));
        assert_eq!(busy.files()[0].requests_per_second, 10.0);
    }
}
