//! Helpers for tests of configured sites.

use crate::site::{Reply, Site};

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

/// Headers of a browser that loads a page.
pub const NAVIGATES: &str = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
