//! Decimal and hexadecimal digits in headers and files.

/// Appends `number` in decimal.
pub(crate) fn push_decimal(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The number of decimal digits of `number`.
pub(crate) fn decimal_length(number: u64) -> u64 {
    u64::from(number.checked_ilog10().unwrap_or(0)) + 1
}

/// The two hexadecimal digits of a byte, in lower case.
pub(crate) fn hex_digits(byte: u8) -> [u8; 2] {
    [byte >> 4, byte & 0xf].map(|digit| b"0123456789abcdef"[usize::from(digit)])
}

/// The byte that two hexadecimal digits write.
pub(super) fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(value(high)? << 4 | value(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_the_digits_and_the_length_that_formatting_gives_it() {
        for number in
            [0, 1, 9, 10, 99, 100, 12_345, u64::from(u32::MAX), 9_999_999_999, u64::MAX - 1, u64::MAX]
        {
            let mut out = b"=".to_vec();
            push_decimal(&mut out, number);
            assert_eq!(out, format!("={number}").into_bytes());
            assert_eq!(decimal_length(number) + 1, out.len() as u64, "{number}");
        }
    }

    #[test]
    fn the_two_digits_of_a_byte_read_back_as_it() {
        for byte in 0..=u8::MAX {
            let [high, low] = hex_digits(byte);
            assert_eq!(format!("{byte:02x}").into_bytes(), [high, low]);
            assert_eq!(hex_byte(high, low), Some(byte));
            assert_eq!(hex_byte(high.to_ascii_uppercase(), low.to_ascii_uppercase()), Some(byte));
        }
        assert_eq!((hex_byte(b'g', b'0'), hex_byte(b'0', b' ')), (None, None));
    }
}
