//! Reloads, upgrades, releases and restarts in turn: the site is served throughout.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::client::wait_until;
use crate::handover::{End, Load, Upgrades, connect, get_unix, next_notification, site};
use crate::site::{PATIENCE, Reply, Server, Site};

#[test]
fn releases_that_remove_the_previous_one_lose_no_request_and_mix_no_files() {
    for watch in ["true", "false"] {
        let releases = Releases::new();
        let server = releases.serve(watch);
        let (done, count) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let _ends = End(&done);
            let readers: Vec<_> = RELEASED
                .iter()
                .map(|(target, length)| {
                    let (done, count, address) = (&done, &count, server.address);
                    scope.spawn(move || {
                        let mut stream = connect(address);
                        let mut seen = BTreeSet::new();
                        while !done.load(Ordering::Relaxed) {
                            write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
                            let reply = Reply::read(&mut stream, false).expect("a response");
                            let status = if *target == "/none" { 404 } else { 200 };
                            assert_eq!((reply.status, reply.body.len()), (status, *length), "{target}");
                            let release = reply.body[0];
                            assert!(reply.body.iter().all(|byte| *byte == release), "{target}: a mixture");
                            seen.insert(release);
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        seen.len()
                    })
                })
                .collect();
            for number in 1..=20 {
                let before = count.load(Ordering::Relaxed);
                wait_until("in time", || count.load(Ordering::Relaxed) > before + 60);
                releases.publish(number);
            }
            server.get_until("/small.txt", |reply| reply.body[0] == b'a' + 20);
            server.get_until("/go", |reply| reply.field("location") == Some("/20"));
            let listed = server.get("/d/?format=json").text();
            assert!(listed.contains("in-20"), "{listed}");
            done.store(true, Ordering::Relaxed);
            let seen: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
            assert!(seen.iter().any(|seen| *seen > 1), "nobody saw a change: {seen:?}");
        });
        assert!(!server.log().contains("ERROR"), "{}", server.log());
    }
}

#[test]
fn a_failed_successor_leaves_unix_sockets_in_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listen = format!("unix:{},127.0.0.1:0", path.display());
    let up = Upgrades::new(site().env("PAGECAST_LISTEN", &listen));
    let mut old = up.first();
    // A successor whose second address is in use.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let further = format!("{listen},{}", taken.local_addr().unwrap());
    let ended = up.command().env("PAGECAST_LISTEN", further).output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(get_unix(&path).text(), "a");
    // A successor that dies after it is ready and before the handover.
    let mut dying = UnixStream::connect(&up.path).unwrap();
    dying.write_all(b"{\"is\":\"hello\",\"protocol\":1}\n").unwrap();
    let mut lines = BufReader::new(dying.try_clone().unwrap());
    let mut line = String::new();
    while !line.contains("offered") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0);
    }
    old.signal("STOP");
    dying.write_all(b"{\"is\":\"ready\",\"taken\":[0,1]}\n").unwrap();
    drop((dying, lines));
    old.signal("CONT");
    old.wait_for_log("ended before it was ready; serving on");
    assert_eq!((get_unix(&path).text(), old.get("/a").text()), ("a".to_owned(), "a".to_owned()));

    let new = up.next();
    assert_eq!(old.wait().code(), Some(0), "{}", old.log());
    assert_eq!((get_unix(&path).text(), new.get("/a").text()), ("a".to_owned(), "a".to_owned()));
    drop(new);
}

#[test]
fn a_successor_stopped_during_its_warmup_ends_at_once_and_has_accepted_nothing() {
    let (state, directory) = (Warming::new(), tempfile::tempdir().unwrap());
    let path = directory.path().join("s");
    let listen = format!("unix:{},127.0.0.1:0", path.display());
    let up = Upgrades::new(site().env("PAGECAST_LISTEN", &listen).env("PAGECAST_DRAIN_DELAY", "1h"));
    let old = up.first();
    let mut warming = state.start(&up);
    assert_eq!((old.get("/a").text(), get_unix(&path).text()), ("a".to_owned(), "a".to_owned()));
    warming.signal("TERM");
    assert_eq!(warming.wait().code(), Some(0), "{}", warming.log());
    assert!(warming.log().ends_with("stopping: the predecessor goes on serving\n"), "{}", warming.log());
    for _ in 0..10 {
        assert_eq!((old.get("/a").text(), get_unix(&path).text()), ("a".to_owned(), "a".to_owned()));
    }
}

