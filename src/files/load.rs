//! From a path to an asset: the job that runs off the workers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::Stat;
use rustix::io::Errno;

use super::asset::{Asset, Content, Fields};
use super::fill::fill;
use super::handle_pool::{Handle, HandlePool, Permit};
use super::name::{Held, Outcome};
use super::network;
use super::root::{Entry, Root};
use super::version::{Version, links_of};
use crate::http::media_type::media_type;
use crate::http::target::SitePath;
use crate::kernel::Mapping;

/// What decides how a file is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Files up to this length are copied to the heap.
    pub(crate) heap_file_bytes: u64,
    /// Longer files are not mapped: a single one would push too many others out.
    pub(crate) mapped_file_bytes: u64,
}

/// What a load found.
pub(crate) struct Loaded {
    pub(crate) outcome: Outcome,
    pub(crate) asset: Option<Arc<Asset>>,
    /// The name can't come to mean something else without an event in the directories on its way: no symbolic link
    /// leads to it, no other name changes it, no other machine does.
    pub(crate) is_told_of: bool,
}

/// Opens what stands at `path` and makes it ready to be sent. Blocks.
///
/// `previous` is what was known of the name before: the same version is not read or mapped again.
pub(crate) fn load(
    root: &Root,
    path: &SitePath<'static>,
    previous: Option<Arc<Asset>>,
    sizes: Sizes,
    handles: &Arc<HandlePool>,
    permit: Permit,
) -> Loaded {
    let without_asset = |outcome, is_told_of| Loaded { outcome, asset: None, is_told_of };
    let entry = match open_with_retry(root, path, handles) {
        Ok(entry) => entry,
        Err(errno) => return without_asset(outcome_of(errno, root, path), errno == Errno::NOENT),
    };
    let (file, stat, is_plain) = match entry {
        Entry::Directory => return without_asset(Outcome::Directory, true),
        Entry::Special => return without_asset(Outcome::Missing, false),
        Entry::File { file, stat, is_plain } => (file, stat, is_plain),
    };
    let is_told_of = is_plain && links_of(&stat) == 1 && network::tells_changes(file.as_fd());
    let version = Version::of(&stat);
    let loaded = match previous.filter(|asset| asset.version == version && !asset.is_racy) {
        Some(asset) => {
            if !asset.is_on_heap() {
                handles.keep(asset.id, Arc::new(Handle::new(file, &stat, permit)));
            }
            Ok(asset)
        }
        None => admit(path, file, *stat, sizes, handles, permit).map(Arc::new),
    };
    match loaded {
        Ok(asset) => {
            let outcome = Outcome::File { version: asset.version, asset: Held::of(&asset) };
            Loaded { outcome, is_told_of: is_told_of && !asset.is_racy, asset: Some(asset) }
        }
        Err(error) => without_asset(failed(&error, root, path), false),
    }
}

/// Out of handles in the whole system: ours that idle may be the ones that are missing.
fn open_with_retry(root: &Root, path: &SitePath<'static>, handles: &HandlePool) -> Result<Entry, Errno> {
    match root.entry(path) {
        Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => {
            handles.close_idle(CLOSE_WHEN_SHORT);
            root.entry(path)
        }
        other => other,
    }
}

/// The asset for an open regular file.
fn admit(
    path: &SitePath<'static>,
    file: OwnedFd,
    stat: Stat,
    sizes: Sizes,
    handles: &Arc<HandlePool>,
    permit: Permit,
) -> io::Result<Asset> {
    let kind = media_type(path.file_name());
    let make = |version: Version, fields, content, is_racy| {
        Asset::new(path.clone(), version, fields, content, is_racy, Arc::clone(handles))
    };
    let version = Version::of(&stat);
    if version.size() <= sizes.heap_file_bytes
        && let Some((version, body)) = read_whole(file.as_fd(), version)?
    {
        let is_racy = version.is_racy(SystemTime::now());
        return Ok(make(version, Fields::render(&version, &kind, &body), Content::Heap, is_racy));
    }
    let content = content_of(file.as_fd(), &version, sizes, handles)?;
    let asset = make(version, Fields::render(&version, &kind, &[]), content, false);
    handles.keep(asset.id, Arc::new(Handle::new(file, &stat, permit)));
    Ok(asset)
}

/// A small file's bytes, all of one version; none where the file does not hold still.
fn read_whole(file: BorrowedFd<'_>, mut version: Version) -> io::Result<Option<(Version, Vec<u8>)>> {
    for _ in 0..STILL_TRIES {
        let mut bytes = vec![0; usize::try_from(version.size()).map_err(io::Error::other)?];
        let read = fill(file, &mut bytes, 0)?;
        let after = Version::of(&rustix::fs::fstat(file)?);
        if after == version && read == bytes.len() {
            return Ok(Some((version, bytes)));
        }
        if after.size() > (bytes.len() as u64).saturating_mul(2).max(GROWN_TOO_FAR) {
            return Ok(None);
        }
        version = after;
    }
    Ok(None)
}

fn content_of(
    file: BorrowedFd<'_>,
    version: &Version,
    sizes: Sizes,
    handles: &HandlePool,
) -> io::Result<Content> {
    let length = version.size();
    if length == 0 || length > sizes.mapped_file_bytes || network::is_remote(file) {
        return Ok(Content::Unmapped);
    }
    let Ok(length) = usize::try_from(length) else { return Ok(Content::Unmapped) };
    let mapped = Mapping::of(file, length).or_else(|error| {
        if error.raw_os_error() == Some(libc::ENOMEM) {
            handles.close_idle(CLOSE_WHEN_SHORT);
            return Mapping::of(file, length);
        }
        Err(error)
    });
    Ok(mapped.map_or_else(
        |error| {
            log::warn!("a file of {length} bytes is sent without a mapping: {error}");
            Content::Unmapped
        },
        Content::Mapped,
    ))
}

fn outcome_of(errno: Errno, root: &Root, path: &SitePath<'static>) -> Outcome {
    match errno {
        Errno::NOENT
        | Errno::NOTDIR
        | Errno::LOOP
        | Errno::NAMETOOLONG
        | Errno::XDEV
        | Errno::NXIO
        | Errno::NODEV
        | Errno::INVAL
        | Errno::ILSEQ => Outcome::Missing,
        Errno::ACCESS | Errno::PERM => Outcome::Forbidden,
        other => failed(&other.into(), root, path),
    }
}

fn failed(error: &io::Error, root: &Root, path: &SitePath<'static>) -> Outcome {
    let is_short = matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EAGAIN)
    );
    log::error!("{}: {path}: {error}", root.path().display());
    if is_short { Outcome::Busy } else { Outcome::Failed }
}

const STILL_TRIES: u32 = 3;

/// A small file that grows past this while it is read is no small file any more.
const GROWN_TOO_FAR: u64 = 64 * 1024;

const CLOSE_WHEN_SHORT: usize = 64;
