//! Sockets that outlive a process: from a service manager, and from one process to the next without a lost request.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::client::{ReadSome, uninterrupted, wait_until};
use crate::site::{PATIENCE, Reply, Server, Site, pattern};

const GET_A: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn a_tcp_socket_from_a_service_manager_replaces_listen() {
    let site = site();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // It waits in the queue before there is a server.
    let mut early = TcpStream::connect(address).unwrap();
    early.write_all(GET_A).unwrap();
    let mut server = site.start(activated(&site, [Some(socket.into()), None], "1", ""), " ready: ");
    assert_eq!(server.address, address);
    assert_eq!(Reply::read(&mut early, false).unwrap().text(), "a");
    for _ in 0..20 {
        assert_eq!(server.get("/a").text(), "a");
    }
    let log = server.log();
    assert!(log.contains(&format!("inherited: listening on http://{address}")), "{log}");
    assert!(log.contains("PAGECAST_LISTEN=127.0.0.1:0 is ignored: inherited sockets are used"), "{log}");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert!(TcpStream::connect(address).is_err(), "nobody has it any more");
}

#[test]
fn a_unix_socket_from_a_service_manager_keeps_its_path() {
    let (site, directory) = (site(), tempfile::tempdir().unwrap());
    let path = directory.path().join("s");
    let socket = UnixListener::bind(&path).unwrap();
    let mut server = site.start(activated(&site, [Some(socket.into()), None], "1", ""), " ready: ");
    assert!(server.log().contains(&format!("inherited: listening on unix:{}", path.display())));
    assert_eq!(get_unix(&path).text(), "a");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert!(path.exists(), "the path is the manager's");
}

#[test]
fn a_socket_named_admin_replaces_the_admin_listener() {
    let (site, directory) = (site(), tempfile::tempdir().unwrap());
    let path = directory.path().join("admin");
    let admin = UnixListener::bind(&path).unwrap();
    let traffic = TcpListener::bind("127.0.0.1:0").unwrap();
    let sockets = [Some(admin.into()), Some(traffic.into())];
    let mut server = site.start(activated(&site, sockets, "2", "admin:http"), " ready: ");
    assert!(server.log().contains(&format!("inherited: admin on unix:{}", path.display())));
    assert_eq!(server.get("/a").text(), "a");
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(Reply::read(&mut stream, false).unwrap().text(), "ok\n");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert!(path.exists(), "the path is the manager's");
}

#[test]
fn with_an_inherited_admin_listener_only_traffic_is_accepted_as_configured() {
    let site = site();
    let admin = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = admin.local_addr().unwrap();
    let server = site.start(activated(&site, [Some(admin.into()), None], "1", "admin"), " ready: ");
    assert_eq!(server.admin, Some(at));
    assert_eq!((server.get("/a").text(), server.get_admin("/readyz").status), ("a".to_owned(), 200));
}

#[test]
fn an_inherited_admin_listener_reachable_from_other_machines_needs_a_token() {
    let open = || Some(OwnedFd::from(TcpListener::bind("0.0.0.0:0").unwrap()));
    let ended = activated(&site(), [open(), None], "1", "admin").output().unwrap();
    let log = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{log}");
    assert!(log.contains("PAGECAST_ADMIN_TOKEN") && log.contains("http://0.0.0.0:"), "{log}");
    let site = site().env("PAGECAST_ADMIN_TOKEN", "correct-horse-battery");
    let server = site.start(activated(&site, [open(), None], "1", "admin"), " ready: ");
    assert_eq!((server.get_admin("/readyz").status, server.get_admin("/status").status), (200, 401));
}

#[test]
fn a_descriptor_that_is_no_listening_stream_socket_is_refused_by_its_number() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected: OwnedFd = TcpStream::connect(listener.local_addr().unwrap()).unwrap().into();
    let cases: [(Option<OwnedFd>, &str, &str, &str); 6] = [
        (Some(connected), "1", "", "descriptor 3: it is not listening"),
        (
            Some(UdpSocket::bind("127.0.0.1:0").unwrap().into()),
            "1",
            "http",
            "descriptor 3 (http): it is neither",
        ),
        (
            Some(File::open("/dev/null").unwrap().into()),
            "1",
            "",
            "descriptor 3: it is neither a TCP nor a unix stream",
        ),
        (Some(listener.into()), "9", "", "descriptor 4"),
        (None, "1", "a:b", "LISTEN_FDNAMES has 2 names for the 1 descriptors"),
        (None, "many", "", "LISTEN_FDS=many is no number"),
    ];
    for (socket, count, names, expected) in cases {
        let site = site();
        let ended = activated(&site, [socket, None], count, names).output().unwrap();
        let log = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{log}");
        assert!(log.contains(expected), "{expected:?} in {log}");
    }
}

