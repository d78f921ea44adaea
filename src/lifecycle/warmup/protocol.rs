//! How a running server is asked to warm files, and what it answers.

use crate::lifecycle::warmup::progress::WarmupCounts;

/// One line of the answer.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct WarmProgressLine {
    #[serde(flatten)]
    pub(crate) counts: WarmupCounts,
    /// Nothing more comes.
    pub(crate) is_over: bool,
    /// Not all that matches was looked at.
    pub(crate) is_truncated: bool,
    /// Directories that could not be read.
    pub(crate) closed: u64,
}

/// Where the route is.
pub(crate) const PATH: &str = "/warm";

/// A header that only a program sends.
pub(crate) const ADMIN_HEADER: &str = "pagecast-admin";
