//! Accepts connections, on the worker that will serve them.

use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::Request;
use actix_service::Service;
use actix_web::body::MessageBody;
use actix_web::dev::ServiceResponse;
use futures_util::future::{Either, select};
use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::files::Fault;
use crate::lifecycle::phase::{Lifecycle, Phase};
use crate::limits::connections::ConnectionAdmission;
use crate::net::listener::Listener;
use crate::net::opening;
use crate::net::reject::{BUSY, NO_TLS, turn_away, turn_away_at_once};
use crate::net::socket::Socket;
use crate::net::tls::config::Tls;
use crate::net::worker::Worker;
use crate::sys::backoff::Backoff;
use crate::sys::event_loop::register;
use crate::sys::kernel::defer_accept;

/// Accepts on `listener` from phase `begins` until the server retires or closes. What waits in the queue then is still accepted
/// and served. With `tls` connections begin with a TLS handshake.
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
    // The path of a unix socket is removed when its last listener is dropped.
    let (socket, _path) = listener.into_socket();
    let queue = match register(socket, Interest::READABLE) {
        Ok(queue) => queue,
        Err(error) => return log::error!("a listener can't be registered for events: {error}"),
    };
    lifecycle.reached(begins).await;
    let closing = async {
        lifecycle.reached(Phase::Draining).await;
        if !lifecycle.is_succeeded() {
            // Connections that the kernel holds back until their request arrives would be reset with the listener.
            let _ = defer_accept(queue.get_ref(), 0);
            tokio::time::sleep(DEFERRED_GRACE).await;
        }
        lifecycle.reached(Phase::Retiring).await;
    };
    let next = || {
        let (fd, peer) =
            acceptfrom_with(queue.get_ref().as_fd(), SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
        Ok(Socket::new(fd, peer.and_then(tcp_address)))
    };
    let sink = WorkerSink { tls, worker };
    accept_until(closing, &queue, next, &sink).await;
}

/// Where accepted connections and errors of a listener go.
trait AcceptSink {
    fn admit(&self, socket: Socket);

    /// Counts and logs an error that concerns more than one connection.
    fn fail(&self, error: Errno);
}

struct WorkerSink<S> {
    tls: Option<Tls>,
    worker: Rc<Worker<S>>,
}

impl<S, B> AcceptSink for WorkerSink<S>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    fn admit(&self, socket: Socket) {
        admit(socket, self.tls.as_ref(), &self.worker);
    }

    fn fail(&self, error: Errno) {
        let is_short = matches!(error, Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS);
        let closed = if is_short { self.worker.files().close_idle_handles(HANDLES_CLOSED) } else { 0 };
        let message = format_args!("a connection can't be accepted: {error}; {closed} idle handles closed");
        self.worker.files().faults().report(Fault::Accept, error.raw_os_error(), message);
    }
}

/// Accepts what `next` returns whenever `queue` is readable, until `closing` completes and the queue is empty. Errors that last
/// are retried after growing pauses.
async fn accept_until(
    closing: impl Future<Output = ()>,
    queue: &AsyncFd<Arc<OwnedFd>>,
    mut next: impl FnMut() -> Result<Socket, Errno>,
    sink: &impl AcceptSink,
) {
    let mut closing = pin!(closing);
    let (mut pause, mut backoff) = (None, Backoff::default());
    loop {
        let readable = pin!(async move {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            queue.readable().await
        });
        // `closing` is polled first: a listener that is always readable would starve it.
        let Either::Right((readable, _)) = select(closing.as_mut(), readable).await else { break };
        let outcome = accept_batch(&mut next, |socket| sink.admit(socket));
        pause = match (&outcome, &readable) {
            (Batch::Failed(_), _) | (_, Err(_)) => Some(backoff.next_pause()),
            _ => {
                backoff.reset();
                None
            }
        };
        match (outcome, readable) {
            (Batch::Failed(error), _) => sink.fail(error),
            (Batch::Drained, Ok(mut guard)) => guard.clear_ready(),
            (Batch::More, Ok(_)) => tokio::task::yield_now().await,
            // The event loop is shutting down.
            (_, Err(_)) => {}
        }
    }
    while let Batch::More = accept_batch(&mut next, |socket| sink.admit(socket)) {}
}

/// Outcome of a batch of accepts.
enum Batch {
    /// The queue is empty.
    Drained,
    /// There may be more; other tasks get their turn first.
    More,
    /// Accepting fails, and may go on failing.
    Failed(Errno),
}

