//! Waits for the PROXY protocol header with which a connection begins.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use super::proxy_protocol::{ProxyHeader, ProxySource, parse};
use crate::config::ProxyProtocol;
use crate::net::NewConnection;

impl NewConnection {
    /// Reads the PROXY header and takes its source address as the peer of the socket; `input` then holds the bytes
    /// behind it. Returns false if the connection must be closed without a response.
    ///
    /// Only trusted peers may send a header, within `head_timeout`. If one is required, untrusted peers are not even
    /// read from; if one is optional, they may not send it.
    pub(super) async fn read_proxy_header(&mut self) -> bool {
        let limits = &self.registration.context.limits;
        let is_required = match limits.proxy_protocol() {
            ProxyProtocol::Off => return true,
            ProxyProtocol::On => false,
            ProxyProtocol::Require => true,
        };
        let is_trusted = limits.trusts(self.socket.peer);
        let reason = if is_required && !is_trusted {
            "a PROXY header is required, and the peer is not a trusted proxy"
        } else {
            match poll_fn(|cx| self.poll_header(cx)).await {
                None => return false,
                Some(ProxyHeader::Absent) if !is_required => return true,
                Some(ProxyHeader::Complete(length, source)) if is_trusted => {
                    self.input.drain(..length);
                    match source {
                        ProxySource::Peer => {}
                        ProxySource::Address(address) => self.socket.peer = Some(address),
                        ProxySource::Unix => self.socket.peer = None,
                    }
                    return true;
                }
                Some(ProxyHeader::Complete(..)) => "the peer sent a PROXY header and is not a trusted proxy",
                Some(ProxyHeader::Absent) => "a PROXY header is required, and none was sent",
                Some(ProxyHeader::Invalid | ProxyHeader::Partial) => "the PROXY header is malformed",
            }
        };
        self.registration.context.limits.count_refused_proxy_header(&self.socket.peer_name(), reason);
        false
    }

    /// Reads the header at the start of the connection. `None` if it ends before the header, its time is up or the
    /// worker closes.
    fn poll_header(&mut self, cx: &mut Context<'_>) -> Poll<Option<ProxyHeader>> {
        let context = &self.registration.context;
        loop {
            let mut scratch = context.scratch.borrow_mut();
            let Poll::Ready(read) = self.socket.poll_read(cx, &mut scratch) else { break };
            let Ok(length @ 1..) = read else { return Poll::Ready(None) };
            self.input.extend_from_slice(&scratch[..length]);
            match parse(&self.input) {
                ProxyHeader::Partial => {}
                header => return Poll::Ready(Some(header)),
            }
        }
        if self.input.is_empty() {
            self.registration.await_request(cx, self.since);
            if self.registration.is_evicted() && !self.socket.has_arrived() {
                return Poll::Ready(None);
            }
            self.registration.closes_after(self.since, &mut self.deadline);
        }
        ready!(self.deadline.poll(cx));
        Poll::Ready(None)
    }
}
