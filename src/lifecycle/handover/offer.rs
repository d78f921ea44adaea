//! The sockets as they are offered to a successor.

use std::cell::Cell;
use std::future::{Future, pending};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use super::channel::Channel;
use super::message::{Description, HandoverMessage, PROTOCOL, Role};
use crate::lifecycle::handover::upgrade_socket::UpgradeSocket;
use crate::net::listener::{BoundAddress, Listener, SocketPath};

/// The sockets of this process. They stay open as long as they are offered: let go of it before they are to close.
pub(crate) struct SocketOffer {
    sockets: Vec<Offered>,
    watchdog: Option<Duration>,
    /// Whether a successor has them and gets ready.
    is_with_successor: Cell<bool>,
}

struct Offered {
    description: Description,
    socket: Arc<OwnedFd>,
    path: Option<Arc<SocketPath>>,
}

/// A successor that has what it needs and waits to be let in.
pub(crate) struct Successor {
    channel: Channel,
    taken: Vec<usize>,
}

impl SocketOffer {
    /// Offers what is listened on, and what the service manager's watchdog is.
    pub(crate) fn of(
        traffic: &[BoundAddress],
        admin: Option<&BoundAddress>,
        watchdog: Option<Duration>,
    ) -> Self {
        let traffic = traffic.iter().map(|bound| (Role::Traffic, bound));
        let all = traffic.chain(admin.map(|bound| (Role::Admin, bound)));
        let sockets = all.enumerate().flat_map(|(group, (role, bound))| offered(group, role, bound));
        Self { sockets: sockets.collect(), watchdog, is_with_successor: Cell::new(false) }
    }

    /// Waits at `socket` for a successor and makes it ready; what it will look for is seen to by `prepare` before. One at a time
    /// is heard; one that fails leaves no trace but a line in the log.
    pub(crate) async fn awaited_at(&self, socket: &UpgradeSocket, prepare: impl AsyncFn()) -> Successor {
        let mut attempt: Option<Attempt<'_>> = None;
        loop {
            tokio::select! {
                accepted = socket.listener.accept() => match accepted {
                    Ok((stream, _)) if attempt.is_none() => attempt = Some(Box::pin(self.hand_to(stream, &prepare))),
                    Ok((stream, _)) => drop(actix_rt::spawn(refuse(stream))),
                    Err(error) => {
                        log::warn!("a successor can't be heard: {error}");
                        tokio::time::sleep(WHEN_SHORT).await;
                    }
                },
                outcome = under_way(&mut attempt) => {
                    attempt = None;
                    self.is_with_successor.set(false);
                    match outcome {
                        Ok(successor) => return successor,
                        Err(error) => came_to_nothing(&error),
                    }
                }
            }
        }
    }

