//! A response body as windows of files and literal bytes.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::body::{MessageBody, SizedStream};
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use crate::files::Asset;
use crate::files::handle_pool::Handle;
use crate::http::target::SitePath;
use crate::net::SendError;

/// One part of a body.
#[derive(Clone)]
pub(crate) enum Segment {
    Bytes(Bytes),
    Window(Window),
}

/// A range of a file whose bytes stay in the kernel.
#[derive(Clone)]
pub(crate) struct Window {
    pub(super) asset: Arc<Asset>,
    pub(super) handle: Option<Arc<Handle>>,
    pub(super) range: Range<u64>,
    /// True for `sendfile` from the handle, false for `writev` from the mapping.
    pub(super) by_sendfile: bool,
}

impl Window {
    /// `range` of `asset`, sent by `sendfile` if it has at least `sendfile_from` bytes: below a measured length that
    /// call costs more than it saves. Without a handle it is sent from the mapping.
    pub(crate) fn new(
        asset: Arc<Asset>,
        handle: Option<Arc<Handle>>,
        range: Range<u64>,
        sendfile_from: u64,
    ) -> Self {
        let is_long = range.end - range.start >= sendfile_from;
        let by_sendfile = handle.is_some() && (is_long || asset.mapping().is_none());
        Self { asset, handle, range, by_sendfile }
    }

    /// Length in bytes.
    pub(super) fn length(&self) -> usize {
        distance(self.range.start, self.range.end)
    }

    /// Fills `buffer` from the front of the window with `pread`. The bytes must be resident. Never touches the mapping.
    ///
    /// # Errors
    /// [`SendError::Changed`] if the file is shorter, [`SendError::Disk`] if there is no handle or the disk fails.
    pub(super) fn read_resident(&self, buffer: &mut [u8]) -> Result<(), SendError> {
        let Some(handle) = &self.handle else {
            return Err(SendError::Disk(io::ErrorKind::ResourceBusy.into()));
        };
        let read = handle.storage().read_full(handle.fd(), buffer, self.range.start);
        let is_whole = read.map_err(SendError::Disk)? == buffer.len();
        if is_whole { Ok(()) } else { Err(SendError::Changed) }
    }
}

impl Segment {
    /// The file that the segment is a part of.
    pub(super) fn file(&self) -> Option<&SitePath<'static>> {
        match self {
            Self::Bytes(_) => None,
            Self::Window(window) => Some(&window.asset.path),
        }
    }

    /// Length in bytes.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Window(window) => window.range.end.saturating_sub(window.range.start),
        }
    }
}

/// A body of known length.
#[derive(Default)]
pub struct Segments {
    pub(super) list: VecDeque<Segment>,
    /// Length in bytes.
    pub(super) length: u64,
}

impl Segments {
    pub(crate) fn push(&mut self, segment: Segment) {
        self.length += segment.length();
        self.list.push_back(segment);
    }
}

/// The same body as bytes, for a middleware that changes them. Read with `pread`, off the worker.
pub(super) fn body_of(segments: Rc<Segments>) -> impl MessageBody {
    let length = segments.length;
    let next = async |(segments, left): (Rc<Segments>, Option<VecDeque<Segment>>)| {
        let mut left = left.unwrap_or_else(|| segments.list.clone());
        let bytes = match left.pop_front()? {
            Segment::Bytes(bytes) => Ok(bytes),
            Segment::Window(mut window) => {
                let end = window.range.end.min(window.range.start + READ);
                let next = Window { range: window.range.start..end, ..window.clone() };
                window.range.start = end;
                if !window.range.is_empty() {
                    left.push_front(Segment::Window(window));
                }
                let read = tokio::task::spawn_blocking(move || read(&next));
                read.await.unwrap_or_else(|error| Err(io::Error::other(error)))
            }
        };
        Some((bytes, (segments, Some(left))))
    };
    SizedStream::new(length, stream::unfold((segments, None), next).fuse())
}

fn read(window: &Window) -> io::Result<Bytes> {
    let failed = |kind: io::ErrorKind, why: &dyn Display| {
        io::Error::new(kind, format!("/{} could not be read: {why}", window.asset.path))
    };
    let Some(handle) = &window.handle else {
        return Err(failed(io::ErrorKind::ResourceBusy, &"no file handle is free"));
    };
    let length = usize::try_from(window.range.end - window.range.start).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    let filled = handle
        .storage()
        .read_full(handle.fd(), &mut bytes, window.range.start)
        .map_err(|error| failed(error.kind(), &error))?;
    if filled < length || !handle.is_unchanged().unwrap_or(false) {
        return Err(failed(io::ErrorKind::StaleNetworkFileHandle, &"it has changed"));
    }
    Ok(bytes.into())
}

pub(super) fn distance(start: u64, end: u64) -> usize {
    usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX)
}

/// Bytes of a file that are read at once.
const READ: u64 = 64 * 1024;
