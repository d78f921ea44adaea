//! Checksums with responses (RFC 9530) and as responses, content entity tags, and files that must match their checksum.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::client::{Client, patterned};
use crate::encoding_helpers::{
    ask_until, coding, decoded, gzip, put, set_modified, sha256_field, sha256_hex, sha512_field, sha512_hex,
    text,
};
use crate::site::{Reply, Site};

/// A file that is hashed on request, a longer one on the heap, a mapped one, one sent by
/// `sendfile`, one without a mapping.
const FILES: [(&str, usize); 5] = [
    ("/small.bin", 100),
    ("/heap.bin", 60_000),
    ("/middle.bin", 90_000),
    ("/large.bin", 3_000_000),
    ("/unmapped.bin", 5_000_000),
];

fn site() -> Site {
    FILES
        .iter()
        .fold(Site::new(), |site, (name, length)| site.file(&name[1..], &patterned(*length)))
        .env("PAGECAST_HEAP_FILE_BYTES", "64KiB")
        .env("PAGECAST_CACHE_BYTES", "16MiB")
}

const SHA256: &str = "Want-Repr-Digest: sha-256=10\r\n";
const SHA512: &str = "Want-Repr-Digest: sha-512=10, sha-256=1\r\n";

#[test]
fn the_checksum_of_a_short_file_does_not_wait_for_long_ones() {
    let site = site();
    let long = ["/one.iso", "/two.iso", "/three.iso"];
    for name in long {
        fs::File::create(site.path().join(&name[1..])).unwrap().set_len(1 << 40).unwrap();
    }
    let server = site.serve();
    let _waiting = long.map(|name| {
        let mut client = Client::of(&server);
        client.send(format!("GET {name}?digest=sha-256 HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        client
    });
    let line = server.get("/large.bin?digest=sha-256");
    assert_eq!(line.status, 200);
    assert!(line.text().starts_with(&sha256_hex(&patterned(3_000_000))), "{}", line.text());
}

#[test]
fn a_head_request_that_wants_a_digest_waits_for_it() {
    let server = site().serve();
    let mut client = Client::of(&server);
    for (target, length) in FILES {
        let file = patterned(length);
        for (lines, expected) in [(SHA256, sha256_field(&file)), (SHA512, sha512_field(&file))] {
            let head = client.ask("HEAD", target, lines);
            assert_eq!(head.field("repr-digest"), Some(&*expected), "{target} {lines}");
            assert_eq!(head.field("content-digest"), None, "{target}: a HEAD has no content");
            let get = client.ask("GET", target, lines);
            assert_eq!(get.field("repr-digest"), Some(&*expected), "{target} {lines}");
            assert_eq!(get.field("content-digest"), Some(&*expected), "{target} {lines}");
            assert!(get.body == file, "{target}");
        }
        let both = client.ask("GET", target, "");
        let expected = format!("{}, {}", sha256_field(&file), sha512_field(&file));
        assert_eq!(both.field("repr-digest"), Some(&*expected), "{target}: a known digest is sent");
        assert_eq!(both.field("content-digest"), Some(&*expected), "{target}");
    }
}

#[test]
fn a_digest_is_sent_only_if_it_is_known_or_wanted() {
    let server = site().serve();
    for (target, length) in FILES {
        let file = patterned(length);
        assert_eq!(server.get(target).field("repr-digest"), None, "{target}");
        for lines in
            ["Want-Repr-Digest: md5=9\r\n", "Want-Repr-Digest: sha-256=0\r\n", "Want-Repr-Digest: x y\r\n"]
        {
            assert_eq!(server.get_with(target, lines).field("repr-digest"), None, "{target} {lines}");
        }
        let first = server.get_with(target, SHA256);
        assert!(first.body == file, "{target}");
        let is_sent = first.field("repr-digest").is_some();
        assert!(is_sent || length > 1000, "{target}: a small one is sent at once");
        let known = ask_until(&server, ("GET", target, ""), |reply| reply.field("repr-digest").is_some());
        assert_eq!(known.field("repr-digest"), Some(&*sha256_field(&file)), "{target}");
        assert_eq!(known.field("content-digest"), known.field("repr-digest"), "{target}");
    }
}

#[test]
fn a_digest_is_of_the_representation_and_the_content_of_a_part_has_none() {
    let server = site().serve();
    let mut client = Client::of(&server);
    for (target, length) in FILES {
        let expected = sha256_field(&patterned(length));
        assert_eq!(client.ask("HEAD", target, SHA256).field("repr-digest"), Some(&*expected), "{target}");
        let tag = client.ask("HEAD", target, "").field("etag").unwrap().to_owned();
        for (lines, status) in [
            ("Range: bytes=1-9\r\n".to_owned(), 206),
            ("Range: bytes=0-\r\n".to_owned(), 206),
            (format!("If-None-Match: {tag}\r\n"), 304),
        ] {
            for more in ["", SHA256] {
                let reply = client.ask("GET", target, &format!("{lines}{more}"));
                assert_eq!(reply.status, status, "{target} {lines}");
                assert_eq!(reply.field("repr-digest"), Some(&*expected), "{target} {lines}");
                assert_eq!(reply.field("content-digest"), None, "{target} {lines}");
            }
        }
        for (lines, status) in [("Range: bytes=9999999-\r\n", 416), ("If-Match: \"other\"\r\n", 412)] {
            let reply = client.ask("GET", target, &format!("{lines}{SHA256}"));
            assert_eq!((reply.status, reply.field("repr-digest")), (status, None), "{target} {lines}");
        }
    }
}

#[test]
fn the_digest_of_an_encoded_variant_is_of_the_encoded_bytes() {
    let site = Site::new().file("small.txt", &text(900, 1)).file("small.txt.gz", &gzip(&text(900, 1)));
    let site = site.file("large.bin", &patterned(300_000)).file("large.bin.gz", &gzip(&patterned(300_000)));
    let server = site.file("made.txt", &text(50_000, 1)).serve();
    let accepted = "Accept-Encoding: gzip\r\n";
    for target in ["/small.txt", "/large.bin", "/made.txt"] {
        ask_until(&server, ("GET", target, accepted), |reply| coding(reply) == "gzip");
        let coded = server.send(format!("HEAD {target} HTTP/1.1\r\nHost: x\r\n{accepted}{SHA256}\r\n"));
        let got = server.get_with(target, &format!("{accepted}{SHA256}"));
        assert_eq!(coding(&got), "gzip", "{target}");
        assert_eq!(coded.field("repr-digest"), Some(&*sha256_field(&got.body)), "{target}");
        assert_eq!(got.field("content-digest"), Some(&*sha256_field(&got.body)), "{target}");
        let plain = ask_until(&server, ("GET", target, SHA256), |reply| reply.field("repr-digest").is_some());
        assert_eq!(plain.field("repr-digest"), Some(&*sha256_field(&decoded(&got))), "{target}");
    }
}

#[test]
fn a_new_version_has_a_new_digest() {
    let server = site().env("PAGECAST_REVALIDATE_AFTER", "0").serve();
    for (target, length) in FILES {
        let path = server.root.join(&target[1..]);
        let ask = || server.send(format!("HEAD {target} HTTP/1.1\r\nHost: x\r\n{SHA256}\r\n"));
        assert_eq!(ask().field("repr-digest"), Some(&*sha256_field(&patterned(length))), "{target}");
        put(&path, &text(length, 2));
        let new = sha256_field(&text(length, 2));
        ask_until(&server, ("HEAD", target, SHA256), |reply| reply.field("repr-digest") == Some(&*new));
        fs::File::options().write(true).open(&path).unwrap().write_all_at(b"!", 0).unwrap();
        let newest = sha256_field(&fs::read(&path).unwrap());
        ask_until(&server, ("HEAD", target, SHA256), |reply| reply.field("repr-digest") == Some(&*newest));
    }
}

#[test]
fn a_rule_sends_digests_with_every_response_once_they_are_known() {
    let site = site().file(
        "rules.toml",
        b"[[rule]]\npath = \"/large.bin\"\ndigest = \"sha-256,sha-512\"\n\n\
          [[rule]]\npath = \"/*.bin\"\ndigest = true\n",
    );
    let config = site.path().join("rules.toml");
    let server = site.env("PAGECAST_CONFIG", config.to_str().unwrap()).serve();
    for (target, length) in FILES {
        let file = patterned(length);
        let both = format!("{}, {}", sha256_field(&file), sha512_field(&file));
        let expected = if target == "/large.bin" { both } else { sha256_field(&file) };
        let is_sent = |reply: &Reply| reply.field("repr-digest") == Some(&*expected);
        let reply = ask_until(&server, ("GET", target, ""), is_sent);
        assert_eq!(reply.field("content-digest"), Some(&*expected), "{target}");
        let wanted = ask_until(&server, ("GET", target, SHA512), |reply| {
            reply.field("repr-digest") == Some(&*sha512_field(&file))
        });
        assert!(wanted.body == file, "{target}: what the client asks for beats the rule");
    }
    assert_eq!(server.get("/rules.toml").field("repr-digest"), None);
}

#[test]
fn a_checksum_can_be_requested_in_the_format_of_sha256sum() {
    let server = site().file("a name.txt", b"x").file("back\\slash", b"x").file("end\nof line", b"x").serve();
    let mut client = Client::of(&server);
    let names = [
        ("/a%20name.txt", "", "a name.txt"),
        ("/back%5Cslash", "\\", "back\\\\slash"),
        ("/end%0Aof%20line", "\\", "end\\nof line"),
    ];
    let files = FILES.iter().map(|(target, length)| (*target, "", &target[1..], patterned(*length)));
    let odd = names.into_iter().map(|(target, mark, name)| (target, mark, name, b"x".to_vec()));
    for (target, mark, name, bytes) in files.chain(odd) {
        for (algorithm, digest) in [
            ("sha-256", sha256_hex(&bytes)),
            ("SHA-256", sha256_hex(&bytes)),
            ("sha-512", sha512_hex(&bytes)),
        ] {
            let asked = format!("{target}?digest={algorithm}");
            let reply = client.ask("GET", &asked, "");
            let line = format!("{mark}{digest}  {name}\n");
            assert_eq!((reply.status, reply.text()), (200, line.clone()), "{asked}");
            assert_eq!(reply.field("content-type"), Some("text/plain; charset=utf-8"), "{asked}");
            assert_eq!(reply.field("content-encoding"), None, "{asked}");
            let head = client.ask("HEAD", &asked, "Accept-Encoding: gzip\r\n");
            assert_eq!((head.status, head.content_length()), (200, Some(line.len() as u64)), "{asked}");
        }
        for unknown in ["md5", "sha256", "", "sha-256%20"] {
            let reply = client.ask("GET", &format!("{target}?digest={unknown}"), "");
            assert_eq!(reply.status, 400, "{target} {unknown}");
            assert!(reply.text().contains("sha-256 and sha-512"), "{target} {unknown}");
        }
    }
    assert_eq!(client.ask("GET", "/none?digest=sha-256", "").status, 404);
}

#[test]
fn sha256sum_accepts_the_checksum() {
    let server = Site::new().file("a b\\c\nd", &patterned(70_000)).serve();
    let line = server.get("/a%20b%5Cc%0Ad?digest=sha-256");
    let sums = server.root.join("sums");
    fs::write(&sums, &line.body).unwrap();
    let checked = std::process::Command::new("sha256sum")
        .args(["--check", "--strict", "--status", "sums"])
        .current_dir(&server.root)
        .status();
    assert!(checked.unwrap().success(), "{}", line.text());
}

#[test]
fn requests_that_cannot_wait_find_the_digest_later() {
    let server = site().env("PAGECAST_DIGEST_WAIT", "0").serve();
    for (target, length) in FILES {
        let file = patterned(length);
        let head = server.send(format!("HEAD {target} HTTP/1.1\r\nHost: x\r\n{SHA256}\r\n"));
        assert_eq!(head.status, 200, "{target}");
        let asked = format!("{target}?digest=sha-512");
        let first = server.get(&asked);
        assert!(first.status == 200 || (first.status == 503 && length > 1000), "{target}: {}", first.status);
        assert!(first.status == 200 || first.field("retry-after").is_some(), "{target}");
        ask_until(&server, ("HEAD", target, SHA256), |reply| {
            reply.field("repr-digest") == Some(&*sha256_field(&file))
        });
        let line = ask_until(&server, ("GET", &asked, ""), |reply| reply.status == 200);
        assert!(line.text().starts_with(&sha512_hex(&file)), "{target}");
    }
}

#[test]
fn many_requests_for_one_digest_leave_room_for_another() {
    let server =
        Site::new().file("long.bin", &patterned(16_000_000)).file("other.bin", &patterned(100_000)).serve();
    let mut streams: Vec<_> = (0..60).map(|_| Client::of(&server)).collect();
    for client in &mut streams {
        for _ in 0..30 {
            client.send(format!("HEAD /long.bin HTTP/1.1\r\nHost: x\r\n{SHA512}\r\n"));
        }
    }
    let other = server.send(format!("HEAD /other.bin HTTP/1.1\r\nHost: x\r\n{SHA256}\r\n"));
    assert_eq!(other.field("repr-digest"), Some(&*sha256_field(&patterned(100_000))));
    let expected = sha512_field(&patterned(16_000_000));
    for client in &mut streams {
        assert_eq!(client.read("HEAD").field("repr-digest"), Some(&*expected));
    }
}

#[test]
fn a_file_truncated_while_it_is_hashed_costs_only_the_attempt() {
    let mut server = Site::new()
        .env("PAGECAST_REVALIDATE_AFTER", "0")
        .env("PAGECAST_ETAG", "content")
        .env("PAGECAST_DIGEST_WAIT", "0")
        .file("a.bin", &patterned(8_000_000))
        .serve();
    let path = server.root.join("a.bin");
    for version in 1..5 {
        put(&path, &patterned(8_000_000 + version));
        assert_eq!(server.send(format!("HEAD /a.bin HTTP/1.1\r\nHost: x\r\n{SHA256}\r\n")).status, 200);
        fs::File::options().write(true).open(&path).unwrap().set_len(70_000).unwrap();
        let cut =
            ask_until(&server, ("HEAD", "/a.bin", SHA256), |reply| reply.field("repr-digest").is_some());
        assert_eq!(cut.field("repr-digest"), Some(&*sha256_field(&patterned(70_000))));
    }
    assert!(server.is_running());
}

#[test]
fn content_etags_are_the_same_on_every_replica() {
    let serve = |age: u64| {
        let site = site().env("PAGECAST_ETAG", "content").file("t.txt", &text(30_000, 1));
        let site = site.file("small.bin.gz", b"coded").file("large.bin.gz", &patterned(400_000));
        for name in fs::read_dir(site.path()).unwrap() {
            set_modified(&name.unwrap().path(), SystemTime::now() - Duration::from_secs(age));
        }
        site.serve()
    };
    let (one, other) = (serve(1_000), serve(2_000_000));
    let targets = FILES.iter().map(|(target, _)| *target).chain(["/t.txt", "/small.bin.gz"]);
    let mut tags = std::collections::HashMap::new();
    for target in targets {
        for lines in ["", "Accept-Encoding: gzip\r\n"] {
            let is_final = |reply: &Reply| {
                let is_coded = ["/t.txt", "/small.bin", "/large.bin"].contains(&target) && !lines.is_empty();
                is_strong(reply) && is_coded == (coding(reply) == "gzip")
            };
            let first = ask_until(&one, ("GET", target, lines), is_final);
            let second = ask_until(&other, ("GET", target, lines), is_final);
            assert_eq!(first.field("etag"), second.field("etag"), "{target} {lines}");
            assert!(first.body == second.body, "{target} {lines}");
            let known = tags
                .entry(first.field("etag").unwrap().to_owned())
                .or_insert_with(|| sha256_hex(&first.body));
            assert_eq!(*known, sha256_hex(&first.body), "{target} {lines}: one tag, two bodies");
            let condition = format!("{lines}If-None-Match: {}\r\n", first.field("etag").unwrap());
            assert_eq!(other.get_with(target, &condition).status, 304, "{target} {lines}");
        }
    }
}

#[test]
fn until_its_hash_is_known_a_file_has_a_weak_etag() {
    let long = patterned(16_000_000);
    let server = Site::new()
        .env("PAGECAST_ETAG", "content")
        .file("long.bin", &long)
        .file("long.bin.br", &patterned(15_000_000))
        .serve();
    for lines in ["", "Accept-Encoding: br\r\n"] {
        let first = server.send(format!("HEAD /long.bin HTTP/1.1\r\nHost: x\r\n{lines}\r\n"));
        let weak = first.field("etag").unwrap().to_owned();
        // A fast machine may know it already.
        if weak.starts_with("W/") {
            let resumed =
                server.get_with("/long.bin", &format!("{lines}Range: bytes=5-9\r\nIf-Range: {weak}\r\n"));
            assert_eq!((resumed.status, resumed.is_complete()), (200, true), "a weak tag permits no range");
            let plain = server.get_with("/long.bin", &format!("{lines}Range: bytes=5-9\r\n"));
            assert_eq!(plain.status, 206);
            let known = server.get_with("/long.bin", &format!("{lines}If-None-Match: {weak}\r\n"));
            assert!(known.status == 304 || is_strong(&known), "{}", known.status);
            let wanted = server.get_with("/long.bin", &format!("{lines}If-Match: {weak}\r\n"));
            assert_eq!(wanted.status, 412, "a weak tag matches nothing strongly");
        }
        let strong = ask_until(&server, ("HEAD", "/long.bin", lines), is_strong);
        let tag = strong.field("etag").unwrap();
        let resumed =
            server.get_with("/long.bin", &format!("{lines}Range: bytes=5-9\r\nIf-Range: {tag}\r\n"));
        assert_eq!((resumed.status, resumed.field("etag")), (206, Some(tag)));
        assert_eq!(server.get_with("/long.bin", &format!("{lines}If-None-Match: {tag}\r\n")).status, 304);
    }
}

#[test]
fn content_etags_become_strong_and_change_only_with_the_content() {
    for [watch, after] in [["on", "1h"], ["off", "100ms"], ["off", "0"]] {
        let server = site()
            .env("PAGECAST_ETAG", "content")
            .env("PAGECAST_DIGESTS", "16")
            .env("PAGECAST_WATCH", watch)
            .env("PAGECAST_REVALIDATE_AFTER", after)
            .serve();
        for (target, length) in FILES {
            let path = server.root.join(&target[1..]);
            let tag_of = |bytes: &[u8]| {
                let is_so = |reply: &Reply| is_strong(reply) && reply.body == bytes;
                let reply = ask_until(&server, ("GET", target, ""), is_so);
                reply.field("etag").unwrap().to_owned()
            };
            let first = tag_of(&patterned(length));
            put(&path, &text(length, 2));
            let second = tag_of(&text(length, 2));
            assert_ne!(first, second, "{target}");
            put(&path, &patterned(length));
            assert_eq!(tag_of(&patterned(length)), first, "{target}, watch {watch}, {after}");
            set_modified(&path, UNIX_EPOCH + Duration::from_secs(1_000_000_000));
            ask_until(&server, ("GET", target, ""), |reply| {
                reply.field("last-modified") == Some("Sun, 09 Sep 2001 01:46:40 GMT")
                    && reply.field("etag") == Some(&*first)
            });
        }
    }
}

#[test]
fn constant_build_times_are_not_sent_as_dates() {
    let server = Site::new().env("PAGECAST_REVALIDATE_AFTER", "0").file("a.js", b"x").serve();
    let path = server.root.join("a.js");
    for (seconds, date) in [
        (0, None),
        (1, None),
        (315_532_799, None),
        (315_532_800, None),
        (315_532_801, Some("Tue, 01 Jan 1980 00:00:01 GMT")),
    ] {
        set_modified(&path, UNIX_EPOCH + Duration::from_secs(seconds));
        let reply = ask_until(&server, ("GET", "/a.js", ""), |reply| reply.field("last-modified") == date);
        assert!(reply.field("etag").is_some(), "{seconds}");
        let since = "If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT\r\n";
        let status = if date.is_some() { 304 } else { 200 };
        assert_eq!(server.get_with("/a.js", since).status, status, "{seconds}");
    }
    // A tree with one date throughout: a sidecar is as old as its original.
    fs::write(server.root.join("a.js.gz"), b"coded").unwrap();
    for name in ["a.js", "a.js.gz"] {
        set_modified(&server.root.join(name), UNIX_EPOCH + Duration::from_secs(1));
    }
    ask_until(&server, ("GET", "/a.js", "Accept-Encoding: gzip\r\n"), |reply| coding(reply) == "gzip");
}

#[test]
fn a_file_is_served_only_if_it_matches_the_checksum_beside_it() {
    let right = sha256_hex(b"content");
    let wrong = sha256_hex(b"other");
    for (checksum, status) in [
        (right.clone(), 200),
        (format!("{right}\n"), 200),
        (right.to_uppercase(), 200),
        (format!("{right}  f.bin\n"), 200),
        (format!("{right} *f.bin\r\n"), 200),
        (format!("SHA256 (f.bin) = {right}\n"), 200),
        (format!("{wrong}  g.bin\n{right}  f.bin\n"), 200),
        (format!("{right}  g.bin\n{wrong}  f.bin\n"), 500),
        (wrong.clone(), 500),
        (format!("{wrong}  f.bin\n"), 500),
        (String::new(), 500),
        ("\n".into(), 500),
        ("garbage".into(), 500),
        (right[1..].into(), 500),
        (format!("{right}0"), 500),
        (" ".repeat(100_000), 500),
    ] {
        let site = Site::new().file("f.bin", b"content").file("f.bin.sha256", checksum.as_bytes());
        let site = site.file("f.bin.gz", b"coded").file("none.bin", b"content");
        let server = site.env("PAGECAST_VERIFY", "serve").serve();
        let mut client = Client::of(&server);
        for lines in ["", "Accept-Encoding: gzip\r\n", "Range: bytes=0-2\r\n", "If-None-Match: *\r\n"] {
            for method in ["GET", "HEAD"] {
                let reply = client.ask(method, "/f.bin", lines);
                let about = format!("{method} {lines} {checksum:.80}: {}", reply.status);
                assert_eq!(reply.status == 500, status == 500, "{about}");
                if status == 500 && method == "GET" {
                    assert_eq!(reply.text(), "Something failed.\n", "{about}");
                }
            }
        }
        assert_eq!(client.ask("GET", "/f.bin?digest=sha-256", "").status, status, "{checksum:.80}");
        assert_eq!(client.ask("GET", "/none.bin", "").status, 200, "who has no checksum is served");
        assert_eq!(client.ask("GET", "/f.bin.sha256", "").text(), checksum, "the checksum itself is a file");
        let complaints = server.log().matches("/f.bin").count();
        assert_eq!(complaints, usize::from(status == 500), "{}", server.log());
    }
    let trusting = Site::new().file("f.bin", b"content").file("f.bin.sha256", wrong.as_bytes()).serve();
    assert_eq!(trusting.get("/f.bin").text(), "content");
}

#[test]
fn a_long_file_is_sent_only_after_it_was_verified() {
    let long = patterned(12_000_000);
    let digest = sha256_hex(&long);
    let server = Site::new()
        .env("PAGECAST_VERIFY", "serve")
        .file("right.bin", &long)
        .file("right.bin.sha256", digest.as_bytes())
        .file("wrong.bin", &long[1..])
        .file("wrong.bin.sha256", digest.as_bytes())
        .serve();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let reply = server.get("/right.bin");
                assert!(reply.status == 200 && reply.body == long, "{}", reply.status);
                assert_eq!(server.get("/wrong.bin").status, 500);
            });
        }
    });
    let known = server.get("/right.bin");
    assert_eq!(known.field("repr-digest"), Some(&*sha256_field(&long)));
}

