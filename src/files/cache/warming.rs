//! What is hot, for those who remember it, and how it becomes so again.

use std::cmp::Reverse;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Files, NoHandle, PAGE};
use crate::files::asset::Asset;
use crate::files::faults::Fault;
use crate::files::name::{FIRST_MS, Lookup, Name};
use crate::files::reads::ReadRequest;
use crate::files::recency::FileParts;
use crate::files::window::BATCH;
use crate::http::client_key::ClientKey;
use crate::http::encoding::Encoding;
use crate::http::target::SitePath;

/// A form of a file that was in use, and which parts of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HotFile {
    pub(crate) path: SitePath<'static>,
    /// None for the file as it is.
    pub(crate) coding: Option<Encoding>,
    pub(crate) length: u64,
    pub(crate) parts: FileParts,
}

/// Which budget a file of some length is charged to, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BudgetCharge {
    Heap(u64),
    Mapped(u64),
    /// The page cache alone.
    Unmapped,
}

/// What came of warming a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WarmResult {
    /// It is known, and so many bytes of it are in memory.
    Read(u64),
    /// It is not there, or no file that may be read.
    Gone,
    /// The disk failed, or nothing was to be had to open it with; the log says which.
    Failed,
}

impl Files {
    /// The files that were used last, the latest first, at most `most` forms of them. Takes a while: it looks at every name.
    pub(crate) fn hot(&self, most: usize) -> Vec<HotFile> {
        let mut names: Vec<(u64, Arc<Name>)> = Vec::new();
        let latest_first = |(used, _): &(u64, Arc<Name>)| Reverse(*used);
        for (_, name) in &self.inner.names {
            if matches!(name.lookup(), Some(Lookup::File(_))) {
                names.push((name.last_touch(), name));
            }
            if names.len() >= most.saturating_mul(2).max(LEAST_SORTED) {
                names.sort_by_key(latest_first);
                names.truncate(most);
            }
        }
        names.sort_by_key(latest_first);
        let assets = names.into_iter().filter_map(|(_, name)| match name.lookup() {
            Some(Lookup::File(asset)) => Some(asset),
            _ => None,
        });
        assets.flat_map(|asset| forms_in_use(&asset)).take(most).collect()
    }

    /// Ends a period of heat where one is over: parts of files that were sent in none of the last two are not hot any more.
    /// Looks at every name, away from the caller.
    pub(super) fn age_heat_when_due(&self) {
        let (now_ms, due_ms) = (self.now_ms(), self.inner.heat_ages_ms.load(Ordering::Relaxed));
        if now_ms < due_ms {
            return;
        }
        self.inner.heat_ages_ms.store(now_ms + PERIOD_MS, Ordering::Relaxed);
        let inner = Arc::clone(&self.inner);
        self.inner.opens.run(move || {
            for (_, name) in &inner.names {
                if let Some(Lookup::File(asset)) = name.lookup() {
                    forms_of(&asset).for_each(|form| form.heat.age());
                    asset.heat.age();
                }
            }
        });
    }

    /// What a file of `length` bytes would be charged to.
    pub(crate) fn charge(&self, length: u64) -> BudgetCharge {
        let sizes = &self.inner.loader.sizes;
        if length <= sizes.heap_file_bytes {
            BudgetCharge::Heap(length + HEAP_OVERHEAD)
        } else if length > sizes.mapped_file_bytes {
            BudgetCharge::Unmapped
        } else {
            BudgetCharge::Mapped(length.div_ceil(PAGE).max(self.inner.least_pages) * PAGE)
        }
    }

