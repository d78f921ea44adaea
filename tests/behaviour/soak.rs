//! A mixed load for a while: files change, shrink and vanish, clients are slow, break off and send nonsense, and the
//! configuration is reloaded. Every response is right, and nothing leaks. `just soak` runs it for ten minutes.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::client::{ReadSome, patterned};
use crate::site::{PATIENCE, Reply, Server, Site};

#[test]
fn under_a_mixed_load_every_body_is_right_and_nothing_leaks() {
    let steady: Vec<(String, Vec<u8>)> =
        STEADY.iter().map(|length| (format!("steady-{length}"), patterned(*length))).collect();
    let site = Site::new().env("PAGECAST_STALL_TIMEOUT", "2s").env("PAGECAST_HEAD_TIMEOUT", "2s");
    let site = site.config("cache_bytes = \"64MiB\"\nheap_bytes = \"4MiB\"\nhandles = 64\n");
    let mut site = site;
    for (name, bytes) in &steady {
        site = site.file(name, bytes);
    }
    for name in CHANGING {
        site = site.file(name, &generation(name, 0));
    }
    let mut server = site.serve();
    let spoken = Soak::new();
    let (tenth, rest) = (duration() / 10, duration() - duration() / 10);
    let warm = std::thread::scope(|scope| {
        let (server, spoken, steady) = (&server, &spoken, &steady);
        scope.spawn(move || spoken.until_over(|turn| change(&server.root, turn)));
        scope.spawn(move || spoken.until_over(|_| reload(server)));
        for seed in 0..4 {
            scope.spawn(move || spoken.until_over(|turn| ask(server, steady, spoken, seed << 32 | turn)));
        }
        scope.spawn(move || spoken.until_over(|turn| misbehave(server, turn)));
        std::thread::sleep(tenth);
        let warm = resident(server);
        std::thread::sleep(rest);
        spoken.is_over.store(true, Ordering::Relaxed);
        warm
    });
    let answered = spoken.answered.load(Ordering::Relaxed);
    assert_eq!(*spoken.wrong.lock().unwrap(), Vec::<String>::new(), "of {answered} answers");
    assert!(answered > 0 && server.is_running());
    assert!(!server.log().contains("panicked"), "{}", server.log());
    is_quiet_again(&server);
    let (grown, room) = (resident(&server).saturating_sub(warm), ROOM_TO_GROW);
    assert!(grown < room, "{grown} bytes more than after the first tenth");
    server.signal("TERM");
    assert!(server.wait().success(), "{}", server.log());
}

/// State shared by the threads of a run.
struct Soak {
    is_over: AtomicBool,
    answered: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl Soak {
    fn new() -> Self {
        Self { is_over: AtomicBool::new(false), answered: AtomicU64::new(0), wrong: Mutex::default() }
    }

    fn until_over(&self, mut turn: impl FnMut(u64)) {
        for count in 1.. {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            turn(count);
        }
    }

    /// Records the first few wrong responses; later ones are dropped.
    fn judge(&self, is_right: bool, what: impl FnOnce() -> String) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        let mut wrong = self.wrong.lock().unwrap();
        if !is_right && wrong.len() < 8 {
            wrong.push(what());
        }
    }
}

/// The bytes of one generation of a changing file: they identify it, have its length, and end in their digest.
fn generation(name: &str, number: u64) -> Vec<u8> {
    let length = 1 + usize::try_from(mix(number) % (1 << 20)).unwrap();
    let mut bytes = format!("{name} {number} {length}\n").into_bytes();
    bytes.extend(patterned(length));
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    bytes
}

/// Whether bytes are a generation of the file, whole, or as far as they go if it was truncated.
///
/// Shortening a file zeroes what lies behind its new end in pages that a socket shares with the page cache (`sendfile`) and
/// that have not left yet: zeros are let pass, and nothing else.
fn is_generation(name: &str, bytes: &[u8]) -> bool {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return true };
    let Ok(head) = std::str::from_utf8(&bytes[..end]) else { return false };
    let number = head.strip_prefix(name).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.is_some_and(|number| {
        let whole = generation(name, number);
        bytes.len() <= whole.len() && whole.iter().zip(bytes).all(|(own, got)| own == got || *got == 0)
    })
}

