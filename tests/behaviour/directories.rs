//! Listings: their content, formats and cost.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use serde_json::Value;

use crate::client::{Client, StreamedReply};
use crate::site::{Reply, Server, Site};
use crate::stopping::wait_until_refused;

#[test]
fn a_directory_is_listed_only_where_listings_are_enabled() {
    let server = listed_from(Site::with([("d/a", b"a")])).env("PAGECAST_LISTING", "off").serve();
    for target in ["/", "/d/", "/d/?format=json", "/?sort=size"] {
        assert_eq!(server.get(target).status, 404, "{target}");
    }
    let server = listed([("d/a", b"a")]).serve();
    assert_eq!(server.get("/d/").status, 200);
    assert_eq!(names(&server, "/"), ["d"]);
}

#[test]
fn a_rule_decides_for_its_part_of_the_site() {
    let files =
        || Site::with([("open/a", b"a"), ("open/deep/b", b"b"), ("shut/c", b"c"), ("shut/in/d", b"d")]);
    let server = files().config("[[rule]]\npath = '/open/**'\nlisting = true\n").serve();
    for (target, status) in
        [("/", 404), ("/open/", 200), ("/open/deep/", 200), ("/shut/", 404), ("/shut/c", 200)]
    {
        assert_eq!(server.get(target).status, status, "{target}");
    }
    let server = files().config("listing = true\n[[rule]]\npath = '/shut/**'\nlisting = false\n").serve();
    for (target, status) in
        [("/", 200), ("/open/", 200), ("/shut/", 404), ("/shut/in/", 404), ("/shut/c", 200)]
    {
        assert_eq!(server.get(target).status, status, "{target}");
    }
}

#[test]
fn a_program_gets_json_and_a_browser_a_page() {
    let server = listed([("a", b"a")]).serve();
    for (target, accept, media_type) in [
        ("/", "", HTML),
        ("/", "*/*", HTML),
        ("/", "text/html,application/xhtml+xml,*/*;q=0.8", HTML),
        ("/", "application/json", JSON),
        ("/", "text/html;q=0.5, application/json", JSON),
        ("/?format=json", "text/html", JSON),
        ("/?x=1&format=%6Ason", "", JSON),
        ("/?format=html", "application/json", HTML),
        ("/?format=xml", "application/json", JSON),
    ] {
        let lines = if accept.is_empty() { String::new() } else { format!("Accept: {accept}\r\n") };
        let reply = server.get_with(target, &lines);
        assert_eq!((reply.status, reply.field("content-type")), (200, Some(media_type)), "{target} {accept}");
        assert_eq!(reply.field("vary"), Some("Accept"), "{target}");
        assert_eq!(reply.field("cache-control"), Some("no-cache"));
        assert_eq!(reply.field("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.field("etag"), None, "it changes with every file");
        let policy = reply.field("content-security-policy");
        assert_eq!(policy.is_some_and(|policy| policy.starts_with("default-src 'none'")), media_type == HTML);
    }
}

#[test]
fn a_listing_is_sorted_by_the_query() {
    let site = listed([("b10", b"1"), ("b9", b"333"), ("A", b"22")]);
    fs::create_dir(site.path().join("sub")).unwrap();
    for (name, seconds) in [("b10", 3000), ("b9", 1000), ("A", 2000), ("sub", 4000)] {
        let date = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000 + seconds);
        fs::File::open(site.path().join(name)).unwrap().set_modified(date).unwrap();
    }
    let server = site.serve();
    for (query, expected) in [
        ("", "sub A b9 b10"),
        ("?sort=name&order=desc", "sub b10 b9 A"),
        ("?sort=size", "b9 A b10 sub"),
        ("?sort=size&order=asc", "sub b10 A b9"),
        ("?sort=date", "sub b10 A b9"),
        ("?sort=mtime&order=asc", "b9 A b10 sub"),
        ("?sort=%73ize", "b9 A b10 sub"),
        ("?sort=colour", "sub A b9 b10"),
    ] {
        let page = server.get(&format!("/{query}")).text();
        let rows = page.split_once("<tbody>").unwrap().1;
        let shown: Vec<_> = rows.split("<bdi>").skip(1).map(|row| row.split('<').next().unwrap()).collect();
        assert_eq!(shown.join(" "), expected, "{query}");
        let json = names(&server, &format!("/{}", query.replacen('?', "?format=json&", 1)));
        assert_eq!(json.join(" "), expected, "{query}");
    }
    let page = server.get("/?sort=size").text();
    assert!(page.contains("aria-sort=\"descending\"><a href=\"?sort=size&amp;order=asc\""), "{page}");
}

#[test]
fn files_that_cannot_be_requested_are_not_listed() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "s").unwrap();
    let site = listed([
        ("shown", b"x"),
        ("shut", b"x"),
        (".hidden", b"x"),
        (".git/config", b"x"),
        ("_redirects", b"/old /shown 301\n"),
        ("dir/in", b"x"),
        ("closed/in", b"x"),
        ("dir/_redirects", b"x"),
        (".well-known/x", b"x"),
    ])
    .unprivileged();
    let at = |name: &str| site.path().join(name);
    symlink(outside.path().join("secret"), at("out")).unwrap();
    symlink(outside.path(), at("outdir")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    symlink("shown", at("link")).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    set_mode(&at("shut"), 0o000);
    set_mode(&at("closed"), 0o000);
    let server = site.serve();
    assert_eq!(names(&server, "/"), [".well-known", "dir", "link", "shown"]);
    assert_eq!(names(&server, "/dir/"), ["_redirects", "in"]);
    let page = server.get("/").text();
    for name in ["shut", "closed", ".hidden", ".git", "./_redirects", "./out", "dangling", "socket", "fifo"] {
        assert!(!page.contains(name), "{name} in {page}");
    }
    for (target, status) in [
        ("/_redirects", 404),
        ("/dir/_redirects", 200),
        ("/%5Fredirects", 404),
        ("/old", 301),
        ("/.git/", 404),
        ("/.git/?archive=tar", 404),
        ("/shut", 403),
        ("/out", 404),
        ("/outdir/", 404),
        ("/fifo", 404),
    ] {
        assert_eq!(server.get(target).status, status, "{target}");
    }
    assert_eq!(server.get("/closed/").status, 403);
    assert_eq!(server.get("/closed/?archive=tar").status, 403);
    set_mode(&server.root.join("closed"), 0o755);
    let server = listed([(".hidden", b"x")]).env("PAGECAST_DOTFILES", "allow").serve();
    assert_eq!(names(&server, "/"), [".hidden"]);
}

