//! Loading: from a path to an asset, off the workers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use rustix::fs::Stat;
use rustix::io::Errno;

use super::{
    Asset, AssetBody, EncodedVariants, Fault, Faults, FileSettings, FileStat, FileSystemKind, Handle,
    HandlePermit, HandlePool, HeaderInput, KnownDigests, Mapped, NameOutcome, NameResult, Recency,
    RenderedHeaders, Root, RootEntry, Sidecars, Storage, Tags, Unmapper, Version, fault_of, is_missing,
    read_full,
};
use crate::config::Verify;
use crate::config::policy::rules::{PathPolicy, Rules};
use crate::http::encoding::Encoding;
use crate::http::entity_tag::EntityTag;
use crate::http::media_type::{is_compressible, media_type};
use crate::http::target::SitePath;
use crate::telemetry::log_throttle::LogThrottle;

/// Turns paths into assets.
#[derive(Clone)]
pub(crate) struct Loader {
    pub(crate) root: Arc<Root>,
    /// Generation of the settings that follow: assets of another one are loaded anew.
    pub(crate) generation: u64,
    pub(crate) handles: Arc<HandlePool>,
    pub(crate) unmapper: Arc<Unmapper>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) tags: Tags,
    /// Sidecars that were logged as older than their originals.
    pub(crate) logged: Arc<LogThrottle>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) sizes: SizeThresholds,
    /// Files with a checksum sidecar are served only if they match it.
    pub(crate) verifies: bool,
}

/// Lengths that decide how a file is kept.
///
/// Decision: docs/decisions/022-small-files-on-the-heap.md.
#[derive(Clone, Debug)]
pub(crate) struct SizeThresholds {
    /// Files up to this length are copied to the heap.
    pub(crate) heap_file_bytes: u64,
    /// Longer files are not mapped: a single one would evict too many others.
    pub(crate) mapped_file_bytes: u64,
    /// Lengths of the files that are encoded in the background; `None` if that is off.
    pub(crate) compressed: Option<std::ops::RangeInclusive<u64>>,
    /// Longer encoded variants are not kept.
    pub(crate) variant_bytes: u64,
}

/// Result of a load.
pub(crate) struct LoadedAsset {
    /// Its `is_watched` says whether inotify could report every change, if the directories on the way are watched: no symbolic
    /// link leads to the file, and no other hard link and no other machine changes it.
    pub(crate) found: NameResult,
    pub(crate) asset: Option<Arc<Asset>>,
}

/// Why a variant of a file is not available.
#[derive(Debug)]
pub(crate) enum VariantError {
    /// The file is not what it was when it was looked up.
    Changed,
    /// No handle or memory was available.
    Busy,
    /// The disk failed; the log has the cause.
    Failed,
}

/// An open regular file that becomes an asset.
struct OpenFile {
    file: OwnedFd,
    stat: Stat,
    permit: HandlePermit,
    file_system: FileSystemKind,
}

/// Names and settings of an asset to be made.
struct AssetOrigin<'a> {
    /// Path of the file that has the bytes.
    path: &'a SitePath<'static>,
    /// The path that decides the media type: the original's for a sidecar.
    original: &'a SitePath<'static>,
    encoding: Option<Encoding>,
    policy: Arc<PathPolicy>,
    sidecars: Sidecars,
}

impl<'a> AssetOrigin<'a> {
    /// A variant of `original`, with its bytes in the file at `path`.
    fn variant(path: &'a SitePath<'static>, original: &'a Asset, encoding: Encoding) -> Self {
        Self {
            path,
            original: &original.path,
            encoding: Some(encoding),
            policy: Arc::clone(&original.policy),
            sidecars: Sidecars::default(),
        }
    }
}

/// Facts about the bytes of an asset to be made.
struct ByteFacts {
    version: Version,
    length: u64,
    etag: EntityTag<'static>,
    body: AssetBody,
    is_racy: bool,
    digests: KnownDigests,
}

