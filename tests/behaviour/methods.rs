//! Methods, versions and forms of the request target (RFC 9110 §9, RFC 9112 §3).

use crate::client::{Client, patterned};
use crate::site::{Server, Site};

fn site() -> Server {
    Site::with([
        ("a.txt", b"alpha"),
        ("empty", b""),
        ("middle.bin", &patterned(40 * 1024)),
        ("large.bin", &patterned(300_000)),
        ("index.html", b"<p>root"),
        ("d/index.html", b"<p>d"),
    ])
    .serve()
}

#[test]
fn unsupported_methods_get_405_with_allow() {
    let server = site();
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT"] {
        for target in ["/a.txt", "/none", "/d", "/"] {
            let reply = Client::of(&server).ask(method, target, "Content-Length: 0\r\n");
            assert_eq!(
                (reply.status, reply.field("allow")),
                (405, Some("GET, HEAD, OPTIONS")),
                "{method} {target}"
            );
        }
    }
    let reply = server.send("CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n");
    assert_eq!(reply.status, 405);
}

#[test]
fn unknown_methods_get_501() {
    let server = site();
    let mut client = Client::of(&server);
    for method in ["PROPFIND", "BREW", "get", "Get", "head", "GETT", "G", "M-SEARCH"] {
        let reply = client.ask(method, "/a.txt", "");
        assert_eq!((reply.status, reply.field("allow")), (501, None), "{method}");
    }
}

#[test]
fn options_returns_the_allowed_methods() {
    let server = site();
    let mut client = Client::of(&server);
    for target in ["*", "/", "/a.txt", "/none", "/d"] {
        let reply = client.ask("OPTIONS", target, "");
        assert_eq!((reply.status, reply.field("allow")), (204, Some("GET, HEAD, OPTIONS")), "{target}");
        assert_eq!(reply.field("content-length"), None, "{target}");
    }
}

#[test]
fn a_head_response_has_the_headers_of_its_get() {
    let server = site();
    let mut client = Client::of(&server);
    for (target, lines, expected) in [
        ("/a.txt", "", 200),
        ("/empty", "", 200),
        ("/middle.bin", "", 200),
        ("/large.bin", "", 200),
        ("/", "", 200),
        ("/d/", "", 200),
        ("/d", "", 301),
        ("/d?a=b", "", 301),
        ("/none", "", 404),
        ("/%2F", "", 400),
        ("/a.txt", "If-None-Match: *\r\n", 304),
        ("/a.txt", "If-Match: \"other\"\r\n", 412),
        ("/livez", "", 200),
        ("/readyz", "", 200),
        ("/healthz", "", 200),
    ] {
        let get = client.ask("GET", target, lines);
        let head = client.ask("HEAD", target, lines);
        assert_eq!((get.status, head.status), (expected, expected), "{target} {lines}");
        let without_date = |fields: &[(String, String)]| {
            fields.iter().filter(|(name, _)| name != "date").cloned().collect::<Vec<_>>()
        };
        assert_eq!(without_date(&head.fields), without_date(&get.fields), "{target} {lines}");
        if expected != 304 {
            assert_eq!(head.content_length(), Some(get.body.len() as u64), "{target} {lines}");
        }
    }
}

#[test]
fn http_10_needs_no_host_and_ends_with_its_response() {
    let server = site();
    for (raw, expected) in [
        ("GET /a.txt HTTP/1.0\r\n\r\n", 200),
        ("GET /a.txt HTTP/1.0\r\nHost: x\r\n\r\n", 200),
        ("GET /large.bin HTTP/1.0\r\n\r\n", 200),
        ("GET /none HTTP/1.0\r\n\r\n", 404),
        ("GET /a.txt HTTP/1.0\r\nConnection: close\r\n\r\n", 200),
        ("GET /livez HTTP/1.0\r\n\r\n", 200),
        ("GET /a.txt HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n", 400),
    ] {
        let mut client = Client::of(&server);
        client.send(raw);
        let reply = client.read("GET");
        assert_eq!((reply.status, reply.field("connection")), (expected, Some("close")), "{raw:?}");
        assert_eq!(reply.content_length(), Some(reply.body.len() as u64), "{raw:?}");
        assert!(client.is_at_end(), "{raw:?}");
    }
}

