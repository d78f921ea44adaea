//! Sends messages and descriptors over a unix socket (`SCM_RIGHTS`).

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::message::HandoverMessage;

/// A connection between the two processes of an upgrade.
pub(crate) struct Channel {
    stream: UnixStream,
    /// Names the process at the other end, for the log.
    pub(crate) peer: String,
    /// Bytes that were received and are no whole line yet.
    input: Vec<u8>,
    /// Descriptors that were received and not taken yet, in order.
    descriptors: VecDeque<OwnedFd>,
}

impl Channel {
    /// Creates a channel to a process of the same user.
    ///
    /// # Errors
    /// If the process belongs to another user.
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        let peer = rustix::net::sockopt::socket_peercred(&stream)?;
        if peer.uid != rustix::process::geteuid() {
            let user = peer.uid.as_raw();
            return Err(io::Error::other(format!("the peer is a process of another user ({user})")));
        }
        let peer = format!("process {}", peer.pid.as_raw_pid());
        Ok(Self { stream, peer, input: Vec::new(), descriptors: VecDeque::new() })
    }

    /// Sends a message, and with its first byte a descriptor.
    pub(super) async fn send(
        &self,
        message: &HandoverMessage,
        mut descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            let send = || send_some(&self.stream, rest, descriptor);
            let sent = self.stream.async_io(Interest::WRITABLE, send).await?;
            rest = rest.get(sent..).unwrap_or_default();
            descriptor = None;
        }
        Ok(())
    }

    /// Receives the next message; `None` if the other end has closed or died. Cancel-safe: no bytes are lost.
    pub(super) async fn receive(&mut self) -> io::Result<Option<HandoverMessage>> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.input) {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(io::Error::other);
            }
            if self.input.len() > LINE_MAX {
                return Err(io::Error::other("the line is too long"));
            }
            let mut bytes = [0; 4096];
            let receive = || receive_some(&self.stream, &mut bytes);
            let (length, descriptors) = match self.stream.async_io(Interest::READABLE, receive).await {
                // It died with unread bytes.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                received => received?,
            };
            self.descriptors.extend(descriptors);
            match bytes.get(..length) {
                Some([]) | None => return Ok(None),
                Some(bytes) => self.input.extend_from_slice(bytes),
            }
        }
    }

    /// Takes the descriptor that came with the message received last.
    pub(super) fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }
}

/// Waits for a step that takes the process at the other end a moment.
pub(super) async fn in_time<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let does_not_answer = || io::Error::new(io::ErrorKind::TimedOut, "it does not answer");
    timeout(PEER_TIMEOUT, step).await.unwrap_or_else(|_| Err(does_not_answer()))
}

fn send_some(stream: &UnixStream, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptor.as_slice().is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptor.as_slice()));
    }
    let bytes = [IoSlice::new(bytes)];
    Ok(retry_on_intr(|| sendmsg(stream, &bytes, &mut control, SendFlags::NOSIGNAL))?)
}

fn receive_some(stream: &UnixStream, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_AT_ONCE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [IoSliceMut::new(bytes)];
    let received = retry_on_intr(|| recvmsg(stream, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC))?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    let descriptors = rights.flatten().collect();
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other("a descriptor was lost: this process can open no more files"));
    }
    Ok((received.bytes, descriptors))
}

const PEER_TIMEOUT: Duration = Duration::from_secs(10);

/// Far longer than the longest message, which lists the numbers of 1024 groups.
const LINE_MAX: usize = 64 * 1024;

/// Room for descriptors in one call. The kernel returns no more than were sent in one call, which is one.
const DESCRIPTORS_AT_ONCE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::handover::message::{Description, Role};
    use crate::net::listener::Scheme;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    fn pair() -> (Channel, Channel) {
        let (near, far) = UnixStream::pair().unwrap();
        (Channel::new(near).unwrap(), Channel::new(far).unwrap())
    }

    fn socket(group: usize) -> HandoverMessage {
        let asked = Some("x".repeat(3000));
        let (role, scheme) = (Role::Traffic, Scheme::Https);
        HandoverMessage::Socket(Description { group, role, scheme, asked, owns_path: false })
    }

    #[tokio::test]
    async fn every_message_arrives_with_its_own_descriptor() {
        let (near, mut far) = pair();
        let directory = tempfile::tempdir().unwrap();
        let sending = async {
            for number in 0..50 {
                let path = directory.path().join(number.to_string());
                std::fs::write(&path, number.to_string()).unwrap();
                near.send(&socket(number), Some(File::open(&path).unwrap().as_fd())).await.unwrap();
            }
            near.send(&HandoverMessage::Offered { count: 50, watchdog_usec: None }, None).await.unwrap();
        };
        let receiving = async {
            for number in 0..50 {
                assert_eq!(far.receive().await.unwrap(), Some(socket(number)));
                let mut text = String::new();
                File::from(far.take_descriptor().unwrap()).read_to_string(&mut text).unwrap();
                assert_eq!(text, number.to_string());
            }
            assert!(matches!(far.receive().await.unwrap(), Some(HandoverMessage::Offered { count: 50, .. })));
            assert!(far.take_descriptor().is_none());
        };
        tokio::join!(sending, receiving);
        drop(near);
        assert_eq!(far.receive().await.unwrap(), None);
    }

    #[tokio::test]
    async fn malformed_messages_are_errors() {
        for bytes in [&b"{}\n"[..], b"GET / HTTP/1.1\r\n\r\n", b"\n", &[b'x'; LINE_MAX + 8192]] {
            let (near, mut far) = UnixStream::pair().unwrap();
            let mut channel = Channel::new(near).unwrap();
            let writing = async {
                let mut rest = bytes;
                while !rest.is_empty() {
                    far.writable().await.unwrap();
                    rest = &rest[far.try_write(rest).unwrap_or(0)..];
                }
            };
            let reading = async { assert!(channel.receive().await.is_err()) };
            tokio::select! { () = async { tokio::join!(writing, std::future::pending::<()>()); } => {}, () = reading => {} }
            let _ = &mut far;
        }
    }
}
