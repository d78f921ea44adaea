//! The running server whose sockets this process takes over.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;

use super::channel::{Channel, in_time};
use super::inherited::InheritedSocket;
use super::message::{Description, HandoverMessage, PROTOCOL, Role};
use crate::config::Address;
use crate::net::listener::{BoundAddress, Scheme, SocketOrigin, SocketPath, is_socket};

/// Connection to a server that goes on serving until this one is ready.
pub(crate) struct Predecessor {
    pub(crate) channel: Channel,
    /// Timeout of the service manager's watchdog, if there is one.
    pub(crate) watchdog: Option<Duration>,
    /// Numbers of the groups that were taken.
    taken: Vec<usize>,
    /// Paths of their sockets, which belong to the predecessor until the handover.
    paths: Vec<Arc<SocketPath>>,
    offered: Vec<Group>,
}

/// The sockets of one address.
struct Group {
    description: Description,
    at: Address,
    sockets: Vec<InheritedSocket>,
}

impl Predecessor {
    /// Connects to the server at `path` and receives its sockets.
    ///
    /// # Errors
    /// If no server listens there, it belongs to another user, or it does not follow the protocol.
    pub(super) async fn connect(path: &Path) -> io::Result<Self> {
        in_time(Self::try_connect(path)).await.map_err(|error| {
            let path = path.display();
            io::Error::new(error.kind(), format!("can't take over from the server at {path}: {error}"))
        })
    }

    async fn try_connect(path: &Path) -> io::Result<Self> {
        path.metadata()?;
        if !is_socket(&path.canonicalize()?) {
            return Err(io::Error::other("it is not a socket"));
        }
        let stream = UnixStream::connect(path).await.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => io::Error::new(error.kind(), "no process listens there"),
            _ => error,
        })?;
        let mut channel = Channel::new(stream)?;
        channel.send(&HandoverMessage::Hello { protocol: PROTOCOL }, None).await?;
        let (mut groups, mut received) = (BTreeMap::new(), 0);
        let watchdog_usec = loop {
            match channel.receive().await? {
                Some(HandoverMessage::Socket(description)) => {
                    let missing = || io::Error::other("a message came without its descriptor");
                    let socket = InheritedSocket::check(channel.take_descriptor().ok_or_else(missing)?)?;
                    let group = groups.entry(description.group).or_insert_with(|| Group {
                        description,
                        at: socket.at.clone(),
                        sockets: Vec::new(),
                    });
                    group.sockets.push(socket);
                    received += 1;
                }
                Some(HandoverMessage::Offered { count, watchdog_usec }) if count == received => {
                    break watchdog_usec;
                }
                Some(HandoverMessage::Refused { reason }) => return Err(io::Error::other(reason)),
                Some(_) => return Err(io::Error::other("it sent an unexpected message")),
                None => return Err(io::Error::other("it closed the connection")),
            }
        };
        let offered = groups.into_values().collect();
        let watchdog = watchdog_usec.map(Duration::from_micros);
        Ok(Self { channel, watchdog, taken: Vec::new(), paths: Vec::new(), offered })
    }

    /// Takes the sockets of `address`, if the predecessor has them: those it configured under that name, of the same scheme first,
    /// or else those bound to that address. They are used for `scheme` from now on.
    pub(super) fn take(
        &mut self,
        address: &Address,
        scheme: Scheme,
        defers: bool,
    ) -> io::Result<Option<BoundAddress>> {
        let name = address.to_string();
        let is_named = |group: &Group| group.description.asked.as_ref() == Some(&name);
        let is_it = |group: &Group| group.description.scheme == scheme && is_named(group);
        let is_at = |group: &Group| group.at == *address;
        let find = |is: &dyn Fn(&Group) -> bool| self.offered.iter().position(is);
        let is_other = |group: &Group| is_named(group) && !address.is_chosen_by_the_system();
        let position = find(&is_it).or_else(|| find(&is_other)).or_else(|| find(&is_at));
        let Some(position) = position else { return Ok(None) };
        let group = self.offered.remove(position);
        self.bound(group, scheme, Some(address.clone()), Some(defers)).map(Some)
    }

    /// Takes the sockets of that role that a service manager had opened: they are used whatever the configuration says.
    pub(super) fn take_managed(&mut self, role: Role, defers: bool) -> io::Result<Vec<BoundAddress>> {
        let is_managed =
            |Group { description, .. }: &mut Group| description.asked.is_none() && description.role == role;
        let managed: Vec<Group> = self.offered.extract_if(.., is_managed).collect();
        let bound = |group: Group| {
            let scheme = group.description.scheme;
            self.bound(group, scheme, None, defers.then_some(true))
        };
        managed.into_iter().map(bound).collect()
    }

    fn bound(
        &mut self,
        Group { description, at, sockets }: Group,
        scheme: Scheme,
        asked: Option<Address>,
        defers: Option<bool>,
    ) -> io::Result<BoundAddress> {
        let Description { group, owns_path, .. } = description;
        sockets.iter().try_for_each(|socket| socket.prepare(defers))?;
        self.taken.push(group);
        // A unix address has one socket, so that each path is here once.
        let listeners: Vec<_> = sockets.into_iter().map(|socket| socket.into_listener(owns_path)).collect();
        self.paths.extend(listeners.iter().filter_map(|listener| listener.path.clone()));
        let url = scheme.url(&at);
        Ok(BoundAddress { listeners, scheme, url, configured: asked, origin: SocketOrigin::Predecessor })
    }

    /// Closes the sockets that were not taken; the predecessor serves what waits there.
    pub(super) fn drop_remaining(&mut self) {
        for group in self.offered.drain(..) {
            log::info!("no longer listening on {}", group.description.scheme.url(&group.at));
        }
    }

    /// Waits until the predecessor has closed the connection or died.
    pub(crate) async fn gone(&mut self) {
        // It sends nothing before this server is ready.
        let _ = self.channel.receive().await;
    }

    /// Reports that this server is ready, and waits until the predecessor has handed over.
    ///
    /// # Errors
    /// If it is gone: no other process has the sockets then.
    pub(crate) async fn relieve(&mut self) -> io::Result<()> {
        let taken = std::mem::take(&mut self.taken);
        let relieved = async {
            let sent = self.channel.send(&HandoverMessage::Ready { taken }, None).await;
            match (sent, self.channel.receive().await?) {
                (Ok(()), Some(HandoverMessage::Yours)) => Ok(()),
                _ => Err(io::Error::other("it is gone")),
            }
        };
        let relieved = in_time(relieved).await;
        self.paths.iter().for_each(|path| path.claim());
        relieved
    }
}
