//! `/metrics`: counts, their format, and that Prometheus accepts them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::Client;
use crate::frames::{self, END_HEADERS, END_STREAM, HEADERS, Raw, ping, reset};
use crate::secured::{Wants, connect_raw, hello, secured};
use crate::site::{PATIENCE, Reply, Server, Site, pattern};
use crate::traffic::{Running, free_address, program, project};

#[test]
fn every_request_is_counted_once_under_its_kind() {
    let server = hurried().serve();
    let long = format!("GET /a HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(20_000));
    for (raw, method, status, protocol) in [
        ("GET /a HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "2xx", "1.1"),
        ("GET /a HTTP/1.0\r\n\r\n", "GET", "2xx", "1.0"),
        ("HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD", "2xx", "1.1"),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "OPTIONS", "2xx", "1.1"),
        ("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "other", "4xx", "1.1"),
        ("BREW /a HTTP/1.1\r\nHost: x\r\n\r\n", "other", "5xx", "1.1"),
        ("GET /missing HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "4xx", "1.1"),
        ("GET /a HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\n\r\n", "GET", "3xx", "1.1"),
        ("GET /a HTTP/1.1\r\nHost: x\r\nRange: bytes=0-0\r\n\r\n", "GET", "2xx", "1.1"),
        (
            "GET /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nb",
            "GET",
            "2xx",
            "1.1",
        ),
        ("GET /a HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", "other", "4xx", "1.1"),
        ("GET /a HTTP/1.1\r\nHost: x\r\n", "other", "4xx", "1.1"),
        (&long, "other", "4xx", "1.1"),
    ] {
        let before = scrape(&server);
        let mut stream = server.connect();
        stream.write_all(raw.as_bytes()).unwrap();
        assert!(Reply::read(&mut stream, raw.starts_with("HEAD")).is_some(), "{raw:.60}");
        let after = scrape_until(&server, |now| ended(now) > ended(&before));
        assert_eq!(risen(&before, &after), [(kind(method, status, protocol, "complete"), 1.0)], "{raw:.60}");
        for count in ["pagecast_request_duration_seconds_count", "pagecast_first_byte_duration_seconds_count"]
        {
            assert_eq!(after[count] - before[count], 1.0, "{count}: {raw:.60}");
        }
    }
}

#[test]
fn pipelined_requests_are_counted_one_by_one() {
    let server = hurried().serve();
    let before = scrape(&server);
    let mut client = Client::of(&server);
    client.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\nHEAD /a HTTP/1.1\r\nHost: x\r\n\r\n".repeat(3));
    for _ in 0..3 {
        assert_eq!((client.read("GET").status, client.read("HEAD").status), (200, 200));
    }
    let after = scrape_until(&server, |now| ended(now) >= ended(&before) + 6.0);
    let expected =
        [(kind("GET", "2xx", "1.1", "complete"), 3.0), (kind("HEAD", "2xx", "1.1", "complete"), 3.0)];
    assert_eq!(risen(&before, &after), expected);
}

#[test]
fn requests_that_do_not_complete_are_counted_by_their_reason() {
    type Cut = fn(&Server);
    let cuts: [(&str, Cut, &str, &str); 6] = [
        ("a client that goes", |server| drop(begin(server)), "2xx", "client_gone"),
        ("a client that takes nothing", stalled, "2xx", "stalled"),
        ("a file that is cut short", change, "2xx", "changed"),
        ("a body that never comes", body_that_never_comes, "none", "stalled"),
        ("a client that goes before its body", body_that_is_given_up, "none", "client_gone"),
        ("a body that is none", body_that_is_none, "none", "client_gone"),
    ];
    for (what, cut, status, outcome) in cuts {
        let server =
            hurried().file("long.bin", &pattern(LONG, 1)).env("PAGECAST_STALL_TIMEOUT", "500ms").serve();
        let before = scrape(&server);
        cut(&server);
        let after = scrape_until(&server, |now| ended(now) > ended(&before));
        assert_eq!(risen(&before, &after), [(kind("GET", status, "1.1", outcome), 1.0)], "{what}");
    }
}

#[test]
fn each_event_moves_its_series() {
    let site = hurried()
        .file("long.bin", &pattern(LONG, 1))
        .file("middle.bin", &pattern(40_000, 1))
        .env("PAGECAST_QUERY_FILTER", "on")
        .env("PAGECAST_CLIENT_REQUESTS_AT_ONCE", "1")
        .env("PAGECAST_HEAP_BYTES", "64KiB");
    let server = site.serve();
    let get = |target: &str| assert!(server.get(target).status > 0);
    let events: [(&str, &dyn Fn()); 10] = [
        ("pagecast_sent_bytes_total{path=\"heap\"}", &|| get("/a")),
        ("pagecast_sent_bytes_total{path=\"writev\"}", &|| get("/middle.bin")),
        ("pagecast_sent_bytes_total{path=\"sendfile\"}", &|| get("/long.bin")),
        ("pagecast_windows_total{residency=\"resident\"}", &|| get("/long.bin")),
        ("pagecast_cache_hits_total{cache=\"shortcuts\"}", &|| (0..8).for_each(|_| get("/a"))),
        ("pagecast_cache_hits_total{cache=\"heap\"}", &|| (0..8).for_each(|_| get("/a"))),
        ("pagecast_cache_misses_total{cache=\"names\"}", &|| get("/missing-as-yet")),
        ("pagecast_limit_hits_total{limit=\"head_bytes\"}", &|| get(&format!("/{}", "a".repeat(20_000)))),
        ("pagecast_rejections_total{reason=\"suspicious_query\"}", &|| {
            get("/a?x=%3Cscript%3Ealert(1)%3C/script%3E")
        }),
        ("pagecast_limit_hits_total{limit=\"client_requests_at_once\"}", &|| {
            let _held = begin(&server);
            get("/a");
        }),
    ];
    for (series, event) in events {
        let before = scrape(&server);
        event();
        scrape_until(&server, |now| now[series] > before[series]);
    }
    let now = scrape(&server);
    assert!(
        now["pagecast_head_bytes"] > 20.0 && now["pagecast_head_bytes"] <= now["pagecast_head_bytes_limit"]
    );
    assert!(now["pagecast_handles_opened_total"] >= 1.0);
}

#[test]
fn evicted_names_are_counted() {
    let server = hurried().env("PAGECAST_NAMES", "16").serve();
    (0..200).for_each(|number| assert_eq!(server.get(&format!("/missing/{number}")).status, 404));
    scrape_until(&server, |now| now["pagecast_cache_evictions_total{cache=\"names\"}"] >= 100.0);
}

#[test]
fn connections_are_counted_by_their_state() {
    let server = Site::with([("a", b"a")])
        .file("long.bin", &pattern(LONG, 1))
        .env("PAGECAST_ADMIN_LISTEN", "127.0.0.1:0")
        .serve();
    let state = |name: &str| format!("pagecast_connections_by_state{{state=\"{name}\"}}");
    let mut idle = Client::of(&server);
    assert_eq!(idle.ask("GET", "/a", "").status, 200);
    let mut reading = server.connect();
    reading.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n").unwrap();
    let download = begin(&server);
    let now = scrape_until(&server, |now| {
        ["idle", "reading", "answering"].iter().all(|name| now[&state(name)] == 1.0)
            && now["pagecast_transfers"] == 1.0
    });
    assert_eq!(now["pagecast_connections"], 3.0);
    let mut closing = Client::of(&server);
    closing.send("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n");
    closing.read("POST");
    scrape_until(&server, |now| now[&state("closing")] == 1.0);
    drop((idle, reading, download, closing));
    scrape_until(&server, |now| now["pagecast_connections"] == 0.0 && now["pagecast_transfers"] == 0.0);
}

#[test]
fn a_connection_is_counted_as_handshaking_until_its_tls_handshake_ends() {
    let (site, _files) = secured(Site::with([("a", b"a")]));
    let server = site.env("PAGECAST_ADMIN_LISTEN", "127.0.0.1:0").serve();
    let states = |now: &Metrics| {
        let state = |name: &str| now[&format!("pagecast_connections_by_state{{state=\"{name}\"}}")];
        (state("handshaking"), state("idle"))
    };
    let mut stream = connect_raw(&server);
    stream.write_all(&hello()[..20]).unwrap();
    scrape_until(&server, |now| states(now) == (1.0, 0.0));
    drop(stream);
    scrape_until(&server, |now| states(now) == (0.0, 0.0));
    let _established = Wants::usual().connect(server.tls_address()).expect("a handshake");
    scrape_until(&server, |now| states(now) == (0.0, 1.0));
}

#[test]
fn http2_gauges_and_connection_ends_are_counted() {
    let server = hurried().file("long.bin", &pattern(LONG, 1)).env("PAGECAST_HTTP2_RESETS", "20").serve();
    let malformed = frames::frame(frames::WINDOW_UPDATE, 0, 0, &[0; 3]);
    // `h2` itself finds this one: a request on a stream of the server's.
    let forbidden = frames::frame(HEADERS, END_HEADERS | END_STREAM, 2, &frames::get("/a"));
    let resets: Vec<u8> =
        (0..50).flat_map(|n| [frames::ask(2 * n + 1, "/a"), reset(2 * n + 1, 8)].concat()).collect();
    let pings: Vec<u8> = (0..10_000).flat_map(|_| ping(b"12345678")).collect();
    let mut downloads = Raw::to(&server, &[]);
    for stream in [1, 3, 5] {
        downloads.send(&frames::ask(stream, "/long.bin"));
    }
    downloads.send(&reset(5, 8));
    let now = scrape_until(&server, |now| now["pagecast_http2_streams"] == 2.0);
    assert_eq!((now["pagecast_http2_connections"], now["pagecast_http2_resets_total"]), (1.0, 1.0));
    let most = now["pagecast_http2_connection_streams"];
    assert!((2.0..=3.0).contains(&most) && now["pagecast_http2_connection_streams_limit"] == 128.0, "{most}");
    assert_eq!(
        (now["pagecast_http2_connection_resets"], now["pagecast_http2_connection_resets_limit"]),
        (1.0, 20.0)
    );
    for (series, sent) in [
        ("pagecast_rejections_total{reason=\"malformed_frame\"}", &malformed),
        ("pagecast_rejections_total{reason=\"malformed_frame\"}", &forbidden),
        ("pagecast_limit_hits_total{limit=\"http2_resets\"}", &resets),
        ("pagecast_limit_hits_total{limit=\"http2_frames\"}", &pings),
    ] {
        let before = scrape(&server);
        let mut client = Raw::to(&server, &[]);
        client.send(sent);
        while client.read().is_some() {}
        let after = scrape_until(&server, |now| {
            now["pagecast_http2_connections"] == 1.0 && now[series] > before[series]
        });
        let of_all = |now: &Metrics| -> f64 {
            now.iter()
                .filter(|(name, _)| name.contains("frame") || name.contains("http2_resets\""))
                .map(|(_, count)| count)
                .sum()
        };
        assert_eq!(
            (after[series], of_all(&after)),
            (before[series] + 1.0, of_all(&before) + 1.0),
            "{series}"
        );
    }
    assert_eq!(server.log().matches("its HTTP/2 frames").count(), 1, "the first, and every thousandth");
    drop(downloads);
    scrape_until(&server, |now| {
        now["pagecast_http2_connections"] == 0.0 && now["pagecast_http2_streams"] == 0.0
    });
}

#[test]
fn admin_connections_are_counted() {
    let server = hurried().serve();
    let mut watching = TcpStream::connect(server.admin.unwrap()).unwrap();
    watching.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let _silent = TcpStream::connect(server.admin.unwrap()).unwrap();
    let now = scrape_until(&server, |now| {
        // The third one sends a request.
        now["pagecast_admin_connections"] == 3.0 && now["pagecast_admin_watches"] == 1.0
    });
    assert!(now["pagecast_admin_connections_limit"] >= 2.0 * now["pagecast_admin_watches_limit"]);
    drop(watching);
    scrape_until(&server, |now| now["pagecast_admin_watches"] == 0.0);
}

#[test]
fn status_and_metrics_agree() {
    let server = hurried().file("long.bin", &pattern(LONG, 1)).serve();
    for target in ["/a", "/long.bin", "/missing", "/a"] {
        server.get(target);
    }
    scrape_until(&server, |now| ended(now) == 4.0);
    let status: Value = serde_json::from_slice(&server.get_admin("/status").body).unwrap();
    let metrics = scrape(&server);
    for (pointer, series) in [
        ("/requests/ended", "pagecast_request_duration_seconds_count"),
        ("/requests/long_under_way", "pagecast_transfers"),
        ("/connections/now", "pagecast_connections"),
        ("/connections/limit", "pagecast_connections_limit"),
        ("/clients/limit", "pagecast_clients_limit"),
        ("/handles/now", "pagecast_handles"),
        ("/handles/limit", "pagecast_handles_limit"),
        ("/handles/waits", "pagecast_handle_waits_total"),
        ("/names/limit", "pagecast_names_limit"),
        ("/heap_bytes/limit", "pagecast_heap_bytes_limit"),
        ("/mapped_bytes/limit", "pagecast_mapped_bytes_limit"),
        ("/mappings/limit", "pagecast_mappings_limit"),
        ("/directories/limit", "pagecast_directories_limit"),
        ("/digests/limit", "pagecast_digests_limit"),
        ("/reads/made", "pagecast_reads_total"),
        ("/reads/timeouts", "pagecast_disk_timeouts_total"),
        ("/faults/open", "pagecast_faults_total{kind=\"open\"}"),
        ("/faults/changed", "pagecast_faults_total{kind=\"changed\"}"),
        ("/refused/connections", "pagecast_limit_hits_total{limit=\"connections\"}"),
        ("/closed/idle", "pagecast_connections_evicted_total"),
        ("/http2/connection_streams/limit", "pagecast_http2_connection_streams_limit"),
        ("/http2/connection_resets/limit", "pagecast_http2_connection_resets_limit"),
        ("/admin_connections/limit", "pagecast_admin_connections_limit"),
        ("/admin_watches/limit", "pagecast_admin_watches_limit"),
        ("/memory/bytes", "pagecast_memory_bytes_limit"),
        ("/reloads/last_success", "pagecast_reload_last_success_timestamp_seconds"),
    ] {
        let found = status.pointer(pointer).and_then(Value::as_f64);
        assert_eq!(found, Some(metrics[series]), "{pointer} and {series}");
    }
}

#[test]
fn every_bound_has_its_gauge_and_its_limit_beside_it() {
    let server = hurried()
        .env("PAGECAST_CLIENT_CONNECTIONS", "50")
        .env("PAGECAST_CLIENT_REQUESTS", "600/m")
        .env("PAGECAST_RATE_TOTAL", "1GiB")
        .serve();
    server.get("/a");
    let now = scrape_until(&server, |now| ended(now) == 1.0);
    for name in [
        "pagecast_handles",
        "pagecast_mappings",
        "pagecast_mapped_bytes",
        "pagecast_heap_bytes",
        "pagecast_connections",
        "pagecast_client_connections",
        "pagecast_client_requests_at_once",
        "pagecast_clients",
        "pagecast_names",
        "pagecast_digests",
        "pagecast_directories",
        "pagecast_head_bytes",
        "pagecast_reads_running",
        "pagecast_memory_bytes",
        "pagecast_http2_connection_streams",
        "pagecast_http2_connection_resets",
        "pagecast_admin_connections",
        "pagecast_admin_watches",
    ] {
        let (gauge, limit) = (now[name], now[&format!("{name}_limit")]);
        assert!(gauge >= 0.0 && gauge <= limit, "{name}: {gauge} of {limit}");
    }
    for (series, expected) in [
        ("pagecast_client_connections_limit", 50.0),
        ("pagecast_client_connections", 1.0),
        ("pagecast_requests_per_second_limit{of=\"client\"}", 10.0),
        ("pagecast_requests_per_second_limit{of=\"total\"}", f64::INFINITY),
        ("pagecast_sent_bytes_per_second_limit{of=\"total\"}", f64::from(1 << 30)),
        ("pagecast_timeout_seconds{wait=\"head\"}", 0.3),
        ("pagecast_timeout_seconds{wait=\"stall\"}", 30.0),
        ("pagecast_background_jobs_limit{work=\"digest\"}", 2048.0),
    ] {
        assert_eq!(now[series], expected, "{series}");
    }
    assert!(now["process_open_fds"] <= now["process_max_fds"]);
}

#[test]
fn no_count_goes_back_over_a_reload_and_the_reload_is_counted() {
    let server = hurried().file("long.bin", &pattern(LONG, 1)).config("").serve();
    for target in ["/a", "/a", "/missing", "/long.bin"] {
        server.get(target);
    }
    let before = scrape_until(&server, |now| ended(now) == 4.0);
    for (config, result) in [("max_connections = 77\nnames = 99999", "ok"), ("max_connections = 0", "failed")]
    {
        std::fs::write(server.root.join(".pagecast.toml"), config).unwrap();
        server.signal("HUP");
        let series = format!("pagecast_reloads_total{{result=\"{result}\"}}");
        let after = scrape_until(&server, |now| now[&series] == 1.0);
        for (series, was) in before.iter().filter(|(series, _)| is_count(series)) {
            assert!(after.get(series).is_some_and(|now| now >= was), "{series} was {was}");
        }
        assert_eq!(after["pagecast_connections_limit"], 77.0);
    }
    server.get("/a");
    scrape_until(&server, |now| ended(now) == 5.0);
}

#[test]
fn no_label_has_client_input() {
    let server = hurried().serve();
    let odd = "GET /%22%7D%0Aevil%5C?\"x=\\ HTTP/1.1\r\nHost: x\r\nUser-Agent: \"evil\\\"}\r\nReferer: evil\r\n\r\n";
    server.send(odd);
    server.send("EVIL /a HTTP/1.1\r\nHost: x\r\n\r\n");
    for accept in ["", OPEN_METRICS] {
        let text = ask(&server, "GET", accept).text();
        assert!(!text.to_lowercase().contains("evil"));
        check_form(&text, !accept.is_empty());
    }
}

#[test]
fn the_format_is_negotiated() {
    let server = hurried().serve();
    let plain = "text/plain; version=0.0.4; charset=utf-8";
    let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    for (accept, expected) in [("", plain), ("Accept: text/plain\r\n", plain), (OPEN_METRICS, open)] {
        let reply = ask(&server, "GET", accept);
        assert_eq!((reply.status, reply.field("content-type")), (200, Some(expected)));
        assert_eq!(reply.field("vary"), Some("Accept"));
        assert_eq!(reply.text().ends_with("# EOF\n"), expected == open);
        let head = ask(&server, "HEAD", accept);
        assert_eq!((head.status, head.field("content-type")), (200, Some(expected)));
    }
    assert!(ask(&server, "POST", "").status >= 400);
    assert_eq!(server.get("/metrics").status, 404, "not on the traffic port");
}

#[test]
fn many_scrapes_at_once_do_not_disturb_traffic() {
    let server = hurried().serve();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| (0..10).for_each(|_| check_form(&ask(&server, "GET", OPEN_METRICS).text(), true)));
        }
        (0..50).for_each(|_| assert_eq!(server.get("/a").status, 200));
    });
    assert_eq!(
        scrape_until(&server, |now| ended(now) >= 50.0)["pagecast_request_duration_seconds_count"],
        50.0
    );
}

