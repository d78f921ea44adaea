//! The admin port: access, the operators' actions, and what it shows.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::client::ReadSome;
use crate::site::{PATIENCE, Reply, Server, Site, pattern};

const TOKEN: &str = "correct-horse-battery-staple";

/// Every route, with its methods.
const ROUTES: &[(&str, &str)] = &[
    ("/", "GET, HEAD"),
    ("/dashboard.css", "GET, HEAD"),
    ("/dashboard.js", "GET, HEAD"),
    ("/favicon.svg", "GET, HEAD"),
    ("/events", "GET"),
    ("/debug/config", "GET, HEAD"),
    ("/debug/cache", "GET, HEAD"),
    ("/drain", "POST"),
    ("/ready", "POST"),
    ("/purge?glob=**", "POST"),
    ("/reload", "POST"),
    ("/warm?glob=**", "POST"),
];

const LOCAL: &str = "Host: localhost\r\n";

#[test]
fn a_listener_reachable_from_other_machines_needs_a_token() {
    let open = || site().env("PAGECAST_ADMIN_LISTEN", "0.0.0.0:0");
    let ended = open().command().output().unwrap();
    let message = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(2), "{message}");
    assert!(message.contains("PAGECAST_ADMIN_TOKEN") && message.contains("0.0.0.0:0"), "{message}");
    let server = open().env("PAGECAST_ADMIN_TOKEN", TOKEN).serve();
    assert_eq!(server.ask_admin("GET", "/readyz", "Host: 192.0.2.1\r\n").status, 200);
    assert_eq!(server.ask_admin("GET", "/status", "Host: 192.0.2.1\r\n").status, 401);
    let right = format!("Host: 192.0.2.1\r\nAuthorization: Bearer {TOKEN}\r\n");
    assert_eq!(server.ask_admin("GET", "/status", &right).status, 200);
}

#[test]
fn everything_but_health_requires_the_token() {
    let server = site().env("PAGECAST_ADMIN_TOKEN", TOKEN).serve();
    for (route, methods) in
        ROUTES.iter().chain(&[("/status", "GET"), ("/metrics", "GET"), ("/nowhere", "GET")])
    {
        let method = methods.split(',').next().unwrap();
        let reply = server.ask_admin(method, route, LOCAL);
        assert_eq!((reply.status, reply.text().as_str()), (401, "The admin token is required.\n"), "{route}");
        let challenges: Vec<_> = reply
            .fields
            .iter()
            .filter(|(name, _)| name == "www-authenticate")
            .map(|(_, value)| &**value)
            .collect();
        assert!(challenges.iter().any(|value| value.starts_with("Basic realm=")), "{challenges:?}");
        assert!(challenges.iter().any(|value| value.starts_with("Bearer realm=")), "{challenges:?}");
    }
    for health in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(server.ask_admin("GET", health, "Host: probe.example\r\n").status, 200);
    }
    let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
    for (shown, status) in [
        (format!("Bearer {TOKEN}"), 200),
        (basic(&format!("operator:{TOKEN}")), 200),
        (basic(&format!("{TOKEN}:")), 401),
        (format!("Bearer {TOKEN}x"), 401),
        (format!("Digest {TOKEN}"), 401),
    ] {
        let lines = format!("{LOCAL}Authorization: {shown}\r\n");
        assert_eq!(server.ask_admin("GET", "/debug/config", &lines).status, status, "{shown}");
    }
    let lines = format!("{LOCAL}Authorization: Bearer {TOKEN}\r\n");
    let status = json(&server.ask_admin("GET", "/status", &lines));
    assert_eq!(status["refused"]["admin_tokens"], 3);
}