impl Loader {
    /// Opens the file at `path` and prepares it for sending. Blocks.
    ///
    /// `previous` is the asset that the path led to before: the same version is not read or mapped again.
    pub(crate) fn load(
        &self,
        path: &SitePath<'static>,
        previous: Option<Arc<Asset>>,
        permit: HandlePermit,
    ) -> LoadedAsset {
        let policy = self.rules.policy(path);
        let without_asset = |outcome, is_watched| {
            let policy = Arc::clone(&policy);
            LoadedAsset { found: NameResult { outcome, policy, is_watched, is_remote: false }, asset: None }
        };
        let entry = match self.root.retry_after_root_swap(|| self.open_linked(path)) {
            Ok(entry) => entry,
            Err(errno) => return without_asset(self.outcome_of(errno, path), errno == Errno::NOENT),
        };
        let (file, stat, is_symlink_free) = match entry {
            RootEntry::Directory => return without_asset(NameOutcome::Directory, true),
            RootEntry::Special => return without_asset(NameOutcome::Missing, false),
            RootEntry::File { file, stat, is_symlink_free } => (file, *stat, is_symlink_free),
        };
        let file_system = FileSystemKind::of(self.storage(), file.as_fd());
        let is_watchable =
            is_symlink_free && FileStat::from(&stat).links == 1 && file_system == FileSystemKind::Local;
        match self.asset_of(path, &policy, OpenFile { file, stat, permit, file_system }, previous) {
            Ok(asset) => {
                let found = NameResult {
                    outcome: NameOutcome::File { version: asset.version, asset: asset.cache_ref() },
                    policy,
                    is_watched: is_watchable && !asset.is_racy && !asset.sidecars.may_change_unwatched(),
                    is_remote: file_system == FileSystemKind::Remote,
                };
                LoadedAsset { found, asset: Some(asset) }
            }
            Err(error) => without_asset(self.failed(Fault::Read, &error, path), false),
        }
    }

    /// Opens the sidecar of `original` in `encoding`. Blocks.
    pub(crate) fn load_sidecar(
        &self,
        original: &Asset,
        encoding: Encoding,
        permit: HandlePermit,
    ) -> Result<Arc<Asset>, VariantError> {
        let expected = original.variants.as_ref().and_then(|variants| variants.sidecar(encoding));
        let path = original.path.suffixed(encoding.suffix());
        let (file, stat) = match self.open_with_retry(&path) {
            Ok(RootEntry::File { file, stat, .. }) if Some(Version::of(&stat)) == expected => (file, *stat),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => return Err(VariantError::Changed),
            Err(errno) => {
                let (fault, is_short) = fault_of(errno.raw_os_error(), Fault::Open);
                let message = format_args!("sidecar /{path} can't be read and is not served: {errno}");
                self.faults.report(fault, &path, message);
                return Err(if is_short { VariantError::Busy } else { VariantError::Failed });
            }
        };
        let file_system = FileSystemKind::of(self.storage(), file.as_fd());
        let origin = AssetOrigin::variant(&path, original, encoding);
        let variant = self.make_asset(origin, OpenFile { file, stat, permit, file_system }).map_err(
            |error| match self.failed(Fault::Read, &error, &path) {
                NameOutcome::Busy => VariantError::Busy,
                _ => VariantError::Failed,
            },
        )?;
        if Some(variant.version) == expected { Ok(Arc::new(variant)) } else { Err(VariantError::Changed) }
    }

    /// The variant of `original` whose `bytes` were encoded here.
    pub(crate) fn encoded_variant(&self, original: &Asset, encoding: Encoding, bytes: &[u8]) -> Arc<Asset> {
        let facts = ByteFacts {
            version: original.version,
            length: bytes.len() as u64,
            etag: Tags::of_bytes(bytes, Some(encoding)),
            body: AssetBody::Heap,
            is_racy: false,
            digests: KnownDigests::default(),
        };
        let origin = AssetOrigin::variant(&original.path, original, encoding);
        Arc::new(self.render(origin, original.headers.media_type(), None, facts, bytes))
    }

    /// Opens the file of `asset` again, if it is still that version. Blocks.
    ///
    /// # Errors
    /// Those of the disk; ESTALE for another version.
    pub(crate) fn reopen(&self, asset: &Asset) -> io::Result<(OwnedFd, Stat)> {
        match self.open_with_retry(&asset.path)? {
            RootEntry::File { file, stat, .. } if Version::of(&stat) == asset.version => Ok((file, *stat)),
            _ => Err(Errno::STALE.into()),
        }
    }

    /// Keeps an open file of the asset `id` in the pool.
    pub(crate) fn keep_open(&self, id: u64, file: OwnedFd, stat: &Stat, permit: HandlePermit) -> Arc<Handle> {
        let handle = Arc::new(Handle::new(Arc::clone(self.root.storage()), file, stat, permit));
        self.handles.insert(id, Arc::clone(&handle));
        handle
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        &**self.root.storage()
    }

