//! The order of a listing.

use std::cmp::Ordering;

use crate::files::directory::{DirectoryEntry, EntryKind};
use crate::http::query::{QueryOptions, Sort, SortOrder};

/// Sort key and direction of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sorting {
    /// Entries with equal keys are in the order of their names.
    ///
    /// Names are in natural order (`img2` before `img10`, ignoring case), directories first in either direction. A directory has
    /// no size and sorts as the smallest. The date is the modification time of the file or the directory.
    pub(crate) key: Sort,
    pub(crate) order: SortOrder,
}

impl Sorting {
    /// By name, ascending.
    #[cfg(test)]
    pub(crate) const BY_NAME: Self = Self { key: Sort::Name, order: SortOrder::Ascending };

    /// The sorting of a query, by default by name.
    pub(crate) fn of(options: &QueryOptions<'_>) -> Self {
        let key = options.sort.unwrap_or(Sort::Name);
        Self { key, order: options.order.unwrap_or(default_order(key)) }
    }

    /// Sorts `entries`. No two entries of a directory are equal, so the order is unambiguous.
    pub(crate) fn sort(self, entries: &mut [DirectoryEntry]) {
        entries.sort_unstable_by(|one, other| self.compare(one, other));
    }

    fn compare(self, one: &DirectoryEntry, other: &DirectoryEntry) -> Ordering {
        let by_name = || natural(&one.name, &other.name);
        let apply = |ordering: Ordering| match self.order {
            SortOrder::Ascending => ordering,
            SortOrder::Descending => ordering.reverse(),
        };
        match self.key {
            Sort::Name => is_file(one).cmp(&is_file(other)).then_with(|| apply(by_name())),
            Sort::Size => apply(size(one).cmp(&size(other))).then_with(by_name),
            Sort::Date => {
                let dates = one.version.mtime.cmp(&other.version.mtime);
                apply(dates).then_with(by_name)
            }
        }
    }
}

/// Names from A on, the largest and the latest first.
pub(super) fn default_order(key: Sort) -> SortOrder {
    match key {
        Sort::Name => SortOrder::Ascending,
        Sort::Size | Sort::Date => SortOrder::Descending,
    }
}

fn is_file(entry: &DirectoryEntry) -> bool {
    entry.kind == EntryKind::File
}

fn size(entry: &DirectoryEntry) -> Option<u64> {
    is_file(entry).then_some(entry.version.size)
}

/// Compares runs of digits by their value and the rest by character, ignoring case; then the bytes.
fn natural(one: &[u8], other: &[u8]) -> Ordering {
    let (mut left, mut right) = (one, other);
    loop {
        let ordering = match (next_unit(&mut left), next_unit(&mut right)) {
            (None, None) => return one.cmp(other),
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(left), Some(right)) => left.cmp(&right),
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
}

/// A number or one character, as it is compared. A number takes the place of the digit 0 among the characters.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Unit<'a> {
    place: u32,
    /// Digits of a number without leading zeros: more digits make a greater number.
    length: usize,
    digits: &'a [u8],
}

fn next_unit<'a>(rest: &mut &'a [u8]) -> Option<Unit<'a>> {
    let bytes = *rest;
    let first = *bytes.first()?;
    if first.is_ascii_digit() {
        let end = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
        let (digits, after) = bytes.split_at(end);
        *rest = after;
        let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
        let digits = digits.get(zeros..).unwrap_or_default();
        return Some(Unit { place: u32::from(b'0'), length: digits.len(), digits });
    }
    let (place, width) = folded_char(bytes).unwrap_or((NO_CHARACTER + u32::from(first), 1));
    *rest = bytes.get(width..).unwrap_or_default();
    Some(Unit { place, length: 0, digits: &[] })
}

/// The first character in lower case, and its length in bytes; `None` if the bytes are not UTF-8.
fn folded_char(bytes: &[u8]) -> Option<(u32, usize)> {
    let start = bytes.get(..4).unwrap_or(bytes);
    let character = start.utf8_chunks().next()?.valid().chars().next()?;
    let folded = character.to_lowercase().next().unwrap_or(character);
    Some((u32::from(folded), character.len_utf8()))
}

/// Greater than every character: bytes that are not UTF-8 come last.
const NO_CHARACTER: u32 = 0x11_0000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_query_leaves_out_has_a_default() {
        for (query, key, order) in [
            ("", Sort::Name, SortOrder::Ascending),
            ("sort=colour&order=up", Sort::Name, SortOrder::Ascending),
            ("sort=name", Sort::Name, SortOrder::Ascending),
            ("order=desc", Sort::Name, SortOrder::Descending),
            ("sort=size", Sort::Size, SortOrder::Descending),
            ("sort=%73ize&order=asc", Sort::Size, SortOrder::Ascending),
            ("sort=date", Sort::Date, SortOrder::Descending),
            ("sort=mtime&order=asc", Sort::Date, SortOrder::Ascending),
        ] {
            assert_eq!(
                Sorting::of(&QueryOptions::parse(query.as_bytes())),
                Sorting { key, order },
                "{query}"
            );
        }
    }

    #[test]
    fn names_are_in_natural_order() {
        let sorted: [&[u8]; 20] = [
            b" a",
            b"-",
            b"0",
            b"1",
            b"1a",
            b"2",
            b"007",
            b"7",
            b"10",
            b"99999999999999999999998",
            b"99999999999999999999999",
            b"A",
            b"a",
            b"a1",
            b"a01b",
            b"a2",
            b"B",
            "É".as_bytes(),
            "é2".as_bytes(),
            b"\xff",
        ];
        for (index, one) in sorted.iter().enumerate() {
            for (other_index, other) in sorted.iter().enumerate() {
                let (left, right) = (one.escape_ascii(), other.escape_ascii());
                assert_eq!(natural(one, other), index.cmp(&other_index), "{left} {right}");
            }
        }
        assert_eq!(natural(b"img2.png", b"IMG10.png"), Ordering::Less);
    }

    proptest! {
        #[test]
        fn natural_order_is_total(
            mut names in proptest::collection::vec("[0-2aAé\u{7f}./]{0,4}", 0..12)
        ) {
            names.sort_unstable_by(|one, other| natural(one.as_bytes(), other.as_bytes()));
            for (index, one) in names.iter().enumerate() {
                for other in &names[index..] {
                    prop_assert!(natural(one.as_bytes(), other.as_bytes()) != Ordering::Greater);
                }
            }
        }
    }
}
