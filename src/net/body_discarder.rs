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
    Length(u64),
    Size { digits: u32, size: u64 },
    SizeSpace { size: u64 },
    Extension { size: u64 },
    SizeLf { size: u64 },
    Data(u64),
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
        let state = match framing {
            BodyFraming::Empty => State::Done,
            BodyFraming::Length(length) => State::Length(length),
            BodyFraming::Chunked => SIZE,
        };
        Self { state, left: limit }
    }

    /// Takes the next bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> DiscardProgress {
        let mut at = 0;
        while self.state != State::Done {
            let left = &bytes[at..];
            let taken = match self.state {
                State::Length(0) => {
                    self.state = State::Done;
                    0
                }
                State::Length(length) | State::Data(length) if left.is_empty() && length > 0 => {
                    return DiscardProgress::More;
                }
                State::Length(length) => {
                    let taken = least(length, left.len());
                    self.state = State::Length(length - taken as u64);
                    taken
                }
                State::Data(length) => {
                    let taken = least(length, left.len());
                    let rest = length - taken as u64;
                    self.state = if rest == 0 { State::DataCr } else { State::Data(rest) };
                    taken
                }
                state => {
                    let Some(&byte) = left.first() else { return DiscardProgress::More };
                    let Some(next) = step(state, byte) else { return DiscardProgress::Rejected };
                    self.state = next;
                    1
                }
            };
            at += taken;
            match self.left.checked_sub(taken as u64) {
                Some(left) => self.left = left,
                None => return DiscardProgress::Rejected,
            }
        }
        DiscardProgress::Done(at)
    }
}

/// The state after one byte of a chunked body's framing.
fn step(state: State, byte: u8) -> Option<State> {
    Some(match (state, byte) {
        (State::Size { digits, size }, _) if byte.is_ascii_hexdigit() && digits < SIZE_DIGITS => {
            let digit = char::from(byte).to_digit(16)?;
            State::Size { digits: digits + 1, size: size << 4 | u64::from(digit) }
        }
        (State::Size { digits: 1.., size } | State::SizeSpace { size }, b'\r') => State::SizeLf { size },
        (State::Size { digits: 1.., size } | State::SizeSpace { size }, b';') => State::Extension { size },
        (State::Size { digits: 1.., size } | State::SizeSpace { size }, b' ' | b'\t') => {
            State::SizeSpace { size }
        }
        (State::Extension { size }, b'\r') => State::SizeLf { size },
        (State::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => State::Extension { size },
        (State::SizeLf { size: 0 }, b'\n') => State::TrailerStart,
        (State::SizeLf { size }, b'\n') => State::Data(size),
        (State::DataCr, b'\r') => State::DataLf,
        (State::DataLf, b'\n') => SIZE,
        (State::TrailerStart, b'\r') => State::LastLf,
        (State::Trailer, b'\r') => State::TrailerLf,
        (State::TrailerStart | State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => State::Trailer,
        (State::TrailerLf, b'\n') => State::TrailerStart,
        (State::LastLf, b'\n') => State::Done,
        _ => return None,
    })
}

fn least(length: u64, room: usize) -> usize {
    usize::try_from(length).map_or(room, |length| length.min(room))
}

const SIZE: State = State::Size { digits: 0, size: 0 };

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
