//! HTTP/2 conformance: what RFC 9113 requires of a server, section by section.

use crate::frames::*;
use crate::site::Site;

/// Frames sent after the preface and an empty SETTINGS, and the required reaction.
type Case = (&'static str, &'static str, Vec<u8>, &'static str);

fn check(cases: Vec<Case>) {
    let server = Site::with([("a.txt", b"hello"), ("b.txt", &[b'b'; 100_000])]).serve();
    let mut wrong = Vec::new();
    for (section, what, bytes, expected) in cases {
        let mut client = Raw::to(&server, &[]);
        client.send(&bytes);
        let seen = client.watch(expected);
        let goes_on = seen.iter().any(|word| word == "PING");
        let is_of_connection = expected.starts_with("GOAWAY");
        if !seen.iter().any(|word| word == expected) || (!is_of_connection && !goes_on) {
            wrong.push(format!("§{section} {what}: expected {expected}, saw {seen:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A request whose body is still to come.
fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &get("/a.txt"))
}

fn fields(more: &[(&str, &str)]) -> Vec<u8> {
    let usual = [(":method", "GET"), (":scheme", "http"), (":path", "/a.txt"), (":authority", "x")];
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[&usual[..], more].concat()))
}

fn pseudo(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields))
}

fn post(length: &str) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "x"),
        ("content-length", length),
    ];
    frame(HEADERS, END_HEADERS, 1, &block(&fields))
}

#[test]
fn frames_are_handled_as_sections_4_and_5_require() {
    check(vec![
        ("4.1", "a frame of an unknown type", frame(0x16, 0, 0, &[0; 8]), "PING"),
        ("4.1", "flags that nobody knows", frame(PING, 0xfe, 0, b"12345678"), "PONG"),
        ("4.1", "the reserved bit", frame(PING, 0, 1 << 31, b"12345678"), "PONG"),
        ("4.2", "DATA of 16 KiB", [open(1), frame(DATA, END_STREAM, 1, &[0; 1 << 14])].concat(), "END 1"),
        (
            "4.2",
            "DATA beyond that",
            [open(1), frame(DATA, END_STREAM, 1, &[0; (1 << 14) + 1])].concat(),
            "GOAWAY FRAME_SIZE_ERROR",
        ),
        ("4.2", "HEADERS beyond that", frame(HEADERS, 5, 1, &[0; (1 << 14) + 1]), "GOAWAY FRAME_SIZE_ERROR"),
        (
            "4.3",
            "PRIORITY in a field block",
            [frame(HEADERS, 1, 1, &get("/")), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9])].concat(),
            "GOAWAY PROTOCOL_ERROR",
        ),
        (
            "4.3",
            "HEADERS of another stream in a field block",
            [frame(HEADERS, 1, 1, &get("/")), ask(3, "/")].concat(),
            "GOAWAY PROTOCOL_ERROR",
        ),
        ("5.1", "DATA on an idle stream", frame(DATA, 1, 1, b"x"), "GOAWAY PROTOCOL_ERROR"),
        ("5.1", "RST_STREAM on an idle stream", reset(1, 8), "GOAWAY PROTOCOL_ERROR"),
        ("5.1", "WINDOW_UPDATE on an idle stream", window_update(1, 100), "GOAWAY PROTOCOL_ERROR"),
        (
            "5.1",
            "CONTINUATION on an idle stream",
            frame(CONTINUATION, 4, 1, &get("/")),
            "GOAWAY PROTOCOL_ERROR",
        ),
        (
            "5.1",
            "CONTINUATION after the end of the request",
            [ask(1, "/b.txt"), frame(CONTINUATION, 4, 1, &get("/"))].concat(),
            "GOAWAY PROTOCOL_ERROR",
        ),
        (
            "5.1",
            "CONTINUATION after a reset",
            [ask(1, "/b.txt"), reset(1, 8), frame(CONTINUATION, 4, 1, &get("/"))].concat(),
            "GOAWAY PROTOCOL_ERROR",
        ),
        (
            "5.1",
            "DATA after the end of the request",
            [ask(1, "/b.txt"), frame(DATA, 1, 1, b"x")].concat(),
            "GOAWAY STREAM_CLOSED",
        ),
        (
            "5.1",
            "HEADERS after the end of the request",
            [ask(1, "/b.txt"), ask(1, "/")].concat(),
            "GOAWAY STREAM_CLOSED",
        ),
        (
            "5.1",
            "HEADERS after a reset",
            [ask(1, "/b.txt"), reset(1, 8), ask(1, "/")].concat(),
            "GOAWAY STREAM_CLOSED",
        ),
        (
            "5.1",
            "DATA after a reset",
            [open(1), reset(1, 8), frame(DATA, 1, 1, b"x")].concat(),
            "GOAWAY STREAM_CLOSED",
        ),
        (
            "5.1",
            "DATA after the trailers",
            [open(1), frame(HEADERS, 5, 1, &block(&[("a", "b")])), frame(DATA, 1, 1, b"x")].concat(),
            "GOAWAY STREAM_CLOSED",
        ),
        (
            "5.1",
            "a window and a priority after the end of the request",
            [ask(1, "/b.txt"), window_update(1, 10), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9]), reset(1, 8)]
                .concat(),
            "PING",
        ),
        ("5.1.1", "an even stream", ask(2, "/"), "GOAWAY PROTOCOL_ERROR"),
        (
            "5.1.1",
            "a stream lower than one before",
            [ask(5, "/b.txt"), ask(3, "/")].concat(),
            "GOAWAY PROTOCOL_ERROR",
        ),
        (
            "5.3.1",
            "HEADERS that depend on themselves",
            frame(HEADERS, 5 | WITH_PRIORITY, 1, &[&[0, 0, 0, 1, 9][..], &get("/")].concat()),
            "RESET 1 PROTOCOL_ERROR",
        ),
        (
            "5.3.1",
            "PRIORITY that depends on itself",
            frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 9]),
            "RESET 1 PROTOCOL_ERROR",
        ),
        (
            "5.4.1",
            "an error of the connection ends it",
            frame(PING, 0, 1, b"12345678"),
            "GOAWAY PROTOCOL_ERROR",
        ),
        (
            "5.5",
            "an extension's frame before a request",
            [frame(0xff, 0, 0, &[1; 5]), ask(1, "/a.txt")].concat(),
            "END 1",
        ),
        (
            "5.5",
            "an extension's frame in a field block",
            [frame(HEADERS, 1, 1, &get("/")), frame(0xff, 0, 0, &[1; 5])].concat(),
            "GOAWAY PROTOCOL_ERROR",
        ),
    ]);
}