#[test]
fn every_link_of_a_listing_leads_to_its_entry() {
    let site = listed([]);
    for directory in [&b"plain"[..], b"sp ace/in#ner", b"\xffdir"] {
        let path = site.path().join(OsStr::from_bytes(directory));
        fs::create_dir_all(&path).unwrap();
        for name in HOSTILE {
            fs::write(path.join(OsStr::from_bytes(name)), name).unwrap();
        }
    }
    let server = site.serve();
    for base in ["/", "/plain/", "/sp%20ace/", "/sp%20ace/in%23ner/", "/%FFdir/"] {
        let listing = json(&server, base);
        for entry in listing["entries"].as_array().unwrap() {
            let target = resolve(base, entry["href"].as_str().unwrap());
            let reply = server.get(&target);
            assert_eq!(reply.status, 200, "{target}");
            if entry["kind"] == "file" {
                assert_eq!(String::from_utf8_lossy(&reply.body), entry["name"].as_str().unwrap(), "{target}");
            }
        }
        let page = server.get(base).text();
        let links = links(&page);
        assert!(links.len() > 8, "{links:?}");
        for link in links {
            let target = resolve(base, &link);
            assert_eq!(
                StreamedReply::get(&server, &target, "").reply.status,
                200,
                "{link} of {base}: {target}"
            );
        }
    }
    let of_files: BTreeSet<Vec<u8>> = links(&server.get("/plain/").text())
        .iter()
        .filter(|link| link.starts_with("./"))
        .map(|link| server.get(&resolve("/plain/", link)).body)
        .collect();
    assert_eq!(of_files, HOSTILE.iter().map(|name| name.to_vec()).collect());
}

#[test]
fn names_are_escaped_wherever_they_are_shown() {
    let site = listed([]);
    let directory = site.path().join("<b>&\"'");
    fs::create_dir(&directory).unwrap();
    for name in HOSTILE {
        fs::write(directory.join(OsStr::from_bytes(name)), "").unwrap();
    }
    let server = site.serve();
    for target in ["/", "/%3Cb%3E%26%22%27/"] {
        let page = server.get(target).text();
        for markup in ["<script", "<b>", "<img", "\"'", "href=\"javascript", "alert(1)\""] {
            assert!(!page.contains(markup), "{markup} in {page}");
        }
    }
    let page = server.get("/%3Cb%3E%26%22%27/").text();
    assert!(page.contains("<bdi>&lt;script&gt;alert(1)&lt;script&gt;.txt</bdi>"), "{page}");
}

