//! Paths that are being looked up, and whether they changed meanwhile: the result may then be older than the change.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::http::target::SitePath;

/// The lookups that run now, by path.
///
/// Decision: docs/decisions/016-changes-during-a-lookup.md.
#[derive(Default)]
pub(crate) struct PendingLookups {
    paths: Mutex<HashMap<SitePath<'static>, PathLookups>>,
}

/// A running lookup; it ends when dropped.
pub(crate) struct PendingLookup<'a> {
    lookups: &'a PendingLookups,
    path: SitePath<'static>,
}

#[derive(Default)]
struct PathLookups {
    count: usize,
    is_invalidated: bool,
}

impl PendingLookups {
    /// Registers a lookup of `path`.
    pub(crate) fn begin(&self, path: SitePath<'static>) -> PendingLookup<'_> {
        self.paths.lock().entry(path.clone()).or_default().count += 1;
        PendingLookup { lookups: self, path }
    }

    /// Records that `path` has changed.
    pub(crate) fn invalidate(&self, path: &SitePath<'_>) {
        if let Some(lookups) = self.paths.lock().get_mut(path.as_bytes()) {
            lookups.is_invalidated = true;
        }
    }

    /// Records a change of every path that matches.
    pub(crate) fn invalidate_matching(&self, matches: impl Fn(&SitePath<'_>) -> bool) {
        for (path, lookups) in &mut *self.paths.lock() {
            lookups.is_invalidated |= matches(path);
        }
    }
}

impl PendingLookup<'_> {
    /// Whether the path has changed since the lookup began.
    pub(crate) fn is_invalidated(&self) -> bool {
        self.lookups.paths.lock().get(&self.path).is_some_and(|lookups| lookups.is_invalidated)
    }
}

impl Drop for PendingLookup<'_> {
    fn drop(&mut self) {
        let mut paths = self.lookups.paths.lock();
        if let Some(lookups) = paths.get_mut(&self.path) {
            lookups.count -= 1;
            if lookups.count == 0 {
                paths.remove(&self.path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_invalidates_the_running_lookups_of_its_path() {
        let path = |text: &str| SitePath::parse(text.as_bytes()).unwrap().path.into_owned();
        let lookups = PendingLookups::default();
        lookups.invalidate(&path("/a"));
        let (one, other, elsewhere) =
            (lookups.begin(path("/a")), lookups.begin(path("/a")), lookups.begin(path("/b")));
        assert!(!one.is_invalidated());
        lookups.invalidate(&path("/a"));
        assert!(one.is_invalidated() && other.is_invalidated() && !elsewhere.is_invalidated());
        drop((one, other));
        assert!(!lookups.begin(path("/a")).is_invalidated());
        drop(elsewhere);
        assert!(lookups.paths.lock().is_empty());
    }
}
