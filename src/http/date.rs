//! HTTP dates (RFC 9110 §5.6.7).

use std::fmt;
use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

/// A moment that an HTTP date can express: whole seconds in the years 1970 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpDate(u64);

/// Bytes of a date in the preferred form, `Sun, 06 Nov 1994 08:49:37 GMT`.
pub const IMF_FIXDATE_LENGTH: usize = 29;

impl HttpDate {
    /// The moment at this number of seconds after the epoch; `None` if an HTTP date cannot express it.
    pub fn from_unix_seconds(seconds: i64) -> Option<HttpDate> {
        u64::try_from(seconds).ok().filter(|&seconds| seconds <= SECONDS_MAX).map(HttpDate)
    }

    /// Parses any of the three forms. A wrong day of the week or anything around the date makes it invalid.
    ///
    /// A year of two digits, in the obsolete RFC 850 form, is one from 1970 to 2069.
    pub fn parse(header: &[u8]) -> Option<HttpDate> {
        let text = str::from_utf8(header).ok()?;
        // `httpdate` strips whitespace of many kinds, which is not allowed here.
        if !text.starts_with(|first: char| first.is_ascii_alphabetic()) || text.ends_with(char::is_whitespace)
        {
            return None;
        }
        let since_epoch = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(HttpDate(since_epoch.as_secs()))
    }

    /// Seconds since the epoch.
    pub fn unix_seconds(self) -> u64 {
        self.0
    }

    /// The date in the preferred form.
    pub fn to_imf_fixdate(self) -> [u8; IMF_FIXDATE_LENGTH] {
        let mut text = [b' '; IMF_FIXDATE_LENGTH];
        // It fits: the form has one length.
        let _ = write!(text.as_mut_slice(), "{self}");
        text
    }
}

impl fmt::Display for HttpDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(self.0)), f)
    }
}

/// The last second of the year 9999.
const SECONDS_MAX: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_forms_are_parsed() {
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(HttpDate::parse(text.as_bytes()), Some(HttpDate(784_111_777)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_invalid() {
        for text in [
            "",
            "0",
            "784111777",
            " Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            "Sun, 06 Nov 1994 08:49:37 GMT\t",
            "Sun, 06 Nov 1994 08:49:37 GMTx",
            "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "1994-11-06T08:49:37Z",
            "Sun, 06 Nov 1994 08:49:37 GM\u{422}",
        ] {
            assert_eq!(HttpDate::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(HttpDate::parse(b"Sun, 06 Nov 1994 08:49:37 GM\xFF"), None);
    }

    #[test]
    fn a_date_is_rendered_in_the_preferred_form_and_read_back() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            let date = HttpDate::from_unix_seconds(seconds).unwrap();
            assert_eq!(date.to_string(), text);
            assert_eq!(date.to_imf_fixdate(), text.as_bytes());
            assert_eq!(HttpDate::parse(text.as_bytes()), Some(date));
        }
    }

    #[test]
    fn a_moment_outside_the_years_of_a_date_is_none() {
        assert_eq!(HttpDate::from_unix_seconds(-1), None);
        assert_eq!(HttpDate::from_unix_seconds(253_402_300_800), None);
        assert_eq!(HttpDate::from_unix_seconds(i64::MAX), None);
    }
}
