//! Limits that are reached: a response, never a hang, and recovery.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::client::ReadSome;
use crate::site::{PATIENCE, Reply, Server, Site, pattern};

/// Longer than all buffers between the disk and a client that does not read.
const LONG: u64 = 16 * 1024 * 1024;

#[test]
fn a_server_with_64_open_files_starts_and_serves() {
    let mut site = Site::new().open_files(64).env("PAGECAST_WORKERS", "auto");
    for n in 0..100 {
        site = site.file(&format!("f{n}"), &pattern(20_000 + n, 1));
    }
    let server = site.serve();
    for n in 0..100 {
        assert!(server.get(&format!("/f{n}")).body == pattern(20_000 + n, 1), "f{n}");
    }
}

#[test]
fn when_all_handles_are_taken_requests_wait_and_then_get_503() {
    const HANDLES: usize = 8;
    for (cache, kind) in [("0", "not mapped"), ("4GiB", "mapped")] {
        let mut site = Site::new()
            .env("PAGECAST_HANDLES", &HANDLES.to_string())
            .env("PAGECAST_HANDLE_WAIT", "200ms")
            .env("PAGECAST_CACHE_BYTES", cache)
            .file("small", b"small")
            .file("known", &pattern(200_000, 1));
        for n in 0..HANDLES + 4 {
            site = long_file(site, &format!("long{n}"));
        }
        let server = site.serve();
        assert!(server.get("/known").body == pattern(200_000, 1));
        let downloads: Vec<_> = (0..HANDLES).map(|n| begin(&server, &format!("/long{n}"))).collect();
        for n in HANDLES..HANDLES + 4 {
            let reply = server.get(&format!("/long{n}"));
            assert_eq!((reply.status, reply.field("retry-after")), (503, Some("1")), "{kind}");
        }
        assert_eq!(server.get("/small").status, 503, "{kind}: what is not known has to be opened");
        let known = server.get("/known");
        if cache == "0" {
            assert_eq!(known.status, 503);
        } else {
            assert!(known.body == pattern(200_000, 1), "from the mapping");
        }
        // The same file needs no more handles.
        let reply = server.get_with("/long0", "Range: bytes=0-9\r\n");
        assert_eq!((reply.status, reply.body.len()), (206, 10), "{kind}");

        drop(downloads);
        for target in ["/small", "/known"] {
            assert_eq!(server.get_until(target, |reply| reply.status == 200).status, 200);
        }
        for n in 0..HANDLES + 4 {
            let reply = server.get_until(&format!("/long{n}"), |reply| reply.status == 200);
            assert_eq!(reply.body.len() as u64, LONG, "{kind}");
        }
    }
}

#[test]
fn a_304_and_a_head_need_no_handle() {
    const HANDLES: usize = 8;
    for cache in ["0", "4GiB"] {
        let body = pattern(200_000, 1);
        let mut site = Site::new()
            .env("PAGECAST_HANDLES", &HANDLES.to_string())
            .env("PAGECAST_HANDLE_WAIT", "200ms")
            .env("PAGECAST_CACHE_BYTES", cache)
            .file("known", &body);
        for n in 0..HANDLES {
            site = long_file(site, &format!("long{n}"));
        }
        let server = site.serve();
        let etag = server.get("/known").field("etag").unwrap().to_owned();
        let downloads: Vec<_> = (0..HANDLES).map(|n| begin(&server, &format!("/long{n}"))).collect();
        assert_eq!(server.handles_to(&server.root.join("known")), 0, "{cache}: its handle was taken");
        let not_modified = server.get_with("/known", &format!("If-None-Match: {etag}\r\n"));
        assert_eq!((not_modified.status, not_modified.field("etag")), (304, Some(&*etag)), "{cache}");
        let seen = head(&server, "/known");
        assert_eq!((seen.status, seen.field("content-length")), (200, Some("200000")), "{cache}");
        if cache == "0" {
            assert_eq!(server.get("/known").status, 503, "a body needs one");
        }
        std::fs::write(server.root.join("known"), b"changed").unwrap();
        assert_ne!(head(&server, "/known").status, 200, "{cache}: the new version has to be opened");
        drop(downloads);
        let changed = server.get_until("/known", |reply| reply.status == 200);
        assert_eq!(changed.text(), "changed", "{cache}");
    }
}

