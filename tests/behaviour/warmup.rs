//! Warmup after a restart and on request, gauges beside their limits, and faults logged once.

use std::fs::{File, OpenOptions};
use std::io::{IoSliceMut, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};
use rustix::io::{ReadWriteFlags, preadv2};

use crate::site::{PATIENCE, Reply, Server, Site, pattern};

const MIB: usize = 1024 * 1024;
const LONG: usize = 16 * MIB;

#[test]
fn recently_used_files_are_in_memory_before_a_restarted_server_is_ready() {
    let directories = ServerDirectories::new();
    directories.file("long.bin", &pattern(LONG, 1));
    directories.file("small.css", b"a{}");
    directories.file("nobody.txt", b"x");
    let mut first = directories.site().serve();
    let range = format!("Range: bytes={}-{}\r\n", 5 * MIB, 5 * MIB + 9);
    assert_eq!(first.get_with("/long.bin", &range).status, 206);
    assert_eq!(first.get("/small.css").status, 200);
    assert_eq!(first.get("/missing").status, 404);
    stop(&mut first);
    let state = directories.read_state();
    let lines: Vec<_> = state.lines().skip(1).collect();
    assert_eq!(lines.len(), 2, "{state}");
    assert_eq!(lines[1], format!("/long.bin identity {LONG} {:x}", 1_u64 << 20));
    assert!(lines[0].starts_with("/small.css identity 3 "), "{state}");

    let long = directories.root.path().join("long.bin");
    make_cold(&long);
    let second = directories.site().serve();
    assert!(
        second.log().contains("warmup complete after") && second.log().contains("2 of 2 files"),
        "{}",
        second.log()
    );
    if directories.can_be_cold() {
        assert!(is_resident(&long, 5 * MIB), "what was hot was read");
        assert!(!is_resident(&long, 12 * MIB), "and nothing else");
    }
    status_until(&second, |status| status["names"]["now"] == 2);
    assert_eq!(second.get("/long.bin").body.len(), LONG);
}

#[test]
fn files_that_were_not_used_again_rank_behind_those_that_were() {
    let directories = ServerDirectories::new();
    for name in ["a", "b", "c"] {
        directories.file(name, name.as_bytes());
    }
    directories.write_state("/a identity 1 0\n/b identity 1 0\n/c identity 1 0\n");
    let mut server = directories.site().serve();
    assert_eq!(server.get("/c").text(), "c");
    stop(&mut server);
    let paths: Vec<_> = directories
        .read_state()
        .lines()
        .skip(1)
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(paths, ["/c", "/a", "/b"]);
}

#[test]
fn during_the_warmup_traffic_is_served_and_readiness_shows_the_progress() {
    let directories = ServerDirectories::new();
    directories.file("a", b"a");
    let before = directories.write_state(&missing_names());
    let site = directories.site().env("PAGECAST_WARM_TIMEOUT", "1h");
    let mut server = site.launch("listening on http://");
    let warming = server.get_until("/readyz", |reply| {
        reply.text().strip_prefix("Warming: ").is_some_and(|rest| !rest.starts_with("0 "))
    });
    assert_eq!(warming.status, 503);
    assert!(warming.text().ends_with(&format!(" of {MISSING} files.\n")), "{}", warming.text());
    assert_eq!(server.get_admin("/readyz").status, 503);
    assert_eq!((server.get("/livez").status, server.get_admin("/livez").status), (200, 200));
    assert_eq!(server.get("/a").text(), "a");
    let status = status(&server);
    assert_eq!((&status["phase"], &status["warming"]["of"]), (&"warming".into(), &MISSING.into()));
    assert_eq!(ask_to_warm(&server, "Pagecast-Admin: 1\r\n").status, 409, "one at a time");
    stop(&mut server);
    assert_eq!(directories.read_state(), before, "who was not warm yet has nothing better to remember");
}

#[test]
fn the_warmup_ends_at_its_timeout() {
    for (timeout, expected) in [("50ms", "warmup not complete after"), ("0", " ready: ")] {
        let directories = ServerDirectories::new();
        directories.write_state(&missing_names());
        let server = directories.site().env("PAGECAST_WARM_TIMEOUT", timeout).serve();
        assert!(server.log().contains(expected), "{}", server.log());
        assert!(!server.log().contains("complete after") || timeout != "0", "{}", server.log());
        assert_eq!(server.get("/readyz").status, 200);
    }
}