#[test]
fn sockets_announced_to_another_process_are_ignored() {
    let site = site();
    let mut command = site.command();
    command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    let server = site.start(command, " ready: ");
    assert_eq!(server.get("/a").text(), "a");
}

#[test]
fn every_step_is_reported_to_the_service_manager_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let by_path = UnixDatagram::bind(&path).unwrap();
    let name = format!("pagecast-behaviour-{}", std::process::id());
    let by_name = UnixDatagram::bind_addr(&UnixAddr::from_abstract_name(&name).unwrap()).unwrap();
    for (manager, address) in [(by_path, path.display().to_string()), (by_name, format!("@{name}"))] {
        let mut server = site().env("NOTIFY_SOCKET", &address).serve();
        assert_eq!(next_notification(&manager), "READY=1\n");
        assert!(next_notification(&manager).starts_with("STATUS=Serving "));
        server.signal("TERM");
        assert!(next_notification(&manager).starts_with("STOPPING=1\nSTATUS="));
        assert_eq!(server.wait().code(), Some(0), "{}", server.log());
        manager.set_nonblocking(true).unwrap();
        assert!(manager.recv(&mut [0; 8]).is_err(), "nothing else");
    }
}

#[test]
fn the_watchdog_is_fed_while_the_workers_run_and_only_if_it_is_for_this_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let watched = || site().env("NOTIFY_SOCKET", path.to_str().unwrap()).env("WATCHDOG_USEC", "400000");
    let server = watched().serve();
    let fed = (0..)
        .map(|_| next_notification(&manager))
        .filter(|message| message == "WATCHDOG=1\n")
        .take(3)
        .count();
    assert_eq!(fed, 3);
    drop(server);
    while manager.set_nonblocking(true).is_ok() && manager.recv(&mut [0; 512]).is_ok() {}
    manager.set_nonblocking(false).unwrap();
    let _other = watched().env("WATCHDOG_PID", "1").serve();
    assert_eq!(next_notification(&manager), "READY=1\n");
    assert!(next_notification(&manager).starts_with("STATUS="));
    manager.set_read_timeout(Some(Duration::from_millis(600))).unwrap();
    assert!(manager.recv(&mut [0; 8]).is_err(), "it is not ours to feed");
}

#[test]
fn three_upgrades_under_load_lose_no_request() {
    let up = Upgrades::new(site().env("PAGECAST_ADMIN_LISTEN", "127.0.0.1:0"));
    let mut server = up.first();
    let (address, admin) = (server.address, server.admin.unwrap());
    let (done, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let load = Load { done: &done, count: &count };
        let _ends = End(&done);
        let keep = |target| scope.spawn(move || load.keep_alive(address, target));
        let close = |address, target| scope.spawn(move || load.one_by_one(address, target));
        let mut clients = Vec::from(["/a", "/a", "/a", "/a", "/long.bin", "/long.bin"].map(keep));
        clients.extend(["/a", "/a", "/a", "/readyz"].map(|target| close(address, target)));
        clients.push(close(admin, "/readyz"));
        for _ in 0..3 {
            let before = count.load(Ordering::Relaxed);
            wait_until("in time", || count.load(Ordering::Relaxed) > before + 300);
            let next = up.next();
            assert_eq!((next.address, next.admin), (address, Some(admin)), "{}", next.log());
            assert_eq!(server.wait().code(), Some(0), "{}", server.log());
            server = next;
        }
        let before = count.load(Ordering::Relaxed);
        wait_until("in time", || count.load(Ordering::Relaxed) > before + 300);
        done.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
    });
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert!(!up.path.exists(), "the last one removes the path");
}

