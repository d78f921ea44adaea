//! Decompression, with the limits of clients.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;

use crate::http::encoding::Encoding;
use crate::sys::compress::ZSTD_WINDOW_LOG_MAX;

/// A reader that decodes `encoded`. Input that is truncated, goes on after its end or has another format is a read error.
///
/// # Errors
/// Out of memory.
pub(crate) fn decoder<'a>(encoding: Encoding, encoded: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match encoding {
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

/// Checks for bytes after the end, which the decoder reports only when it is read again.
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
            let after_end = self.decoder.get_mut().read(&mut [0])?;
            if in_buffer + after_end > 0 {
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

    fn decode(encoding: Encoding, encoded: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        decoder(encoding, encoded)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn truncated_input_is_an_error() {
        let sample: Vec<u8> = (0..2_000_u32).flat_map(u32::to_be_bytes).collect();
        for encoding in Encoding::ALL {
            let encoded = encode(encoding, &sample).unwrap();
            assert_eq!(decode(encoding, &encoded).unwrap(), sample);
            for length in [1, encoded.len() / 2, encoded.len() - 1] {
                assert!(decode(encoding, &encoded[..length]).is_err(), "{encoding:?}, {length}");
            }
        }
    }

    #[test]
    fn bytes_after_the_end_are_an_error() {
        for encoding in Encoding::ALL {
            for more in [1, 100, 200_000] {
                let mut encoded = encode(encoding, b"a sentence").unwrap();
                encoded.resize(encoded.len() + more, b'!');
                assert!(decode(encoding, &encoded).is_err(), "{encoding:?}, {more}");
            }
        }
    }

    #[test]
    fn input_of_another_format_is_an_error() {
        for encoding in Encoding::ALL {
            assert!(decode(encoding, b"<!doctype html><title>no encoding</title>").is_err(), "{encoding:?}");
        }
        assert!(decode(Encoding::Br, b"").is_err());
        assert!(decode(Encoding::Gzip, b"").is_err());
    }

    #[test]
    fn a_window_larger_than_browsers_accept_is_an_error() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(ZSTD_WINDOW_LOG_MAX + 1).unwrap();
        // Without a content size the frame names this window.
        io::copy(&mut io::repeat(b'x').take(1000), &mut encoder).unwrap();
        assert!(decode(Encoding::Zstd, &encoder.finish().unwrap()).is_err());
    }
}
