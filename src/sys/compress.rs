//! Compression at high levels, for content that is encoded once and sent many times.
//!
//! Output is reproducible: it depends only on the input, not on names, dates, threads or machines.

use std::io::{self, Read, Write};

use brotli::enc::BrotliEncoderParams;
use flate2::{Compression, GzBuilder};

use crate::http::encoding::Encoding;

/// Encodes `bytes`. Takes seconds for megabytes, and as much memory as [`copy_encoded`].
///
/// # Errors
/// Out of memory.
pub(crate) fn encode(encoding: Encoding, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoded = Vec::new();
    copy_encoded(encoding, bytes, &mut encoded, bytes.len() as u64)?;
    Ok(encoded)
}

/// Encodes the `length` bytes of `reader` as a stream. `writer` gets pieces of a few KiB and is not flushed.
///
/// The length is needed in advance because brotli and Zstandard choose their windows by it. Besides the windows (16 MiB for
/// brotli, 8 MiB for Zstandard) the search needs about ten times `length`, at most about 300 MiB.
///
/// # Errors
/// `UnexpectedEof` or `InvalidData` if there are fewer or more bytes than `length`, because the file changed. Errors of the
/// reader and the writer.
pub(crate) fn copy_encoded(
    encoding: Encoding,
    reader: impl Read,
    writer: impl Write,
    length: u64,
) -> io::Result<()> {
    let reader = Exactly { reader, left: length };
    match encoding {
        Encoding::Br => copy_br(reader, writer, length),
        Encoding::Zstd => copy_zstd(reader, writer, length),
        Encoding::Gzip => copy_gzip(reader, writer),
    }
}

fn copy_br(mut reader: impl Read, mut writer: impl Write, length: u64) -> io::Result<()> {
    let parameters = BrotliEncoderParams {
        quality: BR_QUALITY,
        lgwin: br_window_log(length),
        size_hint: usize::try_from(length).unwrap_or(usize::MAX),
        ..BrotliEncoderParams::default()
    };
    brotli::BrotliCompress(&mut reader, &mut writer, &parameters)?;
    Ok(())
}

/// The smallest window for the whole input: a larger one finds nothing more, and its search tree of eight times its size is
/// allocated at once. A window of 2^n holds 16 bytes less (RFC 7932 §9.1).
fn br_window_log(length: u64) -> i32 {
    let holds = |log: &i32| (1_u64 << log) - 16 >= length;
    (BR_WINDOW_LOG_MIN..BR_WINDOW_LOG_MAX).find(holds).unwrap_or(BR_WINDOW_LOG_MAX)
}

fn copy_zstd(mut reader: impl Read, writer: impl Write, length: u64) -> io::Result<()> {
    let mut encoder = zstd::stream::write::Encoder::new(writer, ZSTD_LEVEL)?;
    encoder.window_log(ZSTD_WINDOW_LOG_MAX)?;
    encoder.set_pledged_src_size(Some(length))?;
    encoder.include_contentsize(true)?;
    // Four bytes with which a client detects a sidecar damaged on disk.
    encoder.include_checksum(true)?;
    io::copy(&mut reader, &mut encoder)?;
    encoder.finish()?;
    Ok(())
}

fn copy_gzip(mut reader: impl Read, writer: impl Write) -> io::Result<()> {
    // No name or date in the header: the output would depend on them.
    let mut encoder = GzBuilder::new().mtime(0).write(writer, Compression::best());
    io::copy(&mut reader, &mut encoder)?;
    encoder.finish()?;
    Ok(())
}

/// A reader of exactly `left` bytes that fills every buffer, so that the output does not depend on the sizes of reads.
struct Exactly<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len() as u64;
        let filled = io::copy(&mut self.reader.by_ref().take(room), &mut &mut *buffer)?;
        let left = self.left.checked_sub(filled);
        self.left = left.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, GREW))?;
        if filled < room && self.left > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(filled as usize)
    }
}

