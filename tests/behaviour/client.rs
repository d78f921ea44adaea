//! Helpers of raw clients.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::site::{PATIENCE, Reply, Server};

/// Bytes that identify their position in a file: no two stretches look alike, and every value occurs.
pub fn patterned(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32).to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Repeats `call` while signals interrupt it: the kernel does not restart calls on a socket with a timeout.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// One read, repeated if a signal interrupts it.
pub trait ReadSome: Read {
    fn read_some(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| self.read(bytes))
    }
}

impl<R: Read> ReadSome for R {}

/// Waits until bytes have arrived, without reading them.
pub fn wait_for_bytes(stream: &TcpStream) {
    assert_eq!(uninterrupted(|| stream.peek(&mut [0])).unwrap(), 1);
}

/// Waits until `is_so` returns true.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE * 3;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A client that keeps its connection: each further response shows that the previous one ended where it said.
pub struct Client {
    pub stream: TcpStream,
}

impl Client {
    pub fn of(server: &Server) -> Self {
        Self { stream: server.connect() }
    }

    pub fn send(&mut self, raw: impl AsRef<[u8]>) {
        self.stream.write_all(raw.as_ref()).unwrap();
    }

    /// One request with more header lines (each ending in CRLF), and its response.
    pub fn ask(&mut self, method: &str, target: &str, lines: &str) -> Reply {
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{lines}\r\n"));
        self.read(method)
    }

    /// The next response, to a request of this method.
    pub fn read(&mut self, method: &str) -> Reply {
        Reply::read(&mut self.stream, method == "HEAD").expect("a response")
    }

    /// Whether the server has closed, without a byte and without a reset.
    pub fn is_at_end(&mut self) -> bool {
        matches!(self.stream.read_some(&mut [0]), Ok(0))
    }
}

/// A response whose body may be streamed.
pub struct StreamedReply {
    pub reply: Reply,
    /// Whether the body is complete by its framing.
    pub is_whole: bool,
}

impl StreamedReply {
    /// GETs `target` on a connection of its own, with more header lines (each ending in CRLF).
    pub fn get(server: &Server, target: &str, lines: &str) -> Self {
        let mut stream = server.connect();
        // Background work may take long when many tests run at once.
        stream.set_read_timeout(Some(PATIENCE * 30)).unwrap();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n").unwrap();
        Self::read(&mut stream)
    }

    /// Reads a response that is chunked, of a known length, or ends with the connection.
    pub fn read(stream: &mut impl Read) -> Self {
        let reply = Reply::read(stream, true).expect("a head");
        Self::finish(reply, stream)
    }

    /// Reads the body of a response whose head has been read.
    pub fn finish(mut reply: Reply, stream: &mut impl Read) -> Self {
        let read = if reply.field("transfer-encoding") == Some("chunked") {
            read_chunks(BufReader::new(stream), &mut reply.body)
        } else if let Some(length) = reply.content_length() {
            stream.take(length).read_to_end(&mut reply.body).map(|came| came as u64 == length)
        } else {
            stream.read_to_end(&mut reply.body).map(|_| true)
        };
        Self { reply, is_whole: read.unwrap_or(false) }
    }

    /// The body of a 200 or 206 that is complete.
    pub fn body(self) -> Vec<u8> {
        assert_eq!(self.reply.status, 200, "{}", self.reply.text());
        assert!(self.is_whole, "broken after {} bytes", self.reply.body.len());
        self.reply.body
    }
}

/// Reads chunks (RFC 9112 §7.1). Returns false if the bytes end before the last one.
fn read_chunks(mut stream: impl BufRead, body: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some(digits) = line.strip_suffix("\r\n") else { return Ok(false) };
        let length = u64::from_str_radix(digits, 16).expect("a chunk's size");
        if (&mut stream).take(length).read_to_end(body)? as u64 != length {
            return Ok(false);
        }
        let mut end = [0; 2];
        stream.read_exact(&mut end)?;
        assert_eq!(&end, b"\r\n", "a chunk ends where its size says");
        if length == 0 {
            return Ok(true);
        }
    }
}

/// Sends `raw` and returns everything until the server closes.
pub fn receive_all(server: &Server, raw: impl AsRef<[u8]>) -> Vec<u8> {
    let mut stream = server.connect();
    let mut writer = stream.try_clone().unwrap();
    let raw = raw.as_ref().to_vec();
    let writing = std::thread::spawn(move || {
        // A server that has responded and closed need not read the rest.
        let _ = writer.write_all(&raw);
    });
    let mut came = Vec::new();
    stream.read_to_end(&mut came).unwrap();
    writing.join().unwrap();
    let _ = stream.shutdown(Shutdown::Both);
    came
}

/// The responses in `bytes`, none of them to a HEAD.
pub fn replies_in(bytes: &[u8]) -> Vec<Reply> {
    let mut rest = bytes;
    let mut replies = Vec::new();
    while !rest.is_empty() {
        replies.push(Reply::read(&mut rest, false).expect("a whole response"));
    }
    replies
}
