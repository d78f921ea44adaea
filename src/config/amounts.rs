//! Amounts: counts, sizes in bytes (`64KiB`), rates of requests (`10/s`) and durations (`30s`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::fmt::friendly::SpanParser;

use super::setting::{ValueError, amount_value};

/// A number of things, in decimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count(u64);

impl Count {
    /// A count of `count`.
    pub const fn of(count: u64) -> Self {
        Self(count)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number as a length in memory, saturating where `usize` is narrower.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Count {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(ValueError::EMPTY);
        }
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ValueError::new("is not a whole number in decimal digits"));
        }
        text.parse().map(Self).map_err(|_| ValueError::new("is too large"))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

amount_value!(Count: "COUNT", "a count", Self, |count| count);

/// A number of bytes: `512`, `64KiB`, `2GiB`, `5MB`. Whole numbers; units in either case; none means bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteCount(u64);

impl ByteCount {
    /// A count of single bytes.
    pub const fn bytes(count: u64) -> Self {
        Self(count)
    }

    /// A count of 1024 bytes.
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// A count of 1024² bytes.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// A count of 1024³ bytes.
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    /// A count of 1024⁴ bytes.
    pub const fn tib(count: u64) -> Self {
        Self(count << 40)
    }

    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of bytes as a length in memory, saturating where `usize` is narrower.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteCount {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(ValueError::EMPTY);
        }
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        if digits.is_empty() {
            return Err(ValueError::new("does not start with a digit"));
        }
        let unit = unit.trim();
        if unit.starts_with('.') {
            return Err(ValueError::new("is not a whole number"));
        }
        let Some((_, factor)) = SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) else {
            return Err(ValueError::new(format!("has the unknown unit `{}`", unit.escape_debug())));
        };
        let bytes = digits.parse().ok().and_then(|number: u64| number.checked_mul(*factor));
        bytes.map(Self).ok_or(ValueError::new("is too large"))
    }
}

impl fmt::Display for ByteCount {
    /// In the largest binary unit that divides it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0");
        }
        let unit = SIZE_UNITS.iter().filter(|(name, _)| name.ends_with("iB"));
        match unit.rev().find(|(_, factor)| self.0.is_multiple_of(*factor)) {
            Some((name, factor)) => write!(f, "{}{name}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

amount_value!(ByteCount: "SIZE", "a size such as 512, 64KiB, 10MB or 2GiB (B, KiB, MiB, GiB, TiB, KB, MB, GB, TB),", Self, |size| size);

const SIZE_UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// A number of requests in a second, a minute or an hour: `10/s`, `600/m`, `100/h`. Without a span: a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestRate {
    requests: Count,
    /// The time in which they may be made.
    pub span: Duration,
}

impl RequestRate {
    /// A number of requests a minute.
    pub const fn per_minute(requests: u64) -> Self {
        Self { requests: Count::of(requests), span: Duration::from_secs(60) }
    }

    /// The number of requests.
    pub const fn requests(self) -> u64 {
        self.requests.get()
    }
}

impl FromStr for RequestRate {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (requests, span) = text.split_once('/').unwrap_or((text, "s"));
        let span = span.trim();
        let known = SPANS.iter().find(|(name, _)| name.eq_ignore_ascii_case(span));
        let unknown = || ValueError::new(format!("has the unknown span `{}`", span.escape_debug()));
        let (_, span) = *known.ok_or_else(unknown)?;
        Ok(Self { requests: requests.trim_end().parse()?, span })
    }
}

impl fmt::Display for RequestRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = SPANS.iter().find(|(_, span)| *span == self.span).map_or("s", |(name, _)| name);
        write!(f, "{}/{name}", self.requests)
    }
}

const SPANS: &[(&str, Duration)] = &[
    ("s", Duration::from_secs(1)),
    ("m", Duration::from_secs(60)),
    ("min", Duration::from_secs(60)),
    ("h", Duration::from_secs(3_600)),
];

amount_value!(RequestRate: "RATE", "requests in a second, a minute or an hour, such as 10/s, 600/m or 100/h,", Count, |rate| &rate.requests);

/// A length of time in whole milliseconds: `250ms`, `30s`, `5m`, `1h`, `1m30s`, `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DurationSetting(Duration);

