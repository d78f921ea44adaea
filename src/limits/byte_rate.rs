//! Bytes per second as time: what a part of a response costs of its rate.

use crate::sys::gcra::SECOND;

/// How long `bytes` take at `rate` bytes per second, in nanoseconds.
pub(crate) fn nanoseconds(bytes: u64, rate: u64) -> u64 {
    let nanoseconds = u128::from(bytes) * u128::from(SECOND) / u128::from(rate.max(1));
    u64::try_from(nanoseconds).unwrap_or(u64::MAX)
}

/// Bytes that a response reserves at once: what `rate` sends in one of `per_second` parts of a second, at most `most`, and
/// never so little that the system calls cost more than the bytes.
pub(crate) fn chunk(rate: u64, per_second: u64, most: u64) -> u64 {
    (rate / per_second).clamp(CHUNK_MIN, most.max(CHUNK_MIN))
}

/// Idle time that is made up for in any case, in nanoseconds: a timer fires late by its grain, and its task runs later still.
pub(crate) const LATE: u64 = SECOND / 100;

const CHUNK_MIN: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_time_and_chunks_stay_within_bounds() {
        assert_eq!(nanoseconds(1024, 1024), SECOND);
        assert_eq!(nanoseconds(1, 1 << 40), 0);
        assert_eq!(nanoseconds(u64::MAX, 1), u64::MAX);
        for (rate, expected) in [(1024, 1024), (64 << 10, 1024), (1 << 20, 10_485), (1 << 40, 1 << 18)] {
            assert_eq!(chunk(rate, 100, 1 << 18), expected, "{rate}");
        }
    }
}
