//! `Content-Disposition` (RFC 6266): whether a client shows a file or saves it, and under which name.

use percent_encoding::utf8_percent_encode;

use super::percent::OUTSIDE_ATTR_CHAR;
use super::target::last_segment;

/// The header value that makes a client save a file as `name`.
///
/// `name` is untrusted: the name of a file, or given in the query. Only the part after its last slash counts, and `_`
/// replaces control characters, characters that change the writing direction, backslashes, leading dots and bytes that are
/// not UTF-8. If nothing is left, there is no name, and the client takes one from the URL. The value is printable ASCII.
///
/// A name of printable ASCII is sent as `filename`. Any other is sent as `filename*` (RFC 8187) after a `filename` with `_`
/// for each character that is not ASCII. So is a name with a percent sign, which some clients take for an escape in
/// `filename` (RFC 6266 §D).
pub fn attachment(name: &[u8]) -> String {
    disposition("attachment", name)
}

/// The header value that makes a client show a file, with the name of [`attachment`] for saving it.
pub fn inline(name: &[u8]) -> String {
    disposition("inline", name)
}

fn disposition(kind: &str, name: &[u8]) -> String {
    let name = harmless(name);
    let mut value = kind.to_owned();
    if name.is_empty() {
        return value;
    }
    value.push_str("; filename=\"");
    for character in name.chars() {
        match character {
            '"' => value.push_str("\\\""),
            _ if is_plain(character) => value.push(character),
            _ => value.push('_'),
        }
    }
    value.push('"');
    if !name.chars().all(is_plain) {
        value.push_str("; filename*=UTF-8''");
        value.extend(utf8_percent_encode(&name, OUTSIDE_ATTR_CHAR));
    }
    value
}

fn harmless(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(last_segment(name));
    let mut leading = true;
    text.chars()
        .map(|character| {
            leading &= character == '.';
            if leading || is_harmful(character) { '_' } else { character }
        })
        .collect()
}

fn is_harmful(character: char) -> bool {
    match character {
        // A separator to Windows.
        '\\' | char::REPLACEMENT_CHARACTER => true,
        // Direction marks, embeddings, overrides and isolates, which make `gpj.exe` look like `exe.jpg`.
        '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => true,
        // Line separators of Unicode.
        '\u{2028}' | '\u{2029}' => true,
        _ => character.is_control(),
    }
}

/// Whether every client reads the character in a quoted string literally.
fn is_plain(character: char) -> bool {
    matches!(character, ' '..='~') && character != '%'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &[u8], expected: &str) {
        assert_eq!(attachment(name), format!("attachment{expected}"), "{}", name.escape_ascii());
        assert_eq!(inline(name), format!("inline{expected}"), "{}", name.escape_ascii());
    }

    #[test]
    fn a_name_of_ascii_is_quoted() {
        for (name, quoted) in [
            ("a.txt", "a.txt"),
            ("my file (1).tar.gz", "my file (1).tar.gz"),
            ("a;b=c,d.txt", "a;b=c,d.txt"),
            ("a\"b\".txt", "a\\\"b\\\".txt"),
            ("it's.txt", "it's.txt"),
        ] {
            check(name.as_bytes(), &format!("; filename=\"{quoted}\""));
        }
    }

    #[test]
    fn any_other_name_is_also_sent_in_utf_8() {
        for (name, expected) in [
            ("menü.txt", "; filename=\"men_.txt\"; filename*=UTF-8''men%C3%BC.txt"),
            ("文 a.txt", "; filename=\"_ a.txt\"; filename*=UTF-8''%E6%96%87%20a.txt"),
            ("🎉.gif", "; filename=\"_.gif\"; filename*=UTF-8''%F0%9F%8E%89.gif"),
            ("é\"'*.txt", "; filename=\"_\\\"'*.txt\"; filename*=UTF-8''%C3%A9%22%27%2A.txt"),
            ("é!#$&+-.^_`|~", "; filename=\"_!#$&+-.^_`|~\"; filename*=UTF-8''%C3%A9!#$&+-.^_`|~"),
        ] {
            check(name.as_bytes(), expected);
        }
    }

    #[test]
    fn a_percent_sign_is_sent_only_as_an_escape() {
        check(b"100%.txt", "; filename=\"100_.txt\"; filename*=UTF-8''100%25.txt");
        check(b"a%2e.txt", "; filename=\"a_2e.txt\"; filename*=UTF-8''a%252e.txt");
    }

    #[test]
    fn only_the_last_segment_of_a_path_counts() {
        for name in ["a.txt", "/a.txt", "b/c/a.txt", "../../a.txt", "/etc/a.txt"] {
            check(name.as_bytes(), "; filename=\"a.txt\"");
        }
        check(b"..\\..\\a.txt", "; filename=\"___.._a.txt\"");
        check(b"C:\\a.txt", "; filename=\"C:_a.txt\"");
    }

    #[test]
    fn a_name_that_could_do_harm_is_made_harmless() {
        for (name, expected) in [
            (b".bashrc".as_slice(), "; filename=\"_bashrc\""),
            (b"..", "; filename=\"__\""),
            (b"...a", "; filename=\"___a\""),
            (b"a\r\nSet-Cookie: b", "; filename=\"a__Set-Cookie: b\""),
            (b"a\0b\x1Bc\x7F", "; filename=\"a_b_c_\""),
            (b"a\xFFb", "; filename=\"a_b\""),
            ("a\u{85}b\u{2028}c".as_bytes(), "; filename=\"a_b_c\""),
            ("a\u{202E}gpj.exe".as_bytes(), "; filename=\"a_gpj.exe\""),
        ] {
            check(name, expected);
        }
    }

    #[test]
    fn without_a_name_only_the_kind_is_sent() {
        for name in ["", "/", "a/", "../"] {
            check(name.as_bytes(), "");
        }
    }
}
