//! The site's own error pages: `404.html`, `403.html` and `50x.html` in the root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use crate::client::Client;
use crate::site::{PATIENCE, Reply, Server, Site, pattern};

#[test]
fn a_page_of_the_site_replaces_the_sentence_of_the_server() {
    let server = site().unprivileged().file("shut", b"x").serve();
    fs::set_permissions(server.root.join("shut"), fs::Permissions::from_mode(0o000)).unwrap();
    for (target, status, text) in [
        ("/none", 404, "nothing here"),
        ("/d/", 404, "nothing here"),
        ("/none?digest=sha-256", 404, "nothing here"),
        ("/none?download", 404, "nothing here"),
        ("/.hidden", 404, "nothing here"),
        ("/shut", 403, "forbidden here"),
    ] {
        let reply = server.get(target);
        assert_eq!((reply.status, reply.text().as_str()), (status, text), "{target}");
        assert_eq!(reply.field("content-type"), Some("text/html; charset=utf-8"), "{target}");
        assert_eq!(reply.field("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.field("cache-control"), Some("no-cache"));
        assert!(reply.is_complete());
        for absent in ["etag", "last-modified", "accept-ranges", "content-disposition", "repr-digest"] {
            assert_eq!(reply.field(absent), None, "{absent} of {target}");
        }
    }
    for (raw, status) in [
        ("GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405),
        ("BREW /none HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        ("GET /a HTTP/1.1\r\nHost: x\r\nIf-Match: \"x\"\r\n\r\n", 412),
        ("GET /a HTTP/1.1\r\nHost: x\r\nRange: bytes=9-\r\n\r\n", 416),
    ] {
        let reply = server.send(raw);
        assert_eq!(reply.status, status, "{raw}");
        assert!(reply.text().ends_with(".\n"), "{}", reply.text());
    }
}

#[test]
fn a_page_is_sent_whole_whatever_ranges_or_preconditions_say() {
    let server = site().serve();
    let tag = server.get("/404.html").field("etag").unwrap().to_owned();
    for lines in [
        "Range: bytes=0-3\r\n".to_owned(),
        "Range: bytes=900-\r\n".to_owned(),
        "If-None-Match: *\r\n".to_owned(),
        format!("If-None-Match: {tag}\r\n"),
        format!("If-Range: {tag}\r\nRange: bytes=0-3\r\n"),
        "If-Match: \"other\"\r\n".to_owned(),
        "If-Modified-Since: Fri, 31 Dec 2100 23:59:59 GMT\r\n".to_owned(),
        "Want-Repr-Digest: sha-256=1\r\n".to_owned(),
    ] {
        let reply = server.get_with("/none", &lines);
        assert_eq!((reply.status, reply.text().as_str()), (404, "nothing here"), "{lines}");
        assert_eq!(reply.field("content-range"), None);
    }
}

#[test]
fn a_connection_goes_on_after_a_page() {
    for length in SIZES {
        let page = pattern(length, 1);
        let server = site().file("404.html", &page).serve();
        let mut client = Client::of(&server);
        for _ in 0..2 {
            let head = client.ask("HEAD", "/none", "");
            assert_eq!((head.status, head.content_length()), (404, Some(length as u64)));
            let reply = client.ask("GET", "/none", "");
            assert_eq!(reply.status, 404, "{length}");
            assert!(reply.body == page, "{length}");
            assert_eq!(client.ask("GET", "/a", "").text(), "a", "{length}");
            let gone = client.ask("POST", "/none", "Content-Length: 0\r\n");
            assert_eq!(gone.status, 405);
        }
    }
}

#[test]
fn a_page_requested_by_its_name_is_a_file() {
    let server = site().serve();
    let reply = server.get("/404.html");
    assert_eq!((reply.status, reply.text().as_str()), (200, "nothing here"));
    assert!(reply.field("etag").is_some() && reply.field("accept-ranges").is_some());
    let part = server.get_with("/404.html", "Range: bytes=0-6\r\n");
    assert_eq!((part.status, part.text().as_str()), (206, "nothing"));
}

#[test]
fn pages_may_be_added_and_removed_while_the_server_runs() {
    for watch in ["on", "off"] {
        let server = Site::with([("a", b"a")])
            .env("PAGECAST_WATCH", watch)
            .env("PAGECAST_REVALIDATE_AFTER", "100ms")
            .serve();
        assert_eq!(server.get("/none").text(), "Not found.\n");
        let page = server.root.join("404.html");
        fs::write(&page, "made").unwrap();
        server.get_until("/none", |reply| reply.text() == "made");
        fs::write(&page, "made anew").unwrap();
        let reply = server.get_until("/none", |reply| reply.text() == "made anew");
        assert_eq!((reply.status, reply.content_length()), (404, Some(9)));
        fs::remove_file(&page).unwrap();
        server.get_until("/none", |reply| reply.text() == "Not found.\n");
        fs::create_dir(&page).unwrap();
        assert_eq!(server.get("/none").text(), "Not found.\n", "a directory is no page");
    }
}

#[test]
fn a_page_is_sent_in_the_encoding_of_its_sidecar() {
    let server = site().file("404.html.br", b"brotli, let us say").serve();
    let reply = server.get_with("/none", "Accept-Encoding: gzip, br\r\n");
    assert_eq!((reply.status, reply.field("content-encoding")), (404, Some("br")));
    assert_eq!((reply.text().as_str(), reply.content_length()), ("brotli, let us say", Some(18)));
    assert_eq!(reply.field("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(reply.field("etag"), None);
    let plain = server.get("/none");
    assert_eq!((plain.text().as_str(), plain.field("content-encoding")), ("nothing here", None));
    for reply in [reply, plain] {
        assert_eq!(reply.field("vary"), Some("Accept-Encoding"));
    }
    let refused = server.get_with("/none", "Accept-Encoding: identity;q=0, zstd\r\n");
    assert_eq!(
        (refused.status, refused.text().as_str()),
        (404, "nothing here"),
        "an error is reported in any case"
    );
}

#[test]
fn a_page_is_compressed_in_the_background() {
    let page = b"<p>nothing here</p>\n".repeat(500);
    let server = site().file("404.html", &page).serve();
    let first = server.get_with("/none", "Accept-Encoding: gzip\r\n");
    assert_eq!((first.status, first.field("vary")), (404, Some("Accept-Encoding")));
    let coded = until(&server, "/none", "Accept-Encoding: gzip\r\n", |reply| {
        reply.field("content-encoding") == Some("gzip")
    });
    assert!(coded.status == 404 && coded.body.len() < 500, "{}", coded.body.len());
    let mut decoded = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&coded.body[..]), &mut decoded).unwrap();
    assert!(decoded == page);
    assert!(server.get("/none").body == page);
}

#[test]
fn large_pages_are_sent_from_their_mapping_and_by_sendfile() {
    for length in SIZES {
        let page = pattern(length, 1);
        for sendfile_from in ["0", "1GiB"] {
            let server = site().file("404.html", &page).env("PAGECAST_SENDFILE_FROM", sendfile_from).serve();
            for _ in 0..2 {
                let reply = server.get("/none");
                assert_eq!((reply.status, reply.content_length()), (404, Some(length as u64)));
                assert!(reply.body == page, "{length} {sendfile_from}");
            }
        }
    }
}

#[test]
fn a_page_is_never_mixed_from_two_versions() {
    let server =
        site().file("404.html", &pattern(200_000, 1)).env("PAGECAST_REVALIDATE_AFTER", "10ms").serve();
    assert_eq!(server.get("/none").status, 404);
    for round in 0..20 {
        let beside = server.root.join("next");
        let page = pattern(if round % 2 == 0 { 300_000 } else { 100 }, round);
        fs::write(&beside, &page).unwrap();
        fs::rename(&beside, server.root.join("404.html")).unwrap();
        let reply = server.get("/none");
        assert_eq!(reply.status, 404);
        assert!(reply.is_complete(), "round {round}");
        server.get_until("/none", |reply| reply.status == 404 && reply.body == page);
    }
}

#[test]
fn a_server_error_has_its_page() {
    let server = site()
        .file("bad", b"bad")
        .file("bad.sha256", format!("{}  bad\n", "0".repeat(64)).as_bytes())
        .env("PAGECAST_VERIFY", "serve")
        .serve();
    let reply = server.get("/bad");
    assert_eq!((reply.status, reply.text().as_str()), (500, "broken here"));
    let server = site().env("PAGECAST_LISTING", "on").env("PAGECAST_DIRECTORIES_AT_ONCE", "1").serve();
    fs::create_dir(server.root.join("many")).unwrap();
    for index in 0..12_000 {
        fs::File::create(server.root.join(format!("many/{index:0100}"))).unwrap();
    }
    let mut stream = server.connect_narrow();
    std::io::Write::write_all(&mut stream, b"GET /many/ HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(Reply::read(&mut stream, true).unwrap().status, 200);
    // A page that is not cached is not waited for while resources are scarce.
    let reply = server.get("/d/");
    assert_eq!((reply.status, reply.field("retry-after")), (503, Some("1")), "{}", reply.text());
}

#[test]
fn an_error_page_can_be_read_across_origins() {
    let server = site().env("PAGECAST_CORS_ORIGINS", "https://a.example").serve();
    let reply = server.get_with("/none", "Origin: https://a.example\r\n");
    assert_eq!(reply.status, 404);
    assert_eq!(reply.field("access-control-allow-origin"), Some("https://a.example"));
    assert!(reply.field("vary").unwrap().contains("Origin"));
}

#[test]
fn only_pages_in_the_root_count() {
    let server = Site::with([("d/404.html", b"not this one"), ("a", b"a")]).serve();
    assert_eq!(server.get("/d/none").text(), "Not found.\n");
    let server = site()
        .file("_redirects", b"/gone/* /gone.html 404\n/old /new 301\n")
        .file("gone.html", b"gone")
        .serve();
    let reply = server.get("/gone/x");
    assert_eq!((reply.status, reply.text().as_str()), (404, "gone"));
    assert_eq!((reply.field("etag"), reply.field("last-modified")), (None, None));
    assert_eq!(server.get("/none").text(), "nothing here");
}

/// Pages on the heap, mapped, and of the length from which a body is sent by `sendfile`.
const SIZES: [usize; 4] = [0, 1000, 40_000, 300_000];

fn site() -> Site {
    Site::with([
        ("a", b"a"),
        ("d/x", b"x"),
        ("404.html", b"nothing here"),
        ("403.html", b"forbidden here"),
        ("50x.html", b"broken here"),
    ])
}

fn until(server: &Server, target: &str, lines: &str, as_wanted: impl Fn(&Reply) -> bool) -> Reply {
    let deadline = SystemTime::now() + PATIENCE;
    loop {
        let reply = server.get_with(target, lines);
        if as_wanted(&reply) {
            return reply;
        }
        assert!(SystemTime::now() < deadline, "{target} is still {:?}", reply.fields);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