#[test]
fn the_documentation_names_every_family_and_every_alert() {
    let server = hurried().serve();
    let text = ask(&server, "GET", "").text();
    let documented = std::fs::read_to_string(project().join("docs/metrics.md")).unwrap();
    let named: BTreeSet<_> = documented.split('`').filter_map(|word| word.split('{').next()).collect();
    let families: BTreeSet<_> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for family in &families {
        let is_limit = family.strip_suffix("_limit").is_some_and(|bounded| families.contains(bounded));
        assert!(is_limit || named.contains(family), "docs/metrics.md does not explain {family}");
    }
    for alert in alerts() {
        assert!(named.contains(alert.as_str()), "docs/metrics.md does not name {alert}");
    }
}

#[test]
fn the_documentation_names_every_key_of_status() {
    let (site, _files) = secured(hurried());
    let server = site.serve();
    let status: Value = serde_json::from_slice(&server.get_admin("/status").body).unwrap();
    let documented = std::fs::read_to_string(project().join("docs/status.md")).unwrap();
    let rows: Vec<_> =
        documented.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | ")).collect();
    let mut unknown: BTreeSet<_> = rows.iter().flat_map(|(keys, _)| quoted(keys)).collect();
    let mut missing = Vec::new();
    for (key, value) in status.as_object().unwrap() {
        let Some((_, text)) = rows.iter().find(|(keys, _)| quoted(keys).any(|named| named == key)) else {
            missing.push(key.clone());
            continue;
        };
        unknown.remove(key.as_str());
        let named: BTreeSet<_> = quoted(text).chain(["now", "limit"]).collect();
        let nested = keys_below(value).into_iter().filter(|nested| !named.contains(nested));
        missing.extend(nested.map(|nested| format!("{key}.{nested}")));
    }
    assert!(missing.is_empty(), "docs/status.md does not explain {missing:?}");
    assert!(unknown.is_empty(), "docs/status.md explains what /status does not have: {unknown:?}");
}

