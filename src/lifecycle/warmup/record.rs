//! Format of the list of recently used files: written at a stop, read at a start.
//!
//! The first line is [`HEADER`]. Each other line has a path as in a request, an encoding or `identity`, the length in bytes, and
//! 64 bits in hexadecimal, the lowest for the first part of the file. The most used file is first.

use std::fmt::Write as _;
use std::io::{self, BufRead, Read};

use crate::files::recency::FileParts;
use crate::files::warming::HotFile;
use crate::http::encoding::Encoding;
use crate::http::target::SitePath;

/// First line of the file. Files of other formats don't begin with it.
pub(crate) const HEADER: &str = "pagecast hot files, version 1";

/// Contents of such a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct HotFileRecords {
    pub(crate) hot: Vec<HotFile>,
    /// Number of malformed lines.
    pub(crate) malformed: usize,
    /// The first line is not [`HEADER`]; nothing else was read.
    pub(crate) is_foreign: bool,
}

/// Renders the whole file.
pub(crate) fn render(hot: &[HotFile]) -> String {
    let mut text = format!("{HEADER}\n");
    for HotFile { path, encoding, length, parts } in hot {
        let (path, encoding) = (path.to_file_location(None), encoding.map_or(IDENTITY, Encoding::name));
        let _ = writeln!(text, "{path} {encoding} {length} {:x}", parts.0);
    }
    text
}

/// Reads at most `max` records and [`MALFORMED_MAX`] malformed lines, each of bounded length.
///
/// # Errors
/// Those of the reader.
pub(crate) fn parse(mut from: impl BufRead, max: usize) -> io::Result<HotFileRecords> {
    let mut records = HotFileRecords::default();
    let mut line = Vec::new();
    if !next_line(&mut from, &mut line)? || line != HEADER.as_bytes() {
        return Ok(HotFileRecords { is_foreign: true, ..records });
    }
    while records.hot.len() < max && records.malformed < MALFORMED_MAX && next_line(&mut from, &mut line)? {
        match parse_line(&line) {
            Some(hot) => records.hot.push(hot),
            None => records.malformed += 1,
        }
    }
    Ok(records)
}

/// Reads the next line without its end; returns false at the end of the file. A line that is too long is read in pieces, which
/// are malformed.
fn next_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let read = from.take(LINE_MAX).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(read > 0)
}

/// Parses a line exactly as [`render`] writes it. Its path is parsed as the path of a request is.
fn parse_line(line: &[u8]) -> Option<HotFile> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (path, encoding, length, parts) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let encoding = match encoding {
        IDENTITY => None,
        name => Some(Encoding::named(name.as_bytes())?),
    };
    let target = SitePath::parse(path.as_bytes()).ok()?;
    let hot = HotFile {
        encoding,
        length: length.parse().ok()?,
        parts: FileParts(u64::from_str_radix(parts, 16).ok()?),
        path: target.path.into_owned(),
    };
    (words.next().is_none() && path.starts_with('/') && !target.wants_directory).then_some(hot)
}

const IDENTITY: &str = "identity";

/// PATH_MAX bytes, each of them percent-encoded, and the other columns.
const LINE_MAX: u64 = 4096 * 3 + 128;

/// After this many malformed lines the rest of the file is not read.
const MALFORMED_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn hot(path: &str, encoding: Option<Encoding>, length: u64, parts: u64) -> HotFile {
        let path = SitePath::parse(path.as_bytes()).unwrap().path.into_owned();
        HotFile { path, encoding, length, parts: FileParts(parts) }
    }

    fn read(lines: &str) -> HotFileRecords {
        parse(format!("{HEADER}\n{lines}").as_bytes(), 100).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let all = [
            hot("/a", None, 0, 0),
            hot("/b%20c/%C3%A9%FF%0A", None, 5_000_000_000, u64::MAX),
            hot("/b%20c/d%25%3F%23", Some(Encoding::Br), 17, 1),
            hot("/e", Some(Encoding::Gzip), 1 << 40, 0b101),
        ];
        let text = render(&all);
        assert_eq!(text.lines().count(), 5, "{text}");
        assert_eq!(
            parse(text.as_bytes(), 100).unwrap(),
            HotFileRecords { hot: all.to_vec(), ..HotFileRecords::default() }
        );
        assert_eq!(parse(text.as_bytes(), 2).unwrap().hot, all[..2]);
    }

    #[test]
    fn malformed_lines_are_skipped() {
        for malformed in [
            "",
            "/a",
            "/a identity 1",
            "/a identity 1 1 1",
            "/a identity -1 1",
            "/a identity 1 xyz",
            "/a identity 1 11111111111111111",
            "/a lzma 1 1",
            "a identity 1 1",
            "/../etc/passwd identity 1 1",
            "/%2e%2e/x identity 1 1",
            "/a/ identity 1 1",
            "/a%00 identity 1 1",
            "http://x/a identity 1 1",
        ] {
            let found = read(&format!("{malformed}\n/b identity 1 1\n"));
            assert_eq!((found.hot, found.malformed), (vec![hot("/b", None, 1, 1)], 1), "{malformed}");
        }
    }

    #[test]
    fn a_file_of_another_kind_is_not_read() {
        for bytes in [&b""[..], b"\0\0\0", b"pagecast hot files, version 2\n/a identity 1 1\n", b"\n/a"] {
            let found = parse(bytes, 100).unwrap();
            assert_eq!(found, HotFileRecords { is_foreign: true, ..HotFileRecords::default() }, "{bytes:?}");
        }
    }

    #[test]
    fn an_endless_file_is_read_to_a_limit() {
        struct Endless(u8);
        impl Read for Endless {
            fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
                bytes.fill(self.0);
                Ok(bytes.len())
            }
        }
        for byte in [b'\n', b'x'] {
            let endless = format!("{HEADER}\n");
            let from = io::BufReader::new(endless.as_bytes().chain(Endless(byte)));
            assert_eq!(parse(from, 100).unwrap().malformed, MALFORMED_MAX);
        }
    }
}
