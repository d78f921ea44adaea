//! Decimal numbers as fields write them, without the cost of formatting.

/// Appends `number` in decimal.
pub(crate) fn push_decimal(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; DIGITS_MAX];
    let mut rest = number;
    let mut length = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        length += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(DIGITS_MAX - length..).unwrap_or_default());
}

/// How many digits `number` has in decimal.
pub(crate) fn decimal_length(number: u64) -> u64 {
    u64::from(number.checked_ilog10().unwrap_or(0)) + 1
}

/// Digits of `u64::MAX`.
const DIGITS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_as_formatting_writes_it_and_as_long_as_told() {
        for number in
            [0, 1, 9, 10, 99, 100, 12_345, u64::from(u32::MAX), 9_999_999_999, u64::MAX - 1, u64::MAX]
        {
            let mut out = b"=".to_vec();
            push_decimal(&mut out, number);
            assert_eq!(out, format!("={number}").into_bytes());
            assert_eq!(decimal_length(number) + 1, out.len() as u64, "{number}");
        }
    }
}
