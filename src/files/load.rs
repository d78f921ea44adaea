//! From a path to an asset: the job that runs off the workers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use rustix::fs::Stat;
use rustix::io::Errno;

use super::asset::{Asset, AssetBody};
use super::digests::KnownDigests;
use super::faults::{Fault, Faults, fault_of};
use super::handle_pool::{Handle, HandlePermit, HandlePool};
use super::mapped::{Mapped, Unmapper};
use super::name::NameOutcome;
use super::network;
use super::root::{Root, RootEntry, leads_nowhere};
use super::storage::Storage;
use super::tags::Tags;
use super::version::{Version, links_of};
use crate::config::policy::rules::{PathPolicy, Rules};
use crate::files::encoded_variants::EncodedVariants;
use crate::files::headers::{HeaderInput, RenderedHeaders};
use crate::files::read_exact::fill;
use crate::files::recency::Recency;
use crate::files::sidecars::Sidecars;
use crate::http::encoding::Encoding;
use crate::http::entity_tag::EntityTag;
use crate::http::media_type::{is_compressible, media_type};
use crate::http::target::SitePath;
use crate::telemetry::log_throttle::LogThrottle;

/// Everything that turns a path into an asset.
#[derive(Clone)]
pub(crate) struct Loader {
    pub(crate) root: Arc<Root>,
    /// Of the settings that follow: what was made under others is made anew.
    pub(crate) generation: u64,
    pub(crate) handles: Arc<HandlePool>,
    pub(crate) reaper: Arc<Unmapper>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) tags: Tags,
    /// Stale sidecars that were logged already.
    pub(crate) logged: Arc<LogThrottle>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) sizes: SizeThresholds,
    /// Files with a checksum beside them are served only if they match it.
    pub(crate) heeds_checksums: bool,
}

/// What decides how a file is kept.
#[derive(Clone, Debug)]
pub(crate) struct SizeThresholds {
    /// Files up to this length are copied to the heap.
    pub(crate) heap_file_bytes: u64,
    /// Longer files are not mapped: a single one would push too many others out.
    pub(crate) mapped_file_bytes: u64,
    /// Lengths of the files that are compressed in the background, where that is on.
    pub(crate) compressed: Option<std::ops::RangeInclusive<u64>>,
    /// A compressed form that takes more is not kept.
    pub(crate) form_bytes: u64,
}

/// What a load found.
pub(crate) struct LoadedAsset {
    pub(crate) outcome: NameOutcome,
    pub(crate) asset: Option<Arc<Asset>>,
    /// What holds for the path, whatever stands there.
    pub(crate) policy: Arc<PathPolicy>,
    /// The name can't come to mean something else without an event in the directories on its way: no symbolic link
    /// leads to it, no other name changes it, no other machine does.
    pub(crate) is_told_of: bool,
}

/// Why a form of a file is not to be had.
#[derive(Debug)]
pub(crate) enum VariantError {
    /// It is not what it was when the file was looked up.
    Changed,
    /// No handle or memory was to be had.
    Busy,
    /// The disk failed; the log says how.
    Failed,
}

/// An open regular file on its way to being an asset.
struct Opened {
    file: OwnedFd,
    stat: Stat,
    permit: HandlePermit,
}

/// What an asset is made as.
struct AssetForm<'a> {
    /// Where the bytes lie.
    path: &'a SitePath<'static>,
    /// The name that decides what the bytes are: the original's for a sidecar.
    original: &'a SitePath<'static>,
    coding: Option<Encoding>,
    policy: Arc<PathPolicy>,
    beside: Sidecars,
}

/// What is known of the bytes of an asset to be.
struct ByteFacts {
    version: Version,
    length: u64,
    etag: EntityTag<'static>,
    content: AssetBody,
    is_racy: bool,
    digests: KnownDigests,
}

