//! Binds listening sockets, and deals them out to the workers.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with, getsockname};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::config::Address;
use crate::sys::kernel::defer_accept;

/// A listening, non-blocking socket. Clones share it; the last one closes it.
#[derive(Debug, Clone)]
pub struct Listener {
    /// The socket, TCP or unix.
    pub socket: Arc<OwnedFd>,
    /// The path of a unix socket, removed with the last clone. `None` if another process owns it, and for TCP.
    pub path: Option<Arc<SocketPath>>,
}

/// The path of a unix socket, removed when dropped unless another process owns it by then.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    /// Device and inode: a file put there later is not removed.
    identity: Option<(u64, u64)>,
    is_ours: AtomicBool,
}

/// The listening sockets of one address.
#[derive(Debug)]
pub struct BoundAddress {
    /// At least one.
    pub listeners: Vec<Listener>,
    /// The protocol on them.
    pub scheme: Scheme,
    /// The address that they are bound to, for the log: `http://127.0.0.1:8080`, `https://[::1]:8443`,
    /// `unix:/run/pagecast.sock`.
    pub url: String,
    /// The configured address. `None` if a service manager opened the socket.
    pub configured: Option<Address>,
    /// The process that opened them.
    pub origin: SocketOrigin,
}

/// The protocol on a socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// Plain HTTP.
    #[default]
    Http,
    /// HTTP over TLS.
    Https,
}

/// The process that opened a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketOrigin {
    /// This process.
    Here,
    /// A service manager, which passed it to this process.
    Manager,
    /// The predecessor of this process.
    Predecessor,
}

/// Listens on `address` for `scheme` with `copies` sockets; a unix socket has one. `others` are all configured
/// addresses.
///
/// TCP sockets share their port (`SO_REUSEPORT`), so that the kernel spreads connections over the workers. The first
/// one is bound without it, so that a port used by another process is an error. With `defers`, the kernel holds TCP
/// connections back until their first bytes arrive.
///
/// # Errors
/// If the address is in use or not available. The error names it.
pub fn bind(
    address: &Address,
    scheme: Scheme,
    copies: usize,
    others: &[Address],
    defers: bool,
) -> io::Result<BoundAddress> {
    let bound = match address {
        Address::Tcp(at) => bind_tcp(*at, copies, only_v6(*at, others), defers),
        Address::Unix(path) => bind_unix(path).map(|listener| (vec![listener], address.clone())),
    };
    let (listeners, bound) =
        bound.map_err(|error| io::Error::new(error.kind(), format!("can't listen on {address}: {error}")))?;
    let (url, configured) = (scheme.url(&bound), Some(address.clone()));
    Ok(BoundAddress { listeners, scheme, url, configured, origin: SocketOrigin::Here })
}

/// A socket to accept on, and its protocol.
pub(crate) type ListenerSpec = (Listener, Scheme);

/// Deals the sockets of all addresses out to `workers`, such that every socket has a worker and every worker has a
/// socket of each address: if there are fewer sockets than workers, they are shared.
pub(crate) fn deal(bounds: &[BoundAddress], workers: usize) -> Vec<Vec<ListenerSpec>> {
    let mut hands = vec![Vec::new(); workers];
    for BoundAddress { listeners, scheme, .. } in bounds {
        let dealt = listeners.iter().cycle().take(listeners.len().max(workers));
        for (number, listener) in dealt.enumerate() {
            if let Some(hand) = hands.get_mut(number % workers.max(1)) {
                hand.push((listener.clone(), *scheme));
            }
        }
    }
    hands
}

impl BoundAddress {
    /// True if it can be reached from this machine only.
    pub(crate) fn is_local(&self) -> bool {
        self.listeners.iter().all(|listener| match getsockname(&listener.socket).map(SocketAddr::try_from) {
            Ok(Ok(address)) => address.ip().to_canonical().is_loopback(),
            // A unix socket.
            Ok(Err(_)) => true,
            Err(_) => false,
        })
    }
}

impl Listener {
    /// The address that it is bound to. `None` for a unix socket.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        getsockname(&self.socket).ok()?.try_into().ok()
    }
}

/// Accepts a connection on `socket`, with the address of its peer; `None` on a unix socket.
pub(crate) fn accept(socket: impl AsFd) -> Result<(OwnedFd, Option<SocketAddr>), Errno> {
    let (fd, peer) = acceptfrom_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    Ok((fd, peer.and_then(|peer| peer.try_into().ok())))
}

impl SocketPath {
    /// The path of an existing socket of ours.
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), identity: identity(path), is_ours: AtomicBool::new(true) }
    }

    /// The path of an existing socket that another process owns until it is [claimed](Self::claim).
    pub(crate) fn of_another(path: &Path) -> Self {
        let path = Self::new(path);
        path.leave();
        path
    }

    /// Gives up ownership to another process.
    pub(crate) fn leave(&self) {
        self.is_ours.store(false, Ordering::Relaxed);
    }

    /// Takes ownership.
    pub(crate) fn claim(&self) {
        self.is_ours.store(true, Ordering::Relaxed);
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        if self.is_ours.load(Ordering::Relaxed) && identity(&self.path) == self.identity {
            // It may have been removed already.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Device and inode of the file at a path.
pub(crate) fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).ok().map(|seen| (seen.dev(), seen.ino()))
}