#[test]
fn requests_that_cannot_wait_for_verification_get_503() {
    let long = patterned(5_000_000);
    let server = Site::new()
        .env("PAGECAST_VERIFY", "serve")
        .env("PAGECAST_DIGEST_WAIT", "0")
        .file("a.bin", &long)
        .file("a.bin.sha256", sha256_hex(&long).as_bytes())
        .serve();
    let first = server.get("/a.bin");
    assert!(first.status == 200 || (first.status == 503 && first.field("retry-after").is_some()));
    let served = ask_until(&server, ("GET", "/a.bin", ""), |reply| reply.status != 503);
    assert!(served.status == 200 && served.body == long);
}

#[test]
fn checksums_may_be_added_changed_and_removed_while_the_server_runs() {
    for [watch, after] in [["on", "1h"], ["off", "100ms"], ["off", "0"]] {
        for size in [500, 90_000] {
            let server = Site::new()
                .env("PAGECAST_VERIFY", "serve")
                .env("PAGECAST_WATCH", watch)
                .env("PAGECAST_REVALIDATE_AFTER", after)
                .file("d/a.bin", &text(size, 1))
                .serve();
            let (file, sums) = (server.root.join("d/a.bin"), server.root.join("d/a.bin.sha256"));
            let sees = |what: &str, status: u16, bytes: &[u8]| {
                eprintln!("watch {watch}, {after}, {size} bytes: {what}");
                let is_so = |reply: &Reply| {
                    assert!(matches!(reply.status, 200 | 500), "{}", reply.status);
                    reply.status == status && (status == 500 || reply.body == bytes)
                };
                ask_until(&server, ("GET", "/d/a.bin", ""), is_so);
            };
            sees("no checksum", 200, &text(size, 1));
            fs::write(&sums, sha256_hex(b"other")).unwrap();
            sees("a wrong one comes", 500, b"");
            // In place and at once: neither length nor inode shows it.
            fs::write(&sums, sha256_hex(&text(size, 1))).unwrap();
            sees("it is corrected", 200, &text(size, 1));
            put(&file, &text(size, 2));
            sees("the file is another", 500, b"");
            put(&sums, sha256_hex(&text(size, 2)).as_bytes());
            sees("its checksum follows", 200, &text(size, 2));
            fs::write(&sums, b"garbage").unwrap();
            sees("it is garbage", 500, b"");
            fs::remove_file(&sums).unwrap();
            sees("it goes", 200, &text(size, 2));
        }
    }
}

