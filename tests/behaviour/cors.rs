//! Pages of other origins (the CORS protocol of the Fetch standard).

use crate::client::Client;
use crate::configured::{lines, only, ruled};
use crate::site::{Server, Site};

const RULES: &str = "
[[rule]]
path = '/closed/**'
cors = false
[[rule]]
path = '/open/**'
cors = '*'
listing = true
[[rule]]
path = '/cookies/**'
cors = { origins = ['https://app.example', 'null'], credentials = true, max_age = '1m', headers = ['X-Token'], expose = [] }
[[rule]]
path = '/listed/**'
listing = true
";

fn server() -> Server {
    let body = "0123456789".repeat(300);
    let site = ["closed", "open", "cookies", "listed", "other"]
        .into_iter()
        .fold(Site::new(), |site, directory| site.file(&format!("{directory}/a.txt"), body.as_bytes()))
        .file("other/a.txt.gz", b"\x1f\x8b: not read")
        .file("_redirects", b"/other/old /other/new\n/moved /other 302\n/page/* /other/a.txt 404\n")
        .env("PAGECAST_CORS_ORIGINS", "https://one.example,https://*.two.example,http://localhost:3000");
    ruled(site, RULES).serve()
}

const ALLOWED: &str = "access-control-allow-origin";

#[test]
fn only_allowed_origins_get_cors_headers() {
    let server = server();
    let mut client = Client::of(&server);
    for (path, origin, allowed) in [
        ("/other/a.txt", "https://one.example", "https://one.example"),
        ("/other/a.txt", "https://x.two.example", "https://x.two.example"),
        ("/other/a.txt", "https://x.y.two.example", "https://x.y.two.example"),
        ("/other/a.txt", "http://localhost:3000", "http://localhost:3000"),
        ("/other/a.txt", "https://two.example", ""),
        ("/other/a.txt", "https://eviltwo.example", ""),
        ("/other/a.txt", "https://x.two.example.evil", ""),
        ("/other/a.txt", "https://x.two.example:8443", ""),
        ("/other/a.txt", "https://evil/.two.example", ""),
        ("/other/a.txt", "https://evil@x.two.example", ""),
        ("/other/a.txt", "https://ONE.example", ""),
        ("/other/a.txt", "http://one.example", ""),
        ("/other/a.txt", "https://one.example:443", ""),
        ("/other/a.txt", "https://one.example/", ""),
        ("/other/a.txt", "https://one.example, https://x.two.example", ""),
        ("/other/a.txt", "null", ""),
        ("/other/a.txt", "*", ""),
        ("/cookies/a.txt", "https://app.example", "https://app.example"),
        ("/cookies/a.txt", "null", "null"),
        ("/cookies/a.txt", "https://one.example", ""),
        ("/open/a.txt", "https://evil.example", "*"),
        ("/open/a.txt", "null", "*"),
        ("/closed/a.txt", "https://one.example", ""),
    ] {
        let reply = client.ask("GET", path, &format!("Origin: {origin}\r\n"));
        assert_eq!(reply.status, 200, "{origin}");
        let expected: Vec<&str> = Some(allowed).into_iter().filter(|allowed| !allowed.is_empty()).collect();
        assert_eq!(lines(&reply, ALLOWED), expected, "{path} {origin}");
        let with_cookies = path.starts_with("/cookies") && !allowed.is_empty();
        let credentials = reply.field("access-control-allow-credentials");
        assert_eq!(credentials, with_cookies.then_some("true"), "{path} {origin}");
        let exposes = !allowed.is_empty() && !path.starts_with("/cookies");
        assert_eq!(lines(&reply, "access-control-expose-headers").len(), usize::from(exposes), "{path}");
    }
    let two = "Origin: https://one.example\r\nOrigin: https://x.two.example\r\n";
    assert_eq!(client.ask("GET", "/other/a.txt", two).field(ALLOWED), None);
    assert_eq!(client.ask("GET", "/open/a.txt", "").field(ALLOWED), Some("*"));
}

