//! Links from a listing to the entries of its directory and to the directories above: relative, so that they also work behind a
//! proxy that adds a prefix.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, percent_encode};

use crate::files::directory::{DirectoryEntry, EntryKind};
use crate::http::target::SitePath;
use crate::site::listing::page::ListingPage;

/// The links of one listing: unreserved characters, slashes and percent escapes.
#[derive(Clone, Debug)]
pub(super) struct ListingLinks {
    /// From the listing to its own directory.
    inside: String,
    has_slash: bool,
}

impl ListingLinks {
    pub(super) fn of(page: &ListingPage) -> Self {
        Self::new(&page.path, page.has_slash || page.path.is_root())
    }

    /// `has_slash`: the URL of the listing of `path` ends in a slash.
    fn new(path: &SitePath<'_>, has_slash: bool) -> Self {
        // The `./` keeps a name with a colon from being taken for a scheme.
        let inside = if has_slash { "./".to_owned() } else { format!("./{}/", encoded(path.file_name())) };
        Self { inside, has_slash }
    }

    /// Returns the link to an entry.
    pub(super) fn to(&self, entry: &DirectoryEntry) -> String {
        let slash = if entry.kind == EntryKind::Directory { "/" } else { "" };
        format!("{}{}{slash}", self.inside, encoded(&entry.name))
    }

    /// Returns the link to the directory `levels` levels up; 0 is the listing itself.
    pub(super) fn up(&self, levels: usize) -> String {
        match (levels, self.has_slash) {
            (0, _) => self.inside.clone(),
            (1, false) => "./".to_owned(),
            (_, true) => "../".repeat(levels),
            (_, false) => "../".repeat(levels - 1),
        }
    }
}

fn encoded(name: &[u8]) -> PercentEncode<'_> {
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

    #[test]
    fn any_name_gets_a_link_that_leads_to_it() {
        for (name, expected) in [
            (&b"a.txt"[..], "./a.txt"),
            (b"a?b#c%", "./a%3Fb%23c%25"),
            (b"javascript:alert(1)", "./javascript%3Aalert%281%29"),
            (b"<script>\"'&\n", "./%3Cscript%3E%22%27%26%0A"),
            (b"\xff\\", "./%FF%5C"),
            ("é".as_bytes(), "./%C3%A9"),
        ] {
            let link = links("/d/", true).to(&file(name, 0, 0));
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
    fn links_start_from_the_requested_url() {
        let entry = directory(b"x", 0);
        for (path, has_slash, inside, up) in [
            ("/", true, "./x/", ["./", "../", "../../"]),
            ("/a/b/", true, "./x/", ["./", "../", "../../"]),
            ("/a/b%20", false, "./b%20/x/", ["./b%20/", "./", "../"]),
        ] {
            let links = links(path, has_slash);
            assert_eq!(links.to(&entry), inside, "{path}");
            assert_eq!([0, 1, 2].map(|levels| links.up(levels)), up, "{path}");
        }
    }
}
