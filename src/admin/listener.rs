//! The admin listener. It has its own thread, so that it answers when all workers are at their limit.
//!
//! It accepts connections itself: `HttpServer` removes the path of a unix socket when it closes, even if another process
//! owns the path by then, and closes accepted connections with it.

use std::fmt::Display;
use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::HttpService;
use actix_rt::net::{ActixStream, TcpStream, UnixStream};
use actix_service::{IntoServiceFactory, Service, ServiceFactory, map_config};
use actix_web::dev::AppConfig;
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpResponse};
use futures_util::future::{Either, select};
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::context::ServerContext;
use super::respond::{Allow, route};
use super::{actions, dashboard, debug, events, metrics, status, warm};
use crate::admin::sampler::Sampler;
use crate::admin::slots::{AdminSlot, AdminSlots};
use crate::lifecycle::phase::{Lifecycle, Phase};
use crate::lifecycle::warmup::progress;
use crate::net::listener::{Listener, SocketPath, accept};
use crate::sys::backoff::Backoff;
use crate::sys::event_loop::register;

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
    pub(crate) fn start(listener: Listener, context: Arc<ServerContext>) -> io::Result<Self> {
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
    context: Arc<ServerContext>,
    lifecycle: Lifecycle,
    started: std::sync::mpsc::Sender<io::Result<()>>,
) {
    let sampler = Rc::new(Sampler::new(Arc::clone(&context)));
    let service = build_service(&context, &sampler, &lifecycle, listener.address()).await;
    let (service, queue) = match service.and_then(|service| Ok((service, AcceptQueue::new(listener)?))) {
        Ok(ready) => ready,
        Err(error) => return drop(started.send(Err(error))),
    };
    let _ = started.send(Ok(()));
    let finder = Rc::clone(&sampler);
    actix_rt::spawn(async move { sampler.run().await });
    actix_rt::spawn(async move { finder.find_busy_files().await });
    accept_until_closing(&service, queue, &context.connections, &lifecycle).await;
    lifecycle.reached(Phase::Ended).await;
    let _ = tokio::time::timeout(STREAMS_END_WITHIN, context.subscribers.all_free()).await;
}

/// Builds the App: `address` is that of the listener, `None` for a unix socket.
async fn build_service(
    context: &Arc<ServerContext>,
    sampler: &Rc<Sampler>,
    lifecycle: &Lifecycle,
    address: Option<SocketAddr>,
) -> io::Result<Rc<impl Service<(Stream, Option<SocketAddr>), Error: Display> + use<>>> {
    let server = Arc::clone(context);
    let app = App::new()
        .wrap(from_fn(move |request, next| {
            let server = Arc::clone(&server);
            async move { server.auth.authorize(address, request, next).await }
        }))
        .configure(|app| context.health.configure(app))
        .configure(|app| add_routes(app, context))
        .configure(|app| {
            route(app, "/events", Allow::Get, &(Rc::clone(sampler), lifecycle.clone()), events::events);
        })
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

/// Adds what shows and operates the server.
fn add_routes(app: &mut ServiceConfig, server: &Arc<ServerContext>) {
    route(app, "/status", Allow::GetHead, server, status::status);
    route(app, "/metrics", Allow::GetHead, server, metrics::metrics);
    route(app, "/debug/config", Allow::GetHead, server, debug::config);
    route(app, "/debug/cache", Allow::GetHead, server, debug::cache);
    for (path, is_drained) in [("/drain", true), ("/ready", false)] {
        let set_drained = move |server: Arc<_>, _| ready(actions::set_drained(&server, is_drained));
        route(app, path, Allow::Post, server, set_drained);
    }
    route(app, "/purge", Allow::Post, server, actions::purge);
    route(app, "/reload", Allow::Post, server, actions::reload);
    route(app, progress::PATH, Allow::Post, server, warm::warm);
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
    let (mut closing, mut backoff) = (pin!(lifecycle.reached(Phase::Closing)), Backoff::default());
    loop {
        let next = pin!(queue.accept(slots));
        let Either::Right((accepted, _)) = select(closing.as_mut(), next).await else { return };
        match accepted {
            Ok((stream, peer, slot)) => {
                backoff.reset();
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
                tokio::time::sleep(backoff.next_pause()).await;
            }
        }
    }
}

/// A TCP or unix connection.
type Stream = Box<dyn ActixStream>;

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
