//! New connections, on the worker that will serve them.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use actix_http::Request;
use actix_service::Service;
use actix_web::body::MessageBody;
use actix_web::dev::ServiceResponse;
use futures_util::future::{Either, select};
use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom_with};
use tokio::io::Interest;

use crate::files::Fault;
use crate::lifecycle::phase::{Lifecycle, Phase};
use crate::limits::connections::ConnectionAdmission;
use crate::net::listener::Listener;
use crate::net::opening;
use crate::net::reject::{BUSY, NO_TLS, turn_away, turn_away_at_once};
use crate::net::socket::Socket;
use crate::net::tls::config::Tls;
use crate::net::worker::Worker;
use crate::sys::event_loop::register;
use crate::sys::kernel::defer_accept;

/// Accepts on `listener`, which speaks TLS where `tls` is given, from the phase `begins` until the server retires or closes; what waits in the queue then is still
/// accepted and served.
pub(crate) async fn accept<S, B>(
    listener: Listener,
    tls: Option<Tls>,
    worker: Rc<Worker<S>>,
    lifecycle: Lifecycle,
    begins: Phase,
) where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    // The path of a unix socket goes when its last listener does.
    let (socket, _path) = listener.into_socket();
    let queue = match register(socket, Interest::READABLE) {
        Ok(queue) => queue,
        Err(error) => return log::error!("a listener can't be waited on: {error}"),
    };
    lifecycle.reached(begins).await;
    let mut closing = pin!(async {
        lifecycle.reached(Phase::Draining).await;
        if !lifecycle.is_succeeded() {
            // Whom the kernel holds back until its request comes would be reset with the listener.
            let _ = defer_accept(queue.get_ref(), 0);
            tokio::time::sleep(LET_IN).await;
        }
        lifecycle.reached(Phase::Retiring).await;
    });
    let take = || take_some(queue.get_ref(), tls.as_ref(), &worker);
    // The end first: a listener that is always ready would never be told of it.
    while let Either::Right((ready, _)) = select(closing.as_mut(), pin!(queue.readable())).await {
        match (ready, take()) {
            (Ok(mut guard), AcceptProgress::Drained) => guard.clear_ready(),
            (Ok(_), AcceptProgress::More) => tokio::task::yield_now().await,
            (_, AcceptProgress::Short) | (Err(_), _) => tokio::time::sleep(WHEN_SHORT).await,
        }
    }
    while let AcceptProgress::More = take() {}
}

/// How far a turn of accepting came.
enum AcceptProgress {
    /// The queue is empty.
    Drained,
    /// There may be more, and others want a turn.
    More,
    /// The system has no descriptors or memory for more.
    Short,
}

fn take_some<S, B>(queue: &OwnedFd, tls: Option<&Tls>, worker: &Rc<Worker<S>>) -> AcceptProgress
where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    for _ in 0..AT_ONCE {
        match acceptfrom_with(queue.as_fd(), SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok((fd, peer)) => admit(Socket::new(fd, peer.and_then(address)), tls, worker),
            Err(Errno::AGAIN) => return AcceptProgress::Drained,
            Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS)) => {
                let closed = worker.files().close_idle_handles(CLOSE_WHEN_SHORT);
                let words =
                    format_args!("a connection can't be accepted: {error}; {closed} idle handles closed");
                worker.files().faults().report(Fault::Accept, (), words);
                return AcceptProgress::Short;
            }
            // The connection was over before it was accepted, or a signal came.
            Err(_) => {}
        }
    }
    AcceptProgress::More
}

fn admit<S, B>(mut socket: Socket, tls: Option<&Tls>, worker: &Rc<Worker<S>>)
where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    let busy = if tls.is_some() { NO_TLS } else { BUSY };
    match worker.guard().connections().admit() {
        ConnectionAdmission::Serve(share) => {
            let (worker, tls) = (Rc::clone(worker), tls.cloned());
            actix_rt::spawn(async move {
                opening::serve_over(worker, socket, tls).await;
                drop(share);
            });
        }
        ConnectionAdmission::Refuse(share) => {
            actix_rt::spawn(async move {
                turn_away(socket, busy).await;
                drop(share);
            });
        }
        ConnectionAdmission::RefuseAtOnce => turn_away_at_once(&mut socket, busy),
    }
}

fn address(peer: SocketAddrAny) -> Option<SocketAddr> {
    SocketAddr::try_from(peer).ok()
}

/// Connections accepted in one turn.
const AT_ONCE: usize = 64;

/// Time for those whom the kernel held back to come in, however short the drain delay.
const LET_IN: Duration = Duration::from_millis(20);

const CLOSE_WHEN_SHORT: usize = 16;

/// How long a listener rests when nothing can be accepted: neither dead nor spinning.
const WHEN_SHORT: Duration = Duration::from_millis(50);
