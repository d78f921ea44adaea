//! How fast responses are sent: the rate of each connection, of each client, and of all clients together.
//!
//! Bodies that are a file, a listing or an archive count, with their heads. Short answers of the server itself (304,
//! redirects, error pages, health) are neither counted nor delayed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;

use crate::config::{Auto, ByteCount, Config, RatesGroup, Rule, RuleRates, Toggle};
use crate::limits::total_bandwidth::TotalRate;
use crate::sys::gcra::RateClock;
use crate::telemetry::metrics::counter::Counter;

/// Bandwidth limits, shared by all workers.
///
/// Decision: docs/decisions/030-bandwidth.md.
pub(crate) struct Bandwidth {
    /// Whether any rate is configured, for the site or in a rule.
    is_limited: AtomicBool,
    rates: ArcSwap<RatesGroup>,
    pub(crate) total: TotalRate,
    /// Responses that were delayed at least once since the start, without those that the kernel paces.
    pub(crate) delayed: Counter,
    /// The clock of all buckets.
    pub(crate) clock: RateClock,
}

/// The rates that hold for one response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResponsePace {
    pub(crate) client: Option<ClientPace>,
    /// Bytes per second of the connection.
    pub(crate) connection: Option<u64>,
    /// Whether it counts against the rate of all clients.
    pub(crate) has_total: bool,
}

/// The rate of all responses to one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientPace {
    /// Bytes per second.
    pub(crate) rate: u64,
    /// Bytes that may be sent at once.
    pub(crate) burst: u64,
    /// The rule with a bucket of its own; `None`: the bucket of the site.
    pub(crate) rule: Option<usize>,
}

impl Bandwidth {
    pub(crate) fn new(config: &Config) -> Self {
        let bandwidth = Self {
            is_limited: AtomicBool::new(false),
            rates: ArcSwap::new(Arc::clone(&config.rates)),
            total: TotalRate::new(),
            delayed: Counter::default(),
            clock: RateClock::default(),
        };
        bandwidth.apply(config);
        bandwidth
    }

    /// Applies the rates of `config` to responses that begin from now on. The buckets of clients are kept.
    pub(crate) fn apply(&self, config: &Config) {
        self.rates.store(Arc::clone(&config.rates));
        self.total.set_rate(config.rates.rate_total.given().map(|rate| rate.get()));
        self.is_limited.store(is_limited(config), Ordering::Relaxed);
    }

    /// Whether any rate is configured.
    pub(crate) fn is_limited(&self) -> bool {
        self.is_limited.load(Ordering::Relaxed)
    }

    /// The rates of a response, with those of its rule in place of the site's.
    pub(crate) fn pace(&self, rule: Option<&RuleRates>) -> ResponsePace {
        let rates = self.rates.load();
        let of_rule = rule.and_then(|rule| rule.client);
        let rate = of_rule.map_or(rates.rate_client, |rule| rule.rate);
        // The site's burst is meant for the site's rate.
        let usual_burst = if of_rule.is_some() { Auto::Auto } else { rates.rate_client_burst };
        let burst = rule.and_then(|rule| rule.client_burst).unwrap_or(usual_burst);
        let client = rate.given().map(|rate| ClientPace {
            rate: rate.get(),
            burst: burst.given().map_or(rate.get() / BURST_PART_OF_SECOND, |burst| burst.get()),
            rule: of_rule.map(|rule| rule.rule),
        });
        let connection = rule.and_then(|rule| rule.connection).unwrap_or(rates.rate_connection);
        let connection = connection.given().map(|rate| rate.get());
        ResponsePace { client, connection, has_total: rates.rate_total.given().is_some() }
    }

    /// Grants the total rate to waiting clients. Never returns.
    pub(crate) async fn share(&self) {
        loop {
            match self.total.grant(self.clock.now()) {
                None => self.total.changed().await,
                Some(at) => {
                    let due = tokio::time::Instant::from_std(self.clock.instant(at));
                    // Returned bytes are due at once, so the wait ends early.
                    let _ = tokio::time::timeout_at(due, self.total.changed()).await;
                }
            }
        }
    }
}

fn is_limited(config: &Config) -> bool {
    let is_given = |rate: Option<&Toggle<ByteCount>>| rate.and_then(Toggle::given).is_some();
    let by_rule = |rule: &Rule| {
        let RuleRates { client, connection, .. } = &rule.effects.rates;
        is_given(client.as_ref().map(|client| &client.rate)) || is_given(connection.as_ref())
    };
    let of_site = [&config.rates.rate_client, &config.rates.rate_connection, &config.rates.rate_total];
    of_site.into_iter().any(|rate| is_given(Some(rate))) || config.rules.iter().any(by_rule)
}

/// The default burst of a client is what its rate sends in a tenth of a second.
const BURST_PART_OF_SECOND: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RuleRate;

    fn given(kib: u64) -> Toggle<ByteCount> {
        Toggle::Given(ByteCount::kib(kib))
    }

    #[test]
    fn without_a_rate_nothing_is_limited() {
        let bandwidth = Bandwidth::new(&Config::default());
        assert!(!bandwidth.is_limited());
        assert_eq!(bandwidth.pace(None), ResponsePace::default());
        bandwidth.apply(&Config {
            rates: RatesGroup { rate_total: given(1), ..RatesGroup::default() }.into(),
            ..Config::default()
        });
        assert!(bandwidth.is_limited() && bandwidth.pace(None).has_total);
    }

    #[test]
    fn a_rule_overrides_rates_one_by_one() {
        let config = Config {
            rates: RatesGroup {
                rate_client: given(100),
                rate_client_burst: Auto::Given(ByteCount::kib(7)),
                rate_connection: given(20),
                ..RatesGroup::default()
            }
            .into(),
            ..Config::default()
        };
        let bandwidth = Bandwidth::new(&config);
        let client = |kib: u64, burst: u64, rule| Some(ClientPace { rate: kib << 10, burst, rule });
        let rates = |rate: Option<Toggle<ByteCount>>, client_burst, connection| RuleRates {
            client: rate.map(|rate| RuleRate { rate, rule: 3 }),
            client_burst,
            connection,
        };
        let burst = Some(Auto::Given(ByteCount::bytes(9)));
        for (rule, expected_client, expected_connection) in [
            (None, client(100, 7 << 10, None), Some(20 << 10)),
            (Some(rates(Some(given(50)), None, None)), client(50, 5 << 10, Some(3)), Some(20 << 10)),
            (Some(rates(None, burst, Some(given(1)))), client(100, 9, None), Some(1 << 10)),
            (Some(rates(Some(Toggle::Off), None, Some(Toggle::Off))), None, None),
        ] {
            let pace = bandwidth.pace(rule.as_ref());
            assert_eq!((pace.client, pace.connection), (expected_client, expected_connection), "{rule:?}");
        }
    }
}
