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
use actix_web::middleware::from_fn;
use actix_web::{App, HttpResponse, web};
use futures_util::future::{Either, select};
use rustix::net::sockopt::set_tcp_user_timeout;
use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};

use super::health::Health;
use super::readings::Gauges;
use super::{dashboard, debug, events, warm};
use crate::admin::actions::OperatorActions;
use crate::admin::authorize::AdminAuth;
use crate::admin::sampler::Sampler;
use crate::admin::slots::{AdminSlot, AdminSlots};
use crate::lifecycle::phase::{Lifecycle, Phase};
use crate::lifecycle::warmup::warmer::Warmup;
use crate::net::listener::Listener;
use crate::sys::event_loop::register;

/// What the admin listener answers with.
#[derive(Clone)]
pub(crate) struct AdminContext {
    pub(crate) entry: AdminAuth,
    pub(crate) health: Health,
    pub(crate) gauges: Gauges,
    pub(crate) warmth: Warmup,
    pub(crate) operators: OperatorActions,
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
    pub(crate) fn start(listener: Listener, desk: AdminContext) -> io::Result<Self> {
        let lifecycle = Lifecycle::new();
        let (told, hear) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("pagecast-admin".to_owned()).spawn({
            let lifecycle = lifecycle.clone();
            move || {
                actix_rt::System::new().block_on(serve(listener, desk, lifecycle, told));
            }
        })?;
        hear.recv().map_err(io::Error::other)??;
        Ok(Self { lifecycle, thread })
    }

    /// Closes the listener; what was accepted is served on, but for streams of events, which end.
    pub(crate) fn close(&self) {
        self.lifecycle.advance(Phase::Closing);
    }

    /// Closes the listener and ends the thread. Streams of events are ended in good order; what else is under way is not
    /// waited for.
    pub(crate) fn stop(self) {
        self.lifecycle.advance(Phase::Ended);
        if self.thread.join().is_err() {
            log::error!("the admin thread panicked");
        }
    }
}

async fn serve(
    listener: Listener,
    desk: AdminContext,
    lifecycle: Lifecycle,
    told: std::sync::mpsc::Sender<io::Result<()>>,
) {
    let here = listener.address();
    let pulse = Sampler::new(desk.gauges.clone(), desk.warmth.clone());
    let entry = desk.entry.clone();
    let app = App::new()
        .wrap(from_fn(move |request, next| {
            let entry = entry.clone();
            async move { entry.pass(here, request, next).await }
        }))
        .configure(|app| desk.health.configure(app))
        .configure(|app| desk.gauges.configure_status(app))
        .configure(|app| desk.gauges.configure_metrics(app))
        .configure(|app| warm::configure(&desk.warmth, app))
        .configure(|app| desk.operators.configure(app))
        .configure(|app| debug::configure(&desk.operators, app))
        .configure(|app| events::configure(&pulse, &lifecycle, app))
        .configure(dashboard::configure)
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
    let places = &desk.gauges.admin.connections;
    actix_rt::spawn({
        let pulse = pulse.clone();
        async move { pulse.beat().await }
    });
    actix_rt::spawn({
        let pulse = pulse.clone();
        async move { pulse.look_for_busy_files().await }
    });
    let mut closing = pin!(lifecycle.reached(Phase::Closing));
    loop {
        let next = pin!(next(&queue, is_unix, places));
        let Either::Right((accepted, _)) = select(closing.as_mut(), next).await else { break };
        match accepted {
            Ok((stream, peer, place)) => {
                let service = Rc::clone(&service);
                actix_rt::spawn(async move {
                    if let Err(error) = service.call((stream, peer)).await {
                        log::debug!("an admin connection ended: {error}");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                log::warn!("an admin connection can't be accepted: {error}");
                tokio::time::sleep(WHEN_SHORT).await;
            }
        }
    }
    drop((queue, path));
    let seats = &desk.gauges.admin.watches;
    lifecycle.reached(Phase::Ended).await;
    let _ = tokio::time::timeout(PARTING, seats.all_left()).await;
}

type Stream = Box<dyn Duplex>;

/// What a connection is, TCP or unix.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

async fn next(
    queue: &tokio::io::unix::AsyncFd<Arc<OwnedFd>>,
    is_unix: bool,
    places: &AdminSlots,
) -> io::Result<(Stream, Option<SocketAddr>, Option<AdminSlot>)> {
    places.room().await;
    let accept = |socket: &Arc<OwnedFd>| {
        Ok(acceptfrom_with(socket.as_fd(), SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?)
    };
    let (fd, peer) = queue.async_io(Interest::READABLE, accept).await?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    let stream: Stream = if is_unix {
        Box::new(UnixStream::from_std(fd.into())?)
    } else {
        // Who has gone without a word, or takes nothing, must not keep a place for the quarter of an hour that TCP would try.
        let _ = set_tcp_user_timeout(&fd, GONE_AFTER_MS);
        Box::new(TcpStream::from_std(fd.into())?)
    };
    Ok((stream, peer, places.take()))
}

/// For the head of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Milliseconds after which a client that acknowledges nothing is taken to be gone.
const GONE_AFTER_MS: u32 = 30_000;

/// For streams of events to be ended in.
const PARTING: Duration = Duration::from_millis(500);

/// How long the listener rests when nothing can be accepted.
const WHEN_SHORT: Duration = Duration::from_millis(50);
