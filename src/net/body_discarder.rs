//! Reads past a request body (RFC 9112 §6 and §7.1).

/// The framing of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFraming {
    /// There is no body.
    Empty,
    /// `Content-Length`, not 0.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Discards a body as it arrives, up to a limit.
#[derive(Debug)]
pub(super) struct BodyDiscarder {
    state: State,
    /// Bytes that are left of the body or of the present chunk, or the size of the chunk as far as it was read.
    size: u64,
    /// Bytes that may still be discarded.
    left: u64,
}

/// The result of feeding bytes to a [`BodyDiscarder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiscardProgress {
    /// All bytes belong to the body, and more must come.
    More,
    /// The body ended after this number of bytes; the next request follows.
    Done(usize),
    /// The body is malformed or longer than the limit: what follows can't be trusted.
    Rejected,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A body with `Content-Length`, which does not end here.
    Length,
    /// The size of a chunk, after a number of digits.
    Size(u32),
    SizeSpace,
    Extension,
    SizeLf,
    /// The data of a chunk, which does not end here.
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    LastLf,
    Done,
}

impl BodyDiscarder {
    /// Discards a body with `framing` of at most `limit` bytes, chunk framing included.
    pub(super) fn new(framing: BodyFraming, limit: u64) -> Self {
        let (state, size) = match framing {
            BodyFraming::Empty => (State::Done, 0),
            BodyFraming::Length(length) => (State::Length, length),
            BodyFraming::Chunked => (State::Size(0), 0),
        };
        Self { state, size, left: limit }
    }

    /// Takes the next bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> DiscardProgress {
        let mut at = 0;
        while self.state != State::Done {
            let Some(&byte) = bytes.get(at) else { return DiscardProgress::More };
            let taken = if matches!(self.state, State::Length | State::Data) {
                self.skip_data(bytes.len() - at)
            } else {
                let Some(next) = self.step(byte) else { return DiscardProgress::Rejected };
                self.state = next;
                1
            };
            let Some(left) = self.left.checked_sub(taken as u64) else { return DiscardProgress::Rejected };
            self.left = left;
            at += taken;
        }
        DiscardProgress::Done(at)
    }

    /// Skips data of a body or of a chunk, of which `arrived` bytes or more have arrived. Returns the number of bytes.
    fn skip_data(&mut self, arrived: usize) -> usize {
        let taken = usize::try_from(self.size).map_or(arrived, |size| size.min(arrived));
        self.size -= taken as u64;
        if self.size == 0 {
            self.state = if self.state == State::Data { State::DataCr } else { State::Done };
        }
        taken
    }

    /// The state after one byte of a chunked body's framing.
    fn step(&mut self, byte: u8) -> Option<State> {
        Some(match (self.state, byte) {
            (State::Size(digits), _) if byte.is_ascii_hexdigit() && digits < SIZE_DIGITS => {
                self.size = self.size << 4 | u64::from(char::from(byte).to_digit(16)?);
                State::Size(digits + 1)
            }
            (State::Size(1..) | State::SizeSpace | State::Extension, b'\r') => State::SizeLf,
            (State::Size(1..) | State::SizeSpace, b';') => State::Extension,
            (State::Size(1..) | State::SizeSpace, b' ' | b'\t') => State::SizeSpace,
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => State::Extension,
            (State::SizeLf, b'\n') if self.size == 0 => State::TrailerStart,
            (State::SizeLf, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size(0),
            (State::TrailerStart, b'\r') => State::LastLf,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerStart | State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => State::Trailer,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::LastLf, b'\n') => State::Done,
            _ => return None,
        })
    }
}

/// A chunk size of 15 hexadecimal digits can't overflow.
const SIZE_DIGITS: u32 = 15;

#[cfg(test)]
mod tests {
    use super::*;

    fn feed_all(framing: BodyFraming, limit: u64, bytes: &[u8]) -> DiscardProgress {
        let whole = BodyDiscarder::new(framing, limit).feed(bytes);
        let mut discarder = BodyDiscarder::new(framing, limit);
        let mut split = discarder.feed(&[]);
        for (index, byte) in bytes.iter().enumerate() {
            if !matches!(split, DiscardProgress::More) {
                break;
            }
            split = match discarder.feed(std::slice::from_ref(byte)) {
                DiscardProgress::Done(used) => DiscardProgress::Done(index + used),
                other => other,
            };
        }
        assert_eq!(whole, split, "fed at once and byte by byte");
        whole
    }

    #[test]
    fn bodies_end_as_framed() {
        for (framing, bytes, expected) in [
            (BodyFraming::Empty, &b"GET"[..], DiscardProgress::Done(0)),
            (BodyFraming::Length(3), b"abcGET", DiscardProgress::Done(3)),
            (BodyFraming::Length(3), b"ab", DiscardProgress::More),
            (BodyFraming::Chunked, b"3\r\nabc\r\n0\r\n\r\nGET", DiscardProgress::Done(13)),
            (BodyFraming::Chunked, b"A;x=\"y\"\r\n0123456789\r\n0\r\n\r\n", DiscardProgress::Done(26)),
            (BodyFraming::Chunked, b"0\r\nTrailer: x\r\nOther: y\r\n\r\n", DiscardProgress::Done(27)),
            (BodyFraming::Chunked, b"3 \t\r\nabc\r\n0 ;x\r\n\r\n", DiscardProgress::Done(18)),
            (BodyFraming::Chunked, b"3\r\nabc", DiscardProgress::More),
        ] {
            assert_eq!(feed_all(framing, 100, bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn malformed_chunks_are_rejected() {
        for bytes in [
            &b"\r\n"[..],
            b"x\r\n",
            b"-1\r\n",
            b"3\nabc\r\n",
            b"3 3\r\nabc\r\n",
            b"3\r\nabcd\r\n",
            b"3\r\nabc\n0\r\n\r\n",
            b"ffffffffffffffff\r\n",
            b"0\r\n\n",
            b"0\r\nA: \0\r\n\r\n",
        ] {
            assert_eq!(
                feed_all(BodyFraming::Chunked, 100, bytes),
                DiscardProgress::Rejected,
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    #[test]
    fn a_body_over_the_limit_is_rejected() {
        assert_eq!(feed_all(BodyFraming::Length(11), 10, b"01234567890"), DiscardProgress::Rejected);
        assert_eq!(feed_all(BodyFraming::Length(10), 10, b"0123456789"), DiscardProgress::Done(10));
        assert_eq!(feed_all(BodyFraming::Chunked, 10, b"5\r\n01234\r\n5\r\n"), DiscardProgress::Rejected);
    }
}