impl Loader {
    /// Opens what stands at `path` and makes it ready to be sent. Blocks.
    ///
    /// `previous` is what was known of the name before: the same version is not read or mapped again.
    pub(crate) fn load(
        &self,
        path: &SitePath<'static>,
        previous: Option<Arc<Asset>>,
        permit: HandlePermit,
    ) -> LoadedAsset {
        let policy = self.rules.policy(path);
        let without_asset = |outcome, is_told_of| LoadedAsset {
            outcome,
            asset: None,
            policy: Arc::clone(&policy),
            is_told_of,
        };
        let entry = match self.root.look_twice(|| self.open_linked(path)) {
            Ok(entry) => entry,
            Err(errno) => return without_asset(self.outcome_of(errno, path), errno == Errno::NOENT),
        };
        let (file, stat, is_plain) = match entry {
            RootEntry::Directory => return without_asset(NameOutcome::Directory, true),
            RootEntry::Special => return without_asset(NameOutcome::Missing, false),
            RootEntry::File { file, stat, is_plain } => (file, stat, is_plain),
        };
        let is_told_of =
            is_plain && links_of(&stat) == 1 && network::tells_changes(self.storage(), file.as_fd());
        let opened = Opened { file, stat: *stat, permit };
        match self.asset_of(path, &policy, opened, previous) {
            Ok(asset) => {
                let outcome = NameOutcome::File { version: asset.version, asset: asset.held() };
                let is_told_of = is_told_of && !asset.is_racy && !asset.beside.may_change_untold();
                LoadedAsset { outcome, is_told_of, policy, asset: Some(asset) }
            }
            Err(error) => without_asset(self.failed(Fault::Read, &error, path), false),
        }
    }

    /// Opens the sidecar of `original` in `coding`. Blocks.
    pub(crate) fn load_sidecar(
        &self,
        original: &Asset,
        coding: Encoding,
        permit: HandlePermit,
    ) -> Result<Arc<Asset>, VariantError> {
        let expected = original.forms.as_ref().and_then(|forms| forms.sidecar(coding));
        let path = original.path.suffixed(coding.suffix());
        let (file, stat) = match self.open_with_retry(&path) {
            Ok(RootEntry::File { file, stat, .. }) if Some(Version::of(&stat)) == expected => (file, stat),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => return Err(VariantError::Changed),
            Err(errno) => {
                let (fault, is_short) = fault_of(errno.raw_os_error(), Fault::Open);
                let words = format_args!(
                    "/{path} can't be read ({errno}), and is not served in its original's place"
                );
                self.faults.report(fault, &path, words);
                return Err(if is_short { VariantError::Busy } else { VariantError::Failed });
            }
        };
        let guise = AssetForm {
            path: &path,
            original: &original.path,
            coding: Some(coding),
            policy: Arc::clone(&original.policy),
            beside: Sidecars::default(),
        };
        let opened = Opened { file, stat: *stat, permit };
        let form =
            self.admit(guise, opened).map_err(|error| no_form(&self.failed(Fault::Read, &error, &path)))?;
        if Some(form.version) == expected { Ok(Arc::new(form)) } else { Err(VariantError::Changed) }
    }

    /// The asset of a compressed form that was made here of `original`.
    pub(crate) fn made_form(&self, original: &Asset, coding: Encoding, bytes: &[u8]) -> Arc<Asset> {
        let guise = AssetForm {
            path: &original.path,
            original: &original.path,
            coding: Some(coding),
            policy: Arc::clone(&original.policy),
            beside: Sidecars::default(),
        };
        let made = ByteFacts {
            version: original.version,
            length: bytes.len() as u64,
            etag: Tags::of_bytes(bytes, Some(coding)),
            content: AssetBody::Heap,
            is_racy: false,
            digests: KnownDigests::default(),
        };
        Arc::new(self.asset(guise, original.fields.media_type(), None, made, bytes))
    }

    /// Opens the file of `asset` again, if it is that version still. Blocks.
    ///
    /// # Errors
    /// What the disk says; `StaleNetworkFileHandle` for another version.
    pub(crate) fn reopen(&self, asset: &Asset) -> io::Result<(OwnedFd, Stat)> {
        match self.open_with_retry(&asset.path)? {
            RootEntry::File { file, stat, .. } if Version::of(&stat) == asset.version => Ok((file, *stat)),
            _ => Err(Errno::STALE.into()),
        }
    }

    /// A handle on an open file of the root.
    pub(crate) fn new_handle(&self, file: OwnedFd, stat: &Stat, permit: HandlePermit) -> Arc<Handle> {
        Arc::new(Handle::new(Arc::clone(self.root.storage()), file, stat, permit))
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        &**self.root.storage()
    }

