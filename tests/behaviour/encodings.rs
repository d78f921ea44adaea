//! Encodings: their negotiation (RFC 9110 §12.5.3), compressed sidecars, and what is compressed in the background.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use crate::client::{Client, patterned};
use crate::encoding_helpers::{
    CODINGS, ask_until, coding, decoded, gzip, put, set_modified, sha256_hex, text,
};
use crate::site::{Reply, Server, Site, pattern};

/// `Accept-Encoding` of browsers.
const ANY: &str = "Accept-Encoding: gzip, deflate, br, zstd\r\n";

/// Scripts with all three sidecars: one on the heap, a mapped one, one sent by `sendfile`. The bytes of each file only
/// identify it: the server has no need to decode them.
const SIZES: [(&str, usize); 3] = [("small.js", 1000), ("middle.js", 60_000), ("large.js", 400_000)];

/// Bytes of a sidecar, the `number`th of them.
fn of_sidecar(number: usize, size: usize) -> Vec<u8> {
    pattern(size / (number + 2), u8::try_from(number).unwrap() + 10)
}

fn with_sidecars(site: Site) -> Site {
    SIZES.into_iter().fold(site, |site, (name, size)| {
        let site = site.file(name, &pattern(size, 1));
        CODINGS.iter().enumerate().fold(site, |site, (number, (_, suffix))| {
            site.file(&format!("{name}{suffix}"), &of_sidecar(number, size))
        })
    })
}

fn without_compression() -> Site {
    Site::new().env("PAGECAST_COMPRESS", "off")
}

#[test]
fn the_client_weighs_the_encodings_and_the_server_prefers_among_equals() {
    let site = without_compression().file("all.js", b"all").file("gz.js", b"gz").file("two.js", b"two");
    let site = ["all.js.br", "all.js.zst", "all.js.gz", "gz.js.gz", "two.js.gz", "two.js.zst"]
        .into_iter()
        .fold(site, |site, name| site.file(name, name.as_bytes()));
    let server = site.serve();
    let mut client = Client::of(&server);
    for (field, expected) in [
        // A file with all three encodings, one with gzip, one with Zstandard and gzip.
        ("gzip, deflate, br, zstd", ["br", "gzip", "zstd"]),
        ("gzip, deflate, br", ["br", "gzip", "gzip"]),
        ("gzip, deflate", ["gzip", "gzip", "gzip"]),
        ("zstd,gzip", ["zstd", "gzip", "zstd"]),
        ("GZip", ["gzip", "gzip", "gzip"]),
        ("x-gzip", ["gzip", "gzip", "gzip"]),
        ("*", ["br", "gzip", "zstd"]),
        ("br;q=0, *", ["zstd", "gzip", "zstd"]),
        ("*;q=0.5, gzip", ["gzip", "gzip", "gzip"]),
        ("gzip;q=1, br;q=0.9, zstd;q=0.95", ["gzip", "gzip", "gzip"]),
        ("gzip;q=0.1, br;q=0.9, zstd;q=0.95", ["zstd", "gzip", "zstd"]),
        ("gzip;q=0.5, zstd;q=0.5", ["zstd", "gzip", "zstd"]),
        ("br", ["br", "identity", "identity"]),
        ("gzip;q=0", ["identity", "identity", "identity"]),
        ("deflate, compress", ["identity", "identity", "identity"]),
        ("identity", ["identity", "identity", "identity"]),
        ("identity, gzip;q=0.5", ["identity", "identity", "identity"]),
        ("identity;q=0.5, gzip;q=0.5", ["gzip", "gzip", "gzip"]),
        ("", ["identity", "identity", "identity"]),
        ("gzip;q=7", ["identity", "identity", "identity"]),
        ("br, identity;q=0", ["br", "406", "406"]),
        ("identity;q=0", ["406", "406", "406"]),
        ("*;q=0", ["406", "406", "406"]),
        ("*;q=0, gzip;q=0.001", ["gzip", "gzip", "gzip"]),
        ("*;q=0, identity;q=0.1", ["identity", "identity", "identity"]),
        ("gzip;q=0\r\nAccept-Encoding: zstd", ["zstd", "identity", "zstd"]),
    ] {
        for (name, expected) in ["all.js", "gz.js", "two.js"].into_iter().zip(expected) {
            for method in ["GET", "HEAD"] {
                let lines = format!("Accept-Encoding: {field}\r\n");
                let reply = client.ask(method, &format!("/{name}"), &lines);
                let got = if reply.status == 406 { "406" } else { coding(&reply) };
                assert_eq!(got, expected, "{method} {name}: {field}");
                assert_eq!(reply.field("vary"), Some("Accept-Encoding"), "{method} {name}: {field}");
                let suffix = CODINGS.iter().find(|(token, _)| *token == expected).map(|(_, suffix)| suffix);
                if method == "GET" && expected != "406" {
                    let body = suffix.map_or(name[..name.len() - 3].into(), |s| format!("{name}{s}"));
                    assert_eq!(reply.text(), body, "{name}: {field}");
                }
            }
        }
    }
    let silent = client.ask("GET", "/all.js", "");
    assert_eq!((coding(&silent), silent.text().as_str()), ("identity", "all"));
}

