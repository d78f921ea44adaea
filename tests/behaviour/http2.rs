//! HTTP/2 on the real server: the same site as over HTTP/1.1, many concurrent streams, and hostile clients.

use std::fs::OpenOptions;
use std::io::Read;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pagecast::files::storage::{Call, Faulty, InjectedFault, When};
use rustix::io::Errno;
use rustls::version::{TLS12, TLS13};

use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, PING, PREFACE,
    PRIORITY, RST_STREAM, Raw, WINDOW_UPDATE, ask, block, code, frame, get as head, ping, reset, settings,
    window_update,
};
use crate::h2_client::{self, ask_all, ask_at, get, request};
use crate::in_process::InProcess;
use crate::secured::{Wants, secured};
use crate::site::{PATIENCE, Reply, Site, pattern};

const MIB: usize = 1 << 20;

#[test]
fn files_of_all_lengths_are_sent_byte_for_byte() {
    let lengths = [
        0,
        1,
        100,
        16_383,
        16_384,
        16_385,
        65_535,
        65_536,
        65_537,
        131_072,
        131_073,
        262_144,
        300_000,
        MIB + 3,
    ];
    let site = lengths
        .iter()
        .fold(Site::new(), |site, length| site.file(&format!("{length}"), &pattern(*length, 1)));
    let server = site.serve();
    let requests = || lengths.iter().map(|length| get(&format!("/{length}"), &[])).collect();
    for round in 0..3 {
        for (length, got) in lengths.iter().zip(ask_all(&server, requests())) {
            assert_eq!((got.reply.status, got.cut), (200, None), "{length}, round {round}");
            assert!(got.reply.body == pattern(*length, 1), "{length}: {} bytes", got.reply.body.len());
            assert_eq!(got.reply.content_length(), Some(*length as u64));
        }
    }
}

#[test]
fn the_site_is_the_same_as_over_http1() {
    let server = Site::with([("a.css", b"a { color: red }"), ("d/one.txt", b"1"), ("d/two.txt", b"22")])
        .file("big.bin", &pattern(300_000, 1))
        .env("PAGECAST_LISTING", "on")
        .env("PAGECAST_ARCHIVE", "on")
        .config("[[rule]]\npath = \"/a.css\"\ncache_control = \"max-age=60\"\n")
        .serve();
    let tag = server.get("/a.css").field("etag").unwrap().to_owned();
    for (method, target, fields) in [
        ("GET", "/a.css", &[][..]),
        ("GET", "/a.css", &[("if-none-match", tag.as_str())]),
        ("GET", "/a.css", &[("if-match", "\"other\"")]),
        ("GET", "/a.css", &[("range", "bytes=2-5")]),
        ("GET", "/a.css", &[("range", "bytes=99-")]),
        ("HEAD", "/a.css", &[]),
        ("HEAD", "/big.bin", &[]),
        ("GET", "/big.bin", &[("range", "bytes=100000-199999")]),
        ("GET", "/missing", &[]),
        ("HEAD", "/missing", &[]),
        ("GET", "/d", &[]),
        ("GET", "/d/", &[]),
        ("GET", "/d/?format=json", &[]),
        ("GET", "/d/?archive=tar", &[]),
        ("GET", "/a.css?download=b.css", &[]),
        ("OPTIONS", "/a.css", &[]),
        ("OPTIONS", "*", &[]),
        ("POST", "/a.css", &[]),
        ("PROPFIND", "/a.css", &[]),
        ("GET", "/%zz", &[]),
        ("GET", "/../a.css", &[]),
        ("GET", "/a.css", &[("expect", "magic")]),
        ("GET", "/livez", &[]),
    ] {
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n");
        let old = server.send(&head);
        let new = h2_client::ask(&server, asked(method, target, fields));
        assert_eq!(new.cut, None, "{head}");
        assert_eq!(new.reply.status, old.status, "{head}");
        assert!(new.reply.body == unchunked(&old), "{head}: {} and {}", new.reply.text(), old.text());
        assert_eq!(without_date(&new.reply), without_date(&old), "{head}");
        for name in ["connection", "transfer-encoding", "keep-alive"] {
            assert_eq!(new.reply.field(name), None, "{head}");
        }
        assert!(new.reply.field("date").is_some(), "{head}");
    }
}

fn asked(method: &str, target: &str, fields: &[(&str, &str)]) -> http1::Request<()> {
    let mut asked = request(method, if target == "*" { "/" } else { target }, fields);
    if target == "*" {
        *asked.uri_mut() = "*".parse().unwrap();
        asked.headers_mut().insert("host", "x".parse().unwrap());
        let parts = http1::uri::Builder::new().scheme("http").authority("x").path_and_query("*");
        *asked.uri_mut() = parts.build().unwrap();
        asked.headers_mut().remove("host");
    }
    asked
}

