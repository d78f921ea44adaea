//! Sizes, dates and names for people to read.

use jiff::Timestamp;

use crate::files::version::Version;

/// Formats a size in the largest binary unit that it reaches: `512 B`, `1.5 KiB`, `20 MiB`.
pub(super) fn size(bytes: u64) -> String {
    let largest = UNITS.len() - 1;
    let unit = (0..largest).find(|&unit| (tenths(bytes, unit) + 5) / 10 < 1024).unwrap_or(largest);
    let (tenths, name) = (tenths(bytes, unit), UNITS[unit]);
    match unit {
        0 => format!("{bytes} {name}"),
        _ if tenths < 100 => format!("{}.{} {name}", tenths / 10, tenths % 10),
        _ => format!("{} {name}", (tenths + 5) / 10),
    }
}

/// The size in tenths of the unit, rounded.
fn tenths(bytes: u64, unit: usize) -> u128 {
    let one = 1_u128 << (10 * unit);
    (u128::from(bytes) * 10 + one / 2) / one
}

/// Formats an exact number with commas between thousands: `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// Formats a number with its noun: `1 file`, `2 files`.
pub(super) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

/// The modification time of a version; `None` outside the years -9999 to 9999.
pub(super) fn modified(version: &Version) -> Option<Timestamp> {
    let (seconds, nanoseconds) = version.mtime;
    Timestamp::new(seconds, i32::try_from(nanoseconds).ok()?).ok()
}

/// A name as HTML text or as the value of a quoted attribute.
pub(super) fn html_name(bytes: &[u8]) -> String {
    escape(&name(bytes))
}

/// A name as text: bytes that are not UTF-8 are replaced, and control characters are shown as their Unicode pictures.
/// Bidirectional control characters are replaced too: with them an `.exe` can look like a `.jpg`.
fn name(bytes: &[u8]) -> String {
    let shown = |character| match character {
        '\0'..='\x1f' => char::from_u32(CONTROL_PICTURES + u32::from(character)).unwrap_or(character),
        '\x7f' => '\u{2421}',
        '\u{80}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            char::REPLACEMENT_CHARACTER
        }
        _ => character,
    };
    String::from_utf8_lossy(bytes).chars().map(shown).collect()
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(character),
        }
    }
    out
}

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// U+2400 SYMBOL FOR NULL, the first of the pictures.
const CONTROL_PICTURES: u32 = 0x2400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_the_largest_unit_that_it_reaches() {
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (10_188, "9.9 KiB"),
            (10_235, "10 KiB"),
            (1_048_000, "1023 KiB"),
            (1_048_575, "1.0 MiB"),
            (20 << 20, "20 MiB"),
            (3 << 30, "3.0 GiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(size(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn thousands_are_separated_by_commas() {
        for (number, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), expected);
        }
        assert_eq!(counted(1, "file", "files"), "1 file");
        assert_eq!(counted(0, "file", "files"), "0 files");
    }

    #[test]
    fn a_name_shows_invisible_characters() {
        assert_eq!(name(b"a\nb\x7f\xff"), "a\u{240a}b\u{2421}\u{fffd}");
        assert_eq!(name("קובץ\u{202e}gpj.exe".as_bytes()), "קובץ\u{fffd}gpj.exe");
        assert_eq!(name("é\u{85}".as_bytes()), "é\u{fffd}");
    }

    #[test]
    fn text_can_end_neither_an_element_nor_an_attribute() {
        let escaped = escape("<a href=\"x\" title='y'>&amp;");
        assert_eq!(escaped, "&lt;a href=&quot;x&quot; title=&#39;y&#39;&gt;&amp;amp;");
    }
}
