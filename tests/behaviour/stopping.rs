//! Stopping: responses under way finish, late clients are served or refused, and the exit code is right.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use crate::client::ReadSome;
use crate::frames::{self, END_HEADERS, HEADERS, Raw};
use crate::secured::{Wants, connect_raw, secured};
use crate::site::{PATIENCE, Reply, Server, Site, pattern};

/// Longer than all buffers between the disk and a client that does not read.
const LONG: usize = 16 * 1024 * 1024;

const GET_A: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn an_idle_server_ends_at_once_with_success() {
    for signal in ["TERM", "INT"] {
        let mut server = site().serve();
        assert_eq!(server.get("/a").text(), "a");
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0), "{signal}: {}", server.log());
        assert!(TcpStream::connect(server.address).is_err(), "nobody listens any more");
    }
}

#[test]
fn a_download_under_way_is_finished() {
    for signal in ["TERM", "INT"] {
        let mut server = site().serve();
        let (mut stream, mut reply) = begin(&server);
        server.signal(signal);
        wait_until_refused(&server);
        assert!(server.is_running(), "it waits for the download");
        finish(&mut stream, &mut reply);
        assert!(reply.body == pattern(LONG, 1), "{signal}: cut at {}", reply.body.len());
        assert_eq!(stream.read_some(&mut [0]).unwrap(), 0, "the connection ends with its response");
        assert_eq!(server.wait().code(), Some(0), "{signal}: {}", server.log());
    }
}

#[test]
fn readiness_fails_at_once_while_traffic_is_served() {
    let mut server =
        site().env("PAGECAST_DRAIN_DELAY", "2s").env("PAGECAST_ADMIN_LISTEN", "127.0.0.1:0").serve();
    let ready = ["/livez", "/readyz", "/healthz"].map(|target| server.get(target).status);
    assert_eq!(ready, [200, 200, 200]);
    let mut idle = server.connect();
    idle.write_all(GET_A).unwrap();
    assert_eq!(Reply::read(&mut idle, false).unwrap().text(), "a");

    let begun = Instant::now();
    server.signal("TERM");
    server.wait_for_log("stopping");
    for target in ["/readyz", "/healthz"] {
        assert_eq!((server.get(target).status, server.get_admin(target).status), (503, 503), "{target}");
    }
    assert_eq!(server.get("/readyz").text(), "Draining.\n");
    assert_eq!((server.get("/livez").status, server.get_admin("/livez").status), (200, 200));
    assert_eq!(server.get("/a").text(), "a");
    idle.write_all(GET_A).unwrap();
    let reply = Reply::read(&mut idle, false).unwrap();
    assert_eq!((reply.text().as_str(), reply.field("connection")), ("a", None), "kept open in the delay");

    assert_eq!(idle.read_some(&mut [0]).unwrap(), 0, "idle connections close when the delay is over");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert!(begun.elapsed() >= Duration::from_secs(2), "the delay was kept");
}

#[test]
fn responses_after_the_drain_have_connection_close() {
    let mut server = site().serve();
    let mut half = server.connect();
    half.write_all(&GET_A[..10]).unwrap();
    let (mut busy, mut reply) = begin(&server);
    // A request queued after the download under way.
    busy.write_all(GET_A).unwrap();
    server.signal("TERM");
    wait_until_refused(&server);
    half.write_all(&GET_A[10..]).unwrap();
    let last = Reply::read(&mut half, false).expect("a request that had begun is answered");
    assert_eq!((last.text().as_str(), last.field("connection")), ("a", Some("close")));
    assert_eq!(half.read_some(&mut [0]).unwrap(), 0);
    finish(&mut busy, &mut reply);
    assert!(reply.is_complete());
    let next = Reply::read(&mut busy, false).expect("a request that is here already is answered");
    assert_eq!((next.text().as_str(), next.field("connection")), ("a", Some("close")));
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

#[test]
fn responses_that_do_not_finish_in_time_are_cut_and_counted() {
    let mut server = site().env("PAGECAST_SHUTDOWN_TIMEOUT", "300ms").serve();
    let mut downloads: Vec<_> = (0..3).map(|_| begin(&server)).collect();
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(1), "{}", server.log());
    assert!(server.log().contains("3 responses cut"), "{}", server.log());
    for (stream, reply) in &mut downloads {
        finish(stream, reply);
        assert!(!reply.is_complete());
        assert!(reply.body == pattern(reply.body.len(), 1), "what came is the file's");
    }
}