#[test]
fn accept_encoding_counts_even_as_the_only_header() {
    let server = without_compression().file("a.js", b"plain").file("a.js.gz", b"coded").serve();
    for (lines, expected) in [
        ("Accept-Encoding: gzip\r\n", (200, "coded")),
        ("Accept-Encoding: br, identity;q=0\r\n", (406, "No acceptable encoding is available.\n")),
        ("If-Match: \"other\"\r\n", (412, "The file does not match the precondition.\n")),
        ("Host: x\r\n", (200, "plain")),
        ("", (200, "plain")),
    ] {
        let reply = server.send(format!("GET /a.js HTTP/1.0\r\n{lines}\r\n"));
        assert_eq!((reply.status, reply.text().as_str()), expected, "{lines}");
    }
}

#[test]
fn a_client_that_refuses_identity_gets_406_for_files_without_encodings() {
    let server = Site::new().file("a.png", b"png").file("short.txt", b"short").serve();
    let mut client = Client::of(&server);
    for target in ["/a.png", "/short.txt"] {
        for (field, status) in
            [("identity;q=0", 406), ("*;q=0", 406), ("gzip, identity;q=0", 406), ("gzip", 200), ("*", 200)]
        {
            for method in ["GET", "HEAD"] {
                let reply = client.ask(method, target, &format!("Accept-Encoding: {field}\r\n"));
                assert_eq!(reply.status, status, "{method} {target}: {field}");
                let is_refused = status == 406;
                assert_eq!(reply.field("vary"), is_refused.then_some("Accept-Encoding"), "{target}: {field}");
                assert_eq!(reply.field("etag").is_none(), is_refused, "{target}: {field}");
                assert_eq!(reply.field("content-encoding"), None, "{target}: {field}");
            }
        }
    }
}

#[test]
fn only_negotiated_responses_have_vary() {
    let site = with_sidecars(Site::new()).file("long.txt", &text(5000, 1)).file("a.png", &patterned(5000));
    let server = site.file("short.txt", b"short").file("none.js.gz", &patterned(5000)).serve();
    let mut client = Client::of(&server);
    for (target, varies) in [
        ("/small.js", true),
        ("/middle.js", true),
        ("/large.js", true),
        ("/long.txt", true),
        ("/a.png", false),
        ("/short.txt", false),
        ("/small.js.br", false),
        ("/none.js.gz", false),
    ] {
        for accepted in ["", "Accept-Encoding: br\r\n", "Accept-Encoding: nothing\r\n"] {
            for (method, lines, statuses) in [
                ("GET", String::new(), [200].as_slice()),
                ("HEAD", String::new(), &[200]),
                ("GET", "Range: bytes=0-1\r\n".into(), &[206]),
                ("GET", "Range: bytes=0-1, 3-4\r\n".into(), &[206, 200]),
                ("GET", "Range: bytes=999999-\r\n".into(), &[416]),
                ("GET", "If-None-Match: *\r\n".into(), &[304]),
                ("HEAD", "If-None-Match: *\r\n".into(), &[304]),
                ("GET", "If-Match: \"other\"\r\n".into(), &[412]),
                ("HEAD", "If-Match: \"other\"\r\n".into(), &[412]),
            ] {
                let reply = client.ask(method, target, &format!("{accepted}{lines}"));
                let about = format!("{method} {target} {accepted}{lines}: {}", reply.status);
                assert!(statuses.contains(&reply.status), "{about}");
                assert_eq!(reply.field("vary"), varies.then_some("Accept-Encoding"), "{about}");
            }
        }
    }
    assert_eq!(client.ask("GET", "/none.js", ANY).field("vary"), None);
}

