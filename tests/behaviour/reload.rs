//! SIGHUP: what changes at once, what is refused, and that no client is disturbed.

use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Client, StreamedReply};
use crate::configured::{NAVIGATES, only};
use crate::site::{PATIENCE, Reply, Server, Site, pattern};

#[test]
fn rules_and_site_wide_headers_reach_cached_files_and_kept_connections() {
    let site = Site::with([("a.txt", b"a"), ("d/b.bin", b"b"), ("index.html", b"<p>app")]).config("");
    let mut server = site.file("long.bin", &pattern(100_000, 1)).serve();
    let mut client = Client::of(&server);
    let etag = only(&client.ask("GET", "/a.txt", ""), "etag").to_owned();
    for target in ["/a.txt", "/long.bin", "/d/", "/none", "/none", "/d/b.bin"] {
        client.ask("GET", target, "");
    }
    reload(
        &mut server,
        "cors_origins = 'https://one.example'
        referrer_policy = 'no-referrer'
        [[rule]]
        path = ['/a.txt', '/long.bin']
        cache_control = 'max-age=7'
        content_type = 'text/x-note'
        headers = { X-A = '1' }
        [[rule]]
        path = '/d/**'
        listing = true
        [[rule]]
        path = '/none'
        spa = '/index.html'",
    );
    for (target, more, status) in [
        ("/a.txt", String::new(), 200),
        ("/long.bin", String::new(), 200),
        ("/long.bin", "Range: bytes=5-8\r\n".to_owned(), 206),
        ("/a.txt", format!("If-None-Match: {etag}\r\n"), 304),
    ] {
        let reply = client.ask("GET", target, &format!("Origin: https://one.example\r\n{more}"));
        assert_eq!(reply.status, status, "{target} {more}");
        for (name, value) in [
            ("cache-control", "max-age=7"),
            ("x-a", "1"),
            ("referrer-policy", "no-referrer"),
            ("access-control-allow-origin", "https://one.example"),
        ] {
            assert_eq!(only(&reply, name), value, "{target} {more}");
        }
        if status != 304 {
            assert_eq!(only(&reply, "content-type"), "text/x-note", "{target} {more}");
        }
    }
    assert!(client.ask("GET", "/d/?format=json", "").text().contains("b.bin"));
    assert_eq!(client.ask("GET", "/none", NAVIGATES).text(), "<p>app");
    assert_eq!(only(&client.ask("GET", "/absent", ""), "referrer-policy"), "no-referrer");

    reload(&mut server, "dotfiles = 'allow'");
    let reply = client.ask("GET", "/a.txt", "");
    assert_eq!((reply.field("x-a"), reply.field("referrer-policy")), (None, None));
    assert_eq!(only(&reply, "etag"), etag, "the same bytes are the same version");
    for (target, status) in [("/none", 404), ("/d/", 404), ("/.pagecast.toml", 200)] {
        assert_eq!(client.ask("GET", target, NAVIGATES).status, status, "{target}");
    }
}

#[test]
fn encoded_variants_are_sent_under_the_new_rules() {
    let page = "a line of a page that compresses well\n".repeat(200);
    let mut server = Site::with([("page.html", page.as_bytes())]).config("").serve();
    let coded = |server: &Server| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reply = server.get_with("/page.html", "Accept-Encoding: br\r\n");
            if reply.field("content-encoding") == Some("br") {
                return reply;
            }
            assert_eq!((reply.status, reply.body == page.as_bytes()), (200, true));
            assert!(Instant::now() < deadline, "never coded");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let before = coded(&server);
    reload(&mut server, "[[rule]]\npath = '**'\nheaders = { X-A = '1' }");
    let first = server.get_with("/page.html", "Accept-Encoding: br\r\n");
    assert_eq!(only(&first, "x-a"), "1");
    let after = coded(&server);
    assert_eq!((only(&after, "x-a"), &after.body), ("1", &before.body));
    assert_eq!(only(&after, "etag"), only(&before, "etag"));
    reload(&mut server, "compress = false");
    let reply = server.get_with("/page.html", "Accept-Encoding: br\r\n");
    assert_eq!((reply.field("content-encoding"), reply.field("x-a")), (None, None));
}

#[test]
fn etags_follow_the_current_setting() {
    let mut server = Site::with([("a.txt", b"a")]).config("").serve();
    let mut client = Client::of(&server);
    let of_version = only(&client.ask("GET", "/a.txt", ""), "etag").to_owned();
    reload(&mut server, "etag = 'content'");
    let of_content = only(&client.ask("GET", "/a.txt", ""), "etag").to_owned();
    assert_ne!(of_version, of_content);
    reload(&mut server, "etag = 'version'");
    assert_eq!(only(&client.ask("GET", "/a.txt", ""), "etag"), of_version);
}

