//! Files of SHA-256 checksums, as `sha256sum`, `shasum --tag` and `openssl dgst` write them.

use crate::http::digits::hex_byte;
use crate::http::target::last_segment;

/// The line that `sha256sum` prints for a file, with its end: the digest in hexadecimal, two spaces, the name.
///
/// A name with a backslash or a line break in it is escaped, and a backslash precedes the digest.
pub fn checksum_line(digest: &str, file_name: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(digest.len() + file_name.len() + 4);
    if file_name.iter().any(|byte| ESCAPES.iter().any(|(escaped, _)| escaped == byte)) {
        line.push(b'\\');
    }
    line.extend_from_slice(digest.as_bytes());
    line.extend_from_slice(b"  ");
    for &byte in file_name {
        match ESCAPES.iter().find(|(escaped, _)| *escaped == byte) {
            Some((_, letter)) => line.extend([b'\\', *letter]),
            None => line.push(byte),
        }
    }
    line.push(b'\n');
    line
}

/// The SHA-256 that a checksum file lists for the file `file_name` in the same directory.
///
/// A line is a digest in hexadecimal alone, the output of `sha256sum` (`DIGEST  name`, `DIGEST *name`, escaped or not), or
/// that of BSD's `sha256` and OpenSSL (`SHA256 (name) = DIGEST`). Other lines are skipped, so a file may list several
/// algorithms. Lines end in LF or CRLF.
///
/// A single digest counts whatever name its line has. Of several, the first for this name counts, or else the one for a path
/// that ends in the name, unless two of those differ.
pub fn expected_in(checksum_file: &[u8], file_name: &[u8]) -> Option<[u8; 32]> {
    let text = checksum_file.strip_prefix(BYTE_ORDER_MARK).unwrap_or(checksum_file);
    let known = || lines(text).filter_map(|(_, line)| line);
    let mut all = known();
    let (first, second) = (all.next()?, all.next());
    if second.is_none() {
        return Some(first.digest);
    }
    if let Some(exact) = known().find(|line| line.name.as_deref() == Some(file_name)) {
        return Some(exact.digest);
    }
    let is_similar = |line: &ChecksumLine| line.name.as_deref().map(last_segment) == Some(file_name);
    let mut similar = known().filter(is_similar).map(|line| line.digest);
    let found = similar.next()?;
    similar.all(|other| other == found).then_some(found)
}

/// The lines of a checksum file with their numbers, counted from 1, without blank lines and comments. `None` for a line that
/// is not a checksum.
pub fn lines(checksum_file: &[u8]) -> impl Iterator<Item = (usize, Option<ChecksumLine>)> {
    checksum_file
        .split(|&byte| byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.trim_ascii().is_empty() && !line.starts_with(b"#"))
        .map(|(index, line)| (index + 1, ChecksumLine::parse(line)))
}

/// One line of a checksum file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChecksumLine {
    /// The SHA-256.
    pub digest: [u8; 32],
    /// Unescaped and without `./`; `None` for a checksum alone.
    pub name: Option<Vec<u8>>,
}

impl ChecksumLine {
    fn parse(line: &[u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (line, is_escaped) = match line {
            [b'\\', line @ ..] => (line, true),
            _ => (line, false),
        };
        let (digest, name) = parse_plain(line).or_else(|| parse_tagged(line))?;
        let name = if is_escaped { unescape(name) } else { name.to_vec() };
        let name = name.strip_prefix(b"./").map(<[u8]>::to_vec).unwrap_or(name);
        Some(Self { digest, name: (!name.is_empty()).then_some(name) })
    }
}

/// `DIGEST`, `DIGEST  name` or `DIGEST *name`.
fn parse_plain(line: &[u8]) -> Option<([u8; 32], &[u8])> {
    let (digest, rest) = line.trim_ascii_start().split_at_checked(64)?;
    let name = match rest {
        [b' ', b' ' | b'*', name @ ..] | [b' ' | b'\t', name @ ..] => name,
        [] => rest,
        _ => return None,
    };
    let is_blank = name.iter().all(|byte| matches!(byte, b' ' | b'\t'));
    let name = if is_blank { b"" } else { name };
    Some((decode_digest(digest)?, name))
}

/// `SHA256 (name) = DIGEST`, with or without the spaces.
fn parse_tagged(line: &[u8]) -> Option<([u8; 32], &[u8])> {
    let rest = line.strip_prefix(b"SHA256").or_else(|| line.strip_prefix(b"SHA2-256"))?;
    let rest = rest.trim_ascii_start().strip_prefix(b"(")?;
    // A name may have parentheses in it, a digest may not.
    let end = rest.iter().rposition(|&byte| byte == b')')?;
    let (name, rest) = rest.split_at_checked(end)?;
    let digest = rest.get(1..)?.trim_ascii_start().strip_prefix(b"=")?;
    Some((decode_digest(digest.trim_ascii())?, name))
}

/// Decodes a SHA-256 digest of 64 hexadecimal digits, in either case.
pub(crate) fn decode_digest(digits: &[u8]) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    if pairs.len() != digest.len() {
        return None;
    }
    for (byte, &[high, low]) in digest.iter_mut().zip(pairs) {
        *byte = hex_byte(high, low)?;
    }
    Some(digest)
}

fn unescape(name: &[u8]) -> Vec<u8> {
    let mut unescaped = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, tail @ ..] = rest {
        let escape = ESCAPES.iter().find(|(_, letter)| *first == b'\\' && tail.first() == Some(letter));
        unescaped.push(escape.map_or(*first, |(escaped, _)| *escaped));
        rest = tail.get(usize::from(escape.is_some())..).unwrap_or_default();
    }
    unescaped
}