/// The words of a Markdown text that are in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The keys of the objects in `value`.
fn keys_below(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(object) => {
            object.iter().flat_map(|(key, value)| [vec![key.as_str()], keys_below(value)].concat()).collect()
        }
        Value::Array(items) => items.iter().flat_map(keys_below).collect(),
        _ => Vec::new(),
    }
}

#[test]
#[ignore = "needs promtool: apt-get install prometheus"]
fn promtool_accepts_metrics_and_rules() {
    let server = hurried().file("long.bin", &pattern(LONG, 1)).serve();
    server.get("/long.bin");
    let mut check = program("promtool");
    let mut child =
        check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&ask(&server, "GET", "").body).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let output = program("promtool").args(["check", "rules"]).arg(project().join(ALERTS)).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
#[ignore = "needs prometheus: apt-get install prometheus"]
fn prometheus_evaluates_every_alert_and_every_panel() {
    let server = hurried().file("long.bin", &pattern(LONG, 1)).serve();
    let prometheus = Prometheus::scraping(&server);
    let deadline = Instant::now() + PATIENCE * 3;
    // Rates need two scrapes with events in between.
    loop {
        for target in ["/a", "/long.bin", "/missing"] {
            server.get(target);
        }
        let rate = prometheus.ask("sum(rate(pagecast_requests_total[1m]))");
        if rate.first().is_some_and(|rate| *rate > 0.0) {
            break;
        }
        assert!(Instant::now() < deadline, "nothing was scraped twice");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(prometheus.ask("up{job=\"pagecast\"}"), [1.0]);
    let answer = prometheus.get("/api/v1/rules");
    let groups = answer["data"]["groups"].as_array().unwrap().iter();
    let rules: Vec<_> = groups.flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert_eq!(rules.len(), alerts().len(), "every alert was loaded");
    for rule in rules {
        prometheus.ask(rule["query"].as_str().unwrap());
        assert_eq!(rule["lastError"].as_str().unwrap_or_default(), "", "{}", rule["name"]);
    }
    let dashboard: Value =
        serde_json::from_str(&std::fs::read_to_string(project().join("config/grafana.json")).unwrap())
            .unwrap();
    let mut asked = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap();
            let query = query.replace("$instance", ".*").replace("$__rate_interval", "1m");
            let answer = prometheus.ask(&query);
            assert!(!answer.is_empty(), "{} shows nothing: {query}", panel["title"]);
            asked += 1;
        }
    }
    assert!(asked > 20, "{asked}");
}

