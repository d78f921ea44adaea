//! The disk: names, versions, caches, handles, mappings, and which pages are in memory.
//!
//! - Lookup: `cache` (the files of a root), `lookup` (in the caches or on the disk), `name_cache`, `name`, `pending_lookups`, `inotify`, `root_monitor`.
//! - Opening: `open_pool` (threads), `root` (the only file in which a path reaches the system), `symlinks`, `directory`, `network`, `storage` (the disk calls
//!   as a trait, with test doubles).
//! - Assets: `load` (from a path to an asset), `asset`, `asset_cache`, `cache_ref`, `version`, `headers`, `tags`, `sidecars`,
//!   `encoded_variants`.
//! - Sending: `handle_pool`, `mapped`, `residency`, `reads`, `window`, `recency`, `warming`.
//! - Whole files: `background` (tasks), `background_queues`, `content`, `digests`, `read_exact`.
//! - Operators: `settings`, `counters`, `gauges`, `inventory`, `faults`.

pub mod asset;
mod asset_cache;
mod background;
mod background_queues;
pub mod cache;
mod cache_ref;
mod content;
mod counters;
pub(crate) mod digests;
pub(crate) mod directory;
pub(crate) mod encoded_variants;
pub(crate) mod faults;
mod gauges;
pub(crate) mod handle_pool;
mod headers;
mod inotify;
pub(crate) mod inventory;
pub(crate) mod load;
pub(crate) mod lookup;
mod mapped;
pub(crate) mod name;
mod name_cache;
mod network;
mod open_pool;
mod pending_lookups;
pub(crate) mod read_exact;
pub(crate) mod reads;
pub(crate) mod recency;
pub(crate) mod residency;
pub mod root;
mod root_monitor;
mod settings;
mod sidecars;
pub mod storage;
mod symlinks;
mod tags;
pub mod version;
pub(crate) mod warming;
pub(crate) mod window;

pub use asset::Asset;
pub use cache::Files;
pub use counters::{CacheCounts, WorkCounts};
pub use faults::{Fault, FaultCounts};
pub use gauges::FileGauges;
pub use handle_pool::HandleLimits;
pub use headers::RenderedHeaders;
pub use lookup::FoundFile;
pub use name::{Lookup, Name};
pub use root::Root;
pub use settings::FileSettings;