/// Bytes that are escaped in a name, and the letters that stand for them behind a backslash.
const ESCAPES: [(u8, u8); 3] = [(b'\\', b'\\'), (b'\n', b'n'), (b'\r', b'r')];

/// Some editors and shells of Windows put it in front of text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

#[cfg(test)]
mod tests {
    use super::*;
    /// The SHA-256 of nothing.
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const OTHER: &str = "0000000000000000000000000000000000000000000000000000000000000001";

    fn digest(hex: &str) -> [u8; 32] {
        decode_digest(hex.as_bytes()).unwrap()
    }

    #[test]
    fn a_line_is_that_of_sha256sum() {
        for (name, expected) in [
            ("a.txt", "HEX  a.txt\n"),
            (" a b*", "HEX   a b*\n"),
            ("a\\b", "\\HEX  a\\\\b\n"),
            ("a\nb", "\\HEX  a\\nb\n"),
            ("a\r", "\\HEX  a\\r\n"),
        ] {
            assert_eq!(checksum_line("HEX", name.as_bytes()), expected.as_bytes(), "{name:?}");
        }
    }

    #[test]
    fn a_file_with_one_digest_is_about_its_neighbour() {
        for file in [
            "HEX",
            "HEX\n",
            "HEX\r\n",
            "\n\nHEX \n",
            "HEX  a.txt\n",
            "HEX *a.txt\n",
            "HEX a.txt",
            "HEX\ta.txt",
            "HEX  ./a.txt\r\n",
            "HEX  build/out/a.txt\n",
            "HEX  another.txt\n",
            "\\HEX  a\\\\b.txt\n",
            "SHA256 (a.txt) = HEX\n",
            "SHA256 (a (1).txt) = HEX\n",
            "SHA256(a.txt)= HEX\r\n",
            "SHA2-256(a.txt)= HEX\n",
            "\u{FEFF}HEX  a.txt\r\n",
            "# checksums\nHEX  a.txt\n",
            "MD5 (a.txt) = 00\nSHA256 (a.txt) = HEX\nSHA512 (a.txt) = 00\n",
        ] {
            for hex in [EMPTY.to_owned(), EMPTY.to_uppercase()] {
                let file = file.replace("HEX", &hex);
                assert_eq!(expected_in(file.as_bytes(), b"a.txt"), Some(digest(EMPTY)), "{file}");
            }
        }
    }

    #[test]
    fn of_several_digests_the_one_for_the_name_counts() {
        for (file, expected) in [
            ("OTHER  b.txt\nHEX  a.txt\n", Some(EMPTY)),
            ("HEX  a.txt\nOTHER  b.txt\n", Some(EMPTY)),
            ("OTHER *b.txt\r\nHEX *a.txt\r\n", Some(EMPTY)),
            ("SHA256 (b.txt) = OTHER\nSHA256 (a.txt) = HEX", Some(EMPTY)),
            ("OTHER  x/a.txt\nHEX  ./a.txt\n", Some(EMPTY)),
            ("OTHER  b.txt\nHEX  x/a.txt\n", Some(EMPTY)),
            ("HEX  x/a.txt\nHEX  y/a.txt\n", Some(EMPTY)),
            ("OTHER  x/a.txt\nHEX  y/a.txt\n", None),
            ("OTHER  b.txt\nHEX  c.txt\n", None),
            ("OTHER\nHEX\n", None),
        ] {
            let file = file.replace("HEX", EMPTY).replace("OTHER", OTHER);
            assert_eq!(expected_in(file.as_bytes(), b"a.txt"), expected.map(digest), "{file}");
        }
    }

    #[test]
    fn an_escaped_name_is_read_back() {
        for name in ["a\\b", "a\nb", "a\r", "\\n"] {
            let file = [checksum_line(OTHER, b"b"), checksum_line(EMPTY, name.as_bytes())].concat();
            assert_eq!(expected_in(&file, name.as_bytes()), Some(digest(EMPTY)), "{name:?}");
        }
    }

    #[test]
    fn anything_else_expects_nothing() {
        for file in [
            "",
            "\n",
            "hello",
            "HEXa",
            "HE",
            "xHEX",
            "HEX,a.txt",
            "SHA256 a.txt = HEX",
            "SHA512 (a.txt) = HEX",
        ] {
            let file = file.replace("HEX", EMPTY);
            assert_eq!(expected_in(file.as_bytes(), b"a.txt"), None, "{file}");
        }
        assert_eq!(expected_in(format!("{}g", &EMPTY[..63]).as_bytes(), b"a.txt"), None);
        assert_eq!(expected_in(&[0xFF; 64], b"a.txt"), None);
    }

    #[test]
    fn lines_are_numbered_and_invalid_ones_reported() {
        let file = format!(
            "# two files\n{EMPTY}  a\nnonsense\n\n\\{EMPTY}  b\\nc\\\\d\nSHA256 (e (1)) = {EMPTY}\n{EMPTY}"
        );
        let names: Vec<_> = lines(file.as_bytes())
            .map(|(at, line)| (at, line.map(|line| line.name.unwrap_or_default())))
            .collect();
        assert_eq!(
            names,
            [
                (2, Some(b"a".to_vec())),
                (3, None),
                (5, Some(b"b\nc\\d".to_vec())),
                (6, Some(b"e (1)".to_vec())),
                (7, Some(Vec::new())),
            ]
        );
    }
}
