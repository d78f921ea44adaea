//! Content codings undone, as a client would.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;

use crate::http::encoding::Encoding;
use crate::sys::compress::ZSTD_WINDOW_LOG_MAX;

/// Decodes what `encoded` gives, as it is read. What ends too early, goes on after its end or is no such coding is an error
/// of the reading.
///
/// # Errors
/// Where memory is short.
pub(crate) fn decoder<'a>(coding: Encoding, encoded: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match coding {
        Encoding::Br => {
            Box::new(Br { decoder: brotli::Decompressor::new(encoded, BR_BUFFER), has_ended: false })
        }
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(encoded)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
        Encoding::Gzip => Box::new(MultiGzDecoder::new(encoded)),
    })
}

/// Looks behind the end, where the decoder tells of bytes left over only when it is asked again.
struct Br<R: Read> {
    decoder: brotli::Decompressor<R>,
    has_ended: bool,
}

impl<R: Read> Read for Br<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.has_ended {
            return Ok(0);
        }
        let read = self.decoder.read(buffer)?;
        if read == 0 {
            self.has_ended = true;
            let in_buffer = self.decoder.read(buffer)?;
            let behind_it = self.decoder.get_mut().read(&mut [0])?;
            if in_buffer + behind_it > 0 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "bytes after the end"));
            }
        }
        Ok(read)
    }
}

const BR_BUFFER: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::compress::encode;

    fn decode(coding: Encoding, encoded: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        decoder(coding, encoded)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        let sample: Vec<u8> = (0..2_000_u32).flat_map(u32::to_be_bytes).collect();
        for coding in Encoding::ALL {
            let encoded = encode(coding, &sample).unwrap();
            assert_eq!(decode(coding, &encoded).unwrap(), sample);
            for length in [1, encoded.len() / 2, encoded.len() - 1] {
                assert!(decode(coding, &encoded[..length]).is_err(), "{coding:?}, {length}");
            }
        }
    }

    #[test]
    fn what_goes_on_after_its_end_is_an_error() {
        for coding in Encoding::ALL {
            for more in [1, 100, 200_000] {
                let mut encoded = encode(coding, b"a sentence").unwrap();
                encoded.resize(encoded.len() + more, b'!');
                assert!(decode(coding, &encoded).is_err(), "{coding:?}, {more}");
            }
        }
    }

    #[test]
    fn what_is_no_such_coding_is_an_error() {
        for coding in Encoding::ALL {
            assert!(decode(coding, b"<!doctype html><title>no coding</title>").is_err(), "{coding:?}");
        }
        assert!(decode(Encoding::Br, b"").is_err());
        assert!(decode(Encoding::Gzip, b"").is_err());
    }

    #[test]
    fn a_window_larger_than_browsers_take_is_an_error() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(ZSTD_WINDOW_LOG_MAX + 1).unwrap();
        // Without a content size the window is told as it is.
        io::copy(&mut io::repeat(b'x').take(1000), &mut encoder).unwrap();
        assert!(decode(Encoding::Zstd, &encoder.finish().unwrap()).is_err());
    }
}
