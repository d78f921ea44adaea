//! Thousands of slow connections, made by slowhttptest, beside an honest client that must not notice.

use std::io::Write;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

use crate::site::{PATIENCE, Reply, Server, Site, pattern};

const LONG: usize = 16 * 1024 * 1024;

/// The slowest of a hundred honest requests.
const P99: Duration = Duration::from_millis(100);

const SLOW_HEADERS: &[&str] = &["-H", "-i", "1", "-x", "24"];
const SLOW_READ: &[&str] = &["-X", "-n", "1", "-w", "16", "-y", "512", "-z", "5"];
const RANGES: &[&str] = &["-R", "-a", "10", "-b", "3000"];

#[test]
#[ignore = "needs slowhttptest: apt-get install slowhttptest"]
fn slow_headers_do_not_slow_an_honest_client() {
    check_unharmed(SLOW_HEADERS);
}

#[test]
#[ignore = "needs slowhttptest: apt-get install slowhttptest"]
fn slow_readers_do_not_slow_an_honest_client() {
    check_unharmed(SLOW_READ);
}

#[test]
#[ignore = "needs slowhttptest: apt-get install slowhttptest"]
fn thousands_of_ranges_do_not_slow_an_honest_client() {
    check_unharmed(RANGES);
}

#[test]
#[ignore = "needs slowhttptest: apt-get install slowhttptest"]
fn more_slow_connections_than_the_limit_disturb_no_client() {
    for mode in [SLOW_HEADERS, SLOW_READ] {
        let mut server = site().env("PAGECAST_MAX_CONNECTIONS", "2000").serve();
        let honest = beside(&mut server, mode, 1500);
        assert!(honest.newcomers.iter().all(|(status, _)| [200, 503].contains(status)), "{mode:?}");
        honest.check(mode);
    }
}

fn check_unharmed(mode: &[&str]) {
    let connections = attackers();
    let mut server = site().env("PAGECAST_MAX_CONNECTIONS", &(connections + 1000).to_string()).serve();
    let honest = beside(&mut server, mode, if mode == RANGES { 0 } else { connections / 2 });
    assert!(honest.newcomers.iter().all(|(status, _)| *status == 200), "{mode:?}: all are served");
    honest.check(mode);
}

fn site() -> Site {
    Site::with([("a", b"a")]).file("long", &pattern(LONG, 1))
}

/// Results of honest clients.
struct Honest {
    /// Time of each response on a kept connection.
    kept: Vec<Duration>,
    /// Status and time of each response on a new connection.
    newcomers: Vec<(u16, Duration)>,
}

/// Sends requests while slowhttptest runs, which must hold at least `held` connections for a while.
fn beside(server: &mut Server, mode: &[&str], held: usize) -> Honest {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut kept = server.connect();
    let mut honest = Honest { kept: Vec::new(), newcomers: Vec::new() };
    let mut attack = Attack::start(server, mode);
    let mut most = 0;
    let mut counted = Instant::now();
    while !attack.has_ended() {
        assert_eq!(timed(&mut honest.kept, || ask(&mut kept, "keep-alive")), 200, "{mode:?}");
        let begun = Instant::now();
        let status = ask(&mut server.connect(), "close");
        honest.newcomers.push((status, begun.elapsed()));
        if counted.elapsed() > Duration::from_secs(1) {
            most = most.max(server.open_files());
            counted = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(server.is_running());
    assert!(most >= held, "{mode:?}: no more than {most} connections were held");
    assert_eq!(ask(&mut kept, "keep-alive"), 200, "{mode:?}: afterwards");
    honest
}

impl Honest {
    fn check(mut self, mode: &[&str]) {
        let mut newcomers: Vec<Duration> = self.newcomers.iter().map(|(_, took)| *took).collect();
        for (who, took) in [("kept", &mut self.kept), ("newcomers", &mut newcomers)] {
            assert!(took.len() >= 100, "{mode:?}: {who}: only {} answers", took.len());
            took.sort_unstable();
            let p99 = took[took.len() * 99 / 100];
            println!(
                "{mode:?}: {who}: {} answers, p99 {p99:?}, slowest {:?}",
                took.len(),
                took[took.len() - 1]
            );
            assert!(p99 < P99, "{mode:?}: {who}: p99 {p99:?}");
        }
    }
}

fn timed<T>(times: &mut Vec<Duration>, what: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = what();
    times.push(begun.elapsed());
    done
}

/// The status of a response, which must arrive.
fn ask(stream: &mut TcpStream, connection: &str) -> u16 {
    // In one write: the client's kernel delays small segments.
    let request = format!("GET /a HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\n\r\n");
    let _ = stream.write_all(request.as_bytes());
    Reply::read(stream, false).expect("an answer").status
}

/// A running slowhttptest, ended when dropped.
struct Attack {
    child: Child,
    begun: Instant,
}

impl Attack {
    fn start(server: &Server, mode: &[&str]) -> Self {
        let url = format!("http://{}/long", server.address);
        let child = Command::new("sh")
            .args(["-c", "ulimit -n $(ulimit -Hn) && exec slowhttptest \"$@\"", "slowhttptest"])
            .args(mode)
            .args([
                "-c",
                &attackers().to_string(),
                "-r",
                "2000",
                "-l",
                "10",
                "-p",
                "3",
                "-v",
                "0",
                "-u",
                &url,
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, begun: Instant::now() }
    }

    fn has_ended(&mut self) -> bool {
        assert!(self.begun.elapsed() < PATIENCE * 3, "slowhttptest does not end");
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// 5,000 slow connections, or what the limit on open files allows.
fn attackers() -> usize {
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    usize::try_from(limit).map_or(5000, |limit| limit.saturating_sub(2500).min(5000))
}