#[test]
fn each_kind_of_frame_is_handled_as_section_6_requires() {
    check(vec![
        ("6.1", "DATA on stream 0", frame(DATA, 1, 0, b"x"), "GOAWAY PROTOCOL_ERROR"),
        (
            "6.1",
            "padding longer than its frame",
            [open(1), frame(DATA, 1 | PADDED, 1, &[6, 1, 2, 3, 4, 5])].concat(),
            "GOAWAY PROTOCOL_ERROR",
        ),
        ("6.1", "padding that fits", [open(1), frame(DATA, 1 | PADDED, 1, &[2, 1, 0, 0])].concat(), "END 1"),
        ("6.2", "HEADERS on stream 0", frame(HEADERS, 5, 0, &get("/")), "GOAWAY PROTOCOL_ERROR"),
        (
            "6.2",
            "padding longer than its frame",
            frame(HEADERS, 5 | PADDED, 1, &[&[200][..], &get("/")].concat()),
            "GOAWAY PROTOCOL_ERROR",
        ),
        (
            "6.2",
            "a padded request with a priority",
            frame(
                HEADERS,
                5 | PADDED | WITH_PRIORITY,
                1,
                &[&[3, 0, 0, 0, 0, 9][..], &get("/a.txt"), &[0; 3]].concat(),
            ),
            "END 1",
        ),
        ("6.3", "PRIORITY on stream 0", frame(PRIORITY, 0, 0, &[0, 0, 0, 3, 9]), "GOAWAY PROTOCOL_ERROR"),
        ("6.4", "RST_STREAM on stream 0", reset(0, 8), "GOAWAY PROTOCOL_ERROR"),
        (
            "6.4",
            "RST_STREAM of 3 bytes",
            [ask(1, "/b.txt"), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
            "GOAWAY FRAME_SIZE_ERROR",
        ),
        (
            "6.5",
            "an acknowledgement with values",
            frame(SETTINGS, ACK, 0, &[0, 3, 0, 0, 0, 1]),
            "GOAWAY FRAME_SIZE_ERROR",
        ),
        ("6.5", "SETTINGS of a stream", frame(SETTINGS, 0, 1, &[0, 3, 0, 0, 0, 1]), "GOAWAY PROTOCOL_ERROR"),
        ("6.5", "SETTINGS of 3 bytes", frame(SETTINGS, 0, 0, &[0, 3, 0]), "GOAWAY FRAME_SIZE_ERROR"),
        ("6.5.2", "ENABLE_PUSH of 2", settings(&[(2, 2)]), "GOAWAY PROTOCOL_ERROR"),
        ("6.5.2", "INITIAL_WINDOW_SIZE of 2^31", settings(&[(4, 1 << 31)]), "GOAWAY FLOW_CONTROL_ERROR"),
        ("6.5.2", "MAX_FRAME_SIZE below 2^14", settings(&[(5, (1 << 14) - 1)]), "GOAWAY PROTOCOL_ERROR"),
        ("6.5.2", "MAX_FRAME_SIZE of 2^24", settings(&[(5, 1 << 24)]), "GOAWAY PROTOCOL_ERROR"),
        ("6.5.2", "a setting that nobody knows", settings(&[(0xff, 1)]), "PING"),
        (
            "6.6",
            "PUSH_PROMISE",
            [ask(1, "/b.txt"), frame(PUSH_PROMISE, 4, 1, &[&[0, 0, 0, 2][..], &get("/")].concat())].concat(),
            "GOAWAY PROTOCOL_ERROR",
        ),
        ("6.7", "PING", frame(PING, 0, 0, b"12345678"), "PONG"),
        ("6.7", "PING that is an acknowledgement", frame(PING, ACK, 0, b"12345678"), "PING"),
        ("6.7", "PING of a stream", frame(PING, 0, 1, b"12345678"), "GOAWAY PROTOCOL_ERROR"),
        ("6.7", "PING of 6 bytes", frame(PING, 0, 0, b"123456"), "GOAWAY FRAME_SIZE_ERROR"),
        ("6.8", "GOAWAY of a stream", frame(GOAWAY, 0, 1, &[0; 8]), "GOAWAY PROTOCOL_ERROR"),
        ("6.9", "no increment, of the connection", window_update(0, 0), "GOAWAY PROTOCOL_ERROR"),
        ("6.9", "WINDOW_UPDATE of 3 bytes", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), "GOAWAY FRAME_SIZE_ERROR"),
        (
            "6.9.1",
            "a window of the connection beyond 2^31 - 1",
            window_update(0, (1 << 31) - 1),
            "GOAWAY FLOW_CONTROL_ERROR",
        ),
        (
            "6.9.1",
            "a window of a stream beyond 2^31 - 1",
            [ask(1, "/b.txt"), window_update(1, (1 << 31) - 1)].concat(),
            "RESET 1 FLOW_CONTROL_ERROR",
        ),
        (
            "6.10",
            "a request in four frames",
            [
                frame(HEADERS, 1, 1, &get("/a.txt")[..5]),
                frame(CONTINUATION, 0, 1, &get("/a.txt")[5..9]),
                frame(CONTINUATION, 0, 1, &[]),
                frame(CONTINUATION, 4, 1, &get("/a.txt")[9..]),
            ]
            .concat(),
            "END 1",
        ),
        (
            "6.10",
            "CONTINUATION of another stream",
            [frame(HEADERS, 1, 1, &get("/")[..5]), frame(CONTINUATION, 4, 3, &get("/")[5..])].concat(),
            "GOAWAY PROTOCOL_ERROR",
        ),
        (
            "6.10",
            "CONTINUATION on stream 0",
            [frame(HEADERS, 1, 1, &get("/")[..5]), frame(CONTINUATION, 4, 0, &get("/")[5..])].concat(),
            "GOAWAY PROTOCOL_ERROR",
        ),
        (
            "6.10",
            "CONTINUATION after the end of the block",
            [ask(1, "/b.txt"), frame(CONTINUATION, 4, 1, &get("/"))].concat(),
            "GOAWAY PROTOCOL_ERROR",
        ),
        (
            "6.10",
            "DATA in a block",
            [
                frame(HEADERS, 0, 1, &get("/")[..5]),
                frame(DATA, 1, 1, b"x"),
                frame(CONTINUATION, 4, 1, &get("/")[5..]),
            ]
            .concat(),
            "GOAWAY PROTOCOL_ERROR",
        ),
        (
            "7",
            "GOAWAY with a code that nobody knows",
            frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0xff]),
            "GOAWAY NO_ERROR",
        ),
        (
            "7",
            "RST_STREAM with a code that nobody knows",
            [ask(1, "/b.txt"), reset(1, 0xff)].concat(),
            "PING",
        ),
    ]);
}

