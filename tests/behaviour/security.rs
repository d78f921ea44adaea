//! Security headers and refusals.

use std::io::Write;
use std::os::unix::net::UnixStream;

use crate::client::Client;
use crate::configured::{NAVIGATES, lines, only, ruled};
use crate::secured::secured;
use crate::site::{PATIENCE, Reply, Server, Site};

const POLICY: &str = "default-src 'self'";

/// What a proxy adds to requests that it got over TLS.
const HTTPS: &str = "X-Forwarded-Proto: https\r\n";

fn guarded() -> Server {
    let site = Site::with([("a.txt", b"0123456789"), ("d/x", b"x"), ("_redirects", b"/old /new\n")])
        .env("PAGECAST_LISTING", "on")
        .env("PAGECAST_CONTENT_SECURITY_POLICY", POLICY)
        .env("PAGECAST_CROSS_ORIGIN_RESOURCE_POLICY", "same-site")
        .env("PAGECAST_REFERRER_POLICY", "no-referrer")
        .env("PAGECAST_STRICT_TRANSPORT_SECURITY", "max-age=60")
        .env("PAGECAST_TRUSTED_PROXIES", "127.0.0.1");
    let rules = "[[rule]]
        path = '/d/**'
        headers = { Content-Security-Policy = \"default-src 'none'\", Referrer-Policy = 'origin' }";
    ruled(site, rules).serve()
}

#[test]
fn every_response_carries_the_policies_once_and_a_rule_replaces_them() {
    let server = guarded();
    let mut client = Client::of(&server);
    let etag = only(&client.ask("GET", "/a.txt", ""), "etag").to_owned();
    let known = format!("If-None-Match: {etag}\r\n");
    for (method, target, more, status) in [
        ("GET", "/a.txt", "", 200),
        ("HEAD", "/a.txt", "", 200),
        ("GET", "/a.txt", "Range: bytes=0-1\r\n", 206),
        ("GET", "/a.txt", &known, 304),
        ("GET", "/a.txt", "Range: bytes=10-\r\n", 416),
        ("GET", "/a.txt?digest=sha-256", "", 200),
        ("GET", "/none", "", 404),
        ("GET", "/d", "", 301),
        ("GET", "/old", "", 301),
        ("GET", "/?format=json", "", 200),
        ("HEAD", "/?archive=tar", "", 200),
        ("POST", "/a.txt", "Content-Length: 0\r\n", 405),
        ("OPTIONS", "/a.txt", "", 204),
        ("GET", "/d/x", "", 200),
        ("GET", "/d/none", "", 404),
    ] {
        let reply = client.ask(method, target, &format!("{more}{HTTPS}"));
        let what = format!("{method} {target} {more}");
        assert_eq!(reply.status, status, "{what}");
        let is_ruled = target.starts_with("/d");
        let policy = if is_ruled { "default-src 'none'" } else { POLICY };
        assert_eq!(only(&reply, "content-security-policy"), policy, "{what}");
        assert_eq!(
            only(&reply, "referrer-policy"),
            if is_ruled { "origin" } else { "no-referrer" },
            "{what}"
        );
        assert_eq!(only(&reply, "cross-origin-resource-policy"), "same-site", "{what}");
        assert_eq!(only(&reply, "strict-transport-security"), "max-age=60", "{what}");
        let has_body = !matches!(status, 204 | 301);
        assert_eq!(lines(&reply, "x-content-type-options").len(), usize::from(has_body), "{what}");
    }
}

#[test]
fn a_listing_has_its_own_stricter_policy() {
    let reply = guarded().get_with("/d/", &format!("{NAVIGATES}{HTTPS}"));
    let policy = only(&reply, "content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    for (name, value) in [
        ("referrer-policy", "origin"),
        ("cross-origin-resource-policy", "same-site"),
        ("strict-transport-security", "max-age=60"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(only(&reply, name), value);
    }
}

#[test]
fn nosniff_is_sent_even_with_refusals() {
    let server = Site::with([("a", b"<script>"), ("50x.html", b"x")]).serve();
    for raw in [
        "GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /none HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
        "PUT /a HTTP/1.1\r\nHost: x\r\n\r\n",
        "BREW /a HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /a HTTP/1.1\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: x\r\nbad line\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        assert_eq!(only(&server.send(raw), "x-content-type-options"), "nosniff", "{raw}");
    }
}

#[test]
fn refusals_reveal_nothing_about_the_machine() {
    let server = Site::with([("a.txt", b"a")]).env("PAGECAST_QUERY_FILTER", "on").serve();
    let root = server.root.display().to_string();
    for (method, target, more) in [
        ("GET", "/none", ""),
        ("GET", "/a.txt/b", ""),
        ("GET", "/%00", ""),
        ("GET", "/a.txt?x=%3Cscript%3E", ""),
        ("GET", "/a.txt?digest=md5", ""),
        ("GET", "/../../etc/passwd", ""),
        ("GET", "/a.txt", "Range: bytes=5-\r\n"),
        ("GET", "/a.txt", "If-Match: \"x\"\r\n"),
        ("GET", "/a.txt", "Accept-Encoding: identity;q=0\r\n"),
        ("DELETE", "/a.txt", ""),
    ] {
        let reply = server.send(format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{more}\r\n"));
        assert!(reply.status >= 400, "{method} {target}");
        let text = format!("{:?} {}", reply.fields, reply.text());
        for secret in
            [root.as_str(), "os error", "No such file", "errno", "a.txt", "script", "passwd", "pagecast"]
        {
            assert!(!text.contains(secret), "{secret} in the response to {method} {target}: {text}");
        }
    }
}

#[test]
fn transport_security_is_sent_where_a_trusted_proxy_says_https_and_nowhere_else() {
    let server = guarded();
    assert!(!server.log().contains("strict_transport_security"), "{}", server.log());
    for (header, is_sent) in [
        ("", false),
        (HTTPS, true),
        ("X-Forwarded-Proto: http\r\n", false),
        ("X-Forwarded-Proto: https, http\r\n", false),
        ("X-Forwarded-Proto: wss\r\n", false),
    ] {
        for target in ["/a.txt", "/none", "/d/"] {
            let reply = server.get_with(target, header);
            assert_eq!(reply.field("strict-transport-security").is_some(), is_sent, "{target} {header}");
        }
    }
    let untrusted = Site::with([("a.txt", b"a")])
        .env("PAGECAST_STRICT_TRANSPORT_SECURITY", "max-age=60")
        .env("PAGECAST_TRUSTED_PROXIES", "192.0.2.1")
        .serve();
    assert_eq!(untrusted.get_with("/a.txt", HTTPS).field("strict-transport-security"), None);
    let server = Site::with([("a.txt", b"a")])
        .env("PAGECAST_HTTPS_REDIRECT", "on")
        .env("PAGECAST_STRICT_TRANSPORT_SECURITY", "max-age=60")
        .env("PAGECAST_TRUSTED_PROXIES", "127.0.0.1")
        .serve();
    let reply = server.get("/a.txt");
    assert_eq!((reply.status, reply.field("strict-transport-security")), (301, None));
    let reply = server.get_with("/a.txt", "X-Forwarded-Proto: https\r\n");
    assert_eq!((reply.status, reply.field("strict-transport-security")), (200, Some("max-age=60")));
}

#[test]
fn transport_security_that_can_never_be_sent_is_warned_of_at_start() {
    let server =
        Site::with([("a.txt", b"a")]).env("PAGECAST_STRICT_TRANSPORT_SECURITY", "max-age=60").serve();
    assert!(server.log().contains("strict_transport_security is never sent"), "{}", server.log());
    for header in ["", HTTPS] {
        assert_eq!(server.get_with("/a.txt", header).field("strict-transport-security"), None, "{header}");
    }
}

#[test]
fn https_settings_without_a_tls_listener_are_warned_of_though_there_is_a_certificate() {
    const WARNINGS: [&str; 2] =
        ["strict_transport_security is never sent", "https_redirect redirects every request"];
    for (listens, with_certificate) in [(true, true), (false, true), (false, false)] {
        let (site, _files) = secured(Site::with([("a.txt", b"a")]));
        let site = if listens { site } else { site.without_env("PAGECAST_TLS_LISTEN") };
        let site = if with_certificate {
            site
        } else {
            site.without_env("PAGECAST_TLS_CERT").without_env("PAGECAST_TLS_KEY")
        };
        let server = site
            .env("PAGECAST_STRICT_TRANSPORT_SECURITY", "max-age=60")
            .env("PAGECAST_HTTPS_REDIRECT", "on")
            .serve();
        for warning in WARNINGS {
            assert_eq!(server.log().contains(warning), !listens, "{warning}: {}", server.log());
        }
    }
}

#[test]
fn without_a_trusted_proxy_all_but_health_is_redirected_to_https() {
    let server = Site::with([("a.txt", b"a")]).env("PAGECAST_HTTPS_REDIRECT", "on").serve();
    assert!(server.log().contains("https_redirect redirects every request"), "{}", server.log());
    for (raw, status, location) in [
        (
            "GET /a.txt?b=c%20 HTTP/1.1\r\nHost: Example.com:8080\r\n\r\n",
            301,
            "https://example.com/a.txt?b=c%20",
        ),
        ("HEAD /none HTTP/1.1\r\nHost: example.com\r\n\r\n", 301, "https://example.com/none"),
        ("POST /a HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n", 308, "https://example.com/a"),
        ("OPTIONS /a HTTP/1.1\r\nHost: example.com\r\n\r\n", 308, "https://example.com/a"),
        ("GET /a HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 301, "https://[::1]/a"),
        ("GET /a HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 301, "https://127.0.0.1/a"),
        ("GET //evil.com/x HTTP/1.1\r\nHost: example.com\r\n\r\n", 301, "https://example.com//evil.com/x"),
        ("GET http://abs.example:81/a?b HTTP/1.1\r\nHost: x\r\n\r\n", 301, "https://abs.example/a?b"),
        ("GET http://abs.example HTTP/1.1\r\nHost: x\r\n\r\n", 301, "https://abs.example/"),
        ("GET /a HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: https\r\n\r\n", 301, "https://x/a"),
        ("GET /a HTTP/1.0\r\nHost: example.com\r\n\r\n", 301, "https://example.com/a"),
        ("GET /a HTTP/1.0\r\n\r\n", 400, ""),
        ("GET /a HTTP/1.1\r\nHost:\r\n\r\n", 400, ""),
        ("GET /a HTTP/1.1\r\nHost: a b\r\n\r\n", 400, ""),
        ("GET /a HTTP/1.1\r\nHost: user@example.com\r\n\r\n", 400, ""),
        ("GET /a HTTP/1.1\r\nHost: evil.com/x\r\n\r\n", 400, ""),
        ("GET http://user@evil.com/a HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""),
        ("GET /a HTTP/1.1\r\n\r\n", 400, ""),
        ("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", 200, ""),
        ("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", 200, ""),
        ("HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200, ""),
    ] {
        let reply = server.send(raw);
        let found = (reply.status, reply.field("location").unwrap_or_default());
        assert_eq!(found, (status, location), "{raw}");
    }
}

#[test]
fn a_trusted_proxy_names_the_scheme_of_the_client() {
    let site = |proxies: &str| {
        Site::with([("a.txt", b"a")])
            .env("PAGECAST_HTTPS_REDIRECT", "on")
            .env("PAGECAST_TRUSTED_PROXIES", proxies)
            .serve()
    };
    let trusting = site("10.0.0.0/8,127.0.0.0/8");
    assert!(!trusting.log().contains("redirects every request"), "{}", trusting.log());
    for (fields, status) in [
        ("", 301),
        ("X-Forwarded-Proto: https\r\n", 200),
        ("x-forwarded-proto: HTTPS\r\n", 200),
        ("X-Forwarded-Proto: http\r\n", 301),
        ("X-Forwarded-Proto:\r\n", 301),
        ("X-Forwarded-Proto: wss\r\n", 301),
        ("X-Forwarded-Proto: http, https\r\n", 200),
        ("X-Forwarded-Proto: https, http\r\n", 301),
        ("X-Forwarded-Proto: https,\r\n", 301),
        ("X-Forwarded-Proto: http\r\nX-Forwarded-Proto: https\r\n", 200),
        ("X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n", 301),
    ] {
        assert_eq!(trusting.get_with("/a.txt", fields).status, status, "{fields}");
    }
    let wary = site("10.0.0.0/8,::1,unix");
    assert_eq!(wary.get_with("/a.txt", "X-Forwarded-Proto: https\r\n").status, 301);
}

#[test]
fn responses_that_depend_on_a_proxy_header_have_vary() {
    let site = |proxies: &str| {
        Site::with([("a.txt", &[b'a'; 2000][..]), ("d/x", b"x")])
            .env("PAGECAST_HTTPS_REDIRECT", "on")
            .env("PAGECAST_TRUSTED_PROXIES", proxies)
            .env("PAGECAST_LISTING", "on")
            .serve()
    };
    let (trusting, wary) = (site("127.0.0.1"), site("10.0.0.1"));
    for (target, fields, status) in [
        ("/a.txt", "", 301),
        ("/a.txt", "X-Forwarded-Proto: https\r\n", 200),
        ("/d/", "X-Forwarded-Proto: https\r\n", 200),
        ("/none", "X-Forwarded-Proto: https\r\n", 404),
    ] {
        let reply = trusting.get_with(target, fields);
        assert_eq!(reply.status, status, "{target}");
        assert!(lines(&reply, "vary").contains(&"X-Forwarded-Proto"), "{target} {:?}", reply.fields);
        assert!(!lines(&wary.get_with(target, fields), "vary").contains(&"X-Forwarded-Proto"), "{target}");
    }
    let file = trusting.get_with("/a.txt", "X-Forwarded-Proto: https\r\n");
    assert!(lines(&file, "vary").contains(&"Accept-Encoding"), "{:?}", file.fields);
}

#[test]
fn a_peer_on_a_unix_socket_is_trusted_if_configured() {
    for (proxies, status) in [("unix", 200), ("127.0.0.1", 301)] {
        let site = Site::with([("a.txt", b"a")]);
        let socket = site.path().join(".socket");
        let _server = site
            .env("PAGECAST_LISTEN", &format!("unix:{}", socket.display()))
            .env("PAGECAST_HTTPS_REDIRECT", "on")
            .env("PAGECAST_TRUSTED_PROXIES", proxies)
            .serve();
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET /a.txt HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: https\r\n\r\n").unwrap();
        assert_eq!(Reply::read(&mut stream, false).unwrap().status, status, "{proxies}");
    }
}

#[test]
fn redirects_to_https_lead_to_listed_hosts_only() {
    let server = Site::with([("a.txt", b"a")])
        .env("PAGECAST_HTTPS_REDIRECT", "on")
        .env("PAGECAST_HTTPS_HOSTS", "example.com,*.example.org,[::1]")
        .serve();
    for (host, location) in [
        ("example.com", "https://example.com/a"),
        ("EXAMPLE.com:8080", "https://example.com/a"),
        ("x.y.example.org", "https://x.y.example.org/a"),
        ("[::1]:8080", "https://[::1]/a"),
        ("example.org", ""),
        ("evil.com", ""),
        ("example.com.evil.com", ""),
        ("evilexample.com", ""),
        ("evil.com:example.com", ""),
    ] {
        let reply = server.send(format!("GET /a HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let status = if location.is_empty() { 400 } else { 301 };
        assert_eq!((reply.status, reply.field("location").unwrap_or_default()), (status, location), "{host}");
        if host == "evil.com" {
            assert_eq!(reply.body, b"Unknown host.\n", "{host}");
        }
    }
}

#[test]
fn the_query_filter_refuses_and_counts_suspicious_queries() {
    let mut server = Site::with([("a.txt", b"a")])
        .env("PAGECAST_QUERY_FILTER", "on")
        .env("PAGECAST_CORS_ORIGINS", "https://a.example")
        .env("PAGECAST_STRICT_TRANSPORT_SECURITY", "max-age=60")
        .env("PAGECAST_TRUSTED_PROXIES", "127.0.0.1")
        .serve();
    for (target, status) in [
        ("/a.txt", 200),
        ("/a.txt?", 200),
        ("/a.txt?v=1&name=O%27Brien&q=union+of+select+people", 200),
        ("/a.txt?q=%3Cscript%3Ealert(1)%3C/script%3E", 400),
        ("/a.txt?q=%253Cscript%253E", 400),
        ("/a.txt?x=1&q=1%27%20OR%20%271%27=%271", 400),
        ("/a.txt?id=1+UNION+SELECT+password+FROM+users", 400),
        ("/a.txt?u=javascript:alert(1)", 400),
        ("/none?q=%3Cscript%3E", 400),
        ("/livez?q=%3Cscript%3E", 200),
    ] {
        let reply = server.get_with(target, &format!("Origin: https://a.example\r\n{HTTPS}"));
        assert_eq!(reply.status, status, "{target}");
        if status == 400 {
            assert_eq!(reply.text(), "The query was rejected.\n");
            assert_eq!(lines(&reply, "vary"), ["X-Forwarded-Proto", "Origin"]);
            assert_eq!(only(&reply, "strict-transport-security"), "max-age=60");
        }
    }
    server.wait_for_log("suspicious query rejected: number 1");
    assert!(!server.log().contains("script"), "{}", server.log());
    let reply = server.send("HEAD /a.txt?q=%3Cscript%3E HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(reply.status, 400);
    let plain = Site::with([("a.txt", b"a")]).serve();
    assert_eq!(plain.get("/a.txt?q=%3Cscript%3E").status, 200);
}