#[test]
fn wrong_tokens_are_rate_limited() {
    let server = site().env("PAGECAST_ADMIN_TOKEN", TOKEN).serve();
    let wrong = format!("{LOCAL}Authorization: Bearer {TOKEN}-not\r\n");
    let right = format!("{LOCAL}Authorization: Bearer {TOKEN}\r\n");
    let status = json(&server.ask_admin("GET", "/status", &right));
    assert_eq!(status["refused"]["admin_attempts"], 0);
    let replies: Vec<_> = (0..12).map(|_| server.ask_admin("GET", "/", &wrong)).collect();
    assert_eq!(replies.iter().filter(|reply| reply.status == 401).count(), 10);
    let last = replies.last().unwrap();
    assert_eq!(last.status, 429);
    assert!(last.field("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(
        server.ask_admin("GET", "/", &right).status,
        429,
        "nor is the right one, until the pause is over"
    );
    assert_eq!(server.ask_admin("GET", "/readyz", LOCAL).status, 200);
    let lines = server.log().lines().filter(|line| line.contains("wrong admin token")).count();
    assert_eq!(lines, 1, "{}", server.log());
}

#[test]
fn the_token_appears_nowhere() {
    let site =
        site().env("PAGECAST_ADMIN_TOKEN", TOKEN).env("PAGECAST_LOG", "debug").config("idle_timeout = '7s'");
    let printed = {
        let mut command = site.command();
        command.arg("config").stdout(std::process::Stdio::piped());
        command.output().unwrap()
    };
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("admin_token") && printed.contains("(hidden)"), "{printed}");
    let mut server = site.serve();
    let lines = format!("{LOCAL}Authorization: Bearer {TOKEN}\r\n");
    let mut seen = printed;
    for target in ["/debug/config", "/debug/config?format=text", "/debug/cache", "/status", "/metrics", "/"] {
        let reply = server.ask_admin("GET", target, &lines);
        assert_eq!(reply.status, 200, "{target}");
        seen.push_str(&reply.text());
    }
    std::fs::write(
        server.root.join(".pagecast.toml"),
        "admin_token = 'another-token-that-waits'\nidle_timeout = '8s'",
    )
    .unwrap();
    let reply = server.ask_admin("POST", "/reload", &lines);
    assert_eq!(reply.status, 200, "{}", reply.text());
    seen.push_str(&reply.text());
    seen.push_str(&server.ask_admin("GET", "/debug/config", &lines).text());
    server.signal("TERM");
    server.wait();
    seen.push_str(&server.log());
    assert!(!seen.contains(TOKEN) && !seen.contains("another-token"), "{seen}");
    assert!(seen.contains("(hidden)"));
}

#[test]
fn pages_of_other_sites_can_neither_change_nor_read_anything() {
    let server = site().serve();
    let own = format!("localhost:{}", server.admin.unwrap().port());
    for (route, methods) in ROUTES {
        let method = methods.split(',').next().unwrap();
        let foreign = [
            "Host: attacker.example\r\n".to_owned(),
            "Host: localhost.attacker.example:80\r\n".to_owned(),
            "Host: 192.0.2.1\r\n".to_owned(),
            format!("Host: {own}\r\nOrigin: https://attacker.example\r\n"),
            format!("Host: {own}\r\nOrigin: http://localhost:1\r\n"),
            format!("Host: {own}\r\nOrigin: null\r\n"),
            format!("Host: {own}\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n"),
            format!("Host: {own}\r\nSec-Fetch-Site: same-site\r\nSec-Fetch-Mode: cors\r\n"),
        ];
        for lines in &foreign {
            let reply = server.ask_admin(method, route, lines);
            assert_eq!(reply.status, 403, "{method} {route} {lines}");
        }
    }
    assert_eq!(server.get_admin("/readyz").status, 200, "nobody has drained it");
    let status = json(&server.get_admin("/status"));
    assert_eq!(status["refused"]["admin_pages"], ROUTES.len() * 8);
    for lines in [
        format!("Host: {own}\r\nOrigin: http://{own}\r\nSec-Fetch-Site: same-origin\r\n"),
        format!("Host: {own}\r\n"),
        format!("Host: {}\r\n", server.admin.unwrap()),
    ] {
        assert_eq!(server.ask_admin("POST", "/drain", &lines).status, 200, "{lines}");
        assert_eq!(server.get_admin("/readyz").status, 503);
        assert_eq!(server.ask_admin("POST", "/ready", &lines).status, 200, "{lines}");
    }
    let followed = format!("Host: {own}\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n");
    assert_eq!(server.ask_admin("GET", "/", &followed).status, 200, "a link leads here");
    assert_eq!(server.ask_admin("POST", "/drain", &followed).status, 403, "a form does not");
}

