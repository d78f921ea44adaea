//! Listings and archives: how many may be in progress at once, and the threads on which they are made.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::body::BoxBody;
use rustix::io::Errno;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::config::{Config, DirectoriesGroup, Dotfiles};
use crate::files::directory::{self, DirectoryQuery, ReadPermission};
use crate::files::faults::is_shortage;
use crate::files::root::is_missing;
use crate::files::{Fault, Files};
use crate::http::canned_response::{BUSY, FAILED, NOT_FOUND, TOO_LARGE, UNREADABLE};
use crate::http::client_key::ClientKey;
use crate::http::error::HttpError;
use crate::http::target::SitePath;
use crate::limits::client_slots::{ClientSlot, ClientSlots};
use crate::site::archive::plan::{ArchivePlan, PlanError};
use crate::site::archive::writer::{Archive, ArchiveFormat};
use crate::site::listing::page::ListingPage;
use crate::site::listing::writer::listing;
use crate::site::streamed_body::StreamedBody;
use crate::sys::blocking_pool::{BlockingPool, JobLost};

/// Makes listings and archives of a site's directories. Cheap to clone; clones share threads and slots.
#[derive(Clone)]
pub struct DirectoryJobs {
    files: Files,
    settings: Arc<DirectoriesGroup>,
    dotfiles: Dotfiles,
    /// Slots of all listings and archives.
    pub(crate) permits: Arc<Semaphore>,
    /// The part of them for archives: a listing takes little time, an archive as long as its client reads.
    for_archives: Arc<Semaphore>,
    /// The part of them for one client: a slow client must not take them all.
    pub(crate) for_client: Arc<ClientSlots>,
    /// Listings and archives rejected since the start because all slots were taken.
    pub(crate) refused: Arc<AtomicU64>,
    listing: Arc<BlockingPool>,
    archiving: Arc<BlockingPool>,
}

impl DirectoryJobs {
    /// Makes listings and archives of the directories of `files`, `at_once` at a time.
    ///
    /// # Errors
    /// If threads cannot be started.
    pub fn new(files: Files, config: &Config, at_once: usize) -> io::Result<Self> {
        let at_once = at_once.min(Semaphore::MAX_PERMITS);
        let threads = config.compression.background_threads.as_usize();
        let pool = |name| BlockingPool::new(name, threads, NICENESS).map(Arc::new);
        Ok(Self {
            files,
            settings: Arc::clone(&config.directories),
            dotfiles: config.site.dotfiles,
            permits: Arc::new(Semaphore::new(at_once)),
            for_archives: Arc::new(Semaphore::new((at_once - at_once.div_ceil(LISTINGS_SHARE)).max(1))),
            for_client: Arc::new(ClientSlots::new((at_once / CLIENT_SHARE).max(1))),
            refused: Arc::default(),
            listing: pool("pagecast-list")?,
            archiving: pool("pagecast-pack")?,
        })
    }

    /// Keeps slots and threads, for other files or settings. The number of slots stays.
    #[must_use]
    pub fn reconfigured(&self, files: Files, config: &Config) -> Self {
        let (settings, dotfiles) = (Arc::clone(&config.directories), config.site.dotfiles);
        Self { files, settings, dotfiles, ..self.clone() }
    }