const BR_QUALITY: i32 = 11;
/// Below it the encoder uses smaller blocks.
const BR_WINDOW_LOG_MIN: i32 = 16;
/// The largest of RFC 7932.
const BR_WINDOW_LOG_MAX: i32 = 24;
/// Higher levels need more memory for decoding.
const ZSTD_LEVEL: i32 = 19;
/// 8 MiB, the largest that decoders must support (RFC 9659).
pub(crate) const ZSTD_WINDOW_LOG_MAX: u32 = 23;
const GREW: &str = "more bytes than there were at first";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::decompress::decoder;

    fn samples() -> Vec<Vec<u8>> {
        let text: String =
            (0..1_500).map(|line| format!("line {line} of {}\n", line * 7919 % 1000)).collect();
        vec![Vec::new(), vec![b'x'], vec![0; 70_000], text.into_bytes(), noise(5_000)]
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 88_172_645_463_325_252_u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    fn decoded(encoding: Encoding, encoded: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        decoder(encoding, encoded).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn encoded_bytes_decode_to_the_original() {
        for encoding in Encoding::ALL {
            for sample in samples() {
                let encoded = encode(encoding, &sample).unwrap();
                assert_eq!(decoded(encoding, &encoded), sample, "{encoding:?}, {} bytes", sample.len());
            }
        }
    }

    #[test]
    fn text_becomes_a_third_of_itself() {
        let text = &samples()[3];
        for encoding in Encoding::ALL {
            assert!(encode(encoding, text).unwrap().len() * 3 < text.len(), "{encoding:?}");
        }
    }

    /// Gives one, two, three... bytes at a time.
    struct Dripping<'a>(&'a [u8], usize);

    impl Read for Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = self.1 % 97 + 1;
            let most = self.1.min(buffer.len());
            self.0.read(&mut buffer[..most])
        }
    }

    #[test]
    fn the_same_bytes_have_the_same_encoding_however_they_come() {
        for encoding in Encoding::ALL {
            for sample in samples() {
                let once = encode(encoding, &sample).unwrap();
                assert_eq!(encode(encoding, &sample).unwrap(), once);
                let mut dripped = Vec::new();
                copy_encoded(encoding, Dripping(&sample, 0), &mut dripped, sample.len() as u64).unwrap();
                assert_eq!(dripped, once, "{encoding:?}, {} bytes", sample.len());
            }
        }
    }

    #[test]
    fn gzip_has_no_date_name_or_system() {
        let encoded = encode(Encoding::Gzip, b"x").unwrap();
        assert_eq!(encoded[..10], [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 2, 255]);
    }

    #[test]
    fn zstandard_tells_its_content_size_and_has_a_checksum_and_no_dictionary() {
        // RFC 8878 §3.1.1: magic number, then single segment, checksum, no dictionary, a size of one byte.
        let encoded = encode(Encoding::Zstd, &[b'x'; 200]).unwrap();
        assert_eq!(encoded[..6], [0x28, 0xB5, 0x2F, 0xFD, 0b0010_0100, 200]);
    }

    #[test]
    fn the_window_of_a_large_file_is_no_larger_than_browsers_accept() {
        let length = (1 << ZSTD_WINDOW_LOG_MAX) + 1;
        let mut encoded = Vec::new();
        copy_encoded(Encoding::Zstd, io::repeat(b'x').take(length), &mut encoded, length).unwrap();
        // No single segment, so a window descriptor follows (RFC 8878 §3.1.1.1.2).
        assert_eq!(encoded[4] & 0b0010_0000, 0);
        assert_eq!(u32::from(encoded[5] >> 3) + 10, ZSTD_WINDOW_LOG_MAX);
        assert_eq!(encoded[5] & 0b111, 0);
        let mut decoder = decoder(Encoding::Zstd, encoded.as_slice()).unwrap();
        assert_eq!(io::copy(&mut decoder, &mut io::sink()).unwrap(), length);
    }

    #[test]
    fn a_window_of_brotli_holds_its_file_and_no_more() {
        for (length, log) in [
            (0, 16),
            (65_520, 16),
            (65_521, 17),
            ((1 << 23) - 16, 23),
            ((1 << 23) - 15, 24),
            (1 << 24, 24),
            (u64::MAX, 24),
        ] {
            assert_eq!(br_window_log(length), log, "{length}");
        }
    }

    #[test]
    fn another_number_of_bytes_than_announced_is_an_error() {
        for encoding in Encoding::ALL {
            for (length, kind) in [(9, io::ErrorKind::InvalidData), (11, io::ErrorKind::UnexpectedEof)] {
                let error = copy_encoded(encoding, b"0123456789".as_slice(), io::sink(), length).unwrap_err();
                assert_eq!(error.kind(), kind, "{encoding:?}, {length}");
            }
        }
    }

    #[test]
    fn a_writer_that_fails_ends_the_encoding_with_its_error() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let sample = noise(300_000);
        for encoding in Encoding::ALL {
            let error = copy_encoded(encoding, sample.as_slice(), Full, sample.len() as u64).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{encoding:?}");
        }
    }
}