/// `[::]` accepts IPv4 connections, too, unless an IPv4 address of the same port is configured.
fn only_v6(at: SocketAddr, others: &[Address]) -> bool {
    others.iter().any(|other| matches!(other, Address::Tcp(v4) if v4.is_ipv4() && v4.port() == at.port()))
}

/// Returns the sockets and the address that they are bound to.
fn bind_tcp(
    at: SocketAddr,
    copies: usize,
    only_v6: bool,
    defers: bool,
) -> io::Result<(Vec<Listener>, Address)> {
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
        Ok(Listener { socket: Arc::new(socket.into()), path: None })
    };
    let listeners = sockets.into_iter().map(listen).collect::<io::Result<_>>()?;
    Ok((listeners, Address::Tcp(at)))
}

impl Scheme {
    /// The URL of an address, for the log.
    pub(crate) fn url(self, at: &Address) -> String {
        match (self, at) {
            (Self::Http, Address::Tcp(at)) => format!("http://{at}"),
            (Self::Https, Address::Tcp(at)) => format!("https://{at}"),
            (Self::Http, Address::Unix(path)) => format!("unix:{}", path.display()),
            (Self::Https, Address::Unix(path)) => format!("unix:{} (TLS)", path.display()),
        }
    }
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

fn bind_unix(path: &Path) -> io::Result<Listener> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let owned = Arc::new(SocketPath::new(path));
    socket.listen(BACKLOG)?;
    Ok(Listener { socket: Arc::new(socket.into()), path: Some(owned) })
}

/// Removes the socket at `path` if it refuses connections: a killed process left it behind.
pub(crate) fn remove_stale(path: &Path) -> io::Result<()> {
    let is_refused =
        || UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if is_socket(path) && is_refused() { std::fs::remove_file(path) } else { Ok(()) }
}

/// True if there is a socket at a path, not a symlink to one.
pub(crate) fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::symlink_metadata(path).is_ok_and(|seen| seen.file_type().is_socket())
}

/// Shortest time in seconds for which the kernel can hold a silent connection back.
///
/// Decision: docs/decisions/005-defer-accept.md.
pub(crate) const DEFER_SECONDS: u16 = 1;

/// Length of the accept queue; `net.core.somaxconn` limits it.
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn a_port_in_use_is_refused_even_if_it_could_be_shared() {
        let first = bind(&address("127.0.0.1:0"), Scheme::Http, 2, &[], true).unwrap();
        assert_eq!(first.listeners.len(), 2);
        let taken = first.url.strip_prefix("http://").unwrap();
        let error = bind(&address(taken), Scheme::Http, 2, &[], true).unwrap_err();
        assert!(error.to_string().starts_with(&format!("can't listen on {taken}: ")), "{error}");
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let at = Address::Unix(path.clone());
        let bound = bind(&at, Scheme::Http, 3, &[], true).unwrap();
        assert_eq!(bound.listeners.len(), 1, "it is shared");
        assert!(bind(&at, Scheme::Http, 1, &[], true).is_err());
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn a_path_that_was_given_up_or_replaced_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let bound = || bind(&Address::Unix(path.clone()), Scheme::Http, 1, &[], true).unwrap();
        let left = bound();
        if let [Listener { path: Some(owned), .. }] = left.listeners.as_slice() {
            owned.leave();
        }
        drop(left);
        assert!(is_socket(&path));
        let replaced = bound();
        let other = dir.path().join("other");
        let _theirs = std::os::unix::net::UnixListener::bind(&other).unwrap();
        std::fs::rename(&other, &path).unwrap();
        drop(replaced);
        assert!(is_socket(&path));
    }

    #[test]
    fn every_socket_has_a_worker_and_every_worker_a_socket() {
        for (sockets, workers, hands) in [
            (1, 1, &[&[0][..]][..]),
            (1, 3, &[&[0], &[0], &[0]]),
            (2, 3, &[&[0], &[1], &[0]]),
            (3, 3, &[&[0], &[1], &[2]]),
            (5, 2, &[&[0, 2, 4], &[1, 3]]),
        ] {
            let bound = bind(&address("127.0.0.1:0"), Scheme::Http, sockets, &[], false).unwrap();
            let number = |(listener, _): ListenerSpec| {
                let is_same = |other: &Listener| Arc::ptr_eq(&other.socket, &listener.socket);
                bound.listeners.iter().position(is_same).unwrap()
            };
            let dealt = deal(std::slice::from_ref(&bound), workers);
            let dealt: Vec<Vec<_>> =
                dealt.into_iter().map(|hand| hand.into_iter().map(number).collect()).collect();
            assert_eq!(dealt, hands, "{sockets} sockets, {workers} workers");
        }
    }

    #[test]
    fn both_families_of_one_port_can_be_listened_on() {
        let v4 = bind(&address("0.0.0.0:0"), Scheme::Http, 1, &[], true).unwrap();
        let port = v4.url.rsplit_once(':').unwrap().1;
        let both = [address(&format!("0.0.0.0:{port}")), address(&format!("[::]:{port}"))];
        assert!(bind(&both[1], Scheme::Http, 1, &both, true).is_ok());
    }
}
