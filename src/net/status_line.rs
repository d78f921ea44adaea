//! Status lines and `Date`, rendered once a second.

use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix_http::StatusCode;
use bytes::Bytes;
use http1::HeaderValue;

use crate::http::date::HttpDate;

/// What a response says of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionHeader {
    /// HTTP/1.1 goes on unless told otherwise.
    Implied,
    /// HTTP/1.0 goes on only when told so.
    KeepAlive,
    Close,
}

/// The first lines of responses: status line, `Date`, `Connection`. One a worker.
pub(crate) struct Prefixes {
    current: RefCell<Second>,
}

struct Second {
    until: Instant,
    date: String,
    date_value: HeaderValue,
    lines: Vec<(StatusCode, ConnectionHeader, Bytes)>,
}

impl Prefixes {
    pub(crate) fn new() -> Self {
        let date_value = HeaderValue::from_static("");
        let stale = Second { until: Instant::now(), date: String::new(), date_value, lines: Vec::new() };
        Self { current: RefCell::new(stale) }
    }

    /// The date at `now`, as a value that is shared.
    pub(super) fn date(&self, now: Instant) -> HeaderValue {
        let mut current = self.current.borrow_mut();
        if now >= current.until {
            current.renew(now);
        }
        current.date_value.clone()
    }

    /// The first lines of a response with `status` at `now`.
    pub(crate) fn lines(&self, now: Instant, status: StatusCode, persistence: ConnectionHeader) -> Bytes {
        let mut current = self.current.borrow_mut();
        if now >= current.until {
            current.renew(now);
        }
        let known = current.lines.iter().find(|(s, p, _)| (*s, *p) == (status, persistence));
        if let Some((_, _, lines)) = known {
            return lines.clone();
        }
        let lines = render(status, &current.date, persistence);
        if current.lines.len() < KEPT {
            current.lines.push((status, persistence, lines.clone()));
        }
        lines
    }
}

impl Second {
    fn renew(&mut self, now: Instant) {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let left =
            Duration::from_secs(1).saturating_sub(Duration::from_nanos(u64::from(wall.subsec_nanos())));
        self.until = now + left;
        self.date = HttpDate::from_unix_seconds(wall.as_secs().cast_signed())
            .map(|date| date.to_string())
            .unwrap_or_default();
        self.date_value = HeaderValue::from_maybe_shared(Bytes::from(self.date.clone()))
            .unwrap_or_else(|_| HeaderValue::from_static(""));
        self.lines.clear();
    }
}

fn render(status: StatusCode, date: &str, persistence: ConnectionHeader) -> Bytes {
    let reason = status.canonical_reason().unwrap_or("");
    let connection = match persistence {
        ConnectionHeader::Implied => "",
        ConnectionHeader::KeepAlive => "connection: keep-alive\r\n",
        ConnectionHeader::Close => "connection: close\r\n",
    };
    Bytes::from(format!("HTTP/1.1 {} {reason}\r\ndate: {date}\r\n{connection}", status.as_str()))
}

/// More kinds of response than occur within a second.
const KEPT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_status_date_and_what_becomes_of_the_connection() {
        let prefixes = Prefixes::new();
        let lines = prefixes.lines(Instant::now(), StatusCode::PARTIAL_CONTENT, ConnectionHeader::Close);
        let text = std::str::from_utf8(&lines).unwrap();
        assert!(text.starts_with("HTTP/1.1 206 Partial Content\r\ndate: "), "{text}");
        assert!(text.ends_with(" GMT\r\nconnection: close\r\n"), "{text}");
    }

    #[test]
    fn the_date_is_renewed_when_its_second_is_over() {
        let prefixes = Prefixes::new();
        let now = Instant::now();
        let first = prefixes.lines(now, StatusCode::OK, ConnectionHeader::Implied);
        assert_eq!(first.as_ptr(), prefixes.lines(now, StatusCode::OK, ConnectionHeader::Implied).as_ptr());
        let later = prefixes.lines(now + Duration::from_secs(2), StatusCode::OK, ConnectionHeader::Implied);
        assert_ne!(first.as_ptr(), later.as_ptr());
    }
}
