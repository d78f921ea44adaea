//! Offers the listening sockets to a successor.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UnixStream;

use super::channel::{Channel, in_time};
use super::message::{Description, HandoverMessage, PROTOCOL, Role};
use crate::lifecycle::handover::upgrade_socket::UpgradeSocket;
use crate::net::listener::{BoundAddress, Listener, SocketPath};
use crate::sys::backoff::Backoff;

/// The sockets of this process. They stay open as long as this exists.
///
/// Decision: docs/decisions/032-handover-of-sockets.md.
pub(crate) struct SocketOffer {
    sockets: Vec<(Description, Listener)>,
    watchdog: Option<Duration>,
    /// Whether a successor has them and is starting.
    is_with_successor: Cell<bool>,
}

/// A successor that is ready and waits for the sockets to become its own.
pub(crate) struct Successor {
    pub(crate) channel: Channel,
    taken: Vec<usize>,
}

impl SocketOffer {
    /// Creates the offer, with the timeout of the service manager's watchdog.
    pub(crate) fn of(
        traffic: &[BoundAddress],
        admin: Option<&BoundAddress>,
        watchdog: Option<Duration>,
    ) -> Self {
        let traffic = traffic.iter().map(|bound| (Role::Traffic, bound));
        let all = traffic.chain(admin.map(|bound| (Role::Admin, bound)));
        let sockets = all.enumerate().flat_map(|(group, (role, bound))| {
            bound.listeners.iter().map(move |listener| {
                let asked = bound.configured.as_ref().map(ToString::to_string);
                let (scheme, owns_path) = (bound.scheme, listener.path.is_some());
                (Description { group, role, scheme, asked, owns_path }, listener.clone())
            })
        });
        Self { sockets: sockets.collect(), watchdog, is_with_successor: Cell::new(false) }
    }

    /// Waits on `socket` for a successor, sends it the sockets after `prepare`, and returns it when it is ready. Others that
    /// connect meanwhile are refused. Failed attempts are logged.
    pub(crate) async fn next_successor(&self, socket: &UpgradeSocket, prepare: impl AsyncFn()) -> Successor {
        loop {
            let stream = accept(socket).await;
            let outcome = tokio::select! {
                outcome = self.offer_to(stream, &prepare) => outcome,
                never = refuse_all(socket) => match never {},
            };
            self.is_with_successor.set(false);
            match outcome {
                Ok(successor) => return successor,
                Err(error) => log_failed_handover(&error),
            }
        }
    }

    async fn offer_to(&self, stream: UnixStream, prepare: &impl AsyncFn()) -> io::Result<Successor> {
        let mut channel = Channel::new(stream)?;
        let who = channel.peer.clone();
        let described = async {
            prepare().await;
            self.describe(&mut channel).await
        };
        in_time(described).await.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => ended(&who),
            io::ErrorKind::TimedOut => io::Error::other(format!("{who} does not answer")),
            _ => error,
        })?;
        self.is_with_successor.set(true);
        log::info!("{who} is starting as the successor");
        match channel.receive().await? {
            Some(HandoverMessage::Ready { taken }) => Ok(Successor { channel, taken }),
            Some(_) => Err(io::Error::other(format!("{who} sent an unexpected message"))),
            None => Err(ended(&who)),
        }
    }

    async fn describe(&self, channel: &mut Channel) -> io::Result<()> {
        match channel.receive().await? {
            Some(HandoverMessage::Hello { protocol: PROTOCOL }) => {}
            Some(HandoverMessage::Hello { protocol }) => {
                let reason = format!("it uses version {PROTOCOL} of the upgrade protocol, not {protocol}");
                channel.send(&HandoverMessage::Refused { reason }, None).await?;
                let peer = &channel.peer;
                let reason =
                    format!("{peer} uses version {protocol} of the upgrade protocol, not {PROTOCOL}");
                return Err(io::Error::other(reason));
            }
            _ => return Err(io::Error::other(format!("{} did not send a hello", channel.peer))),
        }
        for (description, listener) in &self.sockets {
            let message = HandoverMessage::Socket(description.clone());
            channel.send(&message, Some(listener.socket.as_fd())).await?;
        }
        let watchdog_usec = self.watchdog.and_then(|span| u64::try_from(span.as_micros()).ok());
        channel.send(&HandoverMessage::Offered { count: self.sockets.len(), watchdog_usec }, None).await
    }

    /// Gives the sockets that the successor has taken to it.
    ///
    /// # Errors
    /// If it has died: then this process keeps them.
    pub(crate) async fn hand_over_to(&self, successor: &Successor) -> io::Result<()> {
        let is_taken = |description: &Description| successor.taken.contains(&description.group);
        let taken = || self.paths(is_taken);
        taken().for_each(|path| path.leave());
        in_time(successor.channel.send(&HandoverMessage::Yours, None)).await.map_err(|_| {
            taken().for_each(|path| path.claim());
            ended(&successor.channel.peer)
        })
    }

    /// Ends the offer, since this process stops. A successor that has the sockets by now will serve on them, so that their paths
    /// stay.
    pub(crate) fn end(self) {
        if self.is_with_successor.get() {
            log::info!("a successor is starting: the sockets are left to it");
            self.paths(|_| true).for_each(|path| path.leave());
        }
    }

    fn paths(&self, is_meant: impl Fn(&Description) -> bool) -> impl Iterator<Item = &Arc<SocketPath>> {
        let meant = self.sockets.iter().filter(move |(description, _)| is_meant(description));
        meant.filter_map(|(_, listener)| listener.path.as_ref())
    }
}

impl Successor {
    /// Waits until the successor has closed the connection. Only then may this process remove the path of its upgrade socket.
    pub(crate) async fn gone(mut self) {
        let _ = in_time(self.channel.receive()).await;
    }
}

/// Counts and logs an attempt at a handover that failed.
pub(crate) fn log_failed_handover(error: &io::Error) {
    FAILURES.fetch_add(1, Ordering::Relaxed);
    log::warn!("handover failed: {error}; serving on");
}

/// Number of handovers that failed since the start.
pub(crate) static FAILURES: AtomicU64 = AtomicU64::new(0);

/// Accepts the next connection; errors are logged and retried.
async fn accept(socket: &UpgradeSocket) -> UnixStream {
    let mut backoff = Backoff::default();
    loop {
        match socket.listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                log::warn!("a connection to the upgrade socket can't be accepted: {error}");
                tokio::time::sleep(backoff.next_pause()).await;
            }
        }
    }
}

async fn refuse_all(socket: &UpgradeSocket) -> Infallible {
    loop {
        actix_rt::spawn(refuse(accept(socket).await));
    }
}

fn ended(who: &str) -> io::Error {
    io::Error::other(format!("{who} ended before it was ready"))
}

async fn refuse(stream: UnixStream) {
    let Ok(mut channel) = Channel::new(stream) else { return };
    let reason = "another process is taking over already".to_owned();
    let refused = async {
        // Bytes left unread at the close would destroy the answer.
        channel.receive().await?;
        channel.send(&HandoverMessage::Refused { reason }, None).await
    };
    let _ = in_time(refused).await;
}
