//! The file `_redirects` of a site.

use crate::cli::{run, stderr};
use crate::client::Client;
use crate::configured::{NAVIGATES, check_replies, lines, only, ruled};
use crate::site::Site;

fn site(redirects: &str) -> Site {
    Site::with([("index.html", b"root"), ("there.txt", b"there"), ("d/index.html", b"in d")])
        .file("_redirects", redirects.as_bytes())
}

#[test]
fn a_missing_name_is_redirected_by_its_line() {
    let server = site(
        "# what moved
/old /new
/found /new 302
/other /new 303
/kept /new 307
/stays /new 308   # for good
/away https://example.com/x?y#z
/blog/* /news/:splat
/u/:user/p/:post /posts/:post?by=:user 302
/ex/* https://example.com/:splat 301
/there.txt /elsewhere
/d/* /e/:splat
/loop /loop/
/self/* /self/:splat
/made/with%20blank /m%C3%BC
/both /a?b=c 302
/net/* /:splat
",
    )
    .serve();
    check_replies(
        &server,
        &[
            ("/old", 301, "/new"),
            ("/old/", 301, "/new"),
            ("/%6fld", 301, "/new"),
            ("//old", 301, "/new"),
            ("/x/../old", 301, "/new"),
            ("/OLD", 404, "Not found.\n"),
            ("/old?a=b&c=%20", 301, "/new?a=b&c=%20"),
            ("/found", 302, "/new"),
            ("/other", 303, "/new"),
            ("/kept", 307, "/new"),
            ("/stays", 308, "/new"),
            ("/away", 301, "https://example.com/x?y#z"),
            ("/blog", 301, "/news/"),
            ("/blog/2024/may", 301, "/news/2024/may"),
            ("/blog/a%20b?c", 301, "/news/a%20b?c"),
            ("/u/ann/p/7", 302, "/posts/7?by=ann"),
            ("/u/a&b%0D%0Ax/p/7%3Fz", 302, "/posts/7%3Fz?by=a%26b%0D%0Ax"),
            ("/u/ann/p", 404, "Not found.\n"),
            ("/ex/a/b", 301, "https://example.com/a/b"),
            ("/there.txt", 200, "there"),
            ("/d/", 200, "in d"),
            ("/d/none", 301, "/e/none"),
            ("/loop", 404, "Not found.\n"),
            ("/self/x", 404, "Not found.\n"),
            ("/made/with%20blank", 301, "/m%C3%BC"),
            ("/both?x=y", 302, "/a?b=c"),
            ("/net//evil.com/x", 301, "/evil.com/x"),
            ("/net/%5Cevil.com", 301, "/%5Cevil.com"),
            ("/net/\\evil.com", 301, "/%5Cevil.com"),
            ("/net/%2Fevil.com", 400, "The request target is malformed.\n"),
            ("/net/https:/evil.com", 301, "/https:/evil.com"),
        ],
    );
    let reply = server.send("POST /old HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(reply.status, 405);
}

#[test]
fn a_rewrite_serves_the_other_file_under_the_requested_name() {
    let text = "0123456789".repeat(300);
    let server = site(
        "/alias /there.txt 200
/dir /d 200
/dir2 /d/ 200
/long /long.txt 200
/files/:name /:name.txt 200
/all/* /:splat 200
/nothing /none.txt 200
/latest.js /app.3f9a1c0b.js 200
/next.0a1b2c3d.js /app.3f9a1c0b.js 200
/gone/* /sorry.html 404
/lost /none.html 404
",
    )
    .file("long.txt", text.as_bytes())
    .file("long.txt.gz", b"\x1f\x8b: not read")
    .file("app.3f9a1c0b.js", b"app()")
    .file("sorry.html", b"<p>sorry")
    .file(".env", b"secret")
    .serve();
    check_replies(
        &server,
        &[
            ("/alias", 200, "there"),
            ("/alias?x=y", 200, "there"),
            ("/dir", 200, "in d"),
            ("/dir2/", 200, "in d"),
            ("/long", 200, &text),
            ("/files/there", 200, "there"),
            ("/all/d/index.html", 200, "in d"),
            ("/all/", 200, "root"),
            ("/all/none", 404, "Not found.\n"),
            ("/all/.env", 404, "Not found.\n"),
            ("/all/_redirects", 404, "Not found.\n"),
            ("/nothing", 404, "Not found.\n"),
            ("/gone/x", 404, "<p>sorry"),
            ("/gone", 404, "<p>sorry"),
            ("/lost", 404, "Not found.\n"),
        ],
    );
    let mut client = Client::of(&server);
    let etag = only(&client.ask("GET", "/long.txt", ""), "etag").to_owned();
    let reply = client.ask("GET", "/long", "Range: bytes=5-7\r\n");
    assert_eq!((reply.status, reply.text().as_str()), (206, "567"));
    let reply = client.ask("GET", "/long", &format!("If-None-Match: {etag}\r\n"));
    assert_eq!(reply.status, 304);
    let reply = client.ask("GET", "/long", "Accept-Encoding: gzip\r\n");
    assert_eq!((reply.status, only(&reply, "content-encoding")), (200, "gzip"));
    assert_eq!(only(&reply, "content-type"), "text/plain; charset=utf-8");
    let reply = client.ask("GET", "/gone/x", "Range: bytes=0-1\r\n");
    assert_eq!((reply.status, lines(&reply, "etag").len()), (404, 0));
    for (target, expected) in [
        ("/app.3f9a1c0b.js", "public, max-age=31536000, immutable"),
        ("/latest.js", "no-cache"),
        ("/next.0a1b2c3d.js", "public, max-age=31536000, immutable"),
    ] {
        let reply = client.ask("GET", target, "");
        assert_eq!((reply.status, only(&reply, "cache-control")), (200, expected), "{target}");
        let known = format!("If-None-Match: {}\r\n", only(&reply, "etag"));
        let reply = client.ask("GET", target, &known);
        assert_eq!((reply.status, only(&reply, "cache-control")), (304, expected), "{target}");
    }
}

#[test]
fn only_a_forced_line_overrides_a_file() {
    let server = site(
        "/there.txt /moved.txt 302!
/d/* /e/:splat 301!
/alias /there.txt 200
/swap.txt /index.html 200!
/shut/* /index.html 404!
/kept.txt /elsewhere 302
",
    )
    .file("swap.txt", b"swap")
    .file("shut/x.txt", b"x")
    .file("kept.txt", b"kept")
    .serve();
    check_replies(
        &server,
        &[
            ("/there.txt", 302, "/moved.txt"),
            ("/there.txt/", 302, "/moved.txt"),
            ("//there%2Etxt?q", 302, "/moved.txt?q"),
            ("/d", 301, "/e/"),
            ("/d/", 301, "/e/"),
            ("/d/index.html", 301, "/e/index.html"),
            ("/alias", 200, "there"),
            ("/swap.txt", 200, "root"),
            ("/shut/x.txt", 404, "root"),
            ("/kept.txt", 200, "kept"),
            ("/", 200, "root"),
        ],
    );
}

#[test]
fn everything_but_the_page_itself_can_be_redirected_to_it() {
    check_replies(
        &site("/* /there.txt 302!").serve(),
        &[("/", 302, "/there.txt"), ("/d/", 302, "/there.txt"), ("/there.txt", 200, "there")],
    );
    check_replies(
        &site("/* /index.html 200").serve(),
        &[("/deep/route", 200, "root"), ("/there.txt", 200, "there"), ("/d/", 200, "in d")],
    );
    check_replies(&site("/ /d/ 302!").serve(), &[("/", 302, "/d/"), ("/d/", 200, "in d")]);
}

#[test]
fn the_list_itself_is_never_served() {
    let server = ruled(
        site("/x /_redirects 200\n/y/* /:splat 200\n").file("d/_redirects", b"a file like any other"),
        "[[rule]]\npath = '**'\nlisting = true",
    )
    .env("PAGECAST_INDEX", "main.html")
    .serve();
    for target in [
        "/_redirects",
        "/_redirects/",
        "/%5Fredirects",
        "//_redirects",
        "/./_redirects",
        "/d/../_redirects",
        "/_redirects?download",
        "/_redirects?digest=sha-256",
        "/x",
        "/y/_redirects",
        "/_redirects/.",
    ] {
        for _ in 0..2 {
            assert_eq!(server.get(target).status, 404, "{target}");
        }
    }
    assert_eq!(server.get("/d/_redirects").status, 200);
    assert!(!server.get("/").text().contains("_redirects"));
    assert!(server.get("/").text().contains("there.txt"));
}

#[test]
fn redirects_precede_fallbacks_and_follow_the_slash_policy() {
    let rules = "[[rule]]\npath = '**'\nspa = true\nheaders = { X-A = 'yes' }\ncors = ['https://a.example']";
    for policy in ["add", "remove", "ignore"] {
        let server =
            ruled(site("/old/* /new/:splat 302\n"), rules).env("PAGECAST_TRAILING_SLASH", policy).serve();
        let reply = server.get_with("/old/x", NAVIGATES);
        assert_eq!((reply.status, only(&reply, "location")), (302, "/new/x"), "{policy}");
        assert_eq!((only(&reply, "x-a"), only(&reply, "vary")), ("yes", "Origin"), "{policy}");
        let reply = server.get_with("/old/x/", "Origin: https://a.example\r\n");
        assert_eq!(only(&reply, "access-control-allow-origin"), "https://a.example", "{policy}");
        assert_eq!((reply.status, only(&reply, "location")), (302, "/new/x"), "{policy}");
        assert_eq!(server.get_with("/deep", NAVIGATES).text(), "root", "{policy}");
    }
}

#[test]
fn all_malformed_lines_are_reported_with_their_numbers_at_start() {
    let bad = b"/good /line\n/no-target\n/a /b 418\n\n/c //evil.com\nd /e\n/f/*/g /h\n/i /:j\n/k\xff /l\n/m /n 302 Country=de\n";
    let site = Site::new();
    std::fs::write(site.path().join("_redirects"), bad).unwrap();
    let path = site.path().join("_redirects").display().to_string();
    for arguments in [&[][..], &["config"]] {
        let output = run(site.command().args(arguments));
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{message}");
        for (line, word) in [
            (2, "where to"),
            (3, "418"),
            (5, "two slashes"),
            (6, "slash"),
            (7, "*"),
            (8, ":j"),
            (9, "UTF-8"),
            (10, "Country=de"),
        ] {
            let place = format!("{path}:{line}:");
            let is_reported = message.lines().any(|line| line.contains(&place) && line.contains(word));
            assert!(is_reported, "{place} {word} in\n{message}");
        }
        assert_eq!(message.matches(&path).count(), 8, "{message}");
    }
    std::fs::write(site.path().join("_redirects"), "\u{feff}/a /b\r\n\r\n# c\r\n").unwrap();
    assert_eq!(site.serve().get("/a").field("location"), Some("/b"));
}
