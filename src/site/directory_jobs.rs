//! Listings and archives: how many may be under way at once, and the threads on which they are made.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::body::BoxBody;
use bytes::Bytes;
use rustix::io::Errno;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::config::{Config, ResolvedLimits};
use crate::files::directory::{self, DirectoryQuery, ReadPermission};
use crate::files::faults::Faults;
use crate::files::root::is_missing;
use crate::files::{Fault, Files};
use crate::http::client_key::ClientKey;
use crate::http::target::SitePath;
use crate::limits::client_slots::{ClientSlot, ClientSlots};
use crate::site::archive::plan::{ArchivePlan, PlanError, TreeFilter};
use crate::site::archive::writer::{Archive, ArchiveFormat, ArchiveLimits};
use crate::site::listing::page::ListingPage;
use crate::site::listing::writer::Listing;
use crate::site::streamed_body::{ChunkSource, FirstChunk, StreamedBody};
use crate::sys::blocking_pool::{BlockingPool, JobLost};

/// Makes listings and archives of a site's directories. Cheap to clone; clones share threads and places.
#[derive(Clone)]
pub struct DirectoryJobs {
    files: Files,
    settings: DirectorySettings,
    inner: Arc<Inner>,
}

struct Inner {
    permits: Arc<Semaphore>,
    /// Of those, the ones for archives: a listing takes little time, an archive as long as its client reads.
    for_archives: Arc<Semaphore>,
    /// Of those, the ones for a single client: a slow client must not keep all others out.
    for_client: ClientSlots,
    refused: AtomicU64,
    listing: Arc<BlockingPool>,
    archiving: Arc<BlockingPool>,
}

/// A listing or an archive with its permits.
struct SlottedSource<P> {
    producer: P,
    _among_archives: Option<OwnedSemaphorePermit>,
    _of_client: Option<ClientSlot>,
}

/// Every bound of listings and archives.
#[derive(Clone, Copy, Debug)]
pub struct DirectorySettings {
    /// Entries in one listing; it says so if there are more.
    pub listing_entries: usize,
    /// Bounds of one archive. Its `dotfiles` holds for listings too.
    pub archive: ArchiveLimits,
    /// Listings and archives under way at once.
    pub at_once: usize,
    /// Threads that make them.
    pub threads: usize,
}

/// A listing, and what of the directory is shown.
pub struct ListingRequest {
    /// The listing.
    pub page: ListingPage,
    /// Says which entries the credentials of the client open.
    pub(crate) may_read: ReadPermission,
}

/// Why a listing or an archive is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoDirectory {
    /// There is no directory at the path.
    Missing,
    /// It may not be read.
    Forbidden,
    /// It holds more than one archive may.
    TooLarge,
    /// All places are taken, or the process is out of handles or memory.
    Busy,
    /// The disk failed; the log says how.
    Failed,
}

impl DirectorySettings {
    /// The bounds of `config`, and as many at once as fit `limits`.
    pub fn of(config: &Config, limits: &ResolvedLimits) -> Self {
        Self {
            listing_entries: config.directories.listing_entries.as_usize(),
            archive: ArchiveLimits {
                entries: config.directories.archive_entries.as_usize(),
                bytes: config.directories.archive_bytes.get(),
                depth: config.directories.archive_depth.as_usize(),
                dotfiles: config.site.dotfiles,
            },
            at_once: limits.directories,
            threads: config.compression.background_threads.as_usize(),
        }
    }
}

impl DirectoryJobs {
    /// Makes listings and archives of the directories of `files`.
    ///
    /// # Errors
    /// If threads cannot be started.
    pub fn new(files: Files, settings: DirectorySettings) -> io::Result<Self> {
        let at_once = settings.at_once.min(Semaphore::MAX_PERMITS);
        let permits = Arc::new(Semaphore::new(at_once));
        let for_archives = Arc::new(Semaphore::new((at_once - at_once.div_ceil(LISTINGS_SHARE)).max(1)));
        let for_client = ClientSlots::new((at_once / CLIENT_SHARE).max(1));
        let pool = |name| BlockingPool::new(name, settings.threads.max(1), NICENESS).map(Arc::new);
        let (listing, archiving) = (pool("pagecast-list")?, pool("pagecast-pack")?);
        let refused = AtomicU64::new(0);
        let inner = Arc::new(Inner { permits, for_archives, for_client, refused, listing, archiving });
        Ok(Self { files, settings, inner })
    }

