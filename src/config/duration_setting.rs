//! Durations, written `30s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::fmt::friendly::SpanParser;

use super::setting::{ValueError, amount_value};

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
        match UNITS.iter().find(|(_, factor)| divides(*factor) && millis != ONE_MINUTE) {
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
const UNITS: &[(&str, u64)] = &[("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

#[cfg(test)]
mod tests {
    use super::*;

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
