//! Framing of `multipart/byteranges` (RFC 9110 §14.6).

use std::io::Write;

use super::digits::decimal_length;
use super::range::ByteRange;

/// The boundary between parts: 32 hexadecimal digits.
///
/// The caller makes it at random for every response, so that no file can contain it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boundary([u8; BOUNDARY_LENGTH]);

/// Several ranges of one representation as one body.
///
/// The body is, for each of [`parts`](Multipart::parts), its head and then its bytes, and at last
/// [`closing`](Multipart::closing).
#[derive(Clone, Copy, Debug)]
pub struct Multipart<'a> {
    /// The ranges in the order in which they are sent.
    pub ranges: &'a [ByteRange],
    /// The Content-Type of the representation, which every part repeats.
    pub media_type: &'a [u8],
    /// Length of the representation in bytes.
    pub total: u64,
    /// The boundary between the parts.
    pub boundary: Boundary,
}

impl Boundary {
    /// The boundary for a random number.
    pub fn new(random: u128) -> Boundary {
        let mut digits = [0; BOUNDARY_LENGTH];
        // It fits: 128 bits have 32 digits.
        let _ = write!(digits.as_mut_slice(), "{random:032x}");
        Boundary(digits)
    }

    /// The digits.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Multipart<'_> {
    /// The Content-Type of the response.
    pub fn content_type(&self) -> Vec<u8> {
        [b"multipart/byteranges; boundary=", self.boundary.as_bytes()].concat()
    }

    /// Length of the body in bytes, heads and closing included.
    pub fn content_length(&self) -> u64 {
        body_length(self.ranges, self.media_type.len(), self.total)
    }

    /// The parts: the head of each, and the range that follows it.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = (Vec<u8>, ByteRange)> {
        self.ranges.iter().map(|range| (self.head(range), *range))
    }

    /// The end of the body, after the last part.
    pub fn closing(&self) -> Vec<u8> {
        [DELIMITER, self.boundary.as_bytes(), CLOSE].concat()
    }

    fn head(&self, range: &ByteRange) -> Vec<u8> {
        let mut head = Vec::with_capacity(HEAD_LENGTH_MIN + self.media_type.len() + NUMBERS_LENGTH_MAX);
        head.extend_from_slice(DELIMITER);
        head.extend_from_slice(self.boundary.as_bytes());
        head.extend_from_slice(TYPE_LABEL);
        head.extend_from_slice(self.media_type);
        head.extend_from_slice(RANGE_LABEL);
        range.push_content_range(self.total, &mut head);
        head.extend_from_slice(HEAD_END);
        head
    }
}

/// Length in bytes of the body that [`Multipart`] frames. It does not depend on the boundary, since all have one length.
pub fn body_length(ranges: &[ByteRange], media_type_length: usize, total: u64) -> u64 {
    let fixed = (HEAD_LENGTH_MIN + media_type_length) as u64 + decimal_length(total);
    ranges
        .iter()
        .map(|range| {
            let numbers = decimal_length(range.start()) + decimal_length(range.end() - 1);
            (fixed + numbers).saturating_add(range.len())
        })
        .fold(CLOSING_LENGTH as u64, u64::saturating_add)
}

const BOUNDARY_LENGTH: usize = 32;

/// The line break belongs to the delimiter, not to the bytes before it. Before the first part it ends an empty preamble.
const DELIMITER: &[u8] = b"\r\n--";
const TYPE_LABEL: &[u8] = b"\r\nContent-Type: ";
const RANGE_LABEL: &[u8] = b"\r\nContent-Range: ";
const HEAD_END: &[u8] = b"\r\n\r\n";
const CLOSE: &[u8] = b"--\r\n";

/// Length of the head of a part without its media type and numbers.
const HEAD_LENGTH_MIN: usize = DELIMITER.len()
    + BOUNDARY_LENGTH
    + TYPE_LABEL.len()
    + RANGE_LABEL.len()
    + b"bytes -/".len()
    + HEAD_END.len();
/// Three numbers of 64 bits.
const NUMBERS_LENGTH_MAX: usize = 3 * 20;
const CLOSING_LENGTH: usize = DELIMITER.len() + BOUNDARY_LENGTH + CLOSE.len();

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::range::GAP_MAX;

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end, u64::MAX).unwrap()
    }

    #[test]
    fn a_boundary_is_its_number_in_32_digits() {
        assert_eq!(Boundary::new(0xAB_CD).as_bytes(), b"0000000000000000000000000000abcd");
        assert_eq!(Boundary::new(u128::MAX).as_bytes(), [b'f'; 32]);
    }

    #[test]
    fn a_body_is_heads_and_bytes_and_a_closing() {
        let ranges = [range(0, 2), range(8, 10)];
        let multipart =
            Multipart { ranges: &ranges, media_type: b"text/plain", total: 10, boundary: Boundary::new(1) };
        let mut body = Vec::new();
        for (head, range) in multipart.parts() {
            body.extend(head);
            body.extend((range.start()..range.end()).map(|position| b'0' + position as u8));
        }
        body.extend(multipart.closing());
        let expected = "\r\n--00000000000000000000000000000001\r\n\
            Content-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\
            \r\n--00000000000000000000000000000001\r\n\
            Content-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89\
            \r\n--00000000000000000000000000000001--\r\n";
        assert_eq!(body.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
        assert_eq!(multipart.content_length(), expected.len() as u64);
        assert_eq!(
            multipart.content_type(),
            b"multipart/byteranges; boundary=00000000000000000000000000000001"
        );
    }

    #[test]
    fn a_length_beyond_64_bits_is_the_largest() {
        assert_eq!(body_length(&[range(0, u64::MAX)], 10, u64::MAX), u64::MAX);
    }

    #[test]
    fn a_gap_that_is_sent_costs_no_more_than_the_head_it_saves() {
        let of_a_page = |ranges: &[ByteRange]| body_length(ranges, b"text/html; charset=utf-8".len(), 1_000);
        let saved = of_a_page(&[range(0, 10), range(10, 20)]) - of_a_page(&[range(0, 20)]);
        assert!(GAP_MAX <= saved, "{saved}");
    }
}