#[test]
fn routes_accept_only_their_own_methods() {
    let server = site().serve();
    for (route, methods) in ROUTES {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE"] {
            if methods.split(", ").any(|taken| taken == method) {
                continue;
            }
            let reply = server.ask_admin(method, route, LOCAL);
            assert_eq!((reply.status, reply.field("allow")), (405, Some(*methods)), "{method} {route}");
        }
    }
    assert_eq!(server.get_admin("/readyz").status, 200);
    assert_eq!(server.get_admin("/nowhere").status, 404);
}

#[test]
fn a_drained_server_goes_on_serving_while_readiness_fails() {
    let server = site().serve();
    for (act, is_news, readiness) in [
        ("/drain", true, (503, "Drained by an operator.\n")),
        ("/drain", false, (503, "Drained by an operator.\n")),
        ("/ready", true, (200, "ok\n")),
        ("/ready", false, (200, "ok\n")),
    ] {
        let answer = json(&server.ask_admin("POST", act, LOCAL));
        assert_eq!(answer["is_drained"], act == "/drain");
        assert_eq!(answer["has_changed"], is_news, "{act}");
        for reply in [server.get_admin("/readyz"), server.get("/readyz"), server.get("/healthz")] {
            assert_eq!((reply.status, reply.text().as_str()), readiness, "{act}");
        }
        assert_eq!((server.get("/livez").status, server.get("/a.txt").text().as_str()), (200, "a"));
        let status = json(&server.get_admin("/status"));
        assert_eq!((&status["phase"], &status["is_drained"]), (&"ready".into(), &(act == "/drain").into()));
    }
}

