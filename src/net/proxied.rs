//! The beginning of a connection on which proxies say whom they speak for.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::deadline::Deadline;
use super::proxy_protocol::{ProxyHeader, ProxySource, parse};
use super::socket::Socket;
use super::worker::WorkerRegistration;
use crate::config::ProxyProtocol;

/// Reads the header of the PROXY protocol and gives the socket the peer that it names; `input` then holds what came behind
/// it. False where the connection is to be closed without a word.
///
/// A header is taken from trusted peers alone, and must have arrived by `deadline`. Where one is required, peers that are not
/// trusted are not even read from; where one may be sent, they may not send it.
pub(super) async fn hear<S>(
    socket: &mut Socket,
    input: &mut Vec<u8>,
    deadline: &mut Deadline,
    place: &WorkerRegistration<S>,
) -> bool {
    let guard = &place.worker().guard;
    let is_required = match guard.proxy_protocol() {
        ProxyProtocol::Off => return true,
        ProxyProtocol::On => false,
        ProxyProtocol::Require => true,
    };
    let is_trusted = guard.trusts(socket.peer);
    let why = if is_required && !is_trusted {
        "who is not trusted may not speak for others, and a PROXY header is required"
    } else {
        let since = Instant::now();
        match poll_fn(|cx| poll_header(cx, socket, input, deadline, place, since)).await {
            None => return false,
            Some(ProxyHeader::Absent) if !is_required => return true,
            Some(ProxyHeader::Complete(length, source)) if is_trusted => {
                input.drain(..length);
                match source {
                    ProxySource::Peer => {}
                    ProxySource::Address(address) => socket.peer = Some(address),
                    ProxySource::Unix => socket.peer = None,
                }
                return true;
            }
            Some(ProxyHeader::Complete(..)) => "a PROXY header came from a peer that is not trusted",
            Some(ProxyHeader::Absent) => "no PROXY header came, and one is required",
            Some(ProxyHeader::Invalid | ProxyHeader::Partial) => "the PROXY header is malformed",
        }
    };
    guard.count_refused_proxy_header(&socket.who(), why);
    false
}

/// What the connection begins with; none where it ends before that is known, its time runs out or the worker closes.
fn poll_header<S>(
    cx: &mut Context<'_>,
    socket: &mut Socket,
    input: &mut Vec<u8>,
    deadline: &mut Deadline,
    place: &WorkerRegistration<S>,
    since: Instant,
) -> Poll<Option<ProxyHeader>> {
    let worker = place.worker();
    loop {
        let mut scratch = worker.scratch.borrow_mut();
        let Poll::Ready(read) = socket.poll_read(cx, &mut scratch) else { break };
        let Ok(length @ 1..) = read else { return Poll::Ready(None) };
        input.extend_from_slice(&scratch[..length]);
        match parse(input) {
            ProxyHeader::Partial => {}
            header => return Poll::Ready(Some(header)),
        }
    }
    if input.is_empty() {
        place.waits(cx, since);
        if place.is_evicted() && !socket.has_arrived() {
            return Poll::Ready(None);
        }
        place.closes_after(since, deadline);
    }
    ready!(deadline.poll(cx));
    Poll::Ready(None)
}