#[test]
fn no_byte_of_a_wrong_file_is_sent_while_file_and_checksum_are_replaced() {
    for size in [500, 90_000] {
        let server = Site::new()
            .env("PAGECAST_VERIFY", "serve")
            .env("PAGECAST_WATCH", "off")
            .env("PAGECAST_REVALIDATE_AFTER", "0")
            .file("a.bin", &text(size, 0))
            .file("a.bin.sha256", sha256_hex(&text(size, 0)).as_bytes())
            .serve();
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for version in 1..40 {
                    // Every third version never matches.
                    let says = if version % 3 == 0 { 1000 } else { version };
                    put(&server.root.join("a.bin.sha256"), sha256_hex(&text(size, says)).as_bytes());
                    std::thread::sleep(Duration::from_millis(7));
                    put(&server.root.join("a.bin"), &text(size, version));
                    std::thread::sleep(Duration::from_millis(7));
                }
                is_done.store(true, Ordering::Release);
            });
            scope.spawn(|| {
                while !is_done.load(Ordering::Acquire) {
                    let reply = server.get("/a.bin");
                    assert!(matches!(reply.status, 200 | 500 | 503), "{}", reply.status);
                    if reply.status == 200 {
                        let of = (0..40).find(|version| reply.body == text(size, *version));
                        assert!(of.is_some_and(|version| version == 0 || version % 3 != 0), "{of:?}");
                    }
                }
            });
        });
    }
}

