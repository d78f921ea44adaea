//! Files on the disk: every length, holes past 4 GiB, special files, unreadable files.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, inotify, makedev, mknodat};

use crate::cold::make_cold;
use crate::site::{Reply, Site, pattern};

#[test]
fn files_of_every_length_are_sent_byte_for_byte() {
    let lengths = [
        0, 1, 2, 4095, 4096, 4097, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 131_072, 262_143, 262_144,
        262_145, 524_288, 1_048_576, 1_048_577,
    ];
    let bytes = pattern(1_048_577, 1);
    let site =
        lengths.iter().fold(Site::new(), |site, &length| site.file(&format!("f{length}"), &bytes[..length]));
    let server = site.serve();
    for length in lengths {
        let target = format!("/f{length}");
        for round in ["from the disk", "from the cache"] {
            let reply = server.get(&target);
            assert_eq!(
                (reply.status, reply.content_length()),
                (200, Some(length as u64)),
                "{length} {round}"
            );
            assert!(reply.body == bytes[..length], "{length} {round}");
        }
        let head = server.send(format!("HEAD {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!((head.status, head.content_length()), (200, Some(length as u64)), "HEAD of {length}");
        let last = server.get_with(&target, "Range: bytes=-1\r\n");
        match length {
            // Satisfiable by RFC 9110 §14.1.2, and no `Content-Range` can say it.
            0 => assert_eq!((last.status, last.body.len()), (200, 0), "all of nothing"),
            _ => assert_eq!((last.status, &last.body[..]), (206, &bytes[length - 1..length]), "{length}"),
        }
        if length > 2 {
            let inner = server.get_with(&target, &format!("Range: bytes=1-{}\r\n", length - 2));
            assert_eq!(inner.status, 206, "{length}");
            assert!(inner.body == bytes[1..length - 1], "all but the outermost of {length}");
        }
    }
}

#[test]
fn a_file_of_5_gib_is_served_to_its_last_byte() {
    const LENGTH: u64 = 5 << 30;
    const EDGE: u64 = 4 << 30;
    let site = Site::new();
    let file = File::create(site.path().join("huge")).unwrap();
    file.set_len(LENGTH).unwrap();
    file.write_all_at(b"around the edge.", EDGE - 8).unwrap();
    file.write_all_at(b"the end", LENGTH - 7).unwrap();
    // Once more than may be mapped, once less.
    for cache in ["1GiB", "64GiB"] {
        let site = Site::new().env("PAGECAST_CACHE_BYTES", cache);
        let server = site.env("PAGECAST_ROOT", server_path(&file).as_str()).serve();
        let head = server.send("HEAD /huge HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!((head.status, head.content_length()), (200, Some(LENGTH)), "{cache}");
        for (range, expected, content_range) in [
            ("-1", &b"d"[..], (LENGTH - 1, LENGTH - 1)),
            ("-7", b"the end", (LENGTH - 7, LENGTH - 1)),
            ("5368709113-", b"the end", (LENGTH - 7, LENGTH - 1)),
            ("5368709113-99999999999", b"the end", (LENGTH - 7, LENGTH - 1)),
            ("4294967288-4294967303", b"around the edge.", (EDGE - 8, EDGE + 7)),
            ("4294967295-4294967295", b"t", (EDGE - 1, EDGE - 1)),
            ("4294967296-4294967296", b"h", (EDGE, EDGE)),
            ("0-3", b"\0\0\0\0", (0, 3)),
        ] {
            let reply = server.get_with("/huge", &format!("Range: bytes={range}\r\n"));
            assert_eq!((reply.status, &reply.body[..]), (206, expected), "{range} {cache}");
            let (first, last) = content_range;
            let expected = format!("bytes {first}-{last}/{LENGTH}");
            assert_eq!(reply.field("content-range"), Some(expected.as_str()), "{range}");
        }
        let beyond = server.get_with("/huge", "Range: bytes=5368709120-\r\n");
        assert_eq!((beyond.status, beyond.field("content-range")), (416, Some("bytes */5368709120")));
        let parts = server.get_with("/huge", "Range: bytes=0-0,4294967288-4294967303,-7\r\n");
        assert_eq!(parts.status, 206);
        assert!(parts.is_complete());
        for piece in ["around the edge.", "the end", "bytes 5368709113-5368709119/5368709120"] {
            assert!(parts.text().contains(piece), "{piece}");
        }
        let across = server.get_with("/huge", "Range: bytes=4293967296-4295967295\r\n");
        let mut expected = vec![0; 2_000_000];
        expected[999_992..1_000_008].copy_from_slice(b"around the edge.");
        assert!(across.body == expected, "a long range across 4 GiB");
    }
}

/// The directory of an open file.
fn server_path(file: &File) -> String {
    use std::os::fd::AsRawFd;
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    path.parent().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn special_files_are_404_without_blocking() {
    let site = Site::new();
    let at = |name: &str| site.path().join(name);
    make_fifo(&at("fifo"));
    make_fifo(&at("fifo-with-writer"));
    symlink("fifo", at("link-to-fifo")).unwrap();
    let _listener = UnixListener::bind(at("socket")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    symlink("loop", at("loop")).unwrap();
    fs::create_dir(at("directory")).unwrap();
    let mut targets =
        vec!["/fifo", "/fifo-with-writer", "/link-to-fifo", "/socket", "/dangling", "/loop", "/directory/"];
    // The device node of /dev/null, which only root can make; otherwise the attempt must fail.
    let null = mknodat(CWD, at("null"), FileType::CharacterDevice, Mode::from(0o666), makedev(1, 3));
    match null {
        Ok(()) => targets.push("/null"),
        Err(error) => assert!(!rustix::process::geteuid().is_root() || is_contained(), "{error}"),
    }
    let writer_path = at("fifo-with-writer");
    let writer = std::thread::spawn(move || OpenOptions::new().write(true).open(writer_path).map(drop));
    let server = site.serve();
    for round in 0..3 {
        for target in &targets {
            for lines in ["", "Range: bytes=0-0\r\n"] {
                assert_eq!(server.get_with(target, lines).status, 404, "{target}, round {round}");
            }
        }
    }
    assert!(!writer.is_finished(), "the server has not opened the fifo: its writer still waits");
    let _reader = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(server.root.join("fifo-with-writer"))
        .unwrap();
    writer.join().unwrap().unwrap();
}

#[test]
fn a_file_replaced_by_a_fifo_is_404() {
    let server = Site::with([("x", b"x")]).env("PAGECAST_REVALIDATE_AFTER", "0").serve();
    assert_eq!(server.get("/x").text(), "x");
    fs::remove_file(server.root.join("x")).unwrap();
    make_fifo(&server.root.join("x"));
    assert_eq!(server.get("/x").status, 404);
}

#[test]
fn an_unreadable_file_is_403_until_it_is_readable() {
    let site = Site::with([("small", b"s"), ("inside/file", b"i")])
        .file("large", &pattern(100_000, 1))
        .env("PAGECAST_REVALIDATE_AFTER", "0")
        .unprivileged();
    let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    for name in ["small", "large", "inside"] {
        set(&site.path().join(name), 0);
    }
    let server = site.serve();
    for target in ["/small", "/large", "/inside/file"] {
        let reply = server.get(target);
        assert_eq!(reply.status, 403, "{target}");
        assert!(!reply.text().contains(server.root.to_str().unwrap()), "no path is shown");
    }
    for (name, target, mode) in
        [("small", "/small", 0o644), ("large", "/large", 0o644), ("inside", "/inside/file", 0o755)]
    {
        set(&server.root.join(name), mode);
        assert_eq!(server.get(target).status, 200, "{target}");
    }
    // It is unreadable from now on, for the cache as well.
    set(&server.root.join("small"), 0);
    assert_eq!(server.get("/small").status, 403);
    set(&server.root.join("small"), 0o644);
}

#[test]
fn a_cold_file_requested_by_64_clients_at_once_is_opened_once() {
    const CLIENTS: usize = 64;
    for length in [1000, 3_000_000] {
        let bytes = pattern(length, 1);
        let server = Site::new().file("cold", &bytes).serve();
        let path = server.root.join("cold");
        make_cold(&path);
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&watch, &path, inotify::WatchFlags::OPEN).unwrap();
        let barrier = Arc::new(Barrier::new(CLIENTS));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (mut stream, barrier) = (server.connect(), Arc::clone(&barrier));
                std::thread::spawn(move || {
                    barrier.wait();
                    stream.write_all(b"GET /cold HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
                    Reply::read(&mut stream, false).unwrap()
                })
            })
            .collect();
        for client in clients {
            let reply = client.join().unwrap();
            assert!(reply.status == 200 && reply.body == bytes, "a client of {length} bytes");
        }
        assert_eq!(count_events(watch.as_fd()), 1, "opens of {length} bytes");
    }
}

#[test]
fn a_missing_root_makes_the_server_unready_until_it_is_back() {
    let site = Site::with([("sub/a", b"a")]).env("PAGECAST_ADMIN_LISTEN", "127.0.0.1:0");
    let (root, away) = (site.path().join("sub"), site.path().join("away"));
    let server = site.env("PAGECAST_ROOT", root.to_str().unwrap()).serve();
    for _ in 0..2 {
        assert_eq!(server.get_until("/readyz", |reply| reply.status == 200).text(), "ok\n");
        assert_eq!(server.get("/a").text(), "a");
        fs::rename(&root, &away).unwrap();
        let unready = server.get_until("/readyz", |reply| reply.status == 503);
        assert_eq!(unready.text(), "The document root can't be read.\n");
        assert_eq!(unready.field("cache-control"), Some("no-store"));
        assert_eq!(server.get("/healthz").status, 503);
        assert_eq!(server.get("/livez").status, 200);
        let of_admin = ["/livez", "/readyz", "/healthz"].map(|target| server.get_admin(target).status);
        assert_eq!(of_admin, [200, 503, 503]);
        fs::rename(&away, &root).unwrap();
    }
    server.get_until("/readyz", |reply| reply.status == 200);
    // Another directory at its path is used.
    fs::rename(&root, &away).unwrap();
    server.get_until("/readyz", |reply| reply.status == 503);
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a"), b"another").unwrap();
    server.get_until("/readyz", |reply| reply.status == 200);
    assert_eq!(server.get_until("/a", |reply| reply.text() != "a").text(), "another");
}

fn make_fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from(0o644), 0).unwrap();
}

/// A container's root may be root without the right to make device nodes.
fn is_contained() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    u64::from_str_radix(effective, 16).unwrap() & CAP_MKNOD == 0
}

const CAP_MKNOD: u64 = 1 << 27;

fn count_events(watch: rustix::fd::BorrowedFd<'_>) -> usize {
    // The server's calls before its response have been queued by now.
    std::thread::sleep(Duration::from_millis(50));
    let mut buffer = [std::mem::MaybeUninit::uninit(); 8192];
    let mut reader = inotify::Reader::new(watch, &mut buffer);
    let mut count = 0;
    while reader.next().is_ok() {
        count += 1;
    }
    count
}
