//! The disk: names, versions, caches, handles, mappings, and which pages are in memory.
//!
//! - Lookup: `cache` (the files of a root), `lookup` (in the caches or on the disk), `name_cache`, `name`, `pending_lookups`, `inotify`, `root_monitor`.
//! - Opening: `root` (the only file in which a path reaches the system), `symlinks`, `directory`, `network`, `storage` (the disk calls
//!   as a trait, with test doubles).
//! - Policy: `policy` (what rules and site-wide settings say about a path).
//! - Assets: `load` (from a path to an asset), `asset`, `asset_cache`, `counted_cache`, `cache_ref`, `version`, `headers`, `tags`, `sidecars`,
//!   `encoded_variants`.
//! - Sending: `handle_pool`, `mapped`, `residency`, `reads`, `window`, `recency`, `warming`.
//! - Whole files: `background` (tasks), `background_queues`, `content`, `digests`, `read_exact`.
//! - Operators: `settings`, `inventory`, `faults`.

pub mod asset;
mod asset_cache;
mod background;
mod background_queues;
pub mod cache;
mod cache_ref;
mod content;
mod counted_cache;
pub(crate) mod digests;
pub(crate) mod directory;
pub(crate) mod encoded_variants;
pub(crate) mod faults;
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
mod pending_lookups;
pub mod policy;
mod read_exact;
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
pub use background_queues::WorkCounts;
pub use cache::Files;
pub use counted_cache::CacheCounts;
pub use faults::Fault;
pub use headers::RenderedHeaders;
pub use lookup::FoundFile;
pub use name::{Lookup, Name, PathOutcome};
pub use root::Root;
pub use settings::FileSettings;

pub(crate) use asset::AssetBody;
pub(crate) use asset_cache::AssetCache;
pub(crate) use background_queues::{BackgroundQueues, QueueSlot, TaskOutcome};
pub(crate) use cache::SharedFiles;
pub(crate) use cache_ref::CacheRef;
pub(crate) use counted_cache::{CacheCounters, CountedCache};
pub(crate) use digests::{Digest, Digests, KnownDigests, digest_file, digest_of};
pub(crate) use encoded_variants::EncodedVariants;
pub(crate) use faults::{Faults, fault_of, is_shortage};
pub(crate) use handle_pool::{Handle, HandlePermit, HandlePool, OpenFile};
pub(crate) use headers::HeaderInput;
pub(crate) use inotify::{ChangeHint, InotifyWatcher};
pub(crate) use load::{Loader, Unavailable};
pub(crate) use mapped::{Mapped, Unmapper};
pub(crate) use name::{CLOCK_START_MS, NameResult};
pub(crate) use name_cache::NameCache;
pub(crate) use network::FileSystemKind;
pub(crate) use pending_lookups::PendingLookups;
pub(crate) use reads::{ColdReads, ReadRequest};
pub(crate) use recency::{FileParts, PERIOD_MS, Recency};
pub(crate) use root::{RootEntry, RootState, is_missing};
pub(crate) use root_monitor::RootMonitor;
pub(crate) use sidecars::{CHECKSUM, Sidecars, original};
pub(crate) use storage::{Mapping, Storage, SystemStorage};
pub(crate) use symlinks::resolve_symlinks;
pub(crate) use tags::Tags;
pub(crate) use version::{FileStat, RACY_WITHIN, Version};
pub(crate) use window::{BATCH, WINDOW};
