//! The object for programs (RFC 8259).
//!
//! An object and not a bare array: a list that may be cut short has to say whether it was.
//!
//! ```json
//! {"path": "/docs/", "entries": [
//!   {"name": "a.txt", "kind": "file", "size": 5, "mtime": "2026-01-02T03:04:05.678Z", "etag": "\"5-1\"", "href": "./a.txt"},
//!   {"name": "img", "kind": "directory", "mtime": "2026-01-02T03:04:05Z", "href": "./img/"}
//! ], "truncated": false}
//! ```
//!
//! `name` has replacement characters where the name is not UTF-8; `href`, relative to the URL that was asked for, is exact.
//! `etag` is written as in its field. What is not known is absent.

use serde::Serialize;

use super::links::ListingLinks;
use super::page::{ListingPage, Summary};
use crate::files::directory::{DirectoryEntry, EntryKind};
use crate::site::listing::format::{modified, put};

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
    href: &'a str,
}

pub(super) fn head(page: &ListingPage, out: &mut String) {
    let slash = if page.path.is_root() { "" } else { "/" };
    let path = format!("/{}{slash}", String::from_utf8_lossy(page.path.as_bytes()));
    put(out, format_args!("{{\"path\": {}, \"entries\": [", text(&path)));
}

pub(super) fn entry(
    page: &ListingPage,
    links: &ListingLinks,
    is_first: bool,
    entry: &DirectoryEntry,
    out: &mut String,
) {
    let mut href = String::new();
    links.write_to(entry, &mut href);
    let (kind, size, etag) = match entry.kind {
        EntryKind::Directory => ("directory", None, None),
        EntryKind::File => {
            let etag = (page.etag_of)(&page.path.entry(&entry.name), &entry.version);
            ("file", Some(entry.version.size), etag)
        }
    };
    let mtime = modified(&entry.version).map(|moment| moment.to_string());
    let name = String::from_utf8_lossy(&entry.name);
    let shown = JsonEntry { name: &name, kind, size, mtime, etag, href: &href };
    out.push_str(if is_first { "\n" } else { ",\n" });
    out.push_str(&text(&shown));
}

pub(super) fn foot(summary: &Summary, out: &mut String) {
    put(out, format_args!("\n], \"truncated\": {}}}\n", summary.is_truncated));
}

/// Strings and numbers can always be written.
fn text(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
