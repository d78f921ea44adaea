//! Preconditions (RFC 9110 §13), in the order of §13.2.2.

use std::fs::File;
use std::time::{Duration, UNIX_EPOCH};

use crate::client::{Client, patterned};
use crate::site::{Server, Site};

const MODIFIED_SECONDS: u64 = 784_111_777;
/// The date of every file here, in the three forms of RFC 9110 §5.6.7, and its neighbours.
const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const MODIFIED_RFC850: &str = "Sunday, 06-Nov-94 08:49:37 GMT";
const MODIFIED_ASCTIME: &str = "Sun Nov  6 08:49:37 1994";
const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const BEFORE_RFC850: &str = "Sunday, 06-Nov-94 08:49:36 GMT";
const BEFORE_ASCTIME: &str = "Sun Nov  6 08:49:36 1994";
const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
const FUTURE: &str = "Fri, 31 Dec 9999 23:59:59 GMT";

/// A file on the heap, a mapped one, one that leaves by `sendfile`, an empty one.
const FILES: [(&str, usize); 4] =
    [("/small.txt", 100), ("/middle.txt", 40 * 1024), ("/large.txt", 200_000), ("/empty.txt", 0)];

fn site() -> Server {
    let site =
        FILES.iter().fold(Site::new(), |site, (name, length)| site.file(&name[1..], &patterned(*length)));
    for (name, _) in FILES {
        let file = File::options().append(true).open(site.path().join(&name[1..])).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(MODIFIED_SECONDS)).unwrap();
    }
    site.serve()
}

#[test]
fn if_match_compares_strongly() {
    check(&[
        ("If-Match: {E}", 200),
        ("If-Match: *", 200),
        ("If-Match: \"other\", {E}", 200),
        ("If-Match: {E}, \"other\"", 200),
        ("If-Match: ,, {E} ,", 200),
        ("If-Match: \"a,b\",{E}", 200),
        ("If-Match: \"other\"\nIf-Match: {E}", 200),
        ("If-Match: \"other\"", 412),
        ("If-Match: \"other\", \"another\"", 412),
        ("If-Match: W/{E}", 412),
        ("If-Match: W/{E}, \"other\"", 412),
        ("If-Match: garbage", 412),
        ("If-Match: {E} garbage", 412),
        ("If-Match:", 412),
        ("If-Match: \"*\"", 412),
    ]);
}

#[test]
fn if_unmodified_since_fails_for_a_later_version() {
    check(&[
        ("If-Unmodified-Since: {MODIFIED}", 200),
        ("If-Unmodified-Since: {AFTER}", 200),
        ("If-Unmodified-Since: {FUTURE}", 200),
        ("If-Unmodified-Since: {MODIFIED_RFC850}", 200),
        ("If-Unmodified-Since: {MODIFIED_ASCTIME}", 200),
        ("If-Unmodified-Since: {BEFORE}", 412),
        ("If-Unmodified-Since: {BEFORE_RFC850}", 412),
        ("If-Unmodified-Since: {BEFORE_ASCTIME}", 412),
        // A malformed date counts as absent.
        ("If-Unmodified-Since: yesterday", 200),
        ("If-Unmodified-Since: 0", 200),
        ("If-Unmodified-Since: Mon, 06 Nov 1994 08:49:36 GMT", 200),
        ("If-Unmodified-Since: {BEFORE}\nIf-Unmodified-Since: {BEFORE}", 200),
    ]);
}

#[test]
fn if_none_match_compares_weakly() {
    check(&[
        ("If-None-Match: {E}", 304),
        ("If-None-Match: W/{E}", 304),
        ("If-None-Match: *", 304),
        ("If-None-Match: \"other\", {E}", 304),
        ("If-None-Match: \"other\",W/{E},\"another\"", 304),
        ("If-None-Match: , {E}", 304),
        ("If-None-Match: \"a,b\", {E}", 304),
        ("If-None-Match: \"other\"\nIf-None-Match: {E}", 304),
        ("If-None-Match: {E}\nIf-None-Match: \"other\"\nIf-None-Match: \"another\"", 304),
        ("If-None-Match: \"other\"", 200),
        ("If-None-Match: W/\"other\"", 200),
        ("If-None-Match: \"*\"", 200),
        ("If-None-Match: garbage", 200),
        ("If-None-Match: {E} garbage", 200),
        ("If-None-Match: w/{E}", 200),
        ("If-None-Match:", 200),
    ]);
}

