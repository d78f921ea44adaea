//! HTTP/2 frames, well-formed or not (RFC 9113 §4 and §6).

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::site::Server;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const WITH_PRIORITY: u8 = 32;

pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Header lines as literals that no table stores (RFC 7541 §6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            string(&mut block, text.as_bytes());
        }
    }
    block
}

fn string(block: &mut Vec<u8>, text: &[u8]) {
    let mut left = text.len();
    if left < 127 {
        block.push(u8::try_from(left).unwrap());
    } else {
        block.push(127);
        left -= 127;
        while left >= 128 {
            block.push(u8::try_from(left % 128 + 128).unwrap());
            left /= 128;
        }
        block.push(u8::try_from(left).unwrap());
    }
    block.extend_from_slice(text);
}

/// The head of a GET.
pub fn get(path: &str) -> Vec<u8> {
    block(&[(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "x")])
}

/// GET `path` on `stream`.
pub fn ask(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &get(path))
}

/// SETTINGS with these values.
pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = values
        .iter()
        .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(SETTINGS, 0, 0, &payload)
}

pub fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub fn ping(text: &[u8; 8]) -> Vec<u8> {
    frame(PING, 0, 0, text)
}

/// The name of an error code (RFC 9113 §7).
pub fn code(payload: &[u8]) -> &'static str {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    let number = payload.get(..4).map_or(u32::MAX, |bytes| u32::from_be_bytes(bytes.try_into().unwrap()));
    NAMES.get(number as usize).copied().unwrap_or("another")
}

/// A client that sends given frames.
pub struct Raw<T = TcpStream> {
    pub stream: T,
    bodies: HashMap<u32, Vec<u8>>,
    /// Streams that have ended, and the codes of those that were reset.
    ended: Vec<(u32, Option<&'static str>)>,
}

impl Raw {
    /// A client that has sent the preface and these settings.
    pub fn to(server: &Server, values: &[(u16, u32)]) -> Self {
        Self::over(server.connect(), values)
    }
}

impl<T: Read + Write> Raw<T> {
    pub fn over(stream: T, values: &[(u16, u32)]) -> Self {
        let mut client = Self::silent(stream);
        client.send(&[PREFACE, &settings(values)].concat());
        client
    }

    /// A client that has sent nothing yet.
    pub fn silent(stream: T) -> Self {
        Self { stream, bodies: HashMap::new(), ended: Vec::new() }
    }

    /// Sends as much as possible: the server may have closed.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The next frame; `None` at the end.
    pub fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame that is `wanted`. Others are skipped.
    pub fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.read()?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// The server's frames as words, until all of `expected` have arrived and it is known whether the connection goes on: `HEADERS 1`,
    /// `END 1`, `RESET 1 CODE`, `GOAWAY CODE`, `PING`, `CLOSED`.
    pub fn watch(&mut self, expected: &str) -> Vec<String> {
        const MARK: &[u8; 8] = b"the mark";
        self.send(&ping(MARK));
        let mut seen: Vec<String> = Vec::new();
        loop {
            let has_ended = seen.iter().any(|word| word == "PING" || word.starts_with("GOAWAY"));
            if has_ended && seen.iter().any(|word| word == expected) {
                return seen;
            }
            let Some(frame) = self.read() else {
                seen.push("CLOSED".to_owned());
                return seen;
            };
            match frame.kind {
                HEADERS => seen.push(format!("HEADERS {}", frame.stream)),
                RST_STREAM => seen.push(format!("RESET {} {}", frame.stream, code(&frame.payload))),
                GOAWAY => seen.push(format!("GOAWAY {}", code(&frame.payload[4..]))),
                PING if frame.flags & ACK != 0 && frame.payload == MARK => seen.push("PING".to_owned()),
                PING if frame.flags & ACK != 0 => seen.push("PONG".to_owned()),
                _ => {}
            }
            if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
                seen.push(format!("END {}", frame.stream));
            }
        }
    }

    /// Bytes of `stream` until it ends, or the code of its reset. Windows are replenished; frames of
    /// other streams are kept.
    pub fn body(&mut self, stream: u32) -> Result<Vec<u8>, &'static str> {
        loop {
            if let Some((_, end)) = self.ended.iter().find(|(ended, _)| *ended == stream) {
                let end = *end;
                self.ended.retain(|(ended, _)| *ended != stream);
                let body = self.bodies.remove(&stream).unwrap_or_default();
                return end.map_or(Ok(body), Err);
            }
            let Some(frame) = self.read() else { return Err("CLOSED") };
            if frame.kind == DATA && !frame.payload.is_empty() {
                let length = u32::try_from(frame.payload.len()).unwrap();
                self.send(&[window_update(0, length), window_update(frame.stream, length)].concat());
            }
            match frame.kind {
                DATA => self.bodies.entry(frame.stream).or_default().extend_from_slice(&frame.payload),
                RST_STREAM => self.ended.push((frame.stream, Some(code(&frame.payload)))),
                _ => {}
            }
            if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
                self.ended.push((frame.stream, None));
            }
        }
    }
}
