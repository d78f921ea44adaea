//! The page for people. It has no script and loads nothing.

use std::iter::once;

use super::links::ListingLinks;
use super::page::{ListingPage, Summary};
use super::sort::default_order;
use super::style::STYLE;
use crate::files::directory::{DirectoryEntry, EntryKind};
use crate::http::query::{ListingFormat, Sort, SortOrder};
use crate::site::archive::writer::ArchiveFormat;
use crate::site::listing::format::{counted, grouped, html_name, modified, size};

/// Renders the page in parts: all before the rows, each row, and the rest.
pub(super) fn parts(
    page: &ListingPage,
    summary: &Summary,
    entries: Vec<DirectoryEntry>,
) -> impl Iterator<Item = String> + use<> {
    let links = ListingLinks::of(page);
    let (head, foot) = (head(page, &links, summary), foot(page, summary));
    let rows = entries.into_iter().map(move |entry| row(&links, &entry));
    once(head).chain(rows).chain(once(foot))
}

fn head(page: &ListingPage, links: &ListingLinks, summary: &Summary) -> String {
    let (title, heading) = match page.path.is_root() {
        true => (ROOT.to_owned(), ROOT.to_owned()),
        false => (format!("/{}/", html_name(page.path.as_bytes())), html_name(page.path.file_name())),
    };
    let columns: String = Sort::ALL.into_iter().map(|key| column(page, key)).collect();
    let (breadcrumbs, totals) = (breadcrumbs(page, links), totals(summary));
    let (mut notice, mut rows) = (String::new(), String::new());
    if summary.is_truncated {
        notice = format!(
            "<p class=\"notice\" role=\"note\">This directory has more entries than are listed: \
             {} of them are shown.</p>\n",
            grouped(summary.entries())
        );
    }
    if !page.path.is_root() {
        let up = links.up(1);
        rows =
            format!("<tr><td colspan=\"3\"><a class=\"up\" href=\"{up}\">Parent directory</a></td></tr>\n");
    }
    if summary.entries() == 0 {
        rows.push_str("<tr><td colspan=\"3\" class=\"empty\">This directory is empty.</td></tr>\n");
    }
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="alternate" type="application/json" href="?format=json">
<style>{STYLE}</style>
</head>
<body>
<header>
{breadcrumbs}<h1><bdi>{heading}</bdi></h1>
<p class="summary">{totals}</p>
</header>
<main>
{notice}<table>
<caption>Contents of <bdi>{heading}</bdi></caption>
<thead>
<tr>{columns}</tr>
</thead>
<tbody>
{rows}"#
    )
}

fn row(links: &ListingLinks, entry: &DirectoryEntry) -> String {
    let (class, slash, size) = match entry.kind {
        EntryKind::Directory => ("dir", "/", "–".to_owned()),
        EntryKind::File => ("file", "", exact_size(entry.version.size)),
    };
    let date = modified(&entry.version).map_or_else(String::new, |moment| {
        let shown = moment.strftime("%Y-%m-%d<span> %H:%M</span>");
        format!(r#"<time datetime="{moment:.0}" title="{moment:.0}">{shown}</time>"#)
    });
    let (href, name) = (links.to(entry), html_name(&entry.name));
    format!(
        "<tr><th scope=\"row\"><a class=\"{class}\" href=\"{href}\"><bdi>{name}</bdi>{slash}</a></th>\
         <td class=\"size\">{size}</td><td class=\"date\">{date}</td></tr>\n"
    )
}

fn foot(page: &ListingPage, summary: &Summary) -> String {
    let mut archives = String::new();
    if page.has_archives && summary.entries() > 0 {
        let words = ArchiveFormat::ALL.into_iter().map(ArchiveFormat::name);
        let links =
            words.map(|word| format!(r#" <a href="?archive={word}" rel="nofollow" download>{word}</a>"#));
        archives = format!("<p>Download all as{}</p>\n", links.collect::<String>());
    }
    let json = ListingFormat::Json.media_type();
    format!(
        r#"</tbody>
</table>
</main>
<footer>
{archives}<p>List as <a href="?format=json" rel="nofollow" type="{json}">JSON</a></p>
</footer>
</body>
</html>
"#
    )
}

fn breadcrumbs(page: &ListingPage, links: &ListingLinks) -> String {
    let depth = page.path.segments().count();
    if depth == 0 {
        return String::new();
    }
    let crumb = |(index, segment)| match (depth - 1 - index, html_name(segment)) {
        (0, name) => format!(r#"<li><span aria-current="page"><bdi>{name}</bdi></span></li>"#),
        (levels, name) => format!(r#"<li><a href="{}"><bdi>{name}</bdi></a></li>"#, links.up(levels)),
    };
    let crumbs: String = page.path.segments().enumerate().map(crumb).collect();
    let root = links.up(depth);
    format!("<nav aria-label=\"Breadcrumb\"><ol><li><a href=\"{root}\">{ROOT}</a></li>{crumbs}</ol></nav>\n")
}

/// The heading of a column: a link that sorts by it, or reverses the order if it is sorted by already.
fn column(page: &ListingPage, key: Sort) -> String {
    let current = (page.sorting.key == key).then_some(page.sorting.order);
    let next = current.map_or(default_order(key), SortOrder::reversed).name();
    let (state, arrow) = match current {
        Some(SortOrder::Ascending) => (" aria-sort=\"ascending\"", "▲"),
        Some(SortOrder::Descending) => (" aria-sort=\"descending\"", "▼"),
        None => ("", ""),
    };
    let heading = match key {
        Sort::Name => "Name",
        Sort::Size => "Size",
        Sort::Date => "Modified<small> (UTC)</small>",
    };
    let word = key.name();
    format!(
        "<th scope=\"col\" class=\"{word}\"{state}><a href=\"?sort={word}&amp;order={next}\" \
         rel=\"nofollow\">{heading}<span aria-hidden=\"true\">{arrow}</span></a></th>"
    )
}

fn totals(summary: &Summary) -> String {
    let directories = counted(summary.directories, "directory", "directories");
    let files = counted(summary.files, "file", "files");
    match summary.files {
        0 => format!("{directories}, {files}"),
        _ => format!("{directories}, {files}, {}", exact_size(summary.bytes)),
    }
}

fn exact_size(bytes: u64) -> String {
    format!(r#"<span title="{}">{}</span>"#, counted(bytes, "byte", "bytes"), size(bytes))
}

/// Shown in place of the root's name on the disk, which stays private.
const ROOT: &str = "Home";
