//! The compressed forms in which a file is to be had as well: sidecars beside it, and what was compressed in the background.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::asset::Asset;
use super::name::Held;
use super::version::Version;
use crate::http::encoding::{Coding, Codings};

/// The forms of one version of one file. A file that can have none has no `Forms` at all.
pub(crate) struct Forms {
    sidecars: [Option<Version>; Coding::ALL.len()],
    /// Forms without a sidecar may be made.
    is_compressible: bool,
    slots: [Slot; Coding::ALL.len()],
}

/// A place for one form.
#[derive(Default)]
struct Slot {
    held: Mutex<Option<Held>>,
    /// It is being compressed.
    is_being_made: AtomicBool,
    /// It was compressed, and is no shorter.
    is_useless: AtomicBool,
    /// Its sidecar can't be read.
    is_unreadable: AtomicBool,
    /// Only one request opens a sidecar; others wait for it.
    opening: tokio::sync::Mutex<()>,
}

impl Forms {
    /// Forms for a file with these sidecars; none where there is nothing to choose from.
    pub(crate) fn of(sidecars: [Option<Version>; 3], is_compressible: bool) -> Option<Box<Self>> {
        let is_any = is_compressible || sidecars.iter().any(Option::is_some);
        is_any.then(|| Box::new(Self { sidecars, is_compressible, slots: Default::default() }))
    }

    /// Codings of the sidecars.
    pub(crate) fn sidecars(&self) -> Codings {
        self.codings(|coding| self.sidecar(coding).is_some())
    }

    /// Codings that there are, or may be after a while.
    pub(crate) fn possible(&self) -> Codings {
        self.codings(|coding| self.sidecar(coding).is_some() || self.may_make(coding))
    }

    /// Codings that can be answered with now.
    pub(crate) fn available(&self) -> Codings {
        self.codings(|coding| self.sidecar(coding).is_some() || self.ready(coding).is_some())
    }

    /// The version of a sidecar that is of use.
    pub(crate) fn sidecar(&self, coding: Coding) -> Option<Version> {
        self.sidecars[coding as usize].filter(|_| !self.slot(coding).is_unreadable.load(Ordering::Acquire))
    }

    /// From now on it is as if the sidecar were absent. What makes it readable gives it another version.
    pub(crate) fn give_up(&self, coding: Coding) {
        self.slot(coding).is_unreadable.store(true, Ordering::Release);
    }

    /// Takes over what is known of forms of the same version of the file.
    pub(crate) fn adopt(&self, before: &Self) {
        for coding in Coding::ALL {
            let (slot, old) = (self.slot(coding), before.slot(coding));
            if self.sidecars[coding as usize] != before.sidecars[coding as usize] {
                continue;
            }
            if let Some(form) = before.ready(coding) {
                self.keep(coding, &form);
            }
            for (new, old) in [(&slot.is_useless, &old.is_useless), (&slot.is_unreadable, &old.is_unreadable)]
            {
                new.store(old.load(Ordering::Acquire), Ordering::Release);
            }
        }
    }

    /// The form, if it is in memory.
    pub(crate) fn ready(&self, coding: Coding) -> Option<Arc<Asset>> {
        self.slot(coding).held.lock().as_ref()?.get()
    }

    pub(crate) fn keep(&self, coding: Coding, form: &Arc<Asset>) {
        *self.slot(coding).held.lock() = Some(Held::of(form));
    }

    /// The turn to open a sidecar.
    pub(crate) async fn opening(&self, coding: Coding) -> tokio::sync::MutexGuard<'_, ()> {
        self.slot(coding).opening.lock().await
    }

    /// Whether the caller is the one to compress the file now.
    pub(crate) fn begin(&self, coding: Coding) -> bool {
        self.may_make(coding) && !self.slot(coding).is_being_made.swap(true, Ordering::AcqRel)
    }

    /// The compressing has ended; `is_useless` where its result is not worth keeping.
    pub(crate) fn end(&self, coding: Coding, is_useless: bool) {
        let slot = self.slot(coding);
        slot.is_useless.store(is_useless, Ordering::Release);
        slot.is_being_made.store(false, Ordering::Release);
    }

    fn may_make(&self, coding: Coding) -> bool {
        self.is_compressible && !self.slot(coding).is_useless.load(Ordering::Acquire)
    }

    fn slot(&self, coding: Coding) -> &Slot {
        &self.slots[coding as usize]
    }

    fn codings(&self, is_in: impl Fn(Coding) -> bool) -> Codings {
        Coding::ALL.into_iter().filter(|coding| is_in(*coding)).fold(Codings::NONE, Codings::with)
    }
}
