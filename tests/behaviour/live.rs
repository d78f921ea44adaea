//! Each live setting: the next request is under it, and no longer when it is removed.

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::reload::RELOADED;
use crate::site::{PATIENCE, Reply, Server, Site, pattern};

#[test]
fn every_live_setting_applies_to_the_next_request_and_can_be_undone() {
    let site =
        Site::with([("a.txt", b"a"), (".hidden", b"h"), ("d/b", b"b"), ("d/c", b"c"), ("changing", b"0")]);
    let site = site.env("PAGECAST_ADMIN_LISTEN", "127.0.0.1:0").env("PAGECAST_WATCH", "false");
    let mut server = site.config("").serve();
    let mut wrong = Vec::new();
    for Row { base, set, probe, then } in ROWS {
        let key = |line: &str| line.split(" = ").next().unwrap_or_default().to_owned();
        let is_set = |line: &&str| set.lines().any(|other| key(other) == key(line));
        let kept: Vec<_> = base.lines().filter(|line| !is_set(line)).collect();
        let with = format!("{}\n{set}", kept.join("\n"));
        let seen = [*base, &with, base].map(|text| {
            reload(&mut server, text);
            probe(&server)
        });
        if seen[0] == *then || seen[1] != *then || seen[2] != seen[0] {
            wrong.push(format!("{with}: {then:?} is wanted of it alone, and seen are {seen:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn rates_can_be_set_and_lifted_by_a_reload() {
    std::thread::scope(|scope| {
        for set in [
            "rate_client = '100KiB'",
            "rate_connection = '100KiB'",
            "rate_total = '100KiB'",
            "[[rule]]\npath = '/long.bin'\nrate_client = '100KiB'",
            "[[rule]]\npath = '/long.bin'\nrate_connection = '100KiB'",
        ] {
            scope.spawn(move || {
                let mut server = Site::new().file("long.bin", &pattern(LONG, 1)).config("").serve();
                let mut client = Client::of(&server);
                let mut took = || {
                    let begun = Instant::now();
                    assert_eq!(client.ask("GET", "/long.bin", "").body, pattern(LONG, 1));
                    begun.elapsed()
                };
                took();
                reload(&mut server, set);
                // Half a second of the rate may be sent at once.
                let limited = took();
                assert!(limited > Duration::from_millis(900), "{set}: {limited:?}");
                reload(&mut server, "");
                let freed = took();
                assert!(freed < limited / 2, "without {set}: {freed:?} after {limited:?}");
            });
        }
    });
}

/// The same question with `base` alone, with `set` in addition, and without it again: `then` is the expected answer with it only.
struct Row {
    base: &'static str,
    set: &'static str,
    probe: fn(&Server) -> String,
    then: &'static str,
}

const TRUSTED: &str = "trusted_proxies = '127.0.0.0/8'";
const COUNTED: &str = "trusted_proxies = '127.0.0.0/8'\nclient_requests = '1/h'\nclient_requests_burst = 1";

const ROWS: &[Row] = &[
    Row { base: "", set: "index = 'a.txt'", probe: |server| status(server, "/", ""), then: "200" },
    Row { base: "", set: "dotfiles = 'allow'", probe: |server| status(server, "/.hidden", ""), then: "200" },
    Row {
        base: "",
        set: "trailing_slash = 'ignore'",
        probe: |server| status(server, "/a.txt/", ""),
        then: "200",
    },
    Row { base: "", set: "listing = true", probe: |server| status(server, "/d/", ""), then: "200" },
    Row {
        base: "listing = true",
        set: "archive = false",
        probe: |server| status(server, "/d/?archive=tar", ""),
        then: "404",
    },
    Row {
        base: "listing = true",
        set: "archive_entries = 1",
        probe: |server| status(server, "/d/?archive=tar", ""),
        then: "403",
    },
    Row {
        base: "",
        set: "cors_origins = '*'",
        probe: |server| field(server, "access-control-allow-origin"),
        then: "*",
    },
    Row {
        base: "",
        set: "cross_origin_resource_policy = 'same-site'",
        probe: |server| field(server, "cross-origin-resource-policy"),
        then: "same-site",
    },
    Row {
        base: "",
        set: "content_security_policy = \"default-src 'none'\"",
        probe: |server| field(server, "content-security-policy"),
        then: "default-src 'none'",
    },
    Row {
        base: "",
        set: "referrer_policy = 'no-referrer'",
        probe: |server| field(server, "referrer-policy"),
        then: "no-referrer",
    },
    Row {
        base: TRUSTED,
        set: "strict_transport_security = 'max-age=7'",
        probe: |server| field(server, "strict-transport-security"),
        then: "max-age=7",
    },
    Row {
        base: TRUSTED,
        set: "https_redirect = true",
        probe: |server| status(server, "/a.txt", ""),
        then: "301",
    },
    Row {
        base: "trusted_proxies = '127.0.0.0/8'\nhttps_redirect = true",
        set: "https_hosts = 'other.example'",
        probe: |server| status(server, "/a.txt", ""),
        then: "400",
    },
    Row {
        base: "https_redirect = true",
        set: TRUSTED,
        probe: |server| status(server, "/a.txt", "X-Forwarded-Proto: https\r\n"),
        then: "200",
    },
    Row {
        base: "",
        set: "query_filter = true",
        probe: |server| status(server, "/a.txt?q=%3Cscript%3E", ""),
        then: "400",
    },
    Row {
        base: "",
        set: "head_fields = 16",
        probe: |server| status(server, "/a.txt", &"X-A: 1\r\n".repeat(20)),
        then: "431",
    },
    Row {
        base: "",
        set: "head_bytes = '1KiB'",
        probe: |server| status(server, "/a.txt", &format!("X-A: {}\r\n", "x".repeat(2000))),
        then: "431",
    },
    Row {
        base: TRUSTED,
        set: "client_requests = '1/h'\nclient_requests_burst = 1",
        probe: |server| two(server, "10.{}.0.1", "10.{}.0.1"),
        then: "200 429",
    },
    Row {
        base: COUNTED,
        set: "client_requests_burst = 2",
        probe: |server| two(server, "10.{}.0.1", "10.{}.0.1"),
        then: "200 200",
    },
    Row {
        base: COUNTED,
        set: "client_v4_prefix = 16",
        probe: |server| two(server, "10.{}.0.1", "10.{}.1.1"),
        then: "200 429",
    },
    Row {
        base: COUNTED,
        set: "client_v6_prefix = 48",
        probe: |server| two(server, "2001:db8:{}:1::1", "2001:db8:{}:2::1"),
        then: "200 429",
    },
    Row {
        base: COUNTED,
        set: "unlimited_clients = '10.0.0.0/8'",
        probe: |server| two(server, "10.{}.0.1", "10.{}.0.1"),
        then: "200 200",
    },
    Row {
        base: "",
        set: "total_requests = '1/h'\ntotal_requests_burst = 1",
        probe: |server| two(server, "10.{}.0.1", "10.{}.0.2"),
        then: "200 429",
    },
    Row { base: "", set: "client_connections = 1", probe: second_connection, then: "429" },
    Row {
        base: "",
        set: "max_connections = 77",
        probe: |server| limit(server, "/connections/limit"),
        then: "77",
    },
    Row { base: "revalidate_after = '1h'", set: "revalidate_after = '0'", probe: change, then: "new" },
    Row {
        base: "",
        set: "[[rule]]\npath = '**'\ncache_control = 'no-store'",
        probe: |server| field(server, "cache-control"),
        then: "no-store",
    },
];

fn get(server: &Server, target: &str, lines: &str) -> Reply {
    server.get_with(target, lines)
}

fn status(server: &Server, target: &str, lines: &str) -> String {
    get(server, target, lines).status.to_string()
}

fn field(server: &Server, name: &str) -> String {
    let reply = get(server, "/a.txt", "Origin: https://o.example\r\nX-Forwarded-Proto: https\r\n");
    reply.field(name).unwrap_or("none").to_owned()
}

/// Statuses of two clients that were not seen before.
fn two(server: &Server, first: &str, second: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
    let ask =
        |at: &str| status(server, "/a.txt", &format!("X-Forwarded-For: {}\r\n", at.replace("{}", &number)));
    format!("{} {}", ask(first), ask(second))
}

/// Status for a client that has a connection already.
fn second_connection(server: &Server) -> String {
    // The connection of the previous question may not be closed yet.
    let deadline = Instant::now() + PATIENCE;
    while server.connections() > 0 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut first = Client::of(server);
    assert_eq!(first.ask("GET", "/a.txt", "").status, 200);
    let mut second = server.connect();
    write!(second, "GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    Reply::read(&mut second, false).map_or_else(|| "closed".to_owned(), |reply| reply.status.to_string())
}

fn limit(server: &Server, pointer: &str) -> String {
    let status: serde_json::Value = serde_json::from_slice(&server.get_admin("/status").body).unwrap();
    status.pointer(pointer).unwrap().to_string()
}

/// Status for a file that was requested and then changed.
fn change(server: &Server) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let path = server.root.join("changing");
    let write = || std::fs::write(&path, NEXT.fetch_add(1, Ordering::Relaxed).to_string()).unwrap();
    write();
    // A file read right after a change is read again soon.
    std::thread::sleep(Duration::from_millis(100));
    server.get_until("/changing", |reply| reply.body == std::fs::read(&path).unwrap());
    write();
    let is_new = server.get("/changing").body == std::fs::read(&path).unwrap();
    if is_new { "new" } else { "old" }.to_owned()
}

#[track_caller]
fn reload(server: &mut Server, toml: &str) {
    std::fs::write(server.root.join(".pagecast.toml"), toml).unwrap();
    server.hang_up(RELOADED);
}

const LONG: usize = 200 * 1024;
