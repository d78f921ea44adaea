//! The access log: which requests are logged, the content of a line, and what happens if nobody reads the log.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pagecast::files::storage::Slow;
use serde_json::Value;

use crate::client::{Client, ReadSome, StreamedReply, wait_until};
use crate::in_process::InProcess;
use crate::secured::{Wants, ask as ask_over, secured};
use crate::site::{PATIENCE, Reply, Server, Site, pattern};

const REQUEST: &[u8] = b"GET /a.css HTTP/1.1\r\nHost: x\r\n\r\n";

/// A log file outside the document root.
struct Log {
    directory: tempfile::TempDir,
}

impl Log {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("access.log")
    }

    /// `site` with this log.
    fn of(&self, site: Site) -> Site {
        site.env("PAGECAST_ACCESS_LOG", self.path().to_str().unwrap())
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap_or_default()
    }

    /// The lines, once there are `count` of them.
    fn lines(&self, count: usize) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            if text.lines().count() >= count && text.ends_with('\n') || count == 0 {
                return text.lines().map(str::to_owned).collect();
            }
            assert!(Instant::now() < deadline, "no {count} lines in:\n{text}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The lines as objects, once there are `count` of them.
    fn entries(&self, count: usize) -> Vec<Value> {
        let entries: Vec<_> = self.lines(count).iter().map(|line| parsed(line)).collect();
        assert_eq!(entries.len(), count, "{entries:#?}");
        entries
    }

    fn last(&self, count: usize) -> Value {
        self.entries(count).pop().unwrap()
    }
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn site() -> Site {
    Site::with([("a.css", b"body {}")])
}

/// Sends `count` requests on one connection.
fn ask(server: &Server, count: usize) -> HashSet<String> {
    let mut client = Client::of(server);
    let mut ids = HashSet::new();
    for start in (0..count).step_by(100) {
        let asked = (count - start).min(100);
        client.send(REQUEST.repeat(asked));
        for _ in 0..asked {
            ids.extend(client.read("GET").field("x-request-id").map(str::to_owned));
        }
    }
    ids
}

/// The access log's part of `/status`.
fn counts(server: &Server) -> Value {
    let status: Value = serde_json::from_slice(&server.get_admin("/status").body).unwrap();
    status["access_log"].clone()
}

#[test]
fn a_line_has_the_request_the_response_and_the_outcome() {
    let log = Log::new();
    let server = log.of(site()).serve();
    let lines = "Range: bytes=0-2\r\nReferer: https://x.test/\r\nUser-Agent: test \"1\"\r\n";
    let reply = server.get_with("/a.css?v=1", lines);
    assert_eq!((reply.status, reply.text().as_str()), (206, "bod"));
    let entry = log.last(1);
    for (name, expected) in [
        ("id", reply.field("x-request-id").unwrap()),
        ("client", "127.0.0.1"),
        ("method", "GET"),
        ("target", "/a.css?v=1"),
        ("host", "x"),
        ("protocol", "HTTP/1.1"),
        ("range", "bytes=0-2"),
        ("content_range", "bytes 0-2/7"),
        ("cache", "miss"),
        ("version", reply.field("etag").unwrap().trim_matches('"')),
        ("outcome", "complete"),
        ("referer", "https://x.test/"),
        ("user_agent", "test \"1\""),
    ] {
        assert_eq!(entry[name], expected, "{name}");
    }
    assert_eq!(
        (&entry["status"], &entry["bytes"], &entry["resident_bytes"]),
        (&206.into(), &3.into(), &3.into())
    );
    let [duration, ttfb, lookup] = ["duration", "ttfb", "lookup"].map(|name| entry[name].as_f64().unwrap());
    assert!(lookup <= ttfb && 0.0 < ttfb && ttfb <= duration, "{entry}");
    let time: jiff::Timestamp = entry["time"].as_str().unwrap().parse().unwrap();
    assert!(jiff::Timestamp::now().duration_since(time).unsigned_abs() < PATIENCE, "{entry}");
    for absent in ["peer", "coding", "tls", "sample", "truncated", "line"] {
        assert!(entry.get(absent).is_none(), "{absent}");
    }
}

#[test]
fn every_kind_of_response_is_logged_with_its_size() {
    let log = Log::new();
    let big = pattern(300_000, 1);
    let site = site().file("big", &big).file("d/x", b"").file("d/index.html", b"<p>");
    let server = log.of(site).env("PAGECAST_LISTING", "on").file_in_listed().serve();
    let etag = server.get("/a.css").field("etag").unwrap().to_owned();
    // Workers log each for itself: only a line that is there comes before those of later connections.
    log.last(1);
    let conditional = format!("If-None-Match: {etag}\r\n");
    let mut count = 1;
    for (method, target, lines, status, content) in [
        ("GET", "/a.css", "", 200, Some(7)),
        ("HEAD", "/a.css", "", 200, Some(0)),
        ("GET", "/a.css", conditional.as_str(), 304, Some(0)),
        ("GET", "/big", "", 200, Some(300_000)),
        ("HEAD", "/big", "", 200, Some(0)),
        ("GET", "/big", "Range: bytes=-5\r\n", 206, Some(5)),
        ("GET", "/big", "Range: bytes=0-0,200000-200001\r\n", 206, None),
        ("GET", "/big", "Range: bytes=900000-\r\n", 416, Some(31)),
        ("GET", "/none", "", 404, Some(11)),
        ("HEAD", "/none", "", 404, Some(0)),
        ("GET", "/d", "", 301, Some(0)),
        ("GET", "/listed/", "", 200, None),
        ("OPTIONS", "*", "", 204, Some(0)),
        ("POST", "/a.css", "Content-Length: 0\r\n", 405, None),
        ("GET", "/livez", "", 200, Some(3)),
    ] {
        let mut stream = server.connect();
        write!(stream, "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n").unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        let mut rest = &all[..];
        let id = Reply::read(&mut rest, true).unwrap().field("x-request-id").map(str::to_owned);
        count += 1;
        let entry = log.last(count);
        assert_eq!(entry["id"].as_str(), id.as_deref(), "{method} {target}");
        assert_eq!((&entry["method"], &entry["target"]), (&method.into(), &target.into()));
        assert_eq!(entry["status"], status, "{method} {target}");
        assert_eq!(entry["bytes_sent"], all.len(), "{method} {target}");
        assert_eq!(entry["outcome"], "complete");
        if let Some(content) = content {
            assert_eq!(entry["bytes"], content, "{method} {target} {lines}");
        }
    }
    let entries = log.entries(count);
    assert_eq!(entries[1]["cache"], "hit");
    assert_eq!(entries[7]["content_range"], "multipart/byteranges");
    let mut stream = server.connect();
    stream.write_all(b"GET /listed/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let listing = StreamedReply::read(&mut stream);
    assert_eq!(log.last(count + 1)["bytes"], listing.body().len(), "without the frames of its chunks");
}

trait Listed {
    /// With a listing at `/`.
    fn file_in_listed(self) -> Self;
}

impl Listed for Site {
    fn file_in_listed(self) -> Self {
        self.file("listed/x", b"x")
    }
}

/// Requests that try to break out of their line: the request, and the status.
const FORGERIES: &[(&[u8], u16)] = &[
    (b"GET /\"}%0a{\"id\":\"x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    (b"GET /%0d%0aforged HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    (b"GET /a.css HTTP/1.1\r\nHost: x\r\nUser-Agent: \"} {\\\" - - [\r\nConnection: close\r\n\r\n", 200),
    (b"GET /a.css HTTP/1.1\r\nHost: x\r\nUser-Agent: \\\r\nConnection: close\r\n\r\n", 200),
    (b"GET /a.css HTTP/1.1\r\nHost: x\r\nUser-Agent: a\tb\r\nConnection: close\r\n\r\n", 200),
    (b"GET /a.css HTTP/1.1\r\nHost: x\r\nUser-Agent: \xff\xfe\xc3\r\nConnection: close\r\n\r\n", 200),
    (b"GET /a.css HTTP/1.1\r\nHost: x\r\nUser-Agent: \xe2\x80\xa8\xe2\x80\xa9\xc2\x85\r\nConnection: close\r\n\r\n", 200),
    (b"GET /a.css HTTP/1.1\r\nHost: x\r\nReferer: \xe2\x80\xaegpj\r\nConnection: close\r\n\r\n", 200),
    (b"GET /a.css HTTP/1.1\r\nHost: x\r\nUser-Agent: a\x1b[2Jb\r\n\r\n", 400),
    (b"GET /a.css HTTP/1.1\r\nHost: x\r\nUser-Agent: a\x7fb\r\n\r\n", 400),
    (b"GET /a.css HTTP/1.1\r\nHost: x\r\nUser-Agent: a\0b\r\n\r\n", 400),
    (b"GET /a.css HTTP/1.1\nHost: x\n\n", 400),
    (b"GET /\x1b]0;x\x07 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET /a.css HTTP/1.1\r\nHost: x\r\nHost: \"},{\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    (b"G\"T /a.css HTTP/1.1\r\nHost: x\r\n\r\n", 400),
];

#[test]
fn nothing_that_clients_send_forges_a_line_of_json() {
    let log = Log::new();
    let server = log.of(site()).serve();
    for (count, (raw, status)) in FORGERIES.iter().enumerate() {
        let found = server.send(raw);
        let entry = log.last(count + 1);
        assert_eq!((found.status, &entry["status"]), (*status, &(*status).into()), "{}", raw.escape_ascii());
        assert_eq!(entry["id"].as_str(), found.field("x-request-id"));
    }
    let text = log.text();
    let is_harmless = |character: char| character == '\n' || !character.is_control();
    assert!(
        text.chars().all(is_harmless) && !text.contains(['\u{2028}', '\u{2029}', '\u{202e}']),
        "{text:?}"
    );
}

#[test]
fn nothing_that_clients_send_forges_a_line_of_the_combined_format() {
    let log = Log::new();
    let server = log.of(site()).env("PAGECAST_ACCESS_LOG_FORMAT", "combined").serve();
    for (count, (raw, status)) in FORGERIES.iter().enumerate() {
        server.send(raw);
        let lines = log.lines(count + 1);
        assert_eq!(lines.len(), count + 1);
        let line = Combined::parse(&lines[count]);
        assert_eq!((line.client.as_str(), line.status), ("127.0.0.1", *status), "{}", lines[count]);
    }
    let length = server.get_with("/a.css?q", "User-Agent: curl/8\r\nReferer: /x\r\n").body.len();
    let line = Combined::parse(log.lines(FORGERIES.len() + 1).last().unwrap());
    let expected = ("GET /a.css?q HTTP/1.1", length, "/x", "curl/8");
    assert_eq!((line.request.as_str(), line.bytes, line.referer.as_str(), line.agent.as_str()), expected);
}

/// A line of the combined format, parsed strictly.
struct Combined {
    client: String,
    request: String,
    status: u16,
    bytes: usize,
    referer: String,
    agent: String,
}

impl Combined {
    fn parse(line: &str) -> Self {
        assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line:?}");
        let (client, rest) = line.split_once(" - - [").expect(line);
        let (time, rest) = rest.split_once("] \"").expect(line);
        assert_eq!(time.len(), 26, "{line}");
        let (request, rest) = rest.split_once("\" ").expect(line);
        let (status, rest) = rest.split_once(' ').expect(line);
        let (bytes, rest) = rest.split_once(" \"").expect(line);
        let (referer, rest) = rest.split_once("\" \"").expect(line);
        let agent = rest.strip_suffix('"').expect(line);
        for text in [request, referer, agent] {
            assert!(!text.contains('"'), "{line}");
            let escapes = text.split('\\').skip(1);
            assert!(escapes.into_iter().all(|escape| escape.starts_with('x')), "{line}");
        }
        Self {
            client: client.to_owned(),
            request: request.to_owned(),
            status: status.parse().expect(line),
            bytes: bytes.parse().expect(line),
            referer: referer.to_owned(),
            agent: agent.to_owned(),
        }
    }
}

#[test]
fn a_malformed_request_is_logged_with_what_is_known() {
    let log = Log::new();
    let server = log.of(site()).env("PAGECAST_HEAD_TIMEOUT", "50ms").serve();
    let many = "A: b\r\n".repeat(5_000);
    for (count, (raw, status, line)) in [
        ("GET / HTTP/1.1\r\nUser-Agent: slow\r\n".to_owned(), 408, "GET / HTTP/1.1"),
        (format!("GET /many HTTP/1.1\r\nUser-Agent: slow\r\n{many}"), 431, "GET /many HTTP/1.1"),
        ("GET /x HTTP/3.0\r\nUser-Agent: slow\r\n\r\n".to_owned(), 505, "GET /x HTTP/3.0"),
        ("BAD\r\nUser-Agent: slow\r\n\r\n".to_owned(), 400, "BAD"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(server.send(raw).status, status);
        let entry = log.last(count + 1);
        assert_eq!((&entry["status"], &entry["line"]), (&status.into(), &line.into()));
        assert_eq!((&entry["user_agent"], &entry["client"]), (&"slow".into(), &"127.0.0.1".into()));
        assert!(entry.get("method").is_none() && entry.get("protocol").is_none());
    }
}

#[test]
fn a_cut_response_is_logged_as_cut_with_the_bytes_sent() {
    let log = Log::new();
    let length = 64 << 20;
    let server = log.of(Site::new().file("big", &vec![7; length])).serve();
    let mut stream = server.connect_narrow();
    stream.write_all(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    stream.shutdown(Shutdown::Both).unwrap();
    drop(stream);
    let entry = log.last(1);
    assert_eq!((&entry["status"], &entry["outcome"]), (&200.into(), &"client_gone".into()));
    assert!((1..length as u64).contains(&entry["bytes"].as_u64().unwrap()), "{entry}");
}

#[test]
fn request_ids_are_accepted_from_trusted_proxies_only() {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = |lines: &str| format!("GET /a.css HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n");
    let both = format!("X-Request-Id: mine\r\ntraceparent: {trace}\r\nX-Forwarded-For: 192.0.2.9\r\n");
    let only_trace = format!("X-Request-Id: not mine\r\ntraceparent: {trace}\r\n");
    for (is_trusted, lines, expected) in [
        (true, both.as_str(), Some("mine")),
        (true, only_trace.as_str(), Some("4bf92f3577b34da6a3ce929d0e0e4736")),
        (true, "X-Request-Id: a\r\nX-Request-Id: b\r\n", None),
        (true, "traceparent: 00-0-0-01\r\n", None),
        (false, both.as_str(), None),
    ] {
        let log = Log::new();
        let proxies = if is_trusted { "127.0.0.1" } else { "192.0.2.1" };
        let server = log.of(site()).env("PAGECAST_TRUSTED_PROXIES", proxies).serve();
        let reply = server.send(request(lines));
        let found = reply.field("x-request-id").unwrap();
        let entry = log.last(1);
        assert_eq!(entry["id"], found);
        match expected {
            Some(expected) => assert_eq!(found, expected),
            None => {
                assert!(found.len() == 32 && found.bytes().all(|byte| byte.is_ascii_hexdigit()), "{found}")
            }
        }
        if lines.contains("X-Forwarded-For") {
            let (client, peer) =
                if is_trusted { ("192.0.2.9", Some("127.0.0.1")) } else { ("127.0.0.1", None) };
            assert_eq!(
                (entry["client"].as_str(), entry.get("peer").and_then(Value::as_str)),
                (Some(client), peer)
            );
        }
        let refused = server.send(format!("GET / HTTP/9.9\r\n{lines}\r\n"));
        assert_eq!(refused.status, 505);
        assert_eq!(refused.field("x-request-id") == Some("mine"), expected == Some("mine"));
    }
}

#[test]
fn responses_of_every_kind_have_the_request_id_if_configured() {
    let log = Log::new();
    for (ids, has_log, expected) in
        [("auto", true, true), ("auto", false, false), ("on", false, true), ("off", true, false)]
    {
        let site = site().file_in_listed().env("PAGECAST_REQUEST_IDS", ids).env("PAGECAST_LISTING", "on");
        let server = if has_log { log.of(site) } else { site }.serve();
        let etag = server.get("/a.css").field("etag").unwrap().to_owned();
        let mut ids = HashSet::new();
        for (raw, status) in [
            ("GET /a.css HTTP/1.1\r\nHost: x\r\n", 200),
            ("HEAD /a.css HTTP/1.1\r\nHost: x\r\n", 200),
            ("GET /a.css HTTP/1.1\r\nHost: x\r\nRange: bytes=1-2\r\n", 206),
            (&format!("GET /a.css HTTP/1.1\r\nHost: x\r\nIf-None-Match: {etag}\r\n"), 304),
            ("GET /none HTTP/1.1\r\nHost: x\r\n", 404),
            ("GET /listed/ HTTP/1.1\r\nHost: x\r\n", 200),
            ("PUT /a.css HTTP/1.1\r\nHost: x\r\n", 405),
            ("FOO /a.css HTTP/1.1\r\nHost: x\r\n", 501),
            ("GET /a.css HTTP/1.1\r\n", 400),
        ] {
            let mut stream = server.connect();
            write!(stream, "{raw}Connection: close\r\n\r\n").unwrap();
            let reply = Reply::read(&mut stream, true).unwrap();
            assert_eq!(reply.status, status, "{raw}");
            let found: Vec<_> = reply.fields.iter().filter(|(name, _)| name == "x-request-id").collect();
            assert_eq!(found.len(), usize::from(expected), "{raw}");
            ids.extend(found.into_iter().map(|(_, id)| id.clone()));
        }
        assert_eq!(ids.len(), if expected { 9 } else { 0 });
    }
}

#[test]
fn ten_thousand_requests_have_ten_thousand_lines_with_different_ids() {
    let log = Log::new();
    let server = Arc::new(log.of(site()).serve());
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let server = Arc::clone(&server);
            std::thread::spawn(move || ask(&server, 2_500))
        })
        .collect();
    let sent: HashSet<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    assert_eq!(sent.len(), 10_000);
    let written: HashSet<String> =
        log.entries(10_000).iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect();
    assert!(written == sent, "the logged ids are those of the responses");
}

#[test]
fn a_blocked_log_delays_no_request_and_lost_lines_are_counted() {
    let log = Log::new();
    let made = std::process::Command::new("mkfifo").arg(log.path()).status().unwrap();
    assert!(made.success());
    let mut server = log
        .of(site())
        .env("PAGECAST_ACCESS_LOG_QUEUE", "256")
        .env("PAGECAST_ADMIN_LISTEN", "127.0.0.1:0")
        .serve();
    ask(&server, 2_000);
    wait_until("dropped", || counts(&server)["dropped"].as_u64() > Some(0));
    let found = counts(&server);
    assert_eq!((&found["queued"], &found["limit"]), (&256.into(), &256.into()), "{found}");
    server.wait_for_log("queue full (256 lines)");
    assert_eq!(server.get("/a.css").status, 200);
    server.signal("TERM");
    assert!(server.wait().success(), "{}", server.log());
}

#[test]
fn a_full_disk_is_logged_and_counted_and_the_server_goes_on() {
    let mut server =
        site().env("PAGECAST_ACCESS_LOG", "/dev/full").env("PAGECAST_ADMIN_LISTEN", "127.0.0.1:0").serve();
    ask(&server, 100);
    server.wait_for_log("lines could not be written: No space left on device");
    wait_until("all of them failed", || counts(&server)["failed"].as_u64() >= Some(100));
    assert_eq!(counts(&server)["written"], 0);
    assert_eq!(server.get("/a.css").status, 200);
    assert_eq!(server.log().matches("could not be written").count(), 1, "once a minute");
}

#[test]
fn a_renamed_file_is_reopened_on_a_signal_and_no_line_is_lost() {
    let log = Log::new();
    let mut server = log.of(site()).serve();
    let rotated = log.directory.path().join("access.log.1");
    ask(&server, 500);
    fs::rename(log.path(), &rotated).unwrap();
    ask(&server, 500);
    server.signal("USR1");
    server.wait_for_log(" reopened");
    ask(&server, 500);
    let count = |path: &Path| fs::read_to_string(path).unwrap().lines().map(parsed).count();
    log.lines(500);
    let before = count(&rotated);
    assert!((500..=1_000).contains(&before), "{before}");
    assert_eq!(before + count(&log.path()), 1_500);
}

#[test]
#[ignore = "needs logrotate: apt-get install logrotate"]
fn logrotate_rotates_with_the_example_and_no_line_is_lost() {
    let log = Log::new();
    let mut server = log.of(site()).serve();
    ask(&server, 100);
    log.lines(100);
    let example = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/logrotate.conf")).unwrap();
    let signal = "systemctl kill --signal=USR1 pagecast.service";
    assert!(example.contains(signal) && example.contains("/var/log/pagecast/access.log"));
    let ours = example
        .replace("/var/log/pagecast/access.log", log.path().to_str().unwrap())
        .replace(signal, &format!("kill -USR1 {}", server.pid()));
    let (config, state) = (log.directory.path().join("conf"), log.directory.path().join("state"));
    fs::write(&config, ours).unwrap();
    let mut logrotate = std::process::Command::new("logrotate");
    let output = logrotate.arg("--force").arg("--state").arg(state).arg(config).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    server.wait_for_log(" reopened");
    ask(&server, 50);
    log.entries(50);
    let rotated = fs::read_to_string(log.directory.path().join("access.log.1")).unwrap();
    assert_eq!(rotated.lines().map(parsed).count(), 100);
}

#[test]
fn if_a_file_cannot_be_reopened_lines_go_to_the_old_one() {
    let log = Log::new();
    let place = log.directory.path().join("logs");
    fs::create_dir(&place).unwrap();
    let path = place.join("a.log");
    let mut server = site().env("PAGECAST_ACCESS_LOG", path.to_str().unwrap()).serve();
    let moved = log.directory.path().join("moved");
    fs::rename(&place, &moved).unwrap();
    server.signal("USR1");
    server.wait_for_log("a.log: No such file or directory");
    ask(&server, 3);
    wait_until("written", || fs::read_to_string(moved.join("a.log")).unwrap().lines().count() == 3);
}

#[test]
fn a_sample_of_requests_is_logged_with_its_rate_and_failures_always() {
    let log = Log::new();
    let server = log.of(site()).env("PAGECAST_ACCESS_LOG_SAMPLE", "4").serve();
    ask(&server, 2_000);
    for _ in 0..20 {
        assert_eq!(server.send("FOO / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").status, 501);
    }
    let count =
        |wanted: &dyn Fn(&Value) -> bool| log.lines(0).iter().map(|line| parsed(line)).filter(wanted).count();
    wait_until("all failures there", || {
        count(&|entry| entry["status"] == 501 && entry.get("sample").is_none()) == 20
    });
    let sampled = count(&|entry| entry["status"] == 200 && entry["sample"] == 4);
    assert!((350..650).contains(&sampled), "{sampled}");
    assert_eq!(count(&|_| true), sampled + 20);
}

#[test]
fn slow_requests_are_logged_whatever_the_sample() {
    let log = Log::new();
    let site = log.of(site()).env("PAGECAST_ACCESS_LOG_SAMPLE", "1000000");
    let server = site.env("PAGECAST_ACCESS_LOG_SLOW", "0").serve();
    ask(&server, 50);
    assert!(log.entries(50).iter().all(|entry| entry.get("sample").is_none()));
}

#[test]
fn queued_lines_are_written_before_the_server_ends() {
    let log = Log::new();
    let mut server = log.of(site()).serve();
    ask(&server, 3_000);
    server.signal("TERM");
    assert!(server.wait().success());
    assert_eq!(log.text().lines().map(parsed).count(), 3_000);
}

#[test]
fn two_servers_write_to_one_file_without_breaking_each_others_lines() {
    let log = Log::new();
    let servers = [log.of(site()).serve(), log.of(site()).serve()];
    std::thread::scope(|scope| {
        for server in &servers {
            scope.spawn(|| ask(server, 2_000));
        }
    });
    log.entries(4_000);
}

#[test]
fn a_log_that_cannot_be_opened_is_an_error_at_start() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("none/a.log");
    let site = site();
    let inside = site.path().join("a.log");
    for (path, words) in [(missing, "No such file or directory"), (inside, "would be served")] {
        let mut command = site.command();
        let output = command.env("PAGECAST_ACCESS_LOG", &path).output().unwrap();
        let found = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && found.contains(words), "{found}");
        assert!(found.contains(path.to_str().unwrap()), "{found}");
        assert!(!path.exists());
    }
}

