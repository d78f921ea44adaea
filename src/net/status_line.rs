//! Status lines, `Date` and `Connection`, rendered once a second.

use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix_http::StatusCode;
use bytes::Bytes;
use http1::HeaderValue;

use crate::http::date::HttpDate;

/// The `Connection` header of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionHeader {
    /// None: HTTP/1.1 connections persist by default.
    Implied,
    /// `keep-alive`, which HTTP/1.0 needs.
    KeepAlive,
    Close,
}

/// The first lines of responses: status line, `Date`, `Connection`. One per worker.
pub(super) struct StatusLines {
    current: RefCell<Second>,
}

struct Second {
    until: Instant,
    date: String,
    date_value: HeaderValue,
    lines: Vec<(StatusCode, ConnectionHeader, Bytes)>,
}

impl StatusLines {
    pub(super) fn new() -> Self {
        let date_value = HeaderValue::from_static("");
        let stale = Second { until: Instant::now(), date: String::new(), date_value, lines: Vec::new() };
        Self { current: RefCell::new(stale) }
    }

    /// The `Date` at `now`. The value shares memory.
    pub(super) fn date(&self, now: Instant) -> HeaderValue {
        let mut current = self.current.borrow_mut();
        if now >= current.until {
            current.renew(now);
        }
        current.date_value.clone()
    }

    /// The first lines of a response with `status` at `now`.
    pub(super) fn lines(&self, now: Instant, status: StatusCode, connection: ConnectionHeader) -> Bytes {
        let mut current = self.current.borrow_mut();
        if now >= current.until {
            current.renew(now);
        }
        let known = current.lines.iter().find(|(s, c, _)| (*s, *c) == (status, connection));
        if let Some((_, _, lines)) = known {
            return lines.clone();
        }
        let lines = render(status, &current.date, connection);
        if current.lines.len() < LINES_MAX {
            current.lines.push((status, connection, lines.clone()));
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

fn render(status: StatusCode, date: &str, connection: ConnectionHeader) -> Bytes {
    let reason = status.canonical_reason().unwrap_or("");
    let connection = match connection {
        ConnectionHeader::Implied => "",
        ConnectionHeader::KeepAlive => "connection: keep-alive\r\n",
        ConnectionHeader::Close => "connection: close\r\n",
    };
    Bytes::from(format!("HTTP/1.1 {} {reason}\r\ndate: {date}\r\n{connection}", status.as_str()))
}

/// More kinds of responses than occur within a second.
const LINES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_hold_status_date_and_connection() {
        let status_lines = StatusLines::new();
        let lines = status_lines.lines(Instant::now(), StatusCode::PARTIAL_CONTENT, ConnectionHeader::Close);
        let text = std::str::from_utf8(&lines).unwrap();
        assert!(text.starts_with("HTTP/1.1 206 Partial Content\r\ndate: "), "{text}");
        assert!(text.ends_with(" GMT\r\nconnection: close\r\n"), "{text}");
    }

    #[test]
    fn the_date_is_renewed_when_its_second_is_over() {
        let status_lines = StatusLines::new();
        let now = Instant::now();
        let first = status_lines.lines(now, StatusCode::OK, ConnectionHeader::Implied);
        assert_eq!(
            first.as_ptr(),
            status_lines.lines(now, StatusCode::OK, ConnectionHeader::Implied).as_ptr()
        );
        let later =
            status_lines.lines(now + Duration::from_secs(2), StatusCode::OK, ConnectionHeader::Implied);
        assert_ne!(first.as_ptr(), later.as_ptr());
    }
}
