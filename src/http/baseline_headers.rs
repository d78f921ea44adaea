//! Headers of every response with content: files, errors and pages of the admin listener.

/// The baseline headers as lines, each with its CRLF.
pub const BASELINE_LINES: &str = "x-content-type-options: nosniff\r\n";

/// Returns the baseline headers as names and values.
pub fn baseline_headers() -> impl Iterator<Item = (&'static str, &'static str)> {
    BASELINE_LINES.lines().filter_map(|line| line.split_once(": "))
}

/// Returns the header lines of a plain text of `length` bytes, the baseline and the empty line included.
pub fn text_lines(length: usize) -> String {
    format!("content-type: {TEXT}\r\n{BASELINE_LINES}content-length: {length}\r\n\r\n")
}

/// The media type of sentences and other plain text.
pub const TEXT: &str = "text/plain; charset=utf-8";
