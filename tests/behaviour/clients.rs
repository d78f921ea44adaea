//! Clients: how they are identified, and the limits on their requests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use crate::client::Client;
use crate::configured::{lines, only};
use crate::site::{Reply, Server, Site, pattern};

/// One request for each client, so that the status shows which client a request is counted for.
fn once() -> Site {
    Site::with([("a", b"hello")]).env("PAGECAST_CLIENT_REQUESTS", "1/h")
}

fn behind_proxies() -> Site {
    once().env("PAGECAST_TRUSTED_PROXIES", "127.0.0.1,10.0.0.0/8")
}

fn client_from(server: &Server, source: [u8; 4]) -> Client {
    Client { stream: server.connect_from(source) }
}

/// Sends a request with each of these header lines; a 200 means a client that was not seen before.
#[track_caller]
fn check(server: &Server, asked: &[(&str, u16)]) {
    for (lines, status) in asked {
        assert_eq!(server.get_with("/a", lines).status, *status, "{lines}");
    }
}

/// Everything received after `raw` until the server closes; a reset is an end as well.
fn all_of(mut stream: impl Read + Write, raw: &[u8]) -> Vec<u8> {
    let mut came = Vec::new();
    let _ = stream.write_all(raw);
    let _ = stream.read_to_end(&mut came);
    came
}

#[test]
fn an_untrusted_peer_cannot_name_another_client() {
    let server = once().serve();
    check(
        &server,
        &[
            ("X-Forwarded-For: 192.0.2.1\r\n", 200),
            ("X-Forwarded-For: 192.0.2.2\r\n", 429),
            ("Forwarded: for=192.0.2.3\r\n", 429),
        ],
    );
    let server = behind_proxies().serve();
    let mut stranger = client_from(&server, [127, 0, 0, 2]);
    assert_eq!(stranger.ask("GET", "/a", "X-Forwarded-For: 192.0.2.1\r\n").status, 200);
    assert_eq!(stranger.ask("GET", "/a", "X-Forwarded-For: 192.0.2.2\r\n").status, 429);
}

#[test]
fn different_source_addresses_are_different_clients() {
    let server = once().serve();
    for last in 1..=3 {
        let mut client = client_from(&server, [127, 0, 0, last]);
        assert_eq!(client.ask("GET", "/a", "").status, 200);
        assert_eq!(client.ask("GET", "/a", "").status, 429);
        assert_eq!(client_from(&server, [127, 0, 0, last]).ask("GET", "/a", "").status, 429);
    }
}

#[test]
fn the_rightmost_untrusted_hop_is_the_client() {
    let server = behind_proxies().serve();
    check(
        &server,
        &[
            ("X-Forwarded-For: 192.0.2.1\r\n", 200),
            ("X-Forwarded-For: 192.0.2.1, 10.0.0.2\r\n", 429),
            ("X-Forwarded-For: 203.0.113.9, 192.0.2.1\r\nX-Forwarded-For: 10.0.0.2, 10.0.0.3\r\n", 429),
            ("X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\n", 200),
            ("Forwarded: for=192.0.2.1\r\n", 429),
            ("Forwarded: for=203.0.113.9, For=\"192.0.2.3:4711\";proto=https, for=10.0.0.2\r\n", 200),
            ("X-Forwarded-For: 192.0.2.3\r\n", 429),
            // Unidentified clients are counted as the proxy.
            ("Forwarded: for=unknown\r\n", 200),
            ("", 429),
        ],
    );
}

#[test]
fn a_client_cannot_forge_the_header_that_its_proxy_does_not_write() {
    let server = behind_proxies().env("PAGECAST_UNLIMITED_CLIENTS", "127.0.0.1").serve();
    check(
        &server,
        &[
            ("X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n", 200),
            // It does not get the privileges of the proxy that it is counted as.
            ("X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.50\r\n", 200),
            ("X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.51\r\n", 429),
            ("Forwarded: for=192.0.2.50\r\n", 200),
            ("", 200),
            ("", 200),
        ],
    );
    assert!(server.log().contains("name different clients, number 1"), "{}", server.log());
    let server = behind_proxies().env("PAGECAST_CLIENT_FIELD", "x-forwarded-for").serve();
    check(
        &server,
        &[
            ("X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.50\r\n", 200),
            ("X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.51\r\n", 429),
            ("Forwarded: for=192.0.2.50\r\n", 200),
            ("Forwarded: for=192.0.2.51\r\n", 429),
        ],
    );
}