#[test]
fn an_encoded_variant_is_a_representation_of_its_own() {
    let server = with_sidecars(Site::new()).serve();
    let mut client = Client::of(&server);
    for (name, size) in SIZES {
        let target = format!("/{name}");
        let plain = client.ask("GET", &target, "");
        assert!(plain.body == pattern(size, 1), "{name}");
        let mut tags = vec![plain.field("etag").unwrap().to_owned()];
        for (number, (token, _)) in CODINGS.into_iter().enumerate() {
            let bytes = of_sidecar(number, size);
            let about = format!("{name} in {token}");
            let mut ask = |method: &str, lines: &str| {
                let reply = client.ask(method, &target, &format!("Accept-Encoding: {token}\r\n{lines}"));
                if matches!(reply.status, 200 | 206) {
                    assert_eq!(coding(&reply), token, "{about}: {method} {lines}");
                }
                reply
            };
            let whole = ask("GET", "");
            assert!(whole.status == 200 && whole.body == bytes, "{about}");
            assert_eq!(whole.field("content-type"), plain.field("content-type"), "{about}");
            assert_eq!(whole.field("cache-control"), plain.field("cache-control"), "{about}");
            let tag = whole.field("etag").unwrap().to_owned();
            assert!(!tags.contains(&tag), "{about}: {tag}");
            let head = ask("HEAD", "");
            assert_eq!(without_date(&head), without_date(&whole), "{about}");

            for (condition, expected) in [
                (format!("If-None-Match: {tag}"), 304),
                (format!("If-None-Match: W/{tag}"), 304),
                (format!("If-None-Match: {}", tags.join(", ")), 200),
                (format!("If-Match: {tag}"), 200),
                (format!("If-Match: {}", tags.join(", ")), 412),
                (format!("Range: bytes=1-9\r\nIf-Range: {tag}"), 206),
                (format!("Range: bytes=1-9\r\nIf-None-Match: {tag}"), 304),
                (format!("Range: bytes=1-9\r\nIf-Range: {}", last_modified(&whole)), 200),
                ("Range: bytes=1-9\r\nIf-Range: \"other\"".to_owned(), 200),
            ] {
                let reply = ask("GET", &format!("{condition}\r\n"));
                assert_eq!(reply.status, expected, "{about}: {condition}");
                match expected {
                    200 => assert!(reply.body == bytes, "{about}: {condition}"),
                    206 => assert_eq!(reply.body, bytes[1..10], "{about}: {condition}"),
                    304 => {
                        assert_eq!(reply.field("etag"), Some(&*tag), "{about}: {condition}");
                        assert_eq!(reply.field("content-encoding"), None, "{about}: {condition}");
                    }
                    _ => {}
                }
            }

            let last = ask("GET", "Range: bytes=-7\r\n");
            assert_eq!(last.body, bytes[bytes.len() - 7..], "{about}");
            let range = format!("bytes {}-{}/{}", bytes.len() - 7, bytes.len() - 1, bytes.len());
            assert_eq!(last.field("content-range"), Some(&*range), "{about}");
            let past = ask("GET", &format!("Range: bytes={}-\r\n", bytes.len()));
            assert_eq!(past.status, 416, "{about}: the length is that of the coded bytes");
            assert_eq!(past.field("content-range"), Some(&*format!("bytes */{}", bytes.len())), "{about}");
            if bytes.len() > 10_000 {
                let parts = ask("GET", "Range: bytes=0-9, 5000-5009\r\n");
                assert_eq!(parts.status, 206, "{about}");
                for part in [0..10, 5000..5010] {
                    let at = parts.body.windows(10).position(|window| *window == bytes[part.clone()]);
                    assert!(at.is_some(), "{about}: {part:?}");
                }
            }
            tags.push(tag);
        }
    }
}

#[test]
fn an_etag_of_another_encoding_brings_the_whole_file() {
    let server = with_sidecars(Site::new()).serve();
    let mut client = Client::of(&server);
    for (name, _) in SIZES {
        let target = format!("/{name}");
        for begun in ["", "Accept-Encoding: gzip\r\n"] {
            let tag = client.ask("GET", &target, begun).field("etag").unwrap().to_owned();
            let resumed = client.ask("GET", &target, &format!("{ANY}Range: bytes=5-\r\nIf-Range: {tag}\r\n"));
            assert_eq!((resumed.status, coding(&resumed)), (200, "br"), "{name} {begun}");
            let own = client.ask("GET", &target, &format!("{begun}Range: bytes=5-\r\nIf-Range: {tag}\r\n"));
            assert_eq!((own.status, own.field("etag")), (206, Some(&*tag)), "{name} {begun}");
        }
    }
}

#[test]
fn a_sidecar_can_be_requested_like_any_file() {
    let server = with_sidecars(Site::new()).serve();
    let mut client = Client::of(&server);
    for (name, size) in SIZES {
        for (number, ((token, suffix), media_type)) in CODINGS
            .into_iter()
            .zip(["application/octet-stream", "application/zstd", "application/gzip"])
            .enumerate()
        {
            let target = format!("/{name}{suffix}");
            let coded = client.ask("GET", &format!("/{name}"), &format!("Accept-Encoding: {token}\r\n"));
            for accepted in ["", ANY] {
                let reply = client.ask("GET", &target, accepted);
                assert_eq!((reply.status, coding(&reply)), (200, "identity"), "{target}");
                assert_eq!(reply.field("content-type"), Some(media_type), "{target}");
                assert!(reply.body == of_sidecar(number, size), "{target}");
                assert_ne!(reply.field("etag"), coded.field("etag"), "{target}");
            }
        }
    }
}

#[test]
fn the_index_of_a_directory_is_negotiated_too() {
    let server = without_compression()
        .file("d/index.html", b"plain")
        .file("d/index.html.br", b"coded")
        .file("404.html", b"no")
        .file("404.html.br", b"coded no")
        .serve();
    let reply = server.get_with("/d/", ANY);
    assert_eq!((reply.text().as_str(), coding(&reply)), ("coded", "br"));
    assert_eq!(reply.field("content-type"), Some("text/html; charset=utf-8"));
    let missing = server.get_with("/none", ANY);
    assert_eq!((missing.status, missing.text().as_str(), coding(&missing)), (404, "coded no", "br"));
    assert_eq!(missing.field("vary"), Some("Accept-Encoding"));
}

