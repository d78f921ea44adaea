//! Request targets: what they may name, and that nothing outside the root is served.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::client::Client;
use crate::site::{Reply, Server, Site};

/// Content of the file outside the root.
const SENTINEL: &str = "nobody outside may read this";

#[test]
fn no_spelling_of_dots_and_slashes_leaves_the_root() {
    let outside = outside();
    let outside_name = outside.path().file_name().unwrap().to_str().unwrap().to_owned();
    let server = site().serve();
    let mut client = Client::of(&server);
    let dots = [
        "..",
        "%2e%2e",
        "%2E%2E",
        ".%2e",
        "%2e.",
        "%252e%252e",
        "%25%32%65%25%32%65",
        "..%00",
        "%00..",
        "..;",
        "..%20",
        "...",
        "....",
        "%c0%ae%c0%ae",
        "%e0%80%ae%e0%80%ae",
        "%u002e%u002e",
        "..%0d%0a",
        "..%5c",
        "\u{2025}",
    ];
    let slashes = ["/", "//", "/./", "%2f", "%2F", "%252f", "%5c", "\\", "%c0%af", "/%2e/", ";/"];
    let starts = ["/", "//", "/d/", "/d/../", "/./", "/d%2f", "/\\"];
    for dot in dots {
        for slash in slashes {
            for start in starts {
                for climbs in [1, 2, 6] {
                    let way = format!("{start}{}", format!("{dot}{slash}").repeat(climbs));
                    for end in [format!("{outside_name}{slash}secret.txt"), format!("etc{slash}passwd")] {
                        stays_inside(&mut client, &server, &format!("{way}{end}"));
                    }
                }
            }
        }
    }
}

#[test]
fn no_absolute_name_leaves_the_root() {
    let outside = outside();
    let secret = outside.path().join("secret.txt");
    let secret = secret.to_str().unwrap();
    let server = site().serve();
    let mut client = Client::of(&server);
    for target in [
        secret.to_owned(),
        format!("/{secret}"),
        format!("//{secret}"),
        secret.replace('/', "%2F"),
        format!("/{}", secret.replace('/', "%2F")),
        format!("/d/{secret}"),
        format!("http://x{secret}"),
        format!("http://x/{secret}"),
        "/proc/self/root/etc/passwd".to_owned(),
        "/dev/stdin".to_owned(),
        "/etc/passwd".to_owned(),
        "/~root/.profile".to_owned(),
    ] {
        stays_inside(&mut client, &server, &target);
    }
}

#[test]
fn structure_is_resolved_before_anything_is_opened() {
    check(
        &site().serve(),
        &[
            ("/a.txt", 200, "alpha"),
            ("/./a.txt", 200, "alpha"),
            ("//a.txt", 200, "alpha"),
            ("///a.txt", 200, "alpha"),
            ("/%2e/a.txt", 200, "alpha"),
            ("/d/../a.txt", 200, "alpha"),
            ("/d/%2e%2e/a.txt", 200, "alpha"),
            ("/none/../a.txt", 200, "alpha"),
            ("/d//b.txt", 200, "beta"),
            ("/d/./b.txt", 200, "beta"),
            ("/d/e/.././b.txt", 200, "beta"),
            ("/d/.", 200, "<p>d"),
            ("/d/x/..", 200, "<p>d"),
            ("/a.txt/..", 200, "<p>root"),
            ("/..", 400, ""),
            ("/../", 400, ""),
            ("/../a.txt", 400, ""),
            ("/%2e%2e/a.txt", 400, ""),
            ("/.%2E/a.txt", 400, ""),
            ("/d/../../a.txt", 400, ""),
            ("/d/../../d/b.txt", 400, ""),
        ],
    );
}

#[test]
fn escapes_are_decoded_exactly_once() {
    check(
        &site().serve(),
        &[
            ("/%61%2etxt", 200, "alpha"),
            ("/%2561.txt", 404, ""),
            ("/%252e%252e/a.txt", 404, ""),
            ("/%", 400, ""),
            ("/a.txt%", 400, ""),
            ("/a.txt%2", 400, ""),
            ("/a.txt%zz", 400, ""),
            ("/%u0061.txt", 400, ""),
            ("/%+1", 400, ""),
            ("/%00", 400, ""),
            ("/a.txt%00", 400, ""),
            ("/a.txt%00.png", 400, ""),
            ("/d%2Fb.txt", 400, ""),
            ("/d%2fb.txt", 400, ""),
            ("/%2Fa.txt", 400, ""),
            ("/d%5Cb.txt", 404, ""),
            ("/a.txt%20", 404, ""),
            ("/a.txt%0A", 404, ""),
        ],
    );
}