#[test]
fn responses_that_depend_on_the_origin_have_one_vary_header() {
    let server = server();
    let mut client = Client::of(&server);
    let etag = only(&client.ask("GET", "/other/a.txt", ""), "etag").to_owned();
    let known = format!("If-None-Match: {etag}\r\n");
    let both = "Accept-Encoding, Origin";
    for (method, target, more, status, vary) in [
        ("GET", "/other/a.txt", "", 200, both),
        ("HEAD", "/other/a.txt", "", 200, both),
        ("GET", "/other/a.txt", "Accept-Encoding: gzip\r\n", 200, both),
        ("GET", "/other/a.txt", "Range: bytes=0-1\r\n", 206, both),
        ("GET", "/other/a.txt", "Range: bytes=0-1,5-6\r\n", 206, both),
        ("GET", "/other/a.txt", &known, 304, both),
        ("GET", "/other/a.txt", "Range: bytes=9999-\r\n", 416, both),
        ("GET", "/other/a.txt", "If-Match: \"x\"\r\n", 412, both),
        ("GET", "/other/a.txt", "Accept-Encoding: identity;q=0, *;q=0\r\n", 406, both),
        ("GET", "/other/a.txt?digest=sha-256", "", 200, "Origin"),
        ("GET", "/other/none", "", 404, "Origin"),
        ("GET", "/other/none", "", 404, "Origin"),
        ("GET", "/other/.hidden", "", 404, "Origin"),
        ("GET", "/other", "", 301, "Origin"),
        ("GET", "/other/old", "", 301, "Origin"),
        ("GET", "/listed/", "", 200, "Accept, Origin"),
        ("GET", "/listed/?format=json", "", 200, "Accept, Origin"),
        ("DELETE", "/other/a.txt", "", 405, "Origin"),
        ("OPTIONS", "/other/a.txt", "", 204, "Origin"),
        ("GET", "/cookies/a.txt", "Range: bytes=0-1\r\n", 206, "Accept-Encoding, Origin"),
        ("GET", "/open/a.txt", "", 200, "Accept-Encoding"),
        ("GET", "/open/none", "", 404, ""),
        ("GET", "/open/", "", 200, "Accept"),
        ("HEAD", "/open/?archive=zip", "", 200, ""),
        ("HEAD", "/listed/?archive=zip", "", 200, "Origin"),
        ("GET", "/listed/?archive=rar", "", 400, "Origin"),
        ("GET", "/moved", "", 302, "Origin"),
        ("GET", "/page/x", "", 404, "Accept-Encoding, Origin"),
        ("GET", "/closed/none", "", 404, ""),
        ("GET", "/closed/a.txt", "", 200, "Accept-Encoding"),
    ] {
        for origin in ["", "https://one.example", "https://evil.example"] {
            let line = if origin.is_empty() { String::new() } else { format!("Origin: {origin}\r\n") };
            let reply = client.ask(method, target, &format!("{more}{line}"));
            assert_eq!(reply.status, status, "{method} {target} {more}");
            let expected: Vec<&str> = Some(vary).into_iter().filter(|vary| !vary.is_empty()).collect();
            assert_eq!(lines(&reply, "vary"), expected, "{method} {target} {more} {origin}");
            let allowed = match target {
                _ if target.starts_with("/open") => Some("*"),
                _ if target.starts_with("/closed") || target.starts_with("/cookies") => None,
                _ => Some(origin).filter(|origin| *origin == "https://one.example"),
            };
            assert_eq!(lines(&reply, ALLOWED), Vec::from_iter(allowed), "{method} {target} {more} {origin}");
        }
    }
}

#[test]
fn a_preflight_gets_the_allowed_methods_and_headers() {
    let server = server();
    let mut client = Client::of(&server);
    let mut ask = |path: &str, origin: &str, headers: &str| {
        let lines = format!(
            "Origin: {origin}\r\nAccess-Control-Request-Method: GET\r\n\
             Access-Control-Request-Headers: {headers}\r\n"
        );
        let reply = client.ask("OPTIONS", path, &lines);
        assert_eq!((reply.status, reply.field("content-length")), (204, None), "{path} {origin}");
        reply
    };
    let reply = ask("/other/a.txt", "https://one.example", "range,If-Range, x-secret");
    for (name, value) in [
        (ALLOWED, "https://one.example"),
        ("access-control-allow-methods", "GET, HEAD"),
        ("access-control-allow-headers", "range, if-range"),
        ("access-control-max-age", "600"),
        ("vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    ] {
        assert_eq!(only(&reply, name), value);
    }
    let reply = ask("/cookies/none", "null", "X-Token, range");
    for (name, value) in [
        (ALLOWED, "null"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-headers", "x-token"),
        ("access-control-max-age", "60"),
    ] {
        assert_eq!(only(&reply, name), value);
    }
    let reply = ask("/open/a.txt", "https://evil.example", "range");
    assert_eq!((only(&reply, ALLOWED), only(&reply, "access-control-allow-headers")), ("*", "range"));
    for (path, origin) in [
        ("/other/a.txt", "https://evil.example"),
        ("/cookies/a.txt", "https://one.example"),
        ("/closed/a.txt", "null"),
    ] {
        let reply = ask(path, origin, "range");
        let message = reply.fields.iter().filter(|(name, _)| name.starts_with("access-control-"));
        assert_eq!(message.count(), 0, "{path} {origin}: {:?}", reply.fields);
    }
    let reply = ask("/closed/a.txt", "https://one.example", "range");
    assert_eq!(only(&reply, "allow"), "GET, HEAD, OPTIONS");
}

#[test]
fn without_configuration_there_are_no_cors_headers() {
    let server = Site::with([("a.txt", b"a")]).serve();
    let mut client = Client::of(&server);
    let asks = "Origin: https://a.example\r\nAccess-Control-Request-Method: GET\r\n";
    for (method, target, status) in
        [("GET", "/a.txt", 200), ("GET", "/none", 404), ("OPTIONS", "/a.txt", 204), ("OPTIONS", "*", 204)]
    {
        let reply = client.ask(method, target, asks);
        assert_eq!((reply.status, reply.field("vary")), (status, None), "{method} {target}");
        assert!(!reply.fields.iter().any(|(name, _)| name.starts_with("access-control-")), "{target}");
        assert_eq!(reply.field("allow").is_some(), method == "OPTIONS");
    }
}

#[test]
fn encodings_checksums_and_origins_can_be_combined() {
    let server = server();
    for (method, range, status) in [("GET", "", 200), ("GET", "Range: bytes=0-1\r\n", 206), ("HEAD", "", 200)]
    {
        let more = format!(
            "Origin: https://one.example\r\nAccept-Encoding: gzip\r\nWant-Repr-Digest: sha-256=1\r\n{range}"
        );
        let reply = Client::of(&server).ask(method, "/other/a.txt?download=b.gz", &more);
        assert_eq!(reply.status, status, "{method} {range}");
        assert!(only(&reply, "repr-digest").starts_with("sha-256=:"), "{method} {range}");
        for (name, value) in [
            ("content-encoding", "gzip"),
            (ALLOWED, "https://one.example"),
            ("vary", "Accept-Encoding, Origin"),
            ("content-disposition", "attachment; filename=\"b.gz\""),
        ] {
            assert_eq!(only(&reply, name), value, "{method} {range}");
        }
        assert!(only(&reply, "access-control-expose-headers").contains("Repr-Digest"));
    }
}
