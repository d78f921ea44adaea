//! From a directory's URL to its entries and back: relative, so that they hold behind a proxy that adds a prefix.

use std::iter::repeat_n;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::files::directory::{DirectoryEntry, EntryKind};
use crate::http::target::SitePath;

/// The links of one listing. All of them are made of unreserved characters, slashes and escapes alone.
#[derive(Clone, Debug)]
pub(super) struct ListingLinks {
    /// From the listing to what is in the directory.
    inside: String,
    has_slash: bool,
}

impl ListingLinks {
    /// Of the directory at `path`, whose listing has a URL with or without a slash at its end.
    pub(super) fn new(path: &SitePath<'_>, has_slash: bool) -> Self {
        // The `./` keeps a name with a colon from being taken for a scheme.
        let mut inside = "./".to_owned();
        if !has_slash && !path.is_root() {
            inside.extend(encoded(path.file_name()));
            inside.push('/');
        }
        Self { inside, has_slash: has_slash || path.is_root() }
    }

    /// To an entry.
    pub(super) fn write_to(&self, entry: &DirectoryEntry, out: &mut String) {
        out.push_str(&self.inside);
        out.extend(encoded(&entry.name));
        if entry.kind == EntryKind::Directory {
            out.push('/');
        }
    }

    /// Link to the directory `levels` levels up; 0 is the listing itself.
    pub(super) fn up(&self, levels: usize) -> String {
        match levels {
            0 => self.inside.clone(),
            _ => {
                let steps = if self.has_slash { levels } else { levels - 1 };
                if steps == 0 { "./".to_owned() } else { repeat_n("../", steps).collect() }
            }
        }
    }
}

fn encoded(name: &[u8]) -> impl Iterator<Item = &str> {
    percent_encode(name, RESERVED)
}

/// All but the unreserved characters (RFC 3986 §2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::listing::writer::tests::{directory, file};

    fn links(path: &str, has_slash: bool) -> ListingLinks {
        ListingLinks::new(&SitePath::parse(path.as_bytes()).unwrap().path, has_slash)
    }

    fn to(links: &ListingLinks, entry: &DirectoryEntry) -> String {
        let mut out = String::new();
        links.write_to(entry, &mut out);
        out
    }

    #[test]
    fn any_name_makes_a_link_to_itself() {
        for (name, expected) in [
            (&b"a.txt"[..], "./a.txt"),
            (b"a?b#c%", "./a%3Fb%23c%25"),
            (b"javascript:alert(1)", "./javascript%3Aalert%281%29"),
            (b"<script>\"'&\n", "./%3Cscript%3E%22%27%26%0A"),
            (b"\xff\\", "./%FF%5C"),
            ("é".as_bytes(), "./%C3%A9"),
        ] {
            let link = to(&links("/d/", true), &file(name, 0, 0));
            assert_eq!(link, expected);
            let target = format!("/d/{link}");
            assert_eq!(
                SitePath::parse(target.as_bytes()).unwrap().path.as_bytes(),
                [b"d/", name].concat(),
                "{target}"
            );
        }
    }

    #[test]
    fn links_start_from_the_url_as_it_was_asked_for() {
        let entry = directory(b"x", 0);
        for (path, has_slash, inside, up) in [
            ("/", true, "./x/", ["./", "../", "../../"]),
            ("/a/b/", true, "./x/", ["./", "../", "../../"]),
            ("/a/b%20", false, "./b%20/x/", ["./b%20/", "./", "../"]),
        ] {
            let links = links(path, has_slash);
            assert_eq!(to(&links, &entry), inside, "{path}");
            assert_eq!([0, 1, 2].map(|levels| links.up(levels)), up, "{path}");
        }
    }
}
