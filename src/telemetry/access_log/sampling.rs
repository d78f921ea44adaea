//! Sampling of the access log: one of N requests, and all that failed or were slow.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::Config;
use crate::telemetry::access_log::record::{AccessLogRecord, LogField};

/// Sampling rules. A reload may change them.
pub(super) struct Sampling {
    one_of: AtomicU64,
    /// Duration in nanoseconds from which a request is always logged.
    slow_from: AtomicU64,
}

impl Sampling {
    pub(super) fn new(config: &Config) -> Self {
        let sampling = Self { one_of: AtomicU64::new(1), slow_from: AtomicU64::new(u64::MAX) };
        sampling.set(config);
        sampling
    }

    pub(super) fn set(&self, config: &Config) {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let slow_from =
            config.logging.access_log_slow.given().map_or(u64::MAX, |slow| nanoseconds(slow.get()));
        self.one_of.store(config.logging.access_log_sample.get(), Ordering::Relaxed);
        self.slow_from.store(slow_from, Ordering::Relaxed);
    }

    /// Decides whether the request is logged, and sets for how many requests its line stands. The request id decides, so
    /// that other systems that sample by it select the same requests.
    pub(super) fn takes(&self, record: &mut AccessLogRecord) -> bool {
        let one_of = self.one_of.load(Ordering::Relaxed);
        if one_of <= 1 {
            return true;
        }
        let slow_from = Duration::from_nanos(self.slow_from.load(Ordering::Relaxed));
        let is_chosen = hash(record.get(LogField::Id).unwrap_or_default()).is_multiple_of(one_of);
        let Some(ended) = &mut record.ended else { return false };
        if ended.is_failure() || ended.took >= slow_from {
            return true;
        }
        ended.sample = one_of;
        is_chosen
    }
}

/// FNV-1a with a final mix, so that sequential ids are spread too. The same in every process.
fn hash(id: &[u8]) -> u64 {
    let hash = id.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Count, DurationSetting, LoggingGroup, Toggle};
    use crate::telemetry::metrics::exchange::{Exchange, ExchangeOutcome, Protocol};
    use std::time::Instant;

    fn taken(
        sampling: &Sampling,
        id: &str,
        status: u16,
        outcome: ExchangeOutcome,
        took_ms: u64,
    ) -> Option<u64> {
        let (mut record, now) = (AccessLogRecord::new(None), Instant::now());
        record.put(LogField::Id, id.as_bytes());
        let exchange = Exchange { status, ..Exchange::new(now, None, Protocol::Http11) };
        record.end(exchange.ended(outcome, now + Duration::from_millis(took_ms)));
        sampling.takes(&mut record).then(|| record.ended.map_or(0, |ended| ended.sample))
    }

    fn config(one_of: u64, slow: Option<u64>) -> Config {
        let slow = slow.map_or(Toggle::Off, |ms| Toggle::Given(DurationSetting::millis(ms)));
        Config {
            logging: LoggingGroup {
                access_log_sample: Count::of(one_of),
                access_log_slow: slow,
                ..LoggingGroup::default()
            }
            .into(),
            ..Config::default()
        }
    }

    #[test]
    fn one_of_n_is_logged_whatever_the_ids_look_like() {
        let sampling = Sampling::new(&config(10, None));
        for pattern in ["", "request-", "4bf92f3577b34da6a3ce929d0e0e4736-"] {
            let took = |number: &u32| {
                taken(&sampling, &format!("{pattern}{number}"), 200, ExchangeOutcome::Complete, 0)
            };
            let lines: Vec<_> = (0..20_000).filter_map(|number| took(&number)).collect();
            assert!((1_800..2_200).contains(&lines.len()), "{pattern:?}: {}", lines.len());
            assert!(lines.iter().all(|sample| *sample == 10));
        }
    }

    #[test]
    fn failures_and_slow_requests_are_always_logged_with_a_sample_of_one() {
        let sampling = Sampling::new(&config(1_000_000, Some(50)));
        for (status, outcome, took_ms, expected) in [
            (200, ExchangeOutcome::Complete, 49, None),
            (404, ExchangeOutcome::Complete, 0, None),
            (200, ExchangeOutcome::Complete, 50, Some(1)),
            (500, ExchangeOutcome::Complete, 0, Some(1)),
            (503, ExchangeOutcome::Complete, 0, Some(1)),
            (200, ExchangeOutcome::ClientGone, 0, Some(1)),
            (0, ExchangeOutcome::Drained, 0, Some(1)),
        ] {
            assert_eq!(
                taken(&sampling, "a", status, outcome, took_ms),
                expected,
                "{status} {outcome:?} {took_ms}"
            );
        }
        sampling.set(&config(1, None));
        assert_eq!(taken(&sampling, "a", 200, ExchangeOutcome::Complete, 0), Some(1));
    }
}