#[test]
fn a_sidecar_older_than_its_original_is_ignored_and_the_log_says_so_once() {
    let site = without_compression()
        .env("PAGECAST_REVALIDATE_AFTER", "0")
        .file("a.js", b"new")
        .file("a.js.br", b"old")
        .file("a.js.gz", b"coded");
    let now = SystemTime::now();
    set_modified(&site.path().join("a.js"), now);
    set_modified(&site.path().join("a.js.br"), now - Duration::from_millis(1));
    set_modified(&site.path().join("a.js.gz"), now);
    let server = site.serve();
    for _ in 0..20 {
        let reply = server.get_with("/a.js", ANY);
        assert_eq!((reply.text().as_str(), coding(&reply)), ("coded", "gzip"), "as old as it is not older");
        assert_eq!(server.get_with("/a.js", "Accept-Encoding: br\r\n").text(), "new");
    }
    let complaints = || server.log().matches("/a.js.br is older than its original").count();
    assert_eq!(complaints(), 1, "{}", server.log());
    set_modified(&server.root.join("a.js.br"), now);
    ask_until(&server, ("GET", "/a.js", ANY), |reply| coding(reply) == "br" && reply.text() == "old");
    set_modified(&server.root.join("a.js"), now + Duration::from_secs(1));
    ask_until(&server, ("GET", "/a.js", ANY), |reply| coding(reply) == "identity");
    assert_eq!(complaints(), 2, "{}", server.log());
}

/// Settings under which changes are reported by inotify, found by periodic checks, and found by checks at every request.
const WATCHES: [[&str; 2]; 3] = [["on", "1h"], ["off", "100ms"], ["off", "0"]];

#[test]
fn sidecars_may_be_added_changed_and_removed_while_the_server_runs() {
    for [watch, after] in WATCHES {
        let server = without_compression()
            .env("PAGECAST_WATCH", watch)
            .env("PAGECAST_REVALIDATE_AFTER", after)
            .file("d/small.js", b"plain")
            .file("d/large.js", &pattern(60_000, 1))
            .serve();
        for name in ["d/small.js", "d/large.js"] {
            let target = format!("/{name}");
            let plain = server.get_with(&target, ANY);
            assert_eq!((coding(&plain), plain.field("vary")), ("identity", None), "{name}");
            let sees = |what: &str, token: &str, bytes: &[u8]| {
                let is_so = |reply: &Reply| coding(reply) == token && reply.body == bytes;
                eprintln!("{name}, watch {watch}, {after}: {what}");
                ask_until(&server, ("GET", &target, ANY), is_so);
            };
            let at = |suffix: &str| server.root.join(format!("{name}{suffix}"));
            fs::write(at(".gz"), b"gz").unwrap();
            sees("one comes", "gzip", b"gz");
            put(&at(".br"), b"br 1");
            sees("a better one comes", "br", b"br 1");
            put(&at(".br"), b"br 2");
            sees("it is replaced", "br", b"br 2");
            fs::write(at(".br"), pattern(50_000, 3)).unwrap();
            sees("it is rewritten, much longer", "br", &pattern(50_000, 3));
            fs::write(at(".br"), b"br 3").unwrap();
            sees("and again", "br", b"br 3");
            fs::rename(at(".br"), at(".zst")).unwrap();
            sees("it is renamed", "zstd", b"br 3");
            fs::remove_file(at(".zst")).unwrap();
            sees("it goes", "gzip", b"gz");
            fs::remove_file(at(".gz")).unwrap();
            sees("the last one goes", "identity", &plain.body);
            symlink("target", at(".br")).unwrap();
            sees("a link that leads nowhere", "identity", &plain.body);
            fs::write(server.root.join("d/target"), b"linked").unwrap();
            if after != "1h" {
                sees("what it leads to comes", "br", b"linked");
            }
            fs::remove_file(server.root.join("d/target")).unwrap();
            fs::remove_file(at(".br")).unwrap();
            sees("both go", "identity", &plain.body);
            fs::write(at(".br"), b"br 4").unwrap();
            sees("one comes again", "br", b"br 4");
            // Later by the file system's clock, which ticks slowly.
            std::thread::sleep(Duration::from_millis(30));
            put(&at(""), b"new");
            sees("the original is newer now", "identity", b"new");
            put(&at(".br"), b"br 5");
            sees("its sidecar follows", "br", b"br 5");
        }
    }
}

#[test]
fn the_target_of_a_symlinked_sidecar_is_revalidated_without_inotify() {
    let server = without_compression()
        .env("PAGECAST_REVALIDATE_AFTER", "100ms")
        .env("PAGECAST_REVALIDATE_WATCHED_AFTER", "1h")
        .file("site/a.js", b"plain")
        .file("out/x", b"")
        .serve();
    symlink("../out/a.br", server.root.join("site/a.js.br")).unwrap();
    assert_eq!(server.get_with("/site/a.js", ANY).text(), "plain");
    for bytes in ["first", "and second"] {
        fs::write(server.root.join("out/a.br"), bytes).unwrap();
        ask_until(&server, ("GET", "/site/a.js", ANY), |reply| reply.text() == bytes);
    }
}

