//! The compressed forms in which a file is to be had as well: sidecars beside it, and what was compressed in the background.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::version::Version;
use crate::files::cache_ref::CacheRef;
use crate::http::encoding::{Encoding, EncodingSet};

/// The forms of one version of one file. A file that can have none has no `EncodedVariants` at all.
pub(crate) struct EncodedVariants<T> {
    sidecars: [Option<Version>; Encoding::ALL.len()],
    /// Forms without a sidecar may be made.
    is_compressible: bool,
    slots: [VariantSlot<T>; Encoding::ALL.len()],
}

/// A place for one form.
struct VariantSlot<T> {
    held: Mutex<Option<CacheRef<T>>>,
    /// It is being compressed.
    is_being_made: AtomicBool,
    /// It was compressed, and is no shorter.
    is_useless: AtomicBool,
    /// It was compressed, and is not to be so soon again.
    rest: Mutex<Option<RetryDelay>>,
    /// Its sidecar can't be read, or could not until a moment ago.
    is_unreadable: AtomicBool,
    unreadable_until: Mutex<Option<Instant>>,
    /// Only one request opens a sidecar; others wait for it.
    opening: tokio::sync::Mutex<()>,
}

impl<T> VariantSlot<T> {
    fn new() -> Self {
        Self {
            held: Mutex::new(None),
            is_being_made: AtomicBool::new(false),
            is_useless: AtomicBool::new(false),
            rest: Mutex::new(None),
            is_unreadable: AtomicBool::new(false),
            unreadable_until: Mutex::new(None),
            opening: tokio::sync::Mutex::new(()),
        }
    }

    fn is_unreadable(&self) -> bool {
        if !self.is_unreadable.load(Ordering::Acquire) {
            return false;
        }
        let lasts = self.unreadable_until.lock().is_some_and(|until| Instant::now() < until);
        if !lasts {
            self.is_unreadable.store(false, Ordering::Release);
        }
        lasts
    }
}

/// What came of compressing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum EncodeOutcome {
    /// A form that is kept for as long as there is room.
    Kept,
    /// Nothing that is worth keeping, now or later.
    Useless,
    /// Nothing this time, and no work either that a repetition would waste.
    Nothing,
    /// The disk failed: it is not asked again for every request.
    Failed,
}

/// A form that finds no room is made again after a while, and after twice as long each time: where the forms in use exceed
/// the heap, each would otherwise be made anew for nearly every request.
#[derive(Clone, Copy)]
struct RetryDelay {
    until: Instant,
    length: Duration,
}

impl<T> EncodedVariants<T> {
    /// Forms for a file with these sidecars; none where there is nothing to choose from.
    pub(crate) fn of(sidecars: [Option<Version>; 3], is_compressible: bool) -> Option<Box<Self>> {
        let is_any = is_compressible || sidecars.iter().any(Option::is_some);
        is_any.then(|| {
            Box::new(Self { sidecars, is_compressible, slots: Encoding::ALL.map(|_| VariantSlot::new()) })
        })
    }

    /// Codings of the sidecars.
    pub(crate) fn sidecars(&self) -> EncodingSet {
        self.codings(|coding| self.sidecar(coding).is_some())
    }

    /// Codings that there are, or may be after a while.
    pub(crate) fn possible(&self) -> EncodingSet {
        self.codings(|coding| self.sidecar(coding).is_some() || self.may_make(coding))
    }

    /// Codings that can be answered with now.
    pub(crate) fn available(&self) -> EncodingSet {
        self.codings(|coding| self.sidecar(coding).is_some() || self.ready(coding).is_some())
    }

    /// The version of a sidecar that is of use.
    pub(crate) fn sidecar(&self, coding: Encoding) -> Option<Version> {
        self.sidecars[coding as usize].filter(|_| !self.slot(coding).is_unreadable())
    }

    /// For a while it is as if the sidecar were absent.
    pub(crate) fn give_up(&self, coding: Encoding) {
        let slot = self.slot(coding);
        *slot.unreadable_until.lock() = Some(Instant::now() + UNREADABLE_FOR);
        slot.is_unreadable.store(true, Ordering::Release);
    }

    /// Takes over what is known of forms of the same version of the file: the forms as well where they `still_do`.
    pub(crate) fn adopt(&self, before: &Self, still_do: bool) {
        for coding in Encoding::ALL {
            let (slot, old) = (self.slot(coding), before.slot(coding));
            if self.sidecars[coding as usize] != before.sidecars[coding as usize] {
                continue;
            }
            if still_do {
                if let Some(form) = &*old.held.lock() {
                    self.keep(coding, form.clone());
                }
                let rest = *old.rest.lock();
                *slot.rest.lock() = rest;
            }
            slot.is_useless.store(old.is_useless.load(Ordering::Acquire), Ordering::Release);
            let until = *old.unreadable_until.lock();
            *slot.unreadable_until.lock() = until;
            slot.is_unreadable.store(old.is_unreadable(), Ordering::Release);
        }
    }

