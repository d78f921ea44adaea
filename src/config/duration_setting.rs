//! Durations, written `30s`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::setting::{SettingValue, TomlForms, ValueError, check_range, deserialize_by_text};

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
        let too_large = || ValueError::new("is too large");
        let (mut rest, mut total, mut units) = (text, 0_u64, UNITS.iter());
        while !rest.is_empty() {
            let (digits, after) = split_where(rest, |c| !c.is_ascii_digit());
            if digits.is_empty() {
                return Err(ValueError::new("has no whole number where one should be"));
            }
            let (unit, after) = split_where(after, |c| c.is_ascii_digit());
            if unit.is_empty() {
                return Err(ValueError::new("has no unit"));
            }
            let known = UNITS.iter().any(|(name, _)| *name == unit);
            if !known {
                return Err(ValueError::new(format!("has the unknown unit `{}`", unit.escape_debug())));
            }
            // The iterator goes on where the last unit was found: a unit comes once, and the larger first.
            let (_, factor) = units
                .find(|(name, _)| *name == unit)
                .ok_or_else(|| ValueError::new("has its units out of order"))?;
            let number: Option<u64> = digits.parse().ok();
            let part = number.and_then(|number| number.checked_mul(*factor));
            total = part.and_then(|part| total.checked_add(part)).ok_or_else(too_large)?;
            rest = after;
        }
        Ok(Self::millis(total))
    }
}

fn split_where(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(end).unwrap_or(text.len()))
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

impl SettingValue for DurationSetting {
    type Bounds = RangeInclusive<Self>;
    // An integer is let in only to be told that it lacks its unit; 0 needs none.
    const FORMS: TomlForms = TomlForms::INTEGER;
    const METAVAR: &'static str = "DURATION";

    fn accepted(bounds: &Self::Bounds) -> String {
        format!(
            "a duration with its unit such as 250ms, 30s, 5m, 1h or 1m30s, from {} to {}",
            bounds.start(),
            bounds.end()
        )
    }

    fn check(&self, bounds: &Self::Bounds) -> Result<(), ValueError> {
        check_range(self, bounds)
    }
}

deserialize_by_text!(DurationSetting);

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
            ("s", "has no whole number where one should be"),
            ("-1s", "has no whole number where one should be"),
            ("1.5s", "has the unknown unit `.`"),
            ("10 s", "has the unknown unit ` s`"),
            ("10sec", "has the unknown unit `sec`"),
            ("1S", "has the unknown unit `S`"),
            ("30s1m", "has its units out of order"),
            ("1s1s", "has its units out of order"),
            ("99999999999999999999s", "is too large"),
            ("18446744073709551615h", "is too large"),
            ("18446744073709551s999ms", "is too large"),
        ] {
            assert_eq!(text.parse::<DurationSetting>(), Err(ValueError::new(reason)), "{text}");
        }
    }
}
