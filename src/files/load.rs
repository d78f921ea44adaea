//! Loading: from a path to an asset, off the workers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use rustix::io::Errno;

use super::{
    Asset, AssetBody, EncodedVariants, Fault, Faults, FileSettings, FileStat, FileSystemKind, Handle,
    HandlePermit, HandlePool, HeaderInput, KnownDigests, Lookup, Mapped, NameResult, OpenFile, Recency,
    RenderedHeaders, Root, RootEntry, Sidecars, Storage, Tags, Unmapper, Version, fault_of, is_missing,
};
use crate::files::policy::Rules;
use crate::http::media_type::{is_compressible, media_type};
use crate::http::{encoding::Encoding, target::SitePath};
use crate::sys::blocking_pool::JobLost;
use crate::telemetry::log_throttle::LogThrottle;

/// Turns paths into assets.
#[derive(Clone)]
pub(crate) struct Loader {
    pub(crate) root: Arc<Root>,
    /// Generation of the settings and rules: assets of another one are loaded anew.
    pub(crate) generation: u64,
    pub(crate) settings: FileSettings,
    pub(crate) rules: Arc<Rules>,
    pub(crate) tags: Tags,
    pub(crate) handles: Arc<HandlePool>,
    pub(crate) unmapper: Arc<Unmapper>,
    /// Sidecars that were logged as older than their originals.
    pub(crate) logged: Arc<LogThrottle>,
    pub(crate) faults: Arc<Faults>,
}

/// Why a file that was found, or a variant of it, is not available.
#[derive(Debug)]
pub(crate) enum Unavailable {
    /// It is not what it was when it was looked up.
    Changed,
    /// No handle or memory was available.
    Busy,
    /// The disk failed; the log has the cause.
    Failed,
}

impl From<JobLost> for Unavailable {
    fn from(lost: JobLost) -> Self {
        match lost {
            JobLost::TimedOut => Self::Busy,
            JobLost::Panicked => Self::Failed,
        }
    }
}

/// The bytes of an asset to be made.
struct Content<'a> {
    version: Version,
    body: AssetBody,
    /// The whole body if it is on the heap, else empty.
    bytes: &'a [u8],
    /// The file was read within its racy window.
    is_racy: bool,
}

/// Where the bytes of an asset to be made come from.
struct AssetOrigin<'a> {
    /// Path of the file that has the bytes.
    path: &'a SitePath<'static>,
    /// The file that it is a variant of, and its encoding.
    variant_of: Option<(&'a Asset, Encoding)>,
    sidecars: Sidecars,
    /// The bytes were encoded here: no file has them.
    is_made_here: bool,
}

impl Loader {
    /// Opens the file at `path` and prepares it for sending. Blocks.
    ///
    /// `previous` is the asset that the path led to before: the same version is not read or mapped again.
    ///
    /// The result's `is_watched` says whether inotify could report every change, if the directories on the way are watched: no
    /// symbolic link leads to the file, and no other hard link and no other machine changes it.
    pub(crate) fn load(
        &self,
        path: &SitePath<'static>,
        previous: Option<Arc<Asset>>,
        permit: HandlePermit,
    ) -> NameResult {
        let (file, stat, is_symlink_free) = match self.root.retry_after_root_swap(|| self.open_linked(path)) {
            Ok(RootEntry::File { file, stat, is_symlink_free }) => (file, stat, is_symlink_free),
            Ok(RootEntry::Directory) => return self.without_file(path, Lookup::Directory, true),
            Ok(RootEntry::Special) => return self.without_file(path, Lookup::Missing, false),
            Err(errno) => {
                return self.without_file(path, self.outcome_of(errno, path), errno == Errno::NOENT);
            }
        };
        let file_system = FileSystemKind::of(self.storage(), file.as_fd());
        let is_watchable = is_symlink_free && stat.hard_links == 1 && file_system == FileSystemKind::Local;
        match self.asset_of(path, OpenFile { file, stat, permit }, file_system, previous) {
            Ok(asset) => NameResult {
                policy: Arc::clone(&asset.policy),
                is_watched: is_watchable && !asset.is_racy && !asset.sidecars.may_change_unwatched,
                is_remote: file_system == FileSystemKind::Remote,
                lookup: Lookup::File(asset),
            },
            Err(error) => self.without_file(path, self.failed(Fault::Read, &error, path), false),
        }
    }

