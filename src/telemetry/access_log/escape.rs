//! Escapes text from clients so that it can't end the line or the string around it, or change the direction of text.

use std::io::Write;

/// Appends `text` as the content of a JSON string (RFC 8259 §7). Bytes that are not UTF-8 are written as `\xHH`, so that
/// nothing is lost: two backslashes in the JSON, one in the string.
///
/// Escapes more than JSON requires: DEL, C1 controls, line and paragraph separators, bidirectional marks.
pub(crate) fn json(out: &mut Vec<u8>, text: &[u8]) {
    if text.iter().all(|byte| is_plain(*byte)) {
        return out.extend_from_slice(text);
    }
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            json_character(out, character);
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\\\x{byte:02x}");
        }
    }
}

/// Appends `text` as the content of a quoted field of the combined format: quotes, backslashes and everything but visible
/// ASCII and space are written as `\xHH`.
pub(crate) fn combined(out: &mut Vec<u8>, text: &[u8]) {
    for byte in text {
        if is_plain(*byte) {
            out.push(*byte);
        } else {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

/// True if neither format escapes the byte.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}

fn json_character(out: &mut Vec<u8>, character: char) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        _ if character.is_control() || is_format_control(character) => {
            // All of them are in the basic plane, so one escape is enough.
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        }
        _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// True for characters that some readers take for the end of a line, or that change the direction of text.
fn is_format_control(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        for (text, in_json, in_combined) in [
            (&b"plain text"[..], "plain text", "plain text"),
            (b"a\"b", "a\\\"b", "a\\x22b"),
            (b"a\\b", "a\\\\b", "a\\x5cb"),
            (b"a\nb\rc\td", "a\\nb\\rc\\td", "a\\x0ab\\x0dc\\x09d"),
            (b"\0\x1b[31m", "\\u0000\\u001b[31m", "\\x00\\x1b[31m"),
            (b"\x7f", "\\u007f", "\\x7f"),
            (b"\xff\xfe", "\\\\xff\\\\xfe", "\\xff\\xfe"),
            (b"\xc3", "\\\\xc3", "\\xc3"),
            ("\u{85}\u{9f}".as_bytes(), "\\u0085\\u009f", "\\xc2\\x85\\xc2\\x9f"),
            ("\u{2028}\u{2029}".as_bytes(), "\\u2028\\u2029", "\\xe2\\x80\\xa8\\xe2\\x80\\xa9"),
            ("\u{202e}gpj".as_bytes(), "\\u202egpj", "\\xe2\\x80\\xaegpj"),
            ("\u{feff}".as_bytes(), "\\ufeff", "\\xef\\xbb\\xbf"),
            ("caf\u{e9} \u{1f980}".as_bytes(), "caf\u{e9} \u{1f980}", "caf\\xc3\\xa9 \\xf0\\x9f\\xa6\\x80"),
        ] {
            let (mut json_out, mut combined_out) = (Vec::new(), Vec::new());
            json(&mut json_out, text);
            combined(&mut combined_out, text);
            assert_eq!(String::from_utf8(json_out).unwrap(), in_json, "{text:?}");
            assert_eq!(String::from_utf8(combined_out).unwrap(), in_combined, "{text:?}");
        }
    }

    #[test]
    fn any_two_bytes_become_a_valid_json_string() {
        for pair in 0..=u16::MAX {
            let mut out = b"\"".to_vec();
            json(&mut out, &pair.to_be_bytes());
            out.push(b'"');
            let parsed: Result<String, _> = serde_json::from_slice(&out);
            assert!(parsed.is_ok(), "{pair:#x}: {out:?}");
            assert!(out.iter().all(|byte| *byte >= b' ' && *byte != 0x7f), "{pair:#x}");
        }
    }
}
