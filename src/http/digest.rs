//! Digests of representations: the fields that carry them (RFC 9530) and the files that do.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::field::trim;

/// A hash algorithm for digests, in the order in which they are preferred among equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// SHA-512 (FIPS 180-4).
    Sha512,
}

impl Algorithm {
    /// All of them, the most preferred first.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// Its key in fields (RFC 9530 §5).
    pub const fn token(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha512 => "sha-512",
        }
    }

    /// The algorithm of this key, in any case.
    pub fn from_token(token: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| token.eq_ignore_ascii_case(algorithm.token().as_bytes()))
    }

    /// How many bytes a digest has.
    pub const fn digest_length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// The value of a Repr-Digest or Content-Digest field (RFC 9530 §2 and §3) with one digest in it.
pub fn field_value(algorithm: Algorithm, digest: &[u8]) -> String {
    format!("{}=:{}:", algorithm.token(), BASE64_STANDARD.encode(digest))
}

/// What a Want-Repr-Digest or Want-Content-Digest field asks for (RFC 9530 §4). The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// Preferences from 0, not acceptable, to 10, the most wanted.
    sha256: u8,
    sha512: u8,
}

impl Want {
    /// Parses the field, whose lines, if there are several, are joined with `, `.
    ///
    /// It is a dictionary of structured fields (RFC 8941 §3.2) whose values are integers from 0 to 10. A field
    /// that is anything else is ignored as a whole. The last of a key counts, and unknown keys and all
    /// parameters are skipped.
    pub fn parse(field: &[u8]) -> Self {
        parse_wanted(field).unwrap_or_default()
    }

    /// The algorithm that is wanted most; `None` if no known one is.
    pub fn best(self) -> Option<Algorithm> {
        match self {
            Self { sha256: 0, sha512: 0 } => None,
            Self { sha256, sha512 } if sha512 > sha256 => Some(Algorithm::Sha512),
            _ => Some(Algorithm::Sha256),
        }
    }

    /// Whether a digest by `algorithm` is of use to the client.
    pub fn accepts(self, algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::Sha256 => self.sha256 > 0,
            Algorithm::Sha512 => self.sha512 > 0,
        }
    }
}

fn parse_wanted(field: &[u8]) -> Option<Want> {
    let mut want = Want::default();
    let mut rest = trim_spaces(field);
    while !rest.is_empty() {
        let (key, tail) = split_key(rest)?;
        let (preference, tail) = split_preference(tail.strip_prefix(b"=")?)?;
        match key {
            b"sha-256" => want.sha256 = preference,
            b"sha-512" => want.sha512 = preference,
            _ => {}
        }
        rest = match trim_start(skip_parameters(tail)?) {
            [] => break,
            // A comma is followed by a member.
            [b',', tail @ ..] => Some(trim_start(tail)).filter(|tail| !tail.is_empty())?,
            _ => return None,
        };
    }
    Some(want)
}

/// `key`: a lowercase letter or `*`, then letters, digits and `_-.*` (RFC 8941 §3.1.2).
fn split_key(text: &[u8]) -> Option<(&[u8], &[u8])> {
    text.first().filter(|first| matches!(first, b'a'..=b'z' | b'*'))?;
    let is_key = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*');
    text.split_at_checked(text.iter().position(|byte| !is_key(byte)).unwrap_or(text.len()))
}

/// An integer of at most 15 digits (RFC 8941 §3.3.1) that is a preference.
fn split_preference(text: &[u8]) -> Option<(u8, &[u8])> {
    let length = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(length).filter(|_| (1..=15).contains(&length))?;
    let number: u64 = str::from_utf8(digits).ok()?.parse().ok()?;
    let preference = u8::try_from(number).ok().filter(|&number| number <= PREFERENCE_MAX)?;
    match rest {
        // That would be a decimal.
        [b'.', ..] => None,
        _ => Some((preference, rest)),
    }
}

fn skip_parameters(mut text: &[u8]) -> Option<&[u8]> {
    while let [b';', tail @ ..] = text {
        let (_, tail) = split_key(trim_start_spaces(tail))?;
        text = match tail {
            [b'=', value @ ..] => skip_bare_item(value)?,
            _ => tail,
        };
    }
    Some(text)
}