    /// The result for a path that leads to no file.
    pub(crate) fn without_file(&self, path: &SitePath<'_>, lookup: Lookup, is_watched: bool) -> NameResult {
        NameResult { lookup, policy: self.rules.policy(path), is_watched, is_remote: false }
    }

    /// Opens the sidecar of `original` in `encoding`. Blocks.
    pub(crate) fn load_sidecar(
        &self,
        original: &Asset,
        encoding: Encoding,
        permit: HandlePermit,
    ) -> Result<Arc<Asset>, Unavailable> {
        let expected = original.variants.as_ref().and_then(|variants| variants.sidecar(encoding));
        let path = original.path.suffixed(encoding.suffix());
        let (file, stat) = match self.open_with_retry(&path) {
            Ok(RootEntry::File { file, stat, .. }) if Some(stat.version) == expected => (file, stat),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => return Err(Unavailable::Changed),
            Err(errno) => {
                let is_short = self.report_sidecar(&path, "read", errno);
                return Err(if is_short { Unavailable::Busy } else { Unavailable::Failed });
            }
        };
        let file_system = FileSystemKind::of(self.storage(), file.as_fd());
        let (variant_of, sidecars) = (Some((original, encoding)), Sidecars::default());
        let origin = AssetOrigin { path: &path, variant_of, sidecars, is_made_here: false };
        let variant = self.make_asset(origin, OpenFile { file, stat, permit }, file_system).map_err(
            |error| match self.failed(Fault::Read, &error, &path) {
                Lookup::Busy => Unavailable::Busy,
                _ => Unavailable::Failed,
            },
        )?;
        if Some(variant.version) == expected { Ok(Arc::new(variant)) } else { Err(Unavailable::Changed) }
    }

    /// Reports why a sidecar could not be `processed`; returns whether it is a shortage that may pass soon.
    fn report_sidecar(&self, path: &SitePath<'_>, processed: &str, errno: Errno) -> bool {
        let (fault, is_short) = fault_of(errno.raw_os_error(), Fault::Open);
        let message = format_args!("sidecar /{path} can't be {processed} and is not served: {errno}");
        self.faults.report(fault, path, message);
        is_short
    }

    /// The variant of `original` whose `bytes` were encoded here.
    pub(crate) fn encoded_variant(&self, original: &Asset, encoding: Encoding, bytes: &[u8]) -> Arc<Asset> {
        let (variant_of, sidecars) = (Some((original, encoding)), Sidecars::default());
        let origin = AssetOrigin { path: &original.path, variant_of, sidecars, is_made_here: true };
        Arc::new(self.describe(
            origin,
            Content { version: original.version, body: AssetBody::Heap, bytes, is_racy: false },
        ))
    }

    /// Keeps an open file of the asset `id` in the pool.
    pub(crate) fn keep_open(&self, id: u64, file: OpenFile) -> Arc<Handle> {
        let handle = self.handles.wrap(&self.root.storage, file);
        self.handles.insert(id, Arc::clone(&handle));
        handle
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        &*self.root.storage
    }

    fn asset_of(
        &self,
        path: &SitePath<'static>,
        opened: OpenFile,
        file_system: FileSystemKind,
        previous: Option<Arc<Asset>>,
    ) -> io::Result<Arc<Asset>> {
        let version = opened.stat.version;
        let report = |sidecar: &SitePath<'_>, errno| self.report_sidecar(sidecar, "looked up", errno);
        let sidecars = Sidecars::look_up(&self.root, path, self.settings.verifies(), report)?;
        let previous = previous.filter(|asset| asset.version == version && !asset.is_racy);
        if let Some(asset) = &previous {
            let is_current = asset.generation == self.generation && asset.sidecars == sidecars;
            if is_current && !self.tags.can_improve(asset) {
                if !asset.is_on_heap() {
                    self.keep_open(asset.id, opened);
                }
                return Ok(Arc::clone(asset));
            }
            self.tags.store(&version, &asset.digests);
        }
        let origin = AssetOrigin { path, variant_of: None, sidecars, is_made_here: false };
        let asset = self.make_asset(origin, opened, file_system)?;
        if let Some(previous) = previous.filter(|previous| previous.version == asset.version)
            && let (Some(variants), Some(before)) = (&asset.variants, &previous.variants)
        {
            variants.inherit(before, previous.generation == self.generation);
        }
        Ok(Arc::new(asset))
    }