impl DurationSetting {
    /// No time at all.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// A count of milliseconds.
    pub const fn millis(count: u64) -> Self {
        Self(Duration::from_millis(count))
    }

    /// A count of seconds.
    pub const fn seconds(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }

    /// A count of minutes.
    pub const fn minutes(count: u64) -> Self {
        Self(Duration::from_secs(count * 60))
    }

    /// A count of hours.
    pub const fn hours(count: u64) -> Self {
        Self(Duration::from_secs(count * 3_600))
    }

    /// The same length of time for the standard library.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for DurationSetting {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "" => return Err(ValueError::EMPTY),
            "0" => return Ok(Self::ZERO),
            _ => {}
        }
        if text.ends_with(|c: char| c.is_ascii_digit()) {
            return Err(ValueError::new("has no unit"));
        }
        let duration = SpanParser::new()
            .parse_unsigned_duration(text)
            .map_err(|error| not_a_duration(&error.to_string()))?;
        let millis = u64::try_from(duration.as_millis()).map_err(|_| ValueError::new("is too large"))?;
        if Duration::from_millis(millis) != duration {
            return Err(ValueError::new("is not a whole number of milliseconds"));
        }
        Ok(Self(duration))
    }
}

fn not_a_duration(error: &str) -> ValueError {
    let reason = error.rsplit("duration format: ").next().unwrap_or(error);
    if reason.contains("calendar units") {
        return ValueError::new("is not a duration: the longest unit is the hour");
    }
    ValueError::new(format!("is not a duration: {reason}"))
}

impl fmt::Display for DurationSetting {
    /// In the largest unit that divides it; but a minute is written 60s, as timeouts are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0");
        }
        let divides = |factor: u64| millis.is_multiple_of(u128::from(factor));
        match DURATION_UNITS.iter().find(|(_, factor)| divides(*factor) && millis != ONE_MINUTE) {
            Some((name, factor)) => write!(f, "{}{name}", millis / u128::from(*factor)),
            None => write!(f, "{}s", millis / 1_000),
        }
    }
}

// A TOML integer is accepted for 0; for others the error says that the unit is missing.
amount_value!(DurationSetting: "DURATION", "a duration with its unit such as 250ms, 30s, 5m, 1h or 1m30s,", Self, |duration| duration);

/// In milliseconds.
const ONE_MINUTE: u128 = 60_000;

