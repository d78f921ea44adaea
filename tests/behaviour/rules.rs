//! Rules for parts of a site, and the behaviour without rules.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::cli::{run, stderr};
use crate::client::Client;
use crate::configured::{lines, only, ruled};
use crate::site::Site;

#[test]
fn the_first_rule_with_a_value_for_a_header_decides_it_on_every_response() {
    let site = Site::with([("two.txt", b"two"), ("three", b"three")]).file("a/one.txt", &[b'x'; 2000]);
    let server = ruled(
        site,
        "[[rule]]
        path = '/a/one.txt'
        cache_control = 'off'
        headers = { X-A = '1' }
        [[rule]]
        path = '*.txt'
        cache_control = 'max-age=5'
        content_type = 'text/x-note'
        headers = { x-a = '2', X-B = '2' }
        [[rule]]
        path = ['/a/**', '/b/**']
        cache_control = 'max-age=9'
        headers = { x-b = '3', X-C = '3' }
        disposition = 'attachment'",
    )
    .serve();
    let etag = server.get("/a/one.txt").field("etag").unwrap().to_owned();
    let known = format!("If-None-Match: {etag}\r\n");
    let mut client = Client::of(&server);
    for (method, more, status) in [
        ("GET", "", 200),
        ("HEAD", "", 200),
        ("GET", "Range: bytes=1-2\r\n", 206),
        ("GET", "Range: bytes=0-0,1900-1901\r\n", 206),
        ("GET", &known, 304),
    ] {
        let reply = client.ask(method, "/a/one.txt", more);
        assert_eq!(reply.status, status, "{method} {more}");
        assert_eq!(lines(&reply, "cache-control"), [""; 0], "{method} {more}");
        for (name, value) in [("x-a", "1"), ("x-b", "2"), ("x-c", "3")] {
            assert_eq!(only(&reply, name), value, "{method} {more}");
        }
        if status != 304 {
            assert_eq!(only(&reply, "content-disposition"), "attachment; filename=\"one.txt\"");
            let is_multiple = more.contains(',');
            assert_eq!(only(&reply, "content-type") == "text/x-note", !is_multiple, "{method} {more}");
        }
    }
    let reply = client.ask("GET", "/two.txt", "");
    for (name, value) in
        [("cache-control", "max-age=5"), ("x-a", "2"), ("x-b", "2"), ("content-type", "text/x-note")]
    {
        assert_eq!(only(&reply, name), value);
    }
    for name in ["x-c", "content-disposition"] {
        assert_eq!(reply.field(name), None, "{name}");
    }
    let reply = client.ask("GET", "/three", "");
    assert_eq!((only(&reply, "cache-control"), reply.field("x-a")), ("no-cache", None));
}

#[test]
fn rules_match_the_decoded_and_resolved_path() {
    let site = Site::with([("a/x.txt", b"x"), ("b/y.txt", b"y")]);
    std::fs::write(site.path().join(OsStr::from_bytes(b"a/caf\xe9.dat")), b"z").unwrap();
    let server = ruled(
        site,
        "[[rule]]
        path = '/a/*.txt'
        headers = { X-A = 'yes' }
        [[rule]]
        path = '*.dat'
        headers = { X-A = 'bytes' }
        disposition = 'inline'",
    )
    .serve();
    let mut client = Client::of(&server);
    for (target, expected) in [
        ("/a/x.txt", "yes"),
        ("/%61/x%2Etxt", "yes"),
        ("/b/../a/x.txt", "yes"),
        ("/b/%2e%2e/a/./x.txt", "yes"),
        ("//a///x.txt", "yes"),
        ("/a/x.txt?y=/b/y.txt", "yes"),
        ("/b/y.txt", ""),
        ("/a/../b/y.txt", ""),
        ("/b/y.txt?/a/x.txt", ""),
        ("/a/caf%E9.dat", "bytes"),
    ] {
        let reply = client.ask("GET", target, "");
        assert_eq!((reply.status, reply.field("x-a").unwrap_or_default()), (200, expected), "{target}");
    }
    let reply = client.ask("GET", "/a/caf%E9.dat", "");
    assert_eq!(only(&reply, "content-disposition"), "inline; filename=\"caf_.dat\"");
}

