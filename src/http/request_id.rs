//! The id of a request in logs: `X-Request-Id`, or the trace id of `traceparent` (W3C Trace Context, level 1, §3.2).

/// The id in the headers of a trusted peer: that of `X-Request-Id`, or else the trace id. `None` if neither is valid.
pub fn given<'a>(x_request_id: Option<&'a [u8]>, traceparent: Option<&'a [u8]>) -> Option<&'a [u8]> {
    x_request_id.filter(|id| is_valid(id)).or_else(|| trace_id(traceparent?))
}

/// Whether `id` has 1 to [`LENGTH_MAX`] visible ASCII characters.
pub fn is_valid(id: &[u8]) -> bool {
    (1..=LENGTH_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

/// The trace id of a `traceparent`: 32 lower-case hexadecimal digits that are not all 0.
pub fn trace_id(traceparent: &[u8]) -> Option<&[u8]> {
    let mut fields = traceparent.split(|&byte| byte == b'-');
    let is_digits = |text: &[u8]| text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let mut digits = |length| fields.next().filter(|field| field.len() == length && is_digits(field));
    let (version, trace, parent, _flags) = (digits(2)?, digits(32)?, digits(16)?, digits(2)?);
    let is_of_version = match version {
        b"ff" => false,
        b"00" => fields.next().is_none(),
        // A later version may have more fields.
        _ => true,
    };
    let is_null = |digits: &[u8]| digits.iter().all(|digit| *digit == b'0');
    (is_of_version && !is_null(trace) && !is_null(parent)).then_some(trace)
}

/// Maximum length of an accepted id.
pub const LENGTH_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn an_id_is_visible_ascii_of_bounded_length() {
        let long = "x".repeat(LENGTH_MAX);
        let longer = "x".repeat(LENGTH_MAX + 1);
        for (id, expected) in [
            ("a", true),
            ("6f1c-\"\\{}~!", true),
            (long.as_str(), true),
            (longer.as_str(), false),
            ("", false),
            ("a b", false),
            ("a\tb", false),
            ("a\u{7f}", false),
            ("caf\u{e9}", false),
            ("a\r\nX: y", false),
        ] {
            assert_eq!(is_valid(id.as_bytes()), expected, "{id:?}");
        }
    }

    #[test]
    fn only_a_valid_traceparent_has_a_trace_id() {
        for (header, expected) in [
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later", true),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01later", false),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", false),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", false),
            ("0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
            ("", false),
        ] {
            let expected = expected.then_some(TRACE.as_bytes());
            assert_eq!(trace_id(header.as_bytes()), expected, "{header:?}");
        }
    }

    #[test]
    fn the_request_id_takes_precedence_over_the_trace_id() {
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let trace = Some(parent.as_bytes());
        assert_eq!(given(Some(b"mine"), trace), Some(&b"mine"[..]));
        assert_eq!(given(Some(b"not mine"), trace), Some(TRACE.as_bytes()));
        assert_eq!(given(None, trace), Some(TRACE.as_bytes()));
        assert_eq!(given(Some(b""), Some(b"")), None);
        assert_eq!(given(None, None), None);
    }
}
