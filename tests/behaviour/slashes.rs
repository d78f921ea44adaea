//! Policies for the slash at the end of a path.

use crate::configured::{LISTING, check_replies};
use crate::site::{Server, Site};

fn site(policy: &str, listing: &str) -> Server {
    Site::with([("index.html", b"root"), ("d/index.html", b"d"), ("bare/x y.txt", b"x"), ("a.txt", b"a")])
        .file("d/\\evil.com/index.html", b"e")
        .file("ö?/index.html", b"o")
        .env("PAGECAST_TRAILING_SLASH", policy)
        .env("PAGECAST_LISTING", listing)
        .serve()
}

#[test]
fn the_policy_add_redirects_directories_to_a_trailing_slash() {
    let cases = [
        ("/", 200, "root"),
        ("/d", 301, "/d/"),
        ("/d?x=/y&z=%20", 301, "/d/?x=/y&z=%20"),
        ("/d/", 200, "d"),
        ("//d", 301, "/d/"),
        ("/%2e/d", 301, "/d/"),
        ("/d/%5Cevil.com", 301, "/d/%5Cevil.com/"),
        ("/d/\\evil.com", 301, "/d/%5Cevil.com/"),
        ("/%C3%B6%3F", 301, "/%C3%B6%3F/"),
        ("/a.txt", 200, "a"),
        ("/a.txt/", 404, ""),
        ("/d/index.html", 200, "d"),
        ("/bare", 301, "/bare/"),
        ("/bare/", 404, ""),
        ("//evil.com/..", 200, "root"),
        ("//evil.com/../d", 301, "/d/"),
        ("/%2Fevil.com", 400, ""),
        ("/none", 404, ""),
        ("/none/", 404, ""),
    ];
    check_replies(&site("add", "off"), &cases);
    check_replies(
        &site("add", "on"),
        &[("/bare", 301, "/bare/"), ("/bare/", 200, LISTING), ("/a.txt/", 404, "")],
    );
}

#[test]
fn the_policy_remove_redirects_to_no_trailing_slash_except_at_the_root() {
    let cases = [
        ("/", 200, "root"),
        ("//", 200, "root"),
        ("/d", 200, "d"),
        ("/d/", 301, "/d"),
        ("/d/?x=1", 301, "/d?x=1"),
        ("//d//", 301, "/d"),
        ("/d/.", 301, "/d"),
        ("/d/%5Cevil.com/", 301, "/d/%5Cevil.com"),
        ("/%C3%B6%3F/", 301, "/%C3%B6%3F"),
        ("/a.txt", 200, "a"),
        ("/a.txt/", 301, "/a.txt"),
        ("/bare", 404, ""),
        ("/bare/", 301, "/bare"),
        ("//evil.com/..", 200, "root"),
        ("//evil.com/", 404, ""),
        ("/none/", 404, ""),
    ];
    check_replies(&site("remove", "off"), &cases);
    let listed = site("remove", "on");
    check_replies(&listed, &[("/bare", 200, LISTING), ("/bare/", 301, "/bare"), ("/a.txt/", 301, "/a.txt")]);
    assert!(
        listed.get("/bare").text().contains("href=\"./bare/x%20y.txt\""),
        "{}",
        listed.get("/bare").text()
    );
}

#[test]
fn the_policy_ignore_serves_both_names() {
    let cases = [
        ("/", 200, "root"),
        ("/d", 200, "d"),
        ("/d/", 200, "d"),
        ("/d/?x=1", 200, "d"),
        ("/a.txt", 200, "a"),
        ("/a.txt/", 200, "a"),
        ("/bare", 404, ""),
        ("/bare/", 404, ""),
        ("/none/", 404, ""),
    ];
    check_replies(&site("ignore", "off"), &cases);
    check_replies(&site("ignore", "on"), &[("/bare", 200, LISTING), ("/bare/", 200, LISTING)]);
}
