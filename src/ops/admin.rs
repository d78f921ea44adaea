//! The admin listener: a thread of its own, so that it answers when every traffic worker is at its limit.
//!
//! It accepts by itself. A stock `HttpServer` removes a unix socket's path when it lets go of the socket, whoever has it by
//! then, and closes with it what it has accepted.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::HttpService;
use actix_service::{IntoServiceFactory, Service, ServiceFactory, map_config};
use actix_web::dev::AppConfig;
use actix_web::{App, HttpResponse, web};
use futures_util::future::{Either, select};
use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;

use super::health::Health;
use super::readings::Gauges;
use super::warm;
use crate::event_loop::register;
use crate::lifecycle::{Lifecycle, Phase};
use crate::listen::Listener;
use crate::warmth::Warmth;

/// Connections that the admin listener serves at once.
const CONNECTIONS: usize = 64;

/// What the admin listener answers with.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) health: Health,
    pub(crate) gauges: Gauges,
    pub(crate) warmth: Warmth,
}

/// The running admin server.
pub(crate) struct Admin {
    /// Its own: it answers while the site's listeners are closed.
    lifecycle: Lifecycle,
    thread: std::thread::JoinHandle<()>,
}

impl Admin {
    /// Starts serving what is on the `desk` at `listener`.
    ///
    /// # Errors
    /// Where the thread or its event loop can't be started.
    pub(crate) fn start(listener: Listener, desk: Desk) -> io::Result<Self> {
        let lifecycle = Lifecycle::new();
        let (told, hear) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("pagecast-admin".to_owned()).spawn({
            let lifecycle = lifecycle.clone();
            move || {
                actix_rt::System::new().block_on(async move {
                    let ended = lifecycle.clone();
                    let serving = pin!(serve(listener, desk, lifecycle, told));
                    // Whatever is under way then is not waited for.
                    select(serving, pin!(ended.reached(Phase::Ended))).await;
                });
            }
        })?;
        hear.recv().map_err(io::Error::other)??;
        Ok(Self { lifecycle, thread })
    }

    /// Closes the listener; what was accepted is served on.
    pub(crate) fn close(&self) {
        self.lifecycle.advance(Phase::Closing);
    }

    /// Closes the listener and ends the thread.
    pub(crate) fn stop(self) {
        self.lifecycle.advance(Phase::Ended);
        if self.thread.join().is_err() {
            log::error!("the admin thread panicked");
        }
    }
}

async fn serve(
    listener: Listener,
    desk: Desk,
    lifecycle: Lifecycle,
    told: std::sync::mpsc::Sender<io::Result<()>>,
) {
    let app = App::new()
        .configure(|app| desk.health.configure(app))
        .configure(|app| desk.gauges.configure_status(app))
        .configure(|app| desk.gauges.configure_metrics(app))
        .configure(|app| warm::configure(&desk.warmth, app))
        .default_service(web::to(HttpResponse::NotFound));
    let service = HttpService::build()
        .client_request_timeout(REQUEST_TIMEOUT)
        .h1(map_config(app, |()| AppConfig::default()))
        .into_factory()
        .new_service(())
        .await;
    let is_unix = matches!(listener, Listener::Unix { .. });
    // The path of a unix socket goes when its last listener does.
    let (socket, path) = listener.into_socket();
    let queue = match (service, register(socket, Interest::READABLE)) {
        (Ok(service), Ok(queue)) => {
            let _ = told.send(Ok(()));
            (Rc::new(service), queue)
        }
        (Err(()), _) => return drop(told.send(Err(io::Error::other("the admin App could not be built")))),
        (_, Err(error)) => return drop(told.send(Err(error))),
    };
    let (service, queue) = queue;
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut closing = pin!(lifecycle.reached(Phase::Closing));
    loop {
        let next = pin!(next(&queue, is_unix, &room));
        let Either::Right((accepted, _)) = select(closing.as_mut(), next).await else { break };
        match accepted {
            Ok((stream, peer, permit)) => {
                let service = Rc::clone(&service);
                actix_rt::spawn(async move {
                    if let Err(error) = service.call((stream, peer)).await {
                        log::debug!("an admin connection ended: {error}");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                log::warn!("an admin connection can't be accepted: {error}");
                tokio::time::sleep(WHEN_SHORT).await;
            }
        }
    }
    drop((queue, path));
    lifecycle.reached(Phase::Ended).await;
}

type Stream = Box<dyn Duplex>;

/// What a connection is, TCP or unix.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

type Permit = tokio::sync::OwnedSemaphorePermit;

async fn next(
    queue: &tokio::io::unix::AsyncFd<Arc<OwnedFd>>,
    is_unix: bool,
    room: &Arc<Semaphore>,
) -> io::Result<(Stream, Option<SocketAddr>, Permit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let accept = |socket: &Arc<OwnedFd>| {
        Ok(acceptfrom_with(socket.as_fd(), SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?)
    };
    let (fd, peer) = queue.async_io(Interest::READABLE, accept).await?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    let stream: Stream = if is_unix {
        Box::new(UnixStream::from_std(fd.into())?)
    } else {
        Box::new(TcpStream::from_std(fd.into())?)
    };
    Ok((stream, peer, permit))
}

/// For the head of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the listener rests when nothing can be accepted.
const WHEN_SHORT: Duration = Duration::from_millis(50);