fn head(server: &Server, target: &str) -> Reply {
    server.send(format!("HEAD {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
}

#[test]
fn a_waiting_request_gets_the_next_free_handle() {
    let mut site = Site::with([("small", b"small")])
        .env("PAGECAST_HANDLES", "8")
        .env("PAGECAST_HANDLE_WAIT", "20s")
        .env("PAGECAST_CACHE_BYTES", "0");
    for n in 0..8 {
        site = long_file(site, &format!("long{n}"));
    }
    let server = site.serve();
    let mut downloads: Vec<_> = (0..8).map(|n| begin(&server, &format!("/long{n}"))).collect();
    let mut waiting = server.connect();
    waiting.write_all(b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    waiting.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(waiting.peek(&mut [0]).is_err(), "it waits");
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    downloads.pop();
    assert_eq!(Reply::read(&mut waiting, false).unwrap().text(), "small");
}

#[test]
fn connections_beyond_the_limit_get_503_until_there_is_room() {
    let server = long_file(Site::with([("a", b"a")]), "long")
        .env("PAGECAST_MAX_CONNECTIONS", "10")
        .env("PAGECAST_ADMIN_LISTEN", "127.0.0.1:0")
        .serve();
    let mut held: Vec<_> = (0..10).map(|_| begin(&server, "/long")).collect();
    for _ in 0..5 {
        // It is refused even before it sends a request.
        let mut stream = server.connect();
        check_refused(&mut stream);
        let mut stream = server.connect();
        let _ = stream.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
        check_refused(&mut stream);
    }
    for stream in &mut held {
        assert_eq!(stream.read_some(&mut [0]).unwrap(), 1, "who is in stays in");
    }
    assert_eq!(server.get_admin("/readyz").status, 200, "the admin port has room of its own");
    held.pop();
    server.get_until("/a", |reply| reply.status == 200);
    held.truncate(0);
    server.get_until("/a", |reply| reply.status == 200);
    let again: Vec<_> = (0..9).map(|_| answered(&server)).collect();
    assert_eq!(again.len(), 9);
}

#[test]
fn more_clients_than_descriptors_neither_kill_nor_spin_the_server() {
    let mut server = Site::with([("a", b"a"), ("b", b"b")])
        .open_files(64)
        .env("PAGECAST_WORKERS", "auto")
        .env("PAGECAST_LINGER_TIMEOUT", "200ms")
        .serve();
    assert_eq!(server.get("/a").text(), "a");
    for round in 0..2 {
        let mut crowd: Vec<_> = (0..300).map(|_| server.connect()).collect();
        let before = server.cpu_time();
        std::thread::sleep(Duration::from_secs(2));
        let used = server.cpu_time() - before;
        assert!(used < Duration::from_secs(1), "round {round}: {used:?} of processor time in 2 s");
        assert!(server.is_running());
        let mut served = 0;
        for stream in &mut crowd {
            let sent = stream.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
            if sent.is_ok() && Reply::read(stream, false).is_some_and(|reply| reply.status == 200) {
                served += 1;
            }
        }
        assert!(served > 0, "those who are in are served");
        drop(crowd);
        server.get_until("/b", |reply| reply.status == 200);
    }
}

#[test]
fn a_server_out_of_descriptors_logs_it_rests_and_recovers() {
    let mut site = Site::with([("a", b"a")]);
    for n in 0..20 {
        site = site.file(&format!("f{n}"), &pattern(20_000, 1));
    }
    let mut server = site.serve();
    let mut client = Client::new(&server);
    for n in 0..10 {
        assert_eq!(client.get(&format!("/f{n}")).status, 200);
    }
    let usual = limit_open_files(&server, 3);
    // Opening needs a descriptor, and there is none.
    let short = client.get("/f15");
    assert_eq!((short.status, short.field("retry-after")), (503, Some("1")));
    assert_eq!(client.get("/f0").status, 200, "what is open is served on");
    // No connection can be accepted either: they wait, and the server pauses.
    let mut waiting = server.connect();
    waiting.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    server.wait_for_log("can't be accepted");
    let before = server.cpu_time();
    std::thread::sleep(Duration::from_secs(1));
    let used = server.cpu_time() - before;
    assert!(used < Duration::from_millis(500), "{used:?} of processor time in 1 s");
    assert!(server.is_running());
    limit_open_files(&server, usual);
    assert_eq!(Reply::read(&mut waiting, false).expect("an answer in the end").text(), "a");
    assert_eq!(client.get("/f15").status, 200);
    assert_eq!(server.get("/a").text(), "a");
}

#[test]
fn more_names_than_the_cache_holds_are_served() {
    let mut site = Site::new().env("PAGECAST_NAMES", "16");
    for n in 0..100 {
        site = site.file(&format!("f{n}"), format!("file {n}").as_bytes());
    }
    let server = site.serve();
    let mut client = Client::new(&server);
    for round in 0..3 {
        for n in 0..100 {
            let reply = client.get(&format!("/f{n}"));
            assert_eq!(reply.text(), format!("file {n}"), "round {round}");
            assert_eq!(client.get(&format!("/missing{n}")).status, 404);
        }
    }
    for n in 0..5000 {
        assert_eq!(client.get(&format!("/no/such/name/{n}")).status, 404);
    }
    assert_eq!(client.get("/f7").text(), "file 7");
}

#[test]
fn tiny_or_disabled_caches_serve_the_same_bytes() {
    let lengths = [0, 1, 1000, 16_384, 16_385, 100_000, 1_000_000];
    for (cache, heap) in [("0", "0"), ("0", "16KiB"), ("4KiB", "0"), ("8KiB", "32KiB"), ("1MiB", "128MiB")] {
        let mut site = Site::new().env("PAGECAST_CACHE_BYTES", cache).env("PAGECAST_HEAP_BYTES", heap);
        for length in lengths {
            site = site.file(&format!("f{length}"), &pattern(length, 1));
        }
        let server = site.serve();
        let mut client = Client::new(&server);
        for round in 0..5 {
            for length in lengths {
                let context = format!("{length} bytes, cache {cache}, heap {heap}, round {round}");
                let reply = client.get(&format!("/f{length}"));
                assert_eq!((reply.status, reply.content_length()), (200, Some(length as u64)), "{context}");
                assert!(reply.body == pattern(length, 1), "{context}");
            }
        }
        let part = server.get_with("/f1000000", "Range: bytes=123456-654321\r\n");
        assert!(
            part.status == 206 && part.body == pattern(1_000_000, 1)[123_456..=654_321],
            "{cache} {heap}"
        );
    }
}

#[test]
fn a_thousand_files_are_not_mixed_up() {
    let of = |n: usize| pattern(100 + 37 * n, u8::try_from(n % 256).unwrap());
    let site = (0..1000).fold(Site::new(), |site, n| site.file(&format!("d{}/f{n}", n % 7), &of(n)));
    let server = site.env("PAGECAST_HANDLES", "32").serve();
    let clients: Vec<_> = (0..4)
        .map(|at| {
            let mut client = Client::new(&server);
            std::thread::spawn(move || {
                for step in 0..2000 {
                    let n = (at * 251 + step * 7) % 1000;
                    let reply = client.get(&format!("/d{}/f{n}", n % 7));
                    assert!(reply.status == 200 && reply.body == of(n), "f{n}: {}", reply.status);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    let handles = server.handles_under(&server.root);
    assert!(handles <= 32, "{handles} files are open");
}

/// Sets the soft limit on the open files of a running server; returns what it was.
fn limit_open_files(server: &Server, count: u64) -> u64 {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
    // The server inherited the hard limit of the tests.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: Some(count), maximum };
    prlimit(Pid::from_raw(server.pid()), Resource::Nofile, limit).unwrap().current.unwrap()
}

/// A client with one connection.
struct Client {
    stream: TcpStream,
}

impl Client {
    fn new(server: &Server) -> Self {
        Self { stream: server.connect() }
    }

    fn get(&mut self, target: &str) -> Reply {
        self.stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        Reply::read(&mut self.stream, false).expect("a response")
    }
}

fn long_file(site: Site, name: &str) -> Site {
    let site = site.file(name, b"");
    OpenOptions::new().write(true).open(site.path().join(name)).unwrap().set_len(LONG).unwrap();
    site
}

/// A download that has begun and is not read.
fn begin(server: &Server, target: &str) -> TcpStream {
    let mut stream = server.connect_narrow();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(Reply::read(&mut stream, true).expect("a head").status, 200, "{target}");
    stream
}

/// A connection that had a response and is kept.
fn answered(server: &Server) -> TcpStream {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut stream = server.connect();
        let _ = stream.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
        match Reply::read(&mut stream, false) {
            Some(reply) if reply.status == 200 => return stream,
            _ => assert!(Instant::now() < deadline, "no room comes back"),
        }
    }
}

fn check_refused(stream: &mut TcpStream) {
    let reply = Reply::read(stream, false).expect("an answer");
    assert_eq!(reply.status, 503);
    assert_eq!((reply.field("retry-after"), reply.field("connection")), (Some("1"), Some("close")));
    assert!(reply.is_complete());
    assert_eq!(stream.read_some(&mut [0]).unwrap_or(0), 0);
}