/// Skips a value of any type. Of its characters only the quotes are checked, since nothing reads it.
fn skip_bare_item(text: &[u8]) -> Option<&[u8]> {
    if let Some(mut string) = text.strip_prefix(b"\"") {
        loop {
            string = match string {
                [b'"', tail @ ..] => return Some(tail),
                [b'\\', b'"' | b'\\', tail @ ..] | [b' '..=b'[' | b']'..=b'~', tail @ ..] => tail,
                _ => return None,
            };
        }
    }
    let length = text.iter().position(|byte| matches!(byte, b',' | b';' | b' ' | b'\t' | b'"'));
    let (value, rest) = text.split_at_checked(length.unwrap_or(text.len()))?;
    (!value.is_empty() && value.iter().all(u8::is_ascii_graphic)).then_some(rest)
}

fn trim_spaces(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] | [rest @ .., b' '] = text {
        text = rest;
    }
    text
}

fn trim_start_spaces(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] = text {
        text = rest;
    }
    text
}

fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}

/// The line that `sha256sum` prints for a file, with its end: the digest in hexadecimal, two spaces, the name.
///
/// A name with a backslash or an end of line in it is escaped, which a backslash before the digest tells.
pub fn checksum_line(digest: &str, file_name: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(digest.len() + file_name.len() + 4);
    if file_name.iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r')) {
        line.push(b'\\');
    }
    line.extend_from_slice(digest.as_bytes());
    line.extend_from_slice(b"  ");
    for &byte in file_name {
        match byte {
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            _ => line.push(byte),
        }
    }
    line.push(b'\n');
    line
}

/// The SHA-256 that a checksum file expects of the file `file_name` beside it.
///
/// A line of it is a digest in hexadecimal and nothing else, what `sha256sum` prints (`DIGEST  name`,
/// `DIGEST *name`, escaped or not), or what BSD's `sha256` and OpenSSL do (`SHA256 (name) = DIGEST`). Others
/// are skipped, so a file with digests by several algorithms is read too. Lines end in LF or CR LF.
///
/// If there is one digest, it is the file's, whatever the line calls it. Of several it is the first that is
/// for this name, or else that for a path which ends in the name, unless two of those differ.
pub fn expected_in(checksum_file: &[u8], file_name: &[u8]) -> Option<[u8; 32]> {
    let text = checksum_file.strip_prefix(BYTE_ORDER_MARK).unwrap_or(checksum_file);
    let lines = || text.split(|&byte| byte == b'\n').filter_map(ChecksumLine::parse);
    let mut all = lines();
    let (first, second) = (all.next()?, all.next());
    if second.is_none() {
        return Some(first.digest);
    }
    if let Some(exact) = lines().find(|line| line.name == file_name) {
        return Some(exact.digest);
    }
    let mut similar = lines().filter(|line| last_segment(&line.name) == file_name).map(|line| line.digest);
    let found = similar.next()?;
    similar.all(|other| other == found).then_some(found)
}

struct ChecksumLine {
    digest: [u8; 32],
    /// Unescaped and without `./`; empty if the line names no file.
    name: Vec<u8>,
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
        Some(Self { digest, name })
    }
}

/// `DIGEST`, `DIGEST  name` or `DIGEST *name`.
fn parse_plain(line: &[u8]) -> Option<([u8; 32], &[u8])> {
    let (digest, rest) = trim_start(line).split_at_checked(64)?;
    let name = match rest {
        [b' ', b' ' | b'*', name @ ..] | [b' ' | b'\t', name @ ..] => name,
        [] => rest,
        _ => return None,
    };
    let name = if trim(name).is_empty() { b"" } else { name };
    Some((decode_digest(digest)?, name))
}

/// `SHA256 (name) = DIGEST`, with or without the spaces.
fn parse_tagged(line: &[u8]) -> Option<([u8; 32], &[u8])> {
    let rest = line.strip_prefix(b"SHA256").or_else(|| line.strip_prefix(b"SHA2-256"))?;
    let rest = trim_start(rest).strip_prefix(b"(")?;
    // A name may have parentheses in it, a digest may not.
    let end = rest.iter().rposition(|&byte| byte == b')')?;
    let (name, rest) = rest.split_at_checked(end)?;
    let digest = trim_start(rest.get(1..)?).strip_prefix(b"=")?;
    Some((decode_digest(trim(digest))?, name))
}

fn decode_digest(digits: &[u8]) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    if pairs.len() != digest.len() {
        return None;
    }
    for (byte, &[high, low]) in digest.iter_mut().zip(pairs) {
        let value = char::from(high).to_digit(16)? << 4 | char::from(low).to_digit(16)?;
        *byte = u8::try_from(value).ok()?;
    }
    Some(digest)
}

