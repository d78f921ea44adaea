//! Access control: who gets private files, and that others get no byte of them and no sign of their existence.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::cli::{run, stderr};
use crate::client::{Client, StreamedReply};
use crate::configured::{NAVIGATES, lines, only};
use crate::site::{Reply, Server, Site};

const SECRET: &[u8] = b"SECRET in every line\n";
const KEY_ONE: &[u8] = b"one: thirty-two bytes of a key..";
const KEY_TWO: &[u8] = b"two: thirty-two bytes of a key..";
const ALICE: &str = "alice:open sesame";
const BOB: &str = "bob:let me in";

/// A site, with its credential files beside it.
struct Vault {
    secrets: tempfile::TempDir,
}

impl Vault {
    fn new() -> Self {
        let vault = Self { secrets: tempfile::tempdir().unwrap() };
        vault.keep("keys", &format!("k1 {}\nk2 {}\n", STANDARD.encode(KEY_ONE), STANDARD.encode(KEY_TWO)));
        vault.keep("passwords", &passwords(&[ALICE, BOB], 4));
        let hash = Sha256::digest("ci-token").iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        vault.keep("tokens", &format!("ci sha256:{hash}\n"));
        vault
    }

    fn keep(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(self.path(name), text).unwrap();
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.secrets.path().join(name)
    }

    fn guards(&self, site: Site, toml: &str) -> Site {
        let env = |site: Site, name, file| site.env(name, self.path(file).to_str().unwrap());
        let site = env(site.config(toml), "PAGECAST_LINK_KEYS_FILE", "keys");
        env(env(site, "PAGECAST_PASSWORDS_FILE", "passwords"), "PAGECAST_TOKENS_FILE", "tokens")
            .env("PAGECAST_LOGIN_ATTEMPTS", "off")
    }
}

fn passwords(logins: &[&str], cost: u32) -> String {
    let line = |login: &&str| {
        let (name, password) = login.split_once(':').unwrap();
        format!("{name}:{}\n", bcrypt::hash(password, cost).unwrap())
    };
    logins.iter().map(line).collect()
}

fn basic(login: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(login))
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A signed URL made as docs/access.md describes.
struct Link<'a> {
    method: &'a str,
    path: &'a str,
    expires: u64,
    key: (&'a str, &'a [u8]),
    client: Option<&'a str>,
    download: Option<&'a str>,
}

impl<'a> Link<'a> {
    fn to(path: &'a str) -> Self {
        Self { method: "GET", path, expires: now() + 600, key: ("k2", KEY_TWO), client: None, download: None }
    }

    fn signature(&self) -> String {
        let mut parts = vec![
            "pagecast-link-v1".to_owned(),
            format!("method={}", self.method),
            format!("path={}", self.path),
            format!("expires={}", self.expires),
            format!("key={}", self.key.0),
        ];
        parts.extend(self.client.map(|client| format!("client={client}")));
        parts.extend(self.download.map(|name| format!("download={name}")));
        let text: String = parts.iter().map(|part| format!("{}:{part},", part.len())).collect();
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.1).unwrap();
        mac.update(text.as_bytes());
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }

    fn query(&self) -> String {
        let mut query = format!("expires={}&key={}", self.expires, self.key.0);
        if let Some(client) = self.client {
            query.push_str(&format!("&client={client}"));
        }
        if let Some(name) = self.download {
            query.push_str(&format!("&download={name}"));
        }
        format!("{query}&sig={}", self.signature())
    }

    fn target(&self) -> String {
        format!("{}?{}", self.path, self.query())
    }
}

fn has_secret(reply: &Reply) -> bool {
    let message = format!("{:?}", reply.fields);
    reply.body.windows(6).any(|bytes| bytes == b"SECRET")
        || message.contains("SECRET")
        || message.contains("hidden-name")
}

const RULES: &str = "listing = true
    archive = true
    cors_origins = '*'
    [[rule]]
    path = '/private/public.txt'
    access = 'public'
    [[rule]]
    path = ['/private/**', '*.pdf', '/app.html', '/404/404.html', '/d/index.html']
    access = 'basic'
    cache_control = 'public, max-age=600, s-maxage=700'
    headers = { CDN-Cache-Control = 'public, max-age=9' }
    [[rule]]
    path = '/spa/**'
    spa = '/app.html'";

fn tree() -> Site {
    let site = Site::with([
        ("open.txt", b"open to all"),
        ("private/a.txt", SECRET),
        ("private/public.txt", b"open to all"),
        ("private/index.html", SECRET),
        ("private/hidden-name.bin", SECRET),
        ("private/deep/er/b.txt", SECRET),
        ("d/index.html", SECRET),
        ("d/note.pdf", SECRET),
        ("d/note.pdf.br", SECRET),
        ("d/note.pdf.gz", SECRET),
        ("d/note.pdf.zst", SECRET),
        ("d/note.pdf.sha256", SECRET),
        ("d/note.pdf.gz.sha256", SECRET),
        ("app.html", SECRET),
        ("404/404.html", SECRET),
        (
            "_redirects",
            b"/rewritten /private/a.txt 200\n/sent/* /private/:splat 200\n/gone /404/404.html 404\n/to-dir /private 200\n\
              /forced.txt /private/a.txt 200!\n",
        ),
        ("forced.txt", b"open to all"),
        ("page.html", b"<p>open"),
    ]);
    std::os::unix::fs::symlink("private/a.txt", site.path().join("published")).unwrap();
    site
}

