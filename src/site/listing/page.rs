//! What a listing shows: the directory, the order and format, and the totals.

use std::sync::Arc;

use crate::files::directory::{DirectoryEntry, EntryKind};
use crate::files::version::Version;
use crate::http::query::ListingFormat;
use crate::http::target::SitePath;
use crate::site::listing::sort::Sorting;

/// Returns the value of the ETag header of a version of a file; `None` if it is not known yet.
pub(crate) type EtagOf = Arc<dyn Fn(&Version) -> Option<String> + Send + Sync>;

/// A listing's directory, order and format.
#[derive(Clone)]
pub(crate) struct ListingPage {
    /// The directory.
    pub(crate) path: SitePath<'static>,
    /// True if the request path ends in a slash, from which relative links start.
    pub(crate) has_slash: bool,
    /// Order of the entries.
    pub(crate) sorting: Sorting,
    /// HTML or JSON.
    pub(crate) format: ListingFormat,
    /// True if the HTML page links to archives.
    pub(crate) has_archives: bool,
    /// Entity tags of the files; for JSON.
    pub(crate) etag_of: EtagOf,
}

/// Totals of all listed entries.
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
