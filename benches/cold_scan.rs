//! Hot requests during a cold scan: 16 connections request 1 KiB files, 16 read large files from a slow disk, and one worker
//! serves both. Prints the figures of each alone and of both together. Takes about 12 seconds.
//!
//! The disk is [`Slow`]: 2 ms for each read of cold pages, and a page cache for a quarter of the scanned bytes. Clients and server
//! share this process, so figures of two runs compare with each other, not with those of other servers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that can't be set up must not run")]

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix_rt::System;
use pagecast::config::{self, ProcessInputs, SystemFileReader};
use pagecast::files::storage::Slow;
use pagecast::lifecycle::reload::ReloadRequests;
use pagecast::server::{Listeners, Signals, serve};
use pagecast::sys::system_facts::system_facts;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

fn main() {
    // `cargo test --benches` only checks that it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let disk = Slow::new(DELAY, MEMORY);
    let server = Server::start(&disk);
    drop(load(server.address, CONNECTIONS, 0, WARM_UP));
    let quiet = load(server.address, CONNECTIONS, 0, PHASE);
    let alone = load(server.address, 0, CONNECTIONS, PHASE);
    let both = load(server.address, CONNECTIONS, CONNECTIONS, PHASE);
    println!("{:24} {:>12} {:>10} {:>10} {:>12}", "", "hot req/s", "p50 ms", "p99 ms", "cold MiB/s");
    for (name, outcome) in [("quiet", &quiet), ("scan alone", &alone), ("under scan", &both)] {
        println!("{name:24} {outcome}");
    }
    println!(
        "disk: {} cold reads of {:?}, {} MiB; a worker waited for the disk {} times",
        disk.reads(),
        DELAY,
        disk.read_bytes() >> 20,
        disk.cold_sends()
    );
    assert!(quiet.hot > 0 && both.hot > 0 && both.cold_bytes > 0, "both were served");
}

/// Figures of one phase.
struct Outcome {
    hot: usize,
    latencies: Vec<Duration>,
    cold_bytes: u64,
    span: Duration,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.span.as_secs_f64();
        let at = |share: f64| {
            let place = (self.latencies.len() as f64 * share) as usize;
            self.latencies.get(place).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
        };
        let cold = (self.cold_bytes >> 20) as f64 / seconds;
        write!(f, "{:12.0} {:10.3} {:10.3} {cold:12.0}", self.hot as f64 / seconds, at(0.5), at(0.99))
    }
}

struct Server {
    address: SocketAddr,
    stop: UnboundedSender<()>,
    serving: Option<JoinHandle<()>>,
    _site: tempfile::TempDir,
}