#[test]
fn a_file_with_an_unreadable_checksum_is_not_served() {
    let server = Site::new()
        .unprivileged()
        .env("PAGECAST_VERIFY", "serve")
        .env("PAGECAST_REVALIDATE_AFTER", "0")
        .file("a.bin", b"content")
        .file("a.bin.sha256", sha256_hex(b"content").as_bytes())
        .serve();
    let sums = server.root.join("a.bin.sha256");
    allow(&sums, 0o000);
    ask_until(&server, ("GET", "/a.bin", ""), |reply| reply.status == 500);
    allow(&sums, 0o644);
    ask_until(&server, ("GET", "/a.bin", ""), |reply| reply.text() == "content");
}

#[test]
fn an_error_page_that_does_not_match_its_checksum_is_not_sent() {
    let server = Site::new()
        .env("PAGECAST_VERIFY", "serve")
        .file("404.html", b"page")
        .file("404.html.sha256", sha256_hex(b"other").as_bytes())
        .serve();
    let missing = server.get("/none");
    assert_eq!((missing.status, missing.text().as_str()), (404, "Not found.\n"));
}

#[test]
fn a_name_that_is_not_utf8_has_a_checksum_too() {
    let site = Site::new();
    let name = std::ffi::OsStr::from_bytes(b"caf\xE9");
    fs::write(site.path().join(name), b"x").unwrap();
    let server = site.serve();
    let reply = server.get("/caf%E9?digest=sha-256");
    assert_eq!(reply.body, [sha256_hex(b"x").as_bytes(), b"  caf\xE9\n"].concat());
}

fn is_strong(reply: &Reply) -> bool {
    reply.field("etag").is_some_and(|tag| tag.starts_with('"'))
}

fn allow(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
