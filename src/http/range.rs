//! `Range` and `Content-Range` (RFC 9110 §14).

use super::digits::push_decimal;

/// Bytes `start..end` of a representation: never empty, never past its end. Half-open, unlike on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ByteRange {
    start: u64,
    end: u64,
}

/// The bytes of a representation that a Range header selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The header counts as absent.
    Ignore,
    /// The header is valid, and none of the requested bytes exist (416).
    NotSatisfiable,
    /// One range.
    One(ByteRange),
    /// From two to [`PARTS_MAX`] ranges that neither overlap nor lie within [`GAP_MAX`] of each other.
    Many(Vec<ByteRange>),
}

/// Maximum number of ranges in one response. A header with more is ignored, as RFC 9110 §14.2 allows for many small
/// ranges.
pub const PARTS_MAX: usize = 64;

/// Ranges at most this many bytes apart are sent as one: another part's head is about as long as the gap.
pub const GAP_MAX: u64 = 100;

/// Selects byte ranges of a representation `length` bytes long (RFC 9110 §14.1.2).
///
/// Ranges that overlap, touch or nearly touch ([`GAP_MAX`]) are merged; the rest keeps the order of the client. Together they
/// are never longer than the representation. An unknown unit, a header with any malformed range, and more than [`PARTS_MAX`]
/// ranges give `Ignore`. Numbers above 64 bits count as the largest. The time is `n log n` for `n` ranges in the header, and
/// one range allocates nothing.
pub fn select(range_header: &[u8], length: u64) -> Selection {
    let Some(range_set) = strip_unit(range_header) else { return Selection::Ignore };
    match range_set.contains(&b',') {
        true => select_many(range_set, length),
        false => select_one(range_set.trim_ascii(), length).unwrap_or(Selection::Ignore),
    }
}

impl ByteRange {
    /// Bytes `start..end` of a representation `length` bytes long; `None` if the range is empty or not within it.
    pub fn new(start: u64, end: u64, length: u64) -> Option<ByteRange> {
        (start < end && end <= length).then_some(ByteRange { start, end })
    }

    /// Position of the first byte.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Position after the last byte.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Number of bytes, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Appends the Content-Range of these bytes of a representation `total` bytes long (RFC 9110 §14.4): `bytes 0-4/10`.
    pub fn push_content_range(&self, total: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"bytes ");
        push_decimal(out, self.start);
        out.push(b'-');
        push_decimal(out, self.end - 1);
        out.push(b'/');
        push_decimal(out, total);
    }
}

/// The Content-Range of a 416, which has only the length: `bytes */10`.
pub fn unsatisfied_content_range(total: u64) -> String {
    format!("bytes */{total}")
}

/// Selects the bytes of one element of a range set: `first-last`, both included, `first-` or `-length`. `None` if it is
/// malformed.
fn select_one(element: &[u8], length: u64) -> Option<Selection> {
    let (first, rest) = parse_number(element);
    let (last, rest) = parse_number(rest.strip_prefix(b"-")?);
    let (start, end) = match (first, last) {
        _ if !rest.is_empty() => return None,
        (Some(first), Some(last)) if first > last => return None,
        (Some(first), Some(last)) => (first, last.saturating_add(1).min(length)),
        (Some(first), None) => (first, length),
        // All of an empty representation. Content-Range cannot express that, so the answer is 200 with an empty body.
        (None, Some(1..)) if length == 0 => return Some(Selection::Ignore),
        (None, Some(suffix)) => (length.saturating_sub(suffix), length),
        (None, None) => return None,
    };
    Some(ByteRange::new(start, end, length).map_or(Selection::NotSatisfiable, Selection::One))
}

fn select_many(range_set: &[u8], length: u64) -> Selection {
    let mut found = Vec::new();
    let (mut any_missing, mut all_of_nothing) = (false, false);
    let elements =
        range_set.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty());
    for element in elements {
        match select_one(element, length) {
            None => return Selection::Ignore,
            Some(Selection::One(range)) => found.push((found.len(), range)),
            Some(Selection::Ignore) => all_of_nothing = true,
            Some(_) => any_missing = true,
        }
    }
    match coalesce(found).as_slice() {
        [] if any_missing && !all_of_nothing => Selection::NotSatisfiable,
        [] => Selection::Ignore,
        [(_, only)] => Selection::One(*only),
        many if many.len() > PARTS_MAX => Selection::Ignore,
        many => Selection::Many(many.iter().map(|(_, range)| *range).collect()),
    }
}