fn accept_batch(mut next: impl FnMut() -> Result<Socket, Errno>, mut admit: impl FnMut(Socket)) -> Batch {
    let mut outcome = Batch::More;
    for _ in 0..BATCH {
        match next() {
            Ok(socket) => {
                admit(socket);
                outcome = Batch::More;
            }
            Err(Errno::AGAIN) => return Batch::Drained,
            // With nothing accepted after it in this batch it may be more than a connection's.
            Err(error) if concerns_one_connection(error) => outcome = Batch::Failed(error),
            Err(error) => return Batch::Failed(error),
        }
    }
    outcome
}

/// Whether a later accept can succeed at once: a signal came, or the connection had an error before it was accepted, which Linux
/// reports here (accept(2), "Error handling").
fn concerns_one_connection(error: Errno) -> bool {
    matches!(
        error,
        Errno::INTR
            | Errno::CONNABORTED
            | Errno::NETDOWN
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::OPNOTSUPP
            | Errno::NETUNREACH
            | Errno::TIMEDOUT
    )
}

fn admit<S, B>(mut socket: Socket, tls: Option<&Tls>, worker: &Rc<Worker<S>>)
where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    let busy = if tls.is_some() { NO_TLS } else { BUSY };
    match worker.guard().connections().admit() {
        ConnectionAdmission::Serve(permit) => {
            let (worker, tls) = (Rc::clone(worker), tls.cloned());
            actix_rt::spawn(async move {
                opening::serve_over(worker, socket, tls).await;
                drop(permit);
            });
        }
        ConnectionAdmission::Refuse(permit) => {
            actix_rt::spawn(async move {
                turn_away(socket, busy).await;
                drop(permit);
            });
        }
        ConnectionAdmission::RefuseAtOnce => turn_away_at_once(&mut socket, busy),
    }
}

fn tcp_address(peer: SocketAddrAny) -> Option<SocketAddr> {
    SocketAddr::try_from(peer).ok()
}

/// Connections accepted before other tasks of the worker get their turn.
const BATCH: usize = 64;

/// Time for deferred connections to be accepted before the listener closes, however short the drain delay.
const DEFERRED_GRACE: Duration = Duration::from_millis(20);

/// Idle file handles that are closed when there are no descriptors for connections.
const HANDLES_CLOSED: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    /// Counts what it gets.
    #[derive(Default)]
    struct Counts {
        admitted: Cell<usize>,
        failed: RefCell<Vec<Errno>>,
    }

    impl AcceptSink for Counts {
        fn admit(&self, _: Socket) {
            self.admitted.set(self.admitted.get() + 1);
        }

        fn fail(&self, error: Errno) {
            self.failed.borrow_mut().push(error);
        }
    }

    /// A listener with a connection in its queue, so that it is always readable.
    fn queue() -> (AsyncFd<Arc<OwnedFd>>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (register(Arc::new(OwnedFd::from(listener)), Interest::READABLE).unwrap(), client)
    }

    fn accept_from(queue: &AsyncFd<Arc<OwnedFd>>) -> Result<Socket, Errno> {
        Ok(Socket::new(acceptfrom_with(queue.get_ref().as_fd(), SocketFlags::NONBLOCK)?.0, None))
    }

    #[tokio::test]
    async fn a_lasting_error_is_reported_with_growing_pauses_and_accepting_goes_on_when_it_heals() {
        for error in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::PERM, Errno::INVAL] {
            let ((queue, _client), counts, calls) = (queue(), Counts::default(), Cell::new(0));
            let next = || {
                calls.set(calls.get() + 1);
                if calls.get() <= 5 { Err(error) } else { accept_from(&queue) }
            };
            let started = Instant::now();
            let closing = async {
                while counts.admitted.get() == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            accept_until(closing, &queue, next, &counts).await;
            assert_eq!(*counts.failed.borrow(), [error; 5]);
            assert_eq!(counts.admitted.get(), 1);
            assert!(started.elapsed() >= Duration::from_millis(10 + 20 + 40 + 80 + 160), "{error}");
        }
    }

    #[tokio::test]
    async fn a_listener_that_fails_for_ever_closes_at_once() {
        let ((queue, _client), counts) = (queue(), Counts::default());
        let closing = tokio::time::sleep(Duration::from_millis(100));
        accept_until(closing, &queue, || Err(Errno::PERM), &counts).await;
        assert!((3..=5).contains(&counts.failed.borrow().len()), "{:?}", counts.failed);
    }

    #[tokio::test]
    async fn an_error_of_one_connection_holds_up_no_other() {
        let ((queue, _client), counts, calls) = (queue(), Counts::default(), Cell::new(0));
        let next = || {
            calls.set(calls.get() + 1);
            if calls.get() <= 3 { Err(Errno::CONNABORTED) } else { accept_from(&queue) }
        };
        let closing = async {
            while counts.admitted.get() == 0 {
                tokio::task::yield_now().await;
            }
        };
        accept_until(closing, &queue, next, &counts).await;
        assert!(counts.failed.borrow().is_empty());
    }
}
