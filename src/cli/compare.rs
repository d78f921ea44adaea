//! Compares a sidecar with its original.

use std::io::{self, BufReader, Read};

use rustix::fs::Stat;

use crate::http::encoding::Encoding;
use crate::sys::decompress::decoder;

/// Result of decoding a sidecar.
#[derive(Debug)]
pub(crate) enum Compared {
    /// It decodes to its original.
    Same,
    /// It decodes to something else, from this byte on.
    DiffersAt(u64),
    /// It does not decode.
    Corrupt(io::Error),
}

/// Decodes `sidecar` and compares it with `original`, both from their current positions. Stops at the first difference, so that
/// a sidecar that decodes to endless output is bounded by its original.
///
/// # Errors
/// Those of the disk.
pub(crate) fn compare(
    encoding: Encoding,
    mut original: impl Read,
    sidecar: impl Read,
) -> io::Result<Compared> {
    let mut decoded = decoder(encoding, BufReader::with_capacity(BUFFER, sidecar))?;
    let (mut left, mut right) = (vec![0; BUFFER], vec![0; BUFFER]);
    let mut at = 0;
    loop {
        let expected = fill(&mut original, &mut left)?;
        let got = match fill(&mut decoded, &mut right) {
            Ok(got) => got,
            // Errors of the disk have a number, errors of the decoder have none.
            Err(error) if error.raw_os_error().is_some() => return Err(error),
            Err(error) => return Ok(Compared::Corrupt(error)),
        };
        let pairs = left.iter().take(expected).zip(right.iter().take(got));
        let same = pairs.take_while(|(left, right)| left == right).count();
        at += same as u64;
        if same < expected || same < got {
            return Ok(Compared::DiffersAt(at));
        }
        if expected == 0 {
            return Ok(Compared::Same);
        }
    }
}

/// Time of the last change of the content, in seconds and nanoseconds.
pub(crate) fn modified(stat: &Stat) -> (i64, i64) {
    (stat.st_mtime as _, stat.st_mtime_nsec as _)
}

/// Time of the last change of content or metadata, which no program can set.
pub(crate) fn changed(stat: &Stat) -> (i64, i64) {
    (stat.st_ctime as _, stat.st_ctime_nsec as _)
}

/// Reads until `buffer` is full or `reader` ends. Returns the number of bytes read.
pub(crate) fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Bytes that are read at a time.
pub(crate) const BUFFER: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::compress::encode;

    #[test]
    fn the_first_different_byte_is_found() {
        let long = vec![b'x'; 3 * BUFFER];
        let mut longer = long.clone();
        longer.push(b'y');
        for encoding in Encoding::ALL {
            for (original, sidecar, expected) in [
                (&b""[..], &b""[..], None),
                (b"abc", b"abc", None),
                (&long, &long, None),
                (b"abc", b"abd", Some(2)),
                (b"abc", b"ab", Some(2)),
                (b"ab", b"abc", Some(2)),
                (b"", b"a", Some(0)),
                (&long, &longer, Some(long.len() as u64)),
            ] {
                let encoded = encode(encoding, sidecar).unwrap();
                let found = match compare(encoding, original, encoded.as_slice()).unwrap() {
                    Compared::Same => None,
                    Compared::DiffersAt(at) => Some(at),
                    Compared::Corrupt(error) => panic!("{encoding:?}: {error}"),
                };
                assert_eq!(found, expected, "{encoding:?}");
            }
            assert!(matches!(compare(encoding, &b"abc"[..], &b"abc"[..]).unwrap(), Compared::Corrupt(_)));
        }
    }
}
