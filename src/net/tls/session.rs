//! The TLS session of a connection: decrypts what it receives and encrypts what it sends.

use std::cell::OnceCell;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustls::{ProtocolVersion, ServerConnection};
use socket2::SockRef;

use crate::net::tls::config::ALPN_HTTP2;
use crate::telemetry::access_log::record::TlsFacts;

/// A session after its handshake. It holds at most one incomplete record, and the ciphertext of one call to
/// [`encrypt`](Self::encrypt) that the socket has not taken.
pub(crate) struct Session {
    connection: ServerConnection,
    /// Ciphertext behind unread plaintext. Empty except for clients that pipeline without end.
    ahead: Vec<u8>,
    /// Bytes of ciphertext that wait to be sent, the framing of records included, except those of the protocol itself.
    pub(crate) ciphertext_left: usize,
    /// Created when they are first logged.
    facts: OnceCell<Arc<TlsFacts>>,
}

impl Session {
    pub(super) fn new(mut connection: ServerConnection) -> Self {
        // Bounded by our own count: session tickets must not use up the room of a response.
        connection.set_buffer_limit(None);
        Self { connection, ahead: Vec::new(), ciphertext_left: 0, facts: OnceCell::new() }
    }

    /// True if HTTP/2 was negotiated (ALPN, RFC 7301).
    pub(crate) fn is_http2(&self) -> bool {
        self.connection.alpn_protocol() == Some(ALPN_HTTP2)
    }

    /// Protocol version, cipher suite and server name, for the access log.
    pub(crate) fn facts(&self) -> Arc<TlsFacts> {
        Arc::clone(self.facts.get_or_init(|| Arc::new(facts_of(&self.connection))))
    }

    /// Reads available plaintext. 0 is the end, `None` means that more ciphertext is needed.
    ///
    /// # Errors
    /// If the client did not send valid TLS records.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Some(read),
            }
            if self.ahead.is_empty() {
                return None;
            }
            let ahead = std::mem::take(&mut self.ahead);
            if let Err(error) = self.decrypt(&ahead) {
                return Some(Err(error));
            }
        }
    }

    /// True if plaintext is available.
    pub(crate) fn has_plaintext(&mut self) -> bool {
        let is_there = matches!(self.connection.reader().into_first_chunk(), Ok([_, ..]));
        is_there || !self.ahead.is_empty()
    }

    /// Takes received ciphertext.
    ///
    /// # Errors
    /// If the client did not send valid TLS records. The alert waits to be sent.
    pub(crate) fn decrypt(&mut self, ciphertext: &[u8]) -> io::Result<()> {
        let mut left = ciphertext;
        while !left.is_empty() {
            let taken = self.connection.read_tls(&mut left)?;
            let state = self.connection.process_new_packets().map_err(io::Error::other)?;
            if taken == 0 {
                break;
            }
            if state.plaintext_bytes_to_read() > PLAINTEXT_MAX {
                self.ahead.extend_from_slice(left);
                break;
            }
        }
        Ok(())
    }

    /// True if ciphertext waits to be sent.
    pub(crate) fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Encrypts all of `plaintext`. Call it once no [ciphertext](field@Self::ciphertext_left) is left.
    ///
    /// # Errors
    /// If the session has ended.
    pub(crate) fn encrypt(&mut self, plaintext: &[IoSlice<'_>]) -> io::Result<()> {
        let length: usize = plaintext.iter().map(|slice| slice.len()).sum();
        let taken = self.connection.writer().write_vectored(plaintext)?;
        if taken < length {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.ciphertext_left = length + length.div_ceil(RECORD) * OVERHEAD;
        Ok(())
    }

    /// Sends ciphertext with one call and returns the number of bytes sent.
    ///
    /// # Errors
    /// Those of the socket.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let sent = self.connection.write_tls(&mut &*SockRef::from(&socket))?;
        let left = self.ciphertext_left.saturating_sub(sent).max(1);
        self.ciphertext_left = if self.wants_write() { left } else { 0 };
        Ok(sent)
    }

    /// Queues a close_notify: without it what the client received does not look complete (RFC 8446 §6.1).
    pub(crate) fn close(&mut self) {
        self.connection.send_close_notify();
    }
}

fn facts_of(connection: &ServerConnection) -> TlsFacts {
    let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    TlsFacts {
        version: match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "unknown",
        },
        // rustls names suites of TLS 1.3 differently from the registry.
        cipher: suite.map_or_else(|| "unknown".into(), |name| name.replacen("TLS13_", "TLS_", 1).into()),
        server_name: connection.server_name().map(Into::into),
    }
}

/// Most bytes of plaintext in one record (RFC 8446 §5.1).
pub(crate) const RECORD: usize = 16 * 1024;

/// Most bytes that a record has beside its plaintext.
const OVERHEAD: usize = 29;

/// Bytes of unread plaintext beyond which nothing more is decrypted: rustls would refuse it.
///
/// Decision: docs/decisions/043-tls-sending.md.
const PLAINTEXT_MAX: usize = RECORD;
