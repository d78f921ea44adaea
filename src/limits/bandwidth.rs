//! How fast responses are sent: the rate of each connection, of each client, and of all clients together.
//!
//! Bodies that are a file, a listing or an archive count, with their heads. Short answers of the server itself (304,
//! redirects, error pages, health) are neither counted nor delayed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::config::policy::rules::RuleRates;
use crate::config::{Auto, ByteCount, Config, Rule, Toggle};
use crate::limits::total_bandwidth::TotalRate;

/// The rates, and what all workers share of them.
pub(crate) struct Bandwidth {
    /// Any rate is given for any part of the site.
    is_limited: AtomicBool,
    rates: ArcSwap<Rates>,
    pub(crate) total: TotalRate,
    held_back: AtomicU64,
    /// When the clock began.
    start: Instant,
}

/// What is configured for the whole server.
#[derive(Debug)]
struct Rates {
    client: Toggle<ByteCount>,
    client_burst: Auto<ByteCount>,
    connection: Toggle<ByteCount>,
    has_total: bool,
}

/// The pace of one response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResponsePace {
    pub(crate) client: Option<ClientPace>,
    /// Bytes a second of the connection.
    pub(crate) connection: Option<u64>,
    /// Whether it counts towards the rate of all clients.
    pub(crate) has_total: bool,
}

/// The pace of all responses to one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientPace {
    /// Bytes a second.
    pub(crate) rate: u64,
    /// Bytes at once.
    pub(crate) burst: u64,
    /// The rule that has an allowance of its own; none is the site's.
    pub(crate) rule: Option<usize>,
}

/// What the limits on bandwidth did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BandwidthCounts {
    /// Responses that were held back at least once, since the start. Those that the kernel paces are not among them.
    pub held_back: u64,
    /// Connections that wait for their share of the rate of all clients now.
    pub waiting: usize,
}

impl Bandwidth {
    pub(crate) fn new(config: &Config) -> Self {
        let bandwidth = Self {
            is_limited: AtomicBool::new(false),
            rates: ArcSwap::from_pointee(Rates::of(config)),
            total: TotalRate::new(),
            held_back: AtomicU64::new(0),
            start: Instant::now(),
        };
        bandwidth.apply(config);
        bandwidth
    }

    /// From now on what `config` says holds, for responses that begin. What each client has used up stays so.
    pub(crate) fn apply(&self, config: &Config) {
        self.rates.store(Rates::of(config).into());
        self.total.set_rate(config.rates.rate_total.given().map(|rate| rate.get()));
        self.is_limited.store(is_limited(config), Ordering::Relaxed);
    }

    /// Whether there is any rate at all.
    pub(crate) fn is_limited(&self) -> bool {
        self.is_limited.load(Ordering::Relaxed)
    }

    /// The pace of a response whose rules say `rule`.
    pub(crate) fn pace(&self, rule: Option<&RuleRates>) -> ResponsePace {
        let rates = self.rates.load();
        let of_rule = rule.and_then(|rule| rule.client);
        let rate = of_rule.map_or(rates.client, |rule| rule.rate);
        // The site's burst belongs to the site's rate.
        let usual_burst = if of_rule.is_some() { Auto::Auto } else { rates.client_burst };
        let burst = rule.and_then(|rule| rule.client_burst).unwrap_or(usual_burst);
        let client = rate.given().map(|rate| ClientPace {
            rate: rate.get(),
            burst: burst.given().map_or(rate.get() / BURST_PART_OF_SECOND, |burst| burst.get()),
            rule: of_rule.map(|rule| rule.rule),
        });
        let connection = rule.and_then(|rule| rule.connection).unwrap_or(rates.connection);
        let connection = connection.given().map(|rate| rate.get());
        ResponsePace { client, connection, has_total: rates.has_total }
    }

    /// Nanoseconds of the clock that all buckets keep to.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX).saturating_add(BEGIN)
    }

    /// The moment `at` of that clock.
    pub(crate) fn moment(&self, at: u64) -> Instant {
        self.start + Duration::from_nanos(at.saturating_sub(BEGIN))
    }

    /// A response is held back for the first time.
    pub(crate) fn count_held_back(&self) {
        self.held_back.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> BandwidthCounts {
        BandwidthCounts { held_back: self.held_back.load(Ordering::Relaxed), waiting: self.total.waiting() }
    }

    /// Grants shares of the rate of all clients to those who wait for one, for as long as it is polled.
    pub(crate) async fn share(&self) {
        loop {
            match self.total.grant(self.now()) {
                None => self.total.arrived().await,
                Some(at) => {
                    let due = tokio::time::Instant::from_std(self.moment(at));
                    // What is given back is due at once: it is not waited out.
                    let _ = tokio::time::timeout_at(due, self.total.arrived()).await;
                }
            }
        }
    }
}

impl Rates {
    fn of(config: &Config) -> Self {
        Self {
            client: config.rates.rate_client,
            client_burst: config.rates.rate_client_burst,
            connection: config.rates.rate_connection,
            has_total: config.rates.rate_total.given().is_some(),
        }
    }
}

fn is_limited(config: &Config) -> bool {
    let is_given = |rate: Option<&Toggle<ByteCount>>| rate.and_then(Toggle::given).is_some();
    let by_rule = |rule: &Rule| {
        is_given(rule.effects.rate_client.as_ref()) || is_given(rule.effects.rate_connection.as_ref())
    };
    let of_site = [&config.rates.rate_client, &config.rates.rate_connection, &config.rates.rate_total];
    of_site.into_iter().any(|rate| is_given(Some(rate))) || config.rules.iter().any(by_rule)
}

/// The clock does not begin at 0: there was time to save up whatever burst is configured.
const BEGIN: u64 = 1 << 60;

/// What a client may take at once unless somebody says otherwise: the bytes of a tenth of a second.
const BURST_PART_OF_SECOND: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RatesGroup;
    use crate::config::policy::rules::RuleRate;

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
    fn a_rule_says_otherwise_key_by_key() {
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
        let says = |rate: Option<Toggle<ByteCount>>, client_burst, connection| RuleRates {
            client: rate.map(|rate| RuleRate { rate, rule: 3 }),
            client_burst,
            connection,
        };
        let burst = Some(Auto::Given(ByteCount::bytes(9)));
        for (rule, expected_client, expected_connection) in [
            (None, client(100, 7 << 10, None), Some(20 << 10)),
            (Some(says(Some(given(50)), None, None)), client(50, 5 << 10, Some(3)), Some(20 << 10)),
            (Some(says(None, burst, Some(given(1)))), client(100, 9, None), Some(1 << 10)),
            (Some(says(Some(Toggle::Off), None, Some(Toggle::Off))), None, None),
        ] {
            let pace = bandwidth.pace(rule.as_ref());
            assert_eq!((pace.client, pace.connection), (expected_client, expected_connection), "{rule:?}");
        }
    }
}