/// Spellings of private paths.
const WAYS_IN: &[&str] = &[
    "/private/a.txt",
    "/private",
    "/private/",
    "/private/index.html",
    "//private/a.txt",
    "/private//a.txt",
    "/./private/./a.txt",
    "/x/../private/a.txt",
    "/private/x/../a.txt",
    "/private/deep/../../private/a.txt",
    "/%70rivate/a.txt",
    "/privat%65/%61.tx%74",
    "/%2e/private/a.txt",
    "/x/%2E%2e/private/a.txt",
    "/private/a.txt/",
    "/private/a.txt?x",
    "/private/a.txt?digest=sha-256",
    "/private/a.txt?digest=md5",
    "/private/a.txt?download",
    "/private/a.txt?download=b",
    "/private/?archive=zip",
    "/private?archive=tar",
    "/private/?archive=rar",
    "/private/?format=json",
    "/private/deep/er",
    "/private/deep/er/",
    "/private/deep/er/b.txt",
    "/private/deep?format=json",
    "/private/none",
    "/private/none/",
    "/private/.hidden",
    "/private/a.txt.br",
    "/private/a.txt.sha256",
    "http://other.example/private/a.txt",
    "/d/",
    "/d/index.html",
    "/d/note.pdf",
    "/d/note.pdf.br",
    "/d/note.pdf.gz",
    "/d/note.pdf.zst",
    "/d/note.pdf.sha256",
    "/d/note.pdf.gz.sha256",
    "/anything/none.pdf",
    "/app.html",
    "/spa/route",
    "/rewritten",
    "/sent/a.txt",
    "/sent/none",
    "/gone",
    "/to-dir",
    "/forced.txt",
    "/404/404.html",
];

#[test]
fn no_path_spelling_or_header_returns_private_bytes() {
    let vault = Vault::new();
    let server = vault.guards(tree(), RULES).serve();
    let mut client = Client::of(&server);
    let etag = only(&client.ask("GET", "/private/a.txt", &basic(ALICE)), "etag").to_owned();
    let fields = [
        String::new(),
        NAVIGATES.to_owned(),
        "Range: bytes=0-5\r\n".to_owned(),
        "Range: bytes=0-1,3-4\r\n".to_owned(),
        "Range: bytes=99999-\r\n".to_owned(),
        "Accept-Encoding: br, zstd, gzip\r\n".to_owned(),
        "Accept-Encoding: identity;q=0\r\n".to_owned(),
        "Want-Repr-Digest: sha-256=10\r\n".to_owned(),
        format!("If-None-Match: {etag}\r\n"),
        "If-None-Match: *\r\n".to_owned(),
        "If-Match: \"other\"\r\n".to_owned(),
        format!("If-Range: {etag}\r\nRange: bytes=0-1\r\n"),
        "Origin: https://evil.example\r\n".to_owned(),
        basic("alice:wrong"),
        basic("nobody:open sesame"),
        basic(":"),
        bearer("ci-token"),
        "Authorization: Basic !\r\n".to_owned(),
        "Authorization: Digest x\r\n".to_owned(),
        format!("{}{}", basic(ALICE), basic(ALICE)),
        "X-Original-URL: /open.txt\r\nX-Rewrite-URL: /open.txt\r\n".to_owned(),
    ];
    let denied = |client: &mut Client, method: &str, target: &str, more: &str| {
        let reply = client.ask(method, target, more);
        let what = format!("{method} {target} {more}: {:?}", reply.fields);
        assert_eq!(reply.status, 401, "{what}");
        assert!(!has_secret(&reply), "{what}");
        assert_eq!(only(&reply, "cache-control"), "no-store", "{what}");
        assert_eq!(lines(&reply, "etag"), [""; 0], "{what}");
        assert!(only(&reply, "www-authenticate").starts_with("Basic "), "{what}");
    };
    for (number, target) in WAYS_IN.iter().enumerate() {
        denied(&mut client, "HEAD", target, "");
        // Checking a password takes long.
        let is_checked = |more: &str| more.contains("Basic") && !more.contains('!');
        for more in fields.iter().filter(|more| !is_checked(more) || number % 8 == 0) {
            denied(&mut client, "GET", target, more);
        }
        // The second request finds the path in the cache.
        denied(&mut client, "HEAD", target, "Range: bytes=0-5\r\n");
    }
    for target in ["/open.txt", "/private/public.txt", "/private/%70ublic.txt", "/x/../private/public.txt"] {
        for more in &fields[..2] {
            let reply = client.ask("GET", target, more);
            assert_eq!((reply.status, reply.text()), (200, "open to all".to_owned()), "{target}");
            assert!(!reply.field("cache-control").unwrap().contains("private"), "{target}");
        }
    }
    // A symbolic link in the root publishes its target: the requested name counts.
    assert_eq!(client.ask("GET", "/published", "").body, SECRET);
    // Another case is another name.
    assert_eq!(client.ask("GET", "/PRIVATE/a.txt", "").status, 404);
}