    /// Looks the file up and reads its hot parts into memory. The parts of a file that has another length by now are not
    /// read: nobody knows which of them are hot. `rank` is its place among the files that are warmed, from 0 on.
    pub(crate) async fn warm(&self, hot: &HotFile, rank: u64) -> WarmResult {
        let found = self.find(&hot.path).await;
        let asset = match found.lookup {
            Lookup::File(asset) => asset,
            Lookup::Directory | Lookup::Missing | Lookup::Forbidden => return WarmResult::Gone,
            Lookup::Busy | Lookup::Failed => return WarmResult::Failed,
        };
        // Earlier than every use: what nobody asks for stays behind what was asked for, and the first use is noted.
        found.name.touched(FIRST_MS / 2 - rank.min(FIRST_MS / 4));
        let form = match hot.coding {
            None => asset,
            Some(coding) => {
                let is_beside = asset.forms.as_ref().is_some_and(|forms| forms.sidecar(coding).is_some());
                if !is_beside {
                    self.compress_soon(&asset, coding);
                    return WarmResult::Read(0);
                }
                match self.form(&asset, coding).await {
                    Ok(form) => form,
                    Err(_) => return WarmResult::Failed,
                }
            }
        };
        if form.is_on_heap() {
            return WarmResult::Read(form.length());
        }
        if hot.length != form.length() {
            return WarmResult::Read(0);
        }
        self.read_parts(&form, hot.parts).await
    }

    /// Has the caches believe that these files were used in reverse order, the first of them last.
    pub(crate) async fn rank(&self, hot: &[HotFile]) {
        for (count, hot) in hot.iter().rev().enumerate() {
            if let Some(name) = self.inner.names.get(hot.path.as_bytes()).await
                && let Some(Lookup::File(asset)) = name.lookup()
            {
                let form = hot.coding.and_then(|coding| asset.forms.as_ref()?.ready(coding));
                self.touch_asset(&form.unwrap_or(asset)).await;
            }
            if count % RANKED_IN_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    async fn read_parts(&self, asset: &Arc<Asset>, parts: FileParts) -> WarmResult {
        let handle = match self.warm_handle(asset) {
            Some(handle) => Some(handle),
            None => match self.handle(asset).await {
                Ok(handle) => handle,
                Err(NoHandle::Changed) => return WarmResult::Gone,
                Err(NoHandle::Exhausted) => return WarmResult::Failed,
            },
        };
        let mut bytes = 0;
        for step in parts.ranges(asset.length()).into_iter().flat_map(steps) {
            let (range, next) = (step.clone(), step.end..step.end);
            let wanted = ReadRequest { asset: Arc::clone(asset), handle: handle.clone(), range, next };
            match self.reads().read(ClientKey::Local, wanted).await {
                Ok(_) => bytes += step.end - step.start,
                // It is shorter than it was.
                Err(error) if error.raw_os_error() == Some(libc::EFAULT) => return WarmResult::Gone,
                Err(error) => return self.unread(asset, &error),
            }
            asset.heat.note(&step, asset.length());
        }
        WarmResult::Read(bytes)
    }

    fn unread(&self, asset: &Asset, error: &io::Error) -> WarmResult {
        let words = format_args!("/{} could not be read: {error}", asset.path);
        self.faults().report(Fault::Populate, &asset.path, words);
        WarmResult::Failed
    }
}

/// The file as it is, and its other forms that are in memory.
fn forms_in_use(asset: &Arc<Asset>) -> Vec<HotFile> {
    let own =
        HotFile { path: asset.path.clone(), coding: None, length: asset.length(), parts: asset.heat.parts() };
    let others = forms_of(asset).filter_map(|form| {
        let parts = form.heat.parts();
        form.coding.map(|_| HotFile {
            path: asset.path.clone(),
            coding: form.coding,
            length: form.length(),
            parts,
        })
    });
    std::iter::once(own).chain(others).collect()
}

fn forms_of(asset: &Asset) -> impl Iterator<Item = Arc<Asset>> {
    let forms = asset.forms.as_ref();
    Encoding::ALL.into_iter().filter_map(move |coding| forms?.ready(coding))
}

/// A range in steps that are read at once: others have their turn in between.
fn steps(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let batches = range.start / BATCH..range.end.div_ceil(BATCH);
    batches.map(move |batch| range.start.max(batch * BATCH)..range.end.min((batch + 1) * BATCH))
}

/// How long a part of a file stays hot, once or twice.
pub(super) const PERIOD_MS: u64 = 10 * 60 * 1000;

/// What a small file takes on the heap besides its bytes, about.
const HEAP_OVERHEAD: u64 = 2 * 1024;

/// Names are sorted in runs of at least so many.
const LEAST_SORTED: usize = 4096;

const RANKED_IN_TURN: usize = 1024;