/// The parts of a response that depend neither on the time nor on the framing.
fn without_date(reply: &Reply) -> Vec<(String, String)> {
    let framing = ["date", "connection", "transfer-encoding"];
    let mut fields = reply.fields.clone();
    fields.retain(|(name, _)| !framing.contains(&name.as_str()));
    fields.sort();
    fields
}

fn unchunked(reply: &Reply) -> Vec<u8> {
    if reply.field("transfer-encoding") != Some("chunked") {
        return reply.body.clone();
    }
    let (mut left, mut body) = (&reply.body[..], Vec::new());
    while let Some(end) = left.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&left[..end]).unwrap(), 16).unwrap();
        body.extend_from_slice(&left[end + 2..end + 2 + length]);
        left = &left[end + 4 + length..];
    }
    body
}

#[test]
fn several_ranges_are_one_response() {
    let server = Site::new().file("big.bin", &pattern(300_000, 1)).serve();
    let got = h2_client::ask(&server, get("/big.bin", &[("range", "bytes=0-9,200000-299999")])).reply;
    assert_eq!(got.status, 206);
    assert!(got.is_complete() && got.field("content-type").unwrap().starts_with("multipart/byteranges"));
    let wanted = &pattern(300_000, 1)[200_000..];
    assert!(got.body.windows(wanted.len()).any(|window| window == wanted));
}

#[test]
fn a_hundred_streams_at_once_are_all_answered() {
    let site = (0..10).fold(Site::new(), |site, n| site.file(&format!("{n}"), &pattern(10_000 * n + 7, 1)));
    let server = site.serve();
    let requests = (0..100).map(|n| get(&format!("/{}", n % 10), &[])).collect();
    for (n, got) in ask_all(&server, requests).into_iter().enumerate() {
        assert_eq!((got.reply.status, got.cut), (200, None), "{n}");
        assert!(got.reply.body == pattern(10_000 * (n % 10) + 7, 1), "{n}");
    }
}

#[test]
fn a_stream_that_its_client_does_not_read_delays_no_other() {
    let server = Site::with([("small", b"small")]).file("big", &pattern(2 * MIB, 1)).serve();
    let mut client = Raw::to(&server, &[(INITIAL_WINDOW_SIZE, 1 << 20)]);
    client.send(&window_update(0, 1 << 28));
    client.send(&ask(1, "/big"));
    let mut taken = 0;
    while taken < 1 << 20 {
        taken += client.until(|frame| frame.kind == DATA).unwrap().payload.len();
    }
    for stream in [3, 5, 7] {
        client.send(&ask(stream, "/small"));
        assert_eq!(client.body(stream).as_deref(), Ok(&b"small"[..]));
    }
    client.send(&window_update(1, 1 << 20));
    let rest = client.body(1).unwrap();
    assert!(rest == pattern(2 * MIB, 1)[taken..], "{}", rest.len());
}

#[test]
fn short_responses_are_sent_between_the_frames_of_a_long_one() {
    let server = Site::with([("small", b"small")]).file("big", &pattern(16 * MIB, 1)).serve();
    let mut client = Raw::to(&server, &[(INITIAL_WINDOW_SIZE, 1 << 30)]);
    client.send(&[window_update(0, 1 << 30), ask(1, "/big")].concat());
    client.until(|frame| frame.kind == DATA).unwrap();
    client.send(&ask(3, "/small"));
    let (mut before, mut is_small_done) = (0, false);
    while let Some(frame) = client.read() {
        match (frame.kind, frame.stream) {
            (DATA, 1) if !is_small_done => before += frame.payload.len(),
            (DATA, 3) => is_small_done = true,
            _ => {}
        }
        if frame.kind == DATA && frame.stream == 1 && frame.flags & END_STREAM != 0 {
            break;
        }
    }
    assert!(is_small_done && before < 15 * MIB, "{before} bytes before the small one");
}

#[test]
fn a_client_with_small_windows_gets_the_whole_body() {
    let body = pattern(60_000, 1);
    let server = Site::new().file("x", &body).file("heap", &body[..9000]).serve();
    for (target, expected) in [("/x", &body[..]), ("/heap", &body[..9000])] {
        let mut client = Raw::to(&server, &[(INITIAL_WINDOW_SIZE, 100)]);
        client.send(&ask(1, target));
        assert!(client.body(1).unwrap() == expected, "{target}");
    }
}

