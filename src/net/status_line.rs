//! Status lines, `Date` and `Connection`, rendered once a second.

use std::cell::{RefCell, RefMut};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix_http::StatusCode;
use bytes::Bytes;
use http1::HeaderValue;

use crate::http::date::HttpDate;

/// The first lines of responses: status line, `Date`, `Connection`. One per worker.
pub(super) struct StatusLines(RefCell<Second>);

struct Second {
    until: Instant,
    date: HeaderValue,
    lines: Vec<(StatusCode, &'static str, Bytes)>,
}

impl StatusLines {
    pub(super) fn new() -> Self {
        Self(RefCell::new(Second::at(Instant::now())))
    }

    /// The `Date` at `now`. The value shares memory.
    pub(super) fn date(&self, now: Instant) -> HeaderValue {
        self.second(now).date.clone()
    }

    /// The first lines of a response with `status` at `now`, with the `Connection` header line `connection`.
    pub(super) fn lines(&self, now: Instant, status: StatusCode, connection: &'static str) -> Bytes {
        let mut second = self.second(now);
        let known = second.lines.iter().find(|(s, c, _)| (*s, *c) == (status, connection));
        if let Some((_, _, lines)) = known {
            return lines.clone();
        }
        let lines = render(status, &second.date, connection);
        if second.lines.len() < LINES_MAX {
            second.lines.push((status, connection, lines.clone()));
        }
        lines
    }

    fn second(&self, now: Instant) -> RefMut<'_, Second> {
        let mut second = self.0.borrow_mut();
        if now >= second.until {
            *second = Second::at(now);
        }
        second
    }
}

impl Second {
    fn at(now: Instant) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let past = Duration::from_nanos(wall.subsec_nanos().into());
        let date = HttpDate::from_unix_seconds(wall.as_secs().cast_signed())
            .and_then(|date| HeaderValue::try_from(date.to_string()).ok());
        Self {
            until: now + Duration::from_secs(1).saturating_sub(past),
            date: date.unwrap_or_else(|| HeaderValue::from_static("")),
            lines: Vec::new(),
        }
    }
}

fn render(status: StatusCode, date: &HeaderValue, connection: &str) -> Bytes {
    let reason = status.canonical_reason().unwrap_or("");
    let date = date.to_str().unwrap_or("");
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
        let lines = status_lines.lines(Instant::now(), StatusCode::PARTIAL_CONTENT, "connection: close\r\n");
        let text = std::str::from_utf8(&lines).unwrap();
        assert!(text.starts_with("HTTP/1.1 206 Partial Content\r\ndate: "), "{text}");
        assert!(text.ends_with(" GMT\r\nconnection: close\r\n"), "{text}");
    }

    #[test]
    fn the_date_is_renewed_when_its_second_is_over() {
        let status_lines = StatusLines::new();
        let now = Instant::now();
        let first = status_lines.lines(now, StatusCode::OK, "");
        assert_eq!(first.as_ptr(), status_lines.lines(now, StatusCode::OK, "").as_ptr());
        let later = status_lines.lines(now + Duration::from_secs(2), StatusCode::OK, "");
        assert_ne!(first.as_ptr(), later.as_ptr());
    }
}