#[test]
fn a_stop_cannot_be_undone() {
    let mut server = site().env("PAGECAST_DRAIN_DELAY", "10s").serve();
    server.signal("TERM");
    server.wait_for_log("stopping");
    for act in ["/drain", "/ready", "/reload"] {
        let reply = server.ask_admin("POST", act, LOCAL);
        assert_eq!(
            (reply.status, json(&reply)["error"].as_str()),
            (409, Some("The server is stopping.")),
            "{act}"
        );
    }
    assert_eq!(server.get_admin("/readyz").text(), "Draining.\n");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn purged_names_are_looked_up_again() {
    let long = |version| pattern(100_000, version);
    let site = site()
        .file("assets/app.js", b"one")
        .file("assets/app.js.gz", b"gz one")
        .file("long.bin", &long(1))
        .env("PAGECAST_REVALIDATE_AFTER", "1h")
        .env("PAGECAST_WATCH", "off");
    let server = site.serve();
    // A file that was just written is revalidated soon.
    std::thread::sleep(Duration::from_millis(100));
    let coded = || server.get_with("/assets/app.js", "Accept-Encoding: gzip\r\n").body;
    let look = |is_new: bool| {
        let (script, zipped, text, missing) = match is_new {
            false => (&b"one"[..], &b"gz one"[..], &b"a"[..], 404),
            true => (&b"two, longer"[..], &b"gz two, longer"[..], &b"b"[..], 200),
        };
        // The path caches of both workers have them as well.
        for _ in 0..8 {
            assert_eq!(server.get("/assets/app.js").body, script);
            assert_eq!(coded(), zipped);
            assert_eq!(server.get("/a.txt").body, text);
            assert_eq!(server.get("/late.txt").status, missing);
            assert_eq!(server.get("/long.bin").body, long(if is_new { 2 } else { 1 }));
        }
    };
    look(false);
    for (name, bytes) in [
        ("assets/app.js", &b"two, longer"[..]),
        ("assets/app.js.gz", b"gz two, longer"),
        ("a.txt", b"b"),
        ("late.txt", b"late"),
        ("long.bin", &long(2)),
    ] {
        // By renaming, as recommended: the old file stays as it is.
        let temporary = server.root.join("temporary");
        std::fs::write(&temporary, bytes).unwrap();
        std::fs::rename(temporary, server.root.join(name)).unwrap();
    }
    look(false);
    let nothing = json(&server.ask_admin("POST", "/purge?glob=/elsewhere/**", LOCAL));
    assert_eq!((&nothing["names"], &nothing["files"]), (&0.into(), &0.into()));
    look(false);
    let some = json(&server.ask_admin("POST", "/purge?glob=*.txt&glob=/long.bin", LOCAL));
    assert_eq!(some["names"], 3, "{some}");
    assert_eq!(some["files"], 2, "what is missing is no file: {some}");
    assert_eq!(
        (server.get("/a.txt").text().as_str(), server.get("/late.txt").text().as_str()),
        ("b", "late")
    );
    assert_eq!(server.get("/long.bin").body, long(2));
    assert_eq!(server.get("/assets/app.js").text(), "one");
    let all = json(&server.ask_admin("POST", "/purge?glob=**", LOCAL));
    assert_eq!(all["names"], 5, "the page that would stand for what is missing is one: {all}");
    look(true);
    assert!(server.log().contains("purged *.txt, /long.bin: 3 names, 2 files"), "{}", server.log());
}

#[test]
fn purging_a_sidecar_purges_its_original() {
    let site = site()
        .file("app.js", b"one")
        .file("app.js.gz", b"gz one")
        .env("PAGECAST_REVALIDATE_AFTER", "1h")
        .env("PAGECAST_WATCH", "off");
    let server = site.serve();
    // A file that was just written is revalidated soon.
    std::thread::sleep(Duration::from_millis(100));
    let coded = || server.get_with("/app.js", "Accept-Encoding: gzip\r\n").text();
    assert_eq!(coded(), "gz one");
    std::fs::write(server.root.join("new"), b"gz two").unwrap();
    std::fs::rename(server.root.join("new"), server.root.join("app.js.gz")).unwrap();
    assert_eq!(coded(), "gz one");
    assert_eq!(server.ask_admin("POST", "/purge?glob=*.gz", LOCAL).status, 200);
    assert_eq!(coded(), "gz two");
}

#[test]
fn a_malformed_purge_is_explained() {
    let server = site().serve();
    for (target, message) in [
        ("/purge", "A glob is missing. Accepted: one or more"),
        ("/purge?glob", "The list of globs is empty"),
        ("/purge?globs=**", "A glob is missing"),
        ("/purge?glob=%5Ba", "The list of globs has `[a` in it, which has a [ without its ]."),
        ("/purge?glob=/../x", "which has a name in it that is empty, . or .."),
    ] {
        let reply = server.ask_admin("POST", target, LOCAL);
        let error = json(&reply)["error"].as_str().unwrap_or_default().to_owned();
        assert_eq!(reply.status, 400, "{target}");
        assert!(error.contains(message), "{target}: {error}");
    }
}

#[test]
fn a_reload_returns_its_result() {
    let server = site().config("idle_timeout = '7s'").serve();
    let file = server.root.join(".pagecast.toml");
    let reload = || server.ask_admin("POST", "/reload", LOCAL);
    let idle = || {
        let config = json(&server.get_admin("/debug/config"));
        let values = config["values"].as_array().unwrap().clone();
        let found = values.into_iter().find(|value| value["key"] == "idle_timeout").unwrap();
        (found["value"].as_str().unwrap().to_owned(), found["origin"].as_str().unwrap().to_owned())
    };
    let from = |line: usize| format!("{}:{line}", file.display());
    assert_eq!(idle(), ("7s".to_owned(), from(1)));
    let same = json(&reload());
    assert!(same["news"].as_str().unwrap().ends_with("nothing has changed"), "{same}");

    std::fs::write(&file, "names = 99\nidle_timeout = '8s'\n").unwrap();
    let reply = reload();
    let answer = json(&reply);
    assert_eq!(reply.status, 200);
    assert!(answer["news"].as_str().unwrap().ends_with("idle_timeout = 8s (was 7s)"), "{answer}");
    assert_eq!(answer["postponed"][0]["key"], "names");
    assert_eq!(answer["postponed"][0]["value"], "99");
    assert_eq!(answer["postponed"][0]["until_then"], "65536");
    assert_eq!(idle(), ("8s".to_owned(), from(2)));
    let config = json(&server.get_admin("/debug/config"));
    assert_eq!(config["needs_restart"][0]["key"], "names");
    let text = server.get_admin("/debug/config?format=text").text();
    assert!(text.contains("names = 99") && text.contains("needs a restart"), "{text}");

    std::fs::write(&file, "idle_timeout = '9 parsecs'\nnmaes = 1\n").unwrap();
    let reply = reload();
    let answer = json(&reply);
    assert_eq!(reply.status, 422);
    let errors: Vec<_> =
        answer["errors"].as_array().unwrap().iter().map(|error| error.as_str().unwrap()).collect();
    assert_eq!(errors.len(), 2, "{answer}");
    assert!(
        errors.iter().any(|error| error.contains(":1: idle_timeout: the value \"9 parsecs\"")),
        "{answer}"
    );
    assert!(errors.iter().any(|error| error.contains(":2: nmaes is not known")), "{answer}");
    assert_eq!(idle(), ("8s".to_owned(), from(2)));
}

#[test]
fn every_setting_is_in_the_debug_page() {
    let server = site().env("PAGECAST_WORKERS", "1").serve();
    let config = json(&server.get_admin("/debug/config"));
    let values = config["values"].as_array().unwrap();
    let of = |key: &str| values.iter().find(|value| value["key"] == key).unwrap_or_else(|| panic!("{key}"));
    for setting in pagecast::config::SETTINGS {
        of(setting.key);
    }
    assert_eq!(of("workers")["value"], "1");
    assert_eq!(of("workers")["origin"], "environment PAGECAST_WORKERS");
    assert_eq!(of("handles")["origin"], "derived");
    assert_eq!(config["needs_restart"], Value::Array(Vec::new()));
    assert_eq!(server.get_admin("/debug/config?format=xml").status, 400);
}

#[test]
fn the_debug_page_shows_the_cache() {
    let site = site()
        .file("long.bin", &pattern(500_000, 1))
        .file("d/caf\u{e9} <b>.txt", b"x")
        .config("[[rule]]\npath = '/a.txt'\ncache_control = 'max-age=9'");
    let server = site.serve();
    let etag = server.get("/a.txt").field("etag").unwrap().to_owned();
    for _ in 0..4 {
        server.get("/a.txt");
    }
    server.get("/nowhere");
    server.get_with("/long.bin", "Range: bytes=0-9\r\n");
    server.get("/d/caf%C3%A9%20%3Cb%3E.txt");
    let cache = |query: &str| json(&server.get_admin(&format!("/debug/cache{query}")));
    let all = cache("");
    // The fourth is the error page.
    assert_eq!(all["matching"], 5, "{all}");
    let entries = all["entries"].as_array().unwrap();
    let of =
        |path: &str| entries.iter().find(|entry| entry["path"] == path).unwrap_or_else(|| panic!("{all}"));
    let (short, long, missing) = (of("/a.txt"), of("/long.bin"), of("/nowhere"));
    // Requests that a worker has not reported yet are missing.
    assert!((1..=5).contains(&short["requests"].as_u64().unwrap()), "{all}");
    assert_eq!(of("/404.html")["requests"], 0);
    assert_eq!((&short["file"]["etag"], &short["file"]["bytes"]), (&etag.into(), &1.into()));
    assert_eq!((&short["file"]["content"], &short["file"]["hot_bytes"]), (&"heap".into(), &Value::Null));
    assert_eq!(short["cache_control"], "max-age=9");
    assert!(long["file"]["hot_bytes"].as_u64().is_some_and(|hot| hot > 0 && hot < 500_000), "{long}");
    assert!(["mapped", "unmapped"].contains(&long["file"]["content"].as_str().unwrap()));
    assert_eq!((&missing["outcome"], &missing["file"]), (&"missing".into(), &Value::Null));
    of("/d/caf\u{e9} <b>.txt");
    assert_eq!(entries[0]["path"], "/d/caf\u{e9} <b>.txt", "what was used last comes first");
    let few = cache("?glob=*.txt&limit=1");
    assert_eq!((&few["matching"], few["entries"].as_array().unwrap().len()), (&2.into(), 1));
    for (query, message) in [
        ("?limit=0", "Accepted: 1 to 10000"),
        ("?limit=x", "Accepted: 1 to 10000"),
        ("?glob=%5B", "list of globs"),
    ] {
        let reply = server.get_admin(&format!("/debug/cache{query}"));
        assert_eq!(reply.status, 400, "{query}");
        assert!(reply.text().contains(message), "{}", reply.text());
    }
}

#[test]
fn events_bring_a_snapshot_every_second() {
    let server = site().file("long.bin", &pattern(200_000, 1)).serve();
    let mut events = Events::of(&server);
    assert_eq!(events.next().name, "history");
    let begun = Instant::now();
    events.next();
    for _ in 0..50 {
        server.get("/a.txt");
        server.get("/nowhere");
    }
    server.get("/long.bin");
    let (mut requests, mut bytes, mut last_ms, mut snapshots) = (0.0, 0.0, 0, 0);
    let deadline = Instant::now() + PATIENCE;
    while requests < 100.0 || bytes < 200_000.0 {
        let snapshot = events.next();
        assert_eq!(snapshot.name, "snapshot");
        let at_ms = snapshot.data["at_ms"].as_u64().unwrap();
        assert!(at_ms > last_ms, "{last_ms} {at_ms}");
        last_ms = at_ms;
        snapshots += 1;
        // No more than one a second since the subscription, however late a busy machine sends each.
        assert!(snapshots <= begun.elapsed().as_secs() + 1, "{snapshots} after {:?}", begun.elapsed());
        requests += snapshot.data["point"][1].as_f64().unwrap();
        bytes += snapshot.data["point"][2].as_f64().unwrap();
        assert!(Instant::now() < deadline, "{requests} {bytes}");
    }
    let data = events.next().data;
    assert_eq!(data["status"]["phase"], "ready");
    let class = |name: &str| {
        let classes = data["recent"]["classes"].as_array().unwrap().clone();
        classes.into_iter().find(|class| class["name"] == name).unwrap()["per_second"].as_f64().unwrap()
    };
    assert!(class("2xx") > 0.0 && class("4xx") > 0.0, "{data}");
    assert!(data["recent"]["first_byte"]["p99_ms"].as_f64().is_some_and(|p99| p99 > 0.0), "{data}");
    assert!(data["recent"]["hit_share"].as_f64().is_some_and(|share| share > 0.5), "{data}");
    assert!(data["activities"]["idle"].is_u64(), "{data}");
    let again = Events::of(&server).next().data;
    assert!(again["points"].as_array().unwrap().len() >= 3, "who comes later sees what was before: {again}");
}

#[test]
fn events_have_the_busiest_names_and_the_failures() {
    let server = site().env("PAGECAST_QUERY_FILTER", "on").serve();
    let mut events = Events::of(&server);
    let deadline = Instant::now() + PATIENCE;
    loop {
        for _ in 0..20 {
            server.get("/a.txt");
        }
        server.get("/gone");
        server.get("/a.txt?q=%3Cscript%3E");
        let Event { name, data } = events.next();
        if name == "snapshot" {
            let busy = data["busy"].as_array().unwrap();
            let troubles = data["troubles"].as_array().unwrap();
            let found = troubles.iter().find(|trouble| trouble["kind"] == "suspicious_queries");
            let is_found = found.is_some_and(|found| found["last_minute"].as_u64() >= Some(1));
            let file = |n: usize| {
                let file = busy.get(n)?;
                let rate = file["requests_per_second"].as_f64()?;
                Some((file["path"].as_str()?, file["outcome"].as_str()?, rate))
            };
            // A count may be made in the middle of a round, so only a later one has the ratio of the requests.
            if let (true, Some(("/a.txt", "file", often)), Some(("/gone", "missing", rarely))) =
                (is_found, file(0), file(1))
                && rarely > 0.0
                && often > 5.0 * rarely
            {
                break;
            }
        }
        assert!(Instant::now() < deadline, "{data}");
    }
}

#[test]
fn events_have_the_downloads_under_way() {
    let server = site().file("big.bin", &pattern(16 << 20, 1)).serve();
    let mut slow = server.connect_narrow();
    slow.write_all(b"GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut events = Events::of(&server);
    let deadline = Instant::now() + PATIENCE;
    let mut taken = [0; 4096];
    loop {
        slow.read_exact(&mut taken).unwrap();
        let data = events.next().data;
        if let Some(download) = data["downloads"].get(0) {
            assert_eq!((&download["path"], &download["client"]), (&"/big.bin".into(), &"127.0.0.1".into()));
            let (sent, total) = (download["sent"].as_u64().unwrap(), download["total"].as_u64().unwrap());
            assert!(sent > 0 && sent < total && total > 16 << 20, "{data}");
            assert_eq!(data["downloads_under_way"], 1);
            break;
        }
        assert!(Instant::now() < deadline, "{data}");
    }
}

#[test]
fn the_number_of_subscribers_is_limited_and_all_get_the_same_events() {
    let server = site().serve();
    let mut listeners: Vec<_> = (0..8).map(|_| Events::of(&server)).collect();
    let refused = server.get_admin("/events");
    assert_eq!((refused.status, refused.text().as_str()), (503, "Too many dashboards are open.\n"));
    assert!(refused.field("retry-after").is_some());
    assert_eq!(server.get_admin("/readyz").status, 200);
    let times: Vec<u64> = listeners
        .iter_mut()
        .map(|events| {
            let received: Vec<_> = (0..3).map(|_| events.next()).collect();
            received[2].data["at_ms"].as_u64().unwrap()
        })
        .collect();
    assert!(times.iter().all(|at| at.abs_diff(times[0]) < 3000), "{times:?}");
    listeners.truncate(4);
    let deadline = Instant::now() + PATIENCE;
    while !Events::are_to_be_had(&server) {
        assert!(Instant::now() < deadline, "places are not given back");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_stop_ends_event_streams_cleanly() {
    let mut server = site().env("PAGECAST_DRAIN_DELAY", "1s").serve();
    let mut events = Events::of(&server);
    events.next();
    server.signal("TERM");
    let mut phases = Vec::new();
    loop {
        let Event { name, data } = events.next();
        match name.as_str() {
            "snapshot" => phases.push(data["status"]["phase"].as_str().unwrap().to_owned()),
            "end" => break,
            _ => panic!("{name}"),
        }
    }
    assert!(phases.iter().any(|phase| phase == "draining"), "{phases:?}");
    assert!(events.is_over(), "the body has its end");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn the_dashboard_loads_nothing_from_elsewhere() {
    let server = site().serve();
    for (path, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/dashboard.css", "text/css; charset=utf-8"),
        ("/dashboard.js", "text/javascript; charset=utf-8"),
        ("/favicon.svg", "image/svg+xml"),
    ] {
        let reply = server.get_admin(path);
        assert_eq!((reply.status, reply.field("content-type")), (200, Some(media_type)), "{path}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(reply.field(name), Some(value), "{path}");
        }
        let policy = reply.field("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        let text = reply.text().replace("http://www.w3.org/2000/svg", "");
        for elsewhere in ["http://", "https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "eval("] {
            assert!(!text.contains(elsewhere), "{path} has {elsewhere}");
        }
        let head = server.ask_admin("HEAD", path, LOCAL);
        assert_eq!(head.content_length(), Some(reply.body.len() as u64), "{path}");
    }
}

#[test]
fn the_admin_port_answers_while_traffic_is_at_its_limit() {
    let site = site().env("PAGECAST_MAX_CONNECTIONS", "8").env("PAGECAST_WORKERS", "1");
    let server = site.file("big.bin", &pattern(16 << 20, 1)).serve();
    let _taken: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = server.connect_narrow();
            stream.write_all(b"GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            stream.read_exact(&mut [0; 64]).unwrap();
            stream
        })
        .collect();
    assert_eq!(server.get("/a.txt").status, 503);
    for path in ["/", "/status", "/debug/cache", "/readyz"] {
        assert_eq!(server.get_admin(path).status, 200, "{path}");
    }
    let mut events = Events::of(&server);
    events.next();
    let data = events.next().data;
    assert_eq!(data["status"]["connections"]["now"], 8, "{data}");
    assert_eq!(server.ask_admin("POST", "/drain", LOCAL).status, 200);
}

#[test]
fn files_are_warmed_with_the_token_only() {
    let server = site().env("PAGECAST_ADMIN_TOKEN", TOKEN).serve();
    let warm = |token: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pagecast"));
        command.args(["warm", "*.txt"]).env_clear();
        command.env("PAGECAST_ADMIN_LISTEN", server.admin.unwrap().to_string());
        command.envs(token.map(|token| ("PAGECAST_ADMIN_TOKEN", token)));
        let ended = command.output().unwrap();
        (ended.status.code(), String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned())
    };
    let (code, message) = warm(Some(TOKEN));
    assert_eq!((code, message.as_str()), (Some(0), "1 of 1 files, 1 bytes\n"));
    for token in [None, Some("another-token-altogether")] {
        let (code, message) = warm(token);
        assert_eq!(code, Some(1));
        assert!(message.contains("responded 401: The admin token is required."), "{message}");
    }
}

/// A stream of events.
struct Events {
    body: BufReader<Chunked>,
}

struct Event {
    name: String,
    data: Value,
}

impl Events {
    fn of(server: &Server) -> Self {
        let mut stream = server.connect_admin();
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(
            head.starts_with("http/1.1 200 ") && head.contains("content-type: text/event-stream\r\n"),
            "{head}"
        );
        assert!(head.contains("cache-control: no-store\r\n"), "{head}");
        let mut events = Self { body: BufReader::new(Chunked { stream, left: 0, is_over: false }) };
        assert_eq!(events.block(), ["retry: 1000"]);
        events
    }

    /// Whether there is a place for one more subscriber.
    fn are_to_be_had(server: &Server) -> bool {
        let mut stream = server.connect_admin();
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        start.ends_with(b" 200")
    }

    fn next(&mut self) -> Event {
        loop {
            let lines = self.block();
            match &lines[..] {
                [name, data] => {
                    let name = name.strip_prefix("event: ").unwrap().to_owned();
                    let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
                    return Event { name, data };
                }
                [comment] if comment.starts_with(':') => {}
                _ => panic!("no event: {lines:?}"),
            }
        }
    }

    /// Lines up to an empty one.
    fn block(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.body.read_line(&mut line).unwrap(), 0, "the stream ends after {lines:?}");
            match line.trim_end_matches('\n') {
                "" => return lines,
                line => lines.push(line.to_owned()),
            }
        }
    }

    /// Whether the body has ended properly.
    fn is_over(&mut self) -> bool {
        self.body.read_line(&mut String::new()).unwrap() == 0 && self.body.get_ref().is_over
    }
}

/// A body in chunks.
struct Chunked {
    stream: TcpStream,
    left: usize,
    is_over: bool,
}

impl Read for Chunked {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        while self.left == 0 && !self.is_over {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") || line == b"\r\n" {
                if line == b"\r\n" {
                    line.clear();
                }
                let mut byte = [0];
                if self.stream.read_some(&mut byte)? == 0 {
                    return Ok(0);
                }
                line.push(byte[0]);
            }
            self.left = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).unwrap();
            self.is_over = self.left == 0;
        }
        let most = self.left.min(bytes.len());
        let read = self.stream.read_some(&mut bytes[..most])?;
        self.left -= read;
        Ok(read)
    }
}

fn site() -> Site {
    Site::with([("a.txt", b"a")]).env("PAGECAST_ADMIN_LISTEN", "127.0.0.1:0")
}

fn json(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_else(|_| panic!("{}: {}", reply.status, reply.text()))
}