    /// The asset of an open regular file.
    fn make_asset(
        &self,
        origin: AssetOrigin<'_>,
        opened: OpenFile,
        file_system: FileSystemKind,
    ) -> io::Result<Asset> {
        let version = opened.stat.version;
        if version.size <= self.settings.heap_file_bytes()
            && let Some((version, body)) = read_whole(self.storage(), opened.file.as_fd(), opened.stat)?
        {
            let is_racy = version.is_racy(SystemTime::now());
            let content = Content { version, body: AssetBody::Heap, bytes: &body, is_racy };
            return Ok(self.describe(origin, content));
        }
        let body = match file_system {
            FileSystemKind::Remote => AssetBody::Unmapped,
            FileSystemKind::Local | FileSystemKind::Overlay => self.map_or_not(&opened, origin.path),
        };
        let asset = self.describe(origin, Content { version, body, bytes: &[], is_racy: false });
        self.keep_open(asset.id, opened);
        Ok(asset)
    }

    /// The asset with its rendered headers.
    fn describe(&self, origin: AssetOrigin<'_>, content: Content<'_>) -> Asset {
        let AssetOrigin { path, variant_of, sidecars, is_made_here } = origin;
        let Content { version, body, bytes, is_racy } = content;
        let (name, encoding, policy) = match variant_of {
            Some((original, encoding)) => {
                (original.path.file_name(), Some(encoding), Arc::clone(&original.policy))
            }
            None => (path.file_name(), None, self.rules.policy(path)),
        };
        let media_type = match &policy.effects.content_type {
            Some(configured) => configured.to_string(),
            None => media_type(name),
        };
        let variants = match encoding {
            Some(_) => None,
            None => self.variants(path, &version, &media_type, &sidecars),
        };
        let is_on_heap = matches!(body, AssetBody::Heap);
        let length = if is_on_heap { bytes.len() as u64 } else { version.size };
        let (etag, digests) = if is_made_here {
            (Tags::of_bytes(bytes, encoding), KnownDigests::default())
        } else {
            let etag = self.tags.tag(&version, encoding, is_on_heap.then_some(bytes), is_racy);
            (etag, self.tags.known_digests(&version))
        };
        let modified = version.modified_before(SystemTime::now());
        let input = HeaderInput {
            modified,
            name,
            media_type: &media_type,
            encoding,
            etag: &etag,
            length,
            varies: encoding.is_some() || variants.is_some(),
            policy: &policy,
        };
        let headers = RenderedHeaders::render(&input, bytes);
        Asset {
            id: Asset::next_id(),
            path: path.clone(),
            version,
            modified,
            encoding,
            length,
            etag,
            headers,
            body,
            is_racy,
            policy,
            generation: self.generation,
            sidecars,
            variants,
            digests,
            recency: Recency::default(),
            handles: Arc::clone(&self.handles),
        }
    }

    /// The encoded variants that a file can have.
    fn variants(
        &self,
        path: &SitePath<'_>,
        version: &Version,
        media_type: &str,
        sidecars: &Sidecars,
    ) -> Option<Box<EncodedVariants<Asset>>> {
        let up_to_date = |encoding: Encoding| {
            let sidecar = sidecars.encoded(encoding)?;
            let is_outdated = sidecar.is_older_than(version);
            if is_outdated && self.logged.admits((path, sidecar, version), Instant::now()) {
                let suffix = encoding.suffix();
                log::warn!("/{path}{suffix} is older than its original, and is not served in its place");
            }
            (!is_outdated).then_some(sidecar)
        };
        let is_encoded_here =
            self.settings.encodes(version.size) && sidecars.may_be_encoded() && is_compressible(media_type);
        EncodedVariants::new(Encoding::ALL.map(up_to_date), is_encoded_here)
    }

