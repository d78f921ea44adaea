//! The unix socket on which a successor connects.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use crate::net::listener::{SocketPath, identity, is_socket, remove_stale};

/// An upgrade socket that listens at a temporary path, while the predecessor's stays at its path.
#[derive(Debug)]
pub(crate) struct UpgradePath {
    path: PathBuf,
    temporary: PathBuf,
    owned: SocketPath,
    listener: std::os::unix::net::UnixListener,
}

/// The upgrade socket at its path. The path is removed with it, unless a successor's socket is there.
#[derive(Debug)]
pub(crate) struct UpgradeSocket {
    pub(super) listener: UnixListener,
    _owned: SocketPath,
}

impl UpgradePath {
    /// Listens beside `path`, for processes of this user alone. Only a socket at the path `predecessor` may be replaced.
    ///
    /// # Errors
    /// If another process listens at `path`, something else is there, or other users may write to its directory.
    pub(super) fn prepare(path: &Path, predecessor: Option<&Path>) -> io::Result<Self> {
        Self::try_prepare(path, predecessor).map_err(|error| {
            io::Error::new(error.kind(), format!("the upgrade socket {}: {error}", path.display()))
        })
    }

    fn try_prepare(path: &Path, predecessor: Option<&Path>) -> io::Result<Self> {
        check_directory(path)?;
        check_free(path, predecessor)?;
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        remove_stale(&temporary)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
        socket.bind(&SockAddr::unix(&temporary)?)?;
        let owned = SocketPath::new(&temporary);
        // Before it listens: no process can have connected by then.
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600))?;
        socket.listen(BACKLOG)?;
        Ok(Self { path: path.to_owned(), temporary, owned, listener: socket.into() })
    }

    /// Moves the socket to its path in one step: at no moment is the path empty.
    pub(crate) fn move_to_path(self) -> io::Result<UpgradeSocket> {
        let Self { path, temporary, owned, listener } = self;
        std::fs::rename(&temporary, &path)?;
        owned.leave();
        Ok(UpgradeSocket { listener: UnixListener::from_std(listener)?, _owned: SocketPath::new(&path) })
    }
}

/// Every directory on the way must belong to this user or root, and no other user may rename in it.
fn check_directory(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let us = rustix::process::geteuid().as_raw();
    for directory in parent.canonicalize()?.ancestors() {
        let seen = directory.metadata()?;
        let is_shared = seen.mode() & OTHERS_WRITE != 0 && seen.mode() & STICKY == 0;
        if is_shared || ![0, us].contains(&seen.uid()) {
            return Err(io::Error::other(format!(
                "{} is not safe: it must belong to the server's user or root, and others may not write to it",
                directory.display()
            )));
        }
    }
    Ok(())
}

fn check_free(path: &Path, predecessor: Option<&Path>) -> io::Result<()> {
    let is_predecessors = || predecessor.is_some_and(|other| identity(other) == identity(path));
    if identity(path).is_none() || is_predecessors() {
        return Ok(());
    }
    if !is_socket(path) {
        return Err(io::Error::other("the path is not a socket"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens at this path")),
    }
}

const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Successors that connect while another one is starting are refused one after the other.
const BACKLOG: i32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_appears_in_one_step_for_its_user_alone_and_is_removed_with_the_server() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("up");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let prepared = UpgradePath::prepare(&path, None).unwrap();
        assert!(UnixStream::connect(&path).is_err(), "it is still what was left behind");
        let socket = prepared.move_to_path().unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert!(UnixStream::connect(&path).is_ok());
        assert!(UpgradePath::prepare(&path, None).is_err(), "another process listens there");
        let next = UpgradePath::prepare(&path, Some(&path)).unwrap().move_to_path().unwrap();
        drop(socket);
        assert!(UnixStream::connect(&path).is_ok(), "the path is the successor's");
        drop(next);
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn a_socket_that_was_never_moved_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        drop(UpgradePath::prepare(&directory.path().join("up"), None).unwrap());
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_others_write_to_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("up");
        for (mode, expected) in [(0o777, false), (0o775, false), (0o1777, true), (0o755, true)] {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(directory.path(), permissions).unwrap();
            let prepared = UpgradePath::prepare(&path, None);
            assert_eq!(prepared.is_ok(), expected, "{mode:o}: {prepared:?}");
        }
    }

    #[test]
    fn a_file_that_is_no_socket_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("up");
        std::fs::write(&path, "theirs").unwrap();
        assert!(UpgradePath::prepare(&path, None).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"theirs");
    }
}