/// A Prometheus on loopback that scrapes one server and knows the example alerts.
struct Prometheus {
    address: std::net::SocketAddr,
    _running: Running,
    _directory: tempfile::TempDir,
}

impl Prometheus {
    fn scraping(server: &Server) -> Self {
        let (address, directory) = (free_address(), tempfile::tempdir().unwrap());
        let config = directory.path().join("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: 250ms\n  evaluation_interval: 250ms\nrule_files: [{}]\nscrape_configs:\n  \
             - job_name: pagecast\n    static_configs:\n      - targets: [\"{}\"]\n",
            project().join(ALERTS).display(),
            server.admin.unwrap(),
        );
        std::fs::write(&config, text).unwrap();
        let mut command = program("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        command.stderr(Stdio::null());
        let running = Running::start(&mut command);
        let deadline = Instant::now() + PATIENCE * 3;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "prometheus does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        let this = Self { address, _running: running, _directory: directory };
        while this.fetch("/-/ready").status != 200 {
            assert!(Instant::now() < deadline, "prometheus is not ready");
            std::thread::sleep(Duration::from_millis(50));
        }
        this
    }

    /// The values of a query that succeeds.
    fn ask(&self, query: &str) -> Vec<f64> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}"));
        let result = answer["data"]["result"].as_array().unwrap();
        result.iter().map(|sample| sample["value"][1].as_str().unwrap().parse().unwrap()).collect()
    }

    fn get(&self, target: &str) -> Value {
        let reply = self.fetch(target);
        let answer: Value = serde_json::from_slice(&reply.body).expect("JSON");
        assert_eq!((reply.status, answer["status"].as_str()), (200, Some("success")), "{target}: {answer}");
        answer
    }

    fn fetch(&self, target: &str) -> Reply {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {target} HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
        Reply::read(&mut stream, false).expect("an answer")
    }
}