fn unescape(name: &[u8]) -> Vec<u8> {
    let mut unescaped = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match rest {
            [b'\\', b'\\', tail @ ..] => (b'\\', tail),
            [b'\\', b'n', tail @ ..] => (b'\n', tail),
            [b'\\', b'r', tail @ ..] => (b'\r', tail),
            _ => (*first, tail),
        };
        unescaped.push(byte);
        rest = tail;
    }
    unescaped
}

fn last_segment(name: &[u8]) -> &[u8] {
    name.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

const PREFERENCE_MAX: u8 = 10;

/// With which some editors and shells of Windows begin a text in UTF-8.
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
    fn an_algorithm_is_found_by_its_token() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_token(algorithm.token().as_bytes()), Some(algorithm));
        }
        assert_eq!(Algorithm::from_token(b"SHA-512"), Some(Algorithm::Sha512));
        for token in ["", "sha256", "md5", "sha-1", "sha-256 "] {
            assert_eq!(Algorithm::from_token(token.as_bytes()), None, "{token}");
        }
        assert_eq!(Algorithm::Sha256.digest_length() * 2, Algorithm::Sha512.digest_length());
    }

    #[test]
    fn a_field_carries_a_digest_in_base64() {
        assert_eq!(
            field_value(Algorithm::Sha256, &digest(EMPTY)),
            "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"
        );
        assert_eq!(field_value(Algorithm::Sha512, b"\xFF"), "sha-512=:/w==:");
    }

    #[test]
    fn the_highest_preference_is_the_best() {
        for (field, expected) in [
            ("sha-256=10", Some(Algorithm::Sha256)),
            ("sha-256=1", Some(Algorithm::Sha256)),
            ("sha-512=3, sha-256=10, unixsum=0", Some(Algorithm::Sha256)),
            ("sha-512=3,sha-256=2", Some(Algorithm::Sha512)),
            ("sha-512=5, sha-256=5", Some(Algorithm::Sha256)),
            ("sha-256=0, sha-512=1", Some(Algorithm::Sha512)),
            ("md5=10, sha-512=1", Some(Algorithm::Sha512)),
            ("sha-256=9, sha-512=5, sha-256=1", Some(Algorithm::Sha512)),
            ("  sha-256=1 \t,\t sha-512=2  ", Some(Algorithm::Sha512)),
            ("sha-512=010", Some(Algorithm::Sha512)),
            ("sha-512=2;a;b=1.5; c=\"x,\\\"y\";d=:YQ==:;e=?1, sha-256=1", Some(Algorithm::Sha512)),
            ("", None),
            (" ", None),
            ("sha-256=0", None),
            ("md5=10", None),
            ("*=1", None),
        ] {
            assert_eq!(Want::parse(field.as_bytes()).best(), expected, "{field}");
        }
    }

    #[test]
    fn a_malformed_field_is_ignored_as_a_whole() {
        for field in [
            "sha-256",
            "sha-256=",
            "sha-256=11",
            "sha-256=-1",
            "sha-256=1.0",
            "sha-256=1.",
            "sha-256=?1",
            "sha-256=\"1\"",
            "sha-256=ten",
            "sha-256=(1)",
            "sha-256=:AQ==:",
            "sha-256 = 1",
            "sha-256= 1",
            "SHA-256=1",
            "sha-256=1,",
            ",sha-256=1",
            "sha-256=1,,sha-512=1",
            "sha-256=1 sha-512=1",
            "sha-256=1, md5",
            "sha-256=1, md5=12",
            "sha-256=1;",
            "sha-256=1;A",
            "sha-256=1;a=",
            "sha-256=1;a=\"",
            "sha-256=1;a=\"\\x\"",
            "sha-256=1 ;a",
            "sha-256=0000000000000001",
            "\tsha-256=1",
            "sha-256=1\0",
        ] {
            assert_eq!(Want::parse(field.as_bytes()), Want::default(), "{field}");
        }
    }

    #[test]
    fn what_is_listed_with_more_than_nothing_is_accepted() {
        let want = Want::parse(b"sha-256=0, sha-512=1");
        assert!(want.accepts(Algorithm::Sha512) && !want.accepts(Algorithm::Sha256));
        assert!(!Want::default().accepts(Algorithm::Sha256));
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
}
