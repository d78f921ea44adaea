//! What a query asks of a directory.

use super::sort::{Key, Order, Sorting};
use crate::archive::Format as ArchiveFormat;

/// What the query of a request for a directory says. Unknown parameters and words are passed over, as servers of files do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryQuery {
    /// `format=html` or `format=json`: stronger than `Accept`.
    pub format: Option<Format>,
    /// `archive=tar`, `archive=tar.zst` or `archive=zip`.
    pub archive: Option<ArchiveFormat>,
    /// `sort=name`, `size` or `date`, and `order=asc` or `desc`; what is not said is usual.
    pub sorting: Sorting,
}

/// How a listing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A page for people.
    Html,
    /// An object for programs (RFC 8259).
    Json,
}

impl DirectoryQuery {
    /// Reads a raw query, without its question mark. Of a parameter that comes twice the first that is known counts.
    pub fn parse(query: &str) -> Self {
        let format = first(query, "format", |word| match word {
            "html" => Some(Format::Html),
            "json" => Some(Format::Json),
            _ => None,
        });
        let archive = first(query, "archive", |word| {
            ArchiveFormat::ALL.into_iter().find(|format| format.word() == word)
        });
        let key = first(query, "sort", |word| Key::ALL.into_iter().find(|key| key.word() == word));
        let order = first(query, "order", |word| {
            [Order::Ascending, Order::Descending].into_iter().find(|order| order.word() == word)
        });
        let key = key.unwrap_or(Key::Name);
        let order = order.unwrap_or(key.usual_order());
        Self { format, archive, sorting: Sorting { key, order } }
    }
}

impl Format {
    /// The value of Content-Type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Json => "application/json",
        }
    }
}

fn first<T>(query: &str, name: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
    query.split('&').find_map(|parameter| {
        let (key, word) = parameter.split_once('=')?;
        if key == name { read(word) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_and_what_is_unknown_passed_over() {
        let usual = DirectoryQuery { format: None, archive: None, sorting: Sorting::BY_NAME };
        let sorted = |key, order| DirectoryQuery { sorting: Sorting { key, order }, ..usual };
        for (query, expected) in [
            ("", usual),
            ("x=1&sort=colour&order=up&format=xml&archive=rar", usual),
            ("sort", usual),
            ("sort=size", sorted(Key::Size, Order::Descending)),
            ("sort=date&order=asc", sorted(Key::Date, Order::Ascending)),
            ("order=desc", sorted(Key::Name, Order::Descending)),
            ("sort=none&sort=size&order=asc", sorted(Key::Size, Order::Ascending)),
            ("format=json", DirectoryQuery { format: Some(Format::Json), ..usual }),
            ("format=html&x", DirectoryQuery { format: Some(Format::Html), ..usual }),
            ("archive=tar", DirectoryQuery { archive: Some(ArchiveFormat::Tar), ..usual }),
            ("archive=tar.zst", DirectoryQuery { archive: Some(ArchiveFormat::TarZstd), ..usual }),
            ("archive=zip", DirectoryQuery { archive: Some(ArchiveFormat::Zip), ..usual }),
        ] {
            assert_eq!(DirectoryQuery::parse(query), expected, "{query}");
        }
    }
}