impl Server {
    fn start(disk: &Arc<Slow>) -> Self {
        let site = tempfile::tempdir().unwrap();
        for n in 0..CONNECTIONS {
            std::fs::write(site.path().join(format!("hot{n}")), [b'h'; HOT_LENGTH]).unwrap();
            std::fs::File::create(site.path().join(format!("cold{n}")))
                .unwrap()
                .set_len(COLD_LENGTH)
                .unwrap();
        }
        let variables = [
            ("PAGECAST_ROOT", site.path().to_str().unwrap()),
            ("PAGECAST_LISTEN", "127.0.0.1:0"),
            ("PAGECAST_ADMIN_LISTEN", "off"),
            ("PAGECAST_WORKERS", "1"),
            ("PAGECAST_DRAIN_DELAY", "0"),
        ]
        .map(|(name, value)| (name.into(), value.into()));
        let (stop, stops) = unbounded_channel();
        let (sender, receiver) = mpsc::channel();
        let disk = Arc::clone(disk);
        let serving = std::thread::spawn(move || {
            // The environment counts as well, so that settings can be tried.
            let variables = std::env::vars_os().chain(variables);
            let variables = variables.into_iter().collect();
            let given = ProcessInputs { variables, facts: system_facts(), ..ProcessInputs::default() };
            let loaded = config::load(&given, Vec::new(), &SystemFileReader).expect("a configuration");
            System::new().block_on(async {
                let listeners = Listeners::bind(&loaded.config, &loaded.limits).unwrap();
                sender.send(listeners.urls().next().unwrap().to_owned()).unwrap();
                let signals = Signals { stops, reloads: ReloadRequests::default() };
                serve(&loaded, given, listeners, signals, disk).await.unwrap();
            });
        });
        let url = receiver.recv().unwrap();
        let address = url.strip_prefix("http://").unwrap().parse().unwrap();
        Self { address, stop, serving: Some(serving), _site: site }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        let _ = self.stop.send(());
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

/// Runs `hot` and `cold` connections for `span`. Each kind has a thread.
fn load(server: SocketAddr, hot: usize, cold: usize, span: Duration) -> Outcome {
    let end = Instant::now() + span;
    let scanning = std::thread::spawn(move || on_a_loop(async move { scan(server, cold, end).await }));
    let mut latencies = on_a_loop(async move { request_hot(server, hot, end).await });
    let cold_bytes = scanning.join().unwrap();
    latencies.sort_unstable();
    Outcome { hot: latencies.len(), latencies, cold_bytes, span }
}

fn on_a_loop<T>(job: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, job)
}

/// Requests hot files; returns the latency of each response.
async fn request_hot(server: SocketAddr, connections: usize, end: Instant) -> Vec<Duration> {
    let requests: Vec<_> = (0..connections)
        .map(|n| {
            tokio::task::spawn_local(async move {
                let mut connection = Connection::open(server).await;
                let mut latencies = Vec::new();
                while Instant::now() < end {
                    let sent = Instant::now();
                    let length = connection.get(&format!("/hot{n}"), &Cell::new(0), None).await.unwrap();
                    assert_eq!(length, HOT_LENGTH as u64);
                    latencies.push(sent.elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut all = Vec::new();
    for request in requests {
        all.extend(request.await.unwrap());
    }
    all
}

/// Reads cold files one after the other; returns the number of bytes.
async fn scan(server: SocketAddr, connections: usize, end: Instant) -> u64 {
    let total = Rc::new(Cell::new(0));
    let scanning: Vec<_> = (0..connections)
        .map(|n| {
            let total = Rc::clone(&total);
            tokio::task::spawn_local(async move {
                let mut connection = Connection::open(server).await;
                while connection.get(&format!("/cold{n}"), &total, Some(end)).await == Some(COLD_LENGTH) {}
            })
        })
        .collect();
    for scanning in scanning {
        scanning.await.unwrap();
    }
    total.get()
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: vec![0; 256 * 1024] }
    }

    /// Reads one response to its end and adds its bytes to `total`; `None` if `until` comes first.
    async fn get(&mut self, target: &str, total: &Cell<u64>, until: Option<Instant>) -> Option<u64> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        self.stream.writable().await.unwrap();
        assert_eq!(self.stream.try_write(request.as_bytes()).unwrap(), request.len());
        let mut head = Vec::new();
        let (length, mut got) = loop {
            let read = self.read().await;
            head.extend_from_slice(&self.buffer[..read]);
            if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                let text = std::str::from_utf8(&head[..end]).unwrap().to_ascii_lowercase();
                assert!(text.starts_with("http/1.1 200"), "{text}");
                let value = text.split("content-length: ").nth(1).unwrap();
                let length: u64 = value.split("\r\n").next().unwrap().parse().unwrap();
                break (length, (head.len() - end - 4) as u64);
            }
        };
        total.set(total.get() + got);
        while got < length {
            if until.is_some_and(|until| Instant::now() >= until) {
                return None;
            }
            let read = self.read().await as u64;
            got += read;
            total.set(total.get() + read);
        }
        Some(length)
    }

    async fn read(&mut self) -> usize {
        loop {
            self.stream.readable().await.unwrap();
            match self.stream.try_read(&mut self.buffer) {
                Ok(0) => panic!("the server closed"),
                Ok(read) => return read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

const CONNECTIONS: usize = 16;

const HOT_LENGTH: usize = 1024;

const COLD_LENGTH: u64 = 32 << 20;

/// Bytes that the disk keeps warm.
const MEMORY: u64 = 128 << 20;

/// Duration of a read of cold pages.
const DELAY: Duration = Duration::from_millis(2);

const WARM_UP: Duration = Duration::from_secs(1);

const PHASE: Duration = Duration::from_secs(3);
