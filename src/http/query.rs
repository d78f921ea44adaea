//! Options in the query of a request: download, digest, archive and listing.

use std::borrow::Cow;

use crate::http::form_encoding::{decode, first_values};
use crate::http::named_enum::named_enum;

/// The options in a query. By default there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryOptions<'a> {
    /// `download`: save the file under this name; if empty, under its own.
    pub download: Option<Cow<'a, [u8]>>,
    /// `digest`: send the digest of the file by the algorithm of this name.
    pub digest: Option<Cow<'a, [u8]>>,
    /// `archive`: send the directory and everything below it as an archive of this format.
    pub archive: Option<Cow<'a, [u8]>>,
    /// `format`: the format of a listing.
    pub format: Option<ListingFormat>,
    /// `sort`: the sort key of a listing.
    pub sort: Option<Sort>,
    /// `order`: the direction of the sort.
    pub order: Option<SortOrder>,
}

named_enum! {
    /// Format of a listing.
    pub enum ListingFormat {
        /// A web page.
        Html => "html",
        /// JSON for programs.
        Json => "json",
    }
}

named_enum! {
    /// Sort key of a listing.
    pub enum Sort {
        /// By name, with numbers compared as numbers.
        Name => "name",
        /// By size.
        Size => "size",
        /// By modification time (`date` or `mtime`).
        Date => "date",
    }
}

named_enum! {
    /// Direction of a sort.
    pub enum SortOrder {
        /// Lowest first.
        Ascending => "asc",
        /// Highest first.
        Descending => "desc",
    }
}

impl<'a> QueryOptions<'a> {
    /// Parses a query, which is form-encoded.
    ///
    /// The first value of a name counts; unknown names are ignored, since any query may follow the path of a file. Names and
    /// values are case-sensitive. Unknown values of `format`, `sort` and `order` are ignored, while those of `digest` and
    /// `archive` are kept for their users to reject. A query without options allocates nothing unless its names are encoded.
    pub fn parse(query: &'a [u8]) -> QueryOptions<'a> {
        let [download, digest, archive, format, sort, order] =
            first_values(query, ["download", "digest", "archive", "format", "sort", "order"]);
        QueryOptions {
            download: download.map(decode),
            digest: digest.map(decode),
            archive: archive.map(decode),
            format: format.and_then(|value| ListingFormat::named(&decode(value))),
            sort: sort.and_then(|value| Sort::parse(&decode(value))),
            order: order.and_then(|value| SortOrder::named(&decode(value))),
        }
    }
}

impl ListingFormat {
    /// The value of Content-Type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Json => "application/json",
        }
    }
}

impl Sort {
    fn parse(value: &[u8]) -> Option<Self> {
        if value == b"mtime" { Some(Self::Date) } else { Self::named(value) }
    }
}

impl SortOrder {
    /// The other direction.
    pub const fn reversed(self) -> Self {
        match self {
            Self::Ascending => Self::Descending,
            Self::Descending => Self::Ascending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, expected: QueryOptions<'_>) {
        assert_eq!(QueryOptions::parse(query.as_bytes()), expected, "{query}");
    }

    fn text(text: &str) -> Option<Cow<'_, [u8]>> {
        Some(Cow::Borrowed(text.as_bytes()))
    }

    fn none<'a>() -> QueryOptions<'a> {
        QueryOptions::default()
    }

    #[test]
    fn other_queries_have_no_options() {
        for query in
            ["", "v=123", "v=1.2.3&utm_source=x", "Download=1", "downloads", "&=&", "=download", "x=download"]
        {
            check(query, none());
        }
    }

    #[test]
    fn a_download_has_a_name_or_that_of_the_file() {
        for (query, name) in [
            ("download", ""),
            ("download=", ""),
            ("v=1&download&w=2", ""),
            ("download=name.txt", "name.txt"),
            ("download=my+file%20%C3%A9.txt", "my file é.txt"),
            ("download=a%26b%3Dc", "a&b=c"),
            ("%64ownload=a", "a"),
            ("download=100%", "100%"),
        ] {
            check(query, QueryOptions { download: text(name), ..none() });
        }
    }

    #[test]
    fn unknown_algorithms_and_archives_are_kept_to_be_refused() {
        check("digest=sha-256", QueryOptions { digest: text("sha-256"), ..none() });
        check("digest=md5", QueryOptions { digest: text("md5"), ..none() });
        check("digest", QueryOptions { digest: text(""), ..none() });
        for format in ["tar", "tar.zst", "zip", "rar", "TAR", ""] {
            check(&format!("archive={format}"), QueryOptions { archive: text(format), ..none() });
        }
    }

    #[test]
    fn a_listing_has_a_format_and_an_order() {
        for (query, format) in [
            ("json", Some(ListingFormat::Json)),
            ("html", Some(ListingFormat::Html)),
            ("JSON", None),
            ("xml", None),
        ] {
            check(&format!("format={query}"), QueryOptions { format, ..none() });
        }
        for (query, sort) in [
            ("name", Some(Sort::Name)),
            ("size", Some(Sort::Size)),
            ("date", Some(Sort::Date)),
            ("mtime", Some(Sort::Date)),
            ("", None),
            ("kind", None),
        ] {
            check(&format!("sort={query}"), QueryOptions { sort, ..none() });
        }
        for (query, order) in
            [("asc", Some(SortOrder::Ascending)), ("desc", Some(SortOrder::Descending)), ("up", None)]
        {
            check(&format!("order={query}"), QueryOptions { order, ..none() });
        }
    }

    #[test]
    fn names_of_an_order_are_read_back() {
        for sort in Sort::ALL {
            assert_eq!(Sort::parse(sort.name().as_bytes()), Some(sort));
        }
        for order in [SortOrder::Ascending, SortOrder::Descending] {
            assert_eq!(SortOrder::named(order.name().as_bytes()), Some(order));
        }
    }

    #[test]
    fn the_first_value_of_a_name_counts_even_if_unknown() {
        check("format=x&format=json", none());
        check("download&download=b", QueryOptions { download: text(""), ..none() });
        check(
            "sort=size&order=desc&sort=name&format=json",
            QueryOptions {
                format: Some(ListingFormat::Json),
                sort: Some(Sort::Size),
                order: Some(SortOrder::Descending),
                ..none()
            },
        );
    }

    #[test]
    fn values_without_escapes_are_borrowed() {
        assert!(matches!(QueryOptions::parse(b"download=a.txt").download, Some(Cow::Borrowed(b"a.txt"))));
    }
}
