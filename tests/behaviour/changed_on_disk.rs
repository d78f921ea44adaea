//! Files that change while they are sent, and between requests: a body is one version or is cut, and the server goes on.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::time::Duration;

use crate::client::ReadSome;
use crate::site::{Reply, Server, Site, pattern};

/// Longer than all buffers between the disk and a client that does not read.
const LONG: usize = 16 * 1024 * 1024;

/// Change of a file, and the permitted fates of a download under way.
type Change = (&'static str, Act, Fate);

type Act = fn(&Path);

#[derive(Clone, Copy, PartialEq, Debug)]
enum Fate {
    /// The old version's bytes still exist.
    Whole,
    Cut,
    /// Whole or cut: both are permitted.
    Either,
    /// Cut; pages overwritten while they lay in the socket may show their new bytes.
    CutAndBlended,
}

const CHANGES: [Change; 8] = [
    ("truncated to half", |path| set_length(path, LONG as u64 / 2), Fate::Cut),
    ("truncated to nothing", |path| set_length(path, 0), Fate::Cut),
    ("truncated and grown again", truncate_and_grow, Fate::Cut),
    ("replaced by rename", replace, Fate::Whole),
    ("deleted", |path| fs::remove_file(path).unwrap(), Fate::Whole),
    ("appended to", append, Fate::Either),
    ("overwritten in place", overwrite, Fate::CutAndBlended),
    ("overwritten with its date set back", overwrite_and_set_back, Fate::CutAndBlended),
];

#[test]
fn a_download_under_way_is_one_version_or_is_cut() {
    for (name, change, fate) in CHANGES {
        let server = Site::new().file("long.bin", &pattern(LONG, 1)).serve();
        let path = server.root.join("long.bin");
        let download = Download::begin(&server, "/long.bin");
        change(&path);
        download.check(name, fate);
        check_new_version(&server, name, &path);
    }
}

#[test]
fn a_download_from_the_mapping_alone_is_one_version_or_is_cut() {
    for (name, change, fate) in CHANGES {
        let mut site = Site::new()
            .env("PAGECAST_HANDLES", "8")
            .env("PAGECAST_CACHE_BYTES", "4GiB")
            .env("PAGECAST_HANDLE_WAIT", "10s")
            .file("long.bin", &pattern(LONG, 1));
        for other in 0..8 {
            site = site.file(&format!("other{other}"), b"");
            set_length(&site.path().join(format!("other{other}")), LONG as u64);
        }
        let server = site.serve();
        let path = server.root.join("long.bin");
        assert_eq!(server.get_with("/long.bin", "Range: bytes=0-0\r\n").status, 206);
        let others: Vec<_> = (0..8).map(|n| Download::begin(&server, &format!("/other{n}"))).collect();
        let download = Download::begin(&server, "/long.bin");
        assert_eq!(server.handles_to(&path), 0, "no handle is to spare");
        change(&path);
        download.check(name, fate);
        drop(others);
        check_new_version(&server, name, &path);
    }
}

#[test]
fn every_one_of_many_small_responses_is_one_version() {
    const COUNT: usize = 4000;
    let old = pattern(10_000, 1);
    let server = Site::new().file("small.bin", &old).env("PAGECAST_REVALIDATE_AFTER", "0").serve();
    let path = server.root.join("small.bin");
    let mut stream = server.connect_narrow();
    let mut sender = stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        for _ in 0..COUNT {
            sender.write_all(b"GET /small.bin HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        }
    });
    let first = Reply::read(&mut stream, false).unwrap();
    assert!(first.body == old);
    replace(&path);
    let new = fs::read(&path).unwrap();
    let mut etag_of_new = None;
    for _ in 1..COUNT {
        let reply = Reply::read(&mut stream, false).expect("every request is answered");
        let is_old = reply.body == old && reply.field("etag") == first.field("etag");
        if !is_old {
            assert!(reply.body == new, "neither the old version nor the new one");
            assert_ne!(reply.field("etag"), first.field("etag"));
            etag_of_new = reply.field("etag").map(str::to_owned);
        } else {
            assert_eq!(etag_of_new, None, "the old version came after the new one");
        }
    }
    assert!(etag_of_new.is_some(), "the new version is seen in the end");
    sending.join().unwrap();
}

#[test]
fn changes_are_seen_at_once_without_cached_names() {
    let server =
        site_of_both_sizes().env("PAGECAST_WATCH", "off").env("PAGECAST_REVALIDATE_AFTER", "0").serve();
    check_changes_are_seen(&server, |server, target| server.get(target));
}

#[test]
fn changes_are_seen_after_the_revalidation_time() {
    let server =
        site_of_both_sizes().env("PAGECAST_WATCH", "off").env("PAGECAST_REVALIDATE_AFTER", "60ms").serve();
    check_changes_are_seen(&server, |server, target| {
        std::thread::sleep(Duration::from_millis(150));
        server.get(target)
    });
}

#[test]
fn changes_reported_by_inotify_are_seen_before_the_revalidation_time() {
    let server =
        site_of_both_sizes().env("PAGECAST_WATCH", "on").env("PAGECAST_REVALIDATE_AFTER", "1h").serve();
    for (name, target) in [("small", "/small.bin"), ("large", "/large.bin")] {
        let path = server.root.join(&target[1..]);
        let before = server.get(target);
        replace(&path);
        let after = server.get_until(target, |reply| reply.body != before.body);
        assert!(after.body == fs::read(&path).unwrap(), "{name}");
        assert_ne!(after.field("etag"), before.field("etag"), "{name}");
        overwrite(&path);
        server.get_until(target, |reply| reply.body == fs::read(&path).unwrap());
        fs::remove_file(&path).unwrap();
        server.get_until(target, |reply| reply.status == 404);
        fs::write(&path, name).unwrap();
        server.get_until(target, |reply| reply.status == 200 && reply.body == name.as_bytes());
    }
}

#[test]
fn changes_that_inotify_does_not_report_are_seen_within_the_shorter_time() {
    let elsewhere = tempfile::tempdir_in(std::env::temp_dir()).unwrap();
    let site =
        Site::with([("real/linked", b"1"), ("names/own", b"1"), ("swap/one/x", b"1"), ("swap/two/x", b"2")])
            .env("PAGECAST_WATCH", "on")
            .env("PAGECAST_REVALIDATE_AFTER", "100ms")
            .env("PAGECAST_REVALIDATE_WATCHED_AFTER", "1h");
    let at = |name: &str| site.path().join(name);
    symlink("../real/linked", at("names/soft")).unwrap();
    let outside = elsewhere.path().join("hard");
    fs::write(&outside, "1").unwrap();
    fs::hard_link(&outside, at("names/hard")).unwrap();
    symlink("one", at("swap/current")).unwrap();
    let server = site.serve();
    for target in ["/names/soft", "/names/hard", "/swap/current/x"] {
        assert_eq!(server.get(target).text(), "1", "{target}");
    }
    fs::write(server.root.join("real/linked"), "2").unwrap();
    fs::write(&outside, "2").unwrap();
    symlink("two", server.root.join("swap/next")).unwrap();
    fs::rename(server.root.join("swap/next"), server.root.join("swap/current")).unwrap();
    for target in ["/names/soft", "/names/hard", "/swap/current/x"] {
        server.get_until(target, |reply| reply.text() == "2");
    }
}

#[test]
fn directories_that_move_take_their_files_along() {
    let server = Site::with([("a/b/c/x", b"old"), ("other/c/x", b"new")])
        .env("PAGECAST_WATCH", "on")
        .env("PAGECAST_REVALIDATE_AFTER", "1h")
        .serve();
    assert_eq!(server.get("/a/b/c/x").text(), "old");
    assert_eq!(server.get("/other/c/x").text(), "new");
    fs::rename(server.root.join("a"), server.root.join("away")).unwrap();
    server.get_until("/a/b/c/x", |reply| reply.status == 404);
    assert_eq!(server.get("/away/b/c/x").text(), "old");
    fs::create_dir(server.root.join("a")).unwrap();
    fs::rename(server.root.join("other"), server.root.join("a/b")).unwrap();
    server.get_until("/a/b/c/x", |reply| reply.text() == "new");
    server.get_until("/other/c/x", |reply| reply.status == 404);
    fs::write(server.root.join("a/b/c/x"), "newer").unwrap();
    server.get_until("/a/b/c/x", |reply| reply.text() == "newer");
    fs::remove_dir_all(server.root.join("a")).unwrap();
    server.get_until("/a/b/c/x", |reply| reply.status == 404);
}

#[test]
fn a_rewrite_of_the_same_length_right_after_the_last_is_seen() {
    for length in [100, 40_000] {
        let server = Site::new()
            .file("x", &vec![b'-'; length])
            .env("PAGECAST_WATCH", "off")
            .env("PAGECAST_REVALIDATE_AFTER", "0")
            .serve();
        let file = OpenOptions::new().write(true).open(server.root.join("x")).unwrap();
        for round in 0..200_u32 {
            let bytes = vec![u8::try_from(round % 251).unwrap(); length];
            file.write_all_at(&bytes, 0).unwrap();
            let reply = server.get("/x");
            assert!(reply.body == bytes, "round {round} of length {length}: {:?}", reply.body.first());
        }
    }
}

#[test]
fn a_changed_file_fails_the_precondition_of_its_old_version() {
    let server = site_of_both_sizes().env("PAGECAST_REVALIDATE_AFTER", "0").serve();
    for target in ["/small.bin", "/large.bin"] {
        let old = server.get(target).field("etag").unwrap().to_owned();
        assert_eq!(server.get_with(target, &format!("If-None-Match: {old}\r\n")).status, 304);
        replace(&server.root.join(&target[1..]));
        assert_eq!(server.get_with(target, &format!("If-None-Match: {old}\r\n")).status, 200);
        assert_eq!(server.get_with(target, &format!("If-Match: {old}\r\n")).status, 412);
        let resumed = server.get_with(target, &format!("If-Range: {old}\r\nRange: bytes=5-\r\n"));
        assert_eq!(resumed.status, 200, "a resumed download starts anew: {target}");
    }
}

/// A download whose head and first bytes have been read.
struct Download {
    stream: TcpStream,
    reply: Reply,
}

impl Download {
    fn begin(server: &Server, target: &str) -> Self {
        let mut stream = server.connect_narrow();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut reply = Reply::read(&mut stream, true).expect("a head");
        assert_eq!((reply.status, reply.content_length()), (200, Some(LONG as u64)), "{target}");
        reply.body = vec![0; 10_000];
        stream.read_exact(&mut reply.body).unwrap();
        // So that the server, most likely, has filled the socket and waits.
        std::thread::sleep(Duration::from_millis(50));
        Self { stream, reply }
    }

    /// Reads to the end, and compares the body with the old version and the fate.
    fn check(mut self, name: &str, fate: Fate) {
        let left = (LONG - self.reply.body.len()) as u64;
        let _ = (&mut self.stream).take(left).read_to_end(&mut self.reply.body);
        let got = &self.reply.body;
        let is_whole = got.len() == LONG;
        match fate {
            Fate::Whole => assert!(is_whole, "{name}: cut at {}", got.len()),
            Fate::Cut | Fate::CutAndBlended => assert!(!is_whole, "{name}: not cut"),
            Fate::Either => {}
        }
        let versions: &[u8] = if fate == Fate::CutAndBlended { &[1, 2] } else { &[1] };
        assert_eq!(foreign_byte(got, versions), None, "{name}: a byte of no version");
        if !is_whole {
            assert_eq!(self.stream.read_some(&mut [0]).unwrap_or(0), 0, "{name}: a cut response is the last");
        }
    }
}

/// Position of the first byte that belongs to none of the versions.
fn foreign_byte(got: &[u8], versions: &[u8]) -> Option<usize> {
    let versions: Vec<_> = versions.iter().map(|version| pattern(got.len(), *version)).collect();
    let is_of_one = |range: &std::ops::Range<usize>| {
        versions.iter().any(|version| got[range.clone()] == version[range.clone()])
    };
    let chunks = (0..got.len()).step_by(4096).map(|start| start..(start + 4096).min(got.len()));
    let mut suspects = chunks.filter(|chunk| !is_of_one(chunk)).flatten();
    suspects.find(|at| versions.iter().all(|version| got[*at] != version[*at]))
}

/// After the change the server serves the new content.
fn check_new_version(server: &Server, name: &str, path: &Path) {
    let target = format!("/{}", path.file_name().unwrap().to_str().unwrap());
    match fs::read(path) {
        Ok(now) => {
            let reply = server.get_until(&target, |reply| reply.content_length() == Some(now.len() as u64));
            let reply = if reply.body == now { reply } else { server.get_until(&target, |r| r.body == now) };
            assert_eq!(reply.status, 200, "{name}");
        }
        Err(_) => {
            server.get_until(&target, |reply| reply.status == 404);
        }
    }
}

fn site_of_both_sizes() -> Site {
    Site::new().file("small.bin", &pattern(1000, 1)).file("large.bin", &pattern(100_000, 1))
}

/// Every kind of change, each checked with one `get`.
fn check_changes_are_seen(server: &Server, get: impl Fn(&Server, &str) -> Reply) {
    let changes: [(&str, Act); 5] = [
        ("replaced", replace),
        ("overwritten", overwrite),
        ("overwritten with its date set back", overwrite_and_set_back),
        ("appended to", append),
        ("truncated", |path| set_length(path, 500)),
    ];
    for target in ["/small.bin", "/large.bin"] {
        let path = server.root.join(&target[1..]);
        for (name, change) in changes {
            let before = get(server, target);
            assert_eq!(before.status, 200);
            change(&path);
            let after = get(server, target);
            assert!(after.body == fs::read(&path).unwrap(), "{target} {name}");
            assert_ne!(after.field("etag"), before.field("etag"), "{target} {name}");
            fs::write(&path, pattern(before.body.len(), 1)).unwrap();
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(get(server, target).status, 404, "{target} deleted");
        fs::write(&path, b"again").unwrap();
        assert_eq!(get(server, target).text(), "again", "{target} created");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(get(server, target).status, 301, "{target} is a directory now");
        fs::write(path.join("index.html"), b"inside").unwrap();
        assert_eq!(get(server, &format!("{target}/")).text(), "inside", "{target}");
    }
}

fn set_length(path: &Path, length: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

fn truncate_and_grow(path: &Path) {
    set_length(path, 0);
    set_length(path, LONG as u64);
}

fn replace(path: &Path) {
    let length = usize::try_from(fs::metadata(path).unwrap().len()).unwrap();
    let beside = path.with_extension("new");
    fs::write(&beside, pattern(length, 2)).unwrap();
    fs::rename(&beside, path).unwrap();
}

fn append(path: &Path) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(b"and more").unwrap();
}

fn overwrite(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
    // Different bytes, whichever version is there.
    let is_second = fs::read(path).unwrap() == pattern(length, 2);
    file.write_all_at(&pattern(length, if is_second { 3 } else { 2 }), 0).unwrap();
}

fn overwrite_and_set_back(path: &Path) {
    let before = File::open(path).unwrap().metadata().unwrap().modified().unwrap();
    overwrite(path);
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(before)).unwrap();
}
