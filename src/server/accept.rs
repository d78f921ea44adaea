//! Accepts connections, on the worker that will serve them.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{Either, select};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::files::{Fault, Files};
use crate::http::canned_response::BUSY;
use crate::lifecycle::{Lifecycle, Phase};
use crate::limits::connections::ConnectionAdmission;
use crate::net::app::AppService;
use crate::net::listener::{self, Listener};
use crate::net::opening;
use crate::net::reject::{reject, reject_at_once, rejection};
use crate::net::socket::Socket;
use crate::net::tls::config::Tls;
use crate::net::worker::Worker;
use crate::sys::backoff::Backoff;
use crate::sys::event_loop::register;
use crate::sys::kernel::defer_accept;

/// Accepts on `listener` from phase `begins` until the server retires or closes. What waits in the queue then is still accepted
/// and served. With `tls` connections begin with a TLS handshake.
pub(crate) async fn accept<S: AppService>(
    listener: Listener,
    tls: Option<Arc<Tls>>,
    worker: Rc<Worker<S>>,
    lifecycle: Lifecycle,
    begins: Phase,
) {
    // The path of a unix socket is removed when its last listener is dropped.
    let Listener { socket, path: _path } = listener;
    let queue = match register(socket, Interest::READABLE) {
        Ok(queue) => queue,
        Err(error) => return log::error!("a listener can't be registered for events: {error}"),
    };
    lifecycle.reached(begins).await;
    let closing = async {
        lifecycle.reached(Phase::Draining).await;
        if !lifecycle.is_succeeded.load(Ordering::Acquire) {
            // Connections that the kernel holds back until their request arrives would be reset with the listener.
            let _ = defer_accept(queue.get_ref(), 0);
            tokio::time::sleep(DEFERRED_GRACE).await;
        }
        lifecycle.reached(Phase::Retiring).await;
    };
    let next = || {
        let (fd, peer) = listener::accept(queue.get_ref())?;
        Ok(Socket::new(fd, peer))
    };
    let busy = Rc::from(&*rejection(BUSY, tls.is_some()));
    let admit = |socket| admit(&worker, socket, tls.clone(), &busy);
    accept_until(closing, &queue, next, admit, |error| report(&worker.context.files, error)).await;
}

/// Admits what `next` accepts whenever `queue` is readable, until `closing` completes and the queue is empty. Errors that may last
/// go to `fail` and are retried after growing pauses.
async fn accept_until(
    closing: impl Future<Output = ()>,
    queue: &AsyncFd<Arc<OwnedFd>>,
    mut next: impl FnMut() -> Result<Socket, Errno>,
    mut admit: impl FnMut(Socket),
    mut fail: impl FnMut(Errno),
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
        let mut has_admitted = false;
        let batch = accept_batch(&mut next, |socket| {
            has_admitted = true;
            admit(socket);
        });
        if has_admitted {
            backoff.reset();
        }
        let is_failing = readable.is_err() || matches!(batch, Batch::Failed(_));
        pause = is_failing.then(|| backoff.next_pause());
        match (batch, readable) {
            (Batch::Failed(error), _) => fail(error),
            // The event loop is shutting down.
            (_, Err(_)) => {}
            (Batch::Drained, Ok(mut guard)) => {
                backoff.reset();
                guard.clear_ready();
            }
            (Batch::More, Ok(_)) => tokio::task::yield_now().await,
        }
    }
    while let Batch::More = accept_batch(&mut next, &mut admit) {}
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

/// Whether the next accept can succeed at once: a signal came, the connection ended before it was accepted, or the kernel passes on
/// a network error of the new connection (accept(2)).
fn concerns_one_connection(error: Errno) -> bool {
    matches!(
        error,
        Errno::INTR
            | Errno::CONNABORTED
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NONET
            | Errno::OPNOTSUPP
    )
}