#[test]
fn the_index_of_a_directory_answers_before_its_listing() {
    let server = listed([("d/index.html", b"index"), ("d/other", b"x"), ("e/index.html/x", b"x")]).serve();
    assert_eq!(server.get("/d/").text(), "index");
    assert_eq!(server.get("/d/?format=json").text(), "index");
    assert_eq!(names(&server, "/e/"), ["index.html"], "a directory is no index");
    fs::remove_file(server.root.join("d/index.html")).unwrap();
    server.get_until("/d/", |reply| reply.text().contains(">other<"));
    fs::write(server.root.join("d/index.html"), "again").unwrap();
    server.get_until("/d/", |reply| reply.text() == "again");
}

#[test]
fn a_redirect_to_the_slash_keeps_the_query() {
    let server = listed([("a b/x", b"x")]).serve();
    for (target, location) in [
        ("/a%20b", "/a%20b/"),
        ("/a%20b?sort=size&order=asc", "/a%20b/?sort=size&order=asc"),
        ("/a%20b?archive=zip", "/a%20b/?archive=zip"),
        ("/a%20b?format=json", "/a%20b/?format=json"),
    ] {
        let reply = server.get(target);
        assert_eq!((reply.status, reply.field("location")), (301, Some(location)), "{target}");
    }
}

#[test]
fn links_work_under_every_trailing_slash_policy() {
    for (policy, targets) in
        [("ignore", &["/d/e", "/d/e/"][..]), ("remove", &["/d/e", "/"]), ("add", &["/d/e/", "/"])]
    {
        let server =
            listed([("d/e/f", b"f"), ("d/e/sub/g", b"g")]).env("PAGECAST_TRAILING_SLASH", policy).serve();
        for base in targets {
            let page = server.get(base);
            assert_eq!(page.status, 200, "{policy} {base}");
            for link in links(&page.text()) {
                let target = resolve(base, &link);
                let mut reply = StreamedReply::get(&server, &target, "").reply;
                if let Some(location) = reply.field("location").map(str::to_owned) {
                    reply = server.get(&location);
                }
                assert_eq!(reply.status, 200, "{policy}: {link} of {base}: {target}");
            }
        }
    }
}

