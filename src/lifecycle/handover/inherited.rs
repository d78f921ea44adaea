//! Checks listening sockets that this process did not open: from a service manager (`LISTEN_FDS`), or from a predecessor.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use listenfd::ListenFd;
use rustix::io::{FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, getsockname, sockopt};

use super::message::Role;
use crate::config::Address;
use crate::config::activation::{ADMIN, ActivationInfo, HTTPS};
use crate::net::listener::{BoundAddress, DEFER_SECONDS, Listener, Scheme, SocketOrigin, SocketPath};
use crate::sys::kernel::defer_accept;

/// Takes and checks the sockets of a service manager. They are for TLS if they are named so, or bound to an address of `tls`. The
/// variables are removed from the environment, so that child processes don't see them: call it before there are threads.
///
/// # Errors
/// If an announced descriptor is not a listening stream socket; the error names it.
pub(super) fn from_manager(defers: bool, tls: &[Address]) -> io::Result<Vec<(Role, BoundAddress)>> {
    let announced = ActivationInfo::of_this_process().map_err(io::Error::other)?;
    let mut found = ListenFd::from_env();
    let Some(ActivationInfo { first, names }) = announced else { return Ok(Vec::new()) };
    let take = |(index, name): (usize, &String)| {
        let number = usize::try_from(first).unwrap_or_default() + index;
        let descriptor = match name.as_str() {
            "" => format!("descriptor {number}"),
            name => format!("descriptor {number} ({name})"),
        };
        let role = if name == ADMIN { Role::Admin } else { Role::Traffic };
        let bound = take(&mut found, index).and_then(|socket| {
            let inherited = InheritedSocket::check(socket)?;
            // Without the setting, what the manager has set stays.
            inherited.prepare((defers && role == Role::Traffic).then_some(true))?;
            let is_https = role == Role::Traffic && (name == HTTPS || tls.contains(inherited.at()));
            Ok(inherited.into_bound(if is_https { Scheme::Https } else { Scheme::Http }))
        });
        let bound = bound.map_err(|error| {
            io::Error::new(error.kind(), format!("can't listen on the inherited {descriptor}: {error}"))
        })?;
        Ok((role, bound))
    };
    names.iter().enumerate().map(take).collect()
}

fn take(found: &mut ListenFd, index: usize) -> io::Result<OwnedFd> {
    if let Ok(Some(tcp)) = found.take_tcp_listener(index) {
        return Ok(tcp.into());
    }
    match found.take_unix_listener(index) {
        Ok(Some(unix)) => Ok(unix.into()),
        _ => Err(io::Error::other("it is neither a TCP nor a unix stream socket")),
    }
}

/// A listening stream socket that was checked.
#[derive(Debug)]
pub(super) struct InheritedSocket {
    socket: OwnedFd,
    at: Address,
}

impl InheritedSocket {
    /// Checks `socket`.
    ///
    /// # Errors
    /// If it is not a listening TCP or unix stream socket.
    pub(super) fn check(socket: OwnedFd) -> io::Result<Self> {
        if sockopt::socket_type(&socket)? != SocketType::STREAM {
            return Err(io::Error::other("it is not a stream socket"));
        }
        if !sockopt::socket_acceptconn(&socket)? {
            return Err(io::Error::other("it is not listening"));
        }
        let at = address_of(&socket)?;
        Ok(Self { socket, at })
    }

    /// The address it is bound to.
    pub(super) fn at(&self) -> &Address {
        &self.at
    }

    /// Makes it non-blocking, and sets the options that accepted sockets inherit.
    pub(super) fn prepare(&self, defers: Option<bool>) -> io::Result<()> {
        ioctl_fionbio(&self.socket, true)?;
        fcntl_setfd(&self.socket, FdFlags::CLOEXEC)?;
        if let Address::Tcp(_) = self.at {
            sockopt::set_tcp_nodelay(&self.socket, true)?;
            if let Some(defers) = defers {
                defer_accept(&self.socket, if defers { DEFER_SECONDS } else { 0 })?;
            }
        }
        Ok(())
    }

    /// Converts it to a listener. With `owns_path` the path of a unix socket is removed in the end, once it is claimed.
    pub(super) fn into_listener(self, owns_path: bool) -> Listener {
        let path = match &self.at {
            Address::Unix(path) if owns_path => Some(Arc::new(SocketPath::of_another(path))),
            _ => None,
        };
        Listener { socket: Arc::new(self.socket), path }
    }

    fn into_bound(self, scheme: Scheme) -> BoundAddress {
        let url = scheme.url(&self.at);
        let listeners = vec![self.into_listener(false)];
        BoundAddress { scheme, url, listeners, configured: None, origin: SocketOrigin::Manager }
    }
}

fn address_of(socket: &OwnedFd) -> io::Result<Address> {
    let local = getsockname(socket)?;
    match sockopt::socket_domain(socket)? {
        AddressFamily::INET | AddressFamily::INET6 => Ok(Address::Tcp(SocketAddr::try_from(local)?)),
        AddressFamily::UNIX => {
            let name = SocketAddrUnix::try_from(local)?;
            let path = name.path().map(|path| path.into_owned());
            let shown = |name: &[u8]| Path::new("@").join(std::ffi::OsStr::from_bytes(name));
            Ok(Address::Unix(match (path, name.abstract_name()) {
                (Some(path), _) => std::ffi::OsStr::from_bytes(path.as_bytes()).into(),
                (None, name) => shown(name.unwrap_or_default()),
            }))
        }
        _ => Err(io::Error::other("it is neither a TCP nor a unix socket")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_listening_stream_sockets_are_accepted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let connected = TcpStream::connect(at).unwrap();
        let file = tempfile::tempfile().unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (socket, expected) in [
            (OwnedFd::from(connected), "is not listening"),
            (datagrams.into(), "not a stream socket"),
            (file.into(), "Socket operation on non-socket"),
        ] {
            let refused = InheritedSocket::check(socket).unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
        }
        assert_eq!(InheritedSocket::check(listener.into()).unwrap().at(), &Address::Tcp(at));
    }

    #[test]
    fn a_unix_socket_of_a_manager_keeps_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let inherited = InheritedSocket::check(UnixListener::bind(&path).unwrap().into()).unwrap();
        assert_eq!(inherited.at(), &Address::Unix(path.clone()));
        drop(inherited.into_bound(Scheme::Http));
        assert!(path.exists(), "the path is the manager's");
    }
}