/// Serves or refuses a connection, as the limit on connections allows. `busy` is what a refused client gets.
fn admit<S: AppService>(worker: &Rc<Worker<S>>, mut socket: Socket, tls: Option<Arc<Tls>>, busy: &Rc<[u8]>) {
    match worker.context.limits.connections.admit() {
        ConnectionAdmission::Serve(permit) => {
            spawn_with(permit, opening::serve(Rc::clone(worker), socket, tls));
        }
        ConnectionAdmission::Refuse(permit) => {
            let busy = Rc::clone(busy);
            spawn_with(permit, async move { reject(socket, &busy).await });
        }
        ConnectionAdmission::RefuseAtOnce => reject_at_once(&mut socket, busy),
    }
}

/// Runs `task`, and holds `permit` until it ends.
fn spawn_with<P: 'static>(permit: P, task: impl Future<Output = ()> + 'static) {
    actix_rt::spawn(async move {
        task.await;
        drop(permit);
    });
}

/// Counts and logs an error of accepting, and frees descriptors if there are none left.
fn report(files: &Files, error: Errno) {
    let is_short = matches!(error, Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS);
    let closed = if is_short { files.loader.handles.close_idle(HANDLES_CLOSED) } else { 0 };
    let message = format_args!("a connection can't be accepted: {error}; {closed} idle handles closed");
    files.loader.faults.report(Fault::Accept, error.raw_os_error(), message);
}

/// Connections accepted before other tasks of the worker get their turn.
const BATCH: usize = 64;

/// Time for deferred connections to be accepted before the listener closes, however short the drain delay.
///
/// Decision: docs/decisions/033-listeners-at-a-stop.md.
const DEFERRED_GRACE: Duration = Duration::from_millis(20);

/// Idle file handles that are closed when there are no descriptors for connections.
const HANDLES_CLOSED: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    /// A listener with a connection in its queue, so that it is always readable.
    fn queue() -> (AsyncFd<Arc<OwnedFd>>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (register(Arc::new(OwnedFd::from(listener)), Interest::READABLE).unwrap(), client)
    }

    fn accept_from(queue: &AsyncFd<Arc<OwnedFd>>) -> Result<Socket, Errno> {
        Ok(Socket::new(listener::accept(queue.get_ref())?.0, None))
    }

    /// Runs the accept loop until `closing` completes. Returns the number of admitted connections and the reported errors.
    async fn run(
        closing: impl AsyncFn(&Cell<usize>),
        mut next: impl FnMut(&AsyncFd<Arc<OwnedFd>>) -> Result<Socket, Errno>,
    ) -> (usize, Vec<Errno>) {
        let ((queue, _client), admitted, mut failed) = (queue(), Cell::new(0), Vec::new());
        let admit = |_| admitted.set(admitted.get() + 1);
        accept_until(closing(&admitted), &queue, || next(&queue), admit, |error| failed.push(error)).await;
        (admitted.get(), failed)
    }

    /// Fails `times` with `error`, then accepts.
    fn failing(times: usize, error: Errno) -> impl FnMut(&AsyncFd<Arc<OwnedFd>>) -> Result<Socket, Errno> {
        let mut calls = 0;
        move |queue| {
            calls += 1;
            if calls <= times { Err(error) } else { accept_from(queue) }
        }
    }

    async fn until_admitted(admitted: &Cell<usize>) {
        while admitted.get() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_lasting_error_is_retried_after_growing_pauses_until_it_heals() {
        for error in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::PERM, Errno::INVAL] {
            let started = Instant::now();
            assert_eq!(run(until_admitted, failing(5, error)).await, (1, vec![error; 5]));
            assert!(started.elapsed() >= Duration::from_millis(10 + 20 + 40 + 80 + 160), "{error}");
        }
    }

    #[tokio::test]
    async fn a_listener_that_always_fails_does_not_spin_and_closes_at_once() {
        for error in [Errno::PERM, Errno::CONNABORTED] {
            let closing = async |_: &Cell<usize>| tokio::time::sleep(Duration::from_millis(100)).await;
            let (admitted, failed) = run(closing, |_| Err(error)).await;
            assert_eq!(admitted, 0);
            assert!((2..=4).contains(&failed.len()), "{failed:?}");
        }
    }

    #[tokio::test]
    async fn an_error_of_one_connection_is_not_reported() {
        assert_eq!(run(until_admitted, failing(3, Errno::CONNABORTED)).await, (1, Vec::new()));
    }
}
