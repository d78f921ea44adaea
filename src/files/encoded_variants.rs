//! Encoded variants of a file: sidecars, and variants that were encoded in the background.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{CacheRef, TaskOutcome, Version};
use crate::http::encoding::Encoding;

/// The encoded variants of one version of one file.
///
/// Decision: docs/decisions/019-encoded-variants.md.
pub(crate) struct EncodedVariants<T> {
    sidecars: [Option<Version>; Encoding::ALL.len()],
    /// Variants without a sidecar may be encoded here.
    is_compressible: bool,
    slots: [VariantSlot<T>; Encoding::ALL.len()],
}

/// State of one variant.
pub(super) struct VariantSlot<T> {
    variant: Mutex<Option<CacheRef<T>>>,
    /// It was encoded, and is no shorter than the file.
    is_useless: AtomicBool,
    /// Its sidecar could not be read a while ago.
    is_unreadable: AtomicBool,
    state: Mutex<SlotState>,
    /// Held by the request that opens the sidecar; others wait for it.
    pub(super) opening: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy, Default)]
struct SlotState {
    is_being_encoded: bool,
    /// It was encoded, and is not to be again until the delay is over.
    retry: Option<RetryDelay>,
    /// Its sidecar counts as absent until then.
    unreadable_until: Option<Instant>,
}

impl<T> VariantSlot<T> {
    fn new() -> Self {
        Self {
            variant: Mutex::default(),
            is_useless: AtomicBool::default(),
            is_unreadable: AtomicBool::default(),
            state: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
        }
    }

    fn is_unreadable(&self) -> bool {
        if !self.is_unreadable.load(Ordering::Acquire) {
            return false;
        }
        let lasts = self.state.lock().unreadable_until.is_some_and(|until| Instant::now() < until);
        if !lasts {
            self.is_unreadable.store(false, Ordering::Release);
        }
        lasts
    }
}

/// A variant that was evicted, or whose encoding panicked, is encoded again after a delay that doubles each time: if the variants in
/// use exceed the heap, or the same bytes panic again, each would otherwise be encoded anew for nearly every request.
#[derive(Clone, Copy)]
struct RetryDelay {
    until: Instant,
    length: Duration,
}

impl<T> EncodedVariants<T> {
    /// Variants of a file with these sidecars; `None` if there can be none.
    pub(crate) fn new(sidecars: [Option<Version>; 3], is_compressible: bool) -> Option<Box<Self>> {
        let is_any = is_compressible || sidecars.iter().any(Option::is_some);
        is_any.then(|| {
            Box::new(Self { sidecars, is_compressible, slots: Encoding::ALL.map(|_| VariantSlot::new()) })
        })
    }

    /// Whether the encoding is available, or may be after a while.
    pub(crate) fn is_possible(&self, encoding: Encoding) -> bool {
        self.sidecar(encoding).is_some() || self.may_encode(encoding)
    }

    /// Whether a response can have the encoding now.
    pub(crate) fn is_available(&self, encoding: Encoding) -> bool {
        self.sidecar(encoding).is_some() || self.cached(encoding).is_some()
    }

    /// Version of a usable sidecar.
    pub(crate) fn sidecar(&self, encoding: Encoding) -> Option<Version> {
        self.sidecars[encoding as usize].filter(|_| !self.slot(encoding).is_unreadable())
    }

    /// Treats the sidecar as absent for a while.
    pub(crate) fn mark_unreadable(&self, encoding: Encoding) {
        let slot = self.slot(encoding);
        slot.state.lock().unreadable_until = Some(Instant::now() + UNREADABLE_FOR);
        slot.is_unreadable.store(true, Ordering::Release);
    }

    /// Takes over what is known of the variants of the same version of the file; the variants themselves only if they
    /// `are_current`.
    pub(crate) fn inherit(&self, before: &Self, are_current: bool) {
        for encoding in Encoding::ALL {
            let (slot, old) = (self.slot(encoding), before.slot(encoding));
            if self.sidecars[encoding as usize] != before.sidecars[encoding as usize] {
                continue;
            }
            if are_current && let Some(variant) = &*old.variant.lock() {
                self.insert(encoding, variant.clone());
            }
            let SlotState { retry, unreadable_until, .. } = *old.state.lock();
            let retry = retry.filter(|_| are_current);
            *slot.state.lock() = SlotState { retry, unreadable_until, is_being_encoded: false };
            slot.is_useless.store(old.is_useless.load(Ordering::Acquire), Ordering::Release);
            slot.is_unreadable.store(old.is_unreadable(), Ordering::Release);
        }
    }

    /// The variant, if it is in memory.
    pub(crate) fn cached(&self, encoding: Encoding) -> Option<Arc<T>> {
        self.slot(encoding).variant.lock().as_ref()?.get()
    }

    /// All variants that are in memory.
    pub(crate) fn all_cached(&self) -> impl Iterator<Item = Arc<T>> {
        Encoding::ALL.into_iter().filter_map(|encoding| self.cached(encoding))
    }

    pub(crate) fn insert(&self, encoding: Encoding, variant: CacheRef<T>) {
        *self.slot(encoding).variant.lock() = Some(variant);
    }

