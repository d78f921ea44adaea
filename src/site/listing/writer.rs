//! Renders a listing in chunks.

use std::io;

use bytes::Bytes;

use super::{html, json};
use crate::files::directory::Directory;
use crate::http::query::ListingFormat;
use crate::site::listing::page::{ListingPage, Summary};

/// Renders the listing of `directory` in chunks of about [`CHUNK`] bytes. Sorts the entries at once, which takes long if there
/// are many; holds them, and one chunk of the text at a time.
pub(crate) fn listing(
    directory: Directory,
    page: ListingPage,
) -> impl Iterator<Item = io::Result<Bytes>> + Send + 'static {
    let Directory { mut entries, is_truncated } = directory;
    page.sorting.sort(&mut entries);
    let summary = Summary::of(&entries, is_truncated);
    let mut parts: Box<dyn Iterator<Item = String> + Send> = match page.format {
        ListingFormat::Html => Box::new(html::parts(&page, &summary, entries)),
        ListingFormat::Json => Box::new(json::parts(page, &summary, entries)),
    };
    std::iter::from_fn(move || {
        let mut out = String::with_capacity(CHUNK + ROOM);
        while out.len() < CHUNK
            && let Some(part) = parts.next()
        {
            out.push_str(&part);
        }
        (!out.is_empty()).then(|| Ok(out.into()))
    })
}

/// Bytes of a chunk; the last one has fewer.
const CHUNK: usize = 32 * 1024;

/// Bytes by which the last entry may exceed a chunk.
const ROOM: usize = 4 * 1024;

#[cfg(test)]
pub(super) mod tests {
    use super::super::style::content_security_policy;
    use super::*;
    use crate::files::directory::{DirectoryEntry, EntryKind};
    use crate::files::version::Version;
    use crate::http::query::{Sort, SortOrder};
    use crate::http::target::SitePath;
    use crate::site::listing::sort::Sorting;
    use std::sync::Arc;

    use base64::Engine;
    use sha2::Digest;

    pub(crate) fn file(name: &[u8], size: u64, seconds: i64) -> DirectoryEntry {
        DirectoryEntry {
            name: name.into(),
            kind: EntryKind::File,
            is_symlink: false,
            version: Version::sample(size, seconds),
        }
    }

    pub(crate) fn directory(name: &[u8], seconds: i64) -> DirectoryEntry {
        let version = Version::sample(4096, seconds);
        DirectoryEntry { name: name.into(), kind: EntryKind::Directory, is_symlink: false, version }
    }

    fn page(path: &str, format: ListingFormat) -> ListingPage {
        ListingPage {
            path: SitePath::parse(path.as_bytes()).unwrap().path.into_owned(),
            has_slash: true,
            sorting: Sorting::BY_NAME,
            format,
            has_archives: true,
            etag_of: Arc::new(|version| {
                Some(String::from_utf8(version.entity_tag(None).as_bytes().to_vec()).unwrap())
            }),
        }
    }

    fn chunks(page: ListingPage, entries: Vec<DirectoryEntry>, is_truncated: bool) -> Vec<Bytes> {
        listing(Directory { entries, is_truncated }, page).map(Result::unwrap).collect()
    }

    fn text(page: ListingPage, entries: Vec<DirectoryEntry>) -> String {
        String::from_utf8(chunks(page, entries, false).concat()).unwrap()
    }

