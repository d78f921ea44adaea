//! Compares a sidecar with its original.

use std::io::{self, BufReader, Read};

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
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let mut at = 0;
    loop {
        read_piece(&mut original, &mut left)?;
        match read_piece(&mut decoded, &mut right) {
            Ok(_) => {}
            // Errors of the disk have a number, errors of the decoder have none.
            Err(error) if error.raw_os_error().is_some() => return Err(error),
            Err(error) => return Ok(Compared::Corrupt(error)),
        }
        let same = left.iter().zip(&right).take_while(|(left, right)| left == right).count();
        at += same as u64;
        if same < left.len().max(right.len()) {
            return Ok(Compared::DiffersAt(at));
        }
        if left.is_empty() {
            return Ok(Compared::Same);
        }
    }
}

/// Reads the next [`BUFFER`] bytes, fewer at the end of `reader`, and none behind it. Returns their number.
pub(crate) fn read_piece(reader: &mut impl Read, piece: &mut Vec<u8>) -> io::Result<usize> {
    piece.clear();
    reader.take(BUFFER as u64).read_to_end(piece)
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
