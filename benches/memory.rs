//! What connections cost in memory: the server's own bytes for each that idles and for each slow download of one file.
//!
//! The server is a process of its own, so that the limit on open files holds for each side. Nothing is measured that did
//! not come about: every connection has its answer first, and all must still be open at the end.

#![allow(clippy::unwrap_used, reason = "a bench that can't be set up must not run")]
#![allow(clippy::print_stdout, reason = "it is there to print")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn main() {
    let count = CONNECTIONS.min(raise_open_files().saturating_sub(OTHER_FILES));
    let site = tempfile::tempdir().unwrap();
    std::fs::write(site.path().join("small"), [b'a'; 1024]).unwrap();
    std::fs::File::create(site.path().join("large")).unwrap().set_len(1 << 30).unwrap();
    println!(
        "{:<28} {:>8} {:>10} {:>14} {:>14} {:>8}",
        "", "count", "bytes each", "of them heap", "kernel each", "limit"
    );
    idle_connections(site.path(), count);
    slow_downloads(site.path(), count);
}

/// Connections that have had one answer each and wait.
fn idle_connections(site: &Path, count: usize) {
    let server = Server::start(site, count);
    let before = server.memory();
    let mut streams: Vec<TcpStream> = (0..count).map(|index| server.ask(index, "/small")).collect();
    for stream in &mut streams {
        assert_eq!(read_head(stream), 200);
        stream.read_exact(&mut [0; 1024]).unwrap();
    }
    let after = server.settled_memory();
    report("idle connections", &before, &after, count, 6 * 1024);
    assert_all_open(&streams);
}

/// Downloads of one large file by clients that take a few bytes a second.
fn slow_downloads(site: &Path, count: usize) {
    let server = Server::start(site, count);
    let before = server.memory();
    let mut streams: Vec<TcpStream> = (0..count).map(|index| server.ask(index, "/large")).collect();
    for stream in &mut streams {
        assert_eq!(read_head(stream), 200);
    }
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        let round = Instant::now();
        for stream in &mut streams {
            stream.read_exact(&mut [0; 8]).unwrap();
        }
        std::thread::sleep(Duration::from_secs(1).saturating_sub(round.elapsed()));
    }
    let after = server.settled_memory();
    report("slow downloads of one file", &before, &after, count, 16 * 1024);
    for stream in &mut streams {
        stream.read_exact(&mut [0; 8]).unwrap();
    }
}

fn report(what: &str, before: &Memory, after: &Memory, count: usize, limit: u64) {
    let each = |after: u64, before: u64| after.saturating_sub(before) / count as u64;
    let bytes = each(after.resident, before.resident);
    println!(
        "{what:<28} {count:>8} {bytes:>10} {:>14} {:>14} {limit:>8}{}",
        each(after.anonymous, before.anonymous),
        each(after.kernel, before.kernel),
        if bytes < limit { "" } else { "  OVER" },
    );
}

/// In bytes.
struct Memory {
    /// All that the server has resident, but the pages of the files that it sends: they are the page cache's.
    resident: u64,
    /// Its heap and stacks.
    anonymous: u64,
    /// Buffers of all TCP sockets of this machine, the clients' as well.
    kernel: u64,
}

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(site: &Path, count: usize) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pagecast"))
            .env_clear()
            .env("PAGECAST_ROOT", site)
            .env("PAGECAST_LISTEN", "127.0.0.1:0")
            .env("PAGECAST_ADMIN_LISTEN", "off")
            .env("PAGECAST_WORKERS", "2")
            .env("PAGECAST_MAX_CONNECTIONS", (count + count / 8 + 8).to_string())
            .env("PAGECAST_IDLE_TIMEOUT", "1h")
            .env("PAGECAST_STALL_TIMEOUT", "1h")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let line =
            log.find(|line| line.as_ref().is_ok_and(|line| line.contains("listening on"))).unwrap().unwrap();
        let address = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
        std::thread::spawn(move || log.for_each(drop));
        let server = Self { child, address };
        // What is made once, with the first requests, is no connection's.
        for target in ["/small", "/large"] {
            let mut stream = server.ask(0, target);
            assert_eq!(read_head(&mut stream), 200);
        }
        std::thread::sleep(SETTLE);
        server
    }

    /// A connection that has sent a request; its client has little room for the answer.
    fn ask(&self, index: usize, target: &str) -> TcpStream {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        // Each address has ports of its own.
        let host = u8::try_from(2 + index / PER_ADDRESS).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)).into()).unwrap();
        socket.connect(&self.address.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        stream
    }

    fn settled_memory(&self) -> Memory {
        std::thread::sleep(SETTLE);
        self.memory()
    }

    fn memory(&self) -> Memory {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
        };
        let mapped = std::fs::read_to_string(format!("/proc/{}/smaps", self.child.id())).unwrap();
        Memory {
            resident: kib("VmRSS") - of_site(&mapped),
            anonymous: kib("RssAnon"),
            kernel: kernel_buffers(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Resident bytes of the mappings of the site's files.
fn of_site(smaps: &str) -> u64 {
    let mut is_site = false;
    let mut bytes = 0;
    for line in smaps.lines() {
        if line.split(' ').next().is_some_and(|range| range.contains('-')) {
            is_site = line.ends_with("/large") || line.ends_with("/small");
        } else if let Some(size) = line.strip_prefix("Rss:").filter(|_| is_site) {
            bytes += size.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024;
        }
    }
    bytes
}

fn kernel_buffers() -> u64 {
    let sockets = std::fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let pages =
        sockets.lines().find(|line| line.starts_with("TCP:")).and_then(|line| line.rsplit(' ').next());
    pages.and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * rustix::param::page_size() as u64
}

/// Reads a head, and nothing behind it; returns the status.
fn read_head(stream: &mut TcpStream) -> u16 {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap().split(' ').nth(1).unwrap().parse().unwrap()
}

fn assert_all_open(streams: &[TcpStream]) {
    for stream in streams {
        stream.set_nonblocking(true).unwrap();
        let nothing = stream.peek(&mut [0]).unwrap_err();
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock, "a connection was closed");
    }
}

/// Raises the soft limit on open files to the hard one, which the server inherits; returns it.
fn raise_open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

const CONNECTIONS: usize = 10_000;

/// Open files of either side that are no connections: handles, listeners, a reserve.
const OTHER_FILES: usize = 2_000;

const PER_ADDRESS: usize = 2_000;

const SETTLE: Duration = Duration::from_secs(1);