    /// Makes the body of a listing of what `may_read` permits: whole if it is short, else in chunks as it is sent. Counts against
    /// the share of `client`, if given.
    ///
    /// # Errors
    /// If the directory cannot be read now or at all.
    pub(crate) async fn list(
        &self,
        page: ListingPage,
        may_read: ReadPermission,
        client: Option<ClientKey>,
    ) -> Result<BoxBody, HttpError> {
        let permits = self.slot_for_listing(client).await?;
        let path = page.path.clone();
        self.run(&self.listing, path, move |this, path| {
            let entries = this.settings.listing_entries.as_usize();
            let query = DirectoryQuery { entries, dotfiles: this.dotfiles, may_read: &*may_read };
            // Names that vanish one by one look like a directory that becomes empty: what is read is what is there now.
            let root = &this.files.loader.root;
            root.check();
            let directory = root
                .retry_after_root_swap(|| directory::read(root, path, query))
                .map_err(|error| this.failure(path, error))?;
            StreamedBody::begin(listing(directory, page), permits, WHOLE, &this.listing)
                .map_err(|error| this.failure(path, error))
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
    ) -> Result<BoxBody, HttpError> {
        let share = |client| self.for_client.take(client).ok_or(HttpError::Fixed(&BUSY));
        let of_client = client.map(share).transpose()?;
        let permits = (self.slot_of(&self.for_archives)?, self.slot_of(&self.permits)?, of_client);
        self.run(&self.archiving, path, move |this, path| {
            this.files.loader.root.check();
            let files = this.files.pinned();
            let plan = ArchivePlan::of(&files, path, &this.settings, this.dotfiles, &may_read)
                .map_err(|error| this.plan_failure(path, error))?;
            Archive::new(plan, format, files)
                .and_then(|archive| StreamedBody::begin(archive, permits, 1, &this.archiving))
                .map_err(|error| this.failure(path, error))
        })
        .await
    }

    /// Takes a slot for a listing. Most end in a moment, so a rush of them waits.
    async fn slot_for_listing(
        &self,
        client: Option<ClientKey>,
    ) -> Result<(OwnedSemaphorePermit, Option<ClientSlot>), HttpError> {
        let deadline = Instant::now() + SLOT_WAIT;
        let mut of_client = None;
        if let Some(client) = client {
            let slot = self.for_client.take_before(deadline, client).await;
            of_client = Some(slot.ok_or(&BUSY)?);
        }
        let permit = Arc::clone(&self.permits).acquire_owned();
        match tokio::time::timeout_at(deadline, permit).await {
            Ok(Ok(permit)) => Ok((permit, of_client)),
            _ => Err(self.refuse()),
        }
    }

    fn slot_of(&self, slots: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, HttpError> {
        Arc::clone(slots).try_acquire_owned().map_err(|_| self.refuse())
    }

    fn refuse(&self) -> HttpError {
        self.refused.fetch_add(1, Ordering::Relaxed);
        HttpError::Fixed(&BUSY)
    }

    async fn run(
        &self,
        pool: &Arc<BlockingPool>,
        path: SitePath<'static>,
        job: impl FnOnce(&Self, &SitePath<'_>) -> Result<StreamedBody, HttpError> + Send + 'static,
    ) -> Result<BoxBody, HttpError> {
        let (this, of) = (self.clone(), path.clone());
        match pool.run_within(self.files.loader.settings.disk_timeout(), move || job(&this, &of)).await {
            Ok(body) => Ok(body?.into_body()),
            // A panic has been logged by its hook.
            Err(JobLost::Panicked) => Err(HttpError::Fixed(&FAILED)),
            Err(JobLost::TimedOut) => {
                self.files.count_disk_timeout();
                let words = format_args!("the directory /{path}: the disk does not answer");
                self.files.loader.faults.report(Fault::Directory, &path, words);
                Err(HttpError::Fixed(&BUSY))
            }
        }
    }

    fn plan_failure(&self, path: &SitePath<'_>, error: PlanError) -> HttpError {
        match error {
            PlanError::Unreadable(error) => self.failure(path, error),
            PlanError::TooMany(what) => {
                log::info!("no archive of /{path}: it exceeds the limit on {what} of an archive");
                HttpError::Fixed(&TOO_LARGE)
            }
        }
    }

    /// Reports why a directory cannot be listed or archived. One that is missing is no fault.
    fn failure(&self, path: &SitePath<'_>, error: impl Into<io::Error>) -> HttpError {
        let error = error.into();
        if Errno::from_io_error(&error).is_some_and(is_missing) {
            return HttpError::Fixed(&NOT_FOUND);
        }
        let (fault, answer, is) = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                (Fault::Denied, HttpError::Fixed(&UNREADABLE), " may not be read")
            }
            io::ErrorKind::StaleNetworkFileHandle => (Fault::Changed, HttpError::Fixed(&BUSY), ""),
            io::ErrorKind::ResourceBusy => (Fault::NoHandle, HttpError::Fixed(&BUSY), ""),
            _ if is_shortage(&error) => (Fault::NoHandle, HttpError::Fixed(&BUSY), ""),
            _ => (Fault::Directory, HttpError::Fixed(&FAILED), ""),
        };
        self.files.loader.faults.report(fault, path, format_args!("the directory /{path}{is}: {error}"));
        answer
    }
}

/// A listing of up to this many bytes is sent whole, with its length.
const WHOLE: usize = 64 * 1024;

/// Longest wait of a listing for a slot.
const SLOT_WAIT: Duration = Duration::from_secs(1);

/// One slot in this many is reserved for listings, if there is more than one.
const LISTINGS_SHARE: usize = 4;

/// A client gets one slot in this many, and at least one.
const CLIENT_SHARE: usize = 4;

/// Compressing and sorting give way to serving files.
const NICENESS: i32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::policy::Rules;
    use crate::http::query::ListingFormat;
    use crate::site::listing::sort::Sorting;
    use actix_web::body::{BodySize, MessageBody, to_bytes};
    use std::path::Path;

    use crate::config::{ByteCount, Count, OnOff, Symlinks};
    use crate::files::{FileSettings, Root};

    fn limited(at_once: usize, dir: &Path, limits: DirectoriesGroup) -> DirectoryJobs {
        let settings = DirectoriesGroup { listing: OnOff::On, ..limits };
        let config = Config { directories: settings.into(), ..Config::default() };
        let root = Root::open(dir, Symlinks::Inside).unwrap();
        let files = Files::new(root, &FileSettings::small(), Rules::new(&config)).unwrap();
        DirectoryJobs::new(files, &config, at_once).unwrap()
    }

    fn directories(dir: &Path, at_once: usize) -> DirectoryJobs {
        limited(at_once, dir, DirectoriesGroup::default())
    }

    fn path(text: &str) -> SitePath<'static> {
        SitePath::parse(text.as_bytes()).unwrap().path.into_owned()
    }

