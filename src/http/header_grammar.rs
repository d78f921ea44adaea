//! Common rules of header grammars (RFC 9110 §5.6).

/// Splits at each `separator` that is not in a quoted string (RFC 9110 §5.6.4).
pub(super) fn split_outside_quotes(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut quotes = QuoteScanner::default();
    text.split(move |&byte| quotes.is_outside(byte) && byte == separator)
}

/// Whether a quoted string in `text` has no end.
pub(super) fn has_open_quote(text: &[u8]) -> bool {
    let mut quotes = QuoteScanner::default();
    for &byte in text {
        quotes.is_outside(byte);
    }
    quotes.is_quoted
}

/// Follows quoted strings through a text, byte by byte.
#[derive(Default)]
struct QuoteScanner {
    is_quoted: bool,
    is_escaped: bool,
}

impl QuoteScanner {
    /// Takes the next byte. Whether it is outside of quoted strings; the quotes themselves are not.
    fn is_outside(&mut self, byte: u8) -> bool {
        let was_quoted = self.is_quoted;
        self.is_quoted ^= byte == b'"' && !self.is_escaped;
        self.is_escaped = self.is_quoted && byte == b'\\' && !self.is_escaped;
        !was_quoted && !self.is_quoted
    }
}

/// Whether `text` is one quoted string (RFC 9110 §5.6.4).
pub(super) fn is_quoted_string(text: &[u8]) -> bool {
    let mut quotes = QuoteScanner::default();
    let end = text.iter().position(|&byte| {
        quotes.is_outside(byte);
        !quotes.is_quoted
    });
    end.is_some_and(|end| end > 0 && end + 1 == text.len())
}

/// Whether `text` is a token (RFC 9110 §5.6.2).
pub(crate) fn is_token(text: &[u8]) -> bool {
    let is_token_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_token_byte)
}
