//! Slow clients: every state of a connection has a deadline.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::client::ReadSome;
use crate::site::{Reply, Server, Site, pattern};

const WHOLE: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn a_head_that_arrives_byte_by_byte_is_timed_out() {
    let server = hurried();
    let mut stream = server.connect();
    let begun = Instant::now();
    let reply = trickle(&mut stream, b"GET /a HTTP/1.1\r\nHost: x\r\nPadding: ");
    assert!(begun.elapsed() >= HEAD_TIMEOUT, "not before its time");
    check_timed_out(reply, &mut stream);
}

#[test]
fn half_a_head_is_timed_out() {
    for half in [
        &b"G"[..],
        b"GET /a HTTP/1.1\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\n\r",
    ] {
        let server = hurried();
        let mut stream = server.connect();
        stream.write_all(half).unwrap();
        let reply = Reply::read(&mut stream, false);
        check_timed_out(reply, &mut stream);
    }
}

#[test]
fn a_connection_without_a_byte_is_closed_without_a_response() {
    let server = hurried();
    let mut stream = server.connect();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"");
}

#[test]
fn the_second_head_of_a_connection_has_its_deadline_as_well() {
    let server = hurried();
    let mut stream = server.connect();
    for _ in 0..2 {
        stream.write_all(WHOLE).unwrap();
        assert_eq!(Reply::read(&mut stream, false).unwrap().status, 200);
    }
    let reply = trickle(&mut stream, b"GET /a HTTP/1.1\r\nHost: x\r\nPadding: ");
    check_timed_out(reply, &mut stream);

    let mut stream = server.connect();
    stream.write_all(&[WHOLE, b"GET /a HT"].concat()).unwrap();
    assert_eq!(Reply::read(&mut stream, false).unwrap().status, 200);
    let reply = Reply::read(&mut stream, false);
    check_timed_out(reply, &mut stream);

    let mut stream = server.connect();
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n123GET /a").unwrap();
    assert_eq!(Reply::read(&mut stream, false).unwrap().status, 200);
    let reply = Reply::read(&mut stream, false);
    check_timed_out(reply, &mut stream);
}

#[test]
fn endless_blank_lines_do_not_keep_a_connection() {
    let server = hurried();
    let mut stream = server.connect();
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let begun = Instant::now();
    let mut got = [0; 256];
    while begun.elapsed() < crate::site::PATIENCE {
        let is_gone = stream.write_all(b"\r\n").is_err();
        match stream.read_some(&mut got) {
            Err(error) if !is_gone && is_timeout(&error) => {}
            _ => return,
        }
    }
    panic!("the connection is still open");
}

#[test]
fn an_idle_connection_is_closed_after_the_idle_timeout_and_not_before() {
    let server = Site::with([("a", b"a")])
        .env("PAGECAST_IDLE_TIMEOUT", "400ms")
        .env("PAGECAST_HEAD_TIMEOUT", "10s")
        .serve();
    let mut stream = server.connect();
    stream.write_all(WHOLE).unwrap();
    let begun = Instant::now();
    assert_eq!(Reply::read(&mut stream, false).unwrap().status, 200);
    assert_eq!(stream.read_some(&mut [0]).unwrap(), 0, "closed without a word");
    assert!(begun.elapsed() >= Duration::from_millis(350), "{:?}", begun.elapsed());
}

