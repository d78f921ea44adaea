//! Access-log line as a JSON object. Fields: docs/access-log.md.

use std::net::IpAddr;
use std::time::Duration;

use super::clock::Clock;
use super::escape::json as escape;
use crate::http::digits::push_decimal;
use crate::telemetry::access_log::record::{AccessLogRecord, EndedExchange, LogField, TlsFacts, WaitKind};

/// Appends the line.
pub(super) fn write(out: &mut Vec<u8>, record: &AccessLogRecord, ended: &EndedExchange, clock: &mut Clock) {
    let (second, millis) = clock.at(ended.at);
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(second.as_bytes());
    push_fraction(out, u64::from(millis), 1000);
    out.extend_from_slice(b"Z\"");
    let mut object = Object(out);
    object.field(record, "id", LogField::Id);
    object.client(record);
    object.field(record, "method", LogField::Method);
    object.field(record, "target", LogField::Target);
    object.field(record, "line", LogField::Line);
    object.field(record, "host", LogField::Host);
    if record.get(LogField::Line).is_none() {
        object.name("protocol");
        object.0.extend_from_slice(b"\"HTTP/");
        object.0.extend_from_slice(ended.protocol.name().as_bytes());
        object.0.push(b'"');
    }
    object.name("status");
    push_decimal(object.0, u64::from(ended.status));
    object.field(record, "range", LogField::Range);
    object.sent_range(record, ended);
    let content = ended.sent.saturating_sub(record.frame_bytes);
    let cold = record.cold_bytes.min(content);
    object.number("bytes", content);
    object.number("bytes_sent", ended.sent);
    object.seconds("duration", ended.took);
    if let Some(first_byte) = ended.first_byte {
        object.seconds("ttfb", first_byte);
    }
    if let Some(cached) = record.cached {
        object.text("cache", cached.name().as_bytes());
    }
    object.number("cold_bytes", cold);
    object.number("resident_bytes", content - cold);
    object.seconds("lookup", record.lookup);
    object.seconds("wait_disk", record.waited(WaitKind::Disk));
    object.seconds("wait_client", record.waited(WaitKind::Client));
    object.seconds("wait_throttle", record.waited(WaitKind::Throttle));
    if let Some(etag) = record.get(LogField::Etag) {
        object.version(etag);
    }
    object.field(record, "coding", LogField::ContentEncoding);
    object.text("outcome", ended.outcome.name().as_bytes());
    object.field(record, "referer", LogField::Referer);
    object.field(record, "user_agent", LogField::UserAgent);
    if let Some(tls) = &record.tls {
        object.tls(tls);
    }
    if ended.sample > 1 {
        object.number("sample", ended.sample);
    }
    if record.is_truncated {
        object.name("truncated");
        object.0.extend_from_slice(b"true");
    }
    out.extend_from_slice(b"}\n");
}

/// A JSON object that already has members.
struct Object<'a>(&'a mut Vec<u8>);

impl Object<'_> {
    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn text(&mut self, name: &str, text: &[u8]) {
        self.name(name);
        self.0.push(b'"');
        escape(self.0, text);
        self.0.push(b'"');
    }

    fn field(&mut self, record: &AccessLogRecord, name: &str, field: LogField) {
        if let Some(text) = record.get(field) {
            self.text(name, text);
        }
    }

    fn number(&mut self, name: &str, number: u64) {
        self.name(name);
        push_decimal(self.0, number);
    }

    /// Adds seconds with six decimal places.
    fn seconds(&mut self, name: &str, duration: Duration) {
        self.name(name);
        push_decimal(self.0, duration.as_secs());
        push_fraction(self.0, u64::from(duration.subsec_micros()), 1_000_000);
    }

    fn client(&mut self, record: &AccessLogRecord) {
        let peer = record.peer.map(|peer| peer.ip());
        self.address("client", record.client);
        if record.client != peer {
            self.address("peer", peer);
        }
    }

    fn address(&mut self, name: &str, address: Option<IpAddr>) {
        let text = address.map_or_else(|| "unix".to_owned(), |address| address.to_canonical().to_string());
        self.text(name, text.as_bytes());
    }

    fn sent_range(&mut self, record: &AccessLogRecord, ended: &EndedExchange) {
        match record.get(LogField::ContentRange) {
            Some(range) => self.text("content_range", range),
            None if ended.status == 206 => self.text("content_range", b"multipart/byteranges"),
            None => {}
        }
    }

    /// Adds an entity tag without its quotes (RFC 9110 §8.8.3).
    fn version(&mut self, etag: &[u8]) {
        self.name("version");
        self.0.push(b'"');
        for part in etag.split(|byte| *byte == b'"') {
            escape(self.0, part);
        }
        self.0.push(b'"');
    }

    fn tls(&mut self, tls: &TlsFacts) {
        self.name("tls");
        self.0.extend_from_slice(b"{\"version\":\"");
        escape(self.0, tls.version.as_bytes());
        self.0.push(b'"');
        self.text("cipher", tls.cipher.as_bytes());
        if let Some(name) = &tls.server_name {
            self.text("sni", name.as_bytes());
        }
        self.0.push(b'}');
    }
}

