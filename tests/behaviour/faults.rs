//! Faults of the disk, call by call: one response fails with the right status, and the next one succeeds.

use std::collections::HashMap;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use pagecast::files::storage::{Call, Faulty, InjectedFault, Slow, When};
use rustix::io::Errno;

use crate::client::{wait_for_bytes, wait_until};
use crate::in_process::InProcess;
use crate::site::{PATIENCE, Reply, Server, Site, pattern};

/// Kept on the heap.
const SHORT: usize = 1000;

/// Read from the disk in two batches, and sent by `sendfile`.
const LONG: usize = MIB + MIB / 2;

/// Written from the mapping.
const MIDDLE: usize = 20_000;

const MIB: usize = 1024 * 1024;

/// End of a chunked body.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// What a client sees after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// The whole file: the server does without the failed call.
    Whole,
    /// An error status.
    Failed(u16),
    /// Fewer bytes than announced, and then the end of the connection.
    Cut,
}

use Seen::{Cut, Failed, Whole};

/// A call that fails during a request for a file of that length, from the given number of such calls on.
type Case = (Call, u64, usize, Answers);

/// What is seen of an error alone.
type Answers = fn(Errno) -> Seen;

const ERRORS: [Errno; 7] =
    [Errno::IO, Errno::NOSPC, Errno::STALE, Errno::ACCESS, Errno::MFILE, Errno::NFILE, Errno::NOMEM];

const CASES: [Case; 18] = [
    (Call::Open, 1, SHORT, error_reply),
    (Call::Open, 2, SHORT, error_reply),
    (Call::Open, 1, LONG, error_reply),
    (Call::Open, 2, LONG, error_reply),
    (Call::Fstat, 1, SHORT, error_reply),
    (Call::Fstat, 2, SHORT, error_reply),
    (Call::Fstat, 3, SHORT, error_reply),
    (Call::Fstat, 2, LONG, error_reply),
    (Call::Fstatfs, 1, SHORT, whole),
    (Call::Fstatfs, 1, LONG, whole),
    (Call::Pread, 1, SHORT, error_reply),
    (Call::Map, 1, MIDDLE, whole),
    (Call::Map, 1, LONG, whole),
    (Call::Probe, 1, LONG, whole),
    (Call::Populate, 1, MIDDLE, error_reply),
    (Call::Populate, 1, LONG, error_reply),
    (Call::Populate, 2, LONG, cut),
    (Call::Sendfile, 1, LONG, cut),
];

fn error_reply(errno: Errno) -> Seen {
    Failed(match errno {
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => 503,
        Errno::ACCESS => 403,
        _ => 500,
    })
}

fn whole(_: Errno) -> Seen {
    Whole
}

fn cut(_: Errno) -> Seen {
    Cut
}