#[test]
fn the_idle_time_begins_when_the_response_has_been_sent() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    // Its end does not fit into the socket at first.
    let body = pattern(300_000, 1);
    let _server = Site::with([("a", &body)])
        .env("PAGECAST_LISTEN", &format!("unix:{}", path.display()))
        .env("PAGECAST_IDLE_TIMEOUT", "1s")
        .serve();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(crate::site::PATIENCE)).unwrap();
    for pause in [Duration::from_millis(1500), Duration::ZERO] {
        stream.write_all(WHOLE).unwrap();
        std::thread::sleep(pause);
        assert_eq!(Reply::read(&mut stream, false).expect("an answer").body, body);
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_body_that_does_not_arrive_ends_the_connection() {
    let server = hurried();
    let mut stream = server.connect();
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345").unwrap();
    assert_eq!(Reply::read(&mut stream, false).unwrap().status, 200, "the answer does not wait for it");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
}

#[test]
fn a_body_that_arrives_byte_by_byte_ends_the_connection() {
    let server = hurried();
    for (head, byte) in [("Content-Length: 60000", &b"x"[..]), ("Transfer-Encoding: chunked", b"1\r\nx\r\n")]
    {
        let mut stream = server.connect();
        stream.write_all(format!("GET /a HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(Reply::read(&mut stream, false).unwrap().status, 200, "the answer does not wait for it");
        stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let begun = Instant::now();
        let mut got = [0];
        loop {
            assert!(begun.elapsed() < crate::site::PATIENCE, "{head}: the connection is still open");
            let _ = stream.write_all(byte);
            match stream.read_some(&mut got) {
                Err(error) if is_timeout(&error) => {}
                ended => break assert!(!ended.is_ok_and(|read| read > 0), "{head}: nothing more is said"),
            }
        }
        assert!(begun.elapsed() >= HEAD_TIMEOUT / 2, "{head}: not before its time");
    }
}

#[test]
fn a_reader_that_stops_is_cut_after_the_stall_timeout() {
    let server = stalling("500ms");
    for target in ["/long.bin", "/small.bin"] {
        let mut stream = server.connect_narrow();
        let requests = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(if target == "/long.bin" {
            1
        } else {
            1500
        });
        let mut sender = stream.try_clone().unwrap();
        // If nothing is read, the server may not even take all requests.
        let sending = std::thread::spawn(move || drop(sender.write_all(requests.as_bytes())));
        let mut first = [0; 1000];
        stream.read_exact(&mut first).unwrap();
        wait_until_alone(&server);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < LONG, "{target}: cut, after {} bytes", rest.len());
        drop(stream);
        sending.join().unwrap();
    }
    assert_eq!(server.get("/small.bin").status, 200);
}

#[test]
fn a_reader_that_stops_in_an_archive_or_a_listing_gives_its_place_back() {
    let site = Site::new().file("d/long.bin", &pattern(LONG, 1)).file("few/a", b"a").file("many/0", b"");
    for n in 1..20_000 {
        let name = format!("many/{n}{}", "-is-an-entry-whose-name-takes-its-room-in-a-listing".repeat(4));
        std::fs::hard_link(site.path().join("many/0"), site.path().join(name)).unwrap();
    }
    let server = site
        .env("PAGECAST_LISTING", "on")
        .env("PAGECAST_DIRECTORIES_AT_ONCE", "1")
        .env("PAGECAST_STALL_TIMEOUT", "500ms")
        .serve();
    for target in ["/d/?archive=tar", "/many/?format=json"] {
        let mut stream = server.connect_narrow();
        stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        let head = Reply::read(&mut stream, true).unwrap_or_else(|| panic!("{target}: {}", server.log()));
        assert_eq!(head.status, 200, "{target}");
        assert_eq!(server.get("/few/?archive=zip").status, 503, "{target}");
        server.get_until("/few/?archive=zip", |reply| reply.status == 200);
        drop(stream);
    }
}

#[test]
fn a_reader_that_is_slow_but_steady_is_not_cut() {
    let server = stalling("600ms");
    let mut stream = server.connect_narrow();
    stream.write_all(b"GET /long.bin HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut reply = Reply::read(&mut stream, true).unwrap();
    // Several stall timeouts long, and never a pause of one; then the rest, quickly.
    let begun = Instant::now();
    let mut buffer = vec![0; 16 * 1024];
    while begun.elapsed() < Duration::from_secs(4) {
        let read = stream.read_some(&mut buffer).unwrap_or(0);
        assert!(read > 0, "cut after {} bytes and {:?}", reply.body.len(), begun.elapsed());
        reply.body.extend_from_slice(&buffer[..read]);
        std::thread::sleep(Duration::from_millis(40));
    }
    let left = (LONG - reply.body.len()) as u64;
    let _ = stream.take(left).read_to_end(&mut reply.body);
    assert!(reply.body == pattern(LONG, 1), "cut at {}", reply.body.len());
}

#[test]
fn a_thousand_silent_connections_do_not_keep_others_waiting() {
    let server = Site::with([("a", b"a")]).serve();
    let silent: Vec<_> = (0..1000)
        .map(|n| {
            let mut stream = server.connect();
            stream.write_all(&WHOLE[..n % WHOLE.len()]).unwrap();
            stream
        })
        .collect();
    assert_eq!(server.get("/a").text(), "a");
    for mut stream in silent.into_iter().step_by(97) {
        let sent = stream.write_all(b"\r\n\r\n");
        assert!(sent.is_ok(), "still open");
    }
    assert_eq!(server.get("/a").text(), "a");
}

const HEAD_TIMEOUT: Duration = Duration::from_millis(300);

/// Longer than all buffers between the disk and a client that does not read.
const LONG: usize = 16 * 1024 * 1024;

fn hurried() -> Server {
    Site::with([("a", b"a")])
        .env("PAGECAST_HEAD_TIMEOUT", "300ms")
        .env("PAGECAST_IDLE_TIMEOUT", "1h")
        .env("PAGECAST_LINGER_TIMEOUT", "200ms")
        .serve()
}

fn stalling(timeout: &str) -> Server {
    Site::new()
        .file("long.bin", &pattern(LONG, 1))
        .file("small.bin", &pattern(16_000, 1))
        .env("PAGECAST_STALL_TIMEOUT", timeout)
        .env("PAGECAST_LINGER_TIMEOUT", "200ms")
        .serve()
}

/// Sends `start` and then a byte now and then, until a response arrives.
fn trickle(stream: &mut TcpStream, start: &[u8]) -> Option<Reply> {
    let mut byte = [0];
    stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let begun = Instant::now();
    for letter in start.iter().chain(std::iter::repeat(&b'x')) {
        assert!(begun.elapsed() < crate::site::PATIENCE, "nothing comes back");
        let _ = stream.write_all(&[*letter]);
        match stream.peek(&mut byte) {
            Err(error) if is_timeout(&error) => {}
            _ => break,
        }
    }
    stream.set_read_timeout(Some(crate::site::PATIENCE)).unwrap();
    Reply::read(stream, false)
}

/// Or a signal, which means the same: nothing has arrived yet.
fn is_timeout(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

fn check_timed_out(reply: Option<Reply>, stream: &mut TcpStream) {
    let reply = reply.expect("an answer");
    assert_eq!((reply.status, reply.field("connection")), (408, Some("close")));
    assert!(reply.is_complete());
    assert_eq!(stream.read_some(&mut [0]).unwrap_or(0), 0, "and nothing after it");
}

/// Waits until the server has no open connection.
fn wait_until_alone(server: &Server) {
    let begun = Instant::now();
    while server.connections() > 0 {
        assert!(begun.elapsed() < crate::site::PATIENCE, "a connection is still open");
        std::thread::sleep(Duration::from_millis(20));
    }
}