#[test]
fn a_successor_whose_predecessor_exits_during_the_warmup_serves_at_once() {
    for signal in ["TERM", "KILL"] {
        let (state, directory) = (Warming::new(), tempfile::tempdir().unwrap());
        let path = directory.path().join("s");
        let listen = format!("unix:{},127.0.0.1:0", path.display());
        let up = Upgrades::new(site().env("PAGECAST_LISTEN", &listen));
        let mut old = up.first();
        let mut new = state.start(&up);
        old.signal(signal);
        // Connections wait while nobody accepts.
        assert_eq!(old.get("/a").text(), "a");
        new.wait_for_log("exited before the warmup was complete: serving all the same");
        let code = old.wait().code();
        assert_eq!(code, if signal == "TERM" { Some(0) } else { None }, "{}", old.log());
        assert_eq!((old.get("/a").text(), get_unix(&path).text()), ("a".to_owned(), "a".to_owned()));
        new.wait_for_log("but: it is gone");
        new.signal("TERM");
        assert_eq!(new.wait().code(), Some(0), "{}", new.log());
        assert!(!path.exists() && !up.path.exists(), "the last one removes the paths");
    }
}

#[test]
fn if_one_process_is_killed_at_any_moment_of_an_upgrade_the_other_serves() {
    for delay_ms in [0, 5, 20, 40, 80, 150] {
        for kills_old in [false, true] {
            let up = Upgrades::new(site().env("PAGECAST_DRAIN_DELAY", "0"));
            let mut old = up.first();
            let mut command = up.command();
            command.stderr(Stdio::null());
            let mut new = command.spawn().unwrap();
            std::thread::sleep(Duration::from_millis(delay_ms));
            if kills_old {
                old.signal("KILL");
            } else {
                new.kill().unwrap();
            }
            // The old process may have handed over already, or the new one may not have the sockets yet.
            let is_served = (0..100).any(|_| {
                std::thread::sleep(Duration::from_millis(20));
                is_served(&old)
            });
            let is_left_alone = if kills_old { new.try_wait().unwrap().is_some() } else { !old.is_running() };
            let why = format!("after {delay_ms} ms, old: {kills_old}; {}", old.log());
            assert!(is_served || is_left_alone, "{why}");
            // Only after a takeover may no process be left, and only a successor without sockets gives up.
            if !is_served && !kills_old {
                assert!(old.log().contains("has taken over"), "{why}");
            }
            let _ = new.kill();
            let _ = new.wait();
        }
    }
}

#[test]
fn upgrades_and_reloads_in_turn_lose_no_request() {
    let up = Upgrades::new(site().config(""));
    let mut server = up.first();
    let address = server.address;
    let (done, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let load = Load { done: &done, count: &count };
        let _ends = End(&done);
        let mut clients: Vec<_> = ["/a", "/a", "/a", "/long.bin"]
            .map(|target| scope.spawn(move || load.keep_alive(address, target)))
            .into();
        clients.extend(
            ["/a", "/a", "/a", "/readyz"].map(|target| scope.spawn(move || load.one_by_one(address, target))),
        );
        for round in 0..3 {
            for half in 0..4 {
                let before = count.load(Ordering::Relaxed);
                let toml =
                    format!("revalidate_after = '{}ms'\ndrain_delay = '1s'\n", 100 + round * 10 + half);
                std::fs::write(server.root.join(".pagecast.toml"), toml).unwrap();
                server.signal("HUP");
                wait_until("in time", || count.load(Ordering::Relaxed) > before + 50);
            }
            let next = up.next();
            next.signal("HUP");
            server.signal("HUP");
            assert_eq!(server.wait().code(), Some(0), "{}", server.log());
            server = next;
        }
        let before = count.load(Ordering::Relaxed);
        wait_until("in time", || count.load(Ordering::Relaxed) > before + 100);
        done.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
    });
}

