//! Names that are being looked up, and whether somebody told of their change meanwhile: what is found may be older.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::http::target::SitePath;

/// The names that are being looked up now.
#[derive(Default)]
pub(crate) struct PendingLookups {
    names: Mutex<HashMap<SitePath<'static>, Loads>>,
}

/// A look-up under way, to its drop.
pub(crate) struct PendingLookup<'a> {
    loading: &'a PendingLookups,
    path: SitePath<'static>,
}

#[derive(Default)]
struct Loads {
    count: usize,
    is_doubted: bool,
}

impl PendingLookups {
    /// A look-up of `path` begins.
    pub(crate) fn begin(&self, path: SitePath<'static>) -> PendingLookup<'_> {
        self.names.lock().entry(path.clone()).or_default().count += 1;
        PendingLookup { loading: self, path }
    }

    /// Somebody saw `path` change.
    pub(crate) fn doubt(&self, path: &SitePath<'_>) {
        if let Some(loads) = self.names.lock().get_mut(path.as_bytes()) {
            loads.is_doubted = true;
        }
    }

    /// All that match are to be looked up again.
    pub(crate) fn doubt_all(&self, matches: impl Fn(&SitePath<'_>) -> bool) {
        for (path, loads) in &mut *self.names.lock() {
            loads.is_doubted |= matches(path);
        }
    }
}

impl PendingLookup<'_> {
    /// Whether the name was seen to change since the look-up began.
    pub(crate) fn is_doubted(&self) -> bool {
        self.loading.names.lock().get(&self.path).is_some_and(|loads| loads.is_doubted)
    }
}

impl Drop for PendingLookup<'_> {
    fn drop(&mut self) {
        let mut names = self.loading.names.lock();
        if let Some(loads) = names.get_mut(&self.path) {
            loads.count -= 1;
            if loads.count == 0 {
                names.remove(&self.path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_heard_by_the_look_ups_of_its_name_that_are_under_way() {
        let path = |text: &str| SitePath::parse(text.as_bytes()).unwrap().path.into_owned();
        let loading = PendingLookups::default();
        loading.doubt(&path("/a"));
        let (one, other, elsewhere) =
            (loading.begin(path("/a")), loading.begin(path("/a")), loading.begin(path("/b")));
        assert!(!one.is_doubted());
        loading.doubt(&path("/a"));
        assert!(one.is_doubted() && other.is_doubted() && !elsewhere.is_doubted());
        drop((one, other));
        assert!(!loading.begin(path("/a")).is_doubted());
        drop(elsewhere);
        assert!(loading.names.lock().is_empty());
    }
}
