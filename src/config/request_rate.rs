//! Requests in a span of time, written `10/s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::setting::amount_value;
use super::{Count, ValueError};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SettingValue;

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
}