#[test]
fn malformed_requests_end_their_stream_as_section_8_requires() {
    const M: (&str, &str) = (":method", "GET");
    const S: (&str, &str) = (":scheme", "http");
    const P: (&str, &str) = (":path", "/a.txt");
    const A: (&str, &str) = (":authority", "x");
    const RESET: &str = "RESET 1 PROTOCOL_ERROR";
    check(vec![
        (
            "8.1",
            "a second HEADERS that does not end the stream",
            [open(1), frame(HEADERS, 4, 1, &block(&[("a", "b")]))].concat(),
            RESET,
        ),
        ("8.1", "trailers", [open(1), frame(HEADERS, 5, 1, &block(&[("a", "b")]))].concat(), "END 1"),
        ("8.2.2", "Connection", fields(&[("connection", "keep-alive")]), RESET),
        ("8.2.2", "Keep-Alive", fields(&[("keep-alive", "5")]), RESET),
        ("8.2.2", "Proxy-Connection", fields(&[("proxy-connection", "close")]), RESET),
        ("8.2.2", "Transfer-Encoding", fields(&[("transfer-encoding", "chunked")]), RESET),
        ("8.2.2", "Upgrade", fields(&[("upgrade", "h2c")]), RESET),
        ("8.2.2", "TE that is more than trailers", fields(&[("te", "trailers, deflate")]), RESET),
        ("8.2.2", "TE that is trailers", fields(&[("te", "trailers")]), "END 1"),
        ("8.3", "a pseudo-field of responses", pseudo(&[M, S, P, A, (":status", "200")]), RESET),
        ("8.3", "a pseudo-field behind fields", pseudo(&[M, S, ("a", "b"), P, A]), RESET),
        ("8.3.1", "no method", pseudo(&[S, P, A]), RESET),
        ("8.3.1", "no scheme", pseudo(&[M, P, A]), RESET),
        ("8.3.1", "no path", pseudo(&[M, S, A]), RESET),
        ("8.3.1", "an empty path", pseudo(&[M, S, (":path", ""), A]), RESET),
        ("8.3.1", "a path without a slash", pseudo(&[M, S, (":path", "a.txt"), A]), RESET),
        ("8.3.1", "an asterisk that no OPTIONS asks for", pseudo(&[M, S, (":path", "*"), A]), RESET),
        ("8.3.1", "an asterisk of OPTIONS", pseudo(&[(":method", "OPTIONS"), S, (":path", "*"), A]), "END 1"),
        ("8.3.1", "two methods", pseudo(&[M, M, S, P, A]), RESET),
        ("8.3.1", "two schemes", pseudo(&[M, S, S, P, A]), RESET),
        ("8.3.1", "two paths", pseudo(&[M, S, P, P, A]), RESET),
        ("8.3.1", "two authorities", pseudo(&[M, S, P, A, A]), RESET),
        ("8.3.1", "somebody's name in the authority", pseudo(&[M, S, P, (":authority", "me@x")]), RESET),
        ("8.3.1", "a Host that is another one", fields(&[("host", "y")]), RESET),
        ("8.3.1", "a Host that is the same", fields(&[("host", "x")]), "END 1"),
        ("8.1.1", "a body shorter than its length", [post("2"), frame(DATA, 1, 1, b"x")].concat(), RESET),
        ("8.1.1", "a body longer than its length", [post("1"), frame(DATA, 1, 1, b"xy")].concat(), RESET),
        (
            "8.1.1",
            "a body of its length in two frames",
            [post("2"), frame(DATA, 0, 1, b"x"), frame(DATA, 1, 1, b"y")].concat(),
            "END 1",
        ),
        ("8.1.1", "a length that is no number", post("x"), RESET),
        ("8.1.1", "no body where a length is said", fields(&[("content-length", "3")]), RESET),
        ("8.5", "CONNECT is answered", pseudo(&[(":method", "CONNECT"), (":authority", "x:80")]), "END 1"),
    ]);
}