fn change(root: &Path, turn: u64) {
    let name = CHANGING[usize::try_from(mix(turn)).unwrap_or(0) % CHANGING.len()];
    let path = root.join(name);
    match mix(turn + 1) % 4 {
        0 => {
            if let Ok(file) = std::fs::OpenOptions::new().write(true).open(&path) {
                let length = file.metadata().map_or(0, |metadata| metadata.len());
                let _ = file.set_len(mix(turn + 2) % (length + 1));
            }
        }
        1 => {
            let _ = std::fs::remove_file(&path);
        }
        _ => {
            let beside = root.join(format!(".{name}.new"));
            std::fs::write(&beside, generation(name, turn)).unwrap();
            std::fs::rename(&beside, &path).unwrap();
        }
    }
    std::thread::sleep(Duration::from_millis(mix(turn + 3) % 40));
}

fn reload(server: &Server) {
    server.signal("HUP");
    std::thread::sleep(Duration::from_millis(300));
}

/// One request of an honest client, and whether its response is right.
fn ask(server: &Server, steady: &[(String, Vec<u8>)], spoken: &Soak, seed: u64) {
    let choice = mix(seed);
    if choice.is_multiple_of(3) {
        let name = CHANGING[usize::try_from(choice >> 8).unwrap_or(0) % CHANGING.len()];
        let Some(reply) = try_get(server, name, "") else { return };
        let is_right = match reply.status {
            200 if reply.is_complete() => is_generation(name, &reply.body),
            // Cut because the file changed while it was sent: the received bytes are still of one generation.
            200 => is_generation(name, &reply.body),
            404 => true,
            _ => false,
        };
        return spoken.judge(is_right, || format!("{name}: {} {:?}", reply.status, reply.fields));
    }
    let (name, bytes) = &steady[usize::try_from(choice >> 8).unwrap_or(0) % steady.len()];
    let (start, length) = (mix(seed + 1) % bytes.len() as u64, mix(seed + 2) % bytes.len() as u64);
    let start = usize::try_from(start).unwrap();
    let end = bytes.len().min(start + usize::try_from(length).unwrap() + 1);
    let is_range = choice.is_multiple_of(2);
    let lines = if is_range { format!("Range: bytes={start}-{}\r\n", end - 1) } else { String::new() };
    let reply = try_get(server, name, &lines);
    let expected = if is_range { &bytes[start..end] } else { &bytes[..] };
    let status = if is_range { 206 } else { 200 };
    let is_right = reply.as_ref().is_some_and(|reply| reply.status == status && reply.body == expected);
    spoken.judge(is_right, || {
        format!("{name} {lines:?}: {:?}", reply.map(|reply| (reply.status, reply.fields)))
    });
}

fn try_get(server: &Server, name: &str, lines: &str) -> Option<Reply> {
    let mut stream = server.connect();
    let asked = write!(stream, "GET /{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n")
        .and_then(|()| stream.flush());
    asked.ok().and_then(|()| Reply::read(&mut stream, false))
}

/// A client that is slow, breaks off, or sends nonsense.
fn misbehave(server: &Server, turn: u64) {
    let longest = STEADY.iter().max().unwrap_or(&0);
    let mut stream: TcpStream = server.connect_narrow();
    let wanted = match mix(turn) % 4 {
        0 => format!("GET /steady-{longest} HTTP/1.1\r\nHost: x\r\n\r\n"),
        1 => format!("GET /steady-{longest} HTTP/1.1\r\nHos"),
        2 => "GET / HTTP/9.9\r\n\r\n\0\0".to_owned(),
        _ => "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n".repeat(8),
    };
    let _ = stream.write_all(wanted.as_bytes());
    let mut some = [0; 4096];
    for _ in 0..mix(turn + 1) % 8 {
        let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
        let _ = stream.read_some(&mut some);
    }
    // Dropped with bytes unread: the server sees a reset.
}

/// Waits until the connections and open files of the run are closed.
fn is_quiet_again(server: &Server) {
    let deadline = Instant::now() + PATIENCE;
    while server.connections() > 0 {
        assert!(Instant::now() < deadline, "{} connections are left", server.connections());
        std::thread::sleep(Duration::from_millis(50));
    }
    let open = server.handles_under(&server.root);
    assert!(open <= 64, "{open} files are open, and 64 may be");
}

/// Private memory of the server.
fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn duration() -> Duration {
    let seconds = std::env::var("PAGECAST_SOAK_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(5))
}

/// A pseudorandom number that is the same in every run.
fn mix(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 17
}

/// Lengths of the files that do not change.
const STEADY: [usize; 6] = [1, 1_000, 16_385, 100_000, 1 << 20, 5 << 20];

const CHANGING: [&str; 5] = ["a.bin", "b.bin", "c.bin", "d.bin", "e.bin"];

/// Growth that is permitted after the first tenth of a run, for caches and the allocator.
const ROOM_TO_GROW: u64 = 48 << 20;