    /// Keeps places and threads, for other files or bounds. The number of places stays.
    #[must_use]
    pub fn reconfigured(&self, files: Files, settings: DirectorySettings) -> Self {
        Self { files, settings, inner: Arc::clone(&self.inner) }
    }

    /// Makes the body of a listing: whole if it is short, else in chunks as it is sent. Counts against the share of `client`, if
    /// given.
    ///
    /// # Errors
    /// If the directory cannot be read now or at all.
    pub async fn list(
        &self,
        listing: ListingRequest,
        client: Option<ClientKey>,
    ) -> Result<BoxBody, NoDirectory> {
        let ListingRequest { page, may_read } = listing;
        let (permit, of_client) = self.place_soon(client).await?;
        let of = page.path.clone();
        self.begin(&self.inner.listing, &of, permit, move |this, permit| {
            let limits = this.settings;
            let faults = &this.files.loader.faults;
            let read = DirectoryQuery {
                entries: limits.listing_entries,
                dotfiles: limits.archive.dotfiles,
                may_read: &*may_read,
            };
            // Names that vanish one by one look like a directory that becomes empty: what is read is what is there now.
            let root = &this.files.loader.root;
            root.check();
            let directory = root
                .retry_after_root_swap(|| directory::read(root, &page.path, read))
                .map_err(|error| NoDirectory::of(error, &page.path, faults))?;
            let path = page.path.clone();
            let producer = Listing::new(directory, page);
            let placed = SlottedSource { producer, _among_archives: None, _of_client: of_client };
            FirstChunk::with(placed, permit, WHOLE)
                .map_err(|error| NoDirectory::failed(&error, &path, faults))
        })
        .await
    }

    /// Makes the body of an archive. It ends with an error if a file is not the version that was planned. Counts against the
    /// share of `client`, if given.
    ///
    /// # Errors
    /// If the directory cannot be read now or at all, or holds more than an archive may.
    pub(crate) async fn archive(
        &self,
        path: SitePath<'static>,
        format: ArchiveFormat,
        may_read: ReadPermission,
        client: Option<ClientKey>,
    ) -> Result<BoxBody, NoDirectory> {
        let share = |client| self.inner.for_client.take(client).ok_or(NoDirectory::Busy);
        let of_client = client.map(share).transpose()?;
        let among_archives = Some(self.place_in(&self.inner.for_archives)?);
        let permit = self.place_in(&self.inner.permits)?;
        let of = path.clone();
        self.begin(&self.inner.archiving, &of, permit, move |this, permit| {
            this.files.loader.root.check();
            let files = this.files.pinned();
            let faults = &this.files.loader.faults;
            let is_listed = |path: &SitePath<'_>| files.loader.rules.policy(path).listing();
            let shown = TreeFilter { is_listed: &is_listed, may_read: &*may_read };
            let plan = ArchivePlan::of(&files.loader.root, &path, &this.settings.archive, shown)
                .map_err(|why| NoDirectory::unplanned(why, &path, faults))?;
            let producer = Archive::new(plan, format, files)
                .map_err(|error| NoDirectory::failed(&error, &path, faults))?;
            let placed = SlottedSource { producer, _among_archives: among_archives, _of_client: of_client };
            FirstChunk::with(placed, permit, 1).map_err(|error| NoDirectory::failed(&error, &path, faults))
        })
        .await
    }

    /// Returns how many more may begin now.
    pub fn permits_left(&self) -> usize {
        self.inner.permits.available_permits()
    }

    /// Returns how often since the start a client was rejected because it had its share of places.
    pub fn clients_refused(&self) -> u64 {
        self.inner.for_client.refused()
    }

    /// Returns how often since the start a listing or an archive was rejected because all places were taken.
    pub fn refused(&self) -> u64 {
        self.inner.refused.load(Ordering::Relaxed)
    }