#[test]
fn clients_are_networks_of_the_configured_size() {
    let server = behind_proxies().serve();
    check(
        &server,
        &[
            ("X-Forwarded-For: 2001:db8:1:2::1\r\n", 200),
            ("X-Forwarded-For: [2001:db8:1:2:ffff::9]:443\r\n", 429),
            ("Forwarded: for=\"[2001:db8:1:2:abcd::]\"\r\n", 429),
            ("X-Forwarded-For: 2001:db8:1:3::1\r\n", 200),
            ("X-Forwarded-For: ::ffff:192.0.2.1\r\n", 200),
            ("X-Forwarded-For: 192.0.2.1\r\n", 429),
            ("X-Forwarded-For: 192.0.2.2\r\n", 200),
        ],
    );
    let server = behind_proxies()
        .env("PAGECAST_CLIENT_V6_PREFIX", "48")
        .env("PAGECAST_CLIENT_V4_PREFIX", "24")
        .serve();
    check(
        &server,
        &[
            ("X-Forwarded-For: 2001:db8:1:2::1\r\n", 200),
            ("X-Forwarded-For: 2001:db8:1:3::1\r\n", 429),
            ("X-Forwarded-For: 2001:db8:2::1\r\n", 200),
            ("X-Forwarded-For: 192.0.2.1\r\n", 200),
            ("X-Forwarded-For: 192.0.2.2\r\n", 429),
        ],
    );
}

#[test]
fn a_client_over_its_rate_gets_429() {
    let server = Site::with([("a", b"hello"), ("b", &pattern(100_000, 0))])
        .env("PAGECAST_CLIENT_REQUESTS", "100/h")
        .env("PAGECAST_CLIENT_REQUESTS_BURST", "3")
        .env("PAGECAST_CONTENT_SECURITY_POLICY", "default-src 'self'")
        .env("PAGECAST_CORS_ORIGINS", "https://a.example")
        .serve();
    let mut client = Client::of(&server);
    for (target, status, left, until) in [("/a", 200, 2, 36), ("/b", 200, 1, 72), ("/missing", 404, 0, 108)] {
        let reply = client.ask("GET", target, "");
        assert_eq!((reply.status, reply.is_complete()), (status, true));
        assert_eq!(only(&reply, "ratelimit-policy"), "\"client\";q=100;w=3600");
        assert_eq!(only(&reply, "ratelimit"), format!("\"client\";r={left};t={until}"));
        assert!(reply.field("retry-after").is_none());
    }
    for method in ["GET", "HEAD", "OPTIONS", "POST"] {
        let reply = client.ask(method, "/a", "Origin: https://a.example\r\n");
        assert_eq!(reply.status, 429, "{method}");
        let wait: u64 = only(&reply, "retry-after").parse().unwrap();
        assert!((1..=36).contains(&wait), "{wait}");
        assert_eq!(only(&reply, "ratelimit-policy"), "\"client\";q=100;w=3600");
        assert_eq!(only(&reply, "ratelimit"), format!("\"client\";r=0;t={wait}"));
        assert_eq!(only(&reply, "content-security-policy"), "default-src 'self'");
        assert_eq!(only(&reply, "access-control-allow-origin"), "https://a.example");
        assert_eq!(only(&reply, "vary"), "Origin");
        assert_eq!(reply.content_length(), Some(37));
        if method != "HEAD" {
            assert_eq!(reply.text(), "Too many requests. Please slow down.\n");
        }
    }
    assert_eq!(server.log().matches("exceeds client_requests").count(), 1);
}