#[test]
fn rules_apply_to_errors_and_redirects_of_their_path() {
    let site = Site::with([("a/x.txt", b"0123456789"), ("a/d/index.html", b"d"), ("404.html", b"<p>gone")]);
    let server = ruled(
        site,
        "[[rule]]
        path = '/a/**'
        headers = { X-A = 'yes' }
        [[rule]]
        path = '**'
        disposition = 'attachment'",
    )
    .serve();
    let mut client = Client::of(&server);
    for (method, target, more, status) in [
        ("GET", "/a/none", "", 404),
        ("GET", "/a/none", "", 404),
        ("HEAD", "/a/none", "", 404),
        ("GET", "/a/.git/config", "", 404),
        ("GET", "/a/", "", 404),
        ("GET", "/a/d", "", 301),
        ("GET", "/a/d/", "", 200),
        ("GET", "/a/x.txt", "Range: bytes=10-\r\n", 416),
        ("GET", "/a/x.txt", "If-Match: \"other\"\r\n", 412),
        ("GET", "/a/x.txt?digest=md5", "", 400),
        ("PUT", "/a/x.txt", "Content-Length: 0\r\n", 405),
        ("BREW", "/a/x.txt", "", 501),
        ("OPTIONS", "/a/x.txt", "", 204),
    ] {
        let reply = client.ask(method, target, more);
        assert_eq!(reply.status, status, "{method} {target}");
        assert_eq!(only(&reply, "x-a"), "yes", "{method} {target}");
        let is_saved = lines(&reply, "content-disposition").len();
        assert_eq!(is_saved, usize::from(status == 200), "{method} {target}: {:?}", reply.fields);
        if status == 404 {
            assert_eq!(only(&reply, "content-type"), "text/html; charset=utf-8");
            assert_eq!(reply.body, if method == "HEAD" { b"".as_slice() } else { b"<p>gone" });
        }
    }
    assert_eq!(client.ask("GET", "/none", "").field("x-a"), None);
}

#[test]
fn a_rule_for_a_directory_may_include_what_is_below() {
    let site = Site::with([("one/x", b"x"), ("one/in/x", b"x"), ("two/x", b"x"), ("two/in/x", b"x")]);
    let server = ruled(
        site,
        "[[rule]]
        path = '/one'
        listing = true
        [[rule]]
        path = '/two/**'
        listing = true
        headers = { X-Two = 'yes' }",
    )
    .serve();
    for (target, status, two) in [
        ("/one/", 200, None),
        ("/one/in/", 404, None),
        ("/two/", 200, Some("yes")),
        ("/two/in/", 200, Some("yes")),
        ("/two", 301, Some("yes")),
        ("/two/x", 200, Some("yes")),
        ("/", 404, None),
    ] {
        let reply = server.get(target);
        assert_eq!((reply.status, reply.field("x-two")), (status, two), "{target}");
    }
}

#[test]
fn without_a_rule_hashed_names_are_immutable_and_others_are_revalidated() {
    let immutable = "public, max-age=31536000, immutable";
    let names = [
        ("app.3f9a1c0b.js", immutable),
        ("app.deadbeef.js", immutable),
        ("style.0123abcd.css", immutable),
        ("assets/chunk-0a1b2c3d.js", immutable),
        ("app.js", "no-cache"),
        ("jquery-3.7.1.min.js", "no-cache"),
        ("report-20240101.pdf", "no-cache"),
        ("report-20240101a.pdf", "no-cache"),
        ("photo-12345678.jpg", "no-cache"),
        ("page.3f9a1c0b.html", "no-cache"),
        ("index.html", "no-cache"),
        ("artifact.tar", "no-cache"),
    ];
    let site = names.into_iter().fold(Site::new(), |site, (name, _)| site.file(name, b"x"));
    let server = ruled(site, "[[rule]]\npath = '*.tar'\ndigest = false").serve();
    for (name, expected) in names {
        let reply = server.get(&format!("/{name}"));
        assert_eq!(only(&reply, "cache-control"), expected, "{name}");
        let known = format!("If-None-Match: {}\r\n", only(&reply, "etag"));
        let reply = server.get_with(&format!("/{name}"), &known);
        assert_eq!((reply.status, only(&reply, "cache-control")), (304, expected), "{name}");
    }
    assert_eq!(only(&server.get("/"), "cache-control"), "no-cache");
}

#[test]
fn a_disposition_names_the_file_in_every_encoding_and_part() {
    let site = Site::with([
        ("a/menü.css", b"body {}"),
        ("a/menü.css.gz", b"\x1f\x8b: not read"),
        ("x\"y%.txt", b"x"),
    ]);
    let server = ruled(site, "[[rule]]\npath = '**'\ndisposition = 'attachment'").serve();
    let mut client = Client::of(&server);
    let menu = "attachment; filename=\"men_.css\"; filename*=UTF-8''men%C3%BC.css";
    for (method, more, status) in [
        ("GET", "", 200),
        ("HEAD", "", 200),
        ("GET", "Range: bytes=0-1\r\n", 206),
        ("GET", "Range: bytes=0-0,3-3\r\n", 206),
        ("GET", "Accept-Encoding: gzip\r\n", 200),
        ("GET", "Accept-Encoding: gzip\r\nRange: bytes=0-1\r\n", 206),
        ("HEAD", "Accept-Encoding: gzip\r\n", 200),
    ] {
        let reply = client.ask(method, "/a/men%C3%BC.css", more);
        assert_eq!((reply.status, only(&reply, "content-disposition")), (status, menu), "{method} {more}");
        let coding = more.starts_with("Accept-Encoding").then_some("gzip");
        assert_eq!(reply.field("content-encoding"), coding, "{method} {more}");
    }
    let reply = client.ask("GET", "/x%22y%25.txt", "");
    let expected = "attachment; filename=\"x\\\"y_.txt\"; filename*=UTF-8''x%22y%25.txt";
    assert_eq!(only(&reply, "content-disposition"), expected);
}