#[test]
fn an_etag_identifies_one_body_however_often_files_are_replaced() {
    for [watch, after] in WATCHES {
        for size in [2000, 90_000] {
            let server = without_compression()
                .env("PAGECAST_WATCH", watch)
                .env("PAGECAST_REVALIDATE_AFTER", if after == "1h" { "1s" } else { after })
                .file("a.js", &text(size, 0))
                .file("a.js.gz", &gzip(&text(size, 0)))
                .serve();
            let is_done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for version in 1..60 {
                        put(&server.root.join("a.js"), &text(size, version));
                        if version % 3 == 0 {
                            fs::remove_file(server.root.join("a.js.gz")).unwrap();
                        } else {
                            put(&server.root.join("a.js.gz"), &gzip(&text(size, version)));
                        }
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    is_done.store(true, Ordering::Release);
                });
                for accepted in ["", ANY] {
                    let (server, is_done) = (&server, &is_done);
                    scope.spawn(move || {
                        let mut bodies = HashMap::new();
                        while !is_done.load(Ordering::Acquire) {
                            let reply = server.get_with("/a.js", accepted);
                            assert!(reply.status == 200 && reply.is_complete(), "{}", reply.status);
                            let plain = decoded(&reply);
                            let is_whole = (0..60).any(|version| plain == text(size, version));
                            assert!(is_whole, "a body of no version");
                            let tag = reply.field("etag").unwrap().to_owned();
                            let known = bodies.entry(tag).or_insert_with(|| sha256_hex(&reply.body));
                            assert_eq!(*known, sha256_hex(&reply.body), "one tag, two bodies");
                        }
                    });
                }
            });
            let last = ask_until(&server, ("GET", "/a.js", ANY), |reply| {
                coding(reply) == "gzip" && decoded(reply) == text(size, 59)
            });
            assert_eq!(last.status, 200);
        }
    }
}

#[test]
fn an_unreadable_sidecar_is_ignored() {
    for size in [1000, 60_000] {
        let server = without_compression()
            .unprivileged()
            .env("PAGECAST_REVALIDATE_AFTER", "0")
            .file("a.js", &pattern(size, 1))
            .file("a.js.br", b"br")
            .file("a.js.gz", b"gz")
            .serve();
        let at = server.root.join("a.js.br");
        allow(&at, 0o000);
        for _ in 0..10 {
            let reply = server.get_with("/a.js", ANY);
            assert_eq!((reply.status, coding(&reply)), (200, "gzip"), "{}", server.log());
            let reply = server.get_with("/a.js", "Accept-Encoding: br\r\n");
            assert_eq!((reply.status, coding(&reply)), (200, "identity"));
            assert!(reply.body == pattern(size, 1));
        }
        assert_eq!(server.get_with("/a.js", "Accept-Encoding: br, identity;q=0\r\n").status, 406);
        assert_eq!(server.log().matches("a.js.br").count(), 1, "{}", server.log());
        allow(&at, 0o644);
        ask_until(&server, ("GET", "/a.js", ANY), |reply| coding(reply) == "br");
    }
}

#[test]
fn a_sidecar_must_be_a_regular_file() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), b"secret").unwrap();
    let site = without_compression().env("PAGECAST_WATCH", "off").env("PAGECAST_REVALIDATE_AFTER", "0");
    let site = site.file("a.js", b"plain").file("a.js.br/x", b"x");
    symlink(outside.path().join("secret"), site.path().join("a.js.gz")).unwrap();
    let fifo = site.path().join("a.js.zst");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let server = site.serve();
    for _ in 0..5 {
        let reply = server.get_with("/a.js", ANY);
        assert_eq!((reply.status, reply.text().as_str(), coding(&reply)), (200, "plain", "identity"));
        assert_eq!(reply.field("vary"), None);
    }
    assert_eq!(server.get_with("/a.js.br/x", ANY).text(), "x");
    fs::remove_file(&fifo).unwrap();
    fs::write(&fifo, b"coded").unwrap();
    ask_until(&server, ("GET", "/a.js", ANY), |reply| reply.text() == "coded" && coding(reply) == "zstd");
}

#[test]
fn a_name_too_long_for_a_suffix_has_no_sidecars() {
    let name = format!("{}.js", "n".repeat(251));
    let server = without_compression().env("PAGECAST_REVALIDATE_AFTER", "0").file(&name, b"plain").serve();
    for _ in 0..3 {
        assert_eq!(server.get_with(&format!("/{name}"), ANY).text(), "plain");
    }
}

