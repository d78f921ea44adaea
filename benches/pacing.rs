//! How well the limits on bandwidth hold: the real server on loopback, each rate for ten seconds. Prints the measured rate as a
//! part of the one asked for, and what part of a rate for all each of two clients had, of which one has 50 connections.

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that can't be set up must not run")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn main() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::File::create(directory.path().join("long")).unwrap().set_len(LONG).unwrap();
    println!("| rate a second | limit | connections | measured / asked | share of the first client |");
    println!("| --- | --- | --- | --- | --- |");
    // What hardly uses the processor runs side by side; the highest rate runs alone.
    let slow: Vec<_> = [("64KiB", 64 << 10), ("1MiB", 1 << 20)]
        .into_iter()
        .flat_map(|rate| CASES.iter().map(move |case| (rate, case)))
        .collect();
    let lines: Vec<String> = std::thread::scope(|scope| {
        let runs: Vec<_> =
            slow.iter().map(|(rate, case)| scope.spawn(|| measure(directory.path(), *rate, case))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    lines.iter().for_each(|line| println!("{line}"));
    for case in CASES {
        println!("{}", measure(directory.path(), ("100MiB", 100 << 20), case));
    }
}

/// A limit, and how many connections each of the clients has.
struct Case {
    name: &'static str,
    variable: &'static str,
    clients: &'static [usize],
}

const CASES: &[Case] = &[
    Case { name: "connection", variable: "PAGECAST_RATE_CONNECTION", clients: &[1] },
    Case { name: "client", variable: "PAGECAST_RATE_CLIENT", clients: &[1] },
    Case { name: "client", variable: "PAGECAST_RATE_CLIENT", clients: &[50] },
    Case { name: "total", variable: "PAGECAST_RATE_TOTAL", clients: &[1, 50] },
];

/// Downloads for a while and returns a line of the table.
fn measure(root: &std::path::Path, (written, rate): (&str, u64), case: &Case) -> String {
    let server = Server::start(root, case.variable, written);
    let connections: usize = case.clients.iter().sum();
    let (begins, is_over) = (Barrier::new(connections + 1), AtomicBool::new(false));
    let taken: Vec<AtomicU64> = case.clients.iter().map(|_| AtomicU64::new(0)).collect();
    let (elapsed, taken) = std::thread::scope(|scope| {
        for (number, count) in case.clients.iter().enumerate() {
            for _ in 0..*count {
                let (begins, is_over, taken) = (&begins, &is_over, &taken[number]);
                let mut stream = server.connect(Ipv4Addr::new(127, 0, 0, 1 + u8::try_from(number).unwrap()));
                scope.spawn(move || {
                    begins.wait();
                    stream.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
                    let mut buffer = vec![0; 64 << 10];
                    while !is_over.load(Ordering::Relaxed) {
                        match stream.read(&mut buffer) {
                            Ok(length @ 1..) => taken.fetch_add(length as u64, Ordering::Relaxed),
                            _ => break,
                        };
                    }
                });
            }
        }
        begins.wait();
        let start = Instant::now();
        std::thread::sleep(MEASURED);
        // Now: what those still get who wait for their next bytes comes after the end.
        let taken: Vec<u64> = taken.iter().map(|bytes| bytes.load(Ordering::Relaxed)).collect();
        let elapsed = start.elapsed();
        is_over.store(true, Ordering::Relaxed);
        (elapsed, taken)
    });
    let all: u64 = taken.iter().sum();
    let ratio = all as f64 / elapsed.as_secs_f64() / rate as f64;
    let numbers: Vec<String> = case.clients.iter().map(usize::to_string).collect();
    let share = match taken.as_slice() {
        [first, _] => format!("{:.3}", *first as f64 / all as f64),
        _ => String::new(),
    };
    format!("| {written} | {} | {} | {ratio:.3} | {share} |", case.name, numbers.join(" : "))
}

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(root: &std::path::Path, variable: &str, rate: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pagecast"))
            .env_clear()
            .env("PAGECAST_ROOT", root)
            .env("PAGECAST_LISTEN", "127.0.0.1:0")
            .env("PAGECAST_ADMIN_LISTEN", "off")
            .env("PAGECAST_WORKERS", "2")
            .env(variable, rate)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut address = None;
        for line in lines.by_ref().map_while(Result::ok) {
            if let Some((_, text)) = line.split_once("listening on http://") {
                address = text.trim().parse().ok();
            }
            if line.contains(" ready: ") {
                break;
            }
        }
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address: address.expect("it listens") }
    }

    fn connect(&self, from: Ipv4Addr) -> TcpStream {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
        socket.connect(&self.address.into()).unwrap();
        // A client that ends its measurement need not wait for the next bytes of a slow one.
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.into()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Longer than what any case takes.
const LONG: u64 = 4 << 30;

const MEASURED: Duration = Duration::from_secs(10);
