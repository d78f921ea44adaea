//! Common rules of header grammars (RFC 9110 §5.6).

/// Removes optional whitespace (OWS) on both sides.
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Removes leading optional whitespace.
pub(super) fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}

/// Follows quoted strings (RFC 9110 §5.6.4) through a text, byte by byte.
#[derive(Clone, Copy, Default)]
pub(super) struct QuoteScanner {
    is_quoted: bool,
    is_escaped: bool,
}

impl QuoteScanner {
    /// Takes the next byte. Whether it is outside of quoted strings; the quotes themselves are not.
    pub(super) fn is_outside(&mut self, byte: u8) -> bool {
        let was_quoted = self.is_quoted;
        self.is_quoted ^= byte == b'"' && !self.is_escaped;
        self.is_escaped = self.is_quoted && byte == b'\\' && !self.is_escaped;
        !was_quoted && !self.is_quoted
    }

    /// Whether a quoted string has not ended.
    pub(super) fn is_open(self) -> bool {
        self.is_quoted
    }
}

/// Whether `text` is one quoted string (RFC 9110 §5.6.4).
pub(super) fn is_quoted_string(text: &[u8]) -> bool {
    let mut quotes = QuoteScanner::default();
    let end = text.iter().position(|&byte| {
        quotes.is_outside(byte);
        !quotes.is_open()
    });
    end.is_some_and(|end| end > 0 && end + 1 == text.len())
}

/// Whether `text` is a token (RFC 9110 §5.6.2).
pub(crate) fn is_token(text: &[u8]) -> bool {
    let is_token_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_token_byte)
}
