//! Slow, dead and faulty disks: which requests wait, which do not, and what clients get.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pagecast::files::storage::{Call, Faulty, InjectedFault, RecordedCall, Slow, When};
use rustix::io::Errno;

use crate::client::wait_until;
use crate::in_process::InProcess;
use crate::site::{PATIENCE, Reply, Site, pattern};

const BATCH: u64 = 1024 * 1024;

const LENGTH: usize = 3 * BATCH as usize + 123;

#[test]
fn clients_of_one_cold_file_share_its_reads() {
    let bytes = pattern(8 * BATCH as usize, 1);
    let (server, disk) = cold(Site::new().file("x", &bytes));
    // So slow that the last client finds reads under way.
    disk.inject(When::every(Call::Populate), InjectedFault::Delay(Duration::from_millis(100)));
    let streams: Vec<_> = (1..5).map(|host| server.ask_from(host, "/x")).collect();
    let readers: Vec<_> = streams
        .into_iter()
        .map(|mut stream| std::thread::spawn(move || Reply::read(&mut stream, false).unwrap().body))
        .collect();
    for reader in readers {
        assert!(reader.join().unwrap() == bytes);
    }
    let mut starts: Vec<_> = reads(&disk).into_iter().map(|seen| seen.range.start).collect();
    starts.sort_unstable();
    assert_eq!(starts, (0..8).map(|batch| batch * BATCH).collect::<Vec<_>>(), "each batch once");
}

#[test]
fn a_long_response_reads_ahead_of_what_it_sends() {
    let (server, disk) = cold(Site::new().file("x", &pattern(16 * BATCH as usize, 1)));
    // The worker stops in the middle of the first batch.
    disk.inject(When::every(Call::Sendfile), InjectedFault::Hang);
    let mut stream = server.ask_from(1, "/x");
    wait_until("the second batch is read", || reads(&disk).iter().any(|seen| seen.range.start == BATCH));
    assert!(disk.wait_until_hanging(1, PATIENCE));
    assert_eq!(disk.seen(Call::Sendfile).iter().map(|seen| seen.range.start).collect::<Vec<_>>(), [0]);
    disk.heal();
    assert!(Reply::read(&mut stream, false).unwrap().is_complete());
}

#[test]
fn a_stuck_worker_does_not_hold_up_the_stop() {
    let (server, disk) = cold(Site::new().file("x", &pattern(LENGTH, 1)).env("PAGECAST_WORKERS", "2"));
    disk.inject(When::every(Call::Sendfile), InjectedFault::Hang);
    let _stream = server.ask_from(1, "/x");
    assert!(disk.wait_until_hanging(1, PATIENCE));
    let begun = Instant::now();
    drop(server);
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    assert_eq!(disk.hanging(), 1, "the worker is still stuck");
    disk.heal();
}

