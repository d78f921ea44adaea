//! Hints from inotify that a name has changed. Only hints: the time limit on names stays.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use parking_lot::Mutex;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;

use super::root::Root;
use crate::http::target::SitePath;
use crate::sys::event_loop::register;

/// The directories that are watched, as they are first asked for.
pub(crate) struct InotifyWatcher {
    inotify: OwnedFd,
    covered: Mutex<Covered>,
    directories: usize,
}

/// What a batch of events means for the names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ChangeHint {
    /// This name may have changed.
    Name(SitePath<'static>),
    /// Anything may have: a directory moved, or events were lost.
    Everything,
}

#[derive(Default)]
struct Covered {
    by_path: HashMap<SitePath<'static>, i32>,
    by_watch: HashMap<i32, Vec<SitePath<'static>>>,
    /// How often all was forgotten.
    forgotten: u64,
    said_full: bool,
}

impl InotifyWatcher {
    /// Watches at most `directories` directories.
    ///
    /// # Errors
    /// Where inotify is missing, or the user's instances are used up.
    pub(crate) fn new(directories: usize) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { inotify, covered: Mutex::default(), directories })
    }

    /// Sees to it that every directory on the way to `path` is watched, before `path` is opened; false where one is not.
    /// Blocks.
    pub(crate) fn cover(&self, root: &Root, path: &SitePath<'_>) -> bool {
        let mut directory = path.parent();
        loop {
            if !self.cover_directory(root, &directory) {
                return false;
            }
            if directory.is_root() {
                return true;
            }
            directory = directory.parent();
        }
    }

    fn cover_directory(&self, root: &Root, directory: &SitePath<'static>) -> bool {
        let mut covered = self.covered.lock();
        if covered.by_path.contains_key(directory) {
            return true;
        }
        if covered.by_path.len() >= self.directories {
            covered.say_full("the limit on watched directories is reached");
            return false;
        }
        let forgotten = covered.forgotten;
        drop(covered);
        // Not under the lock, which those who hear of changes take as well: a disk may hang here.
        let Ok(handle) = root.directory(directory) else { return false };
        let mut covered = self.covered.lock();
        if covered.forgotten != forgotten {
            // What was opened may have another path by now.
            return false;
        }
        match inotify::add_watch(&self.inotify, format!("/proc/self/fd/{}", handle.as_raw_fd()), CHANGES) {
            Ok(watch) => {
                covered.add(directory.clone(), watch);
                return true;
            }
            Err(Errno::NOSPC) => covered.say_full("the system's limit on inotify watches is reached"),
            Err(error) => log::debug!("/{directory} is not watched: {error}"),
        }
        false
    }

    /// All directories are watched anew as they are asked for: other ones may stand at their paths.
    pub(crate) fn forget_all(&self) {
        for watch in self.covered.lock().forget_all() {
            // It may be gone already, with its directory.
            let _ = inotify::remove_watch(&self.inotify, watch);
        }
    }

    /// Hints as they come, to `hear`, for as long as the future is polled.
    pub(crate) async fn listen(&self, mut hear: impl AsyncFnMut(ChangeHint)) -> io::Result<()> {
        let ready = register(self.inotify.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
        loop {
            let mut guard = ready.readable().await?;
            for hint in self.drain() {
                hear(hint).await;
            }
            guard.clear_ready();
        }
    }

    fn drain(&self) -> Vec<ChangeHint> {
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut hints = Vec::new();
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(std::ffi::CStr::to_bytes);
            let mut covered = self.covered.lock();
            covered.heed(event.wd(), event.events(), name, &mut hints);
            if moves_directories(event.events()) {
                for watch in covered.forget_all() {
                    // It may be gone already, with its directory.
                    let _ = inotify::remove_watch(&self.inotify, watch);
                }
            }
        }
        hints.dedup();
        hints
    }
}

impl Covered {
    fn add(&mut self, directory: SitePath<'static>, watch: i32) {
        // Another thread may have been faster.
        if self.by_path.insert(directory.clone(), watch) != Some(watch) {
            self.by_watch.entry(watch).or_default().push(directory);
        }
    }

    fn heed(&mut self, watch: i32, events: ReadFlags, name: Option<&[u8]>, hints: &mut Vec<ChangeHint>) {
        if events.contains(ReadFlags::IGNORED) {
            for directory in self.by_watch.remove(&watch).unwrap_or_default() {
                self.by_path.remove(&directory);
            }
        }
        let is_sweeping = events.intersects(
            ReadFlags::QUEUE_OVERFLOW | ReadFlags::ISDIR | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF,
        );
        if is_sweeping {
            hints.push(ChangeHint::Everything);
        } else if let Some(name) = name {
            let directories = self.by_watch.get(&watch).into_iter().flatten();
            hints.extend(directories.map(|directory| ChangeHint::Name(directory.entry(name))));
        }
    }

    /// A watch goes along with its directory, and nothing tells where those below have gone: all paths are covered anew.
    fn forget_all(&mut self) -> Vec<i32> {
        self.forgotten += 1;
        self.by_path.clear();
        self.by_watch.drain().map(|(watch, _)| watch).collect()
    }

    fn say_full(&mut self, why: &str) {
        if !self.said_full {
            self.said_full = true;
            log::warn!("{why}: changes elsewhere are seen when a name is next checked");
        }
    }
}

/// Whether a directory has another path now, or may have: events were lost.
fn moves_directories(events: ReadFlags) -> bool {
    let moves = ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO;
    let is_of_directory = events.contains(ReadFlags::ISDIR) && events.intersects(moves);
    is_of_directory || events.intersects(ReadFlags::MOVE_SELF | ReadFlags::QUEUE_OVERFLOW)
}

const CHANGES: WatchFlags = WatchFlags::ATTRIB
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Symlinks;

    fn path(text: &str) -> SitePath<'static> {
        SitePath::parse(text.as_bytes()).unwrap().path.into_owned()
    }

    #[test]
    fn a_write_a_new_file_and_a_new_directory_are_heard() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), b"1").unwrap();
        let root = Root::open(dir.path(), Symlinks::Inside).unwrap();
        let watch = InotifyWatcher::new(8).unwrap();
        watch.cover(&root, &path("/a"));
        std::fs::write(dir.path().join("a"), b"2").unwrap();
        std::fs::write(dir.path().join("b"), b"2").unwrap();
        let hints = watch.drain();
        assert!(hints.contains(&ChangeHint::Name(path("/a"))), "{hints:?}");
        assert!(hints.contains(&ChangeHint::Name(path("/b"))), "{hints:?}");
        std::fs::create_dir(dir.path().join("d")).unwrap();
        assert_eq!(watch.drain(), [ChangeHint::Everything]);
    }

    #[test]
    fn directories_beyond_the_limit_are_not_watched() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["d", "e"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let root = Root::open(dir.path(), Symlinks::Inside).unwrap();
        let watch = InotifyWatcher::new(2).unwrap();
        assert!(watch.cover(&root, &path("/d/a")));
        assert!(!watch.cover(&root, &path("/e/a")));
        std::fs::write(dir.path().join("e/a"), b"1").unwrap();
        assert!(watch.drain().is_empty());
        std::fs::write(dir.path().join("d/a"), b"1").unwrap();
        assert!(!watch.drain().is_empty());
    }
}