/// Merges ranges, each with its first position in the header.
fn coalesce(mut found: Vec<(usize, ByteRange)>) -> Vec<(usize, ByteRange)> {
    found.sort_unstable_by_key(|(_, range)| range.start);
    found.dedup_by(|(next_order, next), (order, kept)| {
        let near = next.start <= kept.end.saturating_add(GAP_MAX);
        if near {
            kept.end = kept.end.max(next.end);
            *order = (*order).min(*next_order);
        }
        near
    });
    // Too many to be sent: their order does not matter.
    if found.len() <= PARTS_MAX {
        found.sort_unstable_by_key(|(order, _)| *order);
    }
    found
}

fn strip_unit(range_header: &[u8]) -> Option<&[u8]> {
    let (unit, range_set) = range_header.split_at_checked(UNIT.len())?;
    unit.eq_ignore_ascii_case(UNIT).then_some(range_set)
}

/// Parses the digits at the start of `text`. Returns their number, or `None` without digits, and the rest.
fn parse_number(text: &[u8]) -> (Option<u64>, &[u8]) {
    let mut number: u64 = 0;
    let mut rest = text;
    while let [digit @ b'0'..=b'9', tail @ ..] = rest {
        number = number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
        rest = tail;
    }
    ((rest.len() < text.len()).then_some(number), rest)
}