#[test]
fn a_stuck_worker_holds_up_no_reload_and_takes_the_newest_configuration_afterwards() {
    let place = tempfile::tempdir().unwrap();
    let admin = place.path().join("admin");
    let site = Site::new().file("x", &pattern(LENGTH, 1)).config("").env("PAGECAST_WORKERS", "1");
    let (server, disk) = cold(site.env("PAGECAST_ADMIN_LISTEN", &format!("unix:{}", admin.display())));
    let reload = |number: u32| {
        let toml = format!("[[rule]]\npath = '**'\nheaders = {{ X-Number = '{number}' }}");
        std::fs::write(server.root().join(".pagecast.toml"), toml).unwrap();
        let mut stream = UnixStream::connect(&admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"POST /reload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        Reply::read(&mut stream, false).unwrap()
    };
    disk.inject(When::every(Call::Sendfile), InjectedFault::Hang);
    let mut stream = server.ask_from(1, "/x");
    assert!(disk.wait_until_hanging(1, PATIENCE));
    for number in [1, 2] {
        let reply = reload(number);
        assert_eq!(reply.status, 500, "{}", reply.text());
        assert!(
            reply.text().contains("The new configuration is not in effect on every worker.")
                && reply.text().contains("worker 1 did not take the new configuration within 5s"),
            "{}",
            reply.text()
        );
    }
    disk.heal();
    assert!(Reply::read(&mut stream, false).unwrap().is_complete());
    let reply = server.get("/x").unwrap();
    assert_eq!((reply.status, reply.field("x-number")), (200, Some("2")));
    assert_eq!(reload(3).status, 200);
    assert_eq!(server.get("/x").unwrap().field("x-number"), Some("3"));
}

#[test]
fn resident_pages_are_not_read_from_the_disk() {
    let bytes = pattern(LENGTH, 1);
    let (server, disk) = cold(Site::new().file("x", &bytes));
    assert!(server.get("/x").unwrap().body == bytes);
    let cold = reads(&disk).len();
    assert_eq!(cold, 4);
    assert!(server.get("/x").unwrap().body == bytes);
    assert_eq!(reads(&disk).len(), cold);
}

#[test]
fn a_client_with_many_cold_downloads_does_not_delay_another() {
    const MANY: usize = 50;
    let mut site = Site::new().env("PAGECAST_POPULATE_THREADS", "1").file("other", &pattern(LENGTH, 1));
    for n in 0..MANY {
        site = site.file(&format!("many{n}-"), &pattern(LENGTH, 1));
    }
    let (server, disk) = cold(site);
    let hang = disk.inject(When::every(Call::Populate), InjectedFault::Hang);
    let mut streams: Vec<_> = (0..MANY).map(|n| server.ask_from(1, &format!("/many{n}-"))).collect();
    (0..MANY).for_each(|n| wait_until_asked(&disk, &format!("/many{n}-")));
    streams.push(server.ask_from(2, "/other"));
    wait_until_asked(&disk, "/other");
    disk.lift(hang);
    let last = streams.last_mut().unwrap();
    assert!(Reply::read(last, false).unwrap().is_complete());
    let order: Vec<_> = reads(&disk).into_iter().map(|seen| seen.path).collect();
    let place = order.iter().position(|path| path.ends_with("/other")).unwrap();
    assert!(place <= 2, "in its turn: {place} of {}", order.len());
}

#[test]
fn a_dead_device_affects_only_its_own_files() {
    let bytes = pattern(LENGTH, 1);
    let mut site = Site::with([("hot", b"hot")]).env("PAGECAST_POPULATE_THREADS", "2");
    for n in 0..4 {
        site = site.file(&format!("dead/{n}"), &bytes).file(&format!("living/{n}"), &bytes);
    }
    let (server, disk) = cold(site);
    disk.inject(When::every(Call::Fstat).of("/dead/"), InjectedFault::Device(4711));
    disk.inject(When::every(Call::Populate).of("/dead/"), InjectedFault::Hang);
    let mut dead: Vec<_> = (0..4).map(|n| server.ask_from(1, &format!("/dead/{n}"))).collect();
    assert!(disk.wait_until_hanging(2, PATIENCE));
    for n in 0..4 {
        assert_eq!(server.get("/hot").unwrap().text(), "hot");
        assert!(server.get(&format!("/living/{n}")).unwrap().body == bytes);
    }
    assert_eq!(disk.hanging(), 2, "no more threads than were given to the device");
    disk.heal();
    for stream in &mut dead {
        assert!(Reply::read(stream, false).unwrap().body == bytes, "it goes on when the disk does");
    }
}

#[test]
fn hot_files_are_served_while_all_reads_hang() {
    let mut site = Site::with([("hot", b"hot")]).env("PAGECAST_POPULATE_THREADS", "2");
    for n in 0..8 {
        site = site.file(&format!("cold{n}"), &pattern(LENGTH, 1));
    }
    let (server, disk) = cold(site.file("warm", &pattern(LENGTH, 2)));
    assert!(server.get("/warm").unwrap().is_complete());
    disk.inject(When::every(Call::Populate).of("/cold"), InjectedFault::Hang);
    let _cold: Vec<_> = (0..8).map(|n| server.ask_from(1, &format!("/cold{n}"))).collect();
    assert!(disk.wait_until_hanging(2, PATIENCE));
    for _ in 0..100 {
        assert_eq!(server.get("/hot").unwrap().text(), "hot");
    }
    assert!(server.get("/warm").unwrap().is_complete());
    disk.heal();
}

#[test]
fn reads_for_clients_that_left_are_not_made() {
    const GONE: usize = 5;
    let mut site = Site::with([("hot", b"hot")])
        .env("PAGECAST_POPULATE_THREADS", "1")
        .env("PAGECAST_WORKERS", "1")
        .file("first", &pattern(LENGTH, 1))
        .file("last", &pattern(LENGTH, 1));
    for n in 0..GONE {
        site = site.file(&format!("gone{n}"), &pattern(LENGTH, 1));
    }
    let (server, disk) = cold(site);
    let hang = disk.inject(When::every(Call::Populate), InjectedFault::Hang);
    let mut first = server.ask_from(1, "/first");
    assert!(disk.wait_until_hanging(1, PATIENCE));
    let gone: Vec<_> = (0..GONE).map(|n| server.ask_from(1, &format!("/gone{n}"))).collect();
    (0..GONE).for_each(|n| wait_until_asked(&disk, &format!("/gone{n}")));
    gone.into_iter().for_each(reset);
    // The worker has polled its sockets since.
    (0..3).for_each(|_| assert_eq!(server.get("/hot").unwrap().text(), "hot"));
    disk.lift(hang);
    assert!(Reply::read(&mut first, false).unwrap().is_complete());
    assert!(server.get("/last").unwrap().is_complete());
    let read = reads(&disk);
    assert!(read.iter().all(|seen| !seen.path.contains("/gone")), "{read:?}");
}

#[test]
fn mappings_are_unmapped_off_the_workers() {
    let mut site = Site::new().env("PAGECAST_CACHE_BYTES", "4MiB");
    for n in 0..20 {
        site = site.file(&format!("x{n}"), &pattern(1_000_000, 1));
    }
    let (server, disk) = cold(site);
    for n in 0..20 {
        assert!(server.get(&format!("/x{n}")).unwrap().is_complete());
    }
    wait_until("something is unmapped", || disk.count(Call::Unmap) > 10);
    let unmapped = disk.seen(Call::Unmap);
    assert!(unmapped.iter().all(|seen| seen.thread == "pagecast-unmap"), "{unmapped:?}");
}

#[test]
fn a_first_window_that_is_not_read_in_time_is_a_503() {
    let (server, disk) = hurried(Site::with([("hot", b"hot")]).file("x", &pattern(LENGTH, 1)));
    disk.inject(When::every(Call::Populate), InjectedFault::Hang);
    let asked = Instant::now();
    let reply = server.get("/x").unwrap();
    assert!(asked.elapsed() >= TIMEOUT, "not before its time");
    assert_eq!((reply.status, reply.field("retry-after")), (503, Some("1")));
    assert_eq!(
        (reply.text(), reply.field("connection")),
        ("Busy. Please try again.\n".to_owned(), Some("close"))
    );
    assert_eq!(reply.field("etag"), None, "nothing is left of the other head");
    assert_eq!(server.get("/hot").unwrap().text(), "hot");
    disk.heal();
    assert!(server.get("/x").unwrap().is_complete());
}

#[test]
fn a_disk_that_hangs_in_the_middle_cuts_the_response() {
    let (server, disk) = hurried(Site::new().file("x", &pattern(LENGTH, 1)));
    disk.inject(When::every(Call::Populate).from(2), InjectedFault::Hang);
    let reply = server.get("/x").unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body.len() as u64, BATCH);
    disk.heal();
}