#[test]
fn a_query_is_no_part_of_the_name_and_a_fragment_is_refused() {
    check(
        &site().serve(),
        &[
            ("/a.txt?", 200, "alpha"),
            ("/a.txt?x=../../etc/passwd", 200, "alpha"),
            ("/a.txt?%00%2F%zz", 200, "alpha"),
            ("/a.txt??", 200, "alpha"),
            ("/d/?x", 200, "<p>d"),
            ("/a.txt#", 400, ""),
            ("/a.txt#part", 400, ""),
            ("/a.txt?x#part", 400, ""),
        ],
    );
}

#[test]
fn a_file_is_no_directory() {
    check(
        &site().serve(),
        &[
            ("/a.txt/", 404, ""),
            ("/a.txt//", 404, ""),
            ("/a.txt/.", 404, ""),
            ("/a.txt/b.txt", 404, ""),
            ("/a.txt/index.html", 404, ""),
            ("/d/b.txt/", 404, ""),
        ],
    );
}

#[test]
fn names_that_are_too_long_are_missing() {
    let server = site().serve();
    let mut client = Client::of(&server);
    for target in [
        format!("/{}", "a".repeat(255)),
        format!("/{}", "a".repeat(256)),
        format!("/{}", "a".repeat(8000)),
        format!("/{}", "a/".repeat(4000)),
        format!("/d/{}b.txt", "none/".repeat(2000)),
        format!("/{}", "%61".repeat(5000)),
    ] {
        assert_eq!(client.ask("GET", &target, "").status, 404, "{} bytes", target.len());
    }
    let target = format!("/{}a.txt", "./".repeat(7000));
    assert_eq!(client.ask("GET", &target, "").text(), "alpha");
    let target = format!("/{}a.txt", "d/../".repeat(3000));
    assert_eq!(client.ask("GET", &target, "").text(), "alpha");
}

#[test]
fn a_name_may_hold_any_byte_but_slash_and_nul() {
    let names: [(&[u8], &str); 16] = [
        (b"with space.txt", "/with%20space.txt"),
        (b"100%.txt", "/100%25.txt"),
        (b"%41", "/%2541"),
        (b"what?", "/what%3F"),
        (b"one#two", "/one%23two"),
        (b"back\\slash", "/back%5Cslash"),
        (b"a+b", "/a+b"),
        (b"a&b=c;d", "/a&b=c;d"),
        (b"quote\"'", "/quote%22'"),
        ("caf\u{e9}\u{1f980}".as_bytes(), "/caf%C3%A9%F0%9F%A6%80"),
        (b"latin\xE9\xFF", "/latin%E9%ff"),
        (b"line\nbreak\r", "/line%0Abreak%0D"),
        (b"tab\t\x7F\x01", "/tab%09%7F%01"),
        (b"..a", "/..a"),
        (b"~$!*'(),:@-_", "/~$!*'(),:@-_"),
        (b"<script>", "/%3Cscript%3E"),
    ];
    let site = site().env("PAGECAST_DOTFILES", "allow");
    for (name, target) in &names {
        std::fs::write(site.path().join(OsStr::from_bytes(name)), target).unwrap();
    }
    let server = site.serve();
    let mut client = Client::of(&server);
    for (_, target) in names {
        let reply = client.ask("GET", target, "");
        assert_eq!((reply.status, reply.text().as_str()), (200, target), "{target}");
    }
    for target in ["/a%20b", "/quote%22", "/caf%E9"] {
        assert_eq!(client.ask("GET", target, "").status, 404, "{target}");
    }
}