#[test]
fn a_reload_changes_target_format_and_sample_and_a_bad_target_changes_nothing() {
    let log = Log::new();
    let other = log.directory.path().join("other.log");
    let mut server = site().config("").serve();
    let config = server.root.join(".pagecast.toml");
    let reload = |toml: &str, text: &str| {
        fs::write(&config, toml).unwrap();
        let before = server.log().matches(text).count();
        server.signal("HUP");
        wait_until("reloaded", || server.log().matches(text).count() > before);
        server.get("/a.css").field("x-request-id").is_some()
    };
    let path = log.path();
    assert!(reload(&format!("access_log = {path:?}\n"), "reloaded "));
    assert_eq!(log.last(1)["target"], "/a.css");
    assert!(reload(
        &format!("access_log = {path:?}\nrequest_ids = \"on\"\nlog_format = \"json\"\n"),
        "reloaded "
    ));
    log.entries(2);
    let bad = format!("access_log = {:?}\n", log.directory.path().join("none/x.log"));
    assert!(reload(&bad, "not reloaded"));
    log.entries(3);
    let combined = format!("access_log = {other:?}\naccess_log_format = \"combined\"\n");
    assert!(reload(&combined, "reloaded "));
    wait_until("in the other file", || fs::read_to_string(&other).is_ok_and(|text| text.ends_with('\n')));
    Combined::parse(fs::read_to_string(&other).unwrap().trim_end());
    assert!(!reload("", "reloaded "));
    assert_eq!(log.lines(0).len(), 3);
    assert_eq!(fs::read_to_string(&other).unwrap().lines().count(), 1);
    assert!(server.is_running());
}

