//! Directories as archives: whole and readable, within their limits, or visibly broken.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Cursor, Read, Write};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::client::{Client, StreamedReply};
use crate::site::{Reply, Server, Site, pattern};

#[test]
fn an_archive_contains_what_the_listing_shows() {
    let long = pattern(300_000, 1);
    let site = site().file("d/long.bin", &long);
    let server = site.serve();
    let expected = tree([
        ("d/", None),
        ("d/a.txt", Some(b"a")),
        ("d/empty", Some(b"")),
        ("d/long.bin", Some(&long)),
        ("d/sub/", None),
        ("d/sub/b", Some(b"b")),
    ]);
    for format in FORMATS {
        let reply = StreamedReply::get(&server, &format!("/d/?archive={format}"), "").reply;
        assert_eq!(reply.field("content-type"), Some(media_type(format)));
        let name = format!("attachment; filename=\"d.{format}\"");
        assert_eq!(reply.field("content-disposition"), Some(name.as_str()));
        assert_eq!(reply.field("cache-control"), Some("no-cache"));
        assert_eq!(reply.field("x-content-type-options"), Some("nosniff"));
        for absent in ["etag", "last-modified", "accept-ranges", "content-encoding"] {
            assert_eq!(reply.field(absent), None, "{absent}");
        }
        assert!(archived(&server, "/d/", format) == expected, "{format}");
        assert!(archived(&server, "/d/?x=1&archive=", format) == expected, "{format}");
    }
}

#[test]
fn entries_of_the_root_archive_have_no_prefix() {
    let server = site().serve();
    let expected = ["d/", "d/a.txt", "d/empty", "d/sub/", "d/sub/b", "top"];
    for format in FORMATS {
        let got = archived(&server, "/", format);
        let names: Vec<_> = got.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        assert_eq!(names, expected, "{format}");
        let reply = StreamedReply::get(&server, &format!("/?archive={format}"), "").reply;
        let name = format!("attachment; filename=\"files.{format}\"");
        assert_eq!(reply.field("content-disposition"), Some(name.as_str()));
    }
}

#[test]
fn names_that_are_not_utf8_keep_their_bytes() {
    let site = site();
    let directory = site.path().join(OsStr::from_bytes(b"d\xff\xe9"));
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join(OsStr::from_bytes(b"f\xfe")), "f").unwrap();
    fs::write(directory.join("é\n\""), "g").unwrap();
    let server = site.serve();
    for format in ["tar", "tar.zst"] {
        let got = archived(&server, "/d%FF%E9/", format);
        let names: Vec<_> = got.keys().map(Vec::as_slice).collect();
        let quoted = [&b"d\xff\xe9/"[..], "é\n\"".as_bytes()].concat();
        assert_eq!(names, [&b"d\xff\xe9/"[..], b"d\xff\xe9/f\xfe", &quoted], "{format}");
    }
    let zipped = StreamedReply::get(&server, "/d%FF%E9/?archive=zip", "");
    let disposition = zipped.reply.field("content-disposition").unwrap();
    assert!(disposition.starts_with("attachment; filename=\"") && disposition.is_ascii(), "{disposition}");
    assert_eq!(unzip(&zipped.body()).len(), 3);
}

#[test]
fn hidden_files_are_not_archived() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "s").unwrap();
    let site = site()
        .file("d/.hidden", b"x")
        .file("d/.git/config", b"x")
        .file("d/shut", b"x")
        .file("_redirects", b"");
    let site = site.unprivileged();
    symlink(outside.path().join("secret"), site.path().join("d/out")).unwrap();
    symlink("a.txt", site.path().join("d/link")).unwrap();
    symlink("..", site.path().join("d/sub/circle")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(site.path().join("d/socket")).unwrap();
    fs::set_permissions(site.path().join("d/shut"), fs::Permissions::from_mode(0o000)).unwrap();
    let server = site.serve();
    let expected = tree([
        ("d/", None),
        ("d/a.txt", Some(b"a")),
        ("d/empty", Some(b"")),
        ("d/link", Some(b"a")),
        ("d/sub/", None),
        ("d/sub/b", Some(b"b")),
    ]);
    for format in FORMATS {
        assert!(archived(&server, "/d/", format) == expected, "{format}");
        assert!(!archived(&server, "/", format).contains_key(&b"_redirects"[..]));
    }
}

#[test]
fn directories_without_listings_are_in_no_archive() {
    let server = site()
        .file("d/private/name", b"x")
        .file("d/private/deep/name", b"x")
        .config("listing = true\n[[rule]]\npath = '/d/private/**'\nlisting = false\n")
        .serve();
    for format in FORMATS {
        let got = archived(&server, "/d/", format);
        assert!(got.contains_key(&b"d/sub/b"[..]));
        assert!(!got.keys().any(|name| String::from_utf8_lossy(name).contains("name")), "{:?}", got.keys());
    }
    assert_eq!(server.get("/d/private/?archive=tar").status, 404);
}