    fn asset_of(
        &self,
        path: &SitePath<'static>,
        policy: &Arc<PathPolicy>,
        opened: OpenFile,
        previous: Option<Arc<Asset>>,
    ) -> io::Result<Arc<Asset>> {
        let version = Version::of(&opened.stat);
        let report = |path: &SitePath<'_>, errno: Errno| {
            let (fault, _) = fault_of(errno.raw_os_error(), Fault::Open);
            self.faults.report(
                fault,
                path,
                format_args!("sidecar /{path} can't be looked up and is not served: {errno}"),
            );
        };
        let sidecars = Sidecars::look_up(&self.root, path, self.verifies, &report)?;
        let is_same = |asset: &Arc<Asset>| {
            asset.version == version
                && asset.generation == self.generation
                && !asset.is_racy
                && asset.sidecars == sidecars
                && !self.tags.can_improve(asset)
        };
        let previous = match previous {
            Some(asset) if is_same(&asset) => {
                if !asset.is_on_heap() {
                    self.keep_open(asset.id, opened.file, &opened.stat, opened.permit);
                }
                return Ok(asset);
            }
            other => other.filter(|asset| asset.version == version && !asset.is_racy),
        };
        if let Some(previous) = &previous {
            self.tags.store(&version, &previous.digests);
        }
        let policy = Arc::clone(policy);
        let origin = AssetOrigin { path, original: path, encoding: None, policy, sidecars };
        let asset = self.make_asset(origin, opened)?;
        if let Some(previous) = previous.filter(|previous| previous.version == asset.version)
            && let (Some(variants), Some(before)) = (&asset.variants, &previous.variants)
        {
            variants.inherit(before, previous.generation == self.generation);
        }
        Ok(Arc::new(asset))
    }

    /// The asset of an open regular file.
    fn make_asset(&self, origin: AssetOrigin<'_>, opened: OpenFile) -> io::Result<Asset> {
        let version = Version::of(&opened.stat);
        if version.size() <= self.sizes.heap_file_bytes
            && let Some((version, body)) = read_whole(self.storage(), opened.file.as_fd(), version)?
        {
            let is_racy = version.is_racy(SystemTime::now());
            return Ok(self.describe(origin, version, AssetBody::Heap, &body, is_racy));
        }
        let body = self.map_or_not(&opened, &version, origin.path);
        let asset = self.describe(origin, version, body, &[], false);
        self.keep_open(asset.id, opened.file, &opened.stat, opened.permit);
        Ok(asset)
    }

    /// The asset of `version`; `bytes` are its body if that is on the heap.
    fn describe(
        &self,
        origin: AssetOrigin<'_>,
        version: Version,
        body: AssetBody,
        bytes: &[u8],
        is_racy: bool,
    ) -> Asset {
        let media_type = match &origin.policy.effects.content_type {
            Some(configured) => configured.to_string(),
            None => media_type(origin.original.file_name()).into_owned(),
        };
        let variants = match origin.encoding {
            Some(_) => None,
            None => self.variants(origin.path, &version, &media_type, &origin.sidecars),
        };
        let in_memory = matches!(body, AssetBody::Heap).then_some(bytes);
        let facts = ByteFacts {
            version,
            length: version.size(),
            etag: self.tags.tag(&version, origin.encoding, in_memory, is_racy),
            body,
            is_racy,
            digests: self.tags.known_digests(&version),
        };
        self.render(origin, &media_type, variants, facts, bytes)
    }

    /// The asset with its rendered headers, followed by `bytes` if the body is on the heap.
    fn render(
        &self,
        origin: AssetOrigin<'_>,
        media_type: &str,
        variants: Option<Box<EncodedVariants<Asset>>>,
        facts: ByteFacts,
        bytes: &[u8],
    ) -> Asset {
        let AssetOrigin { path, original, encoding, policy, sidecars } = origin;
        let ByteFacts { version, length, etag, body, is_racy, digests } = facts;
        let modified = version.modified_before(SystemTime::now());
        let input = HeaderInput {
            modified,
            name: original.file_name(),
            media_type,
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
        let has_length = self.sizes.compressed.as_ref().is_some_and(|sizes| sizes.contains(&version.size()));
        let is_encoded_here = has_length && sidecars.may_be_encoded() && is_compressible(media_type);
        EncodedVariants::new(Encoding::ALL.map(up_to_date), is_encoded_here)
    }

    /// A file that was replaced between open and stat has another ctime, and would get a tag that it never had at this path: its
    /// successor is opened instead.
    fn open_linked(&self, path: &SitePath<'static>) -> Result<RootEntry, Errno> {
        for _ in 0..STABLE_TRIES {
            match self.open_with_retry(path) {
                Ok(RootEntry::File { stat, .. }) if FileStat::from(&*stat).links == 0 => {}
                other => return other,
            }
        }
        self.open_with_retry(path)
    }

    /// Opens the entry at `path`. If the system is out of handles, idle ones of ours are closed for it. A network file system
    /// that has lost a directory's handle finds it again by its name.
    fn open_with_retry(&self, path: &SitePath<'static>) -> Result<RootEntry, Errno> {
        match self.root.entry(path) {
            Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => {
                self.handles.close_idle(CLOSE_WHEN_SHORT);
                self.root.entry(path)
            }
            Err(Errno::STALE) => self.root.entry(path),
            other => other,
        }
    }

    /// The body of a file that is not copied to the heap: its mapping, if it can have one.
    fn map_or_not(&self, opened: &OpenFile, version: &Version, path: &SitePath<'_>) -> AssetBody {
        let length = version.size();
        let may_map = (1..=self.sizes.mapped_file_bytes).contains(&length)
            && opened.file_system != FileSystemKind::Remote;
        let Some(length) = usize::try_from(length).ok().filter(|_| may_map) else {
            return AssetBody::Unmapped;
        };
        match self.map(opened.file.as_fd(), length) {
            Ok(mapping) => AssetBody::Mapped(mapping),
            Err(error) => {
                let message = format_args!("/{path} of {length} bytes is sent without a mapping: {error}");
                self.faults.report(Fault::Map, path, message);
                AssetBody::Unmapped
            }
        }
    }

    fn map(&self, file: BorrowedFd<'_>, length: usize) -> io::Result<Mapped> {
        let mapping = self.storage().map(file, length).or_else(|error| {
            if error.raw_os_error() != Some(libc::ENOMEM) {
                return Err(error);
            }
            self.handles.close_idle(CLOSE_WHEN_SHORT);
            self.unmapper.unmap_now();
            self.storage().map(file, length)
        });
        Ok(Mapped::new(mapping?, &self.unmapper))
    }

    fn outcome_of(&self, errno: Errno, path: &SitePath<'static>) -> NameOutcome {
        match errno {
            missing if is_missing(missing) => NameOutcome::Missing,
            Errno::ACCESS | Errno::PERM => {
                self.faults.report(Fault::Denied, path, format_args!("/{path} may not be read: {errno}"));
                NameOutcome::Forbidden
            }
            other => self.failed(Fault::Open, &other.into(), path),
        }
    }

    fn failed(&self, fault: Fault, error: &io::Error, path: &SitePath<'static>) -> NameOutcome {
        let (fault, is_short) = error.raw_os_error().map_or((fault, false), |code| fault_of(code, fault));
        self.faults.report(fault, path, format_args!("{}: {path}: {error}", self.root.path().display()));
        match fault {
            Fault::Denied => NameOutcome::Forbidden,
            _ if is_short => NameOutcome::Busy,
            _ => NameOutcome::Failed,
        }
    }
}