#[test]
fn a_connection_without_a_request_is_not_counted_as_cut() {
    let mut server = site().env("PAGECAST_SHUTDOWN_TIMEOUT", "300ms").serve();
    let mut half = server.connect();
    half.write_all(b"GET /a HT").unwrap();
    assert_eq!(server.get("/a").text(), "a");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "nobody's response was cut: {}", server.log());
}

#[test]
fn a_second_signal_ends_at_once() {
    for (delay, first, second) in [("0", "TERM", "TERM"), ("0", "INT", "TERM"), ("1h", "TERM", "INT")] {
        let mut server =
            site().env("PAGECAST_DRAIN_DELAY", delay).env("PAGECAST_SHUTDOWN_TIMEOUT", "1h").serve();
        let _download = begin(&server);
        server.signal(first);
        server.wait_for_log("stopping");
        if delay == "0" {
            wait_until_refused(&server);
        }
        assert!(server.is_running());
        server.signal(second);
        assert_eq!(server.wait().code(), Some(1), "{first} {second} {delay}: {}", server.log());
        assert!(server.log().contains("1 response"), "{}", server.log());
    }
}

#[test]
fn a_second_signal_to_an_idle_server_ends_it_with_success() {
    let mut server = site().env("PAGECAST_DRAIN_DELAY", "1h").serve();
    server.signal("TERM");
    server.wait_for_log("stopping");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

#[test]
fn connections_opened_before_the_stop_are_all_answered() {
    for round in 0..5 {
        let mut server = site().serve();
        // The process is paused, so that they wait in the queue of the listener.
        server.signal("STOP");
        let mut waiting: Vec<_> = (0..100)
            .map(|_| {
                let mut stream = server.connect();
                stream.write_all(GET_A).unwrap();
                stream
            })
            .collect();
        server.signal("TERM");
        server.signal("CONT");
        for (index, stream) in waiting.iter_mut().enumerate() {
            let reply = Reply::read(stream, false);
            assert_eq!(reply.map(|reply| reply.text()), Some("a".to_owned()), "{index} of round {round}");
        }
        drop(waiting);
        assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    }
}

#[test]
fn a_client_that_connects_just_before_the_stop_is_still_answered() {
    type Ask = Box<dyn FnOnce() -> Option<String>>;
    type Way<'a> = (&'a str, &'a dyn Fn(&Server) -> Ask);
    let over_http1 = |mut stream: TcpStream| -> Ask {
        Box::new(move || {
            stream.write_all(GET_A).ok()?;
            let reply = Reply::read(&mut stream, false)?;
            assert_eq!(reply.field("connection"), Some("close"));
            Some(reply.text())
        })
    };
    let ways: [Way<'_>; 5] = [
        ("a new connection", &|server| over_http1(server.connect())),
        ("a connection that was answered", &|server| {
            let mut stream = server.connect();
            stream.write_all(GET_A).unwrap();
            assert_eq!(Reply::read(&mut stream, false).unwrap().text(), "a");
            over_http1(stream)
        }),
        ("HTTP/2", &|server| {
            let stream = server.connect();
            Box::new(move || {
                let mut client = Raw::over(stream, &[]);
                client.send(&frames::ask(1, "/a"));
                client.until(|frame| frame.kind == HEADERS && frame.flags & END_HEADERS != 0)?;
                String::from_utf8(client.body(1).ok()?).ok()
            })
        }),
        ("a handshake that is due", &|server| {
            let stream = connect_raw(server);
            Box::new(move || {
                let mut client = Wants::usual().over(stream).ok()?;
                client.write_all(GET_A).ok()?;
                Reply::read(&mut client, false).map(|reply| reply.text())
            })
        }),
        ("a session that has begun", &|server| {
            let mut client = Wants::usual().connect(server.tls_address()).unwrap();
            Box::new(move || {
                client.write_all(GET_A).ok()?;
                Reply::read(&mut client, false).map(|reply| reply.text())
            })
        }),
    ];
    for (way, come) in ways {
        // A connection that the kernel still defers, or that took over a second, is not answered: try again.
        let answers = (0..20).find_map(|_| {
            let site =
                site().env("PAGECAST_ADMIN_LISTEN", "127.0.0.1:0").env("PAGECAST_DRAIN_DELAY", "300ms");
            let (site, _files) = secured(site);
            let mut server = site.serve();
            server.signal("TERM");
            server.wait_for_log("stopping");
            let begun = Instant::now();
            let ask = come(&server);
            let is_here = (0..20).any(|_| has_connection(&server));
            wait_until_refused(&server);
            let answer = ask();
            let was_in_time = is_here && begun.elapsed() < Duration::from_millis(700);
            assert_eq!(server.wait().code(), Some(0), "{way}: {}", server.log());
            was_in_time.then_some(answer)
        });
        assert_eq!(answers, Some(Some("a".to_owned())), "{way}");
    }
}

#[test]
fn a_unix_socket_is_served_and_its_path_is_removed_with_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    // Left behind by a killed process.
    drop(UnixListener::bind(&path).unwrap());
    let mut server = site().env("PAGECAST_LISTEN", &format!("127.0.0.1:0,unix:{}", path.display())).serve();
    assert_eq!(server.get("/a").text(), "a");
    let connect = || {
        let stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    for _ in 0..20 {
        let mut stream = connect();
        for _ in 0..2 {
            stream.write_all(GET_A).unwrap();
            assert_eq!(Reply::read(&mut stream, false).unwrap().text(), "a");
        }
    }
    let mut download = connect();
    download.write_all(b"GET /long.bin HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut reply = Reply::read(&mut download, true).unwrap();
    server.signal("TERM");
    wait_until_refused(&server);
    let _ = (&mut download).take(LONG as u64).read_to_end(&mut reply.body);
    assert!(reply.body == pattern(LONG, 1), "cut at {}", reply.body.len());
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert!(!path.exists(), "the path is gone");
}

#[test]
fn a_unix_socket_in_use_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let _theirs = UnixListener::bind(&path).unwrap();
    let ended =
        site().env("PAGECAST_LISTEN", &format!("unix:{}", path.display())).command().output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("can't listen on unix:"));
    assert!(UnixStream::connect(&path).is_ok(), "it is still theirs");
}