#[test]
fn every_pipelined_request_counts() {
    let server = Site::with([("a", b"hello")]).env("PAGECAST_CLIENT_REQUESTS", "3/h").serve();
    let mut client = Client::of(&server);
    client.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n".repeat(5));
    let seen = [(); 5].map(|()| client.read("GET").status);
    assert_eq!(seen, [200, 200, 200, 429, 429]);
}

#[test]
fn the_allowance_of_a_client_is_refilled() {
    let server = Site::with([("a", b"hello")]).env("PAGECAST_CLIENT_REQUESTS", "2/s").serve();
    let mut client = Client::of(&server);
    let reply = loop {
        let reply = client.ask("GET", "/a", "");
        if reply.status != 200 {
            break reply;
        }
    };
    assert_eq!((reply.status, only(&reply, "retry-after")), (429, "1"));
    server.get_until("/a", |reply| reply.status == 200);
}

#[test]
fn all_clients_together_have_a_rate_and_exempt_ones_have_none() {
    let server = behind_proxies()
        .env("PAGECAST_CLIENT_REQUESTS", "off")
        .env("PAGECAST_TOTAL_REQUESTS", "60/m")
        .env("PAGECAST_TOTAL_REQUESTS_BURST", "2")
        .env("PAGECAST_UNLIMITED_CLIENTS", "192.0.2.0/24")
        .serve();
    check(&server, &[("X-Forwarded-For: 203.0.113.1\r\n", 200), ("X-Forwarded-For: 203.0.113.2\r\n", 200)]);
    // The allowance is refilled during these requests.
    let refused = (0..1000)
        .map(|last| server.get_with("/a", &format!("X-Forwarded-For: 203.0.{}.9\r\n", last % 250)))
        .find(|reply| reply.status == 429)
        .expect("a refusal");
    assert_eq!(only(&refused, "retry-after"), "1");
    assert_eq!(only(&refused, "ratelimit-policy"), "\"total\";q=60;w=60");
    assert_eq!(only(&refused, "ratelimit"), "\"total\";r=0;t=1");
    for _ in 0..5 {
        let exempt = server.get_with("/a", "X-Forwarded-For: 192.0.2.9\r\n");
        assert_eq!((exempt.status, exempt.field("ratelimit")), (200, None));
    }
    // The exemption is for the client's address, not for a name in a header.
    let mut stranger = client_from(&server, [127, 0, 0, 2]);
    let mut seen = [(); 20].map(|()| stranger.ask("GET", "/a", "X-Forwarded-For: 192.0.2.9\r\n").status);
    seen.sort_unstable();
    assert_eq!(seen[19], 429);
}

#[test]
fn health_is_never_limited_and_costs_nothing() {
    let server = once().env("PAGECAST_CLIENT_REQUESTS_AT_ONCE", "1").serve();
    for _ in 0..3 {
        for target in ["/livez", "/readyz", "/healthz"] {
            let reply = server.get(target);
            assert_eq!((reply.status, reply.field("ratelimit")), (200, None));
        }
    }
    check(&server, &[("", 200), ("", 429)]);
    assert_eq!(server.get("/readyz").status, 200);
}

#[test]
fn requests_count_until_their_response_has_been_sent() {
    let long = pattern(16 << 20, 0);
    let server =
        Site::with([("a", b"hello"), ("long", &long)]).env("PAGECAST_CLIENT_REQUESTS_AT_ONCE", "2").serve();
    let mut held: Vec<TcpStream> = (0..2)
        .map(|_| {
            let mut stream = server.connect_narrow();
            stream.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            assert_eq!(Reply::read(&mut stream, true).unwrap().status, 200);
            stream
        })
        .collect();
    let refused = server.get("/a");
    assert_eq!((refused.status, only(&refused, "retry-after")), (429, "1"));
    assert!(lines(&refused, "ratelimit").is_empty());
    assert_eq!(client_from(&server, [127, 0, 0, 2]).ask("GET", "/a", "").status, 200);
    // One disconnects in the middle.
    held.pop();
    server.get_until("/a", |reply| reply.status == 200);
    // Requests of one connection are handled one after the other, however many are sent at once.
    let mut client = Client::of(&server);
    client.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n".repeat(5));
    assert_eq!([(); 5].map(|()| client.read("GET").status), [200; 5]);
    // The other one is read to its end.
    let mut rest = Vec::new();
    (&held[0]).take(16 << 20).read_to_end(&mut rest).unwrap();
    assert!(rest == long);
    let mut third = server.connect_narrow();
    third.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(Reply::read(&mut third, true).unwrap().status, 200);
    server.get_until("/a", |reply| reply.status == 200);
}