#[test]
fn a_download_under_way_finishes_on_the_old_process_while_the_new_one_serves() {
    let up = Upgrades::new(site());
    let mut old = up.first();
    let mut download = old.connect_narrow();
    download.write_all(b"GET /long.bin HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut reply = Reply::read(&mut download, true).unwrap();
    let new = up.next();
    assert_eq!(new.get("/a").text(), "a");
    assert!(old.is_running(), "it waits for the download");
    let _ = (&mut download).take(LONG as u64).read_to_end(&mut reply.body);
    assert!(reply.body == pattern(LONG, 1), "cut at {}", reply.body.len());
    drop(download);
    assert_eq!(old.wait().code(), Some(0), "{}", old.log());
    assert_eq!(new.get("/a").text(), "a");
}

#[test]
fn idle_connections_are_kept_for_one_more_request_until_the_delay_is_over() {
    let up = Upgrades::new(site().env("PAGECAST_DRAIN_DELAY", "6s"));
    let mut old = up.first();
    let mut idle = [old.connect(), old.connect()];
    for stream in &mut idle {
        stream.write_all(GET_A).unwrap();
        assert_eq!(Reply::read(stream, false).unwrap().field("connection"), None);
    }
    let _new = up.next();
    let [mut used, mut unused] = idle;
    // The worker may not have heard of the successor yet: it answers one request after it has.
    wait_until("the last answer", || {
        used.write_all(GET_A).unwrap();
        let reply = Reply::read(&mut used, false).expect("the old process answers");
        assert_eq!(reply.text(), "a");
        reply.field("connection") == Some("close")
    });
    assert_eq!(used.read_some(&mut [0]).unwrap(), 0);
    assert_eq!(unused.read_some(&mut [0]).unwrap(), 0, "closed, and not reset");
    assert_eq!(old.wait().code(), Some(0), "{}", old.log());
}

#[test]
fn a_successor_that_dies_or_breaks_the_protocol_changes_nothing() {
    let up = Upgrades::new(site());
    let mut old = up.first();
    for (said, expected) in [
        (&b"{\"is\":\"hello\",\"protocol\":1}\n"[..], "ended before it was ready"),
        (b"", "did not send a hello"),
        (b"GET / HTTP/1.1\r\n\r\n", "handover failed"),
        (b"{\"is\":\"hello\",\"protocol\":2}\n", "uses version 2 of the upgrade protocol, not 1"),
        (b"{\"is\":\"ready\",\"taken\":[0]}\n", "did not send a hello"),
    ] {
        let mut stream = UnixStream::connect(&up.path).unwrap();
        stream.write_all(said).unwrap();
        if said.is_empty() {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut line = String::new();
        let _ = BufReader::new(&stream).read_line(&mut line);
        assert_eq!(line.contains("\"is\":\"socket\""), expected.starts_with("ended"), "{line}");
        drop(stream);
        old.wait_for_log(expected);
        assert_eq!(old.get("/a").text(), "a");
    }
    // A real successor, whose second address is in use.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("127.0.0.1:0,{}", taken.local_addr().unwrap());
    let ended = up.command().env("PAGECAST_LISTEN", listen).output().unwrap();
    let log = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && log.contains("can't listen on"), "{log}");
    assert_eq!(old.get("/a").text(), "a");
    let new = up.next();
    assert_eq!(old.wait().code(), Some(0), "{}", old.log());
    assert_eq!((new.address, new.get("/a").text()), (old.address, "a".to_owned()));
}

#[test]
fn only_one_successor_is_served_at_a_time() {
    let up = Upgrades::new(site());
    let _old = up.first();
    let mut slow = UnixStream::connect(&up.path).unwrap();
    slow.write_all(b"{\"is\":\"hello\",\"protocol\":1}\n").unwrap();
    let mut line = String::new();
    BufReader::new(&slow).read_line(&mut line).unwrap();
    let ended = up.command().output().unwrap();
    let log = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1));
    assert!(log.contains("another process is taking over already"), "{log}");
}

#[test]
fn a_missing_predecessor_is_a_clear_error() {
    let directory = tempfile::tempdir().unwrap();
    let [missing, file, dead] = ["missing", "file", "dead"].map(|name| directory.path().join(name));
    std::fs::write(&file, "").unwrap();
    drop(UnixListener::bind(&dead).unwrap());
    for (path, expected) in
        [(missing, "No such file"), (file, "it is not a socket"), (dead, "no process listens there")]
    {
        let path = path.to_str().unwrap();
        let ended = site().env("PAGECAST_UPGRADE_FROM", path).command().output().unwrap();
        let log = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1));
        assert!(log.contains(&format!("can't take over from the server at {path}: {expected}")), "{log}");
    }
}

