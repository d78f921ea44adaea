//! The disk: names, versions, mappings, handles, and which pages are in memory.
//!
//! | room            | what it knows                                                       |
//! |-----------------|---------------------------------------------------------------------|
//! | [`root`]        | how a path is opened without leaving the document root              |
//! | `links`         | absolute links that end inside the root                             |
//! | [`version`]     | which state of a file is which                                      |
//! | `name`          | what a name led to, and when that was last checked                  |
//! | [`asset`]       | one version of one file, ready to be sent                           |
//! | `fields`        | its header fields, rendered once                                    |
//! | `forms`         | compressed forms of a file                                          |
//! | `held`          | how what a cache keeps is held beside it                            |
//! | `beside`        | sidecars and checksums beside a file, as they were last seen        |
//! | `tags`          | entity tags, of the version or of the content                       |
//! | `digests`       | checksums, remembered                                               |
//! | `background`    | what is computed of whole files                                     |
//! | [`cache`]       | names and assets, bounded; each cold name is opened once            |
//! | `load`          | from a path to an asset, off the workers                            |
//! | `loading`       | which names are being looked up, and which of them changed meanwhile |
//! | `handle_pool`   | open files, bounded                                                 |
//! | `heat`          | which parts of a file were sent lately                              |
//! | `resident`      | which windows are in memory, and how they get there                 |
//! | `directory`     | what a directory shows of its entries                               |
//! | `settings`      | the bounds of the room, and how full it is                           |
//! | `window`        | the units in which files are looked at and read                     |
//! | `watch`         | hints from inotify                                                  |
//! | `network`       | file systems whose files are read, not mapped                       |
//! | `lanes`         | the threads that compute, short files apart from long ones          |
//! | [`storage`]     | the calls that touch the disk, and stand-ins for them                |
//! | `mapped`        | mappings, and who takes them down                                   |
//! | `reads`         | the threads that read cold pages, in fair order                     |
//! | `disk`          | the threads that may block                                          |
//! | `faults`        | faults of the disk, counted and logged                              |
//! | `fill`          | reading into memory of our own                                      |

pub mod asset;
mod background;
mod background_queues;
pub mod cache;
mod cache_ref;
mod counters;
pub(crate) mod digests;
pub(crate) mod directory;
pub(crate) mod encoded_variants;
pub(crate) mod faults;
pub(crate) mod handle_pool;
mod headers;
mod inotify;
pub(crate) mod load;
mod mapped;
pub(crate) mod name;
mod network;
mod pending_lookups;
pub(crate) mod read_exact;
pub(crate) mod reads;
pub(crate) mod recency;
pub(crate) mod residency;
pub mod root;
mod settings;
mod sidecars;
pub mod storage;
mod symlinks;
mod tags;
pub mod version;
pub(crate) mod window;

pub use asset::Asset;
pub use cache::Files;
pub use counters::{CacheCounts, WorkCounts};
pub use faults::{Fault, FaultCounts};
pub use handle_pool::HandleLimits;
pub use headers::RenderedHeaders;
pub use name::{Lookup, Name};
pub use root::Root;
pub use settings::{FileGauges, FileSettings};
