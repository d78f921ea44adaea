//! Access-log line in the combined format, which log analysers read:
//! `client - - [time] "request" status bytes "referer" "user agent"`.

use super::clock::Clock;
use super::escape::combined as escape;
use crate::http::digits::push_decimal;
use crate::telemetry::access_log::record::{AccessLogRecord, EndedExchange, LogField};

/// Appends the line. `bytes` is the length of the content sent.
pub(super) fn write(out: &mut Vec<u8>, record: &AccessLogRecord, ended: &EndedExchange, clock: &mut Clock) {
    let client = record.client.map_or_else(|| "unix:".to_owned(), |client| client.to_canonical().to_string());
    out.extend_from_slice(client.as_bytes());
    out.extend_from_slice(b" - - [");
    out.extend_from_slice(clock.at(ended.at).0.as_bytes());
    out.extend_from_slice(b"] \"");
    request(out, record, ended);
    out.extend_from_slice(b"\" ");
    match ended.status {
        0 => out.extend_from_slice(b"000"),
        status => push_decimal(out, u64::from(status)),
    }
    out.push(b' ');
    push_decimal(out, ended.sent.saturating_sub(record.frame_bytes));
    for field in [LogField::Referer, LogField::UserAgent] {
        out.extend_from_slice(b" \"");
        escape(out, record.get(field).unwrap_or(b"-"));
        out.push(b'"');
    }
    out.push(b'\n');
}

/// Appends the request line as received, or as it would be in HTTP/1.1.
fn request(out: &mut Vec<u8>, record: &AccessLogRecord, ended: &EndedExchange) {
    if let Some(line) = record.get(LogField::Line) {
        return escape(out, line);
    }
    escape(out, record.get(LogField::Method).unwrap_or(b"-"));
    out.push(b' ');
    escape(out, record.get(LogField::Target).unwrap_or(b"-"));
    out.extend_from_slice(b" HTTP/");
    out.extend_from_slice(ended.protocol.name().as_bytes());
    if !ended.protocol.name().contains('.') {
        out.extend_from_slice(b".0");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::access_log::clock::COMMON;
    use crate::telemetry::metrics::exchange::{Exchange, ExchangeOutcome, Protocol};
    use std::time::Instant;

    fn line(mut record: AccessLogRecord, protocol: Protocol, status: u16) -> String {
        let now = Instant::now();
        let exchange = Exchange { status, sent: 150, ..Exchange::new(now, None, protocol) };
        record.end(exchange.ended(ExchangeOutcome::Complete, now));
        let mut out = Vec::new();
        write(&mut out, &record, record.ended.as_ref().unwrap(), &mut Clock::new(COMMON));
        let line = String::from_utf8(out).unwrap();
        let (before, rest) = line.split_once('[').unwrap();
        let (time, after) = rest.split_once(']').unwrap();
        assert_eq!(time.len(), "21/Sep/2026:14:13:20 +0000".len(), "{time}");
        format!("{before}[]{after}")
    }

    #[test]
    fn a_line_has_the_nine_fields_in_their_order() {
        let mut record = AccessLogRecord::new(Some("[::ffff:192.0.2.7]:1".parse().unwrap()));
        record.frame_bytes = 100;
        for (field, text) in
            [(LogField::Method, "GET"), (LogField::Target, "/a\"b"), (LogField::UserAgent, "x y\\")]
        {
            record.put(field, text.as_bytes());
        }
        assert_eq!(
            line(record, Protocol::Http10, 200),
            "192.0.2.7 - - [] \"GET /a\\x22b HTTP/1.0\" 200 50 \"-\" \"x y\\x5c\"\n"
        );
        let mut record = AccessLogRecord::new(None);
        record.put(LogField::Method, b"HEAD");
        record.put(LogField::Target, b"*");
        record.put(LogField::Referer, b"https://x.test/");
        assert_eq!(
            line(record, Protocol::Http2, 0),
            "unix: - - [] \"HEAD * HTTP/2.0\" 000 150 \"https://x.test/\" \"-\"\n"
        );
        let mut record = AccessLogRecord::new(None);
        record.put(LogField::Line, b"\x16\x03\x01");
        assert_eq!(
            line(record, Protocol::Http11, 400),
            "unix: - - [] \"\\x16\\x03\\x01\" 400 150 \"-\" \"-\"\n"
        );
    }
}