    async fn hand_to(&self, stream: UnixStream, prepare: &impl AsyncFn()) -> io::Result<Successor> {
        let mut channel = Channel::new(stream)?;
        let who = channel.peer();
        let described = async {
            prepare().await;
            self.describe(&mut channel).await
        };
        match timeout(PATIENCE, described).await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Err(ended(&who)),
            described => described.map_err(|_| io::Error::other(format!("{who} does not go on")))??,
        }
        self.is_with_successor.set(true);
        log::info!("{who} is about to take over");
        match channel.receive().await? {
            Some(HandoverMessage::Ready { taken }) => Ok(Successor { channel, taken }),
            Some(_) => Err(io::Error::other(format!("{who} speaks out of turn"))),
            None => Err(ended(&who)),
        }
    }

    async fn describe(&self, channel: &mut Channel) -> io::Result<()> {
        match channel.receive().await? {
            Some(HandoverMessage::Hello { protocol: PROTOCOL }) => {}
            Some(HandoverMessage::Hello { protocol }) => {
                let reason = format!("it speaks version {PROTOCOL} of the upgrade protocol, not {protocol}");
                channel.send(&HandoverMessage::Refused { reason }, None).await?;
                return Err(io::Error::other(format!(
                    "{} speaks version {protocol} of the upgrade protocol, not {PROTOCOL}",
                    channel.peer()
                )));
            }
            _ => return Err(io::Error::other(format!("{} does not say what it speaks", channel.peer()))),
        }
        for Offered { description, socket, .. } in &self.sockets {
            channel.send(&HandoverMessage::Socket(description.clone()), Some(socket.as_fd())).await?;
        }
        let watchdog_usec = self.watchdog.and_then(|span| u64::try_from(span.as_micros()).ok());
        channel.send(&HandoverMessage::Offered { count: self.sockets.len(), watchdog_usec }, None).await
    }

    /// Lets the successor in: what it has taken is its own.
    ///
    /// # Errors
    /// Where it has died by now: then all is as it was.
    pub(crate) async fn let_in(&self, successor: &Successor) -> io::Result<()> {
        let is_taken = |offered: &&Offered| successor.taken.contains(&offered.description.group);
        let taken = || self.sockets.iter().filter(is_taken).filter_map(|offered| offered.path.as_ref());
        taken().for_each(|path| path.leave());
        let told = timeout(PATIENCE, successor.channel.send(&HandoverMessage::Yours, None)).await;
        told.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|_| {
            taken().for_each(|path| path.claim());
            ended(&successor.who())
        })
    }

    /// Ends the offer, since this process stops. A successor that has the sockets by now serves on them without being let in,
    /// so that their paths stay.
    pub(crate) fn end(self) {
        if self.is_with_successor.get() {
            log::info!("a successor is getting ready: the sockets are left to it");
            self.sockets.iter().filter_map(|offered| offered.path.as_ref()).for_each(|path| path.leave());
        }
    }
}

impl Successor {
    /// Who it is, for the log.
    pub(crate) fn who(&self) -> String {
        self.channel.peer()
    }

    /// Waits until the successor has done with this process, which may remove the path of its upgrade socket only then.
    pub(crate) async fn gone(mut self) {
        let _ = timeout(PATIENCE, self.channel.receive()).await;
    }
}

/// Tells the log of a successor that was none.
pub(crate) fn came_to_nothing(error: &io::Error) {
    FAILURES.fetch_add(1, Ordering::Relaxed);
    log::warn!("an upgrade came to nothing: {error}; serving on");
}

/// Successors that asked and did not take over, since the start of the process.
pub(crate) fn failures() -> u64 {
    FAILURES.load(Ordering::Relaxed)
}

static FAILURES: AtomicU64 = AtomicU64::new(0);

type Attempt<'a> = Pin<Box<dyn Future<Output = io::Result<Successor>> + 'a>>;

async fn under_way(attempt: &mut Option<Attempt<'_>>) -> io::Result<Successor> {
    match attempt {
        Some(attempt) => attempt.await,
        None => pending().await,
    }
}

fn ended(who: &str) -> io::Error {
    io::Error::other(format!("{who} ended before it was ready"))
}

async fn refuse(stream: UnixStream) {
    let Ok(mut channel) = Channel::new(stream) else { return };
    let reason = "another process is taking over from it already".to_owned();
    let told = async {
        // What is not read when the connection is closed destroys the answer.
        channel.receive().await?;
        channel.send(&HandoverMessage::Refused { reason }, None).await
    };
    let _ = timeout(PATIENCE, told).await;
}

fn offered(group: usize, role: Role, bound: &BoundAddress) -> impl Iterator<Item = Offered> + '_ {
    bound.listeners.iter().map(move |listener: &Listener| {
        let (socket, path) = listener.clone().into_socket();
        let asked = bound.asked.as_ref().map(ToString::to_string);
        let description = Description { group, role, scheme: bound.scheme, asked, owns_path: path.is_some() };
        Offered { description, socket, path }
    })
}

/// For what takes a process at the other end a moment.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How long a listener rests when nothing can be accepted.
const WHEN_SHORT: Duration = Duration::from_millis(50);