#[test]
fn with_json_every_line_of_standard_error_is_an_object_the_access_log_included() {
    let mut server = site()
        .env("PAGECAST_LOG_FORMAT", "json")
        .env("PAGECAST_LOG", "debug")
        .env("PAGECAST_ACCESS_LOG", "stderr")
        .launch("\"ready: ");
    ask(&server, 300);
    server.send(b"\x1b\n\n");
    server.signal("TERM");
    assert!(server.wait().success());
    let lines: Vec<_> = server.log().lines().map(parsed).collect();
    assert_eq!(lines.iter().filter(|line| line.get("target") == Some(&"/a.css".into())).count(), 300);
    let found =
        lines.iter().find(|line| line["message"].as_str().is_some_and(|text| text.contains("ready: ")));
    let found = found.expect("that it is ready");
    assert_eq!((&found["level"], &found["target"]), (&"info".into(), &"pagecast::server::run".into()));
    assert!(found["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
}

#[test]
fn a_line_has_the_cold_bytes_and_the_time_of_the_disk() {
    let log = Log::new();
    let disk = Slow::new(Duration::from_millis(20), 64 << 20);
    let bytes = pattern(3 << 20, 1);
    let server = InProcess::serve(log.of(Site::new().file("x", &bytes)), disk);
    for count in 1..=2 {
        assert!(server.get("/x").unwrap().body == bytes);
        let entry = log.last(count);
        let of = |name: &str| entry[name].as_u64().unwrap();
        assert_eq!(of("cold_bytes") + of("resident_bytes"), bytes.len() as u64, "{entry}");
        let waited = entry["wait_disk"].as_f64().unwrap();
        match count {
            1 => assert!(of("cold_bytes") == bytes.len() as u64 && waited >= 0.02, "{entry}"),
            _ => assert!(of("cold_bytes") == 0 && waited == 0.0, "{entry}"),
        }
        assert_eq!(entry["cache"], if count == 1 { "miss" } else { "hit" });
    }
}

#[test]
fn a_line_has_the_time_spent_on_rate_limits_and_on_the_client() {
    let log = Log::new();
    let site = Site::new().file("x", &vec![7; 300_000]).file("big", &vec![7; 32 << 20]);
    let rule = "[[rule]]\npath = \"/x\"\nrate_client = \"1MiB\"\nrate_client_burst = \"100KiB\"\n";
    let server = log.of(site).config(rule).serve();
    assert!(server.get("/x").is_complete());
    let throttled = log.last(1)["wait_throttle"].as_f64().unwrap();
    assert!(throttled > 0.05, "{throttled}");
    let mut stream: TcpStream = server.connect_narrow();
    stream.write_all(b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    stream.read_to_end(&mut Vec::new()).unwrap();
    let entry = log.last(2);
    assert!(entry["wait_client"].as_f64().unwrap() > 0.05, "{entry}");
}

#[test]
fn a_line_has_the_tls_version_of_its_connection() {
    let log = Log::new();
    let (site, _files) = secured(site());
    let server = log.of(site).serve();
    let versions = [(&rustls::version::TLS13, "TLSv1.3"), (&rustls::version::TLS12, "TLSv1.2")];
    for (count, (version, expected)) in versions.into_iter().enumerate() {
        let mut client = Wants::of(&[version], &[]).connect(server.tls_address()).unwrap();
        assert!(ask_over(&mut client, "/a.css", "").is_complete());
        let tls = log.last(count + 1)["tls"].take();
        assert_eq!((&tls["version"], &tls["sni"]), (&expected.into(), &"localhost".into()), "{tls}");
        let cipher = tls["cipher"].as_str().unwrap();
        assert!(cipher.starts_with("TLS_") && !cipher.contains("TLS13"), "{cipher}");
    }
}

#[test]
fn a_late_reader_gets_what_the_pipe_still_holds() {
    let log = Log::new();
    assert!(std::process::Command::new("mkfifo").arg(log.path()).status().unwrap().success());
    let server = log.of(site()).serve();
    ask(&server, 10);
    let mut pipe = OpenOptions::new().read(true).open(log.path()).unwrap();
    let mut text = String::new();
    while text.lines().count() < 10 || !text.ends_with('\n') {
        let mut piece = [0; 4096];
        let length = pipe.read_some(&mut piece).unwrap();
        text.push_str(std::str::from_utf8(&piece[..length]).unwrap());
    }
    assert_eq!(text.lines().map(parsed).count(), 10);
}
