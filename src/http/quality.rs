//! Quality values (RFC 9110 §12.4.2).

/// A weight in thousandths, from 0 (not acceptable) to 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Quality(u16);

impl Quality {
    /// Not acceptable.
    pub(super) const ZERO: Self = Self(0);
    /// The weight of an element without one.
    pub(super) const ONE: Self = Self(1000);

    /// Parses a `qvalue`: 0 or 1, with at most three decimals, and no more than 1.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let (whole, decimals) = match text {
            [whole @ (b'0' | b'1')] => (whole, [].as_slice()),
            [whole @ (b'0' | b'1'), b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
            _ => return None,
        };
        let mut thousandths = u16::from(whole - b'0');
        for place in 0..3 {
            let digit = decimals.get(place).unwrap_or(&b'0');
            thousandths = thousandths * 10 + digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
        }
        (thousandths <= 1000).then_some(Self(thousandths))
    }
}

/// Parses the parameter `q=0.5` of a list element, in any case and with whitespace around it.
pub(super) fn parse_weight(parameter: &[u8]) -> Option<Quality> {
    match parameter.trim_ascii() {
        [b'q' | b'Q', b'=', value @ ..] => Quality::parse(value),
        _ => None,
    }
}

/// The highest weight of each of `names` among `elements`, ignoring case; `None` if it is not listed.
pub(super) fn highest<'a, const N: usize>(
    names: [&str; N],
    elements: impl Iterator<Item = (&'a [u8], Quality)>,
) -> [Option<Quality>; N] {
    let mut weights = [None; N];
    for (name, quality) in elements {
        if let Some(at) = names.iter().position(|known| name.eq_ignore_ascii_case(known.as_bytes())) {
            // `None` is less than any weight.
            weights[at] = weights[at].max(Some(quality));
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_has_at_most_three_decimals() {
        for (text, expected) in [
            ("0", 0),
            ("0.", 0),
            ("0.0", 0),
            ("0.001", 1),
            ("0.5", 500),
            ("0.05", 50),
            ("0.123", 123),
            ("0.999", 999),
            ("1", 1000),
            ("1.", 1000),
            ("1.000", 1000),
        ] {
            assert_eq!(Quality::parse(text.as_bytes()), Some(Quality(expected)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_not_a_weight() {
        for text in
            ["", ".", ".5", "1.001", "1.5", "2", "00", "01", "0.0000", "-0", "0,5", "0.a", "+1", " 1", "1e0"]
        {
            assert_eq!(Quality::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_parameter_may_be_in_any_case_and_have_whitespace_around_it() {
        assert_eq!(parse_weight(b" \tQ=0.5 "), Some(Quality(500)));
        for parameter in ["q = 1", "q=", "q", "qs=1", "", "q=\"1\"", "q= 1"] {
            assert_eq!(parse_weight(parameter.as_bytes()), None, "{parameter}");
        }
    }
}