#[test]
fn a_fault_of_any_call_costs_only_one_response() {
    let mut site = Site::with([("hot", b"hot")]).env("PAGECAST_REVALIDATE_AFTER", "0");
    let cases: Vec<_> =
        CASES.iter().enumerate().flat_map(|(n, case)| ERRORS.map(|errno| (n, *case, errno))).collect();
    let name_of = |n: usize, errno: Errno| format!("{n}-{}-", errno.raw_os_error());
    for &(n, (.., length, _), errno) in &cases {
        site = site.file(&name_of(n, errno), &pattern(length, 1));
    }
    let bench = Bench::serve(site);
    let mut other = bench.server.connect();
    let mut wrong = Vec::new();
    for (n, (call, nth, length, answers), errno) in cases {
        let (target, body, seen) = (format!("/{}", name_of(n, errno)), pattern(length, 1), answers(errno));
        let case = format!("{call:?} {nth} of {length} bytes, {errno:?}, {seen:?}");
        let before = bench.disk.count(call);
        bench.disk.inject(When::every(call).of(&target[1..]).from(nth), InjectedFault::Errno(errno));
        wrong.extend(bench.wrong(&target, &body, seen).map(|got| format!("{case}: {got}")));
        if bench.disk.count(call) < before + nth {
            wrong.push(format!("{case}: it never came to that"));
        }
        check_undisturbed(&mut other);
        bench.disk.heal();
        wrong.extend(bench.wrong(&target, &body, Whole).map(|got| format!("{case}, healed: {got}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_file_that_shrinks_before_its_head_is_sent_gets_a_status() {
    let body = pattern(LONG, 1);
    let bench = Bench::serve(Site::new().file("shrinking", &body));
    bench.disk.inject(When::every(Call::Populate).times(1), InjectedFault::Errno(Errno::FAULT));
    assert_eq!(bench.wrong("/shrinking", &body, Failed(503)), None);
    assert_eq!(bench.wrong("/shrinking", &body, Whole), None);
    assert_eq!(bench.counted("changed"), 1);
}

#[test]
fn short_reads_are_continued_and_never_padded() {
    let names = ["heap", "probed", "sent", "ended", "empty"];
    let lengths = [SHORT, LONG, LONG, LONG, SHORT];
    let site = names
        .iter()
        .zip(lengths)
        .fold(Site::new(), |site, (name, length)| site.file(name, &pattern(length, 1)));
    let bench = Bench::serve(site);
    for (call, name, length, most, seen) in [
        (Call::Pread, "heap", SHORT, 7, Whole),
        (Call::Probe, "probed", LONG, 5000, Whole),
        (Call::Sendfile, "sent", LONG, 50_000, Whole),
        (Call::Sendfile, "ended", LONG, 0, Cut),
        // If copying fails, the response is sent from the file.
        (Call::Pread, "empty", SHORT, 0, Whole),
    ] {
        let (target, body) = (format!("/{name}"), pattern(length, 1));
        bench.disk.inject(When::every(call).of(name), InjectedFault::Short(most));
        assert_eq!(bench.wrong(&target, &body, seen), None, "{name}");
        bench.disk.heal();
        assert_eq!(bench.wrong(&target, &body, Whole), None, "{name}, healed");
    }
}

#[test]
fn faults_of_sidecars_do_not_affect_the_file() {
    let plain = b"plain ".repeat(100);
    let name_of = |n: usize, errno: Errno| format!("beside{n}-{}.txt", errno.raw_os_error());
    let mut site = Site::new().env("PAGECAST_COMPRESS", "off").env("PAGECAST_REVALIDATE_AFTER", "0");
    let calls = [(Call::Open, 1), (Call::Open, 2), (Call::Fstat, 1), (Call::Fstat, 2), (Call::Pread, 1)];
    let cases: Vec<_> = (0..calls.len()).flat_map(|n| ERRORS.map(|errno| (n, errno))).collect();
    for &(n, errno) in &cases {
        let name = name_of(n, errno);
        site = site.file(&name, &plain).file(&format!("{name}.gz"), b"coded");
    }
    let bench = Bench::serve(site);
    let ask = |name: &str| {
        let reply = bench.server.get_with(&format!("/{name}"), "Accept-Encoding: gzip\r\n").unwrap();
        assert_eq!(reply.status, 200, "{name}");
        match reply.field("content-encoding") {
            Some("gzip") => assert_eq!(reply.text(), "coded", "{name}"),
            _ => assert!(reply.body == plain, "{name}"),
        }
        reply.field("content-encoding").is_some()
    };
    for (n, errno) in cases {
        let (call, nth) = calls[n];
        let name = name_of(n, errno);
        bench.disk.inject(When::every(call).of(&format!("{name}.gz")).from(nth), InjectedFault::Errno(errno));
        assert!(!ask(&name), "{call:?} {nth} {errno:?}: nothing fails");
        bench.disk.heal();
        wait_until("the sidecar is served again", || ask(&name));
    }
}

#[test]
fn an_unreadable_checksum_is_not_treated_as_absent() {
    use crate::encoding_helpers::sha256_hex;
    let name_of = |n: usize, errno: Errno| format!("checked{n}-{}", errno.raw_os_error());
    let mut site = Site::new().env("PAGECAST_VERIFY", "serve").env("PAGECAST_REVALIDATE_AFTER", "0");
    // The checksum's own calls, and those of the file while it is hashed.
    let calls = [
        (Call::Open, 1, ".sha256"),
        (Call::Open, 2, ".sha256"),
        (Call::Fstat, 1, ".sha256"),
        (Call::Pread, 1, ".sha256"),
        (Call::Pread, 1, ""),
    ];
    let body = pattern(LONG, 1);
    let cases: Vec<_> = (0..calls.len()).flat_map(|n| ERRORS.map(|errno| (n, errno))).collect();
    for &(n, errno) in &cases {
        let (name, line) = (name_of(n, errno), format!("{}\n", sha256_hex(&body)));
        site = site.file(&name, &body).file(&format!("{name}.sha256"), line.as_bytes());
    }
    let bench = Bench::serve(site);
    let mut wrong = Vec::new();
    for (n, errno) in cases {
        let (call, nth, suffix) = calls[n];
        let (name, case) = (name_of(n, errno), format!("{call:?} {nth} {suffix}, {errno:?}"));
        let part = format!("{name}{suffix}");
        bench.disk.inject(When::every(call).of(&part).from(nth), InjectedFault::Errno(errno));
        let reply = bench.server.get(&format!("/{name}")).unwrap();
        if ![403, 500, 503].contains(&reply.status) {
            wrong.push(format!("{case}: {}", reply.status));
        }
        bench.disk.heal();
        wrong.extend(
            bench.wrong(&format!("/{name}"), &body, Whole).map(|got| format!("{case}, healed: {got}")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn failing_checksums_and_variants_affect_nothing_else() {
    use crate::encoding_helpers::{sha256_hex, text};
    let (body, words) = (pattern(LONG, 1), text(100_000, 1));
    let site = Site::new()
        .file("digested", &body)
        .file("digested-short-of-memory", &body)
        .file("coded.txt", &words)
        .env("PAGECAST_HEAP_FILE_BYTES", "1KiB");
    let bench = Bench::serve(site);
    for (name, errno, status, kind) in
        [("digested", Errno::IO, 500, "read"), ("digested-short-of-memory", Errno::NOMEM, 503, "no_handle")]
    {
        bench.disk.inject(When::every(Call::Pread).of(name), InjectedFault::Errno(errno));
        let target = format!("/{name}?digest=sha-256");
        assert_eq!(bench.server.get(&target).unwrap().status, status, "{name}");
        let reply = bench.server.get_with(&format!("/{name}"), "Want-Repr-Digest: sha-256=1\r\n").unwrap();
        assert!(reply.body == body && reply.field("repr-digest").is_none(), "the file itself is whole");
        assert!(bench.counted(kind) > 0, "{name}");
        bench.disk.heal();
        let reply = bench.server.get(&target).unwrap();
        assert!(reply.text().starts_with(&sha256_hex(&body)), "{name}: {}", reply.text());
    }
    bench.disk.inject(When::every(Call::Pread).of("coded.txt"), InjectedFault::Errno(Errno::IO));
    let before = bench.counted("read");
    let ask = || bench.server.get_with("/coded.txt", "Accept-Encoding: gzip\r\n").unwrap();
    wait_until("compressing fails", || {
        let reply = ask();
        assert!(reply.body == words && reply.field("content-encoding").is_none());
        bench.counted("read") > before
    });
    (0..50).for_each(|_| assert!(ask().body == words));
    assert_eq!(bench.counted("read"), before + 1, "not tried again at once");
    assert_eq!(lines_with("/coded.txt could not be compressed"), 1);
    bench.disk.heal();
    wait_until("it is compressed after a while", || ask().field("content-encoding").is_some());
}

#[test]
fn failing_listings_and_archives_affect_nothing_else() {
    let mut site = Site::with([("hot", b"hot")]).env("PAGECAST_LISTING", "on").env("PAGECAST_ARCHIVE", "on");
    for errno in ERRORS {
        let name = format!("archived{}-", errno.raw_os_error());
        site = site.file(&format!("{name}/a"), b"a").file(&format!("{name}/b"), &pattern(4 * MIB, 1));
    }
    let bench = Bench::serve(site.env("PAGECAST_REVALIDATE_AFTER", "0"));
    for errno in ERRORS {
        let name = format!("archived{}-", errno.raw_os_error());
        let status = |seen| match seen {
            Failed(status) => status,
            Whole | Cut => 200,
        };
        let get = |target: &str| bench.server.get(target).unwrap();
        let (list, pack) = (format!("/{name}/"), format!("/{name}/?archive=tar"));
        bench.disk.inject(When::every(Call::Open).of(&name), InjectedFault::Errno(errno));
        for target in [&list, &pack] {
            let reply = get(target);
            assert_eq!(reply.status, status(error_reply(errno)), "{target}: {errno:?}");
            assert_eq!(reply.field("retry-after").is_some(), reply.status == 503, "{target}: {errno:?}");
        }
        bench.disk.heal();
        bench
            .disk
            .inject(When::every(Call::Pread).of(&format!("{name}/b")).from(4), InjectedFault::Errno(errno));
        let reply = get(&pack);
        assert_eq!(reply.status, 200, "{errno:?}");
        assert!(!reply.body.ends_with(LAST_CHUNK), "{errno:?}: it does not look finished");
        assert_eq!(get(&list).status, 200, "{errno:?}");
        bench.disk.heal();
        assert_eq!(get(&list).status, 200, "{errno:?}, healed");
        assert!(get(&pack).body.ends_with(LAST_CHUNK), "{errno:?}, healed");
    }
    assert_eq!(bench.server.get("/hot").unwrap().text(), "hot");
}

#[test]
fn listings_and_archives_on_a_dead_disk_end_in_time() {
    let site = Site::with([("hot", b"hot")])
        .file("dead/a", &pattern(4 * MIB, 1))
        .env("PAGECAST_LISTING", "on")
        .env("PAGECAST_ARCHIVE", "on")
        .env("PAGECAST_REVALIDATE_AFTER", "1h")
        .env("PAGECAST_DISK_TIMEOUT", "300ms");
    let bench = Bench::serve(site);
    assert_eq!(bench.server.get("/dead/").unwrap().status, 200);
    // The directory has been found by now: it is opened for its entries alone.
    bench.disk.inject(When::every(Call::Open).of("dead"), InjectedFault::Hang);
    let reply = bench.server.get("/dead/").unwrap();
    assert_eq!((reply.status, reply.field("retry-after")), (503, Some("1")));
    bench.disk.heal();
    assert_eq!(bench.server.get("/dead/").unwrap().status, 200);
    bench.disk.inject(When::every(Call::Pread).of("dead/a").from(8), InjectedFault::Hang);
    let reply = bench.server.get("/dead/?archive=tar").unwrap();
    assert!(reply.status == 200 && !reply.body.ends_with(LAST_CHUNK), "cut");
    assert_eq!(bench.server.get("/hot").unwrap().text(), "hot");
    bench.disk.heal();
    assert!(bench.server.get("/dead/?archive=tar").unwrap().body.ends_with(LAST_CHUNK));
}

#[test]
fn error_pages_and_redirects_on_a_faulty_disk_fall_back_to_fixed_sentences() {
    let site = Site::with([
        ("404.html", b"nothing here"),
        ("50x.html", b"something failed here"),
        ("target", b"target"),
        ("broken", b"broken"),
        ("_redirects", b"/rewritten /target 200\n"),
    ])
    .env("PAGECAST_REVALIDATE_AFTER", "0");
    let bench = Bench::serve(site);
    let get = |target: &str| {
        let reply = bench.server.get(target).unwrap();
        (reply.status, reply.text())
    };
    let is = |status: u16, words: &str| (status, words.to_owned());
    bench.disk.inject(When::every(Call::Open).of("404.html"), InjectedFault::Errno(Errno::IO));
    bench.disk.inject(When::every(Call::Open).of("broken"), InjectedFault::Errno(Errno::IO));
    bench.disk.inject(When::every(Call::Open).of("target"), InjectedFault::Errno(Errno::IO));
    assert_eq!(get("/none"), is(404, "Not found.\n"));
    assert_eq!(get("/broken"), is(500, "something failed here"));
    assert_eq!(get("/rewritten"), is(500, "something failed here"));
    bench.disk.inject(When::every(Call::Open).of("50x.html"), InjectedFault::Errno(Errno::IO));
    assert_eq!(get("/broken"), is(500, "Something failed.\n"));
    bench.disk.heal();
    assert_eq!(get("/none"), is(404, "nothing here"));
    assert_eq!(get("/broken"), is(200, "broken"));
    assert_eq!(get("/rewritten"), is(200, "target"));
}

#[test]
fn a_fault_is_counted_each_time_and_logged_once() {
    const TIMES: u64 = 200;
    let site = Site::new()
        .file("logged-open", b"x")
        .file("logged-denied", b"x")
        .file("logged-read", b"x")
        .file("logged-short", b"x")
        .file("logged-populate", &pattern(MIDDLE, 1))
        .file("logged-send", &pattern(LONG, 1))
        .file("logged-beside", b"x")
        .file("logged-beside.gz", b"x")
        .file("logged-directory/x", b"x")
        .env("PAGECAST_LISTING", "on")
        .env("PAGECAST_WATCH", "off")
        .env("PAGECAST_REVALIDATE_AFTER", "0");
    let bench = Bench::serve(site);
    let mut wrong = Vec::new();
    for (name, call, errno, kind) in [
        ("logged-open", Call::Open, Errno::IO, "open"),
        ("logged-denied", Call::Open, Errno::ACCESS, "denied"),
        ("logged-read", Call::Pread, Errno::IO, "read"),
        ("logged-short", Call::Open, Errno::MFILE, "no_handle"),
        ("logged-populate", Call::Populate, Errno::IO, "populate"),
        ("logged-send", Call::Sendfile, Errno::IO, "send"),
        ("logged-beside.gz", Call::Open, Errno::IO, "open"),
    ] {
        bench.disk.inject(When::every(call).of(name), InjectedFault::Errno(errno));
        let before = bench.counted(kind);
        for _ in 0..TIMES {
            bench.server.get(&format!("/{name}")).unwrap();
        }
        let (counted, lines) = (bench.counted(kind) - before, lines_with(name));
        if (counted, lines) != (TIMES, 1) {
            wrong.push(format!("{name}: counted {counted} times, {lines} lines"));
        }
        bench.disk.heal();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_shortage_of_handles_does_not_make_the_server_unready() {
    let bench = Bench::serve(Site::with([("hot", b"hot")]).env("PAGECAST_REVALIDATE_AFTER", "50ms"));
    let root = bench.server.root().to_str().unwrap().to_owned();
    wait_until("it is ready", || bench.server.get("/readyz").unwrap().status == 200);
    for (errno, is_ready) in
        [(Errno::MFILE, true), (Errno::NFILE, true), (Errno::NOMEM, true), (Errno::IO, false)]
    {
        let before = bench.disk.count(Call::Open);
        bench.disk.inject(When::every(Call::Open).of(&root), InjectedFault::Errno(errno));
        wait_until("the root is looked at", || bench.disk.count(Call::Open) >= before + 4);
        let status = bench.server.get("/readyz").unwrap().status;
        assert_eq!(status == 200, is_ready, "{errno:?}");
        assert_eq!(bench.server.get("/hot").unwrap().text(), "hot");
        bench.disk.heal();
        wait_until("it is ready", || bench.server.get("/readyz").unwrap().status == 200);
    }
}

#[test]
fn a_file_date_in_the_future_is_sent_as_the_date_of_the_response() {
    use std::time::SystemTime;
    for length in [SHORT, LONG] {
        let server =
            Site::new().file("early", &pattern(length, 1)).env("PAGECAST_REVALIDATE_AFTER", "0").serve();
        let file = std::fs::File::options().write(true).open(server.root.join("early")).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(3600)).unwrap();
        let reply = server.get("/early");
        assert!(reply.body == pattern(length, 1));
        let date = |name| httpdate::parse_http_date(reply.field(name).unwrap()).unwrap();
        assert!(date("last-modified") <= date("date"), "{:?}", reply.fields);
        let tag = reply.field("etag").unwrap();
        assert!(tag.starts_with('"'), "{tag}");
        for (lines, status) in [
            (format!("If-None-Match: {tag}\r\n"), 304),
            ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n".to_owned(), 200),
            ("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n".to_owned(), 412),
            ("If-Range: Fri, 31 Dec 2100 23:59:59 GMT\r\nRange: bytes=5-\r\n".to_owned(), 200),
            (format!("If-Range: {}\r\nRange: bytes=5-\r\n", reply.field("last-modified").unwrap()), 200),
            (format!("If-Range: {tag}\r\nRange: bytes=5-\r\n"), 206),
        ] {
            assert_eq!(server.get_with("/early", &lines).status, status, "{lines}");
        }
        file.set_modified(SystemTime::now()).unwrap();
        assert!(server.get("/early").field("last-modified").is_some());
    }
}

#[test]
#[ignore = "needs root: it mounts file systems"]
fn an_unmounted_root_is_served_again_once_it_is_mounted() {
    let place = tempfile::tempdir().unwrap();
    let at = place.path().join("mounted");
    std::fs::create_dir(&at).unwrap();
    let mount = Mount::at(&at);
    std::fs::write(at.join("first"), "first").unwrap();
    std::fs::write(at.join("long"), pattern(LONG, 1)).unwrap();
    let site = Site::new().env("PAGECAST_ROOT", at.to_str().unwrap());
    let mut server = site.serve();
    assert_eq!(server.get("/first").text(), "first");
    assert!(server.get("/long").is_complete());
    drop(mount);
    server.get_until("/first", |reply| reply.status == 404);
    let mount = Mount::at(&at);
    std::fs::write(at.join("first"), "second").unwrap();
    std::fs::write(at.join("long"), pattern(LONG, 2)).unwrap();
    server.get_until("/first", |reply| reply.text() == "second");
    server.get_until("/long", |reply| reply.body == pattern(LONG, 2));
    assert_eq!(server.get("/readyz").status, 200);
    // The mount point is removed as well.
    drop(mount);
    std::fs::remove_dir(&at).unwrap();
    server.get_until("/readyz", |reply| reply.status == 503);
    std::fs::create_dir(&at).unwrap();
    let _mount = Mount::at(&at);
    std::fs::write(at.join("first"), "third").unwrap();
    server.get_until("/readyz", |reply| reply.status == 200);
    server.get_until("/first", |reply| reply.text() == "third");
    assert!(server.is_running());
}

/// A file system in memory, until it is dropped.
struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    fn at(path: &'a Path) -> Self {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(path).status();
        assert!(done.unwrap().success());
        Self(path)
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        // Lazily: the server holds files of it open.
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn leftovers_of_a_killed_process_do_no_harm() {
    let place = tempfile::tempdir().unwrap();
    let socket = |name: &str| place.path().join(name);
    let url = |name: &str| format!("unix:{}", socket(name).display());
    let state = socket("state");
    std::fs::create_dir(&state).unwrap();
    let site = Site::new()
        .file("long", &pattern(4 * LONG, 1))
        .file("a", b"a")
        .env("PAGECAST_LISTEN", &format!("127.0.0.1:0,{}", url("traffic")))
        .env("PAGECAST_ADMIN_LISTEN", &url("admin"))
        .env("PAGECAST_UPGRADE_SOCKET", socket("upgrade").to_str().unwrap())
        .env("PAGECAST_STATE_DIR", state.to_str().unwrap())
        .env("PAGECAST_LISTING", "on")
        .env("PAGECAST_ARCHIVE", "on");
    // A process that has exited by itself, as a predecessor does, can't be killed.
    let kill = |server: Server| drop(server);
    for round in 0..3 {
        let mut server = site.start(site.command(), " ready: ");
        let asks = ["/long", "/?archive=tar.zst", "/a", "/long?digest=sha-256"];
        let under_way: Vec<_> = asks
            .map(|target| {
                let mut stream = server.connect_narrow();
                write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
                stream
            })
            .into();
        if round == 1 {
            // In the middle of an upgrade: each of the two.
            let mut stream = UnixStream::connect(socket("upgrade")).unwrap();
            stream.write_all(b"{\"is\":\"hello\",\"protocol\":1}\n").unwrap();
            assert!(std::io::Read::read(&mut stream, &mut [0; 64]).unwrap() > 0, "it is being handed over");
            kill(server);
            continue;
        }
        if round == 2 {
            let mut next = site.command();
            next.env("PAGECAST_UPGRADE_FROM", socket("upgrade"));
            let successor = next.spawn().map(Ended).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            drop(successor);
            drop(under_way);
            // The predecessor may have exited already: then no process is left.
            wait_until("the first one answers", || !server.is_running() || answers(&socket("traffic")));
        }
        kill(server);
    }
    let server = site.start(site.command(), " ready: ");
    assert_eq!(server.get("/a").text(), "a");
    assert!(answers(&socket("traffic")) && answers(&socket("admin")));
    let mut left: Vec<_> =
        std::fs::read_dir(site.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["a", "long"], "nothing is left in the root");
    check_state(&state);
}

/// Whether a server that is ready answers at this path.
fn answers(path: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(path) else { return false };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let asked = stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
    asked.is_ok() && Reply::read(&mut stream, false).is_some_and(|reply| reply.text() == "ok\n")
}

/// A process that is killed when dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_state_file_is_whole_whenever_its_writer_is_killed() {
    let state = tempfile::tempdir().unwrap();
    let mut site = Site::new().env("PAGECAST_STATE_DIR", state.path().to_str().unwrap());
    for n in 0..300 {
        site = site.file(&format!("f{n}"), b"x");
    }
    for after_us in [0, 200, 1000, 3000, 10_000] {
        let mut server = site.start(site.command(), " ready: ");
        let mut stream = server.connect();
        for n in 0..300 {
            stream.write_all(format!("GET /f{n} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
            assert_eq!(Reply::read(&mut stream, false).unwrap().status, 200);
        }
        server.signal("TERM");
        std::thread::sleep(Duration::from_micros(after_us));
        server.signal("KILL");
        server.wait();
        if let Ok(text) = std::fs::read_to_string(state.path().join("hot-files")) {
            assert!(text.lines().count() == 301 && text.ends_with('\n'), "{after_us}: {}", text.len());
        }
    }
    let server = site.start(site.command(), " ready: ");
    assert_eq!(server.get("/f7").text(), "x");
    check_state(state.path());
}

/// No temporary file is left in the state directory.
fn check_state(directory: &Path) {
    let names: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| name == "hot-files"), "{names:?}");
}

#[test]
fn truncating_a_file_affects_only_its_own_responses() {
    const LENGTH: usize = 16 * MIB;
    for is_cold in [false, true] {
        let body = pattern(LENGTH, 1);
        let server = Site::with([("hot", b"hot")]).file("long", &body).serve();
        let path = server.root.join("long");
        if is_cold {
            let file = std::fs::File::open(&path).unwrap();
            file.sync_all().unwrap();
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        }
        let mut other = server.connect();
        let mut streams: Vec<_> = (0..100)
            .map(|_| {
                let mut stream = server.connect_narrow();
                stream.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
                stream
            })
            .collect();
        assert_eq!(Reply::read(&mut streams[0], true).unwrap().status, 200);
        wait_for_bytes(&streams[1]);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_len(LENGTH as u64 / 3).unwrap();
        check_undisturbed(&mut other);
        let mut cut = 0;
        for stream in &mut streams[1..] {
            let Some(reply) = Reply::read(stream, false) else { panic!("an end without a word") };
            match reply.status {
                200 if reply.is_complete() => assert!(body.starts_with(&reply.body), "of one version"),
                200 => {
                    cut += 1;
                    // A page that was truncated while it was in the socket is zeros from there on.
                    let is_whole = |(at, byte): (usize, &u8)| *byte == body[at] || *byte == 0;
                    assert!(reply.body.iter().enumerate().all(is_whole));
                }
                503 => assert!(reply.is_complete() && reply.field("retry-after").is_some()),
                status => panic!("{status}"),
            }
        }
        assert!(cut > 0, "some were under way");
        check_undisturbed(&mut other);
        let reply = server.get_until("/long", |reply| reply.content_length() == Some(LENGTH as u64 / 3));
        assert!(reply.status == 200 && body.starts_with(&reply.body));
        assert_eq!(
            server.log().matches("/long changed while it was being sent").count(),
            1,
            "{}",
            server.log()
        );
    }
}

#[test]
fn a_file_replaced_a_thousand_times_is_one_version_in_every_response() {
    let version = |n: usize, length: usize| pattern(length + n % 50, u8::try_from(n % 100).unwrap());
    for length in [SHORT, MIDDLE * 5] {
        let server = Site::new().file("x", &version(0, length)).env("PAGECAST_REVALIDATE_AFTER", "0").serve();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _ends = Over(&is_over);
            let clients: Vec<_> = (0..4)
                .map(|_| {
                    let mut stream = server.connect();
                    let is_over = &is_over;
                    scope.spawn(move || {
                        let mut tags = HashMap::new();
                        while !is_over.load(Ordering::Relaxed) {
                            stream.write_all(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
                            let reply = Reply::read(&mut stream, false).expect("a response");
                            assert!(reply.status == 200 && reply.is_complete(), "{}", reply.status);
                            let known = (0..100).find(|n| reply.body == version(*n, length));
                            let known = known.expect("one version, and whole");
                            let tag = reply.field("etag").unwrap().to_owned();
                            assert_eq!(*tags.entry(tag).or_insert(known), known, "a tag of two versions");
                        }
                        tags.len()
                    })
                })
                .collect();
            for n in 1..1000 {
                std::fs::write(server.root.join("next"), version(n, length)).unwrap();
                std::fs::rename(server.root.join("next"), server.root.join("x")).unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
            for client in clients {
                assert!(client.join().unwrap() > 1, "it saw more than one version");
            }
        });
        assert!(server.get("/x").body == version(999, length));
    }
}

/// Ends the loop even if a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The server in this process on a faulty disk, with all files cold and an admin port.
struct Bench {
    server: InProcess,
    disk: Arc<Faulty>,
    place: tempfile::TempDir,
}

impl Bench {
    fn serve(site: Site) -> Self {
        capture_log();
        let disk = Faulty::over(Slow::new(Duration::ZERO, 1 << 30));
        let place = tempfile::tempdir().unwrap();
        let admin = format!("unix:{}", place.path().join("admin").display());
        let server = InProcess::serve(site.env("PAGECAST_ADMIN_LISTEN", &admin), disk.clone());
        Self { server, disk, place }
    }

    /// Requests a file of these bytes. Returns what is wrong with the response, unless it is as `seen`.
    fn wrong(&self, target: &str, body: &[u8], seen: Seen) -> Option<String> {
        let Some(reply) = self.server.get(target) else { return Some("no response".to_owned()) };
        let is_error = |status| {
            // The planned head is gone, and the cause is not shown to the client.
            reply.status == status
                && reply.is_complete()
                && reply.field("retry-after").is_some() == (status == 503)
                && reply.field("etag").is_none()
                && !reply.text().contains("os error")
        };
        let is_right = match seen {
            Whole => reply.status == 200 && reply.is_complete() && reply.body == body,
            Failed(status) => is_error(status),
            Cut => reply.status == 200 && !reply.is_complete() && body.starts_with(&reply.body),
        };
        let got = || format!("{} {:?}, {} bytes", reply.status, reply.fields, reply.body.len());
        (!is_right).then(got)
    }

    /// Count of a kind of fault.
    fn counted(&self, fault: &str) -> u64 {
        let mut stream = UnixStream::connect(self.place.path().join("admin")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let reply = Reply::read(&mut stream, false).unwrap();
        let status: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        status["faults"][fault].as_u64().unwrap()
    }
}

/// A call that hangs would keep the server from ending.
impl Drop for Bench {
    fn drop(&mut self) {
        self.disk.heal();
    }
}

/// A connection opened before still gets its response.
fn check_undisturbed(other: &mut TcpStream) {
    other.write_all(b"GET /hot HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(Reply::read(other, false).unwrap().text(), "hot");
}

/// Collects what servers in this process log, of all tests.
fn capture_log() {
    static LOG_INSTALLED: Once = Once::new();
    LOG_INSTALLED.call_once(|| {
        log::set_logger(&LOG).unwrap();
        log::set_max_level(log::LevelFilter::Info);
    });
}

/// Number of lines that contain `part`.
fn lines_with(part: &str) -> usize {
    LOG.lines.lock().unwrap().iter().filter(|line| line.contains(part)).count()
}

struct CapturedLog {
    lines: Mutex<Vec<String>>,
}

static LOG: CapturedLog = CapturedLog { lines: Mutex::new(Vec::new()) };

impl log::Log for CapturedLog {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.lines.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}
