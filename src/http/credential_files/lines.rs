//! Lines of a credential file.

/// Number and reason of an invalid line.
pub(crate) type LineError = (usize, String);

/// Reads an entry from each line except empty lines and comments, which begin with `#`. `parse` gets the line and the
/// entries before it. Collects every error.
pub(super) fn read<T>(
    text: &str,
    parse: impl Fn(&str, &[T]) -> Result<T, String>,
) -> Result<Vec<T>, Vec<LineError>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = (1..).zip(text.lines().map(str::trim));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let (mut entries, mut bad_lines) = (Vec::new(), Vec::new());
    for (count, (number, line)) in lines.enumerate() {
        if count == LINES_MAX {
            bad_lines.push((number, format!("there are more than {LINES_MAX} lines")));
            break;
        }
        match parse(line, &entries) {
            Ok(entry) => entries.push(entry),
            Err(reason) => bad_lines.push((number, reason)),
        }
    }
    if bad_lines.is_empty() { Ok(entries) } else { Err(bad_lines) }
}

/// Refuses a name that cannot be logged, or sent by a client: there a colon ends it.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the name is empty".to_owned());
    }
    if name.len() > NAME_MAX {
        return Err(format!("the name has more than {NAME_MAX} bytes"));
    }
    if name.contains(|c: char| c.is_control() || c.is_whitespace() || c == ':') {
        return Err("the name contains a space, a colon or a control character".to_owned());
    }
    Ok(())
}

/// Every token is compared with each presented one, so that timing reveals nothing: some 50 ns each.
const LINES_MAX: usize = 4096;

const NAME_MAX: usize = 255;
