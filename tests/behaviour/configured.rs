//! What tests of configured sites have in common.

use crate::site::{Reply, Site};

/// The site under these `[[rule]]` tables.
pub fn ruled(site: Site, rules: &str) -> Site {
    let path = site.path().join(".pagecast.toml");
    std::fs::write(&path, rules).unwrap();
    site.env("PAGECAST_CONFIG", path.to_str().unwrap())
}

/// The values of all field lines of a name in lower case.
pub fn lines<'a>(reply: &'a Reply, name: &str) -> Vec<&'a str> {
    reply.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
}

/// The one value of a field that there is to be once.
#[track_caller]
pub fn only<'a>(reply: &'a Reply, name: &str) -> &'a str {
    let lines = lines(reply, name);
    assert_eq!(lines.len(), 1, "{name} in {:?}", reply.fields);
    lines[0]
}

/// What a browser sends that loads a page.
pub const NAVIGATES: &str = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