#[test]
fn a_file_that_is_not_opened_in_time_is_a_503() {
    let (server, disk) = hurried(Site::with([("hot", b"hot"), ("x", b"x"), ("y", b"y")]));
    assert_eq!(server.get("/hot").unwrap().text(), "hot");
    disk.inject(When::every(Call::Open).of("x"), InjectedFault::Hang);
    let reply = server.get("/x").unwrap();
    assert_eq!((reply.status, reply.field("retry-after")), (503, Some("1")));
    assert_eq!(server.get("/hot").unwrap().text(), "hot");
    assert_eq!(server.get("/y").unwrap().text(), "y", "other threads open other files");
    disk.heal();
    assert_eq!(server.get("/x").unwrap().text(), "x");
}

#[test]
fn read_errors_are_a_status_before_the_head_and_a_cut_after_it() {
    for (errno, status) in [(Errno::IO, 500), (Errno::NOMEM, 503)] {
        let (server, disk) = cold(Site::with([("hot", b"hot")]).file("x", &pattern(LENGTH, 1)));
        disk.inject(When::every(Call::Populate).times(1), InjectedFault::Errno(errno));
        let reply = server.get("/x").unwrap();
        assert_eq!(reply.status, status, "{errno}");
        assert!(!reply.text().contains("os error"), "the cause is not for the client");
        assert!(server.get("/x").unwrap().is_complete(), "{errno}: it suffered alone");

        let (server, disk) = cold(Site::new().file("x", &pattern(LENGTH, 1)));
        disk.inject(When::every(Call::Populate).from(2).times(1), InjectedFault::Errno(errno));
        let reply = server.get("/x").unwrap();
        assert_eq!((reply.status, reply.is_complete()), (200, false), "{errno}: cut");
    }
}

#[test]
fn pipelined_responses_before_a_cold_file_do_not_wait_for_it() {
    let (server, disk) = cold(Site::with([("hot", b"hot")]).file("x", &pattern(LENGTH, 1)));
    assert_eq!(server.get("/hot").unwrap().text(), "hot");
    let hang = disk.inject(When::every(Call::Populate), InjectedFault::Hang);
    let mut stream = server.connect();
    let requests = b"GET /hot HTTP/1.1\r\nHost: x\r\n\r\nGET /x HTTP/1.1\r\nHost: x\r\n\r\n";
    std::io::Write::write_all(&mut stream, requests).unwrap();
    assert_eq!(Reply::read(&mut stream, false).unwrap().text(), "hot");
    disk.lift(hang);
    assert!(Reply::read(&mut stream, false).unwrap().is_complete());
}

/// The site on a controllable disk, with all files cold.
fn cold(site: Site) -> (InProcess, Arc<Faulty>) {
    let disk = Faulty::over(Slow::new(Duration::ZERO, 1 << 30));
    (InProcess::serve(site, disk.clone()), disk)
}

fn hurried(site: Site) -> (InProcess, Arc<Faulty>) {
    cold(site.env("PAGECAST_DISK_TIMEOUT", "200ms"))
}

const TIMEOUT: Duration = Duration::from_millis(200);

/// Reads into memory off the workers.
fn reads(disk: &Faulty) -> Vec<RecordedCall> {
    disk.seen(Call::Populate).into_iter().filter(|seen| seen.thread == "pagecast-read").collect()
}

/// Waits until a response has found the file cold and requested a read.
fn wait_until_asked(disk: &Faulty, path: &str) {
    wait_until(path, || disk.seen(Call::Probe).iter().any(|seen| seen.path.ends_with(path)));
    // The worker requests the read in the same poll.
    std::thread::sleep(Duration::from_millis(5));
}

/// Closes with a reset, which the server sees at once.
fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}