    /// A file that was replaced between open and stat has another ctime, and would get a tag that it never had at this path: its
    /// successor is opened instead.
    fn open_linked(&self, path: &SitePath<'static>) -> Result<RootEntry, Errno> {
        for _ in 0..STABLE_TRIES {
            match self.open_with_retry(path) {
                Ok(RootEntry::File { stat, .. }) if stat.hard_links == 0 => {}
                other => return other,
            }
        }
        self.open_with_retry(path)
    }

    /// Opens the entry at `path`. If the system is out of handles, idle ones of ours are closed for it. A network file system
    /// that has lost a directory's handle finds it again by its name.
    pub(super) fn open_with_retry(&self, path: &SitePath<'static>) -> Result<RootEntry, Errno> {
        match self.root.entry(path) {
            Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => {
                self.handles.close_idle(CLOSE_WHEN_SHORT);
                self.root.entry(path)
            }
            Err(Errno::STALE) => self.root.entry(path),
            other => other,
        }
    }

    /// The body of a local file that is not copied to the heap: its mapping, if it can have one.
    fn map_or_not(&self, opened: &OpenFile, path: &SitePath<'_>) -> AssetBody {
        let length = opened.stat.version.size;
        let may_map = (1..=self.settings.mapped_file_bytes()).contains(&length);
        let Some(length) = usize::try_from(length).ok().filter(|_| may_map) else {
            return AssetBody::Unmapped;
        };
        let map = || self.storage().map(opened.file.as_fd(), length);
        let mapping = map().or_else(|error| {
            if error.raw_os_error() != Some(libc::ENOMEM) {
                return Err(error);
            }
            self.handles.close_idle(CLOSE_WHEN_SHORT);
            self.unmapper.unmap_now();
            map()
        });
        match mapping {
            Ok(mapping) => AssetBody::Mapped(Mapped::new(mapping, &self.unmapper)),
            Err(error) => {
                let message = format_args!("/{path} of {length} bytes is sent without a mapping: {error}");
                self.faults.report(Fault::Map, path, message);
                AssetBody::Unmapped
            }
        }
    }

    fn outcome_of(&self, errno: Errno, path: &SitePath<'static>) -> Lookup {
        match errno {
            missing if is_missing(missing) => Lookup::Missing,
            Errno::ACCESS | Errno::PERM => {
                self.faults.report(Fault::Denied, path, format_args!("/{path} may not be read: {errno}"));
                Lookup::Forbidden
            }
            other => self.failed(Fault::Open, &other.into(), path),
        }
    }

    fn failed(&self, fault: Fault, error: &io::Error, path: &SitePath<'static>) -> Lookup {
        let (fault, is_short) = error.raw_os_error().map_or((fault, false), |code| fault_of(code, fault));
        self.faults.report(fault, path, format_args!("{}: {path}: {error}", self.root.path().display()));
        match fault {
            Fault::Denied => Lookup::Forbidden,
            _ if is_short => Lookup::Busy,
            _ => Lookup::Failed,
        }
    }
}

/// The bytes of a small file, all of one version; `None` if it keeps changing.
fn read_whole(
    storage: &dyn Storage,
    file: BorrowedFd<'_>,
    mut stat: FileStat,
) -> io::Result<Option<(Version, Vec<u8>)>> {
    for _ in 0..STABLE_TRIES {
        let mut bytes = vec![0; usize::try_from(stat.version.size).map_err(io::Error::other)?];
        let read = storage.read_full(file, &mut bytes, 0)?;
        let after = storage.fstat(file)?;
        // If only its name was removed meanwhile, the bytes are still those of the version that was at the path.
        let is_unlinked =
            after.hard_links == 0 && FileStat { hard_links: u64::MAX, ..stat }.has_same_bytes(&after);
        if (after.version == stat.version || is_unlinked) && read == bytes.len() {
            return Ok(Some((stat.version, bytes)));
        }
        if after.version.size > (bytes.len() as u64).saturating_mul(2).max(GROWN_TOO_FAR) {
            return Ok(None);
        }
        stat = after;
    }
    Ok(None)
}

/// Times that a changing file is opened or read before it is served as it is.
const STABLE_TRIES: u32 = 3;

/// A small file that grows past this length while it is read is no small file any more.
const GROWN_TOO_FAR: u64 = 64 * 1024;

const CLOSE_WHEN_SHORT: usize = 64;