#[test]
fn files_that_may_not_be_served_are_not_warmed() {
    let directories = ServerDirectories::new();
    directories.file(".secret", b"s");
    directories.file("a", b"a");
    directories.write_state(
        "/.secret identity 1 1\n/../a identity 1 1\n/gone identity 1 1\n/a identity 1 1\ngarbage\n",
    );
    let server = directories.site().serve();
    assert!(server.log().contains("2 malformed lines of "), "{}", server.log());
    assert!(server.log().contains("3 of 3 files, 1 bytes, 2 gone"), "{}", server.log());
}

#[test]
fn a_malformed_state_file_is_ignored() {
    for garbage in [&b""[..], &[0xff; 70_000], b"{\"hot\": []}\n"] {
        let directories = ServerDirectories::new();
        directories.file("a", b"a");
        std::fs::write(directories.state_file(), garbage).unwrap();
        let mut server = directories.site().serve();
        assert!(server.log().contains("has an unknown format and is ignored"), "{}", server.log());
        assert_eq!(server.get("/a").text(), "a");
        stop(&mut server);
        assert!(directories.read_state().contains("\n/a identity 1 "), "{}", directories.read_state());
    }
}

#[test]
fn an_unusable_state_directory_is_an_error_at_start() {
    let directories = ServerDirectories::new();
    let closed = directories.state.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o555);
    std::fs::set_permissions(&closed, mode).unwrap();
    directories.file("a", b"a");
    let file = directories.root.path().join("a");
    for path in [Path::new("/nowhere/at/all"), &file, &closed] {
        let site = directories.site().unprivileged().env("PAGECAST_STATE_DIR", path.to_str().unwrap());
        let ended = site.command().output().unwrap();
        let message = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(1), "{message}");
        assert!(
            message.contains(&format!("the state directory {} can't be written to", path.display())),
            "{message}"
        );
    }
}

#[test]
fn a_stop_that_cannot_save_the_state_succeeds_and_logs_it() {
    let directories = ServerDirectories::new();
    directories.file("a", b"a");
    let mut server = directories.site().serve();
    assert_eq!(server.get("/a").status, 200);
    std::fs::remove_dir_all(directories.state.path()).unwrap();
    stop(&mut server);
    assert!(server.log().contains("the list of recently used files can't be written"), "{}", server.log());
}

#[test]
fn a_kill_leaves_the_saved_state_and_the_next_start_cleans_up() {
    let directories = ServerDirectories::new();
    directories.file("a", b"a");
    directories.file("b", b"b");
    let mut server = directories.site().serve();
    assert_eq!(server.get("/a").status, 200);
    stop(&mut server);
    let before = directories.read_state();
    assert!(before.contains("\n/a identity 1 "), "{before}");
    let mut server = directories.site().serve();
    assert_eq!(server.get("/b").status, 200);
    server.signal("KILL");
    server.wait();
    assert_eq!(directories.read_state(), before);
    // As a kill during the write leaves it.
    std::fs::write(directories.state.path().join(".pagecast-temporary.1-1"), "pagecast hot").unwrap();
    let server = directories.site().serve();
    assert!(server.log().contains("1 of 1 files"), "{}", server.log());
    assert_eq!(std::fs::read_dir(directories.state.path()).unwrap().count(), 1);
}

#[test]
fn files_are_warmed_on_demand() {
    let site = admin(Site::with([("a/x.css", b"x"), ("y.css", b"yy"), (".hidden.css", b"h")]))
        .file("long.bin", &pattern(LONG, 1));
    let long = site.path().join("long.bin");
    make_cold(&long);
    let server = site.serve();
    for (globs, code, out) in [
        (&["*.css"][..], 0, "2 of 2 files, 3 bytes\n".to_owned()),
        (&["/a/**", "long.bin"], 0, format!("2 of 2 files, {} bytes\n", LONG + 1)),
        (&["*.gif"], 1, "0 of 0 files, 0 bytes\n".to_owned()),
    ] {
        let ended = warm(&server, globs);
        let err = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(
            (ended.status.code(), String::from_utf8_lossy(&ended.stdout)),
            (Some(code), out.into()),
            "{err}"
        );
        assert_eq!(err.contains("no file matches"), code == 1, "{err}");
    }
    assert!(is_resident(&long, 0) && is_resident(&long, LONG - 1));
    status_until(&server, |status| status["names"]["now"] == 3 && status["mapped_bytes"]["now"] == LONG);
}

