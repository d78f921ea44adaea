//! Helpers for tests of encodings and checksums.

use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256, Sha512};

use crate::client::Client;
use crate::site::{PATIENCE, Reply, Server};

/// Token in headers, and suffix of the sidecar.
pub const CODINGS: [(&str, &str); 3] = [("br", ".br"), ("zstd", ".zst"), ("gzip", ".gz")];

/// Text of lines that are similar and not equal.
pub fn text(length: usize, version: u32) -> Vec<u8> {
    let lines =
        (0..).map(|line: u32| format!("{version}: line {line} of {}\n", line.wrapping_mul(7919) % 1000));
    let mut text = Vec::with_capacity(length + 64);
    for line in lines {
        if text.len() >= length {
            break;
        }
        text.extend_from_slice(line.as_bytes());
    }
    text.truncate(length);
    text
}

/// The decoded body.
pub fn decoded(reply: &Reply) -> Vec<u8> {
    let mut plain = Vec::new();
    match reply.field("content-encoding") {
        None => plain.clone_from(&reply.body),
        Some("br") => {
            brotli::Decompressor::new(&*reply.body, 4096).read_to_end(&mut plain).map(drop).unwrap();
        }
        Some("zstd") => plain = zstd::decode_all(&*reply.body).unwrap(),
        Some("gzip") => {
            flate2::read::GzDecoder::new(&*reply.body).read_to_end(&mut plain).map(drop).unwrap();
        }
        Some(other) => panic!("the coding {other}"),
    }
    plain
}

/// `bytes` in gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn coding(reply: &Reply) -> &str {
    reply.field("content-encoding").unwrap_or("identity")
}

/// Repeats a request on one connection until the reply is `as_wanted`.
pub fn ask_until(
    server: &Server,
    (method, target, lines): (&str, &str, &str),
    as_wanted: impl Fn(&Reply) -> bool,
) -> Reply {
    // Background work has low priority on the machine, also behind other tests.
    let deadline = Instant::now() + 3 * PATIENCE;
    let mut client = Client::of(server);
    loop {
        let reply = client.ask(method, target, lines);
        if as_wanted(&reply) {
            return reply;
        }
        assert!(
            Instant::now() < deadline,
            "{method} {target} {lines} is still {} {:?}; the log:\n{}",
            reply.status,
            reply.fields,
            server.log()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn sha256_field(bytes: &[u8]) -> String {
    format!("sha-256=:{}:", BASE64_STANDARD.encode(Sha256::digest(bytes)))
}

pub fn sha512_field(bytes: &[u8]) -> String {
    format!("sha-512=:{}:", BASE64_STANDARD.encode(Sha512::digest(bytes)))
}

pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub fn sha512_hex(bytes: &[u8]) -> String {
    hex(&Sha512::digest(bytes))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Replaces a file in one step.
pub fn put(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("being-written");
    std::fs::write(&beside, bytes).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

pub fn set_modified(path: &Path, at: SystemTime) {
    std::fs::File::options().append(true).open(path).unwrap().set_modified(at).unwrap();
}