#[test]
fn text_is_compressed_in_the_background_and_then_sent_encoded() {
    for (token, _) in CODINGS {
        let lengths = [1024, 20_000, 40_000];
        let name = |length: usize| format!("/{length}.txt");
        let site = lengths
            .iter()
            .fold(Site::new(), |site, length| site.file(&name(*length)[1..], &text(*length, 1)));
        let server = site.serve();
        let accepted = format!("Accept-Encoding: {token}\r\n");
        for length in lengths {
            let first = server.get_with(&name(length), &accepted);
            assert_eq!((first.status, coding(&first)), (200, "identity"), "{length} in {token}");
            assert!(first.body == text(length, 1), "{length} in {token}");
            let coded = ask_until(&server, ("GET", &name(length), &accepted), |reply| coding(reply) == token);
            assert!(decoded(&coded) == text(length, 1), "{length} in {token}");
            assert!(coded.body.len() * 2 < length, "{length} in {token}: {}", coded.body.len());
            assert_ne!(coded.field("etag"), first.field("etag"), "{length} in {token}");
            for name in ["content-type", "cache-control", "last-modified", "vary", "accept-ranges"] {
                assert_eq!(coded.field(name), first.field(name), "{length} in {token}: {name}");
            }
            let again = server.get_with(&name(length), &accepted);
            assert_eq!(without_date(&again), without_date(&with_close(&coded)), "{length} in {token}");
            let tag = coded.field("etag").unwrap();
            let known = server.get_with(&name(length), &format!("{accepted}If-None-Match: {tag}\r\n"));
            assert_eq!((known.status, known.field("etag")), (304, Some(tag)), "{length} in {token}");
            let part = server.get_with(&name(length), &format!("{accepted}Range: bytes=3-9\r\n"));
            assert_eq!((part.status, coding(&part)), (206, token), "{length} in {token}");
            assert_eq!(part.body, coded.body[3..10], "{length} in {token}");
            let plain = server.get(&name(length));
            assert!(coding(&plain) == "identity" && plain.body == text(length, 1));
            assert_eq!(plain.field("etag"), first.field("etag"));
        }
    }
}

#[test]
fn only_text_within_the_size_limits_is_compressed() {
    let long = 8 * 1024 * 1024;
    let same = |length: usize| vec![b'x'; length];
    let server = Site::new()
        .file("below.txt", &same(1023))
        .file("least.txt", &same(1024))
        .file("most.txt", &same(long))
        .file("above.txt", &same(long + 1))
        .file("a.png", &same(2000))
        .file("a.bin", &same(2000))
        .file("a.svg", &same(2000))
        .file("a.json", &same(2000))
        .file("a.txt.gz", &same(2000))
        .serve();
    for (target, is_compressed) in [
        ("/below.txt", false),
        ("/least.txt", true),
        ("/above.txt", false),
        ("/a.png", false),
        ("/a.bin", false),
        ("/a.svg", true),
        ("/a.json", true),
        ("/a.txt.gz", false),
        ("/most.txt", true),
    ] {
        let first = server.get_with(target, ANY);
        assert_eq!(first.field("vary"), is_compressed.then_some("Accept-Encoding"), "{target}");
        if is_compressed {
            let coded = ask_until(&server, ("GET", target, ANY), |reply| coding(reply) == "br");
            assert!(decoded(&coded) == first.body, "{target}");
        } else {
            assert_eq!(coding(&server.get_with(target, ANY)), "identity", "{target}");
        }
    }
}

#[test]
fn nothing_is_compressed_if_that_is_off_or_there_is_no_cache() {
    for (name, value) in [("PAGECAST_COMPRESS", "off"), ("PAGECAST_HEAP_BYTES", "0")] {
        let server = Site::new().env(name, value).file("a.txt", &text(200_000, 1)).serve();
        for _ in 0..20 {
            let reply = server.get_with("/a.txt", ANY);
            assert_eq!((coding(&reply), reply.field("vary")), ("identity", None), "{name}");
        }
        assert_eq!(server.get_with("/a.txt", "Accept-Encoding: br, identity;q=0\r\n").status, 406, "{name}");
    }
}

#[test]
fn a_version_is_compressed_once_for_each_encoding() {
    for size in [9000, 20_000] {
        let server = Site::new()
            .env("PAGECAST_WATCH", "off")
            .env("PAGECAST_REVALIDATE_AFTER", "0")
            .env("PAGECAST_LOG", "debug")
            .file("a.txt", &text(size, 1))
            .serve();
        ask_until(&server, ("GET", "/a.txt", "Accept-Encoding: br\r\n"), |reply| coding(reply) == "br");
        for _ in 0..10 {
            assert_eq!(coding(&server.get_with("/a.txt", ANY)), "br");
        }
        // A sidecar replaces the file's cache entry and keeps the existing variant.
        fs::write(server.root.join("a.txt.gz"), b"gz").unwrap();
        let gzip = "Accept-Encoding: gzip\r\n";
        ask_until(&server, ("GET", "/a.txt", gzip), |reply| reply.text() == "gz");
        for _ in 0..10 {
            let reply = server.get_with("/a.txt", "Accept-Encoding: br\r\n");
            assert_eq!(coding(&reply), "br");
        }
        wait_for_all(&server);
        assert_eq!(compressed(&server, "/a.txt"), 1, "{}", server.log());
    }
}

