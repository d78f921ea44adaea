//! The single-page fallback.

use crate::client::Client;
use crate::configured::{NAVIGATES, only, ruled};
use crate::site::{Server, Site};

const PAGE: &[u8] = b"<!doctype html><title>app</title>";

fn application() -> Server {
    let site = Site::with([
        ("app/index.html", PAGE),
        ("app/main.js", b"main()"),
        ("app/empty/x.txt", b"x"),
        ("app/full/index.html", b"full"),
        ("other.txt", b"other"),
    ]);
    ruled(site, "[[rule]]\npath = '/app/**'\nspa = '/app/index.html'").serve()
}

#[test]
fn routes_get_the_page_and_files_themselves() {
    let server = application();
    let mut client = Client::of(&server);
    for (target, accept, status, body) in [
        ("/app/", "", 200, PAGE),
        ("/app/users/7", "", 200, PAGE),
        ("/app/users/7", "Accept: */*\r\n", 200, PAGE),
        ("/app/users/7", NAVIGATES, 200, PAGE),
        ("/app/users/7/", "", 200, PAGE),
        ("/app/users/7?tab=a.b", "", 200, PAGE),
        ("/app/users/7", "Accept: application/json\r\n", 404, b"Not found.\n"),
        ("/app/users/7", "Accept: image/png\r\n", 404, b"Not found.\n"),
        ("/app/john.doe", NAVIGATES, 200, PAGE),
        ("/app/john.doe", "", 404, b"Not found.\n"),
        ("/app/old.3f9a1c0b.js", "", 404, b"Not found.\n"),
        ("/app/old.3f9a1c0b.js", "Accept: */*\r\n", 404, b"Not found.\n"),
        ("/app/main.js", NAVIGATES, 200, b"main()"),
        ("/app/main.js/deep", "", 200, PAGE),
        ("/app/empty/", "", 200, PAGE),
        ("/app/full/", "", 200, b"full"),
        ("/app/.hidden", NAVIGATES, 404, b"Not found.\n"),
        ("/app/../nowhere", NAVIGATES, 404, b"Not found.\n"),
        ("/nowhere", NAVIGATES, 404, b"Not found.\n"),
        ("/other.txt", "", 200, b"other"),
        ("/application", NAVIGATES, 404, b"Not found.\n"),
    ] {
        for _ in 0..2 {
            let reply = client.ask("GET", target, accept);
            let found = (reply.status, reply.body.escape_ascii().to_string());
            assert_eq!(found, (status, body.escape_ascii().to_string()), "{target} {accept}");
        }
    }
}

#[test]
fn the_page_keeps_its_validators_and_its_cache_control_under_every_name() {
    let server = application();
    let mut client = Client::of(&server);
    let page = client.ask("GET", "/app/index.html", "");
    let etag = only(&page, "etag").to_owned();
    for target in ["/app/a", "/app/b/c", "/app/chunk.3f9a1c0b.js"] {
        let reply = client.ask("GET", target, NAVIGATES);
        assert_eq!((reply.status, only(&reply, "etag")), (200, etag.as_str()), "{target}");
        assert_eq!(only(&reply, "cache-control"), "no-cache", "{target}");
        assert_eq!(only(&reply, "content-type"), "text/html; charset=utf-8", "{target}");
        let head = client.ask("HEAD", target, NAVIGATES);
        assert_eq!((head.status, head.content_length()), (200, Some(PAGE.len() as u64)), "{target}");
        let known = format!("{NAVIGATES}If-None-Match: {etag}\r\n");
        let reply = client.ask("GET", target, &known);
        assert_eq!((reply.status, only(&reply, "vary")), (304, "Accept"), "{target}");
        let reply = client.ask("GET", target, &format!("{NAVIGATES}Range: bytes=0-8\r\n"));
        assert_eq!((reply.status, reply.text().as_str()), (206, "<!doctype"), "{target}");
    }
}

#[test]
fn the_page_has_vary_accept() {
    let site = Site::with([("index.html", PAGE), ("index.html.gz", b"\x1f\x8b: not read"), ("x.txt", b"x")]);
    let rules = "[[rule]]\npath = '**'\nspa = true\ncors = ['https://a.example']";
    let server = ruled(site, rules).serve();
    for (target, more, status, vary) in [
        ("/deep", "", 200, "Accept, Accept-Encoding, Origin"),
        ("/deep", "Accept-Encoding: gzip\r\n", 200, "Accept, Accept-Encoding, Origin"),
        ("/deep", "Accept: image/png\r\n", 404, "Accept, Origin"),
        ("/deep.png", "", 404, "Accept, Origin"),
        ("/", "", 200, "Accept-Encoding, Origin"),
        ("/x.txt", "", 200, "Origin"),
    ] {
        let reply = server.get_with(target, more);
        assert_eq!((reply.status, only(&reply, "vary")), (status, vary), "{target} {more}");
    }
    let reply = server.get_with("/deep", "Accept-Encoding: gzip\r\nOrigin: https://a.example\r\n");
    assert_eq!(only(&reply, "content-encoding"), "gzip");
    assert_eq!(only(&reply, "access-control-allow-origin"), "https://a.example");
}

#[test]
fn without_its_file_there_is_no_fallback() {
    for rules in [
        "[[rule]]\npath = '**'\nspa = '/none.html'",
        "[[rule]]\npath = '**'\nspa = '/d'",
        "[[rule]]\npath = '/d/**'\nspa = false\n[[rule]]\npath = '**'\nspa = '/x.html'",
    ] {
        let server = ruled(Site::with([("d/y", b"y"), ("x.html", b"x")]), rules).serve();
        assert_eq!(server.get_with("/d/deep", NAVIGATES).status, 404, "{rules}");
    }
}