#[test]
fn the_upgrade_socket_is_for_its_user_only() {
    let up = Upgrades::new(site());
    let _server = up.first();
    assert_eq!(up.path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let shared = tempfile::tempdir().unwrap();
    std::fs::set_permissions(shared.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let path = shared.path().join("up");
    let ended = site().env("PAGECAST_UPGRADE_SOCKET", path.to_str().unwrap()).command().output().unwrap();
    let log = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && log.contains("is not safe"), "{log}");
}

#[test]
fn the_new_configuration_decides_the_addresses() {
    let directory = tempfile::tempdir().unwrap();
    let [kept, dropped, added] = ["kept", "dropped", "added"].map(|name| directory.path().join(name));
    let listen = |other: &Path| format!("unix:{},127.0.0.1:0,unix:{}", kept.display(), other.display());
    let up = Upgrades::new(site().env("PAGECAST_LISTEN", &listen(&dropped)));
    let mut old = up.first();
    assert_eq!([&kept, &dropped].map(|path| get_unix(path).text()), ["a", "a"]);
    let mut command = up.command();
    command.env("PAGECAST_LISTEN", listen(&added));
    let mut new = up.site.start(command, " ready: ");
    assert_eq!(old.wait().code(), Some(0), "{}", old.log());
    assert_eq!([&kept, &added].map(|path| get_unix(path).text()), ["a", "a"]);
    assert_eq!((new.address, new.get("/a").text()), (old.address, "a".to_owned()));
    assert!(UnixStream::connect(&dropped).is_err() && !dropped.exists());
    let log = new.log();
    assert!(log.contains(&format!("no longer listening on unix:{}", dropped.display())), "{log}");
    assert!(log.contains(&format!(" listening on unix:{}", added.display())), "{log}");
    new.signal("TERM");
    assert_eq!(new.wait().code(), Some(0), "{}", new.log());
    assert!(!kept.exists() && !added.exists(), "their paths go with the last server");
}

#[test]
fn the_number_of_workers_may_change_in_an_upgrade() {
    let up = Upgrades::new(site());
    let mut server = up.first();
    for workers in ["1", "4", "2", "3"] {
        let mut command = up.command();
        command.env("PAGECAST_WORKERS", workers);
        let next = up.site.start(command, " ready: ");
        assert_eq!(server.wait().code(), Some(0), "{}", server.log());
        server = next;
        // Whichever socket the kernel chooses, a worker accepts there.
        for _ in 0..40 {
            assert_eq!(server.get("/a").text(), "a", "{workers}");
        }
    }
}

#[test]
fn sockets_of_a_service_manager_are_handed_over_whatever_is_configured() {
    let up = Upgrades::new(site());
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut server = up.site.start(activated(&up.site, [Some(socket.into()), None], "1", ""), " ready: ");
    for _ in 0..2 {
        let next = up.next();
        assert_eq!(server.wait().code(), Some(0), "{}", server.log());
        assert_eq!((next.address, next.get("/a").text()), (address, "a".to_owned()));
        server = next;
    }
}

#[test]
fn a_successor_becomes_the_main_process_and_feeds_the_watchdog() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let up = Upgrades::new(site().env("NOTIFY_SOCKET", path.to_str().unwrap()));
    let mut command = up.site.command();
    let mut old = up.site.start(
        {
            command.env("WATCHDOG_USEC", "400000");
            command
        },
        " ready: ",
    );
    assert_eq!(next_notification(&manager), "READY=1\n");
    let new = up.next();
    assert_eq!(old.wait().code(), Some(0), "{}", old.log());
    let all: Vec<_> = (0..12).map(|_| next_notification(&manager)).collect();
    let succeeded = format!("MAINPID={}\nREADY=1\n", new.pid());
    let position = all.iter().position(|message| *message == succeeded).expect("the new one's word");
    assert!(all[position..].iter().any(|message| message == "WATCHDOG=1\n"), "{all:?}");
    assert!(!all.iter().any(|message| message.contains("STOPPING")), "{all:?}");
}