/// Names of the example alerts.
fn alerts() -> Vec<String> {
    let text = std::fs::read_to_string(project().join(ALERTS)).unwrap();
    text.lines().filter_map(|line| Some(line.trim().strip_prefix("- alert: ")?.to_owned())).collect()
}

type Metrics = BTreeMap<String, f64>;

/// All current series.
fn scrape(server: &Server) -> Metrics {
    let reply = ask(server, "GET", "");
    assert_eq!(reply.status, 200);
    let series =
        |line: &str| line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.parse().unwrap()));
    reply.text().lines().filter(|line| !line.starts_with('#')).filter_map(series).collect()
}

fn scrape_until(server: &Server, as_wanted: impl Fn(&Metrics) -> bool) -> Metrics {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = scrape(server);
        if as_wanted(&now) {
            return now;
        }
        let moved: Vec<_> = now.iter().filter(|(_, value)| **value != 0.0).collect();
        assert!(Instant::now() < deadline, "{moved:#?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn ask(server: &Server, method: &str, lines: &str) -> Reply {
    let mut stream = TcpStream::connect(server.admin.unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{method} /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n").unwrap();
    Reply::read(&mut stream, method == "HEAD").expect("a response")
}

/// Requests that have ended.
fn ended(metrics: &Metrics) -> f64 {
    metrics["pagecast_request_duration_seconds_count"]
}

fn kind(method: &str, status: &str, protocol: &str, outcome: &str) -> String {
    format!(
        "pagecast_requests_total{{method=\"{method}\",status=\"{status}\",protocol=\"{protocol}\",outcome=\"{outcome}\"}}"
    )
}

/// Kinds of requests whose counts have risen, and by how much.
fn risen(before: &Metrics, after: &Metrics) -> Vec<(String, f64)> {
    let rise = |(series, now): (&String, &f64)| {
        let more = now - before.get(series).unwrap_or(&0.0);
        (series.starts_with("pagecast_requests_total") && more != 0.0).then(|| (series.clone(), more))
    };
    after.iter().filter_map(rise).collect()
}

fn is_count(series: &str) -> bool {
    let name = series.split('{').next().unwrap();
    ["_total", "_count", "_sum", "_bucket"].iter().any(|suffix| name.ends_with(suffix))
}

/// Checks that every line is valid, every family is described before its series, and no series occurs twice.
fn check_form(text: &str, is_open_metrics: bool) {
    let (mut family, mut families, mut series) = ("", BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(help.len() > 5 && help.ends_with('.') && !help.contains(['\\', '"']), "{line}");
            assert!(families.insert(name), "{name} comes twice");
            family = name;
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert_eq!(kind.split(' ').next(), Some(family));
        } else if line != "# EOF" {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with(family), "{line} is not of {family}");
            assert!(series.insert(name), "{name} comes twice");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let is_word = |c: char| c.is_ascii_alphanumeric() || "_{}=\",.+".contains(c);
            assert!(name.chars().all(is_word), "{line}");
        }
    }
    assert!(families.len() > 60, "{}", families.len());
    assert_eq!(text.ends_with("# EOF\n"), is_open_metrics);
}