    fn asset_of(
        &self,
        path: &SitePath<'static>,
        policy: &Arc<PathPolicy>,
        opened: Opened,
        previous: Option<Arc<Asset>>,
    ) -> io::Result<Arc<Asset>> {
        let version = Version::of(&opened.stat);
        let tell = |path: &SitePath<'_>, errno: Errno| {
            let (fault, _) = fault_of(errno.raw_os_error(), Fault::Open);
            self.faults.report(
                fault,
                path,
                format_args!("/{path} can't be looked at ({errno}), and is not used"),
            );
        };
        let beside = Sidecars::look(&self.root, path, self.heeds_checksums, &tell)?;
        let is_same = |asset: &Arc<Asset>| {
            asset.version == version
                && asset.generation == self.generation
                && !asset.is_racy
                && asset.beside == beside
                && !self.tags.have_improved(asset)
        };
        let previous = match previous {
            Some(asset) if is_same(&asset) => {
                if !asset.is_on_heap() {
                    let Opened { file, stat, permit } = opened;
                    self.handles.keep(asset.id, self.new_handle(file, &stat, permit));
                }
                return Ok(asset);
            }
            other => other.filter(|asset| asset.version == version && !asset.is_racy),
        };
        if let Some(previous) = &previous {
            self.tags.remember(&version, &previous.digests);
        }
        let guise = AssetForm { path, original: path, coding: None, policy: Arc::clone(policy), beside };
        let asset = self.admit(guise, opened)?;
        if let Some(previous) = previous.filter(|previous| previous.version == asset.version)
            && let (Some(forms), Some(before)) = (&asset.forms, &previous.forms)
        {
            forms.adopt(before, previous.generation == self.generation);
        }
        Ok(Arc::new(asset))
    }

    /// The asset for an open regular file.
    fn admit(&self, guise: AssetForm<'_>, opened: Opened) -> io::Result<Asset> {
        let Opened { file, stat, permit } = opened;
        let version = Version::of(&stat);
        if version.size() <= self.sizes.heap_file_bytes
            && let Some((version, body)) = read_whole(self.storage(), file.as_fd(), version)?
        {
            let is_racy = version.is_racy(SystemTime::now());
            return Ok(self.make(guise, version, AssetBody::Heap, &body, is_racy));
        }
        let content = self.content_of(file.as_fd(), &version, guise.path)?;
        let asset = self.make(guise, version, content, &[], false);
        self.handles.keep(asset.id, self.new_handle(file, &stat, permit));
        Ok(asset)
    }

    fn make(
        &self,
        guise: AssetForm<'_>,
        version: Version,
        content: AssetBody,
        body: &[u8],
        is_racy: bool,
    ) -> Asset {
        let media_type = match guise.policy.content_type() {
            Some(given) => given.to_owned(),
            None => media_type(guise.original.file_name()).into_owned(),
        };
        let forms = match guise.coding {
            Some(_) => None,
            None => self.forms(guise.path, &version, &media_type, &guise.beside),
        };
        let in_memory = matches!(content, AssetBody::Heap).then_some(body);
        let made = ByteFacts {
            version,
            length: version.size(),
            etag: self.tags.tag(&version, guise.coding, in_memory, is_racy),
            content,
            is_racy,
            digests: self.tags.known(&version),
        };
        self.asset(guise, &media_type, forms, made, body)
    }

    /// The asset with its fields; `body` follows them for what is kept on the heap.
    fn asset(
        &self,
        guise: AssetForm<'_>,
        media_type: &str,
        forms: Option<Box<EncodedVariants<Asset>>>,
        bytes: ByteFacts,
        body: &[u8],
    ) -> Asset {
        let AssetForm { path, original, coding, policy, beside } = guise;
        let ByteFacts { version, length, etag, content, is_racy, digests } = bytes;
        let modified = version.modified_before(SystemTime::now());
        let described = HeaderInput {
            modified,
            name: original.file_name(),
            media_type,
            coding,
            etag: &etag,
            length,
            varies: coding.is_some() || forms.is_some(),
            policy: &policy,
        };
        let fields = RenderedHeaders::render(&described, body);
        Asset {
            id: Asset::next_id(),
            path: path.clone(),
            version,
            modified,
            coding,
            length,
            etag,
            fields,
            content,
            is_racy,
            policy,
            generation: self.generation,
            beside,
            forms,
            digests,
            heat: Recency::default(),
            handles: Arc::clone(&self.handles),
        }
    }

    /// The other forms in which a file is to be had.
    fn forms(
        &self,
        path: &SitePath<'_>,
        version: &Version,
        media_type: &str,
        beside: &Sidecars,
    ) -> Option<Box<EncodedVariants<Asset>>> {
        let fresh = |coding| {
            let sidecar = beside.sidecar(coding)?;
            if sidecar.is_older_than(version) {
                if self.logged.admits((path, sidecar, version), Instant::now()) {
                    log::warn!(
                        "/{path}{} is older than its original, and is not served in its place",
                        coding.suffix()
                    );
                }
                return None;
            }
            Some(sidecar)
        };
        let is_wanted = self.sizes.compressed.as_ref().is_some_and(|sizes| sizes.contains(&version.size()));
        let is_compressible = is_wanted && beside.may_have_sidecars() && is_compressible(media_type);
        EncodedVariants::of(Encoding::ALL.map(fresh), is_compressible)
    }

    /// A file that was replaced between its opening and the look at it has another change time, and would get a tag that it
    /// never had while it stood at the path: its successor is opened instead.
    fn open_linked(&self, path: &SitePath<'static>) -> Result<RootEntry, Errno> {
        for _ in 0..STILL_TRIES {
            match self.open_with_retry(path) {
                Ok(RootEntry::File { stat, .. }) if links_of(&stat) == 0 => {}
                other => return other,
            }
        }
        self.open_with_retry(path)
    }

    /// Out of handles in the whole system: ours that idle may be the ones that are missing. A network file system that has
    /// lost a directory's handle finds it again by its name.
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

    fn content_of(
        &self,
        file: BorrowedFd<'_>,
        version: &Version,
        path: &SitePath<'_>,
    ) -> io::Result<AssetBody> {
        let length = version.size();
        if length == 0 || length > self.sizes.mapped_file_bytes || network::is_remote(self.storage(), file) {
            return Ok(AssetBody::Unmapped);
        }
        let Ok(length) = usize::try_from(length) else { return Ok(AssetBody::Unmapped) };
        let mapped = self.storage().map(file, length).or_else(|error| {
            if error.raw_os_error() == Some(libc::ENOMEM) {
                self.handles.close_idle(CLOSE_WHEN_SHORT);
                self.reaper.reap();
                return self.storage().map(file, length);
            }
            Err(error)
        });
        Ok(mapped.map_or_else(
            |error| {
                let words = format_args!("/{path} of {length} bytes is sent without a mapping: {error}");
                self.faults.report(Fault::Map, path, words);
                AssetBody::Unmapped
            },
            |mapping| AssetBody::Mapped(Mapped::new(mapping, &self.reaper)),
        ))
    }

    fn outcome_of(&self, errno: Errno, path: &SitePath<'static>) -> NameOutcome {
        match errno {
            nowhere if leads_nowhere(nowhere) => NameOutcome::Missing,
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

fn no_form(outcome: &NameOutcome) -> VariantError {
    match outcome {
        NameOutcome::Busy => VariantError::Busy,
        _ => VariantError::Failed,
    }
}

/// A small file's bytes, all of one version; none where the file does not hold still.
fn read_whole(
    storage: &dyn Storage,
    file: BorrowedFd<'_>,
    mut version: Version,
) -> io::Result<Option<(Version, Vec<u8>)>> {
    for _ in 0..STILL_TRIES {
        let mut bytes = vec![0; usize::try_from(version.size()).map_err(io::Error::other)?];
        let read = fill(storage, file, &mut bytes, 0)?;
        let stat = storage.fstat(file)?;
        let after = Version::of(&stat);
        // Only its name was taken away meanwhile: the bytes are still those of the version that stood there.
        let is_same = after == version || (links_of(&stat) == 0 && version.still_is(u64::MAX, &stat));
        if is_same && read == bytes.len() {
            return Ok(Some((version, bytes)));
        }
        if after.size() > (bytes.len() as u64).saturating_mul(2).max(GROWN_TOO_FAR) {
            return Ok(None);
        }
        version = after;
    }
    Ok(None)
}

const STILL_TRIES: u32 = 3;

/// A small file that grows past this while it is read is no small file any more.
const GROWN_TOO_FAR: u64 = 64 * 1024;

const CLOSE_WHEN_SHORT: usize = 64;