#[test]
fn files_that_do_not_shrink_are_tried_once_and_sent_as_they_are() {
    let server = Site::new().env("PAGECAST_LOG", "debug").file("a.txt", &patterned(50_000)).serve();
    for _ in 0..10 {
        let reply = server.get_with("/a.txt", "Accept-Encoding: br\r\n");
        assert_eq!((coding(&reply), reply.field("vary")), ("identity", Some("Accept-Encoding")));
    }
    wait_for_all(&server);
    for _ in 0..10 {
        let reply = server.get_with("/a.txt", "Accept-Encoding: br\r\n");
        assert_eq!((coding(&reply), reply.field("vary")), ("identity", Some("Accept-Encoding")));
    }
    wait_for_all(&server);
    assert_eq!(compressed(&server, "/a.txt"), 1, "{}", server.log());
    let refused = server.get_with("/a.txt", "Accept-Encoding: br, identity;q=0\r\n");
    assert_eq!(refused.status, 406);
}

#[test]
fn a_client_that_refuses_identity_gets_503_until_the_variant_exists() {
    let server = Site::new().file("a.txt", &text(20_000, 1)).serve();
    let lines = "Accept-Encoding: br, identity;q=0\r\n";
    let first = server.get_with("/a.txt", lines);
    assert_eq!((first.status, first.field("vary")), (503, Some("Accept-Encoding")));
    assert!(first.field("retry-after").is_some());
    let coded = ask_until(&server, ("GET", "/a.txt", lines), |reply| reply.status != 503);
    assert_eq!((coded.status, coding(&coded)), (200, "br"));
    assert!(decoded(&coded) == text(20_000, 1));
}

#[test]
fn range_requests_start_no_compression_and_use_no_missing_variant() {
    let server = Site::new().env("PAGECAST_LOG", "debug").file("a.txt", &text(30_000, 1)).serve();
    for _ in 0..20 {
        let reply = server.get_with("/a.txt", &format!("{ANY}Range: bytes=10-19\r\n"));
        assert_eq!((reply.status, coding(&reply)), (206, "identity"));
        assert_eq!(reply.body, text(30_000, 1)[10..20]);
    }
    wait_for_all(&server);
    assert_eq!(compressed(&server, "/a.txt"), 0, "nothing was begun");
    assert_eq!(coding(&server.get_with("/a.txt", ANY)), "identity");
    let coded = ask_until(&server, ("HEAD", "/a.txt", ANY), |reply| coding(reply) == "br");
    let length = coded.content_length().unwrap();
    let part = server.get_with("/a.txt", &format!("{ANY}Range: bytes=10-19\r\n"));
    assert_eq!((part.status, coding(&part)), (206, "br"));
    assert_eq!(part.field("content-range"), Some(&*format!("bytes 10-19/{length}")));
}

#[test]
fn a_download_begun_as_identity_is_never_resumed_from_the_variant() {
    let server = Site::new().file("a.txt", &text(30_000, 1)).serve();
    let first = server.get_with("/a.txt", ANY);
    assert_eq!(coding(&first), "identity");
    let tag = first.field("etag").unwrap();
    ask_until(&server, ("GET", "/a.txt", ANY), |reply| coding(reply) == "br");
    let resumed = format!("Range: bytes=100-\r\nIf-Range: {tag}\r\n");
    let anew = server.get_with("/a.txt", &format!("{ANY}{resumed}"));
    assert_eq!((anew.status, coding(&anew)), (200, "br"));
    let rest = server.get_with("/a.txt", &resumed);
    assert_eq!((rest.status, coding(&rest)), (206, "identity"));
    assert!(rest.body == text(30_000, 1)[100..]);
}

#[test]
fn the_preferred_encoding_is_made_first() {
    let server = Site::new().env("PAGECAST_LOG", "debug").file("a.txt", &text(3000, 1)).serve();
    let lines = "Accept-Encoding: br;q=0.5, gzip, zstd;q=0.8\r\n";
    let coded = ask_until(&server, ("GET", "/a.txt", lines), |reply| coding(reply) != "identity");
    assert_eq!(coding(&coded), "gzip");
    wait_for_all(&server);
    assert_eq!(compressed(&server, "/a.txt"), 1, "nothing is made that nobody asks for");
    ask_until(&server, ("GET", "/a.txt", "Accept-Encoding: br\r\n"), |reply| coding(reply) == "br");
    assert_eq!(coding(&server.get_with("/a.txt", lines)), "gzip");
}

#[test]
fn a_sidecar_makes_compression_unnecessary() {
    let site = Site::new().env("PAGECAST_LOG", "debug").file("a.txt", &text(30_000, 1));
    let server = site.file("a.txt.gz", b"gz").serve();
    for _ in 0..3 {
        assert_eq!(coding(&server.get_with("/a.txt", ANY)), "gzip");
    }
    wait_for_all(&server);
    assert_eq!(compressed(&server, "/a.txt"), 0);
    // A client that does not accept it gets another representation.
    ask_until(&server, ("GET", "/a.txt", "Accept-Encoding: br\r\n"), |reply| coding(reply) == "br");
}

