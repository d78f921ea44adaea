//! The order of a listing.

use std::cmp::Ordering;

use crate::files::directory::{DirectoryEntry, EntryKind};
use crate::http::query::{QueryOptions, Sort, SortOrder};

/// What a listing is sorted by, and which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sorting {
    /// What is compared. Entries that are equal in it are in the order of their names.
    ///
    /// Names are in natural order (`img2` before `img10`, case aside), directories first either way. A directory has no
    /// size, which is less than any. The date is when the bytes of a file, or the names in a directory, last changed.
    pub key: Sort,
    /// Which way.
    pub order: SortOrder,
}

impl Sorting {
    /// By name, ascending: what a listing is without a word about it.
    pub const BY_NAME: Self = Self { key: Sort::Name, order: SortOrder::Ascending };

    /// What a query asks for; what it does not say is usual.
    pub fn of(wants: &QueryOptions<'_>) -> Self {
        let key = wants.sort.unwrap_or(Sort::Name);
        Self { key, order: wants.order.unwrap_or(usual_order(key)) }
    }

    /// Sorts `entries`. No two entries of a directory are equal, so the outcome is one.
    pub(crate) fn sort(self, entries: &mut [DirectoryEntry]) {
        entries.sort_unstable_by(|one, other| self.compare(one, other));
    }

    fn compare(self, one: &DirectoryEntry, other: &DirectoryEntry) -> Ordering {
        let by_name = || natural(&one.name, &other.name);
        match self.key {
            Sort::Name => is_file(one).cmp(&is_file(other)).then_with(|| apply(self.order, by_name())),
            Sort::Size => apply(self.order, size(one).cmp(&size(other))).then_with(by_name),
            Sort::Date => {
                let dates = one.version.mtime.cmp(&other.version.mtime);
                apply(self.order, dates).then_with(by_name)
            }
        }
    }
}

/// Which way is wanted first: names from A, but the largest and the latest.
pub(super) const fn usual_order(key: Sort) -> SortOrder {
    match key {
        Sort::Name => SortOrder::Ascending,
        Sort::Size | Sort::Date => SortOrder::Descending,
    }
}

fn apply(order: SortOrder, ordering: Ordering) -> Ordering {
    match order {
        SortOrder::Ascending => ordering,
        SortOrder::Descending => ordering.reverse(),
    }
}

fn is_file(entry: &DirectoryEntry) -> bool {
    entry.kind == EntryKind::File
}

fn size(entry: &DirectoryEntry) -> Option<u64> {
    is_file(entry).then(|| entry.version.size)
}

/// Runs of digits by their value, the rest by character without case; what is equal so far, by its bytes.
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

/// A step of the comparison: the place of its kind among all characters first, so that the order is one of all units.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Unit<'a> {
    place: u32,
    /// A number's digits without leading zeros: the longer is the greater.
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

/// The first character in lower case, and how many bytes it takes; none where the bytes are not UTF-8.
fn folded_char(bytes: &[u8]) -> Option<(u32, usize)> {
    let first = *bytes.first()?;
    let width = match first {
        0x00..=0x7f => return Some((u32::from(first.to_ascii_lowercase()), 1)),
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return None,
    };
    let character = str::from_utf8(bytes.get(..width)?).ok()?.chars().next()?;
    let folded = character.to_lowercase().next().unwrap_or(character);
    Some((u32::from(folded), width))
}

/// Beyond the last character.
const NO_CHARACTER: u32 = 0x11_0000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_query_does_not_say_is_usual() {
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
        fn natural_order_is_an_order(
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