#[test]
fn files_that_cannot_be_warmed_are_reported() {
    let site = admin(Site::with([("a", b"a")]));
    let server = site.env("PAGECAST_CACHE_BYTES", "1MiB").env("PAGECAST_HEAP_BYTES", "0").serve();
    for (name, length) in
        [("1.bin", 250_000), ("2.bin", 250_000), ("3.bin", 250_000), ("4.bin", 250_000), ("5.bin", 250_000)]
    {
        std::fs::write(server.root.join(name), pattern(length, 1)).unwrap();
    }
    let ended = warm(&server, &["*.bin"]);
    let out = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert_eq!((ended.status.code(), &*out), (Some(1), "5 of 5 files, 1000000 bytes, 1 without room\n"));
    drop(server);
    let nobody = Command::new(env!("CARGO_BIN_EXE_pagecast"))
        .args(["warm", "--admin", "unix:/nowhere/at/all", "**"])
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    let message = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert!(message.contains("the admin listener at unix:/nowhere/at/all: "), "{message}");
}

#[test]
fn a_page_in_a_browser_cannot_start_a_warmup() {
    let server = admin(Site::with([("a", b"a")])).serve();
    for (lines, expected) in [
        ("", 403),
        ("Pagecast-Admin: 1\r\nOrigin: http://127.0.0.1\r\n", 403),
        ("Pagecast-Admin: 1\r\nSec-Fetch-Site: same-origin\r\n", 403),
        ("Pagecast-Admin: 1\r\n", 200),
    ] {
        assert_eq!(ask_to_warm(&server, lines).status, expected, "{lines}");
    }
    let got = server.get_admin("/warm?glob=**");
    assert_eq!((got.status, got.field("allow")), (405, Some("POST")));
    assert_eq!(post(&server, "/warm", "Pagecast-Admin: 1\r\n").status, 400);
    assert_eq!(post(&server, "/warm?glob=%5B", "Pagecast-Admin: 1\r\n").status, 400);
    assert_eq!(server.get("/warm?glob=**").status, 404, "not on the traffic port");
    assert_eq!(server.get("/status").status, 404);
}

#[test]
fn gauges_have_their_limits_beside_them() {
    let server = admin(Site::with([("a", b"a")]))
        .file("long.bin", &pattern(MIB, 1))
        .env("PAGECAST_MAX_CONNECTIONS", "100")
        .env("PAGECAST_HANDLES", "50")
        .env("PAGECAST_NAMES", "1000")
        .env("PAGECAST_CACHE_BYTES", "8MiB")
        .env("PAGECAST_HEAP_BYTES", "1MiB")
        .env("PAGECAST_DIRECTORIES_AT_ONCE", "3")
        .serve();
    let mut kept = server.connect();
    kept.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(Reply::read(&mut kept, false).unwrap().text(), "a");
    assert_eq!(server.get("/long.bin").body.len(), MIB);
    let status = status_until(&server, |status| {
        status["names"]["now"] == 2 && status["mappings"]["now"] == 1 && status["connections"]["now"] == 1
    });
    for (gauge, limit) in [
        ("connections", 100_u64),
        ("handles", 50),
        ("names", 1000),
        ("mapped_bytes", 8 << 20),
        ("heap_bytes", 1 << 20),
    ] {
        assert_eq!(status[gauge]["limit"], limit, "{gauge}: {status}");
        let now = status[gauge]["now"].as_u64().unwrap();
        assert!(now > 0 && now < limit, "{gauge}: {status}");
    }
    assert_eq!(status["mapped_bytes"]["now"], MIB);
    assert_eq!(status["phase"], "ready");
    assert_eq!(status["directories"], serde_json::json!({ "now": 0, "limit": 3 }));
    assert_eq!(status["bandwidth"], serde_json::json!({ "held_back": 0, "waiting": 0 }));
    let process = &status["process"];
    assert!(process["file_bytes"].as_u64() >= Some(MIB as u64), "{process}");
    assert!(process["resident_bytes"].as_u64() > process["anonymous_bytes"].as_u64(), "{process}");
    assert!(status["memory"]["bytes"].as_u64() > Some(1 << 20), "{status}");
    assert_eq!((&status["faults"]["open"], &status["refused"]["suspicious_queries"]), (&0.into(), &0.into()));
    assert_eq!(post(&server, "/status", "").status, 405);
}