#[test]
fn the_same_spellings_are_served_with_a_password_and_not_cached_publicly() {
    let vault = Vault::new();
    let server = vault.guards(tree(), RULES).serve();
    let mut client = Client::of(&server);
    let login = basic(ALICE);
    let mut seen = 0;
    for target in WAYS_IN {
        for more in ["", "Range: bytes=0-5\r\n", "Accept-Encoding: br\r\n"] {
            // Listings and archives are streamed and need a reader of their own.
            let made = StreamedReply::get(&server, target, &format!("{login}{more}{NAVIGATES}"));
            let reply = made.reply;
            let what = format!("{target} {more} {}: {:?}", reply.status, reply.fields);
            assert!([200, 206, 301, 400, 404].contains(&reply.status), "{what}");
            seen += usize::from(has_secret(&reply));
            let cache_control = only(&reply, "cache-control");
            assert!(cache_control.starts_with("private"), "{what}");
            assert!(!cache_control.contains("public") && !cache_control.contains("s-maxage"), "{what}");
            assert_eq!(lines(&reply, "cdn-cache-control"), [""; 0], "{what}");
        }
    }
    assert!(seen > 60, "{seen}");
    let etag = only(&client.ask("GET", "/private/a.txt", &login), "etag").to_owned();
    for (method, more, status) in [
        ("GET", String::new(), 200),
        ("HEAD", String::new(), 200),
        ("GET", "Range: bytes=0-5\r\n".to_owned(), 206),
        ("GET", "Range: bytes=0-1,5-6\r\n".to_owned(), 206),
        ("GET", "Range: bytes=999-\r\n".to_owned(), 416),
        ("GET", "If-Match: \"x\"\r\n".to_owned(), 412),
        ("GET", format!("If-None-Match: {etag}\r\n"), 304),
    ] {
        for _ in 0..2 {
            let reply = client.ask(method, "/private/a.txt", &format!("{login}{more}"));
            assert_eq!(reply.status, status, "{method} {more}");
            let expected = if status < 400 { "private, max-age=600" } else { "private" };
            assert_eq!(only(&reply, "cache-control"), expected, "{method} {more}");
        }
    }
}

#[test]
fn existing_and_missing_private_files_are_denied_alike() {
    let vault = Vault::new();
    let server = vault.guards(tree(), RULES).serve();
    for more in [String::new(), basic("alice:wrong"), "Range: bytes=0-1\r\n".to_owned()] {
        let mut replies = ["a.txt", "none", "", "deep", "deep/none/x", "index.html"].map(|name| {
            let mut reply = server.get_with(&format!("/private/{name}"), &more);
            reply.fields.retain(|(name, _)| name != "date");
            format!("{reply:?}")
        });
        replies.sort();
        assert_eq!(replies.first(), replies.last(), "{more}");
    }
}