    /// Takes a place for a listing. Most end in a moment, so a rush of them waits.
    async fn place_soon(
        &self,
        client: Option<ClientKey>,
    ) -> Result<(OwnedSemaphorePermit, Option<ClientSlot>), NoDirectory> {
        let deadline = Instant::now() + PLACE_WAIT;
        let of_client = match client {
            Some(client) => {
                let place = self.inner.for_client.take_before(deadline, client).await;
                Some(place.ok_or(NoDirectory::Busy)?)
            }
            None => None,
        };
        let place = Arc::clone(&self.inner.permits).acquire_owned();
        match tokio::time::timeout_at(deadline, place).await {
            Ok(Ok(permit)) => Ok((permit, of_client)),
            _ => Err(self.refuse()),
        }
    }

    fn place_in(&self, places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, NoDirectory> {
        Arc::clone(places).try_acquire_owned().map_err(|_| self.refuse())
    }

    fn refuse(&self) -> NoDirectory {
        self.inner.refused.fetch_add(1, Ordering::Relaxed);
        NoDirectory::Busy
    }

    async fn begin<P: ChunkSource>(
        &self,
        pool: &Arc<BlockingPool>,
        path: &SitePath<'_>,
        permit: OwnedSemaphorePermit,
        job: impl FnOnce(&Self, OwnedSemaphorePermit) -> Result<FirstChunk<P>, NoDirectory> + Send + 'static,
    ) -> Result<BoxBody, NoDirectory> {
        let this = self.clone();
        let begun = match pool
            .run_within(self.files.loader.settings.disk_timeout(), move || job(&this, permit))
            .await
        {
            Ok(begun) => begun?,
            // A panic has been logged by its hook.
            Err(JobLost::Panicked) => return Err(NoDirectory::Failed),
            Err(JobLost::TimedOut) => {
                self.files.count_disk_timeout();
                let words = format_args!("the directory /{path}: the disk does not answer");
                self.files.loader.faults.report(Fault::Directory, path, words);
                return Err(NoDirectory::Busy);
            }
        };
        Ok(match begun.rest {
            None => BoxBody::new(begun.first),
            Some(rest) => BoxBody::new(StreamedBody::new(begun.first, rest, Arc::clone(pool))),
        })
    }
}

impl<P: ChunkSource> ChunkSource for SlottedSource<P> {
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        self.producer.next()
    }
}

impl NoDirectory {
    fn of(error: Errno, path: &SitePath<'_>, faults: &Faults) -> Self {
        match error {
            errno if is_missing(errno) => Self::Missing,
            Errno::ACCESS | Errno::PERM => {
                faults.report(
                    Fault::Denied,
                    path,
                    format_args!("the directory /{path} may not be read: {error}"),
                );
                Self::Forbidden
            }
            Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN => {
                faults.report(Fault::NoHandle, path, format_args!("the directory /{path}: {error}"));
                Self::Busy
            }
            other => Self::failed(&other.into(), path, faults),
        }
    }

    fn unplanned(why: PlanError, path: &SitePath<'_>, faults: &Faults) -> Self {
        let what = match why {
            PlanError::TooMany => "entries",
            PlanError::TooLarge => "bytes",
            PlanError::TooDeep => "levels",
            PlanError::Unreadable(error) => return Self::of(error, path, faults),
        };
        log::info!("no archive of /{path}: it has more {what} than an archive may");
        Self::TooLarge
    }

    fn failed(error: &io::Error, path: &SitePath<'_>, faults: &Faults) -> Self {
        let (fault, this) = match error.kind() {
            io::ErrorKind::StaleNetworkFileHandle => (Fault::Changed, Self::Busy),
            io::ErrorKind::ResourceBusy => (Fault::NoHandle, Self::Busy),
            _ => (Fault::Directory, Self::Failed),
        };
        faults.report(fault, path, format_args!("the directory /{path}: {error}"));
        this
    }
}

/// A listing of up to this many bytes is sent whole, with its length.
const WHOLE: usize = 64 * 1024;

/// So long a listing waits for its place.
const PLACE_WAIT: Duration = Duration::from_secs(1);

