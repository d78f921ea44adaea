//! `pagecast warm`: makes a running server read files into memory, by a request to its admin listener.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::cli::action::WarmArgs;
use crate::cli::outcome::CommandOutput;
use crate::config::{Address, Config, Secret};
use crate::lifecycle::warmup::progress::{ADMIN_HEADER, PATH, WarmProgressLine};

/// Requests a warm-up of the server that `config` describes, or of the one at the given address, and waits for it. Prints one line
/// of counts. The output is clean if files were found and all of them were read.
pub fn warm(config: &Config, arguments: &WarmArgs) -> CommandOutput {
    let outcome = match arguments.admin.as_ref().or(config.listening.admin_listen.given()) {
        Some(address) => request(address, arguments, config.listening.admin_token.given()),
        None => Err("there is no admin listener: PAGECAST_ADMIN_LISTEN=off".to_owned()),
    };
    outcome.map_or_else(CommandOutput::failed, |line| output(&line))
}

fn output(line: &WarmProgressLine) -> CommandOutput {
    let mut err = String::new();
    if line.is_truncated {
        err.push_str("pagecast: there are more files than are read at once (PAGECAST_WARM_FILES)\n");
    }
    if line.closed > 0 {
        err.push_str(&format!("pagecast: {} directories could not be read\n", line.closed));
    }
    if line.counts.of == 0 {
        err.push_str("pagecast: no file matches\n");
    }
    let is_clean = err.is_empty() && line.counts.failed == 0 && line.counts.left_out == 0;
    CommandOutput { out: format!("{}\n", line.counts), err, is_clean }
}

fn request(
    address: &Address,
    arguments: &WarmArgs,
    token: Option<&Secret>,
) -> Result<WarmProgressLine, String> {
    let failed = |error: io::Error| format!("the admin listener at {address}: {error}");
    let stream = connect(address).map_err(failed)?;
    let mut response = BufReader::new(send(stream, arguments, token).map_err(failed)?);
    let (status, is_chunked) = read_head(&mut response).map_err(failed)?;
    let response = BufReader::new(Body { response, left: is_chunked.then_some(0) });
    if status != 200 {
        let mut sentence = String::new();
        response.take(SENTENCE_MAX).read_to_string(&mut sentence).map_err(failed)?;
        return Err(format!("the admin listener at {address} responded {status}: {}", sentence.trim()));
    }
    for text in response.lines() {
        let line: WarmProgressLine =
            serde_json::from_str(&text.map_err(failed)?).map_err(|error| failed(error.into()))?;
        if line.is_over {
            return Ok(line);
        }
        if io::stderr().is_terminal() {
            let _ = writeln!(io::stderr(), "{}", line.counts);
        }
    }
    Err(format!("the server at {address} stopped before all was read"))
}

/// Connects to the admin listener. To Linux the unspecified address is that of this machine.
fn connect(address: &Address) -> io::Result<OwnedFd> {
    Ok(match address {
        Address::Unix(path) => UnixStream::connect(path)?.into(),
        Address::Tcp(address) => TcpStream::connect(address)?.into(),
    })
}

/// Sends the request. The response ends with the connection.
fn send(stream: OwnedFd, arguments: &WarmArgs, token: Option<&Secret>) -> io::Result<File> {
    let encoded = |glob: &String| format!("glob={}", utf8_percent_encode(glob, NON_ALPHANUMERIC));
    let query = arguments.globs.texts().iter().map(encoded).collect::<Vec<_>>().join("&");
    let token = token.map(|token| format!("authorization: Bearer {}\r\n", token.reveal()));
    let token = token.unwrap_or_default();
    let head = format!(
        "POST {PATH}?{query} HTTP/1.1\r\nconnection: close\r\nhost: localhost\r\n{ADMIN_HEADER}: 1\r\n{token}content-length: 0\r\n\r\n"
    );
    let mut stream = File::from(stream);
    stream.write_all(head.as_bytes())?;
    Ok(stream)
}

/// Reads the head of the response. Returns its status and whether the body is chunked.
fn read_head(response: &mut impl BufRead) -> io::Result<(u16, bool)> {
    let mut head = response.take(HEAD_MAX);
    let mut line = String::new();
    head.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("the response is not HTTP"))?;
    let mut is_chunked = false;
    loop {
        line.clear();
        head.read_line(&mut line)?;
        if line.trim_end().is_empty() {
            return Ok((status, is_chunked));
        }
        is_chunked |= line.trim_end().eq_ignore_ascii_case("transfer-encoding: chunked");
    }
}

/// A body that ends with the connection, or is chunked (RFC 9112 §7.1).
struct Body<R> {
    response: R,
    /// Bytes left of the current chunk; `None` if the body is not chunked.
    left: Option<u64>,
}

impl<R: BufRead> Read for Body<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let Some(left) = &mut self.left else { return self.response.read(bytes) };
        if *left == 0 {
            *left = next_chunk(&mut self.response)?;
        }
        let read = self.response.by_ref().take(*left).read(bytes)?;
        *left -= read as u64;
        Ok(read)
    }
}

/// Returns the length of the next chunk; 0 at the end of the body.
fn next_chunk(response: &mut impl BufRead) -> io::Result<u64> {
    let mut line = String::new();
    // The line end of the chunk before is skipped.
    while line.trim_end().is_empty() {
        line.clear();
        if response.by_ref().take(SENTENCE_MAX).read_line(&mut line)? == 0 {
            return Ok(0);
        }
    }
    u64::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)
}

const HEAD_MAX: u64 = 16 * 1024;
const SENTENCE_MAX: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_read_in_chunks_or_to_its_end() {
        for (text, expected) in [
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
                "abc0123456789",
            ),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nab", "ab"),
            ("HTTP/1.1 200 OK\r\n\r\nabc", "abc"),
        ] {
            let mut response = text.as_bytes();
            let (status, is_chunked) = read_head(&mut response).unwrap();
            let mut body = String::new();
            Body { response, left: is_chunked.then_some(0) }.read_to_string(&mut body).unwrap();
            assert_eq!((status, &*body), (200, expected), "{text}");
        }
        assert!(read_head(&mut &b"SSH-2.0-x\r\n"[..]).is_err());
    }
}
