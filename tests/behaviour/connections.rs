//! Limits on connections, of all clients and of one: which one is closed for a new one, and which is refused.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::client::ReadSome;
use crate::site::{NARROW, PATIENCE, Reply, Server, Site, pattern};

const REQUEST: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";

/// Longer than all buffers between the disk and a client that does not read.
const LONG: usize = 16 * 1024 * 1024;

#[test]
fn the_longest_idle_connection_is_closed_for_a_new_one() {
    let server = crowded("8");
    let mut idle: Vec<_> = (0..8).map(|_| asked_once(&server)).collect();
    let mut newcomers: Vec<_> = (0..3).map(|_| asked_once(&server)).collect();
    for (index, stream) in idle.iter_mut().enumerate() {
        if index < newcomers.len() {
            assert_eq!(stream.read_some(&mut [0]).unwrap(), 0, "{index} is closed, without a word");
        } else {
            assert_eq!(ask(stream).status, 200, "{index} is not");
        }
    }
    for stream in &mut newcomers {
        assert_eq!(ask(stream).status, 200);
    }
}

#[test]
fn connections_being_served_are_never_closed_and_new_ones_get_503() {
    let server = crowded("4");
    let mut idle = asked_once(&server);
    let mut downloads: Vec<_> = (0..4).map(|_| download(&server)).collect();
    assert_eq!(idle.read_some(&mut [0]).unwrap(), 0, "its place was taken");
    for _ in 0..5 {
        // It is refused whether it has sent a request or not.
        let mut stream = server.connect();
        stream.write_all(REQUEST).unwrap();
        check_refused(&mut stream, 503);
        check_refused(&mut server.connect(), 503);
    }
    for stream in &mut downloads {
        let mut body = Vec::new();
        stream.take(LONG as u64).read_to_end(&mut body).unwrap();
        assert!(body == pattern(LONG, 1));
    }
    let mut newcomer = asked_once(&server);
    assert_eq!(ask(&mut newcomer).status, 200);
}

#[test]
fn every_refused_client_gets_a_503_however_many_there_are() {
    let server = site("2").open_files(64).env("PAGECAST_WORKERS", "1").serve();
    let _downloads = [download(&server), download(&server)];
    let mut crowd: Vec<_> = (0..40)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(REQUEST).unwrap();
            stream
        })
        .collect();
    for stream in &mut crowd {
        check_refused(stream, 503);
    }
}

#[test]
fn connections_that_never_sent_a_byte_are_closed_first() {
    let server = site("4").env("PAGECAST_DEFER_ACCEPT", "off").serve();
    let mut idle = [asked_once(&server), asked_once(&server)];
    let mut silent = [server.connect(), server.connect()];
    std::thread::sleep(Duration::from_millis(1300));
    let mut newcomers = [asked_once(&server), asked_once(&server)];
    for stream in &mut silent {
        assert_eq!(stream.read_some(&mut [0]).unwrap(), 0);
    }
    for stream in idle.iter_mut().chain(&mut newcomers) {
        assert_eq!(ask(stream).status, 200);
    }
}

#[test]
fn an_active_client_keeps_its_connection_among_new_ones() {
    let server = crowded("4");
    let mut regular = asked_once(&server);
    assert_eq!(ask(&mut regular).status, 200);
    let _downloads: Vec<_> = (0..3).map(|_| download(&server)).collect();
    for _ in 0..100 {
        assert_eq!(ask(&mut regular).status, 200);
        let mut newcomer = server.connect();
        newcomer.write_all(REQUEST).unwrap();
        assert_eq!(Reply::read(&mut newcomer, false).expect("an answer").status, 503);
    }
}