#[test]
fn the_log_level_changes_from_the_next_line_on() {
    let mut server = Site::with([("a.txt", b"a")]).config("").serve();
    assert_eq!(server.get("/%zz-one").status, 400);
    reload(&mut server, "log = 'debug'");
    assert_eq!(server.get("/%zz-two").status, 400);
    server.wait_for_log("%zz-two");
    reload(&mut server, "log = 'info'");
    assert_eq!(server.get("/%zz-three").status, 400);
    reload(&mut server, "log = 'info'");
    assert!(!server.log().contains("%zz-one") && !server.log().contains("%zz-three"), "{}", server.log());
    assert!(server.log().contains("log = debug (was info)"), "{}", server.log());
}

#[test]
fn a_file_with_errors_is_refused_as_a_whole_with_every_error() {
    let site = Site::with([("a.txt", b"a")]);
    let mut server = site.config("[[rule]]\npath = '**'\nheaders = { X-A = '1' }").serve();
    let file = server.root.join(".pagecast.toml");
    let is_as_before = |server: &Server| {
        let reply = server.get("/a.txt");
        assert_eq!((reply.status, only(&reply, "x-a")), (200, "1"));
    };
    std::fs::write(&file, "index = 'a.txt'\nhead_timeout = '2 parsecs'\nhead_timeuot = '1s'\n").unwrap();
    server.hang_up(REFUSED);
    for part in [
        format!("{}:2: head_timeout: the value", file.display()),
        "2 parsecs".to_owned(),
        "accepted: ".to_owned(),
        format!("{}:3: head_timeuot is not known", file.display()),
    ] {
        assert!(server.log().contains(&part), "{part} in {}", server.log());
    }
    is_as_before(&server);
    assert_eq!(server.get("/").status, 404, "nothing of it is in effect");

    std::fs::remove_file(&file).unwrap();
    server.hang_up(REFUSED);
    is_as_before(&server);

    make_fifo(&file);
    server.hang_up(REFUSED);
    assert!(server.log().contains("it is not a regular file"), "{}", server.log());
    is_as_before(&server);

    std::fs::remove_file(&file).unwrap();
    reload(&mut server, "index = 'a.txt'");
    assert_eq!((server.get("/").status, server.get("/a.txt").field("x-a")), (200, None));
}

#[test]
fn settings_that_need_a_restart_are_logged_and_stay_while_the_rest_changes() {
    let mut server = Site::with([("a.txt", b"a")]).config("names = 1000").serve();
    reload(&mut server, "names = 2000\nindex = 'a.txt'\nroot = '/'");
    assert_eq!(server.get("/").text(), "a", "the root is what it was, the index is not");
    server.wait_for_log("needs a restart: until then it stays 1000");
    let file = server.root.join(".pagecast.toml");
    let expected = format!("names = 2000 ({}:1) needs a restart", file.display());
    assert!(server.log().contains(&expected), "{expected} in {}", server.log());
    // The variable takes precedence over the file, as at start.
    assert!(!server.log().contains("root = "), "{}", server.log());
    assert!(server.log().contains("index = a.txt (was index.html)"), "{}", server.log());
    reload(&mut server, "names = 1000\nindex = 'a.txt'");
    assert!(server.log().ends_with("nothing has changed\n"), "{}", server.log());
}

#[test]
fn limits_change_and_are_still_validated_together() {
    let site = Site::with([("a.txt", b"a")]).open_files(256).env("PAGECAST_WORKERS", "1");
    let mut server = site.config("handles = 50\nmax_connections = 1").serve();
    let mut client = Client::of(&server);
    // In the middle of a head: not idle, and so not closed for another connection.
    client.send("GET /a.txt HTTP/1.1\r\n");
    server.get_until("/a.txt", |reply| reply.status == 503);
    reload(&mut server, "handles = 50\nmax_connections = 3\nhead_bytes = '1KiB'\nidle_timeout = '10ms'");
    assert_eq!(server.get_until("/a.txt", |reply| reply.status == 200).text(), "a");
    client.send("Host: x\r\n\r\n");
    assert_eq!(client.read("GET").status, 200);
    let mut client = Client::of(&server);
    let long = format!("X-Long: {}\r\n", "x".repeat(2_000));
    assert_eq!(client.ask("GET", "/a.txt", &long).status, 431);
    let mut client = Client::of(&server);
    assert_eq!(client.ask("GET", "/a.txt", "").status, 200);
    assert!(client.is_at_end(), "it idled for too long");

    std::fs::write(server.root.join(".pagecast.toml"), "max_connections = 100000\nindex = 'a.txt'").unwrap();
    server.hang_up(REFUSED);
    assert!(server.log().contains("PAGECAST_MAX_CONNECTIONS=100000"), "{}", server.log());
    assert!(server.log().contains("the limit is 256"), "{}", server.log());
    // Everything is available at the next start, but the handles keep their share until then.
    std::fs::write(server.root.join(".pagecast.toml"), "handles = 8\nmax_connections = 176\nindex = 'a.txt'")
        .unwrap();
    server.hang_up(REFUSED);
    assert!(server.log().contains("this would be valid after a restart"), "{}", server.log());
    assert_eq!(server.get("/").status, 404);
}

