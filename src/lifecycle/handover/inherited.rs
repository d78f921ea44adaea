//! Checks listening sockets that this process did not open: from a service manager (`LISTEN_FDS`), or from a predecessor.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use listenfd::ListenFd;
use socket2::{Socket, Type};

use crate::config::{Address, Config};
use crate::net::listener::{BoundAddress, DEFER_SECONDS, Listener, Scheme, SocketOrigin, SocketPath};
use crate::sys::activation::{ADMIN, ActivationInfo, HTTPS};
use crate::sys::kernel::defer_accept;

/// Sockets of a service manager.
#[derive(Default)]
pub(crate) struct ActivatedSockets {
    pub(super) traffic: Vec<BoundAddress>,
    pub(super) admin: Option<BoundAddress>,
}

impl ActivatedSockets {
    /// Takes and checks the sockets that the environment announces. They are for TLS if they are named so, or bound to an address
    /// of `tls_listen`. The variables are removed from the environment, so that child processes don't see them: call it before
    /// there are threads.
    ///
    /// # Errors
    /// If one of them is not a listening stream socket; the error names it.
    pub(crate) fn take(config: &Config) -> io::Result<Self> {
        let announced = ActivationInfo::of_this_process().map_err(io::Error::other)?;
        let mut found = ListenFd::from_env();
        let mut activated = Self::default();
        let Some(ActivationInfo { first, names }) = announced else { return Ok(activated) };
        for (name, (number, index)) in names.iter().zip((first..).zip(0..)) {
            let is_admin = name == ADMIN;
            let bound = take(&mut found, index).and_then(|socket| bound(socket, name, config));
            let bound = bound.map_err(|error| {
                let shown = if name.is_empty() { String::new() } else { format!(" ({name})") };
                let message = format!("can't listen on the inherited descriptor {number}{shown}: {error}");
                io::Error::new(error.kind(), message)
            })?;
            if is_admin {
                activated.admin = Some(bound);
            } else {
                activated.traffic.push(bound);
            }
        }
        Ok(activated)
    }
}

fn bound(socket: OwnedFd, name: &str, config: &Config) -> io::Result<BoundAddress> {
    let inherited = InheritedSocket::check(socket)?;
    let is_traffic = name != ADMIN;
    // Without the setting, what the manager has set stays.
    inherited.prepare((is_traffic && config.listening.defer_accept.is_on()).then_some(true))?;
    let is_https = is_traffic && (name == HTTPS || config.tls_addresses().contains(&inherited.at));
    let scheme = if is_https { Scheme::Https } else { Scheme::Http };
    let url = scheme.url(&inherited.at);
    let listeners = vec![inherited.into_listener(false)];
    Ok(BoundAddress { scheme, url, listeners, configured: None, origin: SocketOrigin::Manager })
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
    socket: Socket,
    /// The address it is bound to.
    pub(super) at: Address,
}

impl InheritedSocket {
    /// Checks `socket`.
    ///
    /// # Errors
    /// If it is not a listening TCP or unix stream socket.
    pub(super) fn check(socket: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(socket);
        if socket.r#type()? != Type::STREAM {
            return Err(io::Error::other("it is not a stream socket"));
        }
        if !socket.is_listener()? {
            return Err(io::Error::other("it is not listening"));
        }
        let at = address_of(&socket)?;
        Ok(Self { socket, at })
    }

    /// Makes it non-blocking, and sets the options that accepted sockets inherit.
    pub(super) fn prepare(&self, defers: Option<bool>) -> io::Result<()> {
        self.socket.set_nonblocking(true)?;
        self.socket.set_cloexec(true)?;
        if let Address::Tcp(_) = self.at {
            self.socket.set_tcp_nodelay(true)?;
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
        Listener { socket: Arc::new(self.socket.into()), path }
    }
}

fn address_of(socket: &Socket) -> io::Result<Address> {
    let local = socket.local_addr()?;
    if let Some(at) = local.as_socket() {
        return Ok(Address::Tcp(at));
    }
    if !local.is_unix() {
        return Err(io::Error::other("it is neither a TCP nor a unix socket"));
    }
    let shown = |name: &[u8]| Path::new("@").join(OsStr::from_bytes(name));
    let abstract_name = || shown(local.as_abstract_namespace().unwrap_or_default());
    Ok(Address::Unix(local.as_pathname().map_or_else(abstract_name, Path::to_owned)))
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
        assert_eq!(InheritedSocket::check(listener.into()).unwrap().at, Address::Tcp(at));
    }

    #[test]
    fn a_unix_socket_of_a_manager_keeps_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let inherited = InheritedSocket::check(UnixListener::bind(&path).unwrap().into()).unwrap();
        assert_eq!(inherited.at, Address::Unix(path.clone()));
        drop(inherited.into_listener(false));
        assert!(path.exists(), "the path is the manager's");
    }
}