    /// The form, if it is in memory.
    pub(crate) fn ready(&self, coding: Encoding) -> Option<Arc<T>> {
        self.slot(coding).held.lock().as_ref()?.get()
    }

    pub(crate) fn keep(&self, coding: Encoding, form: CacheRef<T>) {
        *self.slot(coding).held.lock() = Some(form);
    }

    /// The turn to open a sidecar.
    pub(crate) async fn opening(&self, coding: Encoding) -> tokio::sync::MutexGuard<'_, ()> {
        self.slot(coding).opening.lock().await
    }

    /// Whether the caller is the one to compress the file now.
    pub(crate) fn begin(&self, coding: Encoding) -> bool {
        let slot = self.slot(coding);
        let is_due = || slot.rest.lock().is_none_or(|rest| rest.until <= Instant::now());
        self.may_make(coding) && is_due() && !slot.is_being_made.swap(true, Ordering::AcqRel)
    }

    /// The compressing has ended.
    pub(crate) fn end(&self, coding: Encoding, made: EncodeOutcome) {
        let slot = self.slot(coding);
        if made == EncodeOutcome::Kept {
            let mut rest = slot.rest.lock();
            let length = rest.map_or(REST_MIN, |rest| rest.length.saturating_mul(2).min(REST_MAX));
            *rest = Some(RetryDelay { until: Instant::now() + length, length });
        }
        if made == EncodeOutcome::Failed {
            *slot.rest.lock() = Some(RetryDelay { until: Instant::now() + REST_MIN, length: REST_MIN });
        }
        slot.is_useless.store(made == EncodeOutcome::Useless, Ordering::Release);
        slot.is_being_made.store(false, Ordering::Release);
    }

    fn may_make(&self, coding: Encoding) -> bool {
        self.is_compressible && !self.slot(coding).is_useless.load(Ordering::Acquire)
    }

    fn slot(&self, coding: Encoding) -> &VariantSlot<T> {
        &self.slots[coding as usize]
    }

    fn codings(&self, is_in: impl Fn(Encoding) -> bool) -> EncodingSet {
        Encoding::ALL.into_iter().filter(|coding| is_in(*coding)).fold(EncodingSet::NONE, EncodingSet::with)
    }
}

/// So long a sidecar that could not be read is not tried again.
const UNREADABLE_FOR: Duration = Duration::from_secs(1);

const REST_MIN: Duration = Duration::from_secs(5);
const REST_MAX: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    fn compressible() -> Box<EncodedVariants<()>> {
        EncodedVariants::of([None; 3], true).unwrap()
    }

    #[test]
    fn a_form_is_made_by_one_at_a_time() {
        let forms = compressible();
        assert!(forms.begin(Encoding::Br) && !forms.begin(Encoding::Br) && forms.begin(Encoding::Gzip));
        forms.end(Encoding::Br, EncodeOutcome::Nothing);
        assert!(forms.begin(Encoding::Br));
    }

    #[test]
    fn what_is_useless_is_not_tried_again_and_not_counted_on() {
        let forms = compressible();
        assert!(forms.begin(Encoding::Br));
        forms.end(Encoding::Br, EncodeOutcome::Useless);
        assert!(!forms.begin(Encoding::Br));
        assert!(!forms.possible().has(Encoding::Br) && forms.possible().has(Encoding::Zstd));
    }

    #[test]
    fn a_form_that_found_no_room_is_not_made_again_at_once_nor_by_who_takes_over() {
        let forms = compressible();
        assert!(forms.begin(Encoding::Br));
        forms.end(Encoding::Br, EncodeOutcome::Kept);
        assert!(!forms.begin(Encoding::Br) && forms.begin(Encoding::Zstd));
        assert!(forms.possible().has(Encoding::Br), "it may come back");
        let heir = compressible();
        heir.adopt(&forms, true);
        assert!(!heir.begin(Encoding::Br) && heir.begin(Encoding::Zstd));
        let other = compressible();
        other.adopt(&forms, false);
        assert!(other.begin(Encoding::Br), "made under other settings, it is made again");
    }

    #[test]
    fn a_sidecar_that_is_given_up_counts_as_absent_also_for_who_takes_over() {
        let sidecars = [Some(Version::sample(1, 1)), Some(Version::sample(2, 2)), None];
        let forms = EncodedVariants::<()>::of(sidecars, false).unwrap();
        forms.give_up(Encoding::Br);
        let (heir, other) = (
            EncodedVariants::of(sidecars, false).unwrap(),
            EncodedVariants::of([Some(Version::sample(1, 9)), None, None], false).unwrap(),
        );
        heir.adopt(&forms, true);
        other.adopt(&forms, true);
        for (forms, has_br, has_zstd) in [(forms, false, true), (heir, false, true), (other, true, false)] {
            assert_eq!(forms.sidecars().has(Encoding::Br), has_br);
            assert_eq!(forms.possible().has(Encoding::Zstd), has_zstd);
        }
    }
}
