//! What a listing is of, and how it is wanted.

use std::sync::Arc;

use crate::files::directory::{DirectoryEntry, EntryKind};
use crate::files::version::Version;
use crate::http::query::ListingFormat;
use crate::http::target::SitePath;
use crate::site::listing::sort::Sorting;

/// Returns the entity tag of the file at a path, as its header has it; `None` if it is not known yet.
pub type EtagOf = Arc<dyn Fn(&SitePath<'_>, &Version) -> Option<String> + Send + Sync>;

/// A listing's directory, order and format.
#[derive(Clone)]
pub struct ListingPage {
    /// The directory.
    pub path: SitePath<'static>,
    /// True if the request path ends in a slash, from which relative links start.
    pub has_slash: bool,
    /// Order of the entries.
    pub sorting: Sorting,
    /// HTML or JSON.
    pub format: ListingFormat,
    /// True if the HTML page links to archives.
    pub has_archives: bool,
    /// Entity tags of the files; for JSON.
    pub etag_of: EtagOf,
}

/// Totals of all entries.
#[derive(Clone, Copy, Default)]
pub(crate) struct Summary {
    pub(super) directories: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) is_truncated: bool,
}

impl Summary {
    pub(super) fn of(entries: &[DirectoryEntry], is_truncated: bool) -> Self {
        let mut summary = Self { is_truncated, ..Self::default() };
        for entry in entries {
            match entry.kind {
                EntryKind::Directory => summary.directories += 1,
                EntryKind::File => {
                    summary.files += 1;
                    summary.bytes = summary.bytes.saturating_add(entry.version.size);
                }
            }
        }
        summary
    }

    pub(crate) fn entries(&self) -> u64 {
        self.directories + self.files
    }
}
