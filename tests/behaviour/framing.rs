//! Where requests and responses begin and end (RFC 9112).

use std::io::{Read, Write};
use std::net::Shutdown;

use crate::client::{Client, patterned, receive_all, replies_in};
use crate::site::{Server, Site};

const LARGE: usize = 3 * 1024 * 1024;
const MIDDLE: usize = 40 * 1024;
/// Most bytes of a request body that are discarded.
const BODY_MAX: usize = 64 * 1024;
/// The largest head.
const HEAD_MAX: usize = 16 * 1024;

fn site() -> Server {
    Site::with([
        ("a.txt", b"alpha"),
        ("d/index.html", b"<p>d"),
        ("middle.bin", &patterned(MIDDLE)),
        ("large.bin", &patterned(LARGE)),
        ("smuggled.txt", SMUGGLED.as_bytes()),
    ])
    .serve()
}

const SMUGGLED: &str = "this answers a smuggled request";

/// A request that must not be treated as one.
const HIDDEN: &str = "GET /smuggled.txt HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn ten_pipelined_requests_are_answered_in_order_however_they_are_split() {
    let server = site();
    let etag = server.get("/a.txt").field("etag").unwrap().to_owned();
    let (middle, large) = (patterned(MIDDLE), patterned(LARGE));
    let requests: [(&str, &str, String, u16, &[u8]); 10] = [
        ("GET", "/a.txt", String::new(), 200, b"alpha"),
        ("HEAD", "/large.bin", String::new(), 200, b""),
        ("GET", "/middle.bin", String::new(), 200, &middle),
        ("GET", "/none", String::new(), 404, b"Not found.\n"),
        ("GET", "/a.txt", format!("If-None-Match: {etag}\r\n"), 304, b""),
        ("GET", "/large.bin", String::new(), 200, &large),
        ("GET", "/large.bin", "Range: bytes=100000-2000000\r\n".into(), 206, &large[100_000..=2_000_000]),
        ("GET", "/d", String::new(), 301, b""),
        ("OPTIONS", "*", String::new(), 204, b""),
        ("GET", "/middle.bin", "Connection: close\r\nContent-Length: 0\r\n".into(), 200, &middle),
    ];
    let raw: String = requests
        .iter()
        .map(|(method, target, lines, ..)| format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{lines}\r\n"))
        .collect();
    for cut in [raw.len(), 7, 100, 33] {
        let mut client = Client::of(&server);
        for piece in raw.as_bytes().chunks(cut) {
            client.send(piece);
        }
        for (method, target, lines, status, body) in &requests {
            let reply = client.read(method);
            assert_eq!(reply.status, *status, "{method} {target} {lines}");
            assert!(reply.body == *body, "{method} {target} {lines}: {} bytes", reply.body.len());
        }
        assert!(client.is_at_end(), "pieces of {cut}");
    }
}

