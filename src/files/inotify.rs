//! Hints from inotify that a name has changed. Only hints: names are still revalidated after a time.

use std::collections::HashMap;
use std::io;
use std::iter::successors;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use parking_lot::{Mutex, MutexGuard};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;

use super::Root;
use crate::http::target::SitePath;
use crate::sys::event_loop::register;

/// Watches the directories of the paths that are looked up.
pub(crate) struct InotifyWatcher {
    inotify: OwnedFd,
    watched: Mutex<WatchedDirectories>,
    directories_max: usize,
}

/// A change that inotify has reported.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ChangeHint {
    /// The name at this path may have changed.
    Name(SitePath<'static>),
    /// Every name may have changed: a directory moved, or events were lost.
    Everything,
}

#[derive(Default)]
struct WatchedDirectories {
    by_path: HashMap<SitePath<'static>, i32>,
    by_watch: HashMap<i32, Vec<SitePath<'static>>>,
    /// Number of times that all watches were removed.
    removals: u64,
    has_logged_limit: bool,
}

impl InotifyWatcher {
    /// Watches at most `directories_max` directories.
    ///
    /// # Errors
    /// If inotify is missing, or the user has no instance left.
    pub(crate) fn new(directories_max: usize) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { inotify, watched: Mutex::default(), directories_max })
    }

    /// Watches every directory on the way to `path`; false if one can't be watched. Call it before `path` is opened. Blocks.
    pub(crate) fn watch_parents(&self, root: &Root, path: &SitePath<'_>) -> bool {
        let mut parents = successors(Some(path.parent()), |below| (!below.is_root()).then(|| below.parent()));
        parents.all(|directory| self.watch_directory(root, &directory))
    }

    fn watch_directory(&self, root: &Root, directory: &SitePath<'static>) -> bool {
        let mut watched = self.watched.lock();
        if watched.by_path.contains_key(directory) {
            return true;
        }
        if watched.by_path.len() >= self.directories_max {
            watched.log_limit("the limit on watched directories is reached");
            return false;
        }
        let removals = watched.removals;
        // The event listener takes the lock as well, and the disk may hang here.
        let handle = MutexGuard::unlocked(&mut watched, || root.directory(directory));
        let Ok(handle) = handle else { return false };
        if watched.removals != removals {
            // The directory may have another path by now.
            return false;
        }
        match inotify::add_watch(&self.inotify, format!("/proc/self/fd/{}", handle.as_raw_fd()), changes()) {
            Ok(watch) => {
                watched.add(directory.clone(), watch);
                return true;
            }
            Err(Errno::NOSPC) => watched.log_limit("the system's limit on inotify watches is reached"),
            Err(error) => log::debug!("/{directory} is not watched: {error}"),
        }
        false
    }

    /// Removes all watches: other directories may be at their paths now.
    pub(crate) fn unwatch_all(&self) {
        self.watched.lock().remove_all(&self.inotify);
    }

    /// Passes hints to `handle` for as long as the future is polled.
    pub(crate) async fn listen(&self, mut handle: impl AsyncFnMut(ChangeHint)) -> io::Result<()> {
        let ready = register(self.inotify.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
        loop {
            let mut guard = ready.readable().await?;
            for hint in self.read_hints() {
                handle(hint).await;
            }
            guard.clear_ready();
        }
    }

    fn read_hints(&self) -> Vec<ChangeHint> {
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut hints = Vec::new();
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(std::ffi::CStr::to_bytes);
            let mut watched = self.watched.lock();
            watched.apply(event.wd(), event.events(), name, &mut hints);
            if moves_directories(event.events()) {
                watched.remove_all(&self.inotify);
            }
        }
        hints.dedup();
        hints
    }
}

impl WatchedDirectories {
    fn add(&mut self, directory: SitePath<'static>, watch: i32) {
        // Another thread may have been faster.
        if self.by_path.insert(directory.clone(), watch) != Some(watch) {
            self.by_watch.entry(watch).or_default().push(directory);
        }
    }

    /// Adds the hints that an event of `watch` gives.
    fn apply(&mut self, watch: i32, events: ReadFlags, name: Option<&[u8]>, hints: &mut Vec<ChangeHint>) {
        if events.contains(ReadFlags::IGNORED) {
            for directory in self.by_watch.remove(&watch).unwrap_or_default() {
                self.by_path.remove(&directory);
            }
        }
        let is_about_all = events.intersects(
            ReadFlags::QUEUE_OVERFLOW | ReadFlags::ISDIR | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF,
        );
        if is_about_all {
            hints.push(ChangeHint::Everything);
        } else if let Some(name) = name {
            let directories = self.by_watch.get(&watch).into_iter().flatten();
            hints.extend(directories.map(|directory| ChangeHint::Name(directory.entry(name))));
        }
    }

    /// A watch moves with its directory, and no event says where the directories below it are now: all are watched anew.
    fn remove_all(&mut self, inotify: &OwnedFd) {
        self.removals += 1;
        self.by_path.clear();
        for (watch, _) in self.by_watch.drain() {
            // It may be gone already, with its directory.
            let _ = inotify::remove_watch(inotify, watch);
        }
    }

    fn log_limit(&mut self, reason: &str) {
        if !self.has_logged_limit {
            self.has_logged_limit = true;
            log::warn!("{reason}: changes elsewhere are seen when a name is next revalidated");
        }
    }
}

/// Whether a directory has another path now, or may have: events were lost.
fn moves_directories(events: ReadFlags) -> bool {
    let moves = ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO;
    let is_of_directory = events.contains(ReadFlags::ISDIR) && events.intersects(moves);
    is_of_directory || events.intersects(ReadFlags::MOVE_SELF | ReadFlags::QUEUE_OVERFLOW)
}

/// What is watched for in a directory.
fn changes() -> WatchFlags {
    let in_it = WatchFlags::ATTRIB | WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::DELETE;
    in_it | WatchFlags::MOVE | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Symlinks;

    fn path(text: &str) -> SitePath<'static> {
        SitePath::parse(text.as_bytes()).unwrap().path.into_owned()
    }

    #[test]
    fn a_write_a_new_file_and_a_new_directory_give_hints() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), b"1").unwrap();
        let root = Root::open(dir.path(), Symlinks::Inside).unwrap();
        let watcher = InotifyWatcher::new(8).unwrap();
        watcher.watch_parents(&root, &path("/a"));
        std::fs::write(dir.path().join("a"), b"2").unwrap();
        std::fs::write(dir.path().join("b"), b"2").unwrap();
        let hints = watcher.read_hints();
        assert!(hints.contains(&ChangeHint::Name(path("/a"))), "{hints:?}");
        assert!(hints.contains(&ChangeHint::Name(path("/b"))), "{hints:?}");
        std::fs::create_dir(dir.path().join("d")).unwrap();
        assert_eq!(watcher.read_hints(), [ChangeHint::Everything]);
    }

    #[test]
    fn directories_beyond_the_limit_are_not_watched() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["d", "e"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let root = Root::open(dir.path(), Symlinks::Inside).unwrap();
        let watcher = InotifyWatcher::new(2).unwrap();
        assert!(watcher.watch_parents(&root, &path("/d/a")));
        assert!(!watcher.watch_parents(&root, &path("/e/a")));
        std::fs::write(dir.path().join("e/a"), b"1").unwrap();
        assert!(watcher.read_hints().is_empty());
        std::fs::write(dir.path().join("d/a"), b"1").unwrap();
        assert!(!watcher.read_hints().is_empty());
    }
}