fn hurried() -> Site {
    Site::with([("a", b"a")])
        .env("PAGECAST_ADMIN_LISTEN", "127.0.0.1:0")
        .env("PAGECAST_HEAD_TIMEOUT", "300ms")
        .env("PAGECAST_LINGER_TIMEOUT", "200ms")
}

/// A download that has begun, with its rest still in the server.
fn begin(server: &Server) -> TcpStream {
    let mut stream = server.connect_narrow();
    stream.write_all(b"GET /long.bin HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(Reply::read(&mut stream, true).expect("a head").status, 200);
    stream
}

fn stalled(server: &Server) {
    let stream = begin(server);
    scrape_until(server, |now| now["pagecast_limit_hits_total{limit=\"stall_timeout\"}"] == 1.0);
    drop(stream);
}

fn change(server: &Server) {
    let mut stream = begin(server);
    let file = std::fs::OpenOptions::new().write(true).open(server.root.join("long.bin")).unwrap();
    file.set_len(1000).unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
}

const EXPECTING: &str = "GET /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n";

fn body_that_never_comes(server: &Server) {
    let mut stream = server.connect();
    write!(stream, "{EXPECTING}Content-Length: 5\r\n\r\n").unwrap();
    assert_eq!(Reply::read(&mut stream, true).unwrap().status, 100);
    assert!(Reply::read(&mut stream, false).is_none());
}

fn body_that_is_given_up(server: &Server) {
    let mut stream = server.connect();
    write!(stream, "{EXPECTING}Content-Length: 5\r\n\r\n").unwrap();
    assert_eq!(Reply::read(&mut stream, true).unwrap().status, 100);
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(Reply::read(&mut stream, false).is_none());
}

fn body_that_is_none(server: &Server) {
    let mut stream = server.connect();
    write!(stream, "{EXPECTING}Transfer-Encoding: chunked\r\n\r\n").unwrap();
    assert_eq!(Reply::read(&mut stream, true).unwrap().status, 100);
    stream.write_all(b"no number\r\n").unwrap();
    assert!(Reply::read(&mut stream, false).is_none());
}

const OPEN_METRICS: &str = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";

const ALERTS: &str = "config/alerts.yml";

/// Longer than all buffers between the disk and a client that does not read.
const LONG: usize = 16 * 1024 * 1024;
