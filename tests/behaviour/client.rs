//! What raw clients have in common.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::site::{Reply, Server};

/// Bytes that tell where in a file they stand: no two stretches look alike, and every value occurs.
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

/// A client that keeps its connection: every further response shows that the one before ended where it said.
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
        matches!(self.stream.read(&mut [0]), Ok(0))
    }
}

/// Sends `raw` and returns all that comes until the server closes.
pub fn all_that_comes(server: &Server, raw: impl AsRef<[u8]>) -> Vec<u8> {
    let mut stream = server.connect();
    let mut writer = stream.try_clone().unwrap();
    let raw = raw.as_ref().to_vec();
    let writing = std::thread::spawn(move || {
        // A server that has answered and closed need not take the rest.
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