#[test]
fn systemd_accepts_the_units() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let units = ["pagecast.service", "pagecast.socket"].map(|name| project.join("config").join(name));
    let read = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
    let service = read(&units[0]);
    for line in ["Type=notify", "NotifyAccess=all", "WatchdogSec=", "ExecReload="] {
        assert!(service.lines().any(|known| known.starts_with(line)), "{line}");
    }
    let directory = tempfile::tempdir().unwrap();
    for path in &units {
        // The program need not be installed for the unit to be right.
        let text = read(path).replace("/usr/local/bin/pagecast", "/bin/true");
        std::fs::write(directory.path().join(path.file_name().unwrap()), text).unwrap();
    }
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).args(["pagecast.service", "pagecast.socket"]);
    let Ok(verified) = verify.current_dir(directory.path()).output() else {
        return eprintln!("systemd-analyze is not here: the units are not verified");
    };
    let expected = String::from_utf8_lossy(&verified.stderr);
    let ours: Vec<_> = expected.lines().filter(|line| line.contains("pagecast.s")).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

/// A site and its servers, one after the other.
pub struct Upgrades {
    pub site: Site,
    pub path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Upgrades {
    pub fn new(site: Site) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("upgrade");
        let site = site.env("PAGECAST_UPGRADE_SOCKET", path.to_str().unwrap());
        Self { site, path, _directory: directory }
    }

    pub fn first(&self) -> Server {
        self.site.start(self.site.command(), " ready: ")
    }

    /// The command that starts a successor.
    pub fn command(&self) -> Command {
        let mut command = self.site.command();
        command.env("PAGECAST_UPGRADE_FROM", &self.path);
        command
    }

    pub fn next(&self) -> Server {
        let mut next = self.site.start(self.command(), " ready: ");
        next.wait_for_log("taken over from process");
        assert!(!next.log().contains("but:"), "{}", next.log());
        next
    }
}

/// Clients that send requests until they are stopped, and accept only complete and right responses.
#[derive(Clone, Copy)]
pub struct Load<'a> {
    pub done: &'a AtomicBool,
    pub count: &'a AtomicU64,
}

/// Ends the load, even if the test fails.
pub struct End<'a>(pub &'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Load<'_> {
    /// Keeps its connection until a response has `Connection: close`.
    pub fn keep_alive(&self, address: SocketAddr, target: &str) {
        let mut stream = connect(address);
        while !self.done.load(Ordering::Relaxed) {
            write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let reply = Reply::read(&mut stream, false);
            let reply = reply.unwrap_or_else(|| panic!("a request for {target} was lost"));
            self.check(target, &reply);
            if reply.field("connection") == Some("close") {
                stream = connect(address);
            }
        }
    }

    pub fn one_by_one(&self, address: SocketAddr, target: &str) {
        while !self.done.load(Ordering::Relaxed) {
            let mut stream = connect(address);
            write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            let reply = Reply::read(&mut stream, false);
            self.check(target, &reply.unwrap_or_else(|| panic!("a request for {target} was lost")));
        }
    }

    fn check(&self, target: &str, reply: &Reply) {
        let right = match target {
            "/a" => reply.body == b"a",
            "/readyz" => reply.body == b"ok\n",
            _ => reply.body == pattern(LONG, 1),
        };
        assert!(reply.status == 200 && right, "{target}: {} {:?}", reply.status, reply.fields);
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("nobody is refused");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub fn site() -> Site {
    Site::with([("a", b"a")]).file("long.bin", &pattern(LONG, 1)).env("PAGECAST_DRAIN_DELAY", "1s")
}

/// The site's server with these sockets as descriptors 3 and 4, as a service manager would start it.
pub fn activated(site: &Site, sockets: [Option<OwnedFd>; 2], count: &str, names: &str) -> Command {
    let plain = site.command();
    let mut shell = Command::new("sh");
    shell.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let moved = "exec 3<&0 4<&1 0</dev/null 1>/dev/null; test -S /proc/self/fd/4 || exec 4<&-; \
                 LISTEN_PID=$$ exec \"$0\"";
    shell.args(["-c", moved]).arg(plain.get_program()).env("LISTEN_FDS", count);
    if !names.is_empty() {
        shell.env("LISTEN_FDNAMES", names);
    }
    let [first, second] = sockets.map(|socket| socket.map_or_else(Stdio::null, Stdio::from));
    shell.stdin(first).stdout(second).stderr(Stdio::piped());
    shell
}

pub fn get_unix(path: &Path) -> Reply {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    Reply::read(&mut stream, false).expect("a response")
}

/// The next notification that a service manager gets.
pub fn next_notification(manager: &UnixDatagram) -> String {
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = [0; 512];
    let length = uninterrupted(|| manager.recv(&mut bytes)).expect("a word");
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

/// Longer than the buffers between the server and a client that does not read.
const LONG: usize = 4 * 1024 * 1024;