#[test]
fn http_10_keeps_the_connection_on_request() {
    let server = site();
    let mut client = Client::of(&server);
    for target in ["/a.txt", "/large.bin", "/none", "/a.txt"] {
        client.send(format!("GET {target} HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
        let reply = client.read("GET");
        assert_eq!(reply.field("connection"), Some("keep-alive"), "{target}");
        assert_eq!(reply.content_length(), Some(reply.body.len() as u64), "{target}");
    }
    client.send("GET /a.txt HTTP/1.0\r\n\r\n");
    assert_eq!(client.read("GET").text(), "alpha");
    assert!(client.is_at_end());
}

#[test]
fn http_1_versions_are_served_and_others_refused() {
    let server = site();
    for (version, expected) in [
        ("HTTP/1.1", 200),
        ("HTTP/1.2", 200),
        ("HTTP/1.9", 200),
        ("HTTP/2.0", 505),
        ("HTTP/0.9", 505),
        ("HTTP/3.0", 505),
        ("http/1.1", 400),
        ("HTTP/1", 400),
        ("HTTP/1.10", 400),
        ("HTTP/11", 400),
        ("HTTP/1.1 ", 400),
        ("HTTP 1.1", 400),
        ("", 400),
    ] {
        let reply = server.send(format!("GET /a.txt {version}\r\nHost: x\r\n\r\n"));
        assert_eq!(reply.status, expected, "{version:?}");
    }
    let reply = server.send("PRI * HTTP/2.0\r\nHost: x\r\n\r\nSM\r\n\r\n");
    assert_eq!(reply.status, 505, "no preface of HTTP/2");
}

#[test]
fn targets_in_absolute_form_name_the_same_files() {
    let server = site();
    let mut client = Client::of(&server);
    for (target, expected) in [
        ("http://x/a.txt", "alpha"),
        ("http://other.example:8080/a.txt?query", "alpha"),
        ("HTTP://x/a.txt", "alpha"),
        ("https://x/a.txt", "alpha"),
        ("http://[::1]/a.txt", "alpha"),
        ("http://x/d/../a.txt", "alpha"),
        ("http://x", "<p>root"),
        ("http://x/", "<p>root"),
        ("http://x?query", "<p>root"),
    ] {
        let reply = client.ask("GET", target, "");
        assert_eq!((reply.status, reply.text().as_str()), (200, expected), "{target}");
    }
    let reply = server.send("GET http://x/a.txt HTTP/1.1\r\n\r\n");
    assert_eq!(reply.status, 400, "Host is wanted in absolute form, too");
}

#[test]
fn targets_in_other_forms_are_refused_whatever_their_path() {
    let server = site();
    for target in [
        "a.txt",
        "*",
        "x:80",
        "ftp://x/a.txt",
        "file:///a.txt",
        "http:///a.txt",
        "http://user@x/a.txt",
        "http://user:password@x/a.txt",
        "http://x:port/a.txt",
        "http://x:99999/a.txt",
        "http://x,y/a.txt",
        "?/a.txt",
    ] {
        let mut client = Client::of(&server);
        assert_eq!(client.ask("GET", "/a.txt", "").status, 200);
        assert_eq!(client.ask("GET", target, "").status, 400, "{target}");
    }
}

#[test]
fn health_is_tiny_and_never_cached() {
    let server = site();
    let mut client = Client::of(&server);
    for target in ["/livez", "/readyz", "/healthz", "/readyz?verbose"] {
        let reply = client.ask("GET", target, "");
        assert_eq!((reply.status, reply.text().as_str()), (200, "ok\n"), "{target}");
        assert_eq!(reply.field("cache-control"), Some("no-store"), "{target}");
        let reply = client.ask("POST", target, "Content-Length: 0\r\n");
        assert_eq!(reply.status, 405, "{target}");
        assert!(reply.field("allow").unwrap().contains("GET"), "{target}");
    }
    for target in ["/livez/", "/livezz", "/readyz/x", "/d/livez"] {
        assert_eq!(client.ask("GET", target, "").status, 404, "{target}");
    }
}

#[test]
fn health_routes_take_precedence_over_files() {
    let server = Site::with([("livez", b"file"), ("readyz", b"file"), ("healthz", b"file")]).serve();
    for target in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(server.get(target).text(), "ok\n", "{target}");
    }
}
