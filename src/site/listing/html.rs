//! The page for people. It has no script and loads nothing.

use super::links::ListingLinks;
use super::page::{ListingPage, Summary};
use super::sort::usual_order;
use super::style::STYLE;
use crate::files::directory::{DirectoryEntry, EntryKind};
use crate::http::query::{ListingFormat, Sort, SortOrder};
use crate::site::archive::writer::ArchiveFormat;
use crate::site::listing::format::{counted, escape, grouped, modified, name, put, size};

pub(super) fn head(page: &ListingPage, links: &ListingLinks, summary: &Summary, out: &mut String) {
    let title = if page.path.is_root() { ROOT.to_owned() } else { name(page.path.file_name()) };
    out.push_str("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>");
    match page.path.is_root() {
        true => out.push_str(ROOT),
        false => escape(&format!("/{}/", name(page.path.as_bytes())), out),
    }
    out.push_str(
        "</title>\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <link rel=\"alternate\" type=\"application/json\" href=\"?format=json\">\n<style>",
    );
    out.push_str(STYLE);
    out.push_str("</style>\n</head>\n<body>\n<header>\n");
    breadcrumbs(page, links, out);
    out.push_str("<h1><bdi>");
    escape(&title, out);
    out.push_str("</bdi></h1>\n<p class=\"summary\">");
    totals(summary, out);
    out.push_str("</p>\n</header>\n<main>\n");
    if summary.is_truncated {
        put(
            out,
            format_args!(
                "<p class=\"notice\" role=\"note\">This directory has more entries than are listed: \
                 {} of them are shown.</p>\n",
                grouped(summary.entries())
            ),
        );
    }
    out.push_str("<table>\n<caption>Contents of <bdi>");
    escape(&title, out);
    out.push_str("</bdi></caption>\n<thead>\n<tr>");
    Sort::ALL.into_iter().for_each(|key| column(page, key, out));
    out.push_str("</tr>\n</thead>\n<tbody>\n");
    if !page.path.is_root() {
        put(
            out,
            format_args!(
                "<tr><td colspan=\"3\"><a class=\"up\" href=\"{}\">Parent directory</a></td></tr>\n",
                links.up(1)
            ),
        );
    }
    if summary.entries() == 0 {
        out.push_str("<tr><td colspan=\"3\" class=\"empty\">This directory is empty.</td></tr>\n");
    }
}

pub(super) fn row(links: &ListingLinks, entry: &DirectoryEntry, out: &mut String) {
    let (class, slash) = match entry.kind {
        EntryKind::Directory => ("dir", "/"),
        EntryKind::File => ("file", ""),
    };
    put(out, format_args!("<tr><th scope=\"row\"><a class=\"{class}\" href=\""));
    links.write_to(entry, out);
    out.push_str("\"><bdi>");
    escape(&name(&entry.name), out);
    put(out, format_args!("</bdi>{slash}</a></th><td class=\"size\">"));
    match entry.kind {
        EntryKind::Directory => out.push('–'),
        EntryKind::File => exact_size(entry.version.size, out),
    }
    out.push_str("</td><td class=\"date\">");
    if let Some(moment) = modified(&entry.version) {
        let shown = moment.strftime("%Y-%m-%d<span> %H:%M</span>");
        put(out, format_args!("<time datetime=\"{moment:.0}\" title=\"{moment:.0}\">{shown}</time>"));
    }
    out.push_str("</td></tr>\n");
}

pub(super) fn foot(page: &ListingPage, summary: &Summary, out: &mut String) {
    out.push_str("</tbody>\n</table>\n</main>\n<footer>\n");
    if page.has_archives && summary.entries() > 0 {
        out.push_str("<p>Download all as");
        for format in ArchiveFormat::ALL {
            let word = format.word();
            put(out, format_args!(" <a href=\"?archive={word}\" rel=\"nofollow\" download>{word}</a>"));
        }
        out.push_str("</p>\n");
    }
    put(
        out,
        format_args!(
            "<p>List as <a href=\"?format=json\" rel=\"nofollow\" type=\"{}\">JSON</a></p>\n",
            ListingFormat::Json.media_type()
        ),
    );
    out.push_str("</footer>\n</body>\n</html>\n");
}

fn breadcrumbs(page: &ListingPage, links: &ListingLinks, out: &mut String) {
    let depth = page.path.segments().count();
    if depth == 0 {
        return;
    }
    put(
        out,
        format_args!(
            "<nav aria-label=\"Breadcrumb\"><ol><li><a href=\"{}\">{ROOT}</a></li>",
            links.up(depth)
        ),
    );
    for (index, segment) in page.path.segments().enumerate() {
        let levels = depth - 1 - index;
        match levels {
            0 => out.push_str("<li><span aria-current=\"page\"><bdi>"),
            _ => put(out, format_args!("<li><a href=\"{}\"><bdi>", links.up(levels))),
        }
        escape(&name(segment), out);
        out.push_str(if levels == 0 { "</bdi></span></li>" } else { "</bdi></a></li>" });
    }
    out.push_str("</ol></nav>\n");
}

/// A column's heading: a link that sorts by it, or the other way round where it is sorted by already.
fn column(page: &ListingPage, key: Sort, out: &mut String) {
    let current = (page.sorting.key == key).then_some(page.sorting.order);
    let next = current.map_or(usual_order(key), SortOrder::reversed);
    let (state, arrow) = match current {
        Some(SortOrder::Ascending) => (" aria-sort=\"ascending\"", "▲"),
        Some(SortOrder::Descending) => (" aria-sort=\"descending\"", "▼"),
        None => ("", ""),
    };
    let (word, heading) = (key.name(), heading(key));
    put(
        out,
        format_args!(
            "<th scope=\"col\" class=\"{word}\"{state}><a href=\"?sort={word}&amp;order={}\" \
             rel=\"nofollow\">{heading}<span aria-hidden=\"true\">{arrow}</span></a></th>",
            next.name()
        ),
    );
}

const fn heading(key: Sort) -> &'static str {
    match key {
        Sort::Name => "Name",
        Sort::Size => "Size",
        Sort::Date => "Modified<small> (UTC)</small>",
    }
}

fn totals(summary: &Summary, out: &mut String) {
    let directories = counted(summary.directories, "directory", "directories");
    let files = counted(summary.files, "file", "files");
    put(out, format_args!("{directories}, {files}"));
    if summary.files > 0 {
        out.push_str(", ");
        exact_size(summary.bytes, out);
    }
}

fn exact_size(bytes: u64, out: &mut String) {
    let exact = counted(bytes, "byte", "bytes");
    put(out, format_args!("<span title=\"{exact}\">{}</span>", size(bytes)));
}

/// What the root is called, whose name on the disk is nobody's business.
const ROOT: &str = "Home";