#[test]
fn if_modified_since_is_false_up_to_this_version() {
    check(&[
        ("If-Modified-Since: {MODIFIED}", 304),
        ("If-Modified-Since: {AFTER}", 304),
        ("If-Modified-Since: {FUTURE}", 304),
        ("If-Modified-Since: {MODIFIED_RFC850}", 304),
        ("If-Modified-Since: {MODIFIED_ASCTIME}", 304),
        ("If-Modified-Since: {BEFORE}", 200),
        ("If-Modified-Since: {BEFORE_RFC850}", 200),
        ("If-Modified-Since: {BEFORE_ASCTIME}", 200),
        ("If-Modified-Since: tomorrow", 200),
        ("If-Modified-Since: 4102444800", 200),
        ("If-Modified-Since: {MODIFIED} GMT", 200),
        ("If-Modified-Since: Sat, 06 Nov 1994 08:49:37 GMT", 200),
        ("If-Modified-Since: {AFTER}\nIf-Modified-Since: {AFTER}", 200),
    ]);
}

#[test]
fn preconditions_are_evaluated_in_their_order() {
    check(&[
        // An entity tag takes precedence over the date.
        ("If-Match: {E}\nIf-Unmodified-Since: {BEFORE}", 200),
        ("If-Match: \"other\"\nIf-Unmodified-Since: {MODIFIED}", 412),
        ("If-None-Match: \"other\"\nIf-Modified-Since: {MODIFIED}", 200),
        ("If-None-Match: {E}\nIf-Modified-Since: {BEFORE}", 304),
        ("If-None-Match: garbage\nIf-Modified-Since: {MODIFIED}", 200),
        // `If-Match` is evaluated before `If-None-Match`.
        ("If-Match: \"other\"\nIf-None-Match: {E}", 412),
        ("If-None-Match: {E}\nIf-Match: \"other\"", 412),
        ("If-Match: {E}\nIf-None-Match: {E}", 304),
        ("If-Match: {E}\nIf-Modified-Since: {MODIFIED}", 304),
        ("If-Unmodified-Since: {BEFORE}\nIf-None-Match: {E}", 412),
        ("If-Unmodified-Since: {MODIFIED}\nIf-None-Match: {E}", 304),
        ("If-Unmodified-Since: {MODIFIED}\nIf-Modified-Since: {MODIFIED}", 304),
        ("If-Unmodified-Since: {BEFORE}\nIf-Modified-Since: {MODIFIED}", 412),
        (
            "If-Match: {E}\nIf-Unmodified-Since: {BEFORE}\nIf-None-Match: \"other\"\nIf-Modified-Since: {AFTER}",
            200,
        ),
    ]);
}

#[test]
fn ranges_are_evaluated_after_the_preconditions() {
    check_ranges(&[
        ("If-None-Match: {E}", 304),
        ("If-None-Match: \"other\"", 206),
        ("If-Modified-Since: {MODIFIED}", 304),
        ("If-Modified-Since: {BEFORE}", 206),
        ("If-Match: \"other\"", 412),
        ("If-Match: {E}", 206),
        ("If-Unmodified-Since: {BEFORE}", 412),
        ("If-Unmodified-Since: {MODIFIED}", 206),
        ("If-None-Match: {E}\nIf-Range: {E}", 304),
        ("If-Match: \"other\"\nIf-Range: {E}", 412),
    ]);
}

#[test]
fn if_range_permits_a_range_of_this_version_only() {
    check_ranges(&[
        ("If-Range: {E}", 206),
        ("If-Range: {MODIFIED}", 206),
        ("If-Range: {MODIFIED_RFC850}", 206),
        ("If-Range: {MODIFIED_ASCTIME}", 206),
        ("If-Range: W/{E}", 200),
        ("If-Range: \"other\"", 200),
        ("If-Range: {E}, \"other\"", 200),
        ("If-Range: \"other\"\nIf-Range: {E}", 200),
        ("If-Range: *", 200),
        ("If-Range: {BEFORE}", 200),
        ("If-Range: {AFTER}", 200),
        ("If-Range: {FUTURE}", 200),
        ("If-Range: garbage", 200),
        ("If-Range:", 200),
    ]);
}

#[test]
fn if_range_decides_whether_a_range_can_fail_at_all() {
    let server = site();
    let etag = etag_of(&server, "/small.txt");
    for (condition, expected) in
        [(etag.as_str(), 416), (MODIFIED, 416), ("\"other\"", 200), (BEFORE, 200), ("W/\"other\"", 200)]
    {
        let reply = server.get_with("/small.txt", &format!("Range: bytes=500-\r\nIf-Range: {condition}\r\n"));
        assert_eq!(reply.status, expected, "{condition}");
    }
}

#[test]
fn if_range_without_a_range_is_ignored() {
    check(&[("If-Range: {E}", 200), ("If-Range: \"other\"", 200), ("If-Range: {BEFORE}", 200)]);
}