/// Milliseconds in each unit, largest first.
const DURATION_UNITS: &[(&str, u64)] = &[("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SettingValue;

    #[test]
    fn a_count_is_decimal_digits_and_nothing_else() {
        assert_eq!("0".parse(), Ok(Count(0)));
        assert_eq!("65536".parse(), Ok(Count(65_536)));
        for (text, reason) in [
            ("", "is empty"),
            ("-1", "is not a whole number in decimal digits"),
            ("+1", "is not a whole number in decimal digits"),
            ("1e3", "is not a whole number in decimal digits"),
            ("many", "is not a whole number in decimal digits"),
            ("99999999999999999999", "is too large"),
        ] {
            assert_eq!(text.parse::<Count>(), Err(ValueError::new(reason)), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_in_binary_and_decimal_units() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("64KiB", 65_536),
            ("64kib", 65_536),
            ("64 KiB", 65_536),
            ("1MiB", 1 << 20),
            ("3GiB", 3 << 30),
            ("2TiB", 2 << 40),
            ("1KB", 1_000),
            ("1kB", 1_000),
            ("5MB", 5_000_000),
            ("1GB", 1_000_000_000),
            ("1TB", 1_000_000_000_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(ByteCount(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "is empty"),
            ("KiB", "does not start with a digit"),
            ("-1", "does not start with a digit"),
            (" 1", "does not start with a digit"),
            ("1.5GiB", "is not a whole number"),
            ("64K", "has the unknown unit `K`"),
            ("64 KiB x", "has the unknown unit `KiB x`"),
            ("18446744073709551616", "is too large"),
            ("16777216TiB", "is too large"),
        ] {
            assert_eq!(text.parse::<ByteCount>(), Err(ValueError::new(reason)), "{text}");
        }
    }

    #[test]
    fn a_size_is_written_in_the_largest_unit_that_divides_it() {
        for (bytes, text) in [
            (0, "0"),
            (1, "1B"),
            (1_000, "1000B"),
            (1_024, "1KiB"),
            (1_536, "1536B"),
            (1_536 << 20, "1536MiB"),
            (1 << 40, "1TiB"),
            (1 << 60, "1048576TiB"),
        ] {
            assert_eq!(ByteCount(bytes).to_string(), text);
            assert_eq!(text.parse(), Ok(ByteCount(bytes)));
        }
    }

    #[test]
    fn rates_are_read_and_written() {
        for (text, requests, seconds, written) in [
            ("10", 10, 1, "10/s"),
            ("10/s", 10, 1, "10/s"),
            ("10 / S", 10, 1, "10/s"),
            ("600/m", 600, 60, "600/m"),
            ("600/min", 600, 60, "600/m"),
            ("100/h", 100, 3600, "100/h"),
        ] {
            let rate: RequestRate = text.parse().expect(text);
            assert_eq!((rate.requests(), rate.span.as_secs()), (requests, seconds), "{text}");
            assert_eq!(rate.to_string(), written);
            assert_eq!(written.parse(), Ok(rate));
        }
    }

    #[test]
    fn what_is_no_rate_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "is empty"),
            ("/s", "is empty"),
            ("ten", "is not a whole number in decimal digits"),
            ("1.5/s", "is not a whole number in decimal digits"),
            ("-1/s", "is not a whole number in decimal digits"),
            ("10/", "has the unknown span ``"),
            ("10/d", "has the unknown span `d`"),
            ("10/s/s", "has the unknown span `s/s`"),
        ] {
            assert_eq!(text.parse::<RequestRate>(), Err(ValueError::new(reason)), "{text}");
        }
        let bounds = Count::of(1)..=Count::of(100);
        for (text, expected) in [
            ("0/h", Err(ValueError::new("is too small"))),
            ("100/h", Ok(())),
            ("101", Err(ValueError::new("is too large"))),
        ] {
            assert_eq!(text.parse::<RequestRate>().expect(text).check(&bounds), expected, "{text}");
        }
    }

    #[test]
    fn durations_are_read_and_written_alike() {
        for (text, millis, written) in [
            ("0", 0, "0"),
            ("0s", 0, "0"),
            ("250ms", 250, "250ms"),
            ("1500ms", 1_500, "1500ms"),
            ("1s500ms", 1_500, "1500ms"),
            ("1m", 60_000, "60s"),
            ("30s", 30_000, "30s"),
            ("90s", 90_000, "90s"),
            ("1m30s", 90_000, "90s"),
            ("2m", 120_000, "2m"),
            ("1h30m", 5_400_000, "90m"),
            ("5m", 300_000, "5m"),
            ("1h", 3_600_000, "1h"),
            ("24h", 86_400_000, "24h"),
            ("1h2m3s4ms", 3_723_004, "3723004ms"),
            ("1.5s", 1_500, "1500ms"),
            ("1 min 30 sec", 90_000, "90s"),
        ] {
            assert_eq!(text.parse(), Ok(DurationSetting::millis(millis)), "{text}");
            assert_eq!(DurationSetting::millis(millis).to_string(), written);
            assert_eq!(written.parse(), Ok(DurationSetting::millis(millis)), "{written}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "is empty"),
            ("10", "has no unit"),
            ("1m30", "has no unit"),
            ("s", "is not a duration: expected duration to start with a unit value"),
            ("-1s", "is not a duration: cannot parse negative duration"),
            ("1.5ms", "is not a whole number of milliseconds"),
            ("1S", "is not a duration: expected to find unit designator suffix"),
            ("30s1m", "is not a duration: found value with unit minute after unit second"),
            ("1s1s", "is not a duration: found value with unit second after unit second"),
            ("99999999999999999999s", "is not a duration: number too big"),
            ("18446744073709551615h", "is not a duration: accumulated duration overflowed"),
            ("18446744073709551s999ms", "is too large"),
        ] {
            let error = text.parse::<DurationSetting>().expect_err(text).to_string();
            assert!(error.starts_with(reason), "{text}: {error}");
        }
    }
}