/// A stream error may always be treated as a connection error (§5.4.2); the code for what can't be
/// decoded is chosen by `h2`. Trailers are discarded unread.
#[test]
fn deviations_from_the_rfc_end_more_than_it_requires() {
    check(vec![
        (
            "4.3",
            "a field block that can't be decoded",
            frame(HEADERS, 5, 1, &[0xff; 16]),
            "GOAWAY PROTOCOL_ERROR",
        ),
        ("6.3", "PRIORITY of 4 bytes", frame(PRIORITY, 0, 1, &[0, 0, 0, 3]), "GOAWAY FRAME_SIZE_ERROR"),
        (
            "6.9",
            "no increment, of a stream",
            [ask(1, "/b.txt"), window_update(1, 0)].concat(),
            "GOAWAY PROTOCOL_ERROR",
        ),
        ("8.2.1", "a name in upper case", fields(&[("X-Upper", "a")]), "GOAWAY PROTOCOL_ERROR"),
        ("8.2.1", "a space in a name", fields(&[("a b", "a")]), "GOAWAY PROTOCOL_ERROR"),
        ("8.2.1", "a line feed in a value", fields(&[("a", "b\nc")]), "GOAWAY PROTOCOL_ERROR"),
        ("8.3", "a pseudo-field that nobody knows", fields(&[(":test", "a")]), "GOAWAY PROTOCOL_ERROR"),
        (
            "8.3",
            "a pseudo-field in trailers",
            [open(1), frame(HEADERS, 5, 1, &block(&[(":method", "GET")]))].concat(),
            "END 1",
        ),
    ]);
}

