//! Rates of responses: by connection, by client, in total, and by rules.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Client, ReadSome, StreamedReply};
use crate::site::{PATIENCE, Reply, Server, Site, pattern};

const MIB: usize = 1 << 20;

#[test]
fn a_connection_keeps_to_its_rate() {
    let server = long_site().env("PAGECAST_RATE_CONNECTION", "1MiB").serve();
    let (one, other) = std::thread::scope(|scope| {
        let take = || time_of(&server, "/long", "Range: bytes=0-2097151\r\n", 2 * MIB);
        let other = scope.spawn(take);
        (take(), other.join().unwrap())
    });
    // Each of them gets the whole rate.
    check_about(one, 2.0);
    check_about(other, 2.0);
}

#[test]
fn a_rate_paced_by_the_kernel_is_kept() {
    let server = long_site().env("PAGECAST_RATE_CONNECTION", "8MiB").serve();
    check_about(time_of(&server, "/long", "", 16 * MIB), 2.0);
    assert!(server.cpu_time() < Duration::from_secs(1), "{:?}", server.cpu_time());
}

#[test]
fn the_connections_of_a_client_share_its_rate() {
    let server = long_site().env("PAGECAST_RATE_CLIENT", "1MiB").serve();
    let times: Vec<Duration> = std::thread::scope(|scope| {
        let take = || time_of(&server, "/long", "Range: bytes=0-1048575\r\n", MIB);
        let taking: Vec<_> = (0..2).map(|_| scope.spawn(take)).collect();
        taking.into_iter().map(|taking| taking.join().unwrap()).collect()
    });
    times.into_iter().for_each(|time| check_about(time, 2.0));
}

#[test]
fn the_burst_of_a_client_is_sent_at_once() {
    let server =
        long_site().env("PAGECAST_RATE_CLIENT", "64KiB").env("PAGECAST_RATE_CLIENT_BURST", "1MiB").serve();
    let range = "Range: bytes=0-786431\r\n";
    let burst = time_of(&server, "/long", range, 768 << 10);
    assert!(burst < Duration::from_secs(6), "{burst:?}");
    // Its rest, and two seconds of the rate.
    let rest = time_of(&server, "/long", "Range: bytes=0-393215\r\n", 384 << 10);
    assert!(rest > Duration::from_millis(1200) && rest < PATIENCE, "{rest:?}");
}

#[test]
fn small_files_count_as_long_ones_do() {
    let server = Site::with([("small", &pattern(8 << 10, 1))])
        .env("PAGECAST_RATE_CLIENT", "128KiB")
        .env("PAGECAST_RATE_CLIENT_BURST", "8KiB")
        .serve();
    // One after the other and all at once.
    for is_pipelined in [false, true] {
        let mut client = Client::of(&server);
        let begun = Instant::now();
        let requests = "GET /small HTTP/1.1\r\nHost: x\r\n\r\n";
        if is_pipelined {
            client.send(requests.repeat(24));
        }
        for _ in 0..24 {
            if !is_pipelined {
                client.send(requests);
            }
            assert_eq!(client.read("GET").body, pattern(8 << 10, 1));
        }
        // 192 KiB and their heads, less the burst.
        check_about(begun.elapsed(), 1.5);
    }
}