#[test]
fn a_head_is_sent_before_there_is_a_window_for_its_body() {
    let server = Site::new().file("x", &pattern(100_000, 1)).serve();
    let mut client = Raw::to(&server, &[(INITIAL_WINDOW_SIZE, 0)]);
    client.send(&ask(1, "/x"));
    let head = client.until(|frame| frame.kind == HEADERS).unwrap();
    assert_eq!((head.stream, head.flags & END_STREAM), (1, 0));
}

#[test]
fn a_stream_that_is_reset_ends_alone() {
    let server = Site::with([("small", b"small")]).file("big", &pattern(4 * MIB, 1)).serve();
    let mut client = Raw::to(&server, &[]);
    client.send(&[ask(1, "/big"), ask(3, "/big")].concat());
    client.until(|frame| frame.kind == DATA).unwrap();
    client.send(&[reset(1, 8), ask(5, "/small")].concat());
    client.send(&window_update(0, 1 << 20));
    assert_eq!(client.body(5).as_deref(), Ok(&b"small"[..]));
}

#[test]
fn a_request_body_is_discarded_within_limits() {
    let server = Site::with([("a", b"hello")]).env("PAGECAST_BODY_BYTES", "100KiB").serve();
    let mut client = Raw::to(&server, &[]);
    let post =
        |path: &str| block(&[(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x")]);
    // Within the limit: the windows that it uses are replenished.
    let mut connection = 65_535;
    client.send(&frame(HEADERS, END_HEADERS, 1, &post("/a")));
    assert_eq!(send_body(&mut client, 1, 6, &mut connection), None);
    client.send(&frame(DATA, END_STREAM, 1, &[]));
    client.send(&ping(b"the mark"));
    client.until(|frame| frame.kind == PING).expect("the connection goes on");
    // Beyond the limit: the response, and then a reset with NO_ERROR.
    client.send(&frame(HEADERS, END_HEADERS, 3, &post("/a")));
    let end = send_body(&mut client, 3, 20, &mut connection).expect("a reset");
    assert_eq!((end.stream, code(&end.payload)), (3, "NO_ERROR"));
    client.send(&ask(5, "/a"));
    assert_eq!(client.body(5).as_deref(), Ok(&b"hello"[..]));
}

/// Sends `count` frames of 16 KiB on `stream`, as windows allow; `connection` is the window left. A reset ends it.
fn send_body(client: &mut Raw, stream: u32, frames: usize, connection: &mut usize) -> Option<Frame> {
    let (mut room, mut left) = (65_535, frames);
    loop {
        while left > 0 && room.min(*connection) >= 16_384 {
            client.send(&frame(DATA, 0, stream, &[0; 16_384]));
            room -= 16_384;
            *connection -= 16_384;
            left -= 1;
        }
        if left == 0 && *connection >= 16_384 {
            return None;
        }
        let is_of_interest = |frame: &Frame| matches!(frame.kind, WINDOW_UPDATE | RST_STREAM);
        let frame = client.until(is_of_interest).expect("room, or a reset");
        if frame.kind == RST_STREAM {
            return Some(frame);
        }
        let more = u32::from_be_bytes(frame.payload[..4].try_into().unwrap()) as usize;
        match frame.stream {
            0 => *connection += more,
            of if of == stream => room += more,
            _ => {}
        }
    }
}

#[test]
fn a_client_that_expects_100_continue_gets_it_if_its_body_is_read() {
    let server = Site::with([("a", b"hello")]).serve();
    let mut client = Raw::to(&server, &[]);
    let fields = |method| {
        let usual = [(":method", method), (":scheme", "http"), (":path", "/a"), (":authority", "x")];
        block(&[&usual[..], &[("expect", "100-continue"), ("content-length", "3")]].concat())
    };
    client.send(&frame(HEADERS, END_HEADERS, 1, &fields("GET")));
    let first = client.until(|frame| frame.kind == HEADERS).unwrap();
    assert_eq!(first.flags & END_STREAM, 0);
    let second = client.until(|frame| frame.kind == HEADERS).unwrap();
    assert_eq!(second.stream, 1, "the response itself");
    client.send(&frame(DATA, END_STREAM, 1, b"abc"));
    client.send(&frame(HEADERS, END_HEADERS, 3, &fields("POST")));
    client.until(|frame| frame.kind == HEADERS && frame.stream == 3).unwrap();
    let next = client.until(|frame| frame.stream == 3).unwrap();
    assert_eq!(next.kind, DATA, "405 at once: its sentence follows the head");
}

#[test]
fn limits_are_those_of_http1() {
    let server = Site::with([("a", b"hello")])
        .env("PAGECAST_HEAD_BYTES", "2KiB")
        .env("PAGECAST_HEAD_FIELDS", "8")
        .serve();
    let long = "a".repeat(1500);
    let target = format!("/{}", "a".repeat(2100));
    let one = ("x-one", long.as_str());
    for (target, fields, status, sentence) in [
        ("/a", &[one][..], 200, "hello"),
        // A head over the announced size is refused while it is read, with a shorter body.
        ("/a", &[one, ("x-two", &long)], 431, ""),
        ("/a", &[("x", &"a".repeat(2040))], 431, "The request's headers are too large.\n"),
        (&target, &[], 414, "The request target is too long.\n"),
        ("/a", &[("a", "b"); 9], 431, "The request has too many headers.\n"),
    ] {
        let got = h2_client::ask(&server, get(target, fields)).reply;
        assert_eq!((got.status, got.text().as_str()), (status, sentence), "{target:.10}");
    }
}

#[test]
fn http2_is_refused_as_an_unknown_version_if_it_is_off() {
    let server = Site::with([("a", b"hello")]).env("PAGECAST_HTTP2", "off").serve();
    assert_eq!(server.send([PREFACE, &settings(&[])].concat()).status, 505);
    // In the middle of a connection it is no preface.
    let server = Site::with([("a", b"hello")]).serve();
    let mut stream = server.connect();
    std::io::Write::write_all(&mut stream, &[&b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"[..], PREFACE].concat())
        .unwrap();
    assert_eq!(Reply::read(&mut stream, false).unwrap().text(), "hello");
    assert_eq!(Reply::read(&mut stream, false).unwrap().status, 505);
}

#[test]
fn requests_may_arrive_byte_by_byte() {
    let server = Site::with([("a", b"hello")]).serve();
    let mut client = Raw::silent(server.connect());
    client.stream.set_nodelay(true).unwrap();
    for byte in [PREFACE, &settings(&[]), &ask(1, "/a")].concat() {
        client.send(&[byte]);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(client.body(1).as_deref(), Ok(&b"hello"[..]));
}

#[test]
fn floods_end_only_their_own_connection() {
    let server = Site::with([("a", b"hello")])
        .file("big", &pattern(MIB, 1))
        .env("PAGECAST_HTTP2_RESETS", "50")
        .serve();
    let open = frame(HEADERS, END_HEADERS, 1, &head("/big"));
    let many = |count: u32, one: &dyn Fn(u32) -> Vec<u8>| (0..count).flat_map(one).collect::<Vec<u8>>();
    let floods: [(&str, Vec<u8>); 9] = [
        ("rapid reset", many(200, &|n| [ask(2 * n + 1, "/big"), reset(2 * n + 1, 8)].concat())),
        ("malformed requests", many(200, &|n| ask(2 * n + 1, "no slash"))),
        (
            "continuation",
            [frame(HEADERS, END_STREAM, 1, &head("/a")), many(20_000, &|_| frame(CONTINUATION, 0, 1, &[]))]
                .concat(),
        ),
        (
            "continuation that grows",
            [
                frame(HEADERS, END_STREAM, 1, &head("/a")),
                many(2000, &|_| frame(CONTINUATION, 0, 1, &block(&[("x", &"y".repeat(100))]))),
            ]
            .concat(),
        ),
        ("empty DATA", [open.clone(), many(20_000, &|_| frame(DATA, 0, 1, &[]))].concat()),
        ("SETTINGS", many(20_000, &|_| settings(&[]))),
        ("PING", many(20_000, &|_| ping(b"12345678"))),
        ("PRIORITY", many(20_000, &|_| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9]))),
        ("windows", [open, many(20_000, &|_| window_update(0, 1))].concat()),
    ];
    let mut other = Raw::to(&server, &[]);
    for (stream, (what, flood)) in (1..).step_by(2).zip(floods) {
        let mut client = Raw::to(&server, &[]);
        let mut writer = client.stream.try_clone().unwrap();
        let writing = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &flood).is_ok());
        let end = client.until(|frame| frame.kind == GOAWAY);
        let reason = end.as_ref().map(|end| code(&end.payload[4..]));
        assert_eq!(reason, Some("ENHANCE_YOUR_CALM"), "{what}");
        let _ = client.stream.shutdown(std::net::Shutdown::Both);
        let _ = writing.join();
        other.send(&ask(stream, "/a"));
        assert_eq!(other.body(stream).as_deref(), Ok(&b"hello"[..]), "{what}: another connection goes on");
    }
}

#[test]
fn unread_responses_to_frames_do_not_accumulate() {
    let server = Site::with([("a", b"hello")]).serve();
    let mut client = Raw::over(server.connect_narrow(), &[]);
    client.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let flood: Vec<u8> = (0..1000).flat_map(|_| ping(b"12345678")).collect();
    let before = server.resident_max();
    for _ in 0..400 {
        client.send(&flood);
    }
    assert!(server.resident_max() < before + 32 * MIB as u64);
    assert_eq!(server.get("/a").text(), "hello");
}

#[test]
fn an_idle_connection_gets_a_goaway() {
    let server = Site::with([("a", b"hello")]).env("PAGECAST_IDLE_TIMEOUT", "200ms").serve();
    let mut client = Raw::to(&server, &[]);
    client.send(&ask(1, "/a"));
    assert_eq!(client.body(1).as_deref(), Ok(&b"hello"[..]));
    let end = client.until(|frame| frame.kind == GOAWAY).unwrap();
    assert_eq!((code(&end.payload[4..]), &end.payload[..4]), ("NO_ERROR", &[0, 0, 0, 1][..]));
    assert_eq!(client.read(), None);
}

#[test]
fn a_client_that_only_pings_is_idle() {
    let server = Site::with([("a", b"hello")]).env("PAGECAST_IDLE_TIMEOUT", "300ms").serve();
    let mut client = Raw::to(&server, &[]);
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        client.send(&ping(b"12345678"));
        match client.read() {
            Some(frame) if frame.kind == GOAWAY => return,
            Some(_) => std::thread::sleep(Duration::from_millis(20)),
            None => break,
        }
    }
    panic!("the connection ends with a word, in time");
}

#[test]
fn incomplete_requests_time_out() {
    let server = Site::with([("a", b"hello")]).env("PAGECAST_HEAD_TIMEOUT", "200ms").serve();
    for (what, bytes) in [
        ("nothing behind the preface's first half", PREFACE[..18].to_vec()),
        ("no settings", PREFACE.to_vec()),
        ("half of a frame", [PREFACE, &settings(&[]), &ask(1, "/a")[..12]].concat()),
        (
            "half of a field block",
            [PREFACE, &settings(&[]), &frame(HEADERS, END_STREAM, 1, &head("/a"))[..]].concat(),
        ),
    ] {
        let mut client = Raw::silent(server.connect());
        let begun = Instant::now();
        client.send(&bytes);
        while client.read().is_some() {}
        assert!(begun.elapsed() < PATIENCE, "{what}");
    }
    // With a response under way, too.
    let server = Site::new()
        .file("big", &pattern(MIB, 1))
        .env("PAGECAST_HEAD_TIMEOUT", "200ms")
        .env("PAGECAST_STALL_TIMEOUT", "1h")
        .serve();
    let mut client = Raw::to(&server, &[]);
    client.send(&[ask(1, "/big"), frame(HEADERS, END_STREAM, 3, &head("/a"))].concat());
    let end = client.until(|frame| frame.kind == GOAWAY).unwrap();
    assert_eq!(code(&end.payload[4..]), "ENHANCE_YOUR_CALM");
}

#[test]
fn a_stream_without_a_window_times_out_and_the_connection_goes_on() {
    let server = Site::with([("a", b"hello")])
        .file("big", &pattern(MIB, 1))
        .env("PAGECAST_STALL_TIMEOUT", "300ms")
        .serve();
    let mut client = Raw::to(&server, &[(INITIAL_WINDOW_SIZE, 10)]);
    client.send(&ask(1, "/big"));
    let end = client.until(|frame| frame.kind == RST_STREAM).unwrap();
    assert_eq!((end.stream, code(&end.payload)), (1, "CANCEL"));
    client.send(&ask(3, "/a"));
    assert_eq!(client.body(3).as_deref(), Ok(&b"hello"[..]));
}

#[test]
fn a_client_that_reads_nothing_is_cut_after_a_timeout() {
    let mut server = Site::new()
        .file("big", &pattern(16 * MIB, 1))
        .env("PAGECAST_STALL_TIMEOUT", "300ms")
        .env("PAGECAST_LOG", "debug")
        .serve();
    let mut client = Raw::over(server.connect_narrow(), &[(INITIAL_WINDOW_SIZE, 1 << 30)]);
    client.send(&[window_update(0, 1 << 30), ask(1, "/big")].concat());
    server.wait_for_log("the client took nothing for stall_timeout");
    let mut rest = Vec::new();
    let _ = client.stream.read_to_end(&mut rest);
    assert!(rest.len() < 16 * MIB);
}

#[test]
fn a_drain_finishes_the_download_and_sends_a_goaway() {
    let mut server = Site::with([("a", b"hello")]).file("big", &pattern(MIB, 1)).serve();
    let mut client = Raw::to(&server, &[]);
    client.send(&ask(1, "/big"));
    let mut taken = 0;
    while taken < 65_535 {
        taken += client.until(|frame| frame.kind == DATA).unwrap().payload.len();
    }
    let mut idle = Raw::to(&server, &[]);
    idle.send(&ask(1, "/a"));
    assert_eq!(idle.body(1).as_deref(), Ok(&b"hello"[..]));
    server.signal("TERM");
    let last = |frame: &Frame| u32::from_be_bytes(frame.payload[..4].try_into().unwrap());
    let goaway = idle.until(|frame| frame.kind == GOAWAY).unwrap();
    assert_eq!((last(&goaway), code(&goaway.payload[4..])), ((1 << 31) - 1, "NO_ERROR"));
    assert!(server.is_running(), "it waits for the download");
    client.send(&[window_update(0, 1 << 20), window_update(1, 1 << 20)].concat());
    let mut body = Vec::new();
    let mut goaways = Vec::new();
    while let Some(frame) = client.read() {
        match frame.kind {
            DATA => body.extend_from_slice(&frame.payload),
            GOAWAY => goaways.push(last(&frame)),
            PING => client.send(&frame_ack(&frame)),
            _ => {}
        }
    }
    assert!(body == pattern(MIB, 1)[taken..], "{}", body.len());
    assert_eq!(goaways, [(1 << 31) - 1, 1]);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

fn frame_ack(ping: &Frame) -> Vec<u8> {
    frame(PING, crate::frames::ACK, 0, &ping.payload)
}

#[test]
fn an_idle_connection_is_closed_for_a_new_one() {
    let server = Site::with([("a", b"hello")]).env("PAGECAST_MAX_CONNECTIONS", "1").serve();
    let mut client = Raw::to(&server, &[]);
    client.send(&ask(1, "/a"));
    assert_eq!(client.body(1).as_deref(), Ok(&b"hello"[..]));
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(server.get_until("/a", |reply| reply.status == 200).text(), "hello");
    let end = client.until(|frame| frame.kind == GOAWAY).unwrap();
    assert_eq!(code(&end.payload[4..]), "NO_ERROR");
}

#[test]
fn a_file_that_changes_while_it_is_sent_ends_only_its_stream() {
    let server = Site::with([("a", b"hello")]).file("big", &pattern(4 * MIB, 1)).serve();
    let mut client = Raw::to(&server, &[]);
    client.send(&ask(1, "/big"));
    let mut taken = 0;
    while taken < 65_535 {
        taken += client.until(|frame| frame.kind == DATA).unwrap().payload.len();
    }
    OpenOptions::new().write(true).open(server.root.join("big")).unwrap().set_len(100_000).unwrap();
    client.send(&[window_update(0, 1 << 24), window_update(1, 1 << 24)].concat());
    let mut body = Vec::new();
    let end = loop {
        let frame = client.read().expect("the connection goes on");
        match frame.kind {
            DATA => body.extend_from_slice(&frame.payload),
            RST_STREAM => break frame,
            _ => {}
        }
    };
    assert_eq!((end.stream, code(&end.payload)), (1, "INTERNAL_ERROR"));
    assert!(body == pattern(4 * MIB, 1)[taken..taken + body.len()], "nothing of another version");
    client.send(&ask(3, "/a"));
    assert_eq!(client.body(3).as_deref(), Ok(&b"hello"[..]));
    client.send(&ask(5, "/big"));
    assert_eq!(client.body(5).map(|body| body.len()), Ok(100_000), "the next request finds it as it is");
}

#[test]
fn read_errors_are_a_status_before_the_head_and_cut_one_stream_after_it() {
    let site =
        Site::with([("a", b"hello")]).file("big", &pattern(3 * MIB, 1)).env("PAGECAST_CACHE_BYTES", "0");
    let disk = Faulty::new();
    let server = InProcess::serve(site.env("PAGECAST_REVALIDATE_AFTER", "0"), Arc::clone(&disk) as _);
    disk.inject(When::every(Call::Pread).of("big").from(1), InjectedFault::Errno(Errno::IO));
    let mut got = ask_at(server.address, vec![get("/big", &[]), get("/a", &[])]);
    let other = got.pop().unwrap();
    assert_eq!((other.reply.status, other.cut), (200, None));
    let got = got.pop().unwrap();
    assert!(
        got.reply.status == 500 || got.cut == Some(h2::Reason::INTERNAL_ERROR),
        "{:?} {:?}",
        got.reply.status,
        got.cut
    );
}

#[test]
fn rates_hold_for_a_connection_of_many_streams() {
    for (name, count) in
        [("PAGECAST_RATE_CONNECTION", 2), ("PAGECAST_RATE_CLIENT", 2), ("PAGECAST_RATE_TOTAL", 2)]
    {
        let server = Site::new().file("x", &pattern(MIB / 2, 1)).env(name, "1MiB").serve();
        let begun = Instant::now();
        let got = ask_all(&server, (0..count).map(|_| get("/x", &[])).collect());
        let time = begun.elapsed();
        assert!(got.iter().all(|got| got.cut.is_none() && got.reply.body.len() == MIB / 2), "{name}");
        assert!(time > Duration::from_millis(600), "{name}: {time:?}");
    }
}

#[test]
fn concurrent_requests_are_counted_by_stream() {
    let server =
        Site::new().file("big", &pattern(MIB, 1)).env("PAGECAST_CLIENT_REQUESTS_AT_ONCE", "2").serve();
    let mut client = Raw::to(&server, &[(INITIAL_WINDOW_SIZE, 0)]);
    client.send(&[ask(1, "/big"), ask(3, "/big"), ask(5, "/big")].concat());
    let mut heads: Vec<_> = (0..3).map(|_| client.until(|frame| frame.kind == HEADERS).unwrap()).collect();
    heads.sort_by_key(|head| head.stream);
    // The first byte is an index of HPACK's static table.
    let are_fine: Vec<_> = heads.iter().map(|head| head.payload[0] == 0x88).collect();
    assert_eq!(are_fine, [true, true, false], "200, 200, 429");
}

#[test]
fn a_big_file_over_one_connection_needs_little_memory() {
    let server = Site::new().file("big", &pattern(16 * MIB, 1)).serve();
    ask_all(&server, vec![get("/big", &[])]);
    let before = server.resident_max();
    let mut client = Raw::to(&server, &[(INITIAL_WINDOW_SIZE, 1 << 20)]);
    client.send(&window_update(0, 1 << 30));
    for stream in 0..100 {
        client.send(&ask(2 * stream + 1, "/big"));
    }
    std::thread::sleep(Duration::from_millis(300));
    assert!(server.resident_max() < before + 24 * MIB as u64, "{} {before}", server.resident_max());
    drop(client);
    assert_eq!(server.get_with("/big", "Range: bytes=0-3\r\n").status, 206);
}

#[test]
#[ignore = "needs curl: apt-get install curl"]
fn curl_speaks_it_with_prior_knowledge() {
    let server = Site::new().file("big", &pattern(3 * MIB, 1)).serve();
    let url = format!("http://{}/big", server.address);
    let format = "%{http_version} %{http_code}";
    let arguments = ["-sS", "--http2-prior-knowledge", "-w", format, &url];
    let output = Command::new("curl").args(arguments).output().unwrap();
    assert!(output.stdout.starts_with(&pattern(3 * MIB, 1)));
    assert!(output.stdout.ends_with(b"2 200"), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "needs nghttp: apt-get install nghttp2-client"]
fn nghttp_gets_many_files_on_one_connection() {
    let server = Site::with([("a", b"hello")]).file("big", &pattern(3 * MIB, 1)).serve();
    let url = |name: &str| format!("http://{}/{name}", server.address);
    let output =
        Command::new("nghttp").args(["-ns", &url("a"), &url("big"), &url("missing")]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    assert_eq!((text.matches(" 200 ").count(), text.matches(" 404 ").count()), (2, 1), "{text}");
}

#[test]
#[ignore = "needs h2load: apt-get install nghttp2-client"]
fn h2load_finds_no_error_under_load() {
    let server = Site::with([("a", b"hello")]).file("big", &pattern(300_000, 1)).serve();
    for (name, count) in [("a", "20000"), ("big", "1000")] {
        let url = format!("http://{}/{name}", server.address);
        let output =
            Command::new("h2load").args(["-n", count, "-c", "8", "-m", "32", &url]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let all =
            format!("{count} total, {count} started, {count} done, {count} succeeded, 0 failed, 0 errored");
        assert!(text.contains(&all), "{text}");
    }
}

#[test]
fn over_tls_http2_is_chosen_by_alpn_and_serves_the_same() {
    let bytes = pattern(MIB, 1);
    let (site, _files) = secured(Site::with([("a", b"hello")]).file("big", &bytes));
    let server = site.serve();
    for version in [&TLS13, &TLS12] {
        let secured = Wants::of(&[version], &["http/1.1", "h2"]).connect(server.tls_address()).unwrap();
        assert_eq!(secured.conn.alpn_protocol(), Some(&b"h2"[..]), "the server's choice");
        let mut client = Raw::over(secured, &[]);
        client.send(&ask(1, "/a"));
        assert_eq!(client.body(1).as_deref(), Ok(&b"hello"[..]));
        client.send(&ask(3, "/big"));
        assert!(client.body(3).unwrap() == bytes);
        client.send(&[ask(5, "/big"), ask(7, "/a"), ask(9, "/missing")].concat());
        assert_eq!(client.body(5).map(|body| body.len()), Ok(MIB));
    }
}

#[test]
fn over_tls_a_slow_client_loses_no_bytes() {
    let bytes = pattern(4 * MIB, 1);
    let (site, _files) = secured(Site::new().file("big", &bytes));
    let server = site.serve();
    let socket = server.connect_narrow_to(server.tls_address());
    let secured = Wants::of(&[&TLS13], &["h2"]).over(socket).unwrap();
    let mut client = Raw::over(secured, &[(INITIAL_WINDOW_SIZE, 1 << 24)]);
    client.send(&[window_update(0, 1 << 24), ask(1, "/big")].concat());
    std::thread::sleep(Duration::from_millis(300));
    assert!(client.body(1).unwrap() == bytes);
}

#[test]
fn a_window_that_is_reduced_does_not_hold_a_connection_for_ever() {
    let server = Site::with([("a", b"hello")])
        .file("heap", &pattern(9000, 1))
        .file("big", &pattern(MIB, 1))
        .env("PAGECAST_STALL_TIMEOUT", "300ms")
        .serve();
    for target in ["/heap", "/big"] {
        let mut client = Raw::to(&server, &[(INITIAL_WINDOW_SIZE, 60_000)]);
        // In one piece: both are read before anything is sent.
        client.send(&[ask(1, target), settings(&[(INITIAL_WINDOW_SIZE, 0)])].concat());
        let begun = Instant::now();
        while let Some(frame) = client.read() {
            if frame.kind == RST_STREAM || (frame.flags & END_STREAM != 0 && frame.kind == DATA) {
                break;
            }
        }
        assert!(begun.elapsed() < PATIENCE, "{target}");
    }
}

#[test]
fn each_stream_has_an_access_log_line_with_the_id_of_its_response() {
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("access.log");
    let server = Site::with([("a.css", b"a { color: red }")])
        .file("big.bin", &pattern(300_000, 1))
        .env("PAGECAST_ACCESS_LOG", log.to_str().unwrap())
        .env("PAGECAST_HEAD_BYTES", "2KiB")
        .serve();
    let long = "x".repeat(4_000);
    let asked = [
        (get("/a.css", &[("user-agent", "tester")]), 200, 16),
        (get("/big.bin", &[("range", "bytes=10-200009")]), 206, 200_000),
        (get("/missing", &[]), 404, 0),
        (get("/a.css", &[("cookie", &long)]), 431, 0),
    ];
    let expected: Vec<(String, u16, u64)> = asked
        .into_iter()
        .map(|(request, status, bytes)| {
            let got = h2_client::ask(&server, request);
            assert_eq!(got.reply.status, status);
            (got.reply.field("x-request-id").expect("an id").to_owned(), status, bytes)
        })
        .collect();
    let deadline = Instant::now() + PATIENCE;
    let lines = loop {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        if lines.len() >= expected.len() {
            break lines;
        }
        assert!(Instant::now() < deadline, "{text}");
        std::thread::sleep(Duration::from_millis(20));
    };
    for (id, status, bytes) in expected {
        let line = lines.iter().find(|line| line["id"] == id).expect("a line of that id");
        assert_eq!(line["status"], status, "{line}");
        assert_eq!(line["outcome"], "complete", "{line}");
        if bytes > 0 {
            assert_eq!(
                (&line["protocol"], line["bytes"].as_u64()),
                (&"HTTP/2".into(), Some(bytes)),
                "{line}"
            );
        }
    }
    assert_eq!(lines[0]["user_agent"], "tester");
}

#[test]
fn a_client_that_reads_too_slowly_while_connections_are_scarce_is_cut() {
    let mut server = Site::with([("a", b"hello")])
        .file("big", &pattern(16 * MIB, 1))
        .env("PAGECAST_MAX_CONNECTIONS", "1")
        .env("PAGECAST_MIN_RATE", "1MiB")
        .env("PAGECAST_MIN_RATE_AFTER", "300ms")
        .env("PAGECAST_LOG", "debug")
        .serve();
    let mut client = Raw::to(&server, &[]);
    client.send(&ask(1, "/big"));
    let begun = Instant::now();
    let mut is_open = true;
    while is_open && begun.elapsed() < PATIENCE {
        // A little at a time, so that it never stalls.
        client.send(&[window_update(0, 1000), window_update(1, 1000)].concat());
        std::thread::sleep(Duration::from_millis(10));
        is_open = client.until(|frame| frame.kind == DATA).is_some();
    }
    assert!(!is_open);
    server.wait_for_log("the client took less than min_rate while connections ran short");
}