#[test]
fn a_304_has_the_headers_of_the_200_except_those_of_the_body() {
    let server = site();
    let mut client = Client::of(&server);
    for (target, _) in FILES {
        let whole = client.ask("GET", target, "");
        let etag = whole.field("etag").unwrap().to_owned();
        for method in ["GET", "HEAD"] {
            let known = client.ask(method, target, &format!("If-None-Match: {etag}\r\n"));
            assert_eq!((known.status, known.body.len()), (304, 0), "{method} {target}");
            for name in ["etag", "last-modified", "accept-ranges", "x-content-type-options"] {
                assert_eq!(known.field(name), whole.field(name), "{method} {target}: {name}");
                assert!(known.field(name).is_some(), "{method} {target}: {name}");
            }
            assert!(known.field("date").is_some(), "{method} {target}");
            assert_eq!(known.field("content-range"), None, "{method} {target}");
            assert_eq!(known.field("transfer-encoding"), None, "{method} {target}");
        }
    }
}

#[test]
fn the_validators_of_a_file_are_a_strong_etag_and_its_date() {
    let server = site();
    for (target, _) in FILES {
        let reply = server.get(target);
        assert_eq!(reply.field("last-modified"), Some(MODIFIED), "{target}");
        let etag = reply.field("etag").unwrap();
        assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 2, "{etag}");
    }
    let tags: std::collections::HashSet<_> =
        FILES.iter().map(|(target, _)| etag_of(&server, target)).collect();
    assert_eq!(tags.len(), FILES.len(), "{tags:?}");
}

#[test]
fn a_failed_precondition_reveals_nothing_about_the_file() {
    let server = site();
    let reply = server.get_with("/middle.txt", "If-Match: \"other\"\r\n");
    assert_eq!((reply.status, reply.text().as_str()), (412, "The file does not match the precondition.\n"));
    assert_eq!(reply.field("content-range"), None);
}

#[test]
fn preconditions_are_ignored_without_a_representation() {
    let server = Site::with([("d/index.html", b"index")]).serve();
    let mut client = Client::of(&server);
    for lines in [
        "If-Match: *\r\n",
        "If-Match: \"x\"\r\n",
        "If-None-Match: *\r\n",
        "If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT\r\n",
    ] {
        for (method, target, expected) in [
            ("GET", "/none.txt", 404),
            ("HEAD", "/none.txt", 404),
            ("GET", "/d", 301),
            ("OPTIONS", "/d/", 204),
        ] {
            assert_eq!(client.ask(method, target, lines).status, expected, "{method} {target} {lines}");
        }
    }
}

/// Sends the lines, in which `{E}` is the file's tag, by GET and HEAD to every file.
fn check(table: &[(&str, u16)]) {
    let server = site();
    let mut client = Client::of(&server);
    for (target, length) in FILES {
        let etag = etag_of(&server, target);
        for (lines, expected) in table {
            for method in ["GET", "HEAD"] {
                let reply = client.ask(method, target, &filled(lines, &etag));
                assert_eq!(reply.status, *expected, "{method} {target} {lines}");
                if *expected == 200 {
                    assert_eq!(reply.content_length(), Some(length as u64), "{method} {target} {lines}");
                    let sent = if method == "GET" { length } else { 0 };
                    assert!(reply.body == patterned(length)[..sent], "{method} {target} {lines}");
                }
            }
        }
    }
}

/// The same with a Range, by GET: a 206 is the range, a 200 the whole file.
fn check_ranges(table: &[(&str, u16)]) {
    let server = site();
    let mut client = Client::of(&server);
    for (target, length) in FILES.into_iter().filter(|(_, length)| *length > 0) {
        let etag = etag_of(&server, target);
        for (lines, expected) in table {
            let reply = client.ask("GET", target, &format!("Range: bytes=10-19\r\n{}", filled(lines, &etag)));
            assert_eq!(reply.status, *expected, "{target} {lines}");
            let file = patterned(length);
            match expected {
                206 => assert_eq!(reply.body, file[10..20], "{target} {lines}"),
                200 => assert!(reply.body == file, "{target} {lines}"),
                _ => assert_eq!(reply.field("content-range"), None, "{target} {lines}"),
            }
        }
    }
}

fn etag_of(server: &Server, target: &str) -> String {
    server.get(target).field("etag").unwrap().to_owned()
}

fn filled(lines: &str, etag: &str) -> String {
    let dates = [
        ("{E}", etag),
        ("{MODIFIED}", MODIFIED),
        ("{MODIFIED_RFC850}", MODIFIED_RFC850),
        ("{MODIFIED_ASCTIME}", MODIFIED_ASCTIME),
        ("{BEFORE}", BEFORE),
        ("{BEFORE_RFC850}", BEFORE_RFC850),
        ("{BEFORE_ASCTIME}", BEFORE_ASCTIME),
        ("{AFTER}", AFTER),
        ("{FUTURE}", FUTURE),
    ];
    let filled = dates.iter().fold(lines.to_owned(), |text, (name, value)| text.replace(name, value));
    filled.split('\n').map(|line| format!("{line}\r\n")).collect()
}