#[test]
fn a_file_that_may_not_be_read_is_logged_once_and_counted_each_time() {
    let server = admin(Site::with([("a", b"a"), ("b", b"b")]))
        .unprivileged()
        .env("PAGECAST_REVALIDATE_AFTER", "0")
        .env("PAGECAST_WATCH", "off")
        .serve();
    assert_eq!(server.get("/a").status, 200);
    let none = std::os::unix::fs::PermissionsExt::from_mode(0o000);
    std::fs::set_permissions(server.root.join("a"), none).unwrap();
    for _ in 0..100 {
        assert_eq!(server.get("/a").status, 403);
    }
    assert_eq!(server.get("/b").status, 200);
    assert_eq!(count(&server.log(), "/a may not be read"), 1, "{}", server.log());
    assert!(status(&server)["faults"]["denied"].as_u64() >= Some(100));
}

#[test]
fn a_file_that_changes_under_many_responses_is_logged_once() {
    let server = admin(Site::new()).file("long.bin", &pattern(LONG, 1)).serve();
    let mut downloads: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = server.connect_narrow();
            stream.write_all(b"GET /long.bin HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            assert_eq!(Reply::read(&mut stream, true).unwrap().status, 200);
            stream
        })
        .collect();
    OpenOptions::new().write(true).open(server.root.join("long.bin")).unwrap().set_len(10).unwrap();
    for stream in &mut downloads {
        let mut body = Vec::new();
        let _ = std::io::Read::read_to_end(stream, &mut body);
        assert!(body.len() < LONG);
    }
    status_until(&server, |status| status["faults"]["changed"] == 20);
    assert_eq!(count(&server.log(), "/long.bin changed while it was being sent"), 1, "{}", server.log());
}

/// A root and a state directory that outlive servers.
struct ServerDirectories {
    root: tempfile::TempDir,
    state: tempfile::TempDir,
}

impl ServerDirectories {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), state: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.root.path().join(name), bytes).unwrap();
    }

    fn site(&self) -> Site {
        admin(Site::new())
            .env("PAGECAST_ROOT", self.root.path().to_str().unwrap())
            .env("PAGECAST_STATE_DIR", self.state.path().to_str().unwrap())
            .env("PAGECAST_WARM_FILES", "1000000")
    }

    /// Whether the file system is not in memory only. The check itself reads a file, so it uses one of its own.
    fn can_be_cold(&self) -> bool {
        self.file("probe", &pattern(MIB, 1));
        let path = self.root.path().join("probe");
        make_cold(&path);
        !is_resident(&path, 0)
    }

    fn state_file(&self) -> std::path::PathBuf {
        self.state.path().join("hot-files")
    }

    fn read_state(&self) -> String {
        std::fs::read_to_string(self.state_file()).unwrap()
    }

    /// Writes a state file with these lines for the next server.
    fn write_state(&self, lines: &str) -> String {
        let text = format!("pagecast hot files, version 1\n{lines}");
        std::fs::write(self.state_file(), &text).unwrap();
        text
    }
}

/// So many missing names that looking them up takes long.
const MISSING: usize = 300_000;

fn missing_names() -> String {
    (0..MISSING).map(|n| format!("/missing-{n} identity 1 1\n")).collect()
}

fn admin(site: Site) -> Site {
    site.env("PAGECAST_ADMIN_LISTEN", "127.0.0.1:0")
}

fn stop(server: &mut Server) {
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

fn status(server: &Server) -> serde_json::Value {
    let reply = server.get_admin("/status");
    assert_eq!((reply.status, reply.field("content-type")), (200, Some("application/json")));
    serde_json::from_slice(&reply.body).unwrap()
}

fn status_until(server: &Server, as_wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = status(server);
        if as_wanted(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{status}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ask_to_warm(server: &Server, lines: &str) -> Reply {
    post(server, "/warm?glob=**", lines)
}

/// POST `target` to the admin port.
fn post(server: &Server, target: &str, lines: &str) -> Reply {
    server.ask_admin("POST", target, &format!("Host: localhost\r\n{lines}"))
}

/// `pagecast warm`, for the server's admin listener.
fn warm(server: &Server, globs: &[&str]) -> Output {
    let admin = server.admin.unwrap().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pagecast"));
    command.arg("warm").args(globs).env_clear().env("PAGECAST_ADMIN_LISTEN", admin);
    command.output().unwrap()
}

fn make_cold(path: &Path) {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
}

/// Whether the byte at `at` is in the page cache.
fn is_resident(path: &Path, at: usize) -> bool {
    let file = File::open(path).unwrap();
    let mut byte = [0];
    let read = preadv2(file.as_fd(), &mut [IoSliceMut::new(&mut byte)], at as u64, ReadWriteFlags::NOWAIT);
    read.is_ok()
}

fn count(log: &str, text: &str) -> usize {
    log.lines().filter(|line| line.contains(text)).count()
}
