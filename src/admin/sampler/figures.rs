//! Rounding of figures for display.

/// Rate per second, rounded to three decimal places.
#[allow(clippy::cast_precision_loss, reason = "for people")]
pub(super) fn per(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { rounded(count as f64 / seconds) } else { 0.0 }
}

/// Rounds to three decimal places.
pub(super) fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}