#[test]
fn a_client_that_shuts_down_its_writing_side_gets_the_whole_download() {
    let mut server = site().serve();
    let (mut stream, mut reply) = begin(&server);
    stream.shutdown(Shutdown::Write).unwrap();
    server.signal("TERM");
    finish(&mut stream, &mut reply);
    assert!(reply.is_complete(), "cut at {}", reply.body.len());
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

fn site() -> Site {
    Site::with([("a", b"a")]).file("long.bin", &pattern(LONG, 1))
}

/// A download that has begun, with its rest still in the server.
fn begin(server: &Server) -> (TcpStream, Reply) {
    let mut stream = server.connect_narrow();
    stream.write_all(b"GET /long.bin HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let reply = Reply::read(&mut stream, true).expect("a head");
    assert_eq!((reply.status, reply.content_length()), (200, Some(LONG as u64)));
    (stream, reply)
}

fn finish(stream: &mut TcpStream, reply: &mut Reply) {
    let left = (LONG - reply.body.len()) as u64;
    let _ = stream.take(left).read_to_end(&mut reply.body);
}

/// Waits until the listeners are closed.
/// Whether the server has a connection; false once it does not respond.
fn has_connection(server: &Server) -> bool {
    std::thread::sleep(Duration::from_millis(5));
    let Ok(mut stream) = TcpStream::connect(server.admin.unwrap()) else { return false };
    let _ = stream.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let Some(reply) = Reply::read(&mut stream, false) else { return false };
    let status: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    status["connections"]["now"].as_u64() > Some(0)
}

pub fn wait_until_refused(server: &Server) {
    let begun = Instant::now();
    while TcpStream::connect(server.address).is_ok() {
        assert!(begun.elapsed() < PATIENCE, "the listeners are still open");
        std::thread::sleep(Duration::from_millis(10));
    }
}
