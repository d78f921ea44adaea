//! Values of headers in the configuration (RFC 9110 §5.5).

use super::setting::{ValueError, text_value};

text_value! {
    /// Value of a header: visible ASCII, with spaces and tabs inside; never empty.
    ConfigHeaderValue, as_str: str, "VALUE", "the value of a header in visible ASCII", check_header_value
}

pub(super) fn check_header_value(text: &str) -> Result<(), ValueError> {
    if text.trim_matches([' ', '\t']).len() != text.len() {
        return Err(ValueError::new("begins or ends with white space"));
    }
    match text.chars().find(|&character| !matches!(character, ' '..='~' | '\t')) {
        Some('\r' | '\n') => Err(ValueError::new("contains a line break")),
        Some(character) if character.is_ascii() => Err(ValueError::new("contains a control character")),
        Some(_) => Err(ValueError::new("contains a character that is not ASCII")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_visible_ascii_with_spaces_inside() {
        for text in ["a", "public, max-age=60", "a\tb", "\"quoted\"", "~"] {
            assert_eq!(text.parse::<ConfigHeaderValue>().expect(text).as_str(), text);
        }
        for (text, reason) in [
            ("", "is empty"),
            (" a", "begins or ends with white space"),
            ("a\t", "begins or ends with white space"),
            ("a\r\nb: c", "contains a line break"),
            ("a\nb", "contains a line break"),
            ("a\0b", "contains a control character"),
            ("a\x7fb", "contains a control character"),
            ("caf\u{e9}", "contains a character that is not ASCII"),
        ] {
            assert_eq!(text.parse::<ConfigHeaderValue>(), Err(ValueError::new(reason)), "{text:?}");
        }
    }
}