impl SizeThresholds {
    pub(crate) fn of(settings: &FileSettings) -> Self {
        let heap_file_bytes = if settings.heap_bytes == 0 { 0 } else { settings.heap_file_bytes };
        Self {
            heap_file_bytes: heap_file_bytes.min(settings.heap_bytes / LARGEST_SHARE),
            mapped_file_bytes: settings.cache_bytes / LARGEST_SHARE,
            compressed: settings.compressed.clone().filter(|_| settings.heap_bytes >= LARGEST_SHARE),
            variant_bytes: settings.heap_bytes / LARGEST_SHARE,
        }
    }
}

/// Whether files are verified under these settings.
pub(crate) fn verifies(settings: &FileSettings) -> bool {
    settings.verify == Verify::Serve
}

/// The bytes of a small file, all of one version; `None` if it keeps changing.
fn read_whole(
    storage: &dyn Storage,
    file: BorrowedFd<'_>,
    mut version: Version,
) -> io::Result<Option<(Version, Vec<u8>)>> {
    for _ in 0..STABLE_TRIES {
        let mut bytes = vec![0; usize::try_from(version.size()).map_err(io::Error::other)?];
        let read = read_full(storage, file, &mut bytes, 0)?;
        let after = FileStat::from(&storage.fstat(file)?);
        // If only its name was removed meanwhile, the bytes are still those of the version that was at the path.
        let is_same =
            after.version == version || (after.links == 0 && version.has_same_bytes(u64::MAX, &after));
        if is_same && read == bytes.len() {
            return Ok(Some((version, bytes)));
        }
        if after.version.size() > (bytes.len() as u64).saturating_mul(2).max(GROWN_TOO_FAR) {
            return Ok(None);
        }
        version = after.version;
    }
    Ok(None)
}

/// Times that a changing file is opened or read before it is served as it is.
const STABLE_TRIES: u32 = 3;

/// A small file that grows past this length while it is read is no small file any more.
const GROWN_TOO_FAR: u64 = 64 * 1024;

const CLOSE_WHEN_SHORT: usize = 64;

/// No file may take more than one part in this many of a cache's bytes.
const LARGEST_SHARE: u64 = 4;