#[test]
fn live_settings_are_checked_beside_those_that_stay_until_a_restart() {
    for (before, after, reason) in [
        (
            "proxy_protocol = 'require'\ntrusted_proxies = '127.0.0.1'",
            "",
            "PAGECAST_PROXY_PROTOCOL=require requires PAGECAST_TRUSTED_PROXIES",
        ),
        (
            "heap_bytes = '256KiB'\nheap_file_bytes = '64KiB'",
            "heap_bytes = '16MiB'\nheap_file_bytes = '1MiB'",
            "PAGECAST_HEAP_BYTES=256KiB has no room",
        ),
    ] {
        let mut server = Site::with([("a.txt", b"a")]).config(before).serve();
        std::fs::write(server.root.join(".pagecast.toml"), after).unwrap();
        server.hang_up(REFUSED);
        let log = server.log();
        assert!(log.contains(reason) && log.contains("this would be valid after a restart"), "{log}");
    }
}

#[test]
fn a_reload_does_not_disturb_a_download() {
    let body = pattern(16 << 20, 1);
    let mut server = Site::new().file("big.bin", &body).config("").serve();
    let mut stream = server.connect_narrow();
    std::io::Write::write_all(&mut stream, b"GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut reply = Reply::read(&mut stream, true).unwrap();
    for round in 0..10 {
        let mut piece = vec![0; 100_000];
        stream.read_exact(&mut piece).unwrap();
        reply.body.extend(piece);
        reload(&mut server, &format!("[[rule]]\npath = '**'\nheaders = {{ X-A = '{round}' }}"));
        assert_eq!(only(&server.get("/big.bin"), "x-a"), round.to_string());
    }
    stream.take((body.len() - reply.body.len()) as u64).read_to_end(&mut reply.body).unwrap();
    assert_eq!((reply.status, reply.field("x-a")), (200, None));
    assert!(reply.body == body, "broken after {} bytes", reply.body.len());
}

#[test]
fn redirects_are_read_again_and_bad_ones_leave_the_old_in_effect() {
    let mut server = Site::with([("_redirects", b"/old /one 302"), ("one", b"1"), ("two", b"2")]).serve();
    let redirects = server.root.join("_redirects");
    let mut client = Client::of(&server);
    assert_eq!(only(&client.ask("GET", "/old", ""), "location"), "/one");
    std::fs::write(&redirects, "/old /two 302\n/one /two 200!").unwrap();
    server.hang_up(RELOADED);
    assert!(server.log().contains("no configuration file being named: redirects"), "{}", server.log());
    assert_eq!(only(&client.ask("GET", "/old", ""), "location"), "/two");
    assert_eq!(client.ask("GET", "/one", "").text(), "2");

    std::fs::write(&redirects, "/old /one 302\n/bad /two 999").unwrap();
    server.hang_up(REFUSED);
    assert!(server.log().contains(&format!("{}:2: the line", redirects.display())), "{}", server.log());
    assert_eq!(only(&client.ask("GET", "/old", ""), "location"), "/two");

    std::fs::remove_file(&redirects).unwrap();
    make_fifo(&redirects);
    server.hang_up(REFUSED);
    assert_eq!(only(&client.ask("GET", "/old", ""), "location"), "/two");

    std::fs::remove_file(&redirects).unwrap();
    server.hang_up(RELOADED);
    assert_eq!(client.ask("GET", "/old", "").status, 404);
    assert_eq!(client.ask("GET", "/one", "").text(), "1");
}

#[test]
fn many_reloads_under_load_lose_no_request() {
    let body = pattern(50_000, 1);
    let site = Site::with([("small.txt", b"small")]).file("long.bin", &body);
    let server = site.config(&numbered(0)).serve();
    let (is_over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (is_over, asked, body) = (Arc::clone(&is_over), Arc::clone(&asked), body.clone());
            let mut client = Client::of(&server);
            std::thread::spawn(move || {
                let mut latest = 0;
                while !is_over.load(Ordering::Relaxed) {
                    for (target, expected) in [("/small.txt", &b"small"[..]), ("/long.bin", &body)] {
                        let reply = client.ask("GET", target, "");
                        assert!(reply.status == 200 && reply.body == expected, "{target}: {}", reply.status);
                        let number: u32 = only(&reply, "x-number").parse().unwrap();
                        assert!(number >= latest, "{number} after {latest}");
                        latest = number;
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for number in 1..=100 {
        // In one step, so that no partial file is read.
        let (new, file) = (server.root.join(".new.toml"), server.root.join(".pagecast.toml"));
        std::fs::write(&new, numbered(number)).unwrap();
        std::fs::rename(&new, &file).unwrap();
        server.signal("HUP");
    }
    server.get_until("/small.txt", |reply| reply.field("x-number") == Some("100"));
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    assert!(asked.load(Ordering::Relaxed) >= 8);
    assert!(!server.log().contains("ERROR") && !server.log().contains("WARN"), "{}", server.log());
}

#[test]
fn a_stopping_server_does_not_reload() {
    let mut server = Site::with([("a.txt", b"a")]).config("").env("PAGECAST_DRAIN_DELAY", "1s").serve();
    server.signal("TERM");
    server.wait_for_log("stopping: ");
    server.hang_up("not reloaded: the server is stopping");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_replaced_root_is_served_and_responses_under_way_finish_on_the_old_one() {
    for trusted in ["10ms", "1h"] {
        let (old, new) = (pattern(16 << 20, 1), pattern(16 << 20, 2));
        let site =
            Site::with([("one/a.txt", b"one"), ("two/a.txt", b"two"), ("two/_redirects", b"/x /y 302")]);
        let site = site.file("one/big.bin", &old).file("two/big.bin", &new).file("one/gone.txt", b"gone");
        let (releases, current) = (site.path().to_owned(), site.path().join("current"));
        symlink("one", &current).unwrap();
        let server = site
            .env("PAGECAST_ROOT", current.to_str().unwrap())
            .env("PAGECAST_REVALIDATE_AFTER", trusted)
            .env("PAGECAST_REVALIDATE_WATCHED_AFTER", "1h")
            .env("PAGECAST_LISTING", "on")
            .serve();
        for (target, status) in [("/a.txt", 200), ("/gone.txt", 200), ("/new.txt", 404), ("/x", 404)] {
            assert_eq!(server.get(target).status, status, "{target}");
        }
        let mut download = server.connect_narrow();
        let mut archive = server.connect_narrow();
        for (stream, target) in [(&mut download, "/big.bin"), (&mut archive, "/?archive=tar")] {
            let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            std::io::Write::write_all(stream, request.as_bytes()).unwrap();
        }
        let (begun, archive_begun) =
            (Reply::read(&mut download, true).unwrap(), Reply::read(&mut archive, true).unwrap());

        swap(&releases, "two");
        server.get_until("/a.txt", |reply| reply.body == b"two");
        server.get_until("/gone.txt", |reply| reply.status == 404);
        server.get_until("/x", |reply| reply.field("location") == Some("/y"));
        assert!(server.get("/big.bin").body == new, "{trusted}");

        // The new tree is watched now; without inotify names are trusted for a short time only.
        if trusted != "1h" {
            std::fs::write(releases.join("two/.new"), b"newer").unwrap();
            std::fs::rename(releases.join("two/.new"), releases.join("two/a.txt")).unwrap();
            server.get_until("/a.txt", |reply| reply.body == b"newer");
        }

        assert!(StreamedReply::finish(begun, &mut download).body() == old, "{trusted}");
        let tar = StreamedReply::finish(archive_begun, &mut archive).body();
        let names: Vec<_> = tar::Archive::new(&tar[..])
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["a.txt", "big.bin", "gone.txt"], "{trusted}");
        assert!(memchr::memmem::find(&tar, &old[..4096]).is_some(), "{trusted}");
    }
}

/// Writes this configuration, and waits until it is in effect.
#[track_caller]
fn reload(server: &mut Server, toml: &str) {
    std::fs::write(server.root.join(".pagecast.toml"), toml).unwrap();
    server.hang_up(RELOADED);
}

/// Points `current` to `release`, in one step.
fn swap(releases: &Path, release: &str) {
    let next = releases.join("next");
    symlink(release, &next).unwrap();
    std::fs::rename(next, releases.join("current")).unwrap();
}

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn numbered(number: u32) -> String {
    format!("[[rule]]\npath = '**'\nheaders = {{ X-Number = '{number}' }}")
}

pub const RELOADED: &str = "pagecast::lifecycle::reload] reloaded ";

const REFUSED: &str = "pagecast::lifecycle::reload] not reloaded: ";