#[test]
fn after_many_good_and_bad_files_the_last_good_one_is_in_effect() {
    let mut server = Site::with([("a", b"a")]).config(&numbered(0)).serve();
    let file = server.root.join(".pagecast.toml");
    for number in 1..=100 {
        let next = server.root.join(".next.toml");
        let text = if number % 2 == 0 { numbered(number) } else { "head_timeout = 'soon'".to_owned() };
        std::fs::write(&next, text).unwrap();
        std::fs::rename(&next, &file).unwrap();
        server.signal("HUP");
        let reply = server.get("/a");
        assert_eq!((reply.status, reply.field("x-number").is_some()), (200, true));
    }
    server.get_until("/a", |reply| reply.field("x-number") == Some("100"));
    // Renamed into place: a pending reload must not read an empty file.
    let next = server.root.join(".next.toml");
    std::fs::write(&next, "nonsense").unwrap();
    std::fs::rename(&next, &file).unwrap();
    server.signal("HUP");
    server.wait_for_log("key with no value");
    assert_eq!(server.get("/a").field("x-number"), Some("100"));
}

#[test]
fn each_reload_is_reported_to_the_service_manager_and_none_outside_of_serving() {
    let state = Warming::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let watched = || {
        let site = site().config("").env("PAGECAST_DRAIN_DELAY", "0");
        site.env("NOTIFY_SOCKET", path.to_str().unwrap())
    };
    let mut server = watched().serve();
    assert_eq!(next_notification(&manager), "READY=1\n");
    assert!(next_notification(&manager).starts_with("STATUS="));
    for text in ["index = 'a'", "index = 7", ""] {
        std::fs::write(server.root.join(".pagecast.toml"), text).unwrap();
        server.signal("HUP");
        let reloading = next_notification(&manager);
        assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
        assert_eq!(next_notification(&manager), "READY=1\n", "{text}");
    }
    server.signal("TERM");
    assert!(next_notification(&manager).starts_with("STOPPING=1\n"));
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    manager.set_nonblocking(true).unwrap();
    assert!(manager.recv(&mut [0; 8]).is_err(), "nothing else");

    let mut server = state.env(watched()).launch("listening on http://");
    server.get_until("/readyz", |reply| reply.text().starts_with("Warming: "));
    server.signal("HUP");
    assert_eq!(server.get("/a").text(), "a");
    assert!(manager.recv(&mut [0; 8]).is_err(), "it is not ready");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert!(next_notification(&manager).starts_with("STOPPING=1\n"), "and nothing before");
}

#[test]
fn a_state_directory_in_the_root_is_refused() {
    let place = Site::with([("a", b"a"), ("state/x", b"x")]);
    let (inside, link) = (place.path().join("state"), tempfile::tempdir().unwrap());
    symlink(&inside, link.path().join("link")).unwrap();
    let root = place.path().to_owned();
    let mut site = place;
    for state in [root, inside, link.path().join("link")] {
        site = site.env("PAGECAST_STATE_DIR", state.to_str().unwrap());
        let ended = site.command().output().unwrap();
        let message = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{message}");
        assert!(message.contains("lies in the root"), "{message}");
    }
}