#[test]
fn the_log_names_the_client_behind_a_proxy() {
    let mut server = Site::with([("long", &pattern(16 << 20, 0))])
        .env("PAGECAST_TRUSTED_PROXIES", "127.0.0.1")
        .env("PAGECAST_LOG", "debug")
        .serve();
    let mut stream = server.connect_narrow();
    stream.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n").unwrap();
    assert_eq!(Reply::read(&mut stream, true).unwrap().status, 200);
    drop(stream);
    server.wait_for_log(" for 192.0.2.1: the connection ended");
}

const ASKS: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

fn proxied(protocol: &str) -> Site {
    behind_proxies().env("PAGECAST_PROXY_PROTOCOL", protocol)
}

fn v1(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 10.0.0.9 4711 80\r\n").into_bytes()
}

fn v2(command: u8, client: [u8; 4]) -> Vec<u8> {
    let addresses = [&client[..], &[10, 0, 0, 9, 0x12, 0x67, 0, 80]].concat();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, 0x11, 0, 12], &addresses].concat()
}

/// Status of the response to one request after `header`; `None` if the connection is closed without one.
fn status_behind(stream: impl Read + Write, header: &[u8]) -> Option<u16> {
    let came = all_of(stream, &[header, ASKS].concat());
    Reply::read(&mut &*came, false).map(|reply| reply.status)
}

#[test]
fn a_proxy_header_names_the_client() {
    for protocol in ["on", "require"] {
        let server = proxied(protocol).serve();
        for (header, status) in [
            (v1("192.0.2.1"), 200),
            (v1("192.0.2.1"), 429),
            (v1("192.0.2.2"), 200),
            (v2(0x21, [192, 0, 2, 1]), 429),
            (v2(0x21, [192, 0, 2, 3]), 200),
            (v2(0x20, [192, 0, 2, 4]), 200), // LOCAL: the proxy itself
            (b"PROXY UNKNOWN\r\n".to_vec(), 429),
            (v1("192.0.2.4"), 200),
        ] {
            assert_eq!(status_behind(server.connect(), &header), Some(status), "{protocol} {header:?}");
        }
    }
}

