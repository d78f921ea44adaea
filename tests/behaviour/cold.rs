//! Files that are not in memory: they are served right, and delay nobody else.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::site::{Reply, Site, pattern};

const LENGTH: usize = 5 * 1024 * 1024 + 123;

/// Settings of the caches.
const KINDS: [(&str, &[(&str, &str)]); 3] = [
    ("mapped", &[]),
    ("not mapped", &[("PAGECAST_CACHE_BYTES", "0")]),
    ("mapped, all by writev", &[("PAGECAST_SENDFILE_FROM", "1GiB")]),
];

#[test]
fn a_cold_file_is_sent_in_full() {
    let bytes = pattern(LENGTH, 1);
    for (kind, environment) in KINDS {
        let server = with(Site::new().file("x", &bytes), environment).serve();
        for round in 0..3 {
            make_cold(&server.root.join("x"));
            let reply = server.get("/x");
            assert_eq!(reply.status, 200);
            assert!(reply.body == bytes, "{kind}, round {round}");
        }
    }
}

#[test]
fn ranges_of_a_cold_file_are_right() {
    let bytes = pattern(LENGTH, 1);
    let window = 256 * 1024;
    for (kind, environment) in KINDS {
        let server = with(Site::new().file("x", &bytes), environment).serve();
        for (start, end) in [
            (0, 1),
            (0, window),
            (1, window + 1),
            (window - 1, window + 1),
            (window, 2 * window),
            (3 * window - 10, 3 * window + 70_000),
            (LENGTH - 1, LENGTH),
            (LENGTH - 300_000, LENGTH),
            (12_345, LENGTH - 12_345),
        ] {
            make_cold(&server.root.join("x"));
            let reply = server.get_with("/x", &format!("Range: bytes={start}-{}\r\n", end - 1));
            assert_eq!(reply.status, 206);
            assert!(reply.body == bytes[start..end], "{kind}, {start}..{end}");
        }
        make_cold(&server.root.join("x"));
        let parts = server.get_with("/x", "Range: bytes=10-19,1000000-1299999,-5\r\n");
        assert_eq!(parts.status, 206, "{kind}");
        assert!(parts.is_complete(), "{kind}");
        for range in [10..20, 1_000_000..1_300_000, LENGTH - 5..LENGTH] {
            let wanted = &bytes[range.clone()];
            assert!(memchr::memmem::find(&parts.body, wanted).is_some(), "{kind}, {range:?}");
        }
    }
}

#[test]
fn a_file_that_turns_cold_while_it_is_sent_is_sent_in_full() {
    let bytes = pattern(3 * LENGTH, 1);
    let server = Site::new().file("x", &bytes).serve();
    let mut stream = server.connect_narrow();
    stream.write_all(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let path = server.root.join("x");
    let is_over = Arc::new(AtomicBool::new(false));
    let cooling = std::thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            while !is_over.load(Ordering::Relaxed) {
                make_cold(&path);
            }
        }
    });
    let reply = Reply::read(&mut stream, false).unwrap();
    is_over.store(true, Ordering::Relaxed);
    cooling.join().unwrap();
    assert!(reply.body == bytes, "came as far as {}", reply.body.len());
}

#[test]
fn a_hot_file_is_served_beside_many_readers_of_cold_ones() {
    const COLD: usize = 16;
    let bytes = Arc::new(pattern(LENGTH, 1));
    let mut site = Site::with([("hot", b"hot")]).env("PAGECAST_WORKERS", "1");
    for n in 0..COLD {
        site = site.file(&format!("cold{n}"), &bytes);
    }
    let server = Arc::new(site.serve());
    assert_eq!(server.get("/hot").text(), "hot");
    for n in 0..COLD {
        make_cold(&server.root.join(format!("cold{n}")));
    }
    let readers: Vec<_> = (0..COLD)
        .map(|n| {
            let (server, bytes) = (Arc::clone(&server), Arc::clone(&bytes));
            std::thread::spawn(move || {
                for _ in 0..3 {
                    let reply = server.get(&format!("/cold{n}"));
                    assert!(reply.body == *bytes, "cold{n}");
                    make_cold(&server.root.join(format!("cold{n}")));
                }
            })
        })
        .collect();
    let mut hot = server.connect();
    for _ in 0..500 {
        hot.write_all(b"GET /hot HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(Reply::read(&mut hot, false).unwrap().text(), "hot");
    }
    for reader in readers {
        reader.join().unwrap();
    }
}

#[test]
fn a_small_cold_file_is_sent_in_full() {
    for length in [100, 16_384, 16_385, 60_000] {
        let bytes = pattern(length, 1);
        let site = Site::new().file("x", &bytes);
        make_cold(&site.path().join("x"));
        let server = site.serve();
        assert!(server.get("/x").body == bytes, "{length}");
        make_cold(&server.root.join("x"));
        assert!(server.get_with("/x", "Range: bytes=10-\r\n").body == bytes[10..], "{length}");
    }
}

fn with(site: Site, environment: &[(&str, &str)]) -> Site {
    environment.iter().fold(site, |site, (name, value)| site.env(name, value))
}

/// Drops a file's pages from memory.
pub fn make_cold(path: &Path) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}
