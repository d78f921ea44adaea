//! The TLS session of a connection: ciphertext in, plaintext out, and the other way round.

use std::cell::OnceCell;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustls::{ProtocolVersion, ServerConnection};

use crate::net::tls::config::ALPN_HTTP2;
use crate::telemetry::access_log::record::TlsFacts;

/// A session whose handshake is over. It never keeps more than a record that has not arrived whole, and what one call to
/// [`encrypt`](Self::encrypt) made and the socket has not taken.
pub(crate) struct Session {
    connection: ServerConnection,
    /// Ciphertext behind plaintext that was not read yet. Empty but for clients that pipeline without end.
    ahead: Vec<u8>,
    /// Bytes that were encrypted and have not left, their records' framing included.
    held: usize,
    /// What the log tells of it, once it was asked.
    facts: OnceCell<Arc<TlsFacts>>,
}

impl Session {
    pub(super) fn new(mut connection: ServerConnection) -> Self {
        // What waits is bounded here: tickets of its own must not take the room of a response.
        connection.set_buffer_limit(None);
        Self { connection, ahead: Vec::new(), held: 0, facts: OnceCell::new() }
    }

    /// Whether HTTP/2 was agreed upon (ALPN, RFC 7301).
    pub(crate) fn speaks_http2(&self) -> bool {
        self.connection.alpn_protocol() == Some(ALPN_HTTP2)
    }

    /// What was agreed upon, as the log tells it.
    pub(crate) fn facts(&self) -> Arc<TlsFacts> {
        Arc::clone(self.facts.get_or_init(|| Arc::new(facts_of(&self.connection))))
    }

    /// Plaintext that is at hand; 0 is the end, none that ciphertext must come first.
    ///
    /// # Errors
    /// What the client sent is no TLS, or was tampered with.
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
            if let Err(error) = self.take(&ahead) {
                return Some(Err(error));
            }
        }
    }

    /// Whether plaintext is at hand.
    pub(crate) fn has_plaintext(&mut self) -> bool {
        let is_there = matches!(self.connection.reader().into_first_chunk(), Ok([_, ..]));
        is_there || !self.ahead.is_empty()
    }

    /// Takes ciphertext in that has arrived.
    ///
    /// # Errors
    /// It is no TLS, or was tampered with; what the client is to be told of that waits to leave.
    pub(crate) fn take(&mut self, ciphertext: &[u8]) -> io::Result<()> {
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

    /// Whether ciphertext waits to leave.
    pub(crate) fn has_sendable(&self) -> bool {
        self.connection.wants_write()
    }

    /// How many bytes of ciphertext wait to leave, but for those of the protocol's own.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Encrypts all of `plaintext`. To be called once nothing is [held](Self::held).
    ///
    /// # Errors
    /// The session is at its end.
    pub(crate) fn encrypt(&mut self, plaintext: &[IoSlice<'_>]) -> io::Result<()> {
        let length: usize = plaintext.iter().map(|slice| slice.len()).sum();
        let taken = self.connection.writer().write_vectored(plaintext)?;
        if taken < length {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.held = length + length.div_ceil(RECORD) * OVERHEAD;
        Ok(())
    }

    /// Sends what waits, by one call; says how many bytes left.
    ///
    /// # Errors
    /// Those of the socket.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let sent = self.connection.write_tls(&mut VectoredSocket(socket))?;
        self.held = if self.has_sendable() { self.held.saturating_sub(sent).max(1) } else { 0 };
        Ok(sent)
    }

    /// Tells the client that nothing more will come: without this what it got does not look whole (RFC 8446 §6.1).
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
        // The library tells suites of TLS 1.3 apart by their names; the registered ones do not.
        cipher: suite.map_or_else(|| "unknown".into(), |name| name.replacen("TLS13_", "TLS_", 1).into()),
        server_name: connection.server_name().map(Into::into),
    }
}

/// A socket that is written to by `writev`.
pub(super) struct VectoredSocket<'a>(pub(super) BorrowedFd<'a>);

impl Write for VectoredSocket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self.0, bytes)?)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(self.0, slices)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The most plaintext in one record (RFC 8446 §5.1).
pub(crate) const RECORD: usize = 16 * 1024;

/// What a record has beside it, at most.
const OVERHEAD: usize = 29;

/// Beyond so many bytes that nobody has read no further ones are decrypted; the library refuses them then.
const PLAINTEXT_MAX: usize = RECORD;