#[test]
fn many_new_and_idle_connections_are_all_served() {
    let server = crowded("16");
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let address = server.address;
            std::thread::spawn(move || {
                for _ in 0..100 {
                    let mut stream = TcpStream::connect(address).unwrap();
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream.write_all(REQUEST).unwrap();
                    assert_eq!(Reply::read(&mut stream, false).expect("an answer").text(), "a");
                    // It is idle until it is closed for another.
                    std::mem::forget(stream);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    while server.connections() > 16 {
        assert!(Instant::now() < deadline, "{} connections are open", server.connections());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_client_is_limited_to_its_number_of_connections() {
    let server = site("auto").env("PAGECAST_CLIENT_CONNECTIONS", "2").serve();
    let connect = |host| connect_from(&server, host);
    let answered = |host| {
        let mut stream = connect(host);
        assert_eq!(ask(&mut stream).status, 200, "127.0.0.{host}");
        stream
    };
    let mut held = [answered(2), answered(2)];
    for _ in 0..3 {
        let mut stream = connect(2);
        stream.write_all(REQUEST).unwrap();
        check_refused(&mut stream, 429);
    }
    let _other = [answered(3), answered(3)];
    for stream in &mut held {
        assert_eq!(ask(stream).status, 200, "who is in stays in");
    }
    drop(held);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut stream = connect(2);
        stream.write_all(REQUEST).unwrap();
        if Reply::read(&mut stream, false).is_some_and(|reply| reply.status == 200) {
            break;
        }
        assert!(Instant::now() < deadline, "no place comes back");
    }
}

#[test]
fn exempt_clients_and_trusted_proxies_have_no_connection_limit() {
    let server = site("auto")
        .env("PAGECAST_CLIENT_CONNECTIONS", "1")
        .env("PAGECAST_UNLIMITED_CLIENTS", "127.0.0.2")
        .env("PAGECAST_TRUSTED_PROXIES", "127.0.0.8/29")
        .serve();
    for host in [2, 9] {
        let mut held: Vec<_> = (0..5).map(|_| connect_from(&server, host)).collect();
        for stream in &mut held {
            assert_eq!(ask(stream).status, 200, "127.0.0.{host}");
        }
    }
    let mut first = connect_from(&server, 3);
    assert_eq!(ask(&mut first).status, 200);
    let mut second = connect_from(&server, 3);
    second.write_all(REQUEST).unwrap();
    check_refused(&mut second, 429);
}

#[test]
fn a_slow_reader_is_cut_only_while_connections_are_scarce() {
    let mut server = site("8")
        .env("PAGECAST_MIN_RATE", "1MiB")
        .env("PAGECAST_MIN_RATE_AFTER", "300ms")
        .env("PAGECAST_LOG", "debug")
        .serve();
    let mut slow = download(&server);
    let mut buffer = [0; 10_000];
    let mut came = 0;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1200) {
        let read = slow.read_some(&mut buffer).unwrap();
        assert!(read > 0, "cut while there is room");
        came += read;
        std::thread::sleep(Duration::from_millis(50));
    }
    let _others: Vec<_> = (0..6).map(|_| asked_once(&server)).collect();
    let deadline = Instant::now() + PATIENCE;
    while !server.log().contains("took less than min_rate") {
        assert!(Instant::now() < deadline, "it is not cut");
        came += slow.read_some(&mut buffer).unwrap_or(0);
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert!(came + rest.len() < LONG, "cut after {} bytes", came + rest.len());
    assert!(server.is_running());
}

#[test]
fn one_client_cannot_take_all_places_for_archives_and_listings() {
    let server = Site::new()
        .file("d/long", &pattern(LONG, 1))
        .env("PAGECAST_LISTING", "on")
        .env("PAGECAST_DIRECTORIES_AT_ONCE", "8")
        .serve();
    let archive = |host| {
        let mut stream = connect_from(&server, host);
        stream.write_all(b"GET /d/?archive=tar HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let status = Reply::read(&mut stream, true).expect("a head").status;
        (status, stream)
    };
    let dawdling = [archive(2), archive(2)];
    assert_eq!(dawdling.each_ref().map(|(status, _)| *status), [200, 200]);
    assert_eq!(archive(2).0, 503);
    let others: Vec<_> = (3..7).map(archive).collect();
    assert!(others.iter().all(|(status, _)| *status == 200));
    let mut lists = connect_from(&server, 9);
    lists.write_all(b"GET /d/ HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(Reply::read(&mut lists, true).expect("a head").status, 200);
}

fn site(max: &str) -> Site {
    Site::with([("a", b"a")]).file("long", &pattern(LONG, 1)).env("PAGECAST_MAX_CONNECTIONS", max)
}

fn crowded(max: &str) -> Server {
    site(max).serve()
}

fn ask(stream: &mut TcpStream) -> Reply {
    stream.write_all(REQUEST).unwrap();
    Reply::read(stream, false).expect("an answer")
}

/// A connection with one response, at a moment of its own.
fn asked_once(server: &Server) -> TcpStream {
    std::thread::sleep(Duration::from_millis(5));
    let mut stream = server.connect();
    assert_eq!(ask(&mut stream).text(), "a");
    stream
}

/// A download that has begun and is not read.
fn download(server: &Server) -> TcpStream {
    let mut stream = server.connect_narrow();
    stream.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(Reply::read(&mut stream, true).expect("a head").status, 200);
    stream
}

/// A connection from 127.0.0.`host`, with little room for what it does not read.
fn connect_from(server: &Server, host: u8) -> TcpStream {
    server.connect_narrow_from([127, 0, 0, host], NARROW)
}

fn check_refused(stream: &mut TcpStream, status: u16) {
    let reply = Reply::read(stream, false).expect("an answer");
    assert_eq!(reply.status, status);
    assert_eq!((reply.field("retry-after"), reply.field("connection")), (Some("1"), Some("close")));
    assert!(reply.is_complete());
    assert_eq!(stream.read_some(&mut [0]).unwrap_or(0), 0);
}
