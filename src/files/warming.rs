//! Cache warm-up: which files are hot, and reading them into memory again.

use std::ops::Range;
use std::sync::Arc;

use super::{Asset, BATCH, CLOCK_START_MS, Fault, FileParts, Files, Lookup, Name, ReadRequest, Unavailable};
use crate::http::{client_key::ClientKey, encoding::Encoding, target::SitePath};

/// A file or an encoded variant that was in use, and its recently sent parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HotFile {
    pub(crate) path: SitePath<'static>,
    /// `None` for identity.
    pub(crate) encoding: Option<Encoding>,
    pub(crate) length: u64,
    pub(crate) parts: FileParts,
}

/// The budget that a file is charged to, and its bytes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BudgetCharge {
    Heap(u64),
    Mapped(u64),
    /// Takes only page cache.
    Unmapped,
}

/// Result of warming a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WarmResult {
    /// The name is cached, and this number of bytes is in memory.
    Read(u64),
    /// The file is missing, or may not be read.
    Gone,
    /// The disk failed, or no handle was available; the log has the cause.
    Failed,
}

impl Files {
    /// At most `most` files and variants that were used last, most recently used first. Looks at every name, which takes a while.
    pub(crate) fn hot_files(&self, most: usize) -> Vec<HotFile> {
        let last_use = |name: &Name| name.file().map(|_| name.last_touch());
        let (_, latest) = self.shared.names.top(most, last_use);
        let files = latest.iter().filter_map(|(_, name)| name.file());
        files.flat_map(|asset| variants_in_use(&asset)).take(most).collect()
    }

    /// The budget that a file of `length` bytes would be charged to.
    pub(crate) fn charge(&self, length: u64) -> BudgetCharge {
        let settings = &self.loader.settings;
        if length <= settings.heap_file_bytes() {
            BudgetCharge::Heap(length + HEAP_OVERHEAD)
        } else if length > settings.mapped_file_bytes() {
            BudgetCharge::Unmapped
        } else {
            BudgetCharge::Mapped(self.shared.assets.mapping_weight(length))
        }
    }

    /// Looks the file up and reads its hot parts into memory; not if it has another length by now, since its hot parts are unknown
    /// then. `rank` is its position among the files to be warmed, from 0.
    pub(crate) async fn warm(&self, hot: &HotFile, rank: u64) -> WarmResult {
        let found = self.find(&hot.path).await;
        let asset = match found.lookup {
            Lookup::File(asset) => asset,
            Lookup::Directory | Lookup::Missing | Lookup::Forbidden => return WarmResult::Gone,
            Lookup::Busy | Lookup::Failed => return WarmResult::Failed,
        };
        // Before every real use: a file that nobody requests stays behind those that were requested, and its first use is recorded.
        found.name.touched(CLOCK_START_MS / 2 - rank.min(CLOCK_START_MS / 4));
        let variant = match hot.encoding {
            None => asset,
            Some(encoding) => {
                let variants = asset.variants.as_ref();
                if variants.is_none_or(|variants| variants.sidecar(encoding).is_none()) {
                    self.start_encoding(&asset, encoding);
                    return WarmResult::Read(0);
                }
                match self.variant(&asset, encoding).await {
                    Ok(variant) => variant,
                    Err(_) => return WarmResult::Failed,
                }
            }
        };
        if variant.is_on_heap() {
            return WarmResult::Read(variant.length);
        }
        if hot.length != variant.length {
            return WarmResult::Read(0);
        }
        self.read_parts(&variant, hot.parts).await
    }

    /// Records uses of these files in reverse order, so that the first of them is the most recently used.
    pub(crate) async fn rank_hot_files(&self, hot: &[HotFile]) {
        for (count, hot) in hot.iter().rev().enumerate() {
            if let Some(asset) = self.shared.names.get(&hot.path).await.and_then(|name| name.file()) {
                let variant = hot.encoding.and_then(|encoding| asset.variants.as_ref()?.cached(encoding));
                self.shared.assets.touch(&variant.unwrap_or(asset)).await;
            }
            if count % RANKED_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    async fn read_parts(&self, asset: &Arc<Asset>, parts: FileParts) -> WarmResult {
        let handle = match self.handle(asset).await {
            Ok(handle) => handle,
            Err(Unavailable::Changed) => return WarmResult::Gone,
            Err(Unavailable::Busy | Unavailable::Failed) => return WarmResult::Failed,
        };
        let mut bytes = 0;
        for range in parts.ranges(asset.length).into_iter().flat_map(batches) {
            let next = range.end..range.end;
            let request =
                ReadRequest { asset: Arc::clone(asset), handle: handle.clone(), range: range.clone(), next };
            match self.shared.reads.read(ClientKey::Local, request).await {
                Ok(_) => bytes += range.end - range.start,
                // It is shorter than it was.
                Err(error) if error.raw_os_error() == Some(libc::EFAULT) => return WarmResult::Gone,
                Err(error) => {
                    let message = format_args!("/{} could not be read: {error}", asset.path);
                    self.loader.faults.report(Fault::Populate, &asset.path, message);
                    return WarmResult::Failed;
                }
            }
            asset.recency.record(&range, asset.length);
        }
        WarmResult::Read(bytes)
    }
}

/// The file itself, and its encoded variants that are in memory.
fn variants_in_use(asset: &Arc<Asset>) -> Vec<HotFile> {
    let encoded = asset.variants.iter().flat_map(|variants| variants.all_cached());
    let all = std::iter::once(Arc::clone(asset)).chain(encoded.filter(|variant| variant.encoding.is_some()));
    let hot = all.map(|variant| HotFile {
        path: asset.path.clone(),
        encoding: variant.encoding,
        length: variant.length,
        parts: variant.recency.parts(),
    });
    hot.collect()
}

/// A range in batches that are read at once: other clients have their turn in between.
fn batches(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let batches = range.start / BATCH..range.end.div_ceil(BATCH);
    batches.map(move |batch| range.start.max(batch * BATCH)..range.end.min((batch + 1) * BATCH))
}

/// Bytes that a small file takes on the heap besides its body, approximately.
const HEAP_OVERHEAD: u64 = 2 * 1024;

const RANKED_AT_ONCE: usize = 1024;