    fn json(text: &str) -> ListingPage {
        ListingPage {
            path: path(text),
            has_slash: true,
            format: ListingFormat::Json,
            sorting: Sorting::BY_NAME,
            has_archives: true,
            etag_of: Arc::new(|_| None),
        }
    }

    fn all() -> ReadPermission {
        Arc::new(|_| true)
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
    fn a_short_listing_is_whole_and_a_long_one_comes_in_chunks() {
        for (files, is_whole) in [(3, true), (2000, false)] {
            let dir = tree(files);
            actix_rt::System::new().block_on(async {
                let directories = directories(dir.path(), 1);
                let body = directories.list(json("/d/"), all(), None).await.unwrap();
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
    fn no_more_than_the_limit_are_in_progress_at_once() {
        let dir = tree(2000);
        actix_rt::System::new().block_on(async {
            let directories = directories(dir.path(), 1);
            let long = directories.list(json("/d/"), all(), None).await.unwrap();
            assert_eq!(directories.permits.available_permits(), 0);
            assert_eq!(directories.list(json("/"), all(), None).await.err(), Some(HttpError::Fixed(&BUSY)));
            let archived = directories.archive(path("/"), ArchiveFormat::Zip, all(), None).await;
            assert_eq!(archived.err(), Some(HttpError::Fixed(&BUSY)));
            to_bytes(long).await.unwrap();
            assert!(directories.list(json("/"), all(), None).await.is_ok(), "the last one has ended");
            assert_eq!(directories.permits.available_permits(), 1, "a listing that is whole is done with");
        });
    }

    #[test]
    fn a_rush_of_listings_waits_for_slots() {
        let dir = tree(100);
        actix_rt::System::new().block_on(async {
            let directories = directories(dir.path(), 1);
            let lists = (0..20).map(|_| {
                let directories = directories.clone();
                actix_rt::spawn(async move {
                    let body = directories.list(json("/d/"), all(), None).await?;
                    Ok::<_, HttpError>(to_bytes(body).await.is_ok())
                })
            });
            for list in lists.collect::<Vec<_>>() {
                assert_eq!(list.await.unwrap(), Ok(true));
            }
        });
    }

    #[test]
    fn a_client_has_a_quarter_of_the_slots_and_one_at_least() {
        let dir = tree(0);
        std::fs::write(dir.path().join("d/long"), vec![1; 3 << 20]).unwrap();
        actix_rt::System::new().block_on(async {
            for (at_once, share) in [(2, 1), (8, 2), (32, 8)] {
                let directories = directories(dir.path(), at_once);
                let archive = |client| {
                    let directories = directories.clone();
                    async move {
                        directories
                            .archive(path("/"), ArchiveFormat::Tar, all(), Some(client))
                            .await
                    }
                };
                let (greedy, other) = (ClientKey::V4(1), ClientKey::V4(2));
                let mut under_way = Vec::new();
                while let Ok(body) = archive(greedy).await {
                    under_way.push(body);
                }
                assert_eq!(under_way.len(), share, "of {at_once}");
                assert_eq!(directories.list(json("/d/"), all(), Some(greedy)).await.err(), Some(HttpError::Fixed(&BUSY)));
                assert!(directories.list(json("/d/"), all(), Some(other)).await.is_ok());
                assert_eq!(archive(other).await.is_ok(), at_once > 2, "one of two is for archives");
            }
        });
    }

    #[test]
    fn archives_leave_slots_for_listings() {
        let dir = tree(0);
        std::fs::write(dir.path().join("d/long"), vec![1; 3 << 20]).unwrap();
        actix_rt::System::new().block_on(async {
            for (at_once, archives) in [(2, 1), (4, 3), (32, 24)] {
                let directories = directories(dir.path(), at_once);
                let mut under_way = Vec::new();
                let refused = loop {
                    match directories.archive(path("/"), ArchiveFormat::Tar, all(), None).await {
                        Ok(body) => under_way.push(body),
                        Err(why) => break why,
                    }
                };
                assert_eq!((refused, under_way.len()), (HttpError::Fixed(&BUSY), archives));
                assert!(directories.list(json("/d/"), all(), None).await.is_ok(), "{at_once}");
            }
        });
    }

    #[test]
    fn a_directory_that_cannot_be_listed_or_archived_has_an_error() {
        let dir = tree(3);
        actix_rt::System::new().block_on(async {
            let usual = DirectoriesGroup::default;
            for limits in [
                DirectoriesGroup { archive_entries: Count::of(2), ..usual() },
                DirectoriesGroup { archive_bytes: ByteCount::bytes(2), ..usual() },
                DirectoriesGroup { archive_depth: Count::of(1), ..usual() },
            ] {
                let words = format!("{limits:?}");
                let directories = limited(1, dir.path(), limits);
                let archived = directories.archive(path("/"), ArchiveFormat::Tar, all(), None).await;
                assert_eq!(archived.err(), Some(HttpError::Fixed(&TOO_LARGE)), "{words}");
            }
            let directories = directories(dir.path(), 1);
            for text in ["/none/", "/d/0", "/d/0/1"] {
                assert_eq!(
                    directories.list(json(text), all(), None).await.err(),
                    Some(HttpError::Fixed(&NOT_FOUND)),
                    "{text}"
                );
                let archived = directories.archive(path(text), ArchiveFormat::Tar, all(), None).await;
                assert_eq!(archived.err(), Some(HttpError::Fixed(&NOT_FOUND)), "{text}");
            }
            assert_eq!(directories.permits.available_permits(), 1, "a refusal keeps nothing");
        });
    }

    #[test]
    fn an_archive_whose_file_changes_ends_with_an_error() {
        let dir = tree(0);
        std::fs::write(dir.path().join("d/a"), vec![1; 3 << 20]).unwrap();
        std::fs::write(dir.path().join("d/b"), b"four").unwrap();
        actix_rt::System::new().block_on(async {
            let directories = directories(dir.path(), 1);
            let body = directories.archive(path("/d"), ArchiveFormat::Tar, all(), None).await.unwrap();
            std::fs::write(dir.path().join("d/b"), b"fifth").unwrap();
            let error = to_bytes(body).await.unwrap_err();
            assert_eq!(error.to_string(), "/d/b changed while it was archived");
        });
    }
}