#[test]
fn a_refused_head_request_has_no_content_either() {
    let server = site();
    for (raw, status) in [
        ("HEAD /a.txt?<b> HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("HEAD /a.txt HTTP/1.1\r\n\r\n", 400),
        ("\r\nHEAD /a.txt HTTP/1.1\r\nHost: x\r\nbad line\r\n\r\n", 400),
        ("HEAD /a.txt HTTP/3.0\r\nHost: x\r\n\r\n", 505),
    ] {
        let mut client = Client::of(&server);
        client.send(raw);
        assert_eq!(client.read("HEAD").status, status, "{raw}");
        assert!(client.is_at_end(), "{raw}");
    }
}

#[test]
fn a_hundred_pipelined_requests_are_answered() {
    let server = site();
    let mut client = Client::of(&server);
    client.send("GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100));
    for index in 0..100 {
        assert_eq!(client.read("GET").text(), "alpha", "{index}");
    }
}

#[test]
fn an_ambiguous_head_is_refused_and_nothing_after_it_is_answered() {
    let server = site();
    for (lines, expected) in [
        // Two lengths.
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", 400),
        ("Transfer-Encoding: chunked, chunked\r\n", 400),
        ("Transfer-Encoding: chunked, identity\r\n", 400),
        ("Transfer-Encoding: identity\r\n", 400),
        ("Transfer-Encoding:\r\n", 400),
        ("Transfer-Encoding: ,\r\n", 400),
        ("Transfer-Encoding:\r\nContent-Length: 5\r\n", 400),
        ("Content-Length: 5\r\nTransfer-Encoding: \r\n", 400),
        ("Transfer-Encoding: gzip\r\n", 400),
        ("Transfer-Encoding: xchunked\r\n", 400),
        ("Transfer-Encoding: \"chunked\"\r\n", 400),
        ("Transfer-Encoding: chunked;q=1\r\n", 400),
        ("Transfer-Encoding: gzip, chunked\r\n", 501),
        ("Transfer-Encoding: \x0Bchunked\r\n", 400),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", 400),
        ("Content-Length: 5\r\nContent-Length: 0\r\n", 400),
        ("Content-Length: 0\r\nContent-Length: 5\r\n", 400),
        ("Content-Length: 5, 5\r\n", 400),
        ("Content-Length: 5,6\r\n", 400),
        ("Content-Length: +5\r\n", 400),
        ("Content-Length: -5\r\n", 400),
        ("Content-Length: 0x5\r\n", 400),
        ("Content-Length: 5 5\r\n", 400),
        ("Content-Length: 5.0\r\n", 400),
        ("Content-Length: five\r\n", 400),
        ("Content-Length:\r\n", 400),
        ("Content-Length: 18446744073709551616\r\n", 400),
        ("Content-Length: 99999999999999999999999999\r\n", 400),
        // Lines that only some parsers see.
        ("A: b\n", 400),
        ("A: b\nContent-Length: 5\r\n", 400),
        ("\nContent-Length: 5\r\n", 400),
        ("A: b\rContent-Length: 5\r\n", 400),
        ("A: b\r\n Content-Length: 5\r\n", 400),
        ("A: b\r\n\tfolded\r\n", 400),
        (" A: b\r\n", 400),
        ("Content-Length : 5\r\n", 400),
        ("Content-Length\t: 5\r\n", 400),
        ("Transfer-Encoding : chunked\r\n", 400),
        (" Content-Length: 5\r\n", 400),
        ("Content-Length\r\n", 400),
        (": 5\r\n", 400),
        ("A\x00: b\r\n", 400),
        ("A: b\x00\r\n", 400),
        ("A(b): c\r\n", 400),
        ("Transfer-Encoding\x0B: chunked\r\n", 400),
    ] {
        let head = format!("GET /a.txt HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
        refuses(&server, &head, expected);
    }
}

#[test]
fn a_malformed_request_line_is_refused_and_nothing_after_it_is_answered() {
    let server = site();
    for line in [
        "GET /a.txt HTTP/1.1\n",
        "GET  /a.txt HTTP/1.1\r\n",
        "GET /a.txt  HTTP/1.1\r\n",
        "GET\t/a.txt HTTP/1.1\r\n",
        " GET /a.txt HTTP/1.1\r\n",
        "GET /a.txt\r\n",
        "GET /a.txt HTTP/1.1 \r\n",
        "GET /a.txt HTTP/1.1\r\r\n",
        "GET /a.txt\rHTTP/1.1\r\n",
        "G@T /a.txt HTTP/1.1\r\n",
        " /a.txt HTTP/1.1\r\n",
        "/a.txt HTTP/1.1\r\n",
        "GET\r\n",
        "\nGET /a.txt HTTP/1.1\r\n",
        "\rGET /a.txt HTTP/1.1\r\n",
    ] {
        refuses(&server, &format!("{line}Host: x\r\n\r\n"), 400);
    }
    refuses(&server, "GET /a.txt HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
}

#[test]
fn a_malformed_chunked_body_ends_the_connection_and_nothing_after_it_is_answered() {
    let server = site();
    for body in [
        "\r\n0\r\n\r\n",
        "x\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "5 x\r\nhello\r\n0\r\n\r\n",
        "5;a=\nb\r\nhello\r\n0\r\n\r\n",
        "5;a=\x00\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhell\r\n0\r\n\r\n",
        "0\n\r\n",
        "0\r\n\n",
        "0\r\nTrailer: x\n\r\n",
        "0\r\nTrailer: \x00\r\n\r\n",
        "fffffffffffffffff\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffff\r\n",
        ";\r\n\r\n",
    ] {
        let raw =
            format!("GET /a.txt HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{body}{HIDDEN}");
        let came = receive_all(&server, &raw);
        let replies = replies_in(&came);
        assert_eq!(replies.len(), 1, "{body:?}: {}", came.escape_ascii());
        assert!(!came.windows(SMUGGLED.len()).any(|window| window == SMUGGLED.as_bytes()), "{body:?}");
    }
}

#[test]
fn a_request_inside_a_body_is_not_answered() {
    let server = site();
    let length = HIDDEN.len();
    let chunked = format!("{length:x}\r\n{HIDDEN}\r\n0\r\n\r\n");
    let trailer = format!("0\r\nTrailer: {}\r\n\r\n", HIDDEN.replace("\r\n", " "));
    let extension = format!("1;{}\r\nx\r\n0\r\n\r\n", HIDDEN.replace("\r\n", " "));
    for (method, status) in
        [("GET", 200), ("HEAD", 200), ("OPTIONS", 204), ("POST", 405), ("PUT", 405), ("BREW", 501)]
    {
        for (lines, body) in [
            (format!("Content-Length: {length}\r\n"), HIDDEN),
            ("Transfer-Encoding: chunked\r\n".to_owned(), &*chunked),
            ("Transfer-Encoding: Chunked\r\n".to_owned(), &*trailer),
            ("Transfer-Encoding: chunked\r\n".to_owned(), &*extension),
        ] {
            let mut client = Client::of(&server);
            client.send(format!("{method} /a.txt HTTP/1.1\r\nHost: x\r\n{lines}\r\n{body}"));
            assert_eq!(client.read(method).status, status, "{method} {lines}");
            assert_eq!(client.ask("GET", "/middle.bin", "").body, patterned(MIDDLE), "{method} {lines}");
        }
    }
}

#[test]
fn a_body_up_to_64_kib_is_discarded_and_the_connection_goes_on() {
    let server = site();
    let chunks = |length: usize, size: usize| -> Vec<u8> {
        let body = patterned(length);
        let mut framed = Vec::new();
        for chunk in body.chunks(size) {
            framed.extend(format!("{:X};ext=\"quoted\"\r\n", chunk.len()).bytes());
            framed.extend(chunk);
            framed.extend(b"\r\n");
        }
        framed.extend(b"0\r\nTrailer: value\r\n\r\n");
        framed
    };
    for (lines, body) in [
        ("Content-Length: 1".to_owned(), b"x".to_vec()),
        (format!("Content-Length: {BODY_MAX}"), patterned(BODY_MAX)),
        (format!("Content-Length: 000{}", BODY_MAX - 1), patterned(BODY_MAX - 1)),
        ("Transfer-Encoding: chunked".to_owned(), b"0\r\n\r\n".to_vec()),
        ("Transfer-Encoding: chunked".to_owned(), chunks(BODY_MAX, 4096)),
        ("Transfer-Encoding: chunked".to_owned(), chunks(BODY_MAX, BODY_MAX)),
        ("Transfer-Encoding: chunked".to_owned(), chunks(100, 1)),
        ("Transfer-Encoding: chunked".to_owned(), b"5  \r\nhello\r\n0 ;a\r\n\r\n".to_vec()),
        ("Transfer-Encoding: , chunked ,".to_owned(), b"05\r\nhello\r\n000\r\n\r\n".to_vec()),
    ] {
        let mut client = Client::of(&server);
        for target in ["/a.txt", "/middle.bin", "/a.txt"] {
            client.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n"));
            client.send(&body);
            let reply = client.read("GET");
            assert_eq!((reply.status, reply.field("connection")), (200, None), "{lines}");
        }
        assert_eq!(client.ask("GET", "/a.txt", "").text(), "alpha", "{lines}");
    }
}

#[test]
fn a_longer_body_ends_the_connection_and_leaves_the_response_whole() {
    let server = site();
    let large = patterned(LARGE);
    for length in [BODY_MAX + 1, 128 * 1024, 1024 * 1024] {
        let body = patterned(length);
        let mut chunked = format!("{length:x}\r\n").into_bytes();
        chunked.extend(&body);
        chunked.extend(b"\r\n0\r\n\r\n");
        for (lines, body) in [
            (format!("Content-Length: {length}"), &body),
            ("Transfer-Encoding: chunked".to_owned(), &chunked),
        ] {
            if lines.starts_with("Transfer") && length == BODY_MAX + 1 {
                continue; // The chunk framing has a margin of its own.
            }
            let head = format!("GET /large.bin HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n");
            let raw = [head.as_bytes(), body, HIDDEN.as_bytes()].concat();
            let replies = replies_in(&receive_all(&server, raw));
            assert_eq!(replies.len(), 1, "{lines} {length}");
            assert_eq!(replies[0].status, 200, "{lines} {length}");
            assert!(replies[0].body == large, "{lines} {length}");
            if lines.starts_with("Content-Length") {
                assert_eq!(replies[0].field("connection"), Some("close"), "{lines}");
            }
        }
    }
}

#[test]
fn a_client_that_expects_100_continue_gets_it() {
    let server = site();
    for (lines, body) in
        [("Content-Length: 5\r\n", "hello"), ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n")]
    {
        let mut client = Client::of(&server);
        for expectation in ["100-continue", "100-Continue"] {
            client.send(format!("GET /a.txt HTTP/1.1\r\nHost: x\r\nExpect: {expectation}\r\n{lines}\r\n"));
            let interim = client.read("GET");
            assert_eq!((interim.status, interim.fields.len()), (100, 0), "{lines}");
            client.send(body);
            assert_eq!(client.read("GET").text(), "alpha", "{lines}");
        }
        assert_eq!(client.ask("GET", "/a.txt", "").text(), "alpha", "{lines}");
    }
}

#[test]
fn an_expectation_that_is_not_met_gets_the_final_response_at_once() {
    let server = site();
    for (raw, status) in [
        ("POST /a.txt HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", 405),
        ("PUT /a.txt HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n", 405),
        ("GET /a.txt HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 65537\r\n\r\n", 200),
        ("GET /a.txt HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\n\r\n", 417),
        (
            "GET /a.txt HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nExpect: other\r\nContent-Length: 5\r\n\r\n",
            417,
        ),
    ] {
        let mut client = Client::of(&server);
        client.send(raw);
        let reply = client.read("GET");
        assert_eq!((reply.status, reply.field("connection")), (status, Some("close")), "{raw:?}");
        assert!(client.is_at_end(), "{raw:?}");
    }
}

#[test]
fn an_expectation_without_a_body_or_in_http_10_is_ignored() {
    let server = site();
    let mut client = Client::of(&server);
    assert_eq!(client.ask("GET", "/a.txt", "Expect: 100-continue\r\n").status, 200);
    assert_eq!(client.ask("GET", "/a.txt", "Expect: 100-continue\r\nContent-Length: 0\r\n").status, 200);
    client.send("GET /a.txt HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.read("GET").text(), "alpha");
}

#[test]
fn a_request_needs_exactly_one_valid_host() {
    let server = site();
    for (lines, expected) in [
        ("Host: x\r\n", 200),
        ("Host: example.org:8080\r\n", 200),
        ("hOsT: [::1]:80\r\n", 200),
        ("Host:\r\n", 200),
        ("", 400),
        ("Host: x\r\nHost: x\r\n", 400),
        ("Host: x\r\nA: b\r\nHost: y\r\n", 400),
        ("Host: x, y\r\n", 400),
        ("Host: x y\r\n", 400),
        ("Host: x/y\r\n", 400),
        ("Host: user@x\r\n", 400),
        ("Host: x:port\r\n", 400),
        ("Host: http://x\r\n", 400),
        ("X-Host: x\r\n", 400),
    ] {
        let head = format!("GET /a.txt HTTP/1.1\r\n{lines}\r\n");
        match expected {
            200 => assert_eq!(server.send(&head).status, 200, "{lines:?}"),
            _ => refuses(&server, &head, expected),
        }
    }
}

#[test]
fn heads_over_a_limit_are_refused_with_the_status_of_that_limit() {
    let server = site();
    let long = |length: usize| "a".repeat(length);
    for (head, expected) in [
        (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", long(HEAD_MAX)), 414),
        (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", long(200_000)), 414),
        (format!("GET /a.txt?{} HTTP/1.1\r\nHost: x\r\n\r\n", long(HEAD_MAX)), 414),
        (format!("GET /a.txt HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", long(HEAD_MAX)), 431),
        (format!("GET /a.txt HTTP/1.1\r\nHost: x\r\n{}: b\r\n\r\n", long(HEAD_MAX)), 431),
        (format!("GET /a.txt HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", long(200_000)), 431),
        (format!("GET /a.txt HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(100)), 431),
        (format!("GET /a.txt HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(50_000)), 431),
    ] {
        refuses(&server, &head, expected);
    }
}

#[test]
fn heads_at_their_limits_are_served() {
    let server = site();
    let mut client = Client::of(&server);
    let padded = |length: usize| {
        let start = "GET /a.txt HTTP/1.1\r\nHost: x\r\nA: ";
        format!("{start}{}\r\n\r\n", "a".repeat(length - start.len() - 4))
    };
    for length in [HEAD_MAX, HEAD_MAX - 1] {
        client.send(padded(length));
        assert_eq!(client.read("GET").text(), "alpha", "{length}");
    }
    assert_eq!(client.ask("GET", "/a.txt", &"A: b\r\n".repeat(99)).text(), "alpha");
    client.send(padded(HEAD_MAX + 1));
    assert_eq!(client.read("GET").status, 431);
}

#[test]
fn empty_lines_before_a_request_are_ignored() {
    let server = site();
    let mut client = Client::of(&server);
    for blank in ["\r\n", "\r\n\r\n", "\r\n\r\n\r\n\r\n\r\n", ""] {
        client.send(format!("{blank}GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(client.read("GET").text(), "alpha", "{blank:?}");
    }
    let request = "\r\nGET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n";
    client.send(request.repeat(3));
    for _ in 0..3 {
        assert_eq!(client.read("GET").text(), "alpha");
    }
    for byte in request.bytes() {
        client.send([byte]);
    }
    assert_eq!(client.read("GET").text(), "alpha");
}

#[test]
fn empty_lines_after_a_request_are_no_request() {
    let server = Site::with([("a.txt", b"alpha")])
        .env("PAGECAST_HEAD_TIMEOUT", "200ms")
        .env("PAGECAST_IDLE_TIMEOUT", "200ms")
        .serve();
    for blank in ["\r\n", "\r\n\r\n", "\r"] {
        let mut client = Client::of(&server);
        client.send(format!("GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n{blank}"));
        assert_eq!(client.read("GET").text(), "alpha", "{blank:?}");
        assert!(client.is_at_end(), "{blank:?}");
    }
}

#[test]
fn a_client_that_has_shut_down_its_writing_side_gets_the_responses() {
    let server = site();
    for target in ["/a.txt", "/middle.bin", "/large.bin", "/none"] {
        let mut stream = server.connect();
        let one = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(one.repeat(3).as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut came = Vec::new();
        stream.read_to_end(&mut came).unwrap();
        let replies = replies_in(&came);
        assert_eq!(replies.len(), 3, "{target}");
        for reply in replies {
            assert_eq!(reply.content_length(), Some(reply.body.len() as u64), "{target}");
        }
    }
}

#[test]
fn a_request_may_arrive_byte_by_byte() {
    let server = site();
    let mut client = Client::of(&server);
    let raw =
        "GET /middle.bin HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for _ in 0..2 {
        for byte in raw.bytes() {
            client.send([byte]);
        }
        assert!(client.read("GET").body == patterned(MIDDLE));
    }
}

#[test]
fn connection_close_is_honoured_and_nothing_after_it_is_answered() {
    let server = site();
    for lines in [
        "Connection: close\r\n",
        "Connection: Close\r\n",
        "Connection: x, close\r\n",
        "Connection: keep-alive\r\nConnection: close\r\n",
    ] {
        for target in ["/a.txt", "/middle.bin", "/large.bin", "/none", "/d"] {
            let raw = format!("GET {target} HTTP/1.1\r\nHost: x\r\n{lines}\r\n{HIDDEN}{HIDDEN}");
            let replies = replies_in(&receive_all(&server, raw));
            assert_eq!(replies.len(), 1, "{target} {lines}");
            assert_eq!(replies[0].field("connection"), Some("close"), "{target} {lines}");
            assert_eq!(replies[0].content_length(), Some(replies[0].body.len() as u64), "{target} {lines}");
        }
    }
}

#[test]
fn input_after_the_last_request_does_not_destroy_a_long_response() {
    let server = site();
    let large = patterned(LARGE);
    for request in
        ["GET /large.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "GET /large.bin HTTP/1.0\r\n\r\n"]
    {
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut begin = [0];
        stream.read_exact(&mut begin).unwrap();
        stream.write_all(HIDDEN.as_bytes()).unwrap();
        let mut came = begin.to_vec();
        stream.read_to_end(&mut came).unwrap();
        let replies = replies_in(&came);
        assert_eq!(replies.len(), 1, "{request:?}");
        assert!(replies[0].body == large, "{request:?}: {} bytes", replies[0].body.len());
    }
}

#[test]
fn garbage_gets_a_response_in_spite_of_unread_input() {
    let server = site();
    let with_breaks = patterned(1024 * 1024);
    let zeroes = vec![0; 1024 * 1024];
    let letters = vec![b'A'; 1024 * 1024];
    for (garbage, expected) in [(&with_breaks, 400), (&zeroes, 400), (&letters, 414)] {
        let replies = replies_in(&receive_all(&server, garbage));
        assert_eq!(replies.iter().map(|reply| reply.status).collect::<Vec<_>>(), [expected]);
        assert_eq!(replies[0].field("connection"), Some("close"));
    }
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"; // Without a line break it is refused at once.
    assert_eq!(server.send(hello).status, 400, "a TLS greeting");
    assert_eq!(server.get("/a.txt").text(), "alpha");
}

/// The head gets this status, the connection ends, and the request after it is not treated as one.
fn refuses(server: &Server, head: &str, expected: u16) {
    let came = receive_all(server, format!("{head}{HIDDEN}"));
    let case = head.get(..200).unwrap_or(head);
    let replies = replies_in(&came);
    assert_eq!(replies.iter().map(|reply| reply.status).collect::<Vec<_>>(), [expected], "{case:?}");
    assert_eq!(replies[0].field("connection"), Some("close"), "{case:?}");
    assert_eq!(replies[0].content_length(), Some(replies[0].body.len() as u64), "{case:?}");
    assert!(!replies[0].text().contains(SMUGGLED), "{case:?}");
}