    /// Claims the encoding for the caller; false if another task has it, or it is not due.
    pub(crate) fn begin(&self, encoding: Encoding) -> bool {
        let mut state = self.slot(encoding).state.lock();
        let is_due = state.retry.is_none_or(|retry| retry.until <= Instant::now());
        let begins = self.may_encode(encoding) && is_due && !state.is_being_encoded;
        state.is_being_encoded |= begins;
        begins
    }

    /// Ends the encoding.
    pub(crate) fn end(&self, encoding: Encoding, outcome: TaskOutcome) {
        let slot = self.slot(encoding);
        let mut state = slot.state.lock();
        let retry_after = |length| Some(RetryDelay { until: Instant::now() + length, length });
        match outcome {
            TaskOutcome::Kept | TaskOutcome::Panicked => {
                let doubled = |retry: RetryDelay| retry.length.saturating_mul(2).min(RETRY_MAX);
                state.retry = retry_after(state.retry.map_or(RETRY_MIN, doubled));
            }
            TaskOutcome::Failed => state.retry = retry_after(RETRY_MIN),
            TaskOutcome::Useless | TaskOutcome::Nothing => {}
        }
        slot.is_useless.store(outcome == TaskOutcome::Useless, Ordering::Release);
        state.is_being_encoded = false;
    }

    fn may_encode(&self, encoding: Encoding) -> bool {
        self.is_compressible && !self.slot(encoding).is_useless.load(Ordering::Acquire)
    }

    pub(super) fn slot(&self, encoding: Encoding) -> &VariantSlot<T> {
        &self.slots[encoding as usize]
    }
}

/// Time until an unreadable sidecar is tried again.
const UNREADABLE_FOR: Duration = Duration::from_secs(1);

const RETRY_MIN: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    fn compressible() -> Box<EncodedVariants<()>> {
        EncodedVariants::new([None; 3], true).unwrap()
    }

    #[test]
    fn a_variant_is_encoded_by_one_task_at_a_time() {
        let variants = compressible();
        assert!(
            variants.begin(Encoding::Br) && !variants.begin(Encoding::Br) && variants.begin(Encoding::Gzip)
        );
        variants.end(Encoding::Br, TaskOutcome::Nothing);
        assert!(variants.begin(Encoding::Br));
    }

    #[test]
    fn a_useless_variant_is_not_tried_again_and_not_possible() {
        let variants = compressible();
        assert!(variants.begin(Encoding::Br));
        variants.end(Encoding::Br, TaskOutcome::Useless);
        assert!(!variants.begin(Encoding::Br));
        assert!(!variants.is_possible(Encoding::Br) && variants.is_possible(Encoding::Zstd));
    }

    #[test]
    fn an_evicted_variant_is_not_encoded_again_at_once_nor_for_the_next_asset() {
        let variants = compressible();
        assert!(variants.begin(Encoding::Br));
        variants.end(Encoding::Br, TaskOutcome::Kept);
        assert!(!variants.begin(Encoding::Br) && variants.begin(Encoding::Zstd));
        assert!(variants.is_possible(Encoding::Br), "it may come back");
        let heir = compressible();
        heir.inherit(&variants, true);
        assert!(!heir.begin(Encoding::Br) && heir.begin(Encoding::Zstd));
        let other = compressible();
        other.inherit(&variants, false);
        assert!(other.begin(Encoding::Br), "encoded under other settings, it is encoded again");
    }

    #[test]
    fn an_encoding_that_panicked_is_tried_again_after_a_delay_that_doubles() {
        let variants = compressible();
        let mut expected = RETRY_MIN;
        for _ in 0..10 {
            assert!(variants.begin(Encoding::Br));
            variants.end(Encoding::Br, TaskOutcome::Panicked);
            assert!(!variants.begin(Encoding::Br) && variants.is_possible(Encoding::Br));
            let mut state = variants.slot(Encoding::Br).state.lock();
            let retry = state.retry.as_mut().unwrap();
            assert_eq!(retry.length, expected);
            retry.until = Instant::now();
            expected = (expected * 2).min(RETRY_MAX);
        }
        assert_eq!(expected, RETRY_MAX);
    }

    #[test]
    fn an_unreadable_sidecar_counts_as_absent_also_for_the_next_asset() {
        let sidecars = [Some(Version::sample(1, 1)), Some(Version::sample(2, 2)), None];
        let variants = EncodedVariants::<()>::new(sidecars, false).unwrap();
        variants.mark_unreadable(Encoding::Br);
        let (heir, other) = (
            EncodedVariants::new(sidecars, false).unwrap(),
            EncodedVariants::new([Some(Version::sample(1, 9)), None, None], false).unwrap(),
        );
        heir.inherit(&variants, true);
        other.inherit(&variants, true);
        for (variants, has_br, has_zstd) in
            [(variants, false, true), (heir, false, true), (other, true, false)]
        {
            assert_eq!(variants.sidecar(Encoding::Br).is_some(), has_br);
            assert_eq!(variants.is_possible(Encoding::Zstd), has_zstd);
        }
    }
}