#[test]
fn bytes_that_are_invalid_in_a_target_are_refused() {
    let server = site().serve();
    for target in [&b"/a b"[..], b"/a\tb", b"/a\x00b", b"/a\x7Fb", b"/\xFF", b"/a\x0Bb", b"/a\rb"] {
        let raw = [b"GET ", target, b" HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
        assert_eq!(server.send(raw).status, 400, "{}", target.escape_ascii());
    }
}

#[test]
fn names_with_a_leading_dot_are_denied_except_well_known() {
    let dotted = |site: Site| {
        site.file(".env", b"dot")
            .file(".git/config", b"dot")
            .file("d/.hidden", b"dot")
            .file("d/.well-known/x", b"dot")
            .file(".well-known/acme", b"dot")
            .file(".well-known/.hidden", b"dot")
            .file(".well-known.txt", b"dot")
            .file(".../x", b"dot")
    };
    let hidden = [
        "/.env",
        "/%2Eenv",
        "/%2eenv",
        "/d/../.env",
        "//.env",
        "/.git/config",
        "/.git",
        "/.git/",
        "/d/.hidden",
        "/d/.well-known/x",
        "/.well-known/.hidden",
        "/.well-known.txt",
        "/.../x",
        "/.git/../.env",
    ];
    let server = dotted(site()).serve();
    let mut client = Client::of(&server);
    for target in hidden {
        let reply = client.ask("GET", target, "");
        assert_eq!((reply.status, reply.text().as_str()), (404, "Not found.\n"), "{target}");
    }
    for target in ["/.well-known/acme", "/%2Ewell-known/acme", "/d/../.well-known/acme"] {
        assert_eq!(client.ask("GET", target, "").text(), "dot", "{target}");
    }
    let server = dotted(site()).env("PAGECAST_DOTFILES", "allow").serve();
    let mut client = Client::of(&server);
    for target in hidden.into_iter().filter(|target| !matches!(*target, "/.git" | "/.git/")) {
        assert_eq!(client.ask("GET", target, "").text(), "dot", "{target}");
    }
    assert_eq!(client.ask("GET", "/.git", "").status, 301);
}

#[test]
fn a_directory_is_its_index_or_missing() {
    check(
        &site().serve(),
        &[
            ("/", 200, "<p>root"),
            ("/?x", 200, "<p>root"),
            ("/d/", 200, "<p>d"),
            ("/d/index.html", 200, "<p>d"),
            ("/bare/", 404, ""),
            ("/bare/none", 404, ""),
            ("/index-is-a-directory/", 404, ""),
        ],
    );
    let server = site().file("d/start.txt", b"start").env("PAGECAST_INDEX", "start.txt").serve();
    check(&server, &[("/d/", 200, "start"), ("/d/index.html", 200, "<p>d"), ("/", 404, "")]);
}

#[test]
fn a_directory_without_its_slash_redirects_to_it_and_keeps_the_query() {
    let site = site().file("with space/index.html", b"x").file("100%/index.html", b"x");
    let site =
        site.file("caf\u{e9}/index.html", b"x").file("what?/index.html", b"x").file("a#b/index.html", b"x");
    check_locations(
        &site.serve(),
        &[
            ("/d", "/d/"),
            ("/d?", "/d/?"),
            ("/d?x=1&y=%20%2F", "/d/?x=1&y=%20%2F"),
            ("/d?next=http://evil.example/", "/d/?next=http://evil.example/"),
            ("/d?a?b", "/d/?a?b"),
            ("/bare", "/bare/"),
            ("/d/deep", "/d/deep/"),
            ("/d//deep", "/d/deep/"),
            ("/d/../d/deep?q", "/d/deep/?q"),
            ("/%64", "/d/"),
            ("/with%20space", "/with%20space/"),
            ("/100%25", "/100%25/"),
            ("/caf%C3%A9", "/caf%C3%A9/"),
            ("/what%3F?x", "/what%3F/?x"),
            ("/a%23b", "/a%23b/"),
            ("http://other.example/d?x", "/d/?x"),
        ],
    );
}

#[test]
fn no_redirect_leads_to_another_host_or_injects_a_header() {
    let site = site()
        .file("evil.example/index.html", b"x")
        .file("\\evil.example/index.html", b"x")
        .file("x\r\nSet-Cookie: y/index.html", b"x")
        .file("http:/evil.example/index.html", b"x");
    check_locations(
        &site.serve(),
        &[
            ("//evil.example", "/evil.example/"),
            ("///evil.example", "/evil.example/"),
            ("/.//evil.example", "/evil.example/"),
            ("/d/..//evil.example", "/evil.example/"),
            ("/%2e//evil.example?x", "/evil.example/?x"),
            ("http://x//evil.example", "/evil.example/"),
            ("/%5Cevil.example", "/%5Cevil.example/"),
            ("//%5Cevil.example", "/%5Cevil.example/"),
            ("/x%0D%0ASet-Cookie:%20y", "/x%0D%0ASet-Cookie:%20y/"),
            ("/http:/evil.example", "/http:/evil.example/"),
            ("/http://evil.example", "/http:/evil.example/"),
            ("/d?%0D%0ASet-Cookie:%20y", "/d/?%0D%0ASet-Cookie:%20y"),
        ],
    );
}

#[test]
fn symlinks_are_followed_only_within_the_root() {
    let outside = outside();
    let server = linked(outside.path()).serve();
    check(
        &server,
        &[
            ("/in", 200, "alpha"),
            ("/d/up", 200, "alpha"),
            ("/twice", 200, "alpha"),
            ("/in-absolute", 200, "alpha"),
            ("/to-d/b.txt", 200, "beta"),
            ("/to-d/", 200, "<p>d"),
            ("/d/to-root/a.txt", 200, "alpha"),
            ("/to-d/../a.txt", 200, "alpha"),
        ],
    );
    check_locations(&server, &[("/to-d", "/to-d/")]);
    never_outside(&server);
}

#[test]
fn denied_symlinks_are_not_followed() {
    let outside = outside();
    let server = linked(outside.path()).env("PAGECAST_SYMLINKS", "deny").serve();
    check(
        &server,
        &[
            ("/a.txt", 200, "alpha"),
            ("/d/b.txt", 200, "beta"),
            ("/in", 404, ""),
            ("/d/up", 404, ""),
            ("/twice", 404, ""),
            ("/in-absolute", 404, ""),
            ("/to-d", 404, ""),
            ("/to-d/", 404, ""),
            ("/to-d/b.txt", 404, ""),
            ("/d/to-root/a.txt", 404, ""),
        ],
    );
    never_outside(&server);
}

#[test]
fn magic_links_are_not_followed_even_within_the_root() {
    let server = Site::new().env("PAGECAST_ROOT", "/proc/self").serve();
    let mut client = Client::of(&server);
    for target in [
        "/root/etc/passwd",
        "/cwd/",
        "/cwd/Cargo.toml",
        "/exe",
        "/fd/0",
        "/fd/1",
        "/task/self/exe",
        "/../../etc/passwd",
    ] {
        let reply = client.ask("GET", target, "");
        assert!(matches!(reply.status, 400 | 404), "{target}: {}", reply.status);
    }
}

fn site() -> Site {
    Site::with([
        ("a.txt", b"alpha"),
        ("index.html", b"<p>root"),
        ("d/index.html", b"<p>d"),
        ("d/b.txt", b"beta"),
        ("d/deep/c.txt", b"gamma"),
        ("bare/c.txt", b"gamma"),
        ("index-is-a-directory/index.html/x", b""),
    ])
}

fn outside() -> tempfile::TempDir {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret.txt"), SENTINEL).unwrap();
    std::fs::write(outside.path().join("index.html"), SENTINEL).unwrap();
    outside
}

fn linked(outside: &Path) -> Site {
    let site = site();
    let up = Path::new("..").join(outside.file_name().unwrap());
    let here = site.path().to_owned();
    for (from, to) in [
        ("in", Path::new("a.txt")),
        ("d/up", Path::new("../a.txt")),
        ("twice", Path::new("in")),
        ("to-d", Path::new("d")),
        ("d/to-root", Path::new("..")),
        ("out-absolute", &outside.join("secret.txt")),
        ("out-relative", &up.join("secret.txt")),
        ("out-directory", outside),
        ("out-directory-relative", &up),
        ("out-twice", Path::new("out-relative")),
        ("d/out", &Path::new("..").join(up.join("secret.txt"))),
        ("parent", Path::new("..")),
        ("system", Path::new("/")),
        ("magic", Path::new("/proc/self/root")),
        ("handle", Path::new("/proc/self/fd/0")),
        ("dangling", Path::new("none")),
        ("loop", Path::new("loop")),
        ("in-absolute", &here.join("a.txt")),
    ] {
        symlink(to, here.join(from)).unwrap();
    }
    site
}

fn never_outside(server: &Server) {
    let mut client = Client::of(server);
    for target in [
        "/out-absolute",
        "/out-relative",
        "/out-directory",
        "/out-directory/",
        "/out-directory/secret.txt",
        "/out-directory-relative/",
        "/out-directory-relative/secret.txt",
        "/out-twice",
        "/d/out",
        "/parent",
        "/parent/",
        "/system/",
        "/system/etc/passwd",
        "/magic/etc/passwd",
        "/handle",
        "/dangling",
        "/loop",
        "/loop/x",
    ] {
        for _ in 0..2 {
            let reply = client.ask("GET", target, "");
            assert_eq!((reply.status, reply.text().as_str()), (404, "Not found.\n"), "{target}");
        }
    }
}

/// Requests `target` and checks that nothing from outside is returned; reconnects after a response that closes.
fn stays_inside(client: &mut Client, server: &Server, target: &str) {
    let reply = client.ask("GET", target, "");
    assert!(matches!(reply.status, 400 | 404), "{target}: {}", reply.status);
    let text = reply.text();
    assert!(!text.contains(SENTINEL) && !text.contains("root:"), "{target}: {text}");
    if is_last(&reply) {
        *client = Client::of(server);
    }
}

fn is_last(reply: &Reply) -> bool {
    reply.field("connection") == Some("close")
}

/// Targets, their status, and for a 200 the text.
fn check(server: &Server, table: &[(&str, u16, &str)]) {
    for (target, status, text) in table {
        let reply = server.get(target);
        assert_eq!(reply.status, *status, "{target}");
        if *status == 200 {
            assert_eq!(reply.text(), *text, "{target}");
        }
    }
}

fn check_locations(server: &Server, table: &[(&str, &str)]) {
    for (target, location) in table {
        let reply = server.get(target);
        assert_eq!((reply.status, reply.field("location")), (301, Some(*location)), "{target}");
        assert_eq!(reply.field("set-cookie"), None, "{target}");
    }
}