    fn names(sorting: Sorting, entries: Vec<DirectoryEntry>) -> String {
        let text = text(ListingPage { sorting, ..page("/", ListingFormat::Json) }, entries);
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        let names: Vec<_> = parsed["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["name"].as_str().unwrap())
            .collect();
        names.join(" ")
    }

    #[test]
    fn entries_are_sorted_as_the_query_says() {
        let entries = || {
            vec![
                file(b"b10", 5, 30),
                directory(b"z", 20),
                file(b"B2", 7, 10),
                file(b"a", 5, 40),
                directory(b"c", 50),
            ]
        };
        for (key, order, expected) in [
            (Sort::Name, SortOrder::Ascending, "c z a B2 b10"),
            (Sort::Name, SortOrder::Descending, "z c b10 B2 a"),
            (Sort::Size, SortOrder::Ascending, "c z a b10 B2"),
            (Sort::Size, SortOrder::Descending, "B2 a b10 c z"),
            (Sort::Date, SortOrder::Ascending, "B2 z b10 a c"),
            (Sort::Date, SortOrder::Descending, "c a b10 z B2"),
        ] {
            assert_eq!(names(Sorting { key, order }, entries()), expected, "{key:?} {order:?}");
        }
    }

    #[test]
    fn json_has_the_known_facts_of_each_entry() {
        let entries = vec![file(b"\"a\"\xff", 5, 1_700_000_000), directory(b"d", -1)];
        let text = text(page("/x%20y/", ListingFormat::Json), entries);
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        let etag = Version::sample(5, 1_700_000_000).entity_tag(None);
        let expected = serde_json::json!({
            "path": "/x y/",
            "entries": [
                {"name": "d", "kind": "directory", "mtime": "1969-12-31T23:59:59.0000005Z", "href": "./d/"},
                {
                    "name": "\"a\"\u{fffd}",
                    "kind": "file",
                    "size": 5,
                    "mtime": "2023-11-14T22:13:20.0000005Z",
                    "etag": str::from_utf8(etag.as_bytes()).unwrap(),
                    "href": "./%22a%22%FF",
                },
            ],
            "truncated": false,
        });
        assert_eq!(parsed, expected);
        let none: serde_json::Value =
            serde_json::from_slice(&chunks(page("/", ListingFormat::Json), vec![], true).concat()).unwrap();
        assert_eq!(none, serde_json::json!({"path": "/", "entries": [], "truncated": true}));
    }

    #[test]
    fn a_page_shows_names_and_escapes_their_markup() {
        let hostile: &[u8] = b"<script>alert(1)</script> \"'&\n\xff";
        let text = text(
            page("/%3Cb%3E/c&d/", ListingFormat::Html),
            vec![file(hostile, 1536, 0), directory(hostile, 0)],
        );
        let escaped = "&lt;script&gt;alert(1)&lt;/script&gt; &quot;&#39;&amp;\u{240a}\u{fffd}";
        assert_eq!(text.matches(&format!("<bdi>{escaped}</bdi>")).count(), 2, "{text}");
        assert!(!text.contains("<script") && !text.contains("<b>"), "{text}");
        assert!(text.contains("<title>/&lt;b&gt;/c&amp;d/</title>"), "{text}");
        for part in [
            "<a href=\"../../\">Home</a>",
            "<a href=\"../\"><bdi>&lt;b&gt;</bdi></a>",
            "<span aria-current=\"page\"><bdi>c&amp;d</bdi></span>",
            "href=\"../\">Parent directory</a>",
            "<span title=\"1,536 bytes\">1.5 KiB</span>",
            "<time datetime=\"1970-01-01T00:00:00Z\"",
            "1 directory, 1 file, <span title=\"1,536 bytes\">",
            "href=\"?archive=tar.zst\"",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn the_heading_of_the_sorted_column_reverses_the_order() {
        let head = |key, order| {
            let sorting = Sorting { key, order };
            text(ListingPage { sorting, ..page("/", ListingFormat::Html) }, vec![])
        };
        let by_name = head(Sort::Name, SortOrder::Ascending);
        assert!(
            by_name.contains("aria-sort=\"ascending\"><a href=\"?sort=name&amp;order=desc\""),
            "{by_name}"
        );
        assert!(by_name.contains("class=\"size\"><a href=\"?sort=size&amp;order=desc\""), "{by_name}");
        let by_size = head(Sort::Size, SortOrder::Descending);
        assert!(
            by_size.contains("aria-sort=\"descending\"><a href=\"?sort=size&amp;order=asc\""),
            "{by_size}"
        );
        assert_eq!(by_size.matches("aria-sort").count(), 1 + STYLED_SORTS, "{by_size}");
    }

    /// The style sheet contains the attribute as well.
    const STYLED_SORTS: usize = 1;

    #[test]
    fn an_empty_directory_and_a_truncated_one_say_so() {
        let empty = text(page("/", ListingFormat::Html), vec![]);
        assert!(empty.contains("This directory is empty.") && !empty.contains("Parent directory"), "{empty}");
        assert!(!empty.contains("?archive="), "{empty}");
        let cut = chunks(page("/", ListingFormat::Html), vec![file(b"a", 1, 0)], true).concat();
        let cut = String::from_utf8(cut).unwrap();
        assert!(cut.contains("more entries than are listed: 1 of them"), "{cut}");
    }

    #[test]
    fn archives_are_offered_only_if_they_are_on() {
        let without = ListingPage { has_archives: false, ..page("/", ListingFormat::Html) };
        assert!(!text(without, vec![file(b"a", 1, 0)]).contains("?archive="));
    }

    #[test]
    fn the_policy_has_the_hash_of_the_style_that_is_sent() {
        let text = text(page("/", ListingFormat::Html), vec![]);
        let (_, rest) = text.split_once("<style>").unwrap();
        let (style, _) = rest.split_once("</style>").unwrap();
        let hash = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(style));
        assert!(content_security_policy().contains(&format!("'sha256-{hash}'")));
        assert!(!text.contains("style=") && !text.contains(" on"), "{text}");
    }

    #[test]
    fn a_hundred_thousand_entries_come_in_chunks_of_bounded_size() {
        for format in [ListingFormat::Html, ListingFormat::Json] {
            let entries = (0..100_000).map(|index| file(format!("file-{index}.bin").as_bytes(), index, 0));
            let chunks = chunks(page("/", format), entries.collect(), false);
            let (last, full) = chunks.split_last().unwrap();
            assert!(last.len() <= CHUNK + ROOM);
            for chunk in full {
                assert!((CHUNK..=CHUNK + ROOM).contains(&chunk.len()), "{}", chunk.len());
            }
            let text = chunks.concat();
            let finder = memchr::memmem::find_iter(&text, b"./file-").count();
            assert_eq!(finder, 100_000);
        }
    }
}
