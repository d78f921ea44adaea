//! Whether a sidecar is of the original beside it.

use std::io::{self, BufReader, Read};

use rustix::fs::Stat;

use crate::http::encoding::Encoding;
use crate::sys::decompress::decoder;

/// What a sidecar decodes to.
#[derive(Debug)]
pub(crate) enum Compared {
    /// Its original.
    Same,
    /// Something that is other than its original from this byte on.
    DiffersAt(u64),
    /// Nothing: it is no such encoding.
    Corrupt(io::Error),
}

/// Decodes `sidecar` beside `original`, and no further than the two are the same, so that nothing that unfolds without end is
/// followed. Both are read from where they stand.
///
/// # Errors
/// What the disk says.
pub(crate) fn compare(coding: Encoding, mut original: impl Read, sidecar: impl Read) -> io::Result<Compared> {
    let mut decoded = decoder(coding, BufReader::with_capacity(BUFFER, sidecar))?;
    let (mut left, mut right) = (vec![0; BUFFER], vec![0; BUFFER]);
    let mut at = 0;
    loop {
        let expected = fill(&mut original, &mut left)?;
        let got = match fill(&mut decoded, &mut right) {
            Ok(got) => got,
            // What the disk says has a number; what the decoder says has none.
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

/// When the content last changed, in seconds and nanoseconds.
pub(crate) fn modified(stat: &Stat) -> (i64, i64) {
    (stat.st_mtime as _, stat.st_mtime_nsec as _)
}

/// When anything of the file last changed; nobody sets this date.
pub(crate) fn changed(stat: &Stat) -> (i64, i64) {
    (stat.st_ctime as _, stat.st_ctime_nsec as _)
}

/// Reads until `buffer` is full or `reader` ends.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
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

const BUFFER: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::compress::encode;

    #[test]
    fn the_first_byte_that_differs_is_told() {
        let long = vec![b'x'; 3 * BUFFER];
        let mut longer = long.clone();
        longer.push(b'y');
        for coding in Encoding::ALL {
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
                let encoded = encode(coding, sidecar).unwrap();
                let found = match compare(coding, original, encoded.as_slice()).unwrap() {
                    Compared::Same => None,
                    Compared::DiffersAt(at) => Some(at),
                    Compared::Corrupt(error) => panic!("{coding:?}: {error}"),
                };
                assert_eq!(found, expected, "{coding:?}");
            }
            assert!(matches!(compare(coding, &b"abc"[..], &b"abc"[..]).unwrap(), Compared::Corrupt(_)));
        }
    }
}
