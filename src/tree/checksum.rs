//! Files of SHA-256 checksums, as `sha256sum`, `shasum --tag` and `openssl dgst` write them.

/// One line of a file of checksums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) digest: Digest,
    /// As it is written, escapes undone; none for a checksum alone.
    pub(crate) name: Option<Vec<u8>>,
}

pub(crate) type Digest = [u8; 32];

/// The checksum that `file`, found beside `name`, tells of it: the one on the line with that name, whatever directory the line
/// puts it in, or one that stands alone.
pub(crate) fn expected_in(file: &[u8], name: &[u8]) -> Option<Digest> {
    let mut lines = lines(file).filter_map(|(_, line)| line);
    let is_of_it = |line: &Line| match &line.name {
        Some(named) => named.rsplit(|&byte| byte == b'/').next() == Some(name),
        None => true,
    };
    lines.find(is_of_it).map(|line| line.digest)
}

/// The lines of a file with their numbers from 1 on, blank ones and comments left out; none for a line that is no checksum.
pub(crate) fn lines(file: &[u8]) -> impl Iterator<Item = (usize, Option<Line>)> {
    file.split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .enumerate()
        .filter(|(_, line)| !line.trim_ascii().is_empty() && !line.starts_with(b"#"))
        .map(|(index, line)| (index + 1, parse(line)))
}

fn parse(line: &[u8]) -> Option<Line> {
    // A name with a line break or a backslash in it is escaped, and the line says so in front.
    let (line, is_escaped) = match line.strip_prefix(b"\\") {
        Some(rest) => (rest, true),
        None => (line, false),
    };
    let (digest, name) = tagged(line).or_else(|| untagged(line))?;
    let name = name.map(|name| if is_escaped { unescaped(name) } else { name.to_vec() });
    Some(Line { digest, name })
}

/// `HEX`, `HEX  name`, `HEX *name`.
fn untagged(line: &[u8]) -> Option<(Digest, Option<&[u8]>)> {
    let (hex, rest) = line.split_at_checked(64)?;
    let digest = digest(hex)?;
    if rest.trim_ascii().is_empty() {
        return Some((digest, None));
    }
    let name = rest.strip_prefix(b"  ").or(rest.strip_prefix(b" *")).or(rest.strip_prefix(b" "))?;
    (!name.is_empty()).then_some((digest, Some(name)))
}

/// `SHA256 (name) = HEX`, `SHA256(name)= HEX`, `SHA2-256(name)= HEX`.
fn tagged(line: &[u8]) -> Option<(Digest, Option<&[u8]>)> {
    let rest = line.strip_prefix(b"SHA256").or(line.strip_prefix(b"SHA2-256"))?;
    let rest = rest.trim_ascii_start().strip_prefix(b"(")?;
    let end = rest.iter().rposition(|&byte| byte == b')')?;
    let (name, after) = rest.split_at_checked(end)?;
    let hex = after.strip_prefix(b")")?.trim_ascii_start().strip_prefix(b"=")?;
    (!name.is_empty()).then_some((digest(hex.trim_ascii())?, Some(name)))
}

fn digest(hex: &[u8]) -> Option<Digest> {
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut digest = Digest::default();
    if hex.len() != 2 * digest.len() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = value(*high)? << 4 | value(*low)?;
    }
    Some(digest)
}

fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut bytes = name.iter().copied();
    let mut plain = Vec::with_capacity(name.len());
    while let Some(byte) = bytes.next() {
        let escape = if byte == b'\\' { bytes.next() } else { None };
        plain.push(match escape {
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(other) => other,
            None => byte,
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
    const OTHER: &str = "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn a_checksum_beside_a_file_is_found_in_every_common_form() {
        for (text, is_found) in [
            ("HEX", true),
            ("HEX\n", true),
            ("HEX  \r\n", true),
            ("HEX  a.iso\n", true),
            ("HEX *a.iso\n", true),
            ("HEX a.iso\n", true),
            ("HEX  ./dist/a.iso\n", true),
            ("# made by hand\n\nHEX  a.iso\n", true),
            ("OTHER  b.iso\nHEX  a.iso\n", true),
            ("SHA256 (a.iso) = HEX\n", true),
            ("SHA256(a.iso)= HEX\n", true),
            ("SHA2-256(a.iso)= HEX\n", true),
            ("SHA512 (a.iso) = HEX\n", false),
            ("HEX  b.iso\n", false),
            ("HEX0  a.iso\n", false),
            ("HEXa.iso\n", false),
            ("00ff  a.iso\n", false),
            ("", false),
            ("checksum of a.iso: HEX", false),
        ] {
            let file = text.replace("HEX", HEX).replace("OTHER", OTHER);
            let found = expected_in(file.as_bytes(), b"a.iso");
            assert_eq!(found.map(|digest| (digest[0], digest[31])), is_found.then_some((0, 0xFF)), "{text}");
        }
    }

    #[test]
    fn lines_are_numbered_and_those_that_are_none_are_told() {
        let file =
            format!("# two files\n{HEX}  a\nnonsense\n\n\\{HEX}  b\\nc\\\\d\nSHA256 (e (1)) = {HEX}\n{HEX}");
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