#[test]
fn a_new_version_is_never_served_with_the_variant_of_the_old_one() {
    for [watch, after] in WATCHES {
        for size in [3000, 20_000] {
            let server = Site::new()
                .env("PAGECAST_WATCH", watch)
                .env("PAGECAST_REVALIDATE_AFTER", after)
                .file("a.txt", &text(size, 1))
                .serve();
            for version in 2..5 {
                ask_until(&server, ("GET", "/a.txt", ANY), |reply| coding(reply) == "br");
                put(&server.root.join("a.txt"), &text(size, version));
                let new = ask_until(&server, ("GET", "/a.txt", ANY), |reply| {
                    let plain = decoded(reply);
                    assert!(plain == text(size, version - 1) || plain == text(size, version), "mixed");
                    plain == text(size, version)
                });
                assert_eq!(new.status, 200);
                let coded = ask_until(&server, ("GET", "/a.txt", ANY), |reply| {
                    assert!(decoded(reply) == text(size, version), "the old version again");
                    coding(reply) == "br"
                });
                assert!(coded.is_complete());
            }
        }
    }
}

#[test]
fn a_file_that_changes_while_it_is_compressed_costs_only_the_attempt() {
    let mut server = Site::new()
        .env("PAGECAST_REVALIDATE_AFTER", "0")
        .env("PAGECAST_WATCH", "off")
        .file("a.txt", &text(300_000, 1))
        .serve();
    let path = server.root.join("a.txt");
    for version in 2..6 {
        assert_eq!(server.get_with("/a.txt", ANY).status, 200);
        fs::File::options().write(true).open(&path).unwrap().set_len(10_000).unwrap();
        let cut = server.get_with("/a.txt", ANY);
        assert!(cut.status == 200 && decoded(&cut).len() == 10_000, "{version}");
        put(&path, &text(300_000, version));
        let new = server.get_with("/a.txt", ANY);
        assert!(new.status == 200 && decoded(&new) == text(300_000, version), "{version}");
    }
    put(&path, &text(20_000, 9));
    let coded = ask_until(&server, ("GET", "/a.txt", ANY), |reply| coding(reply) == "br");
    assert!(decoded(&coded) == text(20_000, 9));
    assert!(server.is_running());
}

#[test]
fn thousands_of_requests_are_served_while_files_are_compressed() {
    let site = (0..40).fold(Site::new(), |site, n| site.file(&format!("{n}.txt"), &text(40_000, n)));
    let server = site.file("big.txt", &text(300_000, 99)).serve();
    assert_eq!(server.get_with("/big.txt", ANY).status, 200);
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let server = &server;
            scope.spawn(move || {
                let mut client = Client::of(server);
                for round in 0..500 {
                    let n = (round * 7 + thread) % 40;
                    let accepted = ["Accept-Encoding: gzip\r\n", ANY][round as usize % 2];
                    let reply = client.ask("GET", &format!("/{n}.txt"), accepted);
                    assert!(reply.status == 200 && reply.is_complete(), "{n}: {}", reply.status);
                    assert!(decoded(&reply) == text(40_000, n), "{n}");
                }
            });
        }
    });
}

#[test]
fn with_a_small_heap_cache_variants_are_evicted_and_stay_right() {
    let site = (0..20).fold(Site::new(), |site, n| site.file(&format!("{n}.txt"), &text(9000, n)));
    let server = site.env("PAGECAST_HEAP_BYTES", "20KiB").env("PAGECAST_HEAP_FILE_BYTES", "16KiB").serve();
    let mut client = Client::of(&server);
    for round in 0..200 {
        let n = round % 20;
        let reply = client.ask("GET", &format!("/{n}.txt"), ANY);
        assert!(reply.status == 200 && decoded(&reply) == text(9000, n), "{n}");
    }
    ask_until(&server, ("GET", "/3.txt", ANY), |reply| coding(reply) == "br");
}

/// Number of times a file was compressed, by a log at the debug level.
fn compressed(server: &Server, target: &str) -> usize {
    let log = server.log();
    log.lines().filter(|line| line.contains(&format!("{target}: ")) && line.contains(" bytes are ")).count()
}

/// Waits until everything requested so far is compressed: one thread does that, in the order of the requests.
fn wait_for_all(server: &Server) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("last-{}.txt", COUNT.fetch_add(1, Ordering::Relaxed));
    put(&server.root.join(&name), &text(1024, 0));
    let accepted = "Accept-Encoding: gzip\r\n";
    ask_until(server, ("GET", &format!("/{name}"), accepted), |reply| coding(reply) == "gzip");
}

fn last_modified(reply: &Reply) -> &str {
    reply.field("last-modified").unwrap()
}

fn without_date(reply: &Reply) -> (u16, Vec<(String, String)>) {
    let fields = reply.fields.iter().filter(|(name, _)| name != "date").cloned();
    (reply.status, fields.collect())
}

/// The reply as on a connection that is closed after it.
fn with_close(reply: &Reply) -> Reply {
    let mut reply = reply.clone();
    reply.fields.insert(0, ("connection".into(), "close".into()));
    reply
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