/// The only supported range unit (RFC 9110 §14.1.2), with its equals sign.
const UNIT: &[u8] = b"bytes=";

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &str, length: u64, expected: Selection) {
        assert_eq!(select(header.as_bytes(), length), expected, "{header} of {length}");
    }

    fn one(start: u64, end: u64) -> Selection {
        Selection::One(ByteRange { start, end })
    }

    fn many(ranges: &[(u64, u64)]) -> Selection {
        Selection::Many(ranges.iter().map(|&(start, end)| ByteRange { start, end }).collect())
    }

    #[test]
    fn a_range_in_reach_is_selected_and_cut_at_the_end() {
        for (header, length, start, end) in [
            ("bytes=0-0", 10, 0, 1),
            ("bytes=0-9", 10, 0, 10),
            ("bytes=2-4", 10, 2, 5),
            ("bytes=9-9", 10, 9, 10),
            ("bytes=5-99", 10, 5, 10),
            ("bytes=0-", 10, 0, 10),
            ("bytes=9-", 10, 9, 10),
            ("bytes=-1", 10, 9, 10),
            ("bytes=-10", 10, 0, 10),
            ("bytes=-99", 10, 0, 10),
            ("bytes=0-0", 1, 0, 1),
            ("BYTES=0-4", 10, 0, 5),
            ("Bytes=007-008", 10, 7, 9),
            ("bytes=0-18446744073709551615", 10, 0, 10),
            ("bytes=0-99999999999999999999999999", 10, 0, 10),
            ("bytes=-99999999999999999999999999", 10, 0, 10),
            ("bytes=0-", u64::MAX, 0, u64::MAX),
            ("bytes=0-18446744073709551615", u64::MAX, 0, u64::MAX),
            ("bytes=5000000000-5000000001", 5_000_000_010, 5_000_000_000, 5_000_000_002),
        ] {
            check(header, length, one(start, end));
        }
    }

    #[test]
    fn whitespace_around_ranges_and_empty_elements_are_tolerated() {
        for header in
            ["bytes= 0-4", "bytes=0-4 \t", "bytes=,0-4", "bytes=0-4,", "bytes=, ,\t0-4 ,,", "bytes=0-4,10-"]
        {
            check(header, 10, one(0, 5));
        }
    }

    #[test]
    fn a_malformed_header_is_ignored() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes= ",
            "bytes=-",
            "bytes=--1",
            "bytes=4-2",
            "bytes=0",
            "bytes=0-1-2",
            "bytes=a-b",
            "bytes=0x0-0x4",
            "bytes=+0-4",
            "bytes=0 -4",
            "bytes=0- 4",
            "bytes=0-4;1-2",
            "bytes = 0-4",
            "bytes: 0-4",
            " bytes=0-4",
            "bytes=0-4,x",
            "bytes=0-4,6-5",
            "bytes=99-98",
            "bytes=0-4\0",
            "bytes=\u{661}-\u{662}",
        ] {
            check(header, 10, Selection::Ignore);
        }
    }

    #[test]
    fn an_unknown_unit_is_ignored() {
        for header in ["lines=0-4", "bytess=0-4", "byte=0-4", "=0-4"] {
            check(header, 10, Selection::Ignore);
        }
    }

    #[test]
    fn a_header_without_existing_bytes_is_not_satisfiable() {
        for (header, length) in [
            ("bytes=10-", 10),
            ("bytes=10-10", 10),
            ("bytes=99999999999999999999999-", 10),
            ("bytes=-0", 10),
            ("bytes=-0,10-,11-12", 10),
            ("bytes=0-", 0),
            ("bytes=0-0", 0),
            ("bytes=-0", 0),
            ("bytes=0-,-0", 0),
            ("bytes=18446744073709551615-", u64::MAX),
        ] {
            check(header, length, Selection::NotSatisfiable);
        }
    }

    #[test]
    fn a_suffix_of_an_empty_representation_is_ignored() {
        for header in ["bytes=-1", "bytes=-5,0-", "bytes=0-,-5"] {
            check(header, 0, Selection::Ignore);
        }
    }

    #[test]
    fn ranges_keep_the_clients_order() {
        check("bytes=900-909,0-9,400-499", 1000, many(&[(900, 910), (0, 10), (400, 500)]));
        check("bytes=-10, 2000- ,0-9", 1000, many(&[(990, 1000), (0, 10)]));
    }

    #[test]
    fn ranges_that_overlap_touch_or_nearly_touch_become_one() {
        check("bytes=0-9,5-14", 1000, one(0, 15));
        check("bytes=0-9,10-19", 1000, one(0, 20));
        check("bytes=10-19,0-9", 1000, one(0, 20));
        check("bytes=0-,0-,-1", 1000, one(0, 1000));
        check("bytes=0-9,110-119", 1000, one(0, 120));
        check("bytes=0-9,111-119", 1000, many(&[(0, 10), (111, 120)]));
        check("bytes=0-9,500-509,100-110,210-220", 1000, many(&[(0, 221), (500, 510)]));
        check("bytes=500-509,0-9,100-110", 1000, many(&[(500, 510), (0, 111)]));
        check("bytes=900-909,0-9,400-", 1000, many(&[(400, 1000), (0, 10)]));
    }

    #[test]
    fn more_than_64_parts_are_ignored_and_64_are_not() {
        let header = |count: u64| {
            let specs: Vec<_> = (0..count).rev().map(|n| format!("{}-{}", n * 1000, n * 1000)).collect();
            format!("bytes={}", specs.join(","))
        };
        let Selection::Many(ranges) = select(header(64).as_bytes(), 1 << 20) else {
            panic!("64 are allowed")
        };
        assert_eq!(ranges.len(), 64);
        assert_eq!(ranges.first().map(ByteRange::start), Some(63_000));
        check(&header(65), 1 << 20, Selection::Ignore);
    }

    #[test]
    fn parts_are_counted_after_they_have_become_one() {
        let even_then_odd = (0..400).step_by(2).chain((1..400).step_by(2));
        let specs: Vec<_> = even_then_odd.map(|n| format!("{}-{}", n * 1000, n * 1000 + 999)).collect();
        check(&format!("bytes={}", specs.join(",")), 1 << 20, one(0, 400_000));
    }

    #[test]
    fn a_range_cannot_be_made_empty_or_past_the_end() {
        assert_eq!(ByteRange::new(0, 0, 10), None);
        assert_eq!(ByteRange::new(5, 4, 10), None);
        assert_eq!(ByteRange::new(0, 11, 10), None);
        assert_eq!(ByteRange::new(0, 10, 10).map(|range| range.len()), Some(10));
    }

    #[test]
    fn a_content_range_is_closed_on_the_wire() {
        for (range, total, expected) in [
            (ByteRange { start: 0, end: 5 }, 10, "bytes 0-4/10"),
            (
                ByteRange { start: 0, end: u64::MAX },
                u64::MAX,
                "bytes 0-18446744073709551614/18446744073709551615",
            ),
        ] {
            let mut written = Vec::new();
            range.push_content_range(total, &mut written);
            assert_eq!(written, expected.as_bytes());
        }
        assert_eq!(unsatisfied_content_range(0), "bytes */0");
    }
}
