//! The admin listener. It has its own thread, so that it answers when all workers are at their limit.
//!
//! It accepts connections itself: `HttpServer` removes the path of a unix socket when it closes, even if another process
//! owns the path by then, and closes accepted connections with it.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
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
use tokio::io::unix::AsyncFd;
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
use crate::net::listener::{Listener, SocketPath, accept};
use crate::sys::event_loop::register;

/// What the admin listener serves.
#[derive(Clone)]
pub(crate) struct AdminContext {
    pub(crate) auth: AdminAuth,
    pub(crate) health: Health,
    pub(crate) gauges: Gauges,
    pub(crate) warmup: Warmup,
    pub(crate) actions: OperatorActions,
}

/// The running admin server.
pub(crate) struct Admin {
    /// Its own lifecycle: it answers while the listeners of the site are closed.
    lifecycle: Lifecycle,
    thread: std::thread::JoinHandle<()>,
}

impl Admin {
    /// Starts serving `context` at `listener`.
    ///
    /// # Errors
    /// If the thread or its event loop can't be started.
    pub(crate) fn start(listener: Listener, context: AdminContext) -> io::Result<Self> {
        let lifecycle = Lifecycle::new();
        let (started, is_started) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("pagecast-admin".to_owned()).spawn({
            let lifecycle = lifecycle.clone();
            move || actix_rt::System::new().block_on(serve(listener, context, lifecycle, started))
        })?;
        is_started.recv().map_err(io::Error::other)??;
        Ok(Self { lifecycle, thread })
    }

    /// Closes the listener. Accepted connections are still served, except for event streams, which end.
    pub(crate) fn close(&self) {
        self.lifecycle.advance(Phase::Closing);
    }

    /// Closes the listener and ends the thread. Event streams end properly; other requests are not waited for.
    pub(crate) fn stop(self) {
        self.lifecycle.advance(Phase::Ended);
        if self.thread.join().is_err() {
            log::error!("the admin thread panicked");
        }
    }
}

async fn serve(
    listener: Listener,
    context: AdminContext,
    lifecycle: Lifecycle,
    started: std::sync::mpsc::Sender<io::Result<()>>,
) {
    let sampler = Sampler::new(context.gauges.clone(), context.warmup.clone());
    let service = build_service(&context, &sampler, &lifecycle, listener.address()).await;
    let (service, queue) = match service.and_then(|service| Ok((service, AcceptQueue::new(listener)?))) {
        Ok(ready) => ready,
        Err(error) => return drop(started.send(Err(error))),
    };
    let _ = started.send(Ok(()));
    let (finder, admin) = (sampler.clone(), &context.gauges.admin);
    actix_rt::spawn(async move { sampler.run().await });
    actix_rt::spawn(async move { finder.find_busy_files().await });
    accept_until_closing(&service, queue, &admin.connections, &lifecycle).await;
    lifecycle.reached(Phase::Ended).await;
    let _ = tokio::time::timeout(STREAMS_END_WITHIN, admin.watches.all_free()).await;
}

/// Builds the App: `address` is that of the listener, `None` for a unix socket.
async fn build_service(
    context: &AdminContext,
    sampler: &Sampler,
    lifecycle: &Lifecycle,
    address: Option<SocketAddr>,
) -> io::Result<Rc<impl Service<(Stream, Option<SocketAddr>), Error: Display> + use<>>> {
    let auth = context.auth.clone();
    let app = App::new()
        .wrap(from_fn(move |request, next| {
            let auth = auth.clone();
            async move { auth.check(address, request, next).await }
        }))
        .configure(|app| context.health.configure(app))
        .configure(|app| context.gauges.configure_status(app))
        .configure(|app| context.gauges.configure_metrics(app))
        .configure(|app| warm::configure(&context.warmup, app))
        .configure(|app| context.actions.configure(app))
        .configure(|app| debug::configure(&context.actions, app))
        .configure(|app| events::configure(sampler, lifecycle, app))
        .configure(dashboard::configure)
        .default_service(web::to(HttpResponse::NotFound));
    let service = HttpService::build()
        .client_request_timeout(REQUEST_TIMEOUT)
        .h1(map_config(app, |()| AppConfig::default()))
        .into_factory()
        .new_service(())
        .await;
    service.map(Rc::new).map_err(|()| io::Error::other("the admin App could not be built"))
}

/// Accepts and serves connections until `lifecycle` is closing, then closes the listener.
async fn accept_until_closing<S>(
    service: &Rc<S>,
    queue: AcceptQueue,
    slots: &AdminSlots,
    lifecycle: &Lifecycle,
) where
    S: Service<(Stream, Option<SocketAddr>), Error: Display> + 'static,
{
    let mut closing = pin!(lifecycle.reached(Phase::Closing));
    loop {
        let next = pin!(queue.accept(slots));
        let Either::Right((accepted, _)) = select(closing.as_mut(), next).await else { return };
        match accepted {
            Ok((stream, peer, slot)) => {
                let service = Rc::clone(service);
                actix_rt::spawn(async move {
                    if let Err(error) = service.call((stream, peer)).await {
                        log::debug!("an admin connection ended: {error}");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                log::warn!("can't accept an admin connection: {error}");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

type Stream = Box<dyn Duplex>;

/// A TCP or unix connection.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// The listening socket in the event loop.
struct AcceptQueue {
    socket: AsyncFd<Arc<OwnedFd>>,
    is_unix: bool,
    /// Removes the path of a unix socket with its last listener.
    _path: Option<Arc<SocketPath>>,
}

impl AcceptQueue {
    fn new(listener: Listener) -> io::Result<Self> {
        let is_unix = listener.address().is_none();
        let Listener { socket, path } = listener;
        Ok(Self { socket: register(socket, Interest::READABLE)?, is_unix, _path: path })
    }

    /// Accepts a connection once a slot is free.
    async fn accept(
        &self,
        slots: &AdminSlots,
    ) -> io::Result<(Stream, Option<SocketAddr>, Option<AdminSlot>)> {
        slots.one_free().await;
        let (fd, peer) = self.socket.async_io(Interest::READABLE, |socket| Ok(accept(socket)?)).await?;
        let stream: Stream = if self.is_unix {
            Box::new(UnixStream::from_std(fd.into())?)
        } else {
            // A dead client must not keep its slot for the quarter of an hour that TCP retransmits.
            let _ = set_tcp_user_timeout(&fd, USER_TIMEOUT_MS);
            Box::new(TcpStream::from_std(fd.into())?)
        };
        Ok((stream, peer, slots.take()))
    }
}

/// Time for the head of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Milliseconds after which a client that acknowledges nothing is disconnected.
const USER_TIMEOUT_MS: u32 = 30_000;

/// Time for event streams to end.
const STREAMS_END_WITHIN: Duration = Duration::from_millis(500);

/// Pause after an accept error.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);