#[test]
fn archives_are_served_only_where_they_are_enabled() {
    let server = site().env("PAGECAST_ARCHIVE", "off").serve();
    assert_eq!(server.get("/d/?archive=zip").status, 404, "a page would be saved as an archive");
    let page = server.get("/d/");
    assert_eq!((page.status, page.field("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(!page.text().contains("?archive="), "{}", page.text());
    let server = site().env("PAGECAST_LISTING", "off").serve();
    for format in FORMATS {
        assert_eq!(server.get(&format!("/d/?archive={format}")).status, 404);
    }
    assert_eq!(server.get("/d/a.txt?archive=zip").text(), "a", "a file is no directory");
    let server = site().file("d/index.html", b"index").serve();
    assert!(archived(&server, "/d/", "zip").contains_key(&b"d/index.html"[..]), "an index is no obstacle");
}

#[test]
fn an_unknown_archive_is_refused() {
    let server = site().serve();
    for word in ["rar", "", "TAR", "tar.gz", "zip%00"] {
        let reply = server.get(&format!("/d/?archive={word}"));
        assert_eq!(reply.status, 400, "{word}");
        assert_eq!(reply.text(), "Unknown archive format: tar, tar.zst and zip are supported.\n");
    }
    for target in ["/none/?archive=tar", "/d/a.txt/?archive=tar"] {
        assert_eq!(server.get(target).status, 404, "{target}");
    }
    assert_eq!(server.get("/d?archive=tar").field("location"), Some("/d/?archive=tar"));
}

#[test]
fn an_archive_that_is_too_large_is_refused_before_its_first_byte() {
    for (setting, enough, too_few) in [("ENTRIES", "5", "4"), ("BYTES", "2", "1"), ("DEPTH", "2", "1")] {
        let setting = format!("PAGECAST_ARCHIVE_{setting}");
        let server = site().env(&setting, enough).serve();
        for format in FORMATS {
            assert_eq!(archived(&server, "/d/", format).len(), 5, "{setting}");
        }
        let server = site().env(&setting, too_few).serve();
        for format in FORMATS {
            let reply = server.get(&format!("/d/?archive={format}"));
            assert_eq!((reply.status, reply.field("content-disposition")), (403, None), "{setting}");
            assert_eq!(reply.text(), "The directory is too large for an archive.\n");
        }
        assert!(server.log().contains("no archive of /d"), "{}", server.log());
        assert_eq!(server.get("/d/").status, 200, "a listing is another matter");
    }
}

#[test]
fn a_head_of_an_archive_has_the_headers_of_its_get() {
    let server = site().serve();
    let mut client = Client::of(&server);
    for format in FORMATS {
        let target = format!("/d/?archive={format}");
        let head = client.ask("HEAD", &target, "");
        client.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let got = StreamedReply::read(&mut client.stream);
        let without_date = |reply: &Reply| {
            let mut fields = reply.fields.clone();
            fields.retain(|(name, _)| {
                !["date", "content-length", "transfer-encoding"].contains(&name.as_str())
            });
            fields
        };
        assert_eq!(without_date(&head), without_date(&got.reply), "{format}");
        assert_eq!(head.status, 200);
        assert!(got.is_whole);
    }
}

#[test]
fn an_http_10_client_gets_an_archive_that_ends_with_the_connection() {
    let server = site().file("d/long.bin", &pattern(3_000_000, 1)).serve();
    for format in FORMATS {
        let mut stream = server.connect();
        write!(stream, "GET /d/?archive={format} HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
        let made = StreamedReply::read(&mut stream);
        assert_eq!((made.reply.field("transfer-encoding"), made.reply.content_length()), (None, None));
        assert_eq!(unpack(format, &made.body()).len(), 6, "{format}");
    }
}

#[test]
fn a_file_that_changes_while_it_is_sent_breaks_the_archive() {
    let changes: [Change; 5] = [
        ("written over", |path| fs::write(path, pattern(SHORT, 2)).unwrap()),
        ("truncated", |path| File::options().write(true).open(path).unwrap().set_len(1000).unwrap()),
        ("truncated to nothing", |path| File::options().write(true).open(path).unwrap().set_len(0).unwrap()),
        ("grown", |path| File::options().append(true).open(path).unwrap().write_all(b"more").unwrap()),
        ("removed", |path| fs::remove_file(path).unwrap()),
    ];
    let (once, each) = ([("tar", "1.0"), ("tar.zst", "1.1"), ("zip", "1.1")], [("tar", "1.1")]);
    for (what, change) in changes {
        let ways = if what == "truncated" { &[&once[..], &each].concat()[..] } else { &each[..] };
        for (format, version) in ways {
            let server = large_site().serve();
            let (mut stream, head) = begin(&server, &format!("/d/?archive={format}"), version);
            change(&server.root.join("d/z"));
            let made = StreamedReply::finish(head, &mut stream);
            assert!(!made.is_whole, "{what}, {format}, HTTP/{version}");
            assert_eq!(server.get("/d/y").status, 200, "the server goes on");
            assert_eq!(server.log().matches(" /d/z").count(), 1, "{what}: {}", server.log());
        }
    }
}

#[test]
fn files_that_must_match_a_checksum_are_archived_only_if_they_do() {
    let right = "fb8e20fc2e4c3f248c60c39bd652f3c1347298bb977b8b4d5903b85055620603  y\n";
    let wrong = right.replace("fb", "bf");
    for (text, verify, is_whole) in
        [(right, "serve", true), (&wrong, "off", true), (&wrong, "serve", false), ("none\n", "serve", false)]
    {
        let site = site().env("PAGECAST_VERIFY", verify).file("d/y", b"ab");
        let server = site.file("d/y.sha256", text.as_bytes()).serve();
        for format in FORMATS {
            let made = StreamedReply::get(&server, &format!("/d/?archive={format}"), "");
            let expected = if is_whole { 200 } else { 500 };
            assert_eq!(made.reply.status, expected, "{text} {verify} {format}");
        }
    }
}

#[test]
fn the_files_are_closed_when_the_client_leaves() {
    let server = large_site().env("PAGECAST_DIRECTORIES_AT_ONCE", "1").serve();
    for format in FORMATS {
        let (stream, _) = begin(&server, &format!("/d/?archive={format}"), "1.1");
        assert_eq!(server.get("/d/").status, 503);
        drop(stream);
        server.get_until("/d/", |reply| reply.status == 200);
    }
}

#[test]
fn archives_take_bounded_memory() {
    let server = large_site().serve();
    for index in 0..6 {
        fs::write(server.root.join(format!("d/more{index}")), pattern(LONG, 1)).unwrap();
    }
    assert_eq!(server.get("/d/").status, 200);
    let before = server.resident_max();
    for format in FORMATS {
        let made = StreamedReply::get(&server, &format!("/d/?archive={format}"), "");
        assert!(made.is_whole, "{format}");
    }
    let grown = server.resident_max() - before;
    assert!(grown < 24 << 20, "the server grew by {} KiB", grown >> 10);
}

const FORMATS: [&str; 3] = ["tar", "tar.zst", "zip"];

/// Longer than all buffers between the disk and a client that does not read.
const LONG: usize = 5 * 1024 * 1024;

const SHORT: usize = 100_000;

/// What happens to a file, and how.
type Change = (&'static str, fn(&Path));

/// Files of an archive by name; directories have no bytes.
type Tree = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

fn site() -> Site {
    Site::with([("d/a.txt", b"a"), ("d/empty", b""), ("d/sub/b", b"b"), ("top", b"top")])
        .env("PAGECAST_LISTING", "on")
}

/// A site whose archive is sent for as long as the client does not read it.
fn large_site() -> Site {
    Site::new().file("d/y", &pattern(LONG, 1)).file("d/z", &pattern(SHORT, 1)).env("PAGECAST_LISTING", "on")
}

fn tree<const N: usize>(entries: [(&str, Option<&[u8]>); N]) -> Tree {
    entries.into_iter().map(|(name, body)| (name.into(), body.map(<[u8]>::to_vec))).collect()
}

fn media_type(format: &str) -> &'static str {
    match format {
        "tar" => "application/x-tar",
        "tar.zst" => "application/zstd",
        _ => "application/zip",
    }
}

/// Downloads and unpacks the archive of the directory at `target`, which may have a query.
fn archived(server: &Server, target: &str, format: &str) -> Tree {
    let parameter = if target.ends_with('=') { "" } else { "?archive=" };
    unpack(format, &StreamedReply::get(server, &format!("{target}{parameter}{format}"), "").body())
}

fn unpack(format: &str, bytes: &[u8]) -> Tree {
    match format {
        "tar" => untar(bytes),
        "tar.zst" => untar(&zstd::decode_all(bytes).unwrap()),
        _ => unzip(bytes),
    }
}

fn untar(bytes: &[u8]) -> Tree {
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path_bytes().into_owned();
        let mut body = Vec::new();
        entry.read_to_end(&mut body).unwrap();
        (name, entry.header().entry_type().is_file().then_some(body))
    });
    entries.collect()
}

fn unzip(bytes: &[u8]) -> Tree {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    let entries = (0..archive.len()).map(|index| {
        let mut entry = archive.by_index(index).unwrap();
        let name = entry.name_raw().to_vec();
        let mut body = Vec::new();
        entry.read_to_end(&mut body).unwrap();
        (name, entry.is_file().then_some(body))
    });
    entries.collect()
}

/// An archive whose head has arrived, and whose rest waits for the client.
fn begin(server: &Server, target: &str, version: &str) -> (TcpStream, Reply) {
    let mut stream = server.connect_narrow();
    write!(stream, "GET {target} HTTP/{version}\r\nHost: x\r\n\r\n").unwrap();
    let head = Reply::read(&mut stream, true).expect("a head");
    assert_eq!(head.status, 200, "{target}");
    (stream, head)
}