#[test]
fn responses_of_the_server_itself_are_not_paced() {
    let server = long_site()
        .env("PAGECAST_RATE_CLIENT", "1KiB")
        .env("PAGECAST_RATE_CONNECTION", "1KiB")
        .env("PAGECAST_RATE_TOTAL", "1KiB")
        .serve();
    // The rate is used up for minutes.
    let mut busy = server.connect();
    busy.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    busy.read_exact(&mut [0; 512]).unwrap();
    let begun = Instant::now();
    let head = server.send("HEAD /long HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((head.status, head.content_length()), (200, Some(16 * MIB as u64)));
    let tag = format!("If-None-Match: {}\r\n", head.field("etag").unwrap());
    let mut client = Client::of(&server);
    for _ in 0..20 {
        assert_eq!(client.ask("GET", "/long", &tag).status, 304);
        assert_eq!(client.ask("GET", "/nothing", "").status, 404);
        assert_eq!(client.ask("GET", "/livez", "").status, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn all_clients_share_a_rate_equally_however_many_connections_they_have() {
    let server = long_site().env("PAGECAST_RATE_TOTAL", "2MiB").serve();
    let taken = [AtomicU64::new(0), AtomicU64::new(0)];
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..21_u64 {
            let client = usize::from(number == 0);
            let mut stream = server.connect_from([127, 0, 0, if number == 0 { 2 } else { 1 }]);
            let (taken, is_over) = (&taken[client], &is_over);
            scope.spawn(move || {
                stream.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
                let mut buffer = [0; 4096];
                while !is_over.load(Ordering::Relaxed) {
                    taken.fetch_add(stream.read_some(&mut buffer).unwrap() as u64, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(Duration::from_millis(2500));
        is_over.store(true, Ordering::Relaxed);
    });
    let [many, one] = taken.map(|bytes| bytes.load(Ordering::Relaxed) as f64 / MIB as f64);
    assert!((3.0..7.5).contains(&(many + one)), "{many} + {one} MiB");
    assert!((0.35..0.65).contains(&(one / (many + one))), "{one} beside {many} MiB");
}

#[test]
fn the_share_of_a_client_that_leaves_goes_to_others() {
    let server = long_site().env("PAGECAST_RATE_TOTAL", "1MiB").env("PAGECAST_RATE_CLIENT", "1MiB").serve();
    for _ in 0..50 {
        let mut leaves = server.connect();
        leaves.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        leaves.read_exact(&mut [0; 1]).unwrap();
    }
    // A silent connection holds nothing that others wait for.
    check_about(time_of(&server, "/long", "Range: bytes=0-1572863\r\n", 3 * MIB / 2), 1.5);
}

#[test]
fn rules_override_the_rate_for_each_response() {
    let server = long_site()
        .file("slow/long", &pattern(MIB, 2))
        .file("free/long", &pattern(8 * MIB, 3))
        .config(
            "rate_client = '512KiB'\n[[rule]]\npath = '/free/**'\nrate_client = 'off'\nrate_connection = 'off'\n\
             [[rule]]\npath = '/slow/**'\nrate_client = 'off'\nrate_connection = '512KiB'\n",
        )
        .serve();
    let mut client = Client::of(&server);
    for _ in 0..2 {
        let begun = Instant::now();
        assert_eq!(client.ask("GET", "/free/long", "").body, pattern(8 * MIB, 3));
        // At the rate of the others it would take sixteen seconds.
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
        let begun = Instant::now();
        assert_eq!(client.ask("GET", "/slow/long", "Range: bytes=0-524287\r\n").body.len(), MIB / 2);
        check_about(begun.elapsed(), 1.0);
    }
}

#[test]
fn a_kernel_that_paced_one_response_does_not_pace_the_next() {
    let server = long_site()
        .file("free/long", &pattern(16 * MIB, 3))
        .config("[[rule]]\npath = '/long'\nrate_connection = '4MiB'\n")
        .serve();
    let mut client = Client::of(&server);
    for _ in 0..2 {
        let begun = Instant::now();
        assert_eq!(client.ask("GET", "/long", "Range: bytes=0-4194303\r\n").body, pattern(4 * MIB, 1));
        check_about(begun.elapsed(), 1.0);
        let begun = Instant::now();
        assert_eq!(client.ask("GET", "/free/long", "").body.len(), 16 * MIB);
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
}

#[test]
fn archives_and_listings_keep_to_the_rate() {
    let server = Site::with([("all/a", &pattern(MIB, 1)), ("all/b", &pattern(MIB, 2))])
        .env("PAGECAST_LISTING", "on")
        .env("PAGECAST_RATE_CLIENT", "1MiB")
        .serve();
    let begun = Instant::now();
    let body = StreamedReply::get(&server, "/all/?archive=tar", "").body();
    assert!(body.len() > 2 * MIB);
    check_about(begun.elapsed(), 2.0);
}

#[test]
fn a_unix_socket_is_paced_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let _server = long_site()
        .env("PAGECAST_LISTEN", &format!("unix:{}", path.display()))
        .env("PAGECAST_RATE_CONNECTION", "1MiB")
        .serve();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let begun = Instant::now();
    stream.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\nRange: bytes=0-1572863\r\n\r\n").unwrap();
    let reply = Reply::read(&mut stream, false).unwrap();
    assert_eq!(reply.body, pattern(3 * MIB / 2, 1));
    check_about(begun.elapsed(), 1.5);
}

#[test]
fn clients_without_limits_are_not_paced() {
    let server = long_site()
        .env("PAGECAST_RATE_TOTAL", "64KiB")
        .env("PAGECAST_RATE_CLIENT", "64KiB")
        .env("PAGECAST_UNLIMITED_CLIENTS", "127.0.0.2")
        .serve();
    let mut stream = server.connect_from([127, 0, 0, 2]);
    stream.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(Reply::read(&mut stream, false).unwrap().body, pattern(16 * MIB, 1));
}

#[test]
fn waiting_for_the_rate_is_no_stall_and_reading_nothing_is_one() {
    let server =
        long_site().env("PAGECAST_RATE_CONNECTION", "1KiB").env("PAGECAST_STALL_TIMEOUT", "400ms").serve();
    // A piece of it arrives once a second.
    time_of(&server, "/long", "Range: bytes=0-1999\r\n", 2000);
    let server =
        long_site().env("PAGECAST_RATE_CONNECTION", "256KiB").env("PAGECAST_STALL_TIMEOUT", "400ms").serve();
    let mut stream = server.connect_narrow();
    stream.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < 2 * MIB, "{} bytes in spite of the stall", rest.len());
}

#[test]
fn a_client_that_reads_nothing_holds_back_no_share() {
    let server = long_site().env("PAGECAST_RATE_TOTAL", "2MiB").serve();
    let _stalled: Vec<_> = (3..8)
        .map(|host| {
            let mut stream = server.connect_narrow_from([127, 0, 0, host], 4096);
            stream.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\nRange: bytes=0-8388607\r\n\r\n").unwrap();
            stream
        })
        .collect();
    // Until their sockets are full they use their shares.
    let mut stream = server.connect();
    stream.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut seconds = (0..12).map(|_| taken_in_a_second(&mut stream));
    let full = 2.0 * MIB as f64;
    assert!(seconds.any(|taken| taken > 0.75 * full), "never near {full}");
    let later = [(); 2].map(|()| taken_in_a_second(&mut stream));
    assert!(later.iter().all(|taken| *taken > 0.6 * full), "{later:?}");
}

#[test]
fn an_active_client_is_not_evicted_however_many_others_connect() {
    let server = long_site()
        .file("small", b"small")
        .env("PAGECAST_CLIENTS", "16")
        .env("PAGECAST_RATE_CLIENT", "64KiB")
        .env("PAGECAST_RATE_CLIENT_BURST", "256KiB")
        .serve();
    let mut stream = server.connect();
    stream.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 200 << 10]).unwrap();
    for host in 1..=100 {
        let mut other = server.connect_from([127, 0, 1, host]);
        other.write_all(b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(Reply::read(&mut other, false).unwrap().body, b"small");
    }
    // It has used its burst.
    let time = time_of(&server, "/long", "Range: bytes=0-131071\r\n", 128 << 10);
    assert!(time > Duration::from_secs(1), "{time:?}");
}

#[test]
fn a_lifted_rate_does_not_delay_the_next_response() {
    let mut server = long_site().config("rate_client = '256KiB'\nrate_connection = '4MiB'\n").serve();
    let mut client = Client::of(&server);
    assert_eq!(client.ask("GET", "/long", "Range: bytes=0-131071\r\n").status, 206);
    std::fs::write(server.root.join(".pagecast.toml"), "").unwrap();
    server.signal("HUP");
    server.wait_for_log(" reloaded ");
    let begun = Instant::now();
    assert_eq!(client.ask("GET", "/long", "").body, pattern(16 * MIB, 1));
    // It would take a minute.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn kernel_pacing_ends_with_its_response_even_if_requests_were_pipelined() {
    let server = Site::with([("paced", &pattern(MIB, 1)), ("free", &pattern(4 * MIB, 2))])
        .config("[[rule]]\npath = '/paced'\nrate_connection = '3MiB'\n")
        .serve();
    let mut client = Client::of(&server);
    client.send(b"GET /paced HTTP/1.1\r\nHost: x\r\n\r\nGET /free HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.read("GET").body, pattern(MIB, 1));
    assert_eq!(client.read("GET").body, pattern(4 * MIB, 2));
    let begun = Instant::now();
    for _ in 0..6 {
        assert_eq!(client.ask("GET", "/free", "").body, pattern(4 * MIB, 2));
    }
    // It would take eight seconds.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn clients_that_have_gone_wait_for_no_share() {
    let server = long_site().env("PAGECAST_RATE_CLIENT", "1KiB").serve();
    assert_eq!(server.get("/livez").status, 200);
    let before = server.open_files();
    let gone: Vec<_> = (0..60)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            // It closes with a reset.
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    drop(gone);
    // They would be granted within a minute.
    let begun = Instant::now();
    while server.open_files() > before + 10 {
        assert!(begun.elapsed() < PATIENCE, "{} and not {before} are open", server.open_files());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_refusal_is_not_paced_like_the_response_before_it() {
    let server = long_site().env("PAGECAST_RATE_CLIENT", "1KiB").serve();
    let mut client = Client::of(&server);
    assert_eq!(client.ask("GET", "/long", "Range: bytes=0-9\r\n").status, 206);
    // Other connections of the client have the rate of the next twenty seconds.
    let _others: Vec<_> = (0..20)
        .map(|_| {
            let mut other = server.connect();
            other.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            other
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    client.send("GET /long HTTP/9.9\r\n\r\n");
    assert!(client.read("GET").status >= 400);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

fn long_site() -> Site {
    Site::with([("long", &pattern(16 * MIB, 1))])
}

/// Time for `length` bytes of `target` on a connection of their own.
fn time_of(server: &Server, target: &str, lines: &str, length: usize) -> Duration {
    let begun = Instant::now();
    let reply = server.get_with(target, lines);
    assert_eq!(reply.body.len(), length);
    assert!(reply.body == pattern(length, 1), "other bytes than those of the file");
    begun.elapsed()
}

/// Never much faster than the rate; slower within what a busy machine may do to it.
fn check_about(time: Duration, seconds: f64) {
    let ratio = time.as_secs_f64() / seconds;
    assert!((0.75..3.0).contains(&ratio), "{time:?} and not {seconds} s");
}

/// Bytes that arrive within the next second.
fn taken_in_a_second(stream: &mut TcpStream) -> f64 {
    let (begun, mut taken, mut buffer) = (Instant::now(), 0, [0; 16 << 10]);
    while begun.elapsed() < Duration::from_secs(1) {
        taken += stream.read_some(&mut buffer).unwrap();
    }
    taken as f64
}
