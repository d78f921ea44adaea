//! `pagecast warm`: asks a running server, over its admin listener, to read files into memory.

use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::cli::outcome::CommandOutput;
use crate::config::{Address, AdminListen, Config, Secret, WarmArgs};
use crate::lifecycle::warmup::protocol::{ADMIN_HEADER, PATH, WarmProgressLine};

/// Has the server that `config` describes, or the one at the address given, read files into memory, and waits for it. What it
/// did is told in one line; clean is what found files and read them all.
pub fn warm(config: &Config, asked: &WarmArgs) -> CommandOutput {
    let outcome = match (&asked.admin, &config.listening.admin_listen) {
        (Some(address), _) | (None, AdminListen::At(address)) => {
            ask(address, asked, config.listening.admin_token.given())
        }
        (None, AdminListen::Off) => Err("there is no admin listener: PAGECAST_ADMIN_LISTEN=off".to_owned()),
    };
    match outcome {
        Ok(line) => told(&line),
        Err(reason) => CommandOutput { err: format!("pagecast: {reason}\n"), ..CommandOutput::default() },
    }
}

fn told(line: &WarmProgressLine) -> CommandOutput {
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

fn ask(address: &Address, asked: &WarmArgs, token: Option<&Secret>) -> Result<WarmProgressLine, String> {
    let failed = |error: io::Error| format!("the admin listener at {address}: {error}");
    let stream = connect(address).map_err(failed)?;
    let mut answer = BufReader::new(send(stream, asked, token).map_err(failed)?);
    let (status, is_chunked) = read_head(&mut answer).map_err(failed)?;
    let answer = BufReader::new(Body { answer, left: is_chunked.then_some(0) });
    if status != 200 {
        let mut sentence = String::new();
        answer.take(SENTENCE_MAX).read_to_string(&mut sentence).map_err(failed)?;
        return Err(format!("the admin listener at {address} answers {status}: {}", sentence.trim()));
    }
    for text in answer.lines() {
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

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// What listens on every address is asked on the one of this machine.
fn connect(address: &Address) -> io::Result<Box<dyn Stream>> {
    Ok(match address {
        Address::Unix(path) => Box::new(UnixStream::connect(path)?),
        Address::Tcp(address) => {
            let ip = match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                ip => ip,
            };
            Box::new(TcpStream::connect(SocketAddr::new(ip, address.port()))?)
        }
    })
}

/// A request of which the answer ends with the connection.
fn send(
    mut stream: Box<dyn Stream>,
    asked: &WarmArgs,
    token: Option<&Secret>,
) -> io::Result<Box<dyn Stream>> {
    let encoded = |glob: &String| format!("glob={}", utf8_percent_encode(glob, NON_ALPHANUMERIC));
    let query: Vec<String> = asked.globs.texts().iter().map(encoded).collect();
    let query = query.join("&");
    let token = token.map(|token| format!("authorization: Bearer {}\r\n", token.reveal()));
    let token = token.unwrap_or_default();
    let head = format!(
        "POST {PATH}?{query} HTTP/1.1\r\nconnection: close\r\nhost: localhost\r\n{ADMIN_HEADER}: 1\r\n{token}content-length: 0\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    Ok(stream)
}

/// The status, and whether the body that follows comes in chunks.
fn read_head(answer: &mut impl BufRead) -> io::Result<(u16, bool)> {
    let mut head = answer.take(HEAD_MAX);
    let mut line = String::new();
    head.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("it does not speak HTTP"))?;
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

/// A body up to the end of the connection, or as chunks (RFC 9112 §7.1).
struct Body<R> {
    answer: R,
    /// Bytes left of the present chunk; none where there are no chunks.
    left: Option<u64>,
}

impl<R: BufRead> Read for Body<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let Some(left) = &mut self.left else { return self.answer.read(bytes) };
        if *left == 0 {
            *left = next_chunk(&mut self.answer)?;
        }
        let read = self.answer.by_ref().take(*left).read(bytes)?;
        *left -= read as u64;
        Ok(read)
    }
}

/// Bytes of the next chunk; 0 at the end of the body.
fn next_chunk(answer: &mut impl BufRead) -> io::Result<u64> {
    let mut line = String::new();
    loop {
        line.clear();
        let is_over = answer.by_ref().take(SENTENCE_MAX).read_line(&mut line)? == 0;
        // The end of the chunk before.
        if !is_over && line.trim_end().is_empty() {
            continue;
        }
        return if is_over {
            Ok(0)
        } else {
            u64::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)
        };
    }
}

const HEAD_MAX: u64 = 16 * 1024;
const SENTENCE_MAX: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_in_chunks_or_to_its_end() {
        for (text, expected) in [
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
                "abc0123456789",
            ),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nab", "ab"),
            ("HTTP/1.1 200 OK\r\n\r\nabc", "abc"),
        ] {
            let mut answer = text.as_bytes();
            let (status, is_chunked) = read_head(&mut answer).unwrap();
            let mut body = String::new();
            Body { answer, left: is_chunked.then_some(0) }.read_to_string(&mut body).unwrap();
            assert_eq!((status, &*body), (200, expected), "{text}");
        }
        assert!(read_head(&mut &b"SSH-2.0-x\r\n"[..]).is_err());
    }
}