/// One slot in this many is reserved for listings, if there is more than one.
const LISTINGS_SHARE: usize = 4;

/// A client gets one slot in this many, and at least one.
const CLIENT_SHARE: usize = 4;

/// Compressing and sorting give way to serving files.
const NICENESS: i32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::policy::rules::Rules;
    use crate::http::query::ListingFormat;
    use crate::site::listing::sort::Sorting;
    use actix_web::body::{BodySize, MessageBody, to_bytes};
    use std::path::Path;

    use crate::config::{DirectoriesGroup, Dotfiles, OnOff, Symlinks};
    use crate::files::{FileSettings, Root};

    const LIMITS: ArchiveLimits =
        ArchiveLimits { entries: 10_000, bytes: 1 << 30, depth: 10, dotfiles: Dotfiles::Deny };

    fn directories(dir: &Path, at_once: usize, archive: ArchiveLimits) -> DirectoryJobs {
        let files = Files::new(
            Root::open(dir, Symlinks::Inside).unwrap(),
            &FileSettings::small(),
            Rules::new(&Config {
                directories: DirectoriesGroup { listing: OnOff::On, ..DirectoriesGroup::default() }.into(),
                ..Config::default()
            }),
        )
        .unwrap();
        let settings = DirectorySettings { listing_entries: 100_000, archive, at_once, threads: 1 };
        DirectoryJobs::new(files, settings).unwrap()
    }

    fn path(text: &str) -> SitePath<'static> {
        SitePath::parse(text.as_bytes()).unwrap().path.into_owned()
    }

    fn json(text: &str) -> ListingRequest {
        let page = ListingPage {
            path: path(text),
            has_slash: true,
            format: ListingFormat::Json,
            sorting: Sorting::BY_NAME,
            has_archives: true,
            etag_of: Arc::new(|_, _| None),
        };
        ListingRequest { page, may_read: Arc::new(|_| true) }
    }

    fn tree(files: usize) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        for index in 0..files {
            std::fs::write(dir.path().join(format!("d/{index}")), b"x").unwrap();
        }
        dir
    }

    #[test]
    fn a_short_listing_is_whole_and_a_long_one_comes_in_pieces() {
        for (files, is_whole) in [(3, true), (2000, false)] {
            let dir = tree(files);
            actix_rt::System::new().block_on(async {
                let directories = directories(dir.path(), 1, LIMITS);
                let body = directories.list(json("/d/"), None).await.unwrap();
                assert_eq!(body.size() != BodySize::Stream, is_whole, "{files}");
                let bytes = to_bytes(body).await.unwrap();
                let parsed: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                let entries = parsed["entries"].as_array().unwrap();
                assert_eq!(entries.len(), files);
                assert_eq!(entries[2]["name"], "2");
            });
        }
    }

    #[test]
    fn no_more_than_so_many_are_under_way_at_once() {
        let dir = tree(2000);
        actix_rt::System::new().block_on(async {
            let directories = directories(dir.path(), 1, LIMITS);
            let long = directories.list(json("/d/"), None).await.unwrap();
            assert_eq!(directories.permits_left(), 0);
            assert_eq!(directories.list(json("/"), None).await.err(), Some(NoDirectory::Busy));
            let archived = directories.archive(path("/"), ArchiveFormat::Zip, Arc::new(|_| true), None).await;
            assert_eq!(archived.err(), Some(NoDirectory::Busy));
            to_bytes(long).await.unwrap();
            assert!(directories.list(json("/"), None).await.is_ok(), "the last one has ended");
            assert_eq!(directories.permits_left(), 1, "a listing that is whole is done with");
        });
    }

    #[test]
    fn a_rush_of_listings_waits_for_its_turn() {
        let dir = tree(100);
        actix_rt::System::new().block_on(async {
            let directories = directories(dir.path(), 1, LIMITS);
            let lists = (0..20).map(|_| {
                let directories = directories.clone();
                actix_rt::spawn(async move {
                    let body = directories.list(json("/d/"), None).await?;
                    Ok::<_, NoDirectory>(to_bytes(body).await.is_ok())
                })
            });
            for list in lists.collect::<Vec<_>>() {
                assert_eq!(list.await.unwrap(), Ok(true));
            }
        });
    }

    #[test]
    fn a_client_has_a_quarter_of_the_places_and_one_at_least() {
        let dir = tree(0);
        std::fs::write(dir.path().join("d/long"), vec![1; 3 << 20]).unwrap();
        actix_rt::System::new().block_on(async {
            for (at_once, share) in [(2, 1), (8, 2), (32, 8)] {
                let directories = directories(dir.path(), at_once, LIMITS);
                let archive = |client| {
                    let directories = directories.clone();
                    async move {
                        directories
                            .archive(path("/"), ArchiveFormat::Tar, Arc::new(|_| true), Some(client))
                            .await
                    }
                };
                let (greedy, other) = (ClientKey::V4(1), ClientKey::V4(2));
                let mut under_way = Vec::new();
                while let Ok(body) = archive(greedy).await {
                    under_way.push(body);
                }
                assert_eq!(under_way.len(), share, "of {at_once}");
                assert_eq!(directories.list(json("/d/"), Some(greedy)).await.err(), Some(NoDirectory::Busy));
                assert!(directories.list(json("/d/"), Some(other)).await.is_ok());
                assert_eq!(archive(other).await.is_ok(), at_once > 2, "one of two is for archives");
            }
        });
    }

    #[test]
    fn archives_leave_places_for_listings() {
        let dir = tree(0);
        std::fs::write(dir.path().join("d/long"), vec![1; 3 << 20]).unwrap();
        actix_rt::System::new().block_on(async {
            for (at_once, archives) in [(2, 1), (4, 3), (32, 24)] {
                let directories = directories(dir.path(), at_once, LIMITS);
                let mut under_way = Vec::new();
                let refused = loop {
                    match directories.archive(path("/"), ArchiveFormat::Tar, Arc::new(|_| true), None).await {
                        Ok(body) => under_way.push(body),
                        Err(why) => break why,
                    }
                };
                assert_eq!((refused, under_way.len()), (NoDirectory::Busy, archives));
                assert!(directories.list(json("/d/"), None).await.is_ok(), "{at_once}");
            }
        });
    }

    #[test]
    fn what_can_not_be_listed_or_archived_says_why() {
        let dir = tree(3);
        actix_rt::System::new().block_on(async {
            for limits in [
                ArchiveLimits { entries: 2, ..LIMITS },
                ArchiveLimits { bytes: 2, ..LIMITS },
                ArchiveLimits { depth: 1, ..LIMITS },
            ] {
                let directories = directories(dir.path(), 1, limits);
                let archived =
                    directories.archive(path("/"), ArchiveFormat::Tar, Arc::new(|_| true), None).await;
                assert_eq!(archived.err(), Some(NoDirectory::TooLarge), "{limits:?}");
            }
            let directories = directories(dir.path(), 1, LIMITS);
            for text in ["/none/", "/d/0", "/d/0/1"] {
                assert_eq!(
                    directories.list(json(text), None).await.err(),
                    Some(NoDirectory::Missing),
                    "{text}"
                );
                let archived =
                    directories.archive(path(text), ArchiveFormat::Tar, Arc::new(|_| true), None).await;
                assert_eq!(archived.err(), Some(NoDirectory::Missing), "{text}");
            }
            assert_eq!(directories.permits_left(), 1, "a refusal keeps nothing");
        });
    }

    #[test]
    fn an_archive_whose_file_changes_ends_with_an_error() {
        let dir = tree(0);
        std::fs::write(dir.path().join("d/a"), vec![1; 3 << 20]).unwrap();
        std::fs::write(dir.path().join("d/b"), b"four").unwrap();
        actix_rt::System::new().block_on(async {
            let directories = directories(dir.path(), 1, LIMITS);
            let body =
                directories.archive(path("/d"), ArchiveFormat::Tar, Arc::new(|_| true), None).await.unwrap();
            std::fs::write(dir.path().join("d/b"), b"fifth").unwrap();
            let error = to_bytes(body).await.unwrap_err();
            assert_eq!(error.to_string(), "/d/b changed while it was archived");
        });
    }
}