#[test]
fn listings_and_archives_omit_what_the_client_may_not_read() {
    let site = Site::with([
        ("index", b"x"),
        ("top.txt", b"x"),
        ("top.pdf", SECRET),
        ("top.pdf.br", SECRET),
        ("private/a.txt", SECRET),
        ("bobs/b.txt", SECRET),
        ("linked/c.txt", SECRET),
    ]);
    let rules = "listing = true
        archive = true
        [[rule]]
        path = '/bobs/**'
        access = 'basic'
        users = ['bob']
        [[rule]]
        path = '/linked/**'
        access = 'link'
        [[rule]]
        path = ['/private/**', '*.pdf']
        access = ['basic', 'link']";
    let vault = Vault::new();
    let server = vault.guards(site, rules).serve();
    let names = |target: &str, more: &str| -> Vec<String> {
        let body = StreamedReply::get(&server, target, more).body();
        let listing: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let entries = listing["entries"].as_array().unwrap();
        entries.iter().map(|entry| entry["name"].as_str().unwrap().trim_end_matches('/').to_owned()).collect()
    };
    let archived = |target: &str, more: &str| {
        String::from_utf8_lossy(&StreamedReply::get(&server, target, more).body()).into_owned()
    };
    // The root is public, and so is the same for all clients.
    for more in [String::new(), basic(ALICE), basic(BOB)] {
        assert_eq!(names("/?format=json", &more), ["index", "top.txt"], "{more}");
        for name in ["private", "bobs", "linked", "SECRET", "top.pdf"] {
            assert!(!archived("/?archive=tar", &more).contains(name), "{name} {more}");
        }
    }
    let whole = vault.guards(
        Site::with([("top.txt", b"x"), ("bobs/b.txt", SECRET), ("linked/c.txt", b"x"), ("sub/x", b"x")]),
        &format!("{rules}\n[[rule]]\npath = '**'\naccess = ['basic', 'link']"),
    );
    let server = whole.serve();
    let names = |more: &str| -> Vec<String> {
        let body = StreamedReply::get(&server, "/?format=json", more).body();
        let listing: serde_json::Value = serde_json::from_slice(&body).unwrap();
        listing["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["name"].as_str().unwrap().trim_end_matches('/').to_owned())
            .collect()
    };
    assert_eq!(names(&basic(ALICE)), ["sub", "top.txt"]);
    assert_eq!(names(&basic(BOB)), ["bobs", "sub", "top.txt"]);
    let tar = |more: &str| {
        String::from_utf8_lossy(&StreamedReply::get(&server, "/?archive=tar", more).body()).into_owned()
    };
    assert!(!tar(&basic(ALICE)).contains("SECRET"));
    assert!(tar(&basic(BOB)).contains("SECRET"));
    let linked = Link::to("/").target();
    let page = StreamedReply::get(&server, &linked, NAVIGATES);
    assert_eq!(page.reply.status, 200, "{}", page.reply.text());
    let page = page.reply.text();
    assert!(!page.contains("top.txt") && !page.contains("bobs"), "{page}");
    assert_eq!(server.get(&format!("{linked}&archive=tar")).status, 403);
}

#[test]
fn a_signed_url_opens_only_its_path_until_it_expires() {
    let site = tree().file("private/a b&c.txt", SECRET).file("private/long.txt", &SECRET.repeat(10_000));
    let vault = Vault::new();
    let rules = "listing = true
        archive = true
        query_filter = true
        [[rule]]
        path = '/mine/**'
        access = ['link', 'basic']
        users = ['alice']
        [[rule]]
        path = ['/private/**', '/d/**']
        access = 'link'";
    let server = vault.guards(site.file("mine/x", SECRET), rules).serve();
    let mut client = Client::of(&server);
    let link = || Link::to("/private/a.txt");
    let a = link().target();
    let spelled = format!("/x/..//%70rivate/./a.txt?{}", link().query());
    for (method, target, more, status) in [
        ("GET", &*a, "", 200),
        ("HEAD", &a, "", 200),
        ("GET", &a, "Range: bytes=0-5\r\n", 206),
        ("GET", &a, "If-None-Match: *\r\n", 304),
        ("GET", &spelled, "", 200),
        ("GET", &format!("{a}&utm_source=x"), "", 200),
        ("GET", &Link { key: ("k1", KEY_ONE), ..link() }.target(), "", 200),
        ("GET", &Link { client: Some("127.0.0.0/8"), ..link() }.target(), "", 200),
        ("GET", &Link { client: Some("127.0.0.1"), ..link() }.target(), "", 200),
        ("HEAD", &Link { method: "HEAD", ..link() }.target(), "", 200),
        ("GET", &format!("/private/?{}", Link::to("/private").query()), "", 200),
        ("GET", &format!("/private?{}", Link::to("/private").query()), "", 301),
        ("GET", &format!("/private/a%20b%26c.txt?{}", Link::to("/private/a b&c.txt").query()), "", 200),
        ("GET", &Link::to("/private/long.txt").target(), "", 200),
        ("GET", &Link::to("/private/none").target(), "", 404),
        ("OPTIONS", "/private/a.txt", "", 204),
        ("POST", &a, "Content-Length: 0\r\n", 405),
    ] {
        let reply = client.ask(method, target, more);
        assert_eq!(reply.status, status, "{method} {target} {more}");
        if status < 400 && !["OPTIONS"].contains(&method) {
            assert!(only(&reply, "cache-control").starts_with("private"), "{method} {target}");
        }
        assert_eq!(has_secret(&reply), method == "GET" && [200, 206].contains(&status), "{method} {target}");
    }
    let named = Link { download: Some("r.txt"), ..link() };
    let reply = client.ask("GET", &named.target(), "");
    assert_eq!(only(&reply, "content-disposition"), "attachment; filename=\"r.txt\"");

    let (closed, bad, expired) =
        ("A signed URL is required.\n", "The signed URL is not valid.\n", "The signed URL has expired.\n");
    let query = link().query();
    let sig = link().signature();
    let unsigned =
        |name: &str| query.split('&').filter(|part| !part.starts_with(name)).collect::<Vec<_>>().join("&");
    let at = |path: &str| format!("{path}?{query}");
    let with = |more: &str| format!("/private/a.txt?{query}{more}");
    for (method, target, expected) in [
        ("GET", "/private/a.txt".to_owned(), closed),
        ("GET", "/private/a.txt?key=k2&expires=99999999999".to_owned(), closed),
        ("GET", at("/private/index.html"), bad),
        ("GET", at("/private/a.txt.br"), bad),
        ("GET", at("/private/"), bad),
        ("GET", at("/private/A.txt"), bad),
        ("GET", at("/private/none"), bad),
        ("GET", at("/d/note.pdf"), bad),
        ("GET", at("/rewritten"), closed),
        ("GET", format!("/rewritten?{}", Link::to("/rewritten").query()), closed),
        ("GET", with("&archive=zip"), bad),
        ("GET", with("&digest=sha-256"), bad),
        ("GET", with("&format=json"), bad),
        ("GET", with("&sort=size"), bad),
        ("GET", with("&order=desc"), bad),
        ("GET", with("&download"), bad),
        ("GET", with("&download=evil.exe"), bad),
        ("GET", with("&%64ownload=evil.exe"), bad),
        ("GET", with("&client=127.0.0.1"), bad),
        ("GET", with("&expires=99999999999"), bad),
        ("GET", format!("/private/a.txt?expires=99999999999&{query}"), bad),
        ("GET", format!("/private/a.txt?expires=99999999999&{}", unsigned("expires")), bad),
        ("GET", format!("/private/a.txt?key=k1&{}", unsigned("key")), bad),
        ("GET", format!("/private/a.txt?key=k3&{}", unsigned("key")), bad),
        ("GET", format!("/private/a.txt?key=&{}", unsigned("key")), bad),
        ("GET", format!("/private/a.txt?{}", unsigned("key")), bad),
        ("GET", format!("/private/a.txt?{}", unsigned("expires")), bad),
        ("GET", format!("/private/a.txt?{}", unsigned("sig")), closed),
        ("GET", format!("/private/a.txt?{}&sig=", unsigned("sig")), bad),
        ("GET", format!("/private/a.txt?{}&sig={}", unsigned("sig"), &sig[1..]), bad),
        ("GET", format!("/private/a.txt?{}&sig={sig}%3D", unsigned("sig")), bad),
        ("GET", format!("/private/a.txt?{}&sig={}", unsigned("sig"), Link::to("/private").signature()), bad),
        ("GET", Link { method: "HEAD", ..link() }.target(), bad),
        ("GET", Link { key: ("k1", KEY_TWO), ..link() }.target(), bad),
        ("GET", Link { client: Some("192.0.2.0/24"), ..link() }.target(), bad),
        ("GET", Link { client: Some("::1"), ..link() }.target(), bad),
        ("GET", Link { expires: now() - 1, ..link() }.target(), expired),
        ("GET", Link { expires: 0, ..link() }.target(), expired),
        ("HEAD", Link { expires: 1, ..link() }.target(), expired),
        ("GET", format!("/private/a.txt?{}", Link { path: "/private/a.txt/", ..link() }.query()), bad),
        ("GET", format!("/private/a.txt?{}", Link { path: "private/a.txt", ..link() }.query()), bad),
    ] {
        let reply = client.ask(method, &target, "");
        assert_eq!(reply.status, 403, "{method} {target}");
        assert_eq!(only(&reply, "cache-control"), "no-store", "{target}");
        assert_eq!(lines(&reply, "www-authenticate"), [""; 0], "{target}");
        if method == "GET" {
            assert_eq!(reply.text(), expected, "{target}");
        }
    }
    // If either a password or a token is enough, each opens, whatever the other is.
    let good = Link::to("/mine/x").target();
    let bad = Link { expires: 1, ..Link::to("/mine/x") }.target();
    for (target, more, status) in [
        (&good, String::new(), 200),
        (&good, basic("alice:wrong"), 200),
        (&bad, basic(ALICE), 200),
        (&format!("{good}&digest=sha-256"), basic(ALICE), 200),
        (&format!("{good}&digest=sha-256"), String::new(), 403),
        (&bad, String::new(), 403),
        (&bad, basic("alice:wrong"), 401),
        (&bad, basic(BOB), 403),
    ] {
        assert_eq!(client.ask("GET", target, &more).status, status, "{target} {more}");
    }
}

#[test]
fn passwords_and_tokens_are_required_as_the_rules_say() {
    let vault = Vault::new();
    let rules = "[[rule]]
        path = '/both/**'
        access = ['basic', 'bearer']
        [[rule]]
        path = '/token/**'
        access = 'bearer'
        [[rule]]
        path = '/bobs/**'
        access = ['basic', 'bearer']
        users = 'bob'
        [[rule]]
        path = '/closed/**'
        access = ['basic', 'bearer']
        users = 'nobody'";
    let site =
        Site::with([("both/x", SECRET), ("token/x", SECRET), ("bobs/x", SECRET), ("closed/x", SECRET)]);
    let server = vault.guards(site, rules).serve();
    assert!(
        server.log().contains("a rule names the user \"nobody\", which is in neither"),
        "{}",
        server.log()
    );
    let mut client = Client::of(&server);
    let (basic_realm, bearer_realm) =
        ("Basic realm=\"pagecast\", charset=\"UTF-8\"", "Bearer realm=\"pagecast\"");
    let invalid = &*format!("{bearer_realm}, error=\"invalid_token\"");
    let insufficient = &*format!("{bearer_realm}, error=\"insufficient_scope\"");
    for (target, more, status, asked) in [
        ("/both/x", String::new(), 401, vec![bearer_realm, basic_realm]),
        ("/both/x", basic(ALICE), 200, vec![]),
        ("/both/x", basic(BOB), 200, vec![]),
        ("/both/x", bearer("ci-token"), 200, vec![]),
        ("/both/x", "authorization: bEARER ci-token\r\n".to_owned(), 200, vec![]),
        ("/both/x", bearer("ci-toke"), 401, vec![invalid, basic_realm]),
        ("/both/x", bearer("a b"), 401, vec![invalid, basic_realm]),
        ("/both/x", basic("alice:let me in"), 401, vec![bearer_realm, basic_realm]),
        ("/both/x", basic("Alice:open sesame"), 401, vec![bearer_realm, basic_realm]),
        ("/both/x", basic("alice:open sesame\0"), 401, vec![bearer_realm, basic_realm]),
        ("/both/x", basic(&format!("alice:{}", "x".repeat(2000))), 401, vec![bearer_realm, basic_realm]),
        ("/token/x", basic(ALICE), 401, vec![bearer_realm]),
        ("/token/x", bearer("ci-token"), 200, vec![]),
        ("/token/x?access_token=ci-token", String::new(), 401, vec![bearer_realm]),
        ("/bobs/x", basic(BOB), 200, vec![]),
        ("/bobs/x", basic(ALICE), 403, vec![]),
        ("/bobs/x", bearer("ci-token"), 403, vec![insufficient]),
        ("/bobs/none", basic(ALICE), 403, vec![]),
        ("/closed/x", basic(ALICE), 403, vec![]),
    ] {
        let reply = client.ask("GET", target, &more);
        assert_eq!(reply.status, status, "{target} {more}");
        assert_eq!(lines(&reply, "www-authenticate"), asked, "{target} {more}");
        assert_eq!(has_secret(&reply), status == 200, "{target} {more}");
        if status != 200 {
            let expected = if status == 401 { "Authentication required.\n" } else { "Access denied.\n" };
            assert_eq!(reply.text(), expected, "{target} {more}");
        }
    }
}

#[test]
fn browsers_are_challenged_and_redirected_to_https_without_leaking_credentials() {
    let vault = Vault::new();
    let rules = "https_redirect = true
        trusted_proxies = '127.0.0.1'
        [[rule]]
        path = '/private/**'
        access = 'basic'
        cors = { origins = 'https://app.example', headers = ['Authorization'], credentials = true }";
    let server = vault.guards(tree(), rules).serve();
    let mut client = Client::of(&server);
    let secure = "X-Forwarded-Proto: https\r\nOrigin: https://app.example\r\n";
    let preflight = "Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: authorization\r\n";
    let asked = ["/private/a.txt", "/private/none"].map(|target| {
        let mut reply = client.ask("OPTIONS", target, &format!("{secure}{preflight}"));
        assert_eq!((reply.status, only(&reply, "access-control-allow-headers")), (204, "authorization"));
        reply.fields.retain(|(name, _)| name != "date");
        format!("{reply:?}")
    });
    assert_eq!(asked[0], asked[1]);
    let reply = client.ask("GET", "/private/a.txt", secure);
    assert_eq!((reply.status, only(&reply, "access-control-allow-origin")), (401, "https://app.example"));
    let reply = client.ask("GET", "/private/a.txt", &format!("{secure}{}", basic(ALICE)));
    assert_eq!((reply.status, only(&reply, "access-control-allow-origin")), (200, "https://app.example"));
    for login in [String::new(), basic(ALICE)] {
        let reply = client.ask("GET", "/private/a.txt", &login);
        assert_eq!((reply.status, only(&reply, "location")), (301, "https://x/private/a.txt"), "{login}");
        assert_eq!(only(&reply, "cache-control"), "private");
    }
}

#[test]
fn error_pages_are_shown_to_the_clients_they_are_meant_for() {
    let vault = Vault::new();
    let site = || {
        Site::with([
            ("404.html", b"<p>SECRET 404"),
            ("403.html", b"<p>open 403"),
            ("a/x", SECRET),
            ("b/x", b"x"),
        ])
    };
    let rules = "[[rule]]
        path = ['/a/**', '/404.html']
        access = 'basic'
        [[rule]]
        path = '/b/**'
        access = 'basic'
        users = 'bob'";
    let server = vault.guards(site(), rules).serve();
    let mut client = Client::of(&server);
    for (target, more, status, body) in [
        ("/none", String::new(), 404, "Not found.\n"),
        ("/a/none", basic(ALICE), 404, "<p>SECRET 404"),
        ("/a/none", String::new(), 401, "Authentication required.\n"),
        ("/b/x", basic(ALICE), 403, "<p>open 403"),
    ] {
        for _ in 0..2 {
            let reply = client.ask("GET", target, &more);
            assert_eq!((reply.status, reply.text().as_str()), (status, body), "{target} {more}");
            if status == 403 {
                assert_eq!(only(&reply, "cache-control"), "no-store");
            }
        }
    }
}

#[test]
fn a_client_with_too_many_wrong_attempts_has_to_wait_whatever_it_sends() {
    let vault = Vault::new();
    let rules = "[[rule]]
        path = '/private/**'
        access = ['basic', 'bearer', 'link']";
    let server = vault
        .guards(tree(), rules)
        .env("PAGECAST_LOGIN_ATTEMPTS", "5/h")
        .env("PAGECAST_TRUSTED_PROXIES", "127.0.0.1")
        .env("PAGECAST_ADMIN_LISTEN", "127.0.0.1:0")
        .serve();
    let mut client = Client::of(&server);
    let mut ask = |who: &str, target: &str, more: &str| {
        client.ask("GET", target, &format!("X-Forwarded-For: {who}\r\n{more}"))
    };
    let a = "/private/a.txt";
    let bad = Link { key: ("k1", KEY_TWO), ..Link::to(a) }.target();
    let expired = Link { expires: 1, ..Link::to(a) }.target();
    // Requests without credentials, with right ones or with former ones do not count as wrong.
    for _ in 0..10 {
        for (target, more, status) in [
            (a, String::new(), 401),
            (a, basic(ALICE), 200),
            (&expired, String::new(), 403),
            (a, bearer("ci-token"), 200),
        ] {
            assert_eq!(ask("192.0.2.1", target, &more).status, status, "{target} {more}");
        }
    }
    for (target, more, status) in [
        (a, basic("alice:one"), 401),
        (a, bearer("wrong"), 401),
        (&bad, String::new(), 403),
        (a, "Authorization: Basic !\r\n".to_owned(), 401),
        (a, basic("nobody:one"), 401),
    ] {
        assert_eq!(ask("192.0.2.1", target, &more).status, status, "{target} {more}");
        // Right attempts in between restore nothing.
        if status == 403 {
            assert_eq!(ask("192.0.2.1", a, &basic(ALICE)).status, 200);
        }
    }
    let good = Link::to(a).target();
    for (target, more) in
        [(a, basic(ALICE)), (a, basic("alice:two")), (a, bearer("ci-token")), (&good, String::new())]
    {
        let reply = ask("192.0.2.1", target, &more);
        assert_eq!(
            (reply.status, reply.text().as_str()),
            (429, "Too many failed attempts. Please wait.\n"),
            "{target} {more}"
        );
        let wait: u64 = only(&reply, "retry-after").parse().unwrap();
        assert!((1..=720).contains(&wait), "{wait}");
        assert_eq!(only(&reply, "cache-control"), "no-store");
    }
    // Public files are still served, and so are other clients.
    assert_eq!(ask("192.0.2.1", "/open.txt", &basic("alice:three")).status, 200);
    assert_eq!(ask("192.0.2.1", a, "").status, 401);
    assert_eq!(ask("192.0.2.2", a, &basic(ALICE)).status, 200);
    let status: serde_json::Value = serde_json::from_slice(&server.get_admin("/status").body).unwrap();
    let access = &status["access"];
    assert_eq!(access["limited"], 4, "{access}");
    assert_eq!(access["granted"], serde_json::json!({ "link": 0, "bearer": 10, "basic": 12 }));
    assert_eq!(access["denied"], serde_json::json!({ "link": 11, "bearer": 1, "basic": 3 }));
    assert_eq!(access["nothing_shown"], 11);
    assert_eq!(access["checks"], serde_json::json!({ "now": 0, "limit": 2 }));
    assert!(server.log().contains("client 192.0.2.1 rejected: more wrong attempts"), "{}", server.log());
}

#[test]
fn without_a_free_thread_a_password_check_is_a_503_and_files_are_served_meanwhile() {
    let vault = Vault::new();
    vault.keep("passwords", &passwords(&[ALICE], 11));
    let rules = "[[rule]]
        path = '/private/**'
        access = 'basic'";
    let server = vault.guards(tree(), rules).env("PAGECAST_PASSWORD_CHECKS", "1").serve();
    let statuses = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..60)
            .map(|number| {
                let server = &server;
                scope.spawn(move || {
                    let reply = server.get_with("/private/a.txt", &basic(&format!("alice:{number}")));
                    if reply.status == 503 {
                        assert_eq!(
                            (only(&reply, "retry-after"), only(&reply, "cache-control")),
                            ("1", "no-store")
                        );
                    }
                    reply.status
                })
            })
            .collect();
        for _ in 0..20 {
            assert_eq!(server.get("/open.txt").status, 200);
        }
        asking.into_iter().map(|asked| asked.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(statuses.iter().all(|status| [401, 503].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&503) && statuses.contains(&401), "{statuses:?}");
}

#[test]
fn a_reload_replaces_keys_and_passwords() {
    let vault = Vault::new();
    let rules = "[[rule]]
        path = '/private/**'
        access = ['basic', 'link', 'bearer']";
    let mut server = vault.guards(tree(), rules).serve();
    let ask = |server: &Server, target: &str, more: &str| server.get_with(target, more).status;
    let a = "/private/a.txt";
    let of = |id, key| Link { key: (id, key), ..Link::to(a) }.target();
    let (one, two, three) =
        (of("k1", KEY_ONE), of("k2", KEY_TWO), of("k3", b"three: a key of thirty-two bytes".as_slice()));
    let seen = |server: &Server| {
        [
            (&*one, String::new()),
            (&two, String::new()),
            (&three, String::new()),
            (a, basic(ALICE)),
            (a, basic(BOB)),
        ]
        .map(|(target, more)| ask(server, target, &more))
    };
    assert_eq!(seen(&server), [200, 200, 403, 200, 200]);
    vault.keep(
        "keys",
        &format!(
            "k2 {}\nk3 {}\n",
            STANDARD.encode(KEY_TWO),
            STANDARD.encode("three: a key of thirty-two bytes")
        ),
    );
    vault.keep("passwords", &passwords(&["alice:another", BOB], 4));
    server.hang_up("reloaded ");
    assert!(server.log().contains("keys, tokens or passwords"), "{}", server.log());
    assert_eq!(seen(&server), [403, 200, 200, 401, 200]);
    assert_eq!(ask(&server, a, &basic("alice:another")), 200);
    // Malformed files change nothing, and the log shows no secret.
    vault.keep("keys", "k2 short\n");
    vault.keep("passwords", "alice:plaintext-password\n");
    server.hang_up("not reloaded");
    assert_eq!(seen(&server), [403, 200, 200, 401, 200]);
    let log = server.log();
    assert!(
        log.contains("keys:1: the key k2 has 3 bytes") || log.contains("keys:1: the key k2 is no base64"),
        "{log}"
    );
    assert!(log.contains("passwords:1: the hash of alice is plain") && !log.contains("plaintext"), "{log}");
}

#[test]
fn useless_or_malformed_credentials_are_reported_at_start() {
    let vault = Vault::new();
    let site = Site::new().config("\n[[rule]]\npath = '/a/**'\naccess = ['basic', 'link', 'bearer']\n");
    let message = stderr(&run(&mut site.command()));
    for (way, setting) in [("link", "LINK_KEYS"), ("bearer", "TOKENS"), ("basic", "PASSWORDS")] {
        let line = format!(
            ".pagecast.toml:2: rule.access: the method {way} requires PAGECAST_{setting}_FILE, which is off"
        );
        assert!(message.contains(&line), "{message}");
    }
    for (name, text, expected) in [
        ("keys", "k1 AAAA", ":1: the key k1 has 3 bytes; accepted: 32 to 1024"),
        ("keys", "\nk1", ":2: a line is an id and a key in base64"),
        ("tokens", "ci sha1:abc", ":1: a line is a name and the hash of a token"),
        (
            "passwords",
            "# x\na:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
            ":2: the hash of a is SHA-1; accepted: bcrypt",
        ),
    ] {
        let vault = Vault::new();
        vault.keep(name, text);
        let output = run(&mut vault.guards(Site::new(), "").command());
        assert_eq!(output.status.code(), Some(2));
        let message = stderr(&output);
        assert!(message.contains(&format!("{}{expected}", vault.path(name).display())), "{message}");
    }
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(vault.path("keys"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let site = Site::with([("tokens", b"")]);
    let tokens = site.path().join("tokens");
    let server = vault.guards(site, "").env("PAGECAST_TOKENS_FILE", tokens.to_str().unwrap()).serve();
    let log = server.log();
    assert!(log.contains("keys: every user of this machine can read it (chmod o-r)"), "{log}");
    assert!(log.contains("tokens: it is inside the document root and could be served"), "{log}");
    assert!(!log.contains("passwords:"), "{log}");
}

#[test]
fn the_command_prints_a_signed_url_that_works() {
    let vault = Vault::new();
    let rules = "[[rule]]
        path = '/private/**'
        access = 'link'";
    let site = tree().file("private/a b&ü.txt", SECRET);
    let keys = vault.path("keys");
    let sign = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pagecast"));
        command.env_clear().env("PAGECAST_LINK_KEYS_FILE", &keys).arg("sign").args(arguments);
        run(&mut command)
    };
    let server = vault.guards(site, rules).serve();
    for (arguments, disposition) in [
        (&["/private/a.txt", "--key-id=k1"][..], None),
        (&["/private/a b&ü.txt", "--key-id", "k2", "--expires", "5m", "--client=127.0.0.0/8"], None),
        (&["/private/", "--key-id=k2"], None),
        (
            &["/private/a.txt", "--key-id=k2", "--download=Q1 & Q2.txt"],
            Some("attachment; filename=\"Q1 & Q2.txt\""),
        ),
    ] {
        let output = sign(arguments);
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()), "{arguments:?}");
        let url = String::from_utf8(output.stdout).unwrap();
        let reply = server.get(url.trim_end());
        assert_eq!((reply.status, reply.body.as_slice()), (200, SECRET), "{url}");
        assert_eq!(reply.field("content-disposition"), disposition, "{url}");
    }
    let output = sign(&["/private/a.txt", "--key-id=k1", "--base=https://files.example"]);
    assert!(output.stdout.starts_with(b"https://files.example/private/a.txt?expires="));
    for (arguments, code, message) in [
        (&["/private/a.txt"][..], 1, "there are several keys: name one by --key-id (k1, k2)"),
        (&["/private/a.txt", "--key-id=k9"], 1, "there is no key k9; known: k1, k2"),
        (&["/../a", "--key-id=k1"], 1, "the path leads out of the document root"),
        (&["private/a.txt"], 2, "PATH: the value \"private/a.txt\" does not start with a slash"),
        (&[], 2, "PATH: the value \"\" does not start with a slash"),
        (&["/a", "--link-keys-file=/nowhere/at/all"], 2, "/nowhere/at/all: the file cannot be read"),
    ] {
        let output = sign(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(stderr(&output).contains(message), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn the_example_in_the_documentation_is_right() {
    let text = include_str!("../../docs/access.md");
    let link = Link {
        method: "GET",
        path: "/reports/q1 final.pdf",
        expires: 1_767_225_600,
        key: ("k2", b"0123456789abcdef0123456789abcdef"),
        client: Some("203.0.113.0/24"),
        download: Some("Q1.pdf"),
    };
    for part in [
        STANDARD.encode(link.key.1),
        link.signature(),
        format!("/reports/q1%20final.pdf?expires=1767225600&key=k2&client=203.0.113.0%2F24&download=Q1.pdf&sig={}", link.signature()),
        "16:pagecast-link-v1,10:method=GET,26:path=/reports/q1 final.pdf,18:expires=1767225600,6:key=k2,21:client=203.0.113.0/24,15:download=Q1.pdf,".to_owned(),
    ] {
        assert!(text.contains(&part), "{part}");
    }
}

#[test]
fn access_for_one_client_does_not_open_a_file_to_the_next() {
    let vault = Vault::new();
    let server = vault.guards(tree(), RULES).serve();
    let mut client = Client::of(&server);
    // The path is cached by then, and the connection is the same.
    for _ in 0..3 {
        assert_eq!(client.ask("GET", "/open.txt", "").status, 200);
        assert_eq!(client.ask("GET", "/private/a.txt", &basic(ALICE)).status, 200);
        assert_eq!(client.ask("GET", "/private/a.txt", "").status, 401);
        assert_eq!(client.ask("GET", "/private/", &basic(ALICE)).status, 200);
        assert_eq!(client.ask("GET", "/private/", "").status, 401);
    }
}
