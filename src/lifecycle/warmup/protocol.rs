//! The request that warms files, and the lines of its response; shared by the admin listener and `pagecast warm`.

use crate::lifecycle::warmup::progress::WarmupCounts;

/// One line of the response.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct WarmProgressLine {
    #[serde(flatten)]
    pub(crate) counts: WarmupCounts,
    /// This is the last line.
    pub(crate) is_over: bool,
    /// More files match than were warmed.
    pub(crate) is_truncated: bool,
    /// Number of directories that could not be read.
    pub(crate) closed: u64,
}

/// Path of the route.
pub(crate) const PATH: &str = "/warm";

/// A header that browsers don't send.
pub(crate) const ADMIN_HEADER: &str = "pagecast-admin";