#[test]
fn a_proxy_header_may_arrive_in_pieces_and_long_before_the_request() {
    let server = proxied("require").serve();
    for (header, client) in [(v1("192.0.2.1"), 1), (v2(0x21, [192, 0, 2, 2]), 2)] {
        let mut stream = server.connect();
        stream.set_nodelay(true).unwrap();
        for byte in header {
            stream.write_all(&[byte]).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let mut client_of = Client { stream };
        for status in [200, 429, 429] {
            assert_eq!(client_of.ask("GET", "/a", "").status, status, "{client}");
        }
    }
}

#[test]
fn headers_after_a_proxy_header_are_trusted_by_the_address_in_it() {
    let server = proxied("require").serve();
    let ask = |header: &[u8], field: &str| {
        let request =
            format!("GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: {field}\r\n\r\n");
        let came = all_of(server.connect(), &[header, request.as_bytes()].concat());
        Reply::read(&mut &*came, false).unwrap().status
    };
    assert_eq!(ask(&v1("203.0.113.1"), "192.0.2.1"), 200);
    assert_eq!(ask(&v1("203.0.113.1"), "192.0.2.2"), 429);
    assert_eq!(ask(&v1("10.0.0.7"), "192.0.2.2"), 200);
    assert_eq!(ask(&v1("10.0.0.8"), "192.0.2.2"), 429);
}

#[test]
fn a_malformed_proxy_header_closes_the_connection_without_a_response() {
    let bad_crc =
        [&v2(0x21, [192, 0, 2, 1])[..15], &[19], &v2(0x21, [192, 0, 2, 1])[16..], &[3, 0, 4, 1, 2, 3, 4]]
            .concat();
    for protocol in ["on", "require"] {
        let server = proxied(protocol).serve();
        for header in [
            &b"PROXY TCP4 192.0.2.1 10.0.0.9 4711\r\n"[..],
            b"PROXY TCP9 192.0.2.1 10.0.0.9 4711 80\r\n",
            &[b"PROXY ".as_slice(), &[b'x'; 200]].concat(),
            &v2(0x31, [192, 0, 2, 1]),
            &[&v2(0x21, [192, 0, 2, 1])[..14], &[0xff, 0xff]].concat(),
            &bad_crc,
        ] {
            assert_eq!(all_of(server.connect(), &[header, ASKS].concat()), b"", "{protocol} {header:?}");
        }
        assert_eq!(status_behind(server.connect(), &v1("192.0.2.1")), Some(200));
    }
}

#[test]
fn a_connection_without_a_proxy_header_is_closed_if_one_is_required() {
    let server = proxied("require").serve();
    assert_eq!(all_of(server.connect(), ASKS), b"");
    let server = proxied("on").serve();
    assert_eq!(status_behind(server.connect(), b""), Some(200));
    let server = proxied("off").serve();
    assert_eq!(status_behind(server.connect(), &v1("192.0.2.1")), Some(400));
}

#[test]
fn an_untrusted_peer_may_not_send_a_proxy_header() {
    let server = proxied("on").serve();
    for header in [v1("192.0.2.1"), v2(0x21, [192, 0, 2, 1])] {
        assert_eq!(all_of(server.connect_from([127, 0, 0, 2]), &[&header, ASKS].concat()), b"");
    }
    assert_eq!(status_behind(server.connect_from([127, 0, 0, 2]), b""), Some(200));
    let server = proxied("require").serve();
    for header in [v1("192.0.2.1"), Vec::new()] {
        assert_eq!(all_of(server.connect_from([127, 0, 0, 2]), &[&header, ASKS].concat()), b"");
    }
}

#[test]
fn the_log_says_why_a_connection_without_a_proxy_header_was_closed() {
    let mut server = proxied("require").serve();
    for _ in 0..3 {
        assert_eq!(all_of(server.connect(), ASKS), b"");
    }
    server.wait_for_log("closed, number 1: a PROXY header is required, and none was sent");
    let message = server.log();
    assert_eq!(message.matches("closed, number ").count(), 1, "the first of a thousand: {message}");
}

#[test]
fn half_a_proxy_header_is_closed_after_its_timeout_without_a_response() {
    let server = proxied("require").env("PAGECAST_HEAD_TIMEOUT", "300ms").serve();
    for half in [&b""[..], b"PROXY TCP4 192.0.2.1", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c123"] {
        assert_eq!(all_of(server.connect(), half), b"", "{half:?}");
    }
}

#[test]
fn a_trusted_proxy_on_a_unix_socket_names_its_clients() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    for (trusted, expected) in [("unix", [Some(200), Some(429), Some(200)]), ("10.0.0.1", [None; 3])] {
        let _server = once()
            .env("PAGECAST_LISTEN", &format!("unix:{}", path.display()))
            .env("PAGECAST_TRUSTED_PROXIES", trusted)
            .env("PAGECAST_PROXY_PROTOCOL", "require")
            .serve();
        let seen = ["192.0.2.1", "192.0.2.1", "192.0.2.2"]
            .map(|client| status_behind(UnixStream::connect(&path).unwrap(), &v1(client)));
        assert_eq!(seen, expected, "{trusted}");
    }
}

#[test]
fn a_proxy_protocol_without_trusted_proxies_is_refused_at_the_start() {
    let output = once().env("PAGECAST_PROXY_PROTOCOL", "on").command().output().unwrap();
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("PAGECAST_PROXY_PROTOCOL=on requires PAGECAST_TRUSTED_PROXIES"), "{message}");
}
