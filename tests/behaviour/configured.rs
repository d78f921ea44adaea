//! Helpers for tests of configured sites.

use crate::client::Client;
use crate::site::{Reply, Server, Site};

/// The site under these `[[rule]]` tables.
pub fn ruled(site: Site, rules: &str) -> Site {
    let path = site.path().join(".pagecast.toml");
    std::fs::write(&path, rules).unwrap();
    site.env("PAGECAST_CONFIG", path.to_str().unwrap())
}

/// Values of all header lines of a name in lower case.
pub fn lines<'a>(reply: &'a Reply, name: &str) -> Vec<&'a str> {
    reply.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
}

/// The value of a header that must occur once.
#[track_caller]
pub fn only<'a>(reply: &'a Reply, name: &str) -> &'a str {
    let lines = lines(reply, name);
    assert_eq!(lines.len(), 1, "{name} in {:?}", reply.fields);
    lines[0]
}

/// Checks the status, and Location or body, of each target. An empty expectation accepts any body, [`LISTING`] any page.
#[track_caller]
pub fn check_replies(server: &Server, cases: &[(&str, u16, &str)]) {
    let mut client = Client::of(server);
    for &(target, status, expected) in cases {
        // GET twice: the second request finds the path in the cache.
        for method in ["GET", "HEAD", "GET"] {
            let reply = client.ask(method, target, "");
            assert_eq!(reply.status, status, "{method} {target}");
            match (status, expected, method) {
                (300..400, ..) => assert_eq!(only(&reply, "location"), expected, "{method} {target}"),
                (_, "", _) | (_, LISTING, "HEAD") => {}
                (_, LISTING, _) => assert!(reply.text().contains("</html>"), "{target}: {}", reply.text()),
                (_, _, "GET") => assert_eq!(reply.text(), expected, "{target}"),
                _ => assert_eq!(reply.content_length(), Some(expected.len() as u64), "{target}"),
            }
        }
    }
}

/// Expected body of a directory that is listed.
pub const LISTING: &str = "a listing";

/// Headers of a browser that loads a page.
pub const NAVIGATES: &str = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