#[test]
fn a_client_that_disconnects_ends_its_warmup() {
    let mut site = site().env("PAGECAST_ADMIN_LISTEN", "127.0.0.1:0").env("PAGECAST_WARM_FILES", "100000");
    for directory in 0..20 {
        let at = site.path().join(directory.to_string());
        std::fs::create_dir(&at).unwrap();
        for file in 0..100 {
            std::fs::write(at.join(file.to_string()), b"x").unwrap();
        }
        symlink("..", at.join("up")).unwrap();
    }
    site = site.env("PAGECAST_POPULATE_THREADS", "1");
    let server = site.serve();
    let ask = || {
        let mut stream = connect(server.admin.unwrap());
        stream
            .write_all(
                b"POST /warm?glob=** HTTP/1.1\r\nHost: localhost\r\nPagecast-Admin: 1\r\nContent-Length: 0\r\n\r\n",
            )
            .unwrap();
        stream
    };
    drop(ask());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut stream = ask();
        let reply = Reply::read(&mut stream, true).unwrap();
        if reply.status == 200 {
            let text = BufReader::new(stream).lines().map_while(Result::ok);
            let last = text.take_while(|line| line != "0").filter(|line| line.contains("is_over")).last();
            let last: serde_json::Value = serde_json::from_str(&last.unwrap()).unwrap();
            assert_eq!((&last["of"], &last["is_over"]), (&2002.into(), &true.into()), "{last}");
            return;
        }
        assert_eq!(reply.status, 409);
        assert!(Instant::now() < deadline, "the turn is never given back");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Releases of one site, each full of its own letter.
struct Releases {
    directory: tempfile::TempDir,
}

impl Releases {
    fn new() -> Self {
        let releases = Self { directory: tempfile::tempdir().unwrap() };
        releases.write(0);
        symlink(releases.at(0), releases.directory.path().join("current")).unwrap();
        releases
    }

    fn serve(&self, watch: &str) -> Server {
        let site = Site::new().env("PAGECAST_ROOT", self.directory.path().join("current").to_str().unwrap());
        site.env("PAGECAST_WATCH", watch).env("PAGECAST_LISTING", "on").serve()
    }

    /// Swaps the symbolic link and removes the previous release.
    fn publish(&self, number: u8) {
        self.write(number);
        let [next, current] = ["next", "current"].map(|name| self.directory.path().join(name));
        symlink(self.at(number), &next).unwrap();
        std::fs::rename(next, current).unwrap();
        std::fs::remove_dir_all(self.at(number - 1)).unwrap();
    }

    fn write(&self, number: u8) {
        let at = self.at(number);
        std::fs::create_dir_all(at.join("d")).unwrap();
        for (target, length) in RELEASED {
            let name = if *target == "/none" { "404.html" } else { &target[1..] };
            std::fs::write(at.join(name), vec![b'a' + number; *length]).unwrap();
        }
        std::fs::write(at.join(format!("d/in-{number}")), "").unwrap();
        std::fs::write(at.join("_redirects"), format!("/go /{number} 302\n")).unwrap();
    }

    fn at(&self, number: u8) -> PathBuf {
        self.directory.path().join(number.to_string())
    }
}

/// Files of each release: on the heap, mapped, and its 404 page.
const RELEASED: &[(&str, usize)] =
    &[("/small.txt", 100), ("/d/deep.txt", 200), ("/long.bin", 600_000), ("/none", 50)];

/// A state whose warmup takes long.
struct Warming {
    state: tempfile::TempDir,
}

impl Warming {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let lines: String = (0..300_000).map(|n| format!("/missing-{n} identity 1 1\n")).collect();
        std::fs::write(state.path().join("hot-files"), format!("pagecast hot files, version 1\n{lines}"))
            .unwrap();
        Self { state }
    }

    fn env(&self, site: Site) -> Site {
        site.env("PAGECAST_STATE_DIR", self.path())
            .env("PAGECAST_WARM_FILES", "1000000")
            .env("PAGECAST_WARM_TIMEOUT", "1h")
    }

    /// Starts a successor with a long warmup.
    fn start(&self, up: &Upgrades) -> Server {
        let mut command = up.command();
        command.env("PAGECAST_STATE_DIR", self.path());
        command.env("PAGECAST_WARM_FILES", "1000000").env("PAGECAST_WARM_TIMEOUT", "1h");
        up.site.start(command, "listening on http://")
    }

    fn path(&self) -> &str {
        Path::to_str(self.state.path()).unwrap()
    }
}

fn is_served(server: &Server) -> bool {
    let Ok(mut stream) = std::net::TcpStream::connect(server.address) else { return false };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let sent = stream.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    sent.is_ok() && Reply::read(&mut stream, false).is_some_and(|reply| reply.body == b"a")
}

fn numbered(number: u32) -> String {
    format!("[[rule]]\npath = '**'\nheaders = {{ X-Number = '{number}' }}")
}
