//! The JSON object for programs (RFC 8259).
//!
//! An object rather than a bare array, so that it can say whether the list is truncated.
//!
//! ```json
//! {"path": "/docs/", "entries": [
//!   {"name": "a.txt", "kind": "file", "size": 5, "mtime": "2026-01-02T03:04:05.678Z", "etag": "\"5-1\"", "href": "./a.txt"},
//!   {"name": "img", "kind": "directory", "mtime": "2026-01-02T03:04:05Z", "href": "./img/"}
//! ], "truncated": false}
//! ```
//!
//! `name` has replacement characters if the name is not UTF-8; `href`, relative to the requested URL, is exact. `etag` is
//! written as in the ETag header. Unknown values are absent.

use std::iter::once;

use serde::Serialize;

use super::links::ListingLinks;
use super::page::{ListingPage, Summary};
use crate::files::directory::{DirectoryEntry, EntryKind};
use crate::site::listing::format::modified;

#[derive(Serialize)]
struct JsonEntry<'a> {
    name: &'a str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    href: String,
}

/// Renders the object in parts: all before the entries, each entry, and the rest.
pub(super) fn parts(
    page: ListingPage,
    summary: &Summary,
    entries: Vec<DirectoryEntry>,
) -> impl Iterator<Item = String> + use<> {
    let slash = if page.path.is_root() { "" } else { "/" };
    let path = format!("/{}{slash}", String::from_utf8_lossy(page.path.as_bytes()));
    let head = format!("{{\"path\": {}, \"entries\": [", json(&path));
    let foot = format!("\n], \"truncated\": {}}}\n", summary.is_truncated);
    let links = ListingLinks::of(&page);
    let separators = once("\n").chain(std::iter::repeat(",\n"));
    let entries = entries.into_iter().zip(separators);
    let entries = entries.map(move |(of, separator)| format!("{separator}{}", entry(&page, &links, &of)));
    once(head).chain(entries).chain(once(foot))
}

fn entry(page: &ListingPage, links: &ListingLinks, entry: &DirectoryEntry) -> String {
    let (kind, size, etag) = match entry.kind {
        EntryKind::Directory => ("directory", None, None),
        EntryKind::File => ("file", Some(entry.version.size), (page.etag_of)(&entry.version)),
    };
    let mtime = modified(&entry.version).map(|moment| moment.to_string());
    let name = String::from_utf8_lossy(&entry.name);
    json(&JsonEntry { name: &name, kind, size, mtime, etag, href: links.to(entry) })
}

/// Strings and numbers can always be serialized.
fn json(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