#[test]
fn a_download_is_named_by_the_query_or_else_by_the_file() {
    let site =
        Site::with([("free/a.txt", b"0123456789"), ("shown/a.txt", b"0123456789"), ("free/é.bin", b"b")]);
    let server = ruled(site, "[[rule]]\npath = '/shown/**'\ndisposition = 'inline'").serve();
    let mut client = Client::of(&server);
    for (query, expected) in [
        ("download", "attachment; filename=\"a.txt\""),
        ("download=", "attachment; filename=\"a.txt\""),
        ("download=b.txt", "attachment; filename=\"b.txt\""),
        ("v=1&download=b.txt&w", "attachment; filename=\"b.txt\""),
        ("download=n%C3%A4me.txt", "attachment; filename=\"n_me.txt\"; filename*=UTF-8''n%C3%A4me.txt"),
        ("download=a%0D%0ASet-Cookie:%20b", "attachment; filename=\"a__Set-Cookie: b\""),
        ("download=%22;%20filename=evil.exe", "attachment; filename=\"\\\"; filename=evil.exe\""),
        ("download=../../etc/passwd", "attachment; filename=\"passwd\""),
        ("download=%2Fetc%2F.bashrc", "attachment; filename=\"_bashrc\""),
        ("download=%FF%00", "attachment; filename=\"__\""),
        ("download=a/", "attachment"),
    ] {
        for directory in ["free", "shown"] {
            let target = format!("/{directory}/a.txt?{query}");
            for (method, more, status) in
                [("GET", "", 200), ("HEAD", "", 200), ("GET", "Range: bytes=2-3\r\n", 206)]
            {
                let reply = client.ask(method, &target, more);
                let found = (reply.status, only(&reply, "content-disposition"));
                assert_eq!(found, (status, expected), "{method} {target}");
                assert_eq!(reply.field("set-cookie"), None, "{target}");
            }
            assert_eq!(client.ask("GET", &target, "Range: bytes=2-3\r\n").text(), "23");
        }
    }
    let reply = client.ask("GET", "/free/%C3%A9.bin?download", "");
    let expected = "attachment; filename=\"_.bin\"; filename*=UTF-8''%C3%A9.bin";
    assert_eq!(only(&reply, "content-disposition"), expected);
    for query in ["?v=1", "?", "?Download", "?download1=x", "?sort=name&order=desc"] {
        let reply = client.ask("GET", &format!("/free/a.txt{query}"), "");
        assert_eq!((reply.status, reply.field("content-disposition")), (200, None), "{query}");
    }
    assert_eq!(client.ask("GET", "/free/none?download", "").field("content-disposition"), None);
    let etag = client.ask("GET", "/free/a.txt", "").field("etag").unwrap().to_owned();
    let reply = client.ask("GET", "/free/a.txt?download", &format!("If-None-Match: {etag}\r\n"));
    assert_eq!((reply.status, reply.field("content-disposition")), (304, None));
}

#[test]
fn all_malformed_rules_are_reported_with_file_and_line_at_start() {
    let site = ruled(
        Site::new(),
        "[[rule]]
path = '/a['
[[rule]]
path = '*.js'
cache_contrl = 'x'
[[rule]]
path = '*.css'
headers = { ETag = 'x', 'a b' = 'y' }
[[rule]]
headers = { X-A = '1' }
[[rule]]
path = '/b/**'
spa = 'index.html'
disposition = 'save'
cors = 'https://a.example/'
[[rule]]
path = '/c/**'
content_type = \"text/html\\r\\nX: y\"
",
    );
    for arguments in [&[][..], &["config"]] {
        let output = run(site.command().args(arguments));
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{message}");
        for (line, word) in [
            (2, "["),
            (5, "cache_control"),
            (8, "ETag"),
            (8, "a b"),
            (9, "no path"),
            (13, "slash"),
            (14, "attachment"),
            (15, "slash"),
            (18, "line break"),
        ] {
            let place = format!(".pagecast.toml:{line}:");
            let is_reported =
                message.lines().any(|message| message.contains(&place) && message.contains(word));
            assert!(is_reported, "{place} {word} in\n{message}");
        }
    }
}