#[test]
fn the_preface_must_be_right_and_end_in_settings() {
    let server = Site::with([("a.txt", b"hello")]).serve();
    for (bytes, expected) in [
        ([PREFACE, &ask(1, "/a.txt")].concat(), "GOAWAY PROTOCOL_ERROR"),
        ([PREFACE, &frame(SETTINGS, ACK, 0, &[])].concat(), "GOAWAY PROTOCOL_ERROR"),
        (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(), "CLOSED"),
    ] {
        let mut client = Raw::silent(server.connect());
        client.send(&bytes);
        let seen = client.watch(expected);
        assert!(seen.iter().any(|word| word == expected), "{expected}: {seen:?}");
    }
}

#[test]
fn streams_beyond_the_limit_are_refused_and_the_others_go_on() {
    let server = Site::with([("b.txt", &[b'b'; 100_000])]).env("PAGECAST_HTTP2_STREAMS", "2").serve();
    let mut client = Raw::to(&server, &[(INITIAL_WINDOW_SIZE, 0)]);
    let announced = client.until(|frame| frame.kind == SETTINGS && frame.flags == 0).unwrap();
    let value = announced.payload.chunks(6).find(|value| value[..2] == MAX_CONCURRENT_STREAMS.to_be_bytes());
    assert_eq!(value.map(|value| &value[2..]), Some(&[0, 0, 0, 2][..]));
    // A client may not know the limit yet: its requests are not held against it.
    client.send(&frame(SETTINGS, ACK, 0, &[]));
    client.send(&[ask(1, "/b.txt"), ask(3, "/b.txt"), ask(5, "/b.txt")].concat());
    let seen = client.watch("RESET 5 REFUSED_STREAM");
    assert!(
        seen.contains(&"RESET 5 REFUSED_STREAM".to_owned()) && seen.contains(&"PING".to_owned()),
        "{seen:?}"
    );
    client.send(&settings(&[(INITIAL_WINDOW_SIZE, 1 << 20)]));
    client.send(&window_update(0, 1 << 20));
    assert_eq!(client.body(1).map(|body| body.len()), Ok(100_000));
    assert_eq!(client.body(3).map(|body| body.len()), Ok(100_000));
}

#[test]
fn changed_windows_are_respected() {
    let server = Site::with([("b.txt", &[b'b'; 100])]).serve();
    // §6.9.2: a window may become negative; the server waits until it is positive.
    let mut client = Raw::to(&server, &[(INITIAL_WINDOW_SIZE, 3)]);
    client.send(&ask(1, "/b.txt"));
    let first = client.until(|frame| frame.kind == DATA).unwrap();
    assert_eq!(first.payload.len(), 3);
    client.send(&settings(&[(INITIAL_WINDOW_SIZE, 2)]));
    client.send(&window_update(1, 2));
    let next = client.until(|frame| frame.kind == DATA).unwrap();
    assert_eq!(next.payload.len(), 1, "one of the two made up for what was taken back");
    // §6.5.3: the last of several values counts.
    client.send(&settings(&[(INITIAL_WINDOW_SIZE, 1), (INITIAL_WINDOW_SIZE, 12)]));
    let next = client.until(|frame| frame.kind == DATA).unwrap();
    assert_eq!(next.payload.len(), 10);
}