#[test]
fn listed_entity_tags_are_those_of_the_files() {
    let files = || listed([("a.txt", b"text"), ("empty", b"")]).file("big.css", &vec![b'x'; 100_000]);
    let site = files();
    fs::File::open(site.path().join("empty")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    check_etags(&site.serve(), true);
    let server = files().env("PAGECAST_ETAG", "content").serve();
    check_etags(&server, false);
    for name in ["a.txt", "empty", "big.css"] {
        server.get_until(&format!("/{name}"), |reply| !reply.field("etag").unwrap().starts_with("W/"));
        server.get_until("/?format=json", |reply| {
            // A file that has just been written is read a second time before its checksum is remembered.
            server.get(&format!("/{name}"));
            let listing: Value = serde_json::from_slice(&reply.body).unwrap();
            let entries = listing["entries"].as_array().unwrap();
            entries.iter().any(|entry| entry["name"] == name && entry["etag"].is_string())
        });
    }
    check_etags(&server, true);
}

#[test]
fn a_head_of_a_listing_has_the_headers_of_its_get() {
    let server = listed([("few/a", b"a")]).serve();
    make_files(&server.root.join("many"), 3000, 20);
    for target in ["/few/", "/few/?format=json", "/many/", "/many/?format=json"] {
        let mut client = Client::of(&server);
        let head = client.ask("HEAD", target, "");
        client.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let got = StreamedReply::read(&mut client.stream);
        let (mut one, mut other) = (head.fields, got.reply.fields.clone());
        one.retain(|(name, _)| name != "date");
        other.retain(|(name, _)| name != "date");
        assert_eq!((head.status, one), (200, other), "{target}");
        assert!(got.is_whole);
        assert_eq!(client.ask("GET", "/few/a", "").text(), "a", "the connection goes on");
    }
}

#[test]
fn a_hundred_thousand_entries_are_streamed_in_bounded_memory() {
    const COUNT: usize = 100_000;
    // A busy machine takes long to sort these, which is no dead disk.
    let server = listed([("x", b"x")]).env("PAGECAST_DISK_TIMEOUT", "1h").serve();
    make_files(&server.root.join("many"), COUNT, 100);
    assert_eq!(server.get("/").status, 200);
    let before = server.resident_max();
    let page = StreamedReply::get(&server, "/many/", "").body();
    assert_eq!(String::from_utf8_lossy(&page).matches("<tr><th scope=\"row\">").count(), COUNT);
    assert!(page.len() > 40 << 20, "{}", page.len());
    let mut listing: Value =
        serde_json::from_slice(&StreamedReply::get(&server, "/many/?format=json", "").body()).unwrap();
    let names: BTreeSet<String> = listing["entries"]
        .as_array_mut()
        .unwrap()
        .iter()
        .map(|entry| entry["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names.len(), COUNT);
    assert_eq!(listing["truncated"], false);
    let grown = server.resident_max() - before;
    assert!(grown < 40 << 20, "the server grew by {} KiB", grown >> 10);
}

#[test]
fn a_slow_client_delays_no_other_listing() {
    let server = listed([("few/a", b"a")]).env("PAGECAST_BACKGROUND_THREADS", "1").serve();
    make_files(&server.root.join("many"), MANY, 100);
    let slow: Vec<_> = (0..4).map(|_| begin(&server, "/many/")).collect();
    for _ in 0..3 {
        assert_eq!(names(&server, "/few/"), ["a"]);
    }
    let reading = slow.into_iter().map(|(mut stream, head)| {
        std::thread::spawn(move || {
            String::from_utf8(StreamedReply::finish(head, &mut stream).body()).unwrap()
        })
    });
    for page in reading.collect::<Vec<_>>() {
        assert_eq!(page.join().unwrap().matches("<tr><th scope=\"row\">").count(), MANY);
    }
}

#[test]
fn listings_beyond_the_limit_get_503() {
    let server = listed([("few/a", b"a")]).env("PAGECAST_DIRECTORIES_AT_ONCE", "1").serve();
    make_files(&server.root.join("many"), MANY, 100);
    let (mut stream, head) = begin(&server, "/many/");
    for target in ["/few/", "/few/?format=json", "/few/?archive=tar"] {
        let reply = server.get(target);
        assert_eq!((reply.status, reply.field("retry-after")), (503, Some("1")), "{target}");
    }
    assert_eq!(server.get("/few/a").text(), "a", "files are no listings");
    assert!(StreamedReply::finish(head, &mut stream).is_whole);
    server.get_until("/few/", |reply| reply.status == 200);
    let left = begin(&server, "/many/?archive=tar");
    drop(left);
    server.get_until("/few/", |reply| reply.status == 200);
    let left = begin(&server, "/many/");
    drop(left);
    server.get_until("/few/?archive=zip", |reply| reply.status == 200);
}

#[test]
fn a_stop_waits_for_listings_under_way() {
    let mut server = listed([]).serve();
    make_files(&server.root.join("many"), MANY, 100);
    let (mut stream, head) = begin(&server, "/many/?format=json");
    server.signal("TERM");
    wait_until_refused(&server);
    let made = StreamedReply::finish(head, &mut stream);
    assert!(made.is_whole);
    let listing: Value = serde_json::from_slice(&made.reply.body).unwrap();
    assert_eq!(listing["entries"].as_array().unwrap().len(), MANY);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

#[test]
fn a_listing_cut_by_the_stop_is_visibly_incomplete() {
    for version in ["1.0", "1.1"] {
        let mut server = listed([]).env("PAGECAST_SHUTDOWN_TIMEOUT", "200ms").serve();
        make_files(&server.root.join("many"), MANY, 100);
        let mut stream = server.connect_narrow();
        write!(stream, "GET /many/ HTTP/{version}\r\nHost: x\r\n\r\n").unwrap();
        let head = Reply::read(&mut stream, true).unwrap();
        server.signal("TERM");
        assert_eq!(server.wait().code(), Some(1), "{}", server.log());
        assert!(!StreamedReply::finish(head, &mut stream).is_whole, "HTTP/{version}");
    }
}

#[test]
fn entries_beyond_the_limit_are_omitted_and_the_listing_says_so() {
    for (limit, is_truncated) in [("4", true), ("5", false)] {
        let server = listed([("a", b""), ("b", b""), ("c", b""), ("d", b""), ("e", b"")])
            .env("PAGECAST_LISTING_ENTRIES", limit)
            .serve();
        let listing = json(&server, "/");
        assert_eq!(listing["truncated"], is_truncated);
        assert_eq!(listing["entries"].as_array().unwrap().len().to_string(), limit);
        let page = server.get("/").text();
        assert_eq!(page.contains("more entries than are listed: 4 of them"), is_truncated, "{page}");
    }
}

#[test]
fn a_listing_shows_the_current_directory() {
    let server = listed([("d/a", b"a")]).env("PAGECAST_REVALIDATE_AFTER", "1h").serve();
    assert_eq!(names(&server, "/d/"), ["a"]);
    fs::write(server.root.join("d/b"), "b").unwrap();
    assert_eq!(names(&server, "/d/"), ["a", "b"]);
    fs::remove_file(server.root.join("d/a")).unwrap();
    assert_eq!(names(&server, "/d/"), ["b"]);
}

#[test]
fn a_listing_accepts_no_other_method_and_no_ranges() {
    let server = listed([("a", b"a")]).serve();
    assert_eq!(server.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").status, 405);
    let reply = server.get_with("/", "Range: bytes=0-3\r\nIf-None-Match: *\r\n");
    assert_eq!((reply.status, reply.field("accept-ranges")), (200, None));
    let other = server.get_with("/", "Origin: https://a.example\r\n");
    assert_eq!(other.field("access-control-allow-origin"), None);
    let server = listed([("a", b"a")]).env("PAGECAST_CORS_ORIGINS", "https://a.example").serve();
    for target in ["/", "/?archive=zip"] {
        let reply = StreamedReply::get(&server, target, "Origin: https://a.example\r\n").reply;
        assert_eq!(reply.field("access-control-allow-origin"), Some("https://a.example"), "{target}");
        assert!(reply.field("vary").unwrap().contains("Origin"), "{:?}", reply.fields);
    }
}

/// Names that would be misread without escaping.
const HOSTILE: [&[u8]; 17] = [
    b"<script>alert(1)<script>.txt",
    b"\"><img src=x onerror=alert(1)>",
    b"quo\"te'.txt",
    b"new\nline",
    b"100%",
    b"%41",
    b"what?",
    b"#top",
    b"a&amp;b&",
    b"javascript:alert(1)",
    b"\xff\xfe",
    b"back\\slash",
    b" blank ",
    b"semi;colon=1,2+3",
    b"tab\there\x7f",
    "é ü 漢 \u{202e}txt.exe".as_bytes(),
    b"?archive=zip",
];

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// A listing of this many entries is longer than all buffers on its way.
const MANY: usize = 12_000;

fn listed<const N: usize>(files: [(&str, &[u8]); N]) -> Site {
    listed_from(Site::with(files))
}

fn listed_from(site: Site) -> Site {
    site.env("PAGECAST_LISTING", "on")
}

fn json(server: &Server, target: &str) -> Value {
    let body = StreamedReply::get(server, target, "Accept: application/json\r\n").body();
    serde_json::from_slice(&body).unwrap()
}

fn names(server: &Server, target: &str) -> Vec<String> {
    let listing = json(server, target);
    let entries = listing["entries"].as_array().unwrap();
    entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

/// Targets of the links of a page.
fn links(page: &str) -> Vec<String> {
    let links = page.split("href=\"").skip(1);
    links.map(|rest| rest.split('"').next().unwrap().replace("&amp;", "&")).collect()
}

/// The target that a relative reference leads to (RFC 3986 §5.2), of the kinds that a listing has.
fn resolve(base: &str, reference: &str) -> String {
    if reference.starts_with('?') {
        return format!("{base}{reference}");
    }
    let mut parts: Vec<&str> = base[..base.rfind('/').unwrap()].split('/').collect();
    let (path, last) = reference.rsplit_once('/').unwrap();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => {
                assert!(parts.pop().is_some_and(|name| !name.is_empty()), "{reference} leads out of {base}")
            }
            name => parts.push(name),
        }
    }
    parts.push(last);
    parts.join("/")
}

/// Compares the entity tags of a listing with those of HEAD; all must be present if `all`.
fn check_etags(server: &Server, all: bool) {
    for entry in json(server, "/")["entries"].as_array().unwrap() {
        let target = resolve("/", entry["href"].as_str().unwrap());
        let head = server.send(format!("HEAD {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let etag = entry["etag"].as_str();
        assert!(etag.is_some() || !all, "{entry}");
        if etag.is_some() {
            assert_eq!(etag, head.field("etag"), "{target}");
        }
        assert_eq!(entry["size"].as_u64(), head.content_length(), "{target}");
    }
}

fn make_files(directory: &Path, count: usize, name_length: usize) {
    fs::create_dir(directory).unwrap();
    for index in 0..count {
        fs::File::create(directory.join(format!("{index:0name_length$}"))).unwrap();
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A response that has begun, and whose rest waits for the client.
fn begin(server: &Server, target: &str) -> (TcpStream, Reply) {
    let mut stream = server.connect_narrow();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let head = Reply::read(&mut stream, true).expect("a head");
    assert_eq!((head.status, head.field("transfer-encoding")), (200, Some("chunked")), "{target}");
    (stream, head)
}
