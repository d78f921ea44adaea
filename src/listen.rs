//! Addresses become listening sockets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::config::Address;
use crate::kernel::defer_accept;

/// A listening, non-blocking socket.
#[derive(Debug)]
pub enum Listener {
    /// A TCP socket.
    Tcp(OwnedFd),
    /// A unix socket; its path goes with the last of those that share it.
    Unix {
        /// The socket.
        socket: OwnedFd,
        /// Where it is.
        path: Arc<SocketPath>,
    },
}

/// The path of a unix socket, removed when dropped.
#[derive(Debug)]
pub struct SocketPath(PathBuf);

/// The sockets of one address, and the address that they really have.
#[derive(Debug)]
pub struct Bound {
    /// One socket a worker.
    pub listeners: Vec<Listener>,
    /// For the log: `http://127.0.0.1:8080`, `unix:/run/pagecast.sock`.
    pub url: String,
}

/// Listens on `address` with `copies` sockets. `others` are all addresses that are listened on.
///
/// TCP sockets share their port (`SO_REUSEPORT`), so that the kernel spreads connections over the workers; the first is
/// bound without that, so that a port which somebody else has is an error. A unix socket is one, shared. With `defers`, TCP
/// connections are held back until their first bytes arrive.
///
/// # Errors
/// Where the address is taken or not to be had; the error says which.
pub fn bind(address: &Address, copies: usize, others: &[Address], defers: bool) -> io::Result<Bound> {
    let bound = match address {
        Address::Tcp(at) => bind_tcp(*at, copies, only_v6(*at, others), defers),
        Address::Unix(path) => bind_unix(path, copies),
    };
    bound.map_err(|error| io::Error::new(error.kind(), format!("can't listen on {address}: {error}")))
}

impl Listener {
    /// The socket.
    pub fn into_socket(self) -> (OwnedFd, Option<Arc<SocketPath>>) {
        match self {
            Self::Tcp(socket) => (socket, None),
            Self::Unix { socket, path } => (socket, Some(path)),
        }
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// `[::]` takes IPv4 connections too, unless an IPv4 address of the same port is listened on as well.
fn only_v6(at: SocketAddr, others: &[Address]) -> bool {
    others.iter().any(|other| matches!(other, Address::Tcp(v4) if v4.is_ipv4() && v4.port() == at.port()))
}

fn bind_tcp(at: SocketAddr, copies: usize, only_v6: bool, defers: bool) -> io::Result<Bound> {
    let first = tcp_socket(at, only_v6)?;
    first.bind(&at.into())?;
    first.set_reuse_port(true)?;
    let at = first.local_addr()?.as_socket().unwrap_or(at);
    let mut sockets = vec![first];
    for _ in 1..copies {
        let next = tcp_socket(at, only_v6)?;
        next.set_reuse_port(true)?;
        next.bind(&at.into())?;
        sockets.push(next);
    }
    let listen = |socket: Socket| -> io::Result<Listener> {
        socket.listen(BACKLOG)?;
        if defers {
            defer_accept(&socket, DEFER_SECONDS)?;
        }
        Ok(Listener::Tcp(socket.into()))
    };
    let listeners = sockets.into_iter().map(listen).collect::<io::Result<_>>()?;
    Ok(Bound { listeners, url: format!("http://{at}") })
}

fn tcp_socket(at: SocketAddr, only_v6: bool) -> io::Result<Socket> {
    let socket =
        Socket::new(Domain::for_address(at), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    if at.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

fn bind_unix(path: &Path, copies: usize) -> io::Result<Bound> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let shared = Arc::new(SocketPath(path.to_owned()));
    socket.listen(BACKLOG)?;
    let first = OwnedFd::from(socket);
    let mut listeners = Vec::with_capacity(copies);
    for _ in 1..copies {
        let socket = first.as_fd().try_clone_to_owned()?;
        listeners.push(Listener::Unix { socket, path: Arc::clone(&shared) });
    }
    listeners.push(Listener::Unix { socket: first, path: shared });
    Ok(Bound { listeners, url: format!("unix:{}", path.display()) })
}

/// A socket that nobody answers on was left behind by a process that was killed.
fn remove_stale(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|seen| seen.file_type().is_socket());
    let is_refused =
        || UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if is_socket && is_refused() { std::fs::remove_file(path) } else { Ok(()) }
}

/// The shortest time for which a silent connection can be held back.
const DEFER_SECONDS: u16 = 1;

/// As long a queue as the kernel allows (`net.core.somaxconn` cuts it).
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn a_port_that_somebody_has_is_refused_even_to_those_who_would_share_it() {
        let first = bind(&address("127.0.0.1:0"), 2, &[], true).unwrap();
        assert_eq!(first.listeners.len(), 2);
        let taken = first.url.strip_prefix("http://").unwrap();
        let error = bind(&address(taken), 2, &[], true).unwrap_err();
        assert!(error.to_string().starts_with(&format!("can't listen on {taken}: ")), "{error}");
    }

    #[test]
    fn a_unix_socket_left_behind_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let at = Address::Unix(path.clone());
        let bound = bind(&at, 3, &[], true).unwrap();
        assert_eq!(bound.listeners.len(), 3);
        assert!(bind(&at, 1, &[], true).is_err());
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn both_families_of_one_port_can_be_listened_on() {
        let v4 = bind(&address("0.0.0.0:0"), 1, &[], true).unwrap();
        let port = v4.url.rsplit_once(':').unwrap().1;
        let both = [address(&format!("0.0.0.0:{port}")), address(&format!("[::]:{port}"))];
        assert!(bind(&both[1], 1, &both, true).is_ok());
    }
}