/// Appends a decimal point and `parts` of `whole`, a power of ten, with all its zeros.
fn push_fraction(out: &mut Vec<u8>, parts: u64, whole: u64) {
    let point = out.len();
    push_decimal(out, whole + parts);
    // In place of the leading 1.
    out[point] = b'.';
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::access_log::clock::RFC_3339;
    use crate::telemetry::access_log::record::CacheResult;
    use crate::telemetry::metrics::exchange::{Exchange, ExchangeOutcome, Protocol};
    use serde_json::{Value, json};
    use std::sync::Arc;
    use std::time::Instant;

    fn line(record: &AccessLogRecord) -> Value {
        let mut out = Vec::new();
        write(&mut out, record, record.ended.as_ref().unwrap(), &mut Clock::new(RFC_3339));
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&out).unwrap()
    }

    fn ended(mut record: AccessLogRecord, status: u16, sent: u64) -> AccessLogRecord {
        let began = Instant::now();
        let at = |micros| began + Duration::from_micros(micros);
        let exchange = Exchange { status, sent, ..Exchange::new(began, None, Protocol::Http11) };
        let exchange = Exchange { first_byte: Some(at(42)), ..exchange };
        record.set_wait(at(100), Some(WaitKind::Client));
        record.end(exchange.ended(ExchangeOutcome::Complete, at(2_000_107)));
        record
    }

    #[test]
    fn a_line_has_all_known_fields() {
        let mut record = AccessLogRecord::new(Some("10.0.0.1:4711".parse().unwrap()));
        for (field, text) in [
            (LogField::Id, "abc"),
            (LogField::Method, "GET"),
            (LogField::Target, "/a?b"),
            (LogField::Host, "x"),
            (LogField::Range, "bytes=0-1"),
            (LogField::Referer, ""),
            (LogField::UserAgent, "curl \"8\""),
            (LogField::Etag, "W/\"v1\""),
            (LogField::ContentEncoding, "br"),
            (LogField::ContentRange, "bytes 0-1/9"),
        ] {
            record.put(field, text.as_bytes());
        }
        record.client = "2001:db8::7".parse().ok();
        record.cached = Some(CacheResult::Miss);
        (record.frame_bytes, record.cold_bytes) = (100, 5);
        record.lookup = Duration::from_micros(30);
        record.tls = Some(Arc::new(TlsFacts {
            version: "TLSv1.3",
            cipher: "C".into(),
            server_name: Some("x.test".into()),
        }));
        let mut record = ended(record, 206, 107);
        record.ended.as_mut().unwrap().sample = 10;
        let mut line = line(&record);
        let time = line["time"].take();
        let time = time.as_str().unwrap();
        assert_eq!(time.len(), 24, "{time}");
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
        let expected = json!({
            "time": null, "id": "abc", "client": "2001:db8::7", "peer": "10.0.0.1", "method": "GET", "target": "/a?b",
            "host": "x", "protocol": "HTTP/1.1", "status": 206, "range": "bytes=0-1", "content_range": "bytes 0-1/9",
            "bytes": 7, "bytes_sent": 107, "duration": 2.000_107, "ttfb": 0.000_042, "cache": "miss", "cold_bytes": 5,
            "resident_bytes": 2, "lookup": 0.00003, "wait_disk": 0.0, "wait_client": 2.000_007, "wait_throttle": 0.0,
            "version": "W/v1", "coding": "br", "outcome": "complete", "referer": "", "user_agent": "curl \"8\"",
            "tls": {"version": "TLSv1.3", "cipher": "C", "sni": "x.test"}, "sample": 10
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn unknown_fields_are_absent() {
        let mut record = AccessLogRecord::new(None);
        record.put(LogField::Id, b"abc");
        record.put(LogField::Line, b"\x16\x03");
        record.is_truncated = true;
        let line = line(&ended(record, 400, 0));
        let names: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        for absent in ["peer", "method", "target", "host", "protocol", "version", "cache", "tls", "sample"] {
            assert!(!names.contains(&absent), "{absent}");
        }
        assert_eq!(line["client"], "unix");
        assert_eq!(line["line"], "\u{16}\u{3}");
        assert_eq!(line["truncated"], true);
    }

    #[test]
    fn fractions_are_padded_to_their_width() {
        for (parts, whole, expected) in [
            (0, 1000, ".000"),
            (7, 1000, ".007"),
            (42, 1000, ".042"),
            (999, 1000, ".999"),
            (1, 1_000_000, ".000001"),
            (123_456, 1_000_000, ".123456"),
        ] {
            let mut out = Vec::new();
            push_fraction(&mut out, parts, whole);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
